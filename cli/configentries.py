"""`ctl config`: config entries, and the configuration that the agent runs with."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

_INPUT = "Failed to decode config entry input: "


def read(call: Call) -> int:
    """`config read`: one entry as indented JSON."""
    kind, name = _kind(call), _name(call)
    from cli.client import TransportError

    try:
        entry = call.fetch(f"/v1/config/{kind}/{name}")
    except TransportError as error:
        raise error.within(f"Error reading config entry {kind}/{name}") from None
    if call.out.quiet:
        call.out.line(entry["Name"])
        return 0
    if call.out.format == "yaml":
        call.out.document(entry)
        return 0
    from cli.output import to_json

    call.out.line(to_json(entry))
    return 0


def listing(call: Call) -> int:
    """`config list`: the names of a kind's entries, one a line."""
    kind = _kind(call)
    from cli.client import TransportError

    try:
        entries = call.fetch(f"/v1/config/{kind}")
    except TransportError as error:
        raise error.within(f'Error listing config entries for kind "{kind}"') from None
    if call.out.structured:
        call.out.document(entries)
        return 0
    call.out.write("".join(entry["Name"] + "\n" for entry in entries))
    return 0


def write(call: Call) -> int:
    """`config write`: HCL or JSON from a file or stdin."""
    if len(call.arguments) != 1:
        raise Usage("Must provide exactly one positional argument to specify the config entry to write")
    entry = _parse(_load(call.argument(0)))
    label = f"{entry['Kind']}/{entry['Name']}"
    from cli.client import TransportError
    from cli.output import to_json_line

    query = [("cas", str(call.number("modify-index")))] if call.yes("cas") else []
    try:
        answer = call.send("/v1/config", *query, body=to_json_line(entry).encode("utf-8", "surrogateescape"))
    except TransportError as error:
        raise error.within(f"Error writing config entry {label}") from None
    if answer.body.strip() != b"true":
        raise Failure(f"Config entry not updated: {label}", kind="conflict")
    call.out.done(f"Config entry written: {label}", {"Kind": entry["Kind"], "Name": entry["Name"]})
    return 0


def delete(call: Call) -> int:
    """`config delete`: by kind and name, or what a file describes."""
    if call.text("filename"):
        if call.text("kind") or call.text("name"):
            raise Usage("filename can't be used with kind or name")
        entry = _parse(_load(call.text("filename")))
        kind, name = entry["Kind"], entry["Name"]
    else:
        kind, name = _kind(call), _name(call)
    index = call.number("modify-index")
    if call.yes("cas") and not index:
        raise Usage("Must specify a -modify-index greater than 0 with -cas")
    if index and not call.yes("cas"):
        raise Usage("Cannot specify -modify-index without -cas")
    from cli.client import TransportError

    query = call.query(("cas", str(index))) if index else call.query()
    try:
        answer = call.client.request("DELETE", f"/v1/config/{kind}/{name}", query).checked()
    except TransportError as error:
        raise error.within(f"Error deleting config entry {kind}/{name}") from None
    if answer.body.strip() == b"false":
        raise Failure(f"Config entry not deleted: {kind}/{name}", kind="conflict")
    call.out.done(f"Config entry deleted: {kind}/{name}", {"Kind": kind, "Name": name})
    return 0


def show(call: Call) -> int:
    """`config show`: what the agent runs with, defaults included; secrets are hidden by the agent."""
    settings: dict[str, Any] = call.fetch("/v1/agent/self")["DebugConfig"]
    wanted = call.argument(0)
    if wanted:
        settings = {name: value for name, value in settings.items() if wanted.lower() in name.lower()}
        if not settings:
            raise Failure(f'Error: no setting has "{wanted}" in its name', kind="missing")
    if call.out.structured:
        call.out.document(settings)
    elif call.out.quiet:
        call.out.write("".join(name + "\n" for name in settings))
    else:
        from cli.output import to_json_line

        call.out.write("".join(f"{name} = {to_json_line(value)}\n" for name, value in settings.items()))
    return 0


def _kind(call: Call) -> str:
    if not call.text("kind"):
        raise Usage("Must specify the -kind parameter")
    return call.text("kind")


def _name(call: Call) -> str:
    if not call.text("name"):
        raise Usage("Must specify the -name parameter")
    return call.text("name")


def _load(path: str) -> str:
    """The text of a file, of stdin for `-`."""
    import sys

    from cli.client import error_text

    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        text = f"Failed to load data: Failed to read file: open {path}: {error_text(error)}"
        raise Failure(text, kind="missing") from None
    return data.decode("utf-8", "surrogateescape")


def _parse(text: str) -> dict[str, Any]:
    """The entry in the form of the API. Failure has Consul's texts."""
    from core.api.config_entry_kinds import read_entry, show_entry
    from core.codec import gojson, hcl
    from core.errors import BadRequest

    try:
        if text.lstrip()[:1] == "{":
            body = gojson.decode(text.encode("utf-8", "surrogateescape"))
        else:
            body = _without_blocks(hcl.parse(text))
    except ValueError as error:
        raise Failure(f"{_INPUT}{error}") from None
    try:
        return show_entry(read_entry(body))
    except BadRequest as error:
        raise Failure(f"{_INPUT}{error}") from None


def _without_blocks(value: Any) -> Any:
    """HCL gives every block as a list of maps; one that is not repeated is the map."""
    if isinstance(value, dict):
        return {name: _without_blocks(item) for name, item in value.items()}
    if isinstance(value, list):
        items = [_without_blocks(item) for item in value]
        return items[0] if len(items) == 1 and isinstance(items[0], dict) else items
    return value


_KIND = Flag("kind", "string", "Kind of the entry: service-defaults, proxy-defaults, ...")
_NAME = Flag("name", "string", "Name of the entry.", complete="services")
_CAS = Flag("cas", "bool", "Only if its ModifyIndex is still that of -modify-index.")
_INDEX = Flag("modify-index", "uint", "The ModifyIndex to compare with.")

COMMANDS = (
    Command(
        "config read",
        "Show a config entry",
        read,
        flags=(_KIND, _NAME),
        example=("ctl config read -kind=service-defaults -name=web",),
        server=True,
    ),
    Command(
        "config write",
        "Write a config entry from a file",
        write,
        arguments=(
            Argument("FILE", "HCL or JSON; `-` reads stdin.", required=False, many=True, complete="files"),
        ),
        flags=(_CAS, _INDEX),
        text="ctl has no service mesh: entries are checked, kept, replicated and given back, no more.",
        example=("ctl config write web.hcl", "ctl config write -cas -modify-index=162 -"),
        server=True,
    ),
    Command(
        "config list",
        "List the config entries of a kind",
        listing,
        flags=(_KIND,),
        example=("ctl config list -kind=service-defaults",),
        server=True,
    ),
    Command(
        "config delete",
        "Delete a config entry",
        delete,
        flags=(
            _KIND,
            _NAME,
            Flag("filename", "string", "The entry that this file describes.", complete="files"),
            _CAS,
            _INDEX,
        ),
        example=("ctl config delete -kind=service-defaults -name=web",),
        server=True,
    ),
    Command(
        "config show",
        "Show what the agent runs with, defaults included",
        show,
        arguments=(Argument("WORD", "Only settings with this in their name.", required=False),),
        example=("ctl config show", "ctl config show acl"),
        failure="Error querying agent",
    ),
)
