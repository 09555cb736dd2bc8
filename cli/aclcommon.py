"""What the ACL commands share: how one is declared, how it fails, what names and files stand for."""

from __future__ import annotations

import sys

from cli.command import FORMATS, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

    from cli.call import Call
    from cli.client import Response
    from cli.command import Argument
    from cli.output import Table

    Json = dict[str, Any]

ANONYMOUS = "00000000-0000-0000-0000-000000000002"
MANAGEMENT = "00000000-0000-0000-0000-000000000001"
_UUID_LENGTH = 36
_CONSULS_FORMATS = ("pretty", "json")

META = Flag("meta", "bool", "Show the hash and Raft's indexes, too.")
_FORMAT = Flag(
    "format",
    "string",
    f"Output format: {', '.join(FORMATS)}; table on a terminal, else pretty.",
    short="o",
    complete="words:" + " ".join(FORMATS),
)

# What to do about a refusal, by a piece of its text.
_NEXT_STEPS = (
    (
        "bootstrap no longer allowed",
        "To start over, write the reset index into the file acl-bootstrap-reset in the leader's data_dir.",
    ),
    ("ACL support disabled", "Put acl { enabled = true } into the configuration of the agents."),
    ("ACL not found", "The token or what is looked for is gone: see `ctl acl token read -self`."),
    ("Permission denied", "Give a token with -token or CTL_HTTP_TOKEN; `ctl acl why` tells what one may do."),
)


def acl_command(
    path: str,
    summary: str,
    run: Callable[[Call], int | None],
    *,
    example: tuple[str, ...],
    flags: tuple[Flag, ...] = (),
    arguments: tuple[Argument, ...] = (),
    text: str = "",
    failure: str = "Error",
    extra: bool = False,
    output: bool = True,
) -> Command:
    """A command that checks -format in Consul's words and tells the next step after a refusal."""

    def guarded(call: Call) -> int | None:
        try:
            _check_format(call)
            return run(call)
        except Failure as error:
            error.hint = error.hint or next_step(str(error))
            raise

    return Command(
        path,
        summary,
        guarded,
        flags=(*flags, _FORMAT) if output else flags,
        arguments=arguments,
        example=example,
        text=text,
        failure=failure,
        server=True,
        output=output,
        extra=extra,
    )


def _check_format(call: Call) -> None:
    wanted = call.text("format")
    if wanted and wanted not in (_CONSULS_FORMATS if call.name == "consul" else FORMATS):
        raise Usage(f"Unknown format: {wanted}")


def next_step(text: str) -> str:
    """What a person may do about this refusal, in one line."""
    return next((step for piece, step in _NEXT_STEPS if piece in text), "")


class Saying:
    """`with Saying("Error reading x"):` puts these words before whatever fails inside."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Failure):
            text = f"{self.words}: {error}"
            raise Failure(text, kind=error.kind, hint=error.hint, code=error.code) from None


def quoted(text: str) -> str:
    """`text` as Go's %q writes it."""
    from core.codec.duration import quote

    return quote(text)


# requests


def encoded(document: Json) -> bytes:
    """A body. Arguments may hold bytes that are no text; those cannot be sent as JSON."""
    from cli.output import to_json_line

    try:
        return to_json_line(document).encode()
    except UnicodeEncodeError:
        raise Usage("Error: the arguments contain bytes that are not UTF-8") from None


def put(call: Call, path: str, document: Json) -> Json:
    """PUT `document` and give the decoded answer."""
    answer: Json = call.send(path, body=encoded(document)).json()
    return answer


def post(call: Call, path: str, document: Json) -> Response:
    """POST `document`; ServerError unless the answer is 200."""
    return call.client.request("POST", path, call.query(), encoded(document)).checked()


def remove(call: Call, path: str) -> None:
    """DELETE `path`; ServerError unless the answer is 200."""
    call.client.request("DELETE", path, call.query()).checked()


def read_or_none(call: Call, path: str) -> Json | None:
    """The object at `path`, None when there is no such object."""
    response = call.get(path)
    if response.status == 404:
        return None
    answer: Json = response.checked().json()
    return answer


# results


def show_one(call: Call, document: Json, text: str, identity: str) -> None:
    """One object, made, changed or read. Consul ends every text with a line end of its own."""
    if call.out.structured:
        call.out.document(_as_consul(document))
    else:
        call.out.line(identity if call.out.quiet else text)


def show_many(call: Call, documents: list[Json], text: str, table: Table, names: Iterable[str]) -> None:
    """A listing: a table on a terminal, else Consul's text; nothing where there is nothing."""
    if call.out.structured or call.out.quiet or call.out.format == "table":
        call.out.show([_as_consul(document, listed=True) for document in documents], table, names)
    elif text:
        call.out.line(text)


def _as_consul(document: Json, listed: bool = False) -> Json:
    """Fields as `consul acl` prints them, which decodes the answers and encodes them again."""
    if "SecretID" in document or "AccessorID" in document:
        first: Json = {name: document[name] for name in ("CreateIndex", "ModifyIndex") if name in document}
        return {**first, **document, **({"Legacy": document.get("Legacy", False)} if listed else {})}
    if "Rules" in document and "Datacenters" not in document:
        shown: Json = {}
        for name, value in document.items():
            shown[name] = value
            if name == "Rules":
                shown["Datacenters"] = None
        return shown
    return document


# names and ids


def token_id(call: Call, given: str) -> str:
    """The accessor that `given` means: `anonymous`, a whole id, or the beginning of just one."""
    return ANONYMOUS if given == "anonymous" else _whole_id(call, given, "token", "tokens", "AccessorID")


def policy_id(call: Call, given: str) -> str:
    """The id of a policy by itself or its beginning."""
    return MANAGEMENT if given == "global-management" else _whole_id(call, given, "policy", "policies")


def role_id(call: Call, given: str) -> str:
    """The id of a role by itself or its beginning."""
    return _whole_id(call, given, "role", "roles")


def rule_id(call: Call, given: str) -> str:
    """The id of a binding rule by itself or its beginning."""
    return _whole_id(call, given, "rule", "binding-rules")


def _whole_id(call: Call, given: str, noun: str, listing: str, field: str = "ID") -> str:
    if len(given) == _UUID_LENGTH:
        return given
    found = [entry[field] for entry in call.fetch(f"/v1/acl/{listing}") if entry[field].startswith(given)]
    if not found:
        raise Failure(f"No such {noun} ID with prefix: {given}", kind="missing")
    if len(found) > 1:
        raise Failure(
            f"Partial {noun} ID is not unique", hint=f"It begins {len(found)} ids: {', '.join(found[:3])}"
        )
    return str(found[0])


def id_by_name(call: Call, name: str, noun: str, listing: str) -> str:
    """The id of the policy or role that is called `name`."""
    for entry in call.fetch(f"/v1/acl/{listing}"):
        if entry["Name"] == name:
            return str(entry["ID"])
    raise Failure(f"No such {noun} with name {name}", kind="missing")


# what flags hold


def load_text(given: str, what: str) -> str:
    """The text that a flag means: `@file`, `-` for standard input, or itself."""
    if given == "-":
        raw = sys.stdin.buffer.read()
    elif given.startswith("@"):
        raw = read_file(given[1:], what)
    else:
        return given
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Failure(f"{what}: {given} is not UTF-8 text") from None


def read_file(path: str, what: str) -> bytes:
    """The bytes of a file. Failure in the words `what` when it cannot be read."""
    from cli.client import reading

    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"{what}: Failed to read file: {reading(path, error)}") from None


def policy_links(call: Call, names: Iterable[str], ids: Iterable[str]) -> list[Json]:
    """Links to policies: names are left to the servers, beginnings of ids are completed."""
    return [{"Name": name} for name in names] + [
        {"ID": _resolved(call, "policy", policy_id, given)} for given in ids
    ]


def role_links(call: Call, names: Iterable[str], ids: Iterable[str]) -> list[Json]:
    """Links to roles, as `policy_links`."""
    return [{"Name": name} for name in names] + [
        {"ID": _resolved(call, "role", role_id, given)} for given in ids
    ]


def _resolved(call: Call, noun: str, find: Callable[[Call, str], str], given: str) -> str:
    with Saying(f"Error resolving {noun} ID {given}"):
        return find(call, given)


def service_identities(texts: Iterable[str], flag: str = "service-identity") -> list[Json]:
    """`NAME` or `NAME:DC,DC` as the API has it."""
    found: list[Json] = []
    for text in texts:
        name, *rest = text.split(":")
        if len(rest) > 1 or not name:
            raise Usage(f"Malformed -{flag} argument: {quoted(text)}")
        found.append({"ServiceName": name, **({"Datacenters": rest[0].split(",")} if rest else {})})
    return found


def node_identities(texts: Iterable[str], flag: str = "node-identity") -> list[Json]:
    """`NODE:DC` as the API has it."""
    found: list[Json] = []
    for text in texts:
        name, colon, datacenter = text.partition(":")
        if not colon or not name or ":" in datacenter:
            raise Usage(f"Malformed -{flag} argument: {quoted(text)}", hint="It is NODE:DATACENTER.")
        found.append({"NodeName": name, "Datacenter": datacenter})
    return found


# merging what is given into what is there


def add_links(there: list[Json], more: Iterable[Json]) -> list[Json]:
    """Links with those added that are not there yet, by name or by id."""
    merged = list(there)
    for link in more:
        field = "Name" if "Name" in link else "ID"
        if all(known.get(field) != link[field] for known in merged):
            merged.append(link)
    return merged


def add_services(there: list[Json], more: Iterable[Json]) -> list[Json]:
    """Service identities; one of the same name takes the place of the old one."""
    merged = {identity["ServiceName"]: identity for identity in there}
    merged.update({identity["ServiceName"]: identity for identity in more})
    return list(merged.values())


def add_nodes(there: list[Json], more: Iterable[Json]) -> list[Json]:
    """Node identities, each once."""
    merged = list(there)
    for identity in more:
        same = [one for one in merged if all(one[field] == identity[field] for field in identity)]
        if not same:
            merged.append(identity)
    return merged


GRANTS = (
    Flag("policy-id", "list", "Policy by id or its beginning (repeat).", complete="acl-policy-ids"),
    Flag("policy-name", "list", "Policy by name (repeat).", complete="acl-policies"),
    Flag("service-identity", "list", "Rights of a service, NAME[:DC,DC] (repeat).", complete="services"),
    Flag("node-identity", "list", "Rights of a node's agent, NODE:DC (repeat).", complete="nodes"),
)
ROLES = (
    Flag("role-id", "list", "Role by id or its beginning (repeat).", complete="acl-role-ids"),
    Flag("role-name", "list", "Role by name (repeat).", complete="acl-roles"),
)
