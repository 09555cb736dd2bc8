"""`ctl changes`: what happens to keys, nodes, services and checks, in order, and from any index on."""

from __future__ import annotations

import sys
import time

from cli.command import Command, Failure, Flag
from cli.wire import decode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cli.call import Call

_PAUSE = 1.0  # seconds before a broken stream is taken up again
_KINDS = ("kv", "node", "service", "check")


def changes(call: Call) -> int:
    """Print every change. Without --follow: those that are known since --since, and end."""
    since = call.text("since")
    if not call.yes("follow"):
        if not since:
            raise Failure("Error: --since says from which index on; or follow with -f")
        for _ in _told(call, [("since", since), ("once", "")]):
            pass
        return 0
    try:
        while True:
            try:
                for index in _told(call, [("since", since)] if since else []):
                    since = str(index)
            except BrokenPipeError:
                raise
            except OSError as error:
                _note(f"the stream broke: {error}")
            except Failure as failure:
                if not since:
                    raise
                _note(str(failure))
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return 0


def _note(text: str) -> None:
    from cli.call import note

    note(f"Error: changes: {text}; next try in {_PAUSE:g}s")


def _told(call: Call, query: list[tuple[str, str]]) -> Iterator[int]:
    """Print what comes, and give the index after each command's changes."""
    query += [("kind", kind) for kind in call.many("kind")]
    query += [("prefix", call.text("prefix"))] if call.text("prefix") else []
    for kind, index, data in events(call.client.stream("/v1/ctl/changes", call.query(*query))):
        if kind == "change":
            for change in decode_json(data):
                _print(call, index, change)
        elif kind == "reset":
            _print(call, index, {"Kind": "reset", "Op": "reset"})
        elif kind == "error":
            raise Failure(decode_json(data)["Error"])
        sys.stdout.flush()
        if kind:
            yield index


def events(pieces: Iterator[bytes]) -> Iterator[tuple[str, int, bytes]]:
    """The server-sent events of a stream: type, id, data. A comment has no type."""
    rest = b""
    for piece in pieces:
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            kind, index = fields.get(b"event", b""), fields.get(b"id", b"0")
            yield kind.decode(), int(index), fields.get(b"data", b"")


def _print(call: Call, index: int, change: dict[str, Any]) -> None:
    if call.out.structured:
        from core.codec import gojson

        call.out.line(gojson.encode({"Index": index, **change}).decode())
        return
    from cli.terminal import clean

    call.out.line(clean(f"{index}  {change['Op']:<6} {change['Kind']:<8}{subject(change)}"))


def subject(change: dict[str, Any]) -> str:
    """What changed, in words."""
    kind, gone = change["Kind"], change["Op"] == "delete"
    if kind == "kv":
        return f"{change['Key']}" + ("" if gone else f" = {_value(change['Value'])}")
    if kind == "node":
        return f"{change['Node']}" + ("" if gone else f" {change['Address']}")
    if kind == "service":
        place = "" if gone else f" {change['Address']}:{change['Port']}"
        return f"{change['Service']} ({change['ID']}) on {change['Node']}{place}"
    if kind == "check":
        of = f" of {change['ServiceID']}" if change["ServiceID"] else ""
        return f"{change['CheckID']}{of} on {change['Node']}" + ("" if gone else f" {change['Status']}")
    return "what came before is not known any more: read the state anew"


def _value(text: str | None) -> str:
    import binascii

    value = binascii.a2b_base64(text or "").decode("utf-8", "replace")
    return value if len(value) <= 60 else value[:57] + "..."


COMMANDS = (
    Command(
        "changes",
        "Follow what happens to keys, nodes, services and checks",
        changes,
        flags=(
            Flag("follow", "bool", "Go on with what comes, until an interrupt.", short="f"),
            Flag("since", "string", "Begin after this index, as printed; else with what comes now."),
            Flag("kind", "list", f"Only changes of this kind: {', '.join(_KINDS)} (repeat)."),
            Flag("prefix", "string", "Only keys, nodes and services whose name begins so."),
        ),
        text="Changes come in the order of the log, each once; what one transaction changed comes together. "
        "Whoever was away goes on with --since. Servers know the last 8192 changes: when those asked for are "
        "not all there any more, a line says so, and the state must be read anew.",
        example=(
            "ctl changes -f",
            "ctl changes -f --kind kv --prefix config/",
            "ctl changes --since 1042 -o json",
        ),
        server=True,
    ),
)
