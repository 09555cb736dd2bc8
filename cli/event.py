"""`ctl event`: fire user events, and list those that the agent has seen lately."""

from __future__ import annotations

from cli.command import Argument, Command, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call


def fire_as_consul(call: Call) -> int:
    """`event -name=NAME [PAYLOAD]`."""
    name = call.text("name")
    if not name:
        raise Usage("Event name must be specified")
    if len(call.arguments) > 1:
        raise Usage("Too many command line arguments.")
    return _fire(call, name, call.argument(0).encode("utf-8", "surrogateescape"))


def fire(call: Call) -> int:
    """`event fire NAME [PAYLOAD]`."""
    from cli.kv import read_data

    return _fire(call, call.argument(0), read_data(call.argument(1)))


def _fire(call: Call, name: str, payload: bytes) -> int:
    if call.text("tag") and not call.text("service"):
        raise Usage("Cannot provide tag filter without service filter.")
    query = [(flag, call.text(flag)) for flag in ("node", "service", "tag") if call.text(flag)]
    from cli.client import TransportError
    from cli.members import compiled

    for flag, pattern in query:
        compiled(pattern, f"Failed to compile {flag} filter regexp")
    try:
        answer = call.send("/v1/event/fire/" + name, *query, body=payload).json()
    except TransportError as error:
        raise error.within("Error firing event") from None
    if call.out.structured:
        call.out.document(answer)
    else:
        call.out.line(answer["ID"] if call.out.quiet else f"Event ID: {answer['ID']}")
    return 0


def list_(call: Call) -> int:
    """`event list`: oldest first. With --follow the new ones as they come, until an interrupt."""
    query = [("name", call.argument(0))] if call.argument(0) else []
    if call.yes("follow"):
        return _follow(call, query)
    events = call.fetch("/v1/event/list", *query) or []
    from cli.output import Table

    rows = [_row(event) for event in events]
    table = Table(("ID", "Name", "LTime", "Payload"), rows, keep=("ID", "Name"))
    call.out.show(events, table, [event["ID"] for event in events])
    return 0


def _follow(call: Call, query: list[tuple[str, str]]) -> int:
    """Poll; one line for every event that was not there before."""
    import sys

    from cli.output import to_json_line
    from core.watch.progress import News

    news = News()
    index = 0
    try:
        while True:
            after = [*query, ("index", str(index))] if index else query
            response = call.get("/v1/event/list", *after).checked()
            index = response.index
            for event in news.of(response.json() or []):
                line = to_json_line(event) if call.out.structured else "  ".join(_row(event))
                call.out.line(event["ID"] if call.out.quiet else line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0


def _row(event: dict[str, Any]) -> list[str]:
    return [event["ID"], event["Name"], str(event["LTime"]), payload_text(event)]


def payload_text(event: dict[str, Any]) -> str:
    """The payload on one line; base64 when it is no text."""
    import binascii

    raw = binascii.a2b_base64(event["Payload"] or "")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"base64:{event['Payload']}"
    return "".join([char if char.isprintable() else " " for char in text])


_FILTERS = (
    Flag("node", "string", "Only nodes whose name matches this regular expression."),
    Flag("service", "string", "Only nodes with a service that matches this regular expression."),
    Flag("tag", "string", "Only services with a tag that matches this one; needs -service."),
)
_PAYLOAD = Argument("PAYLOAD", "What to send along; @file is read, - is the standard input.", required=False)

COMMANDS = (
    Command(
        "event",
        "Fire a user event, in Consul's form",
        fire_as_consul,
        arguments=(_PAYLOAD,),
        flags=(Flag("name", "string", "Name of the event."), *_FILTERS),
        example=('ctl event -name=deploy "payload here"',),
        server=True,
        extra=True,
        hidden=True,
    ),
    Command(
        "event fire",
        "Tell every agent that something has happened",
        fire,
        arguments=(
            Argument("NAME", "Name of the event.", missing="Event name must be specified"),
            _PAYLOAD,
        ),
        flags=_FILTERS,
        text="Name and payload together may have 512 bytes. Events reach every agent that is alive, by\n"
        "gossip, and are not kept: `ctl watch event NAME --exec COMMAND` runs a command for each. Consul's\n"
        "form works too: `ctl event -name=NAME [PAYLOAD]`.",
        example=("ctl event fire deploy v42", "ctl event fire -service=web restart"),
        server=True,
    ),
    Command(
        "event list",
        "List the events that the agent has seen lately",
        list_,
        arguments=(Argument("NAME", "Only events of this name.", required=False),),
        flags=(Flag("follow", "bool", "Go on with new events until an interrupt."),),
        example=("ctl event list deploy", "ctl event list --follow -o json"),
        server=True,
        failure="Error listing events",
    ),
)
