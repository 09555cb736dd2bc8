"""`ctl query send`: a Serf query, its acks and answers printed as they come, as `serf query` prints them."""

from __future__ import annotations

import sys

from cli.wire import decode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cli.call import Call


def send(call: Call) -> int:
    """Ask, print, and sum up. An interrupt ends the waiting, not the query."""
    from cli.kv import read_data

    name = call.argument(0)
    query = [("node", node) for node in call.many("node")] + [("tag", tag) for tag in call.many("tag")]
    if call.number("timeout"):
        query.append(("timeout", f"{call.number('timeout')}ns"))
    if call.yes("no-ack"):
        query.append(("no-ack", ""))
    if call.number("relay-factor"):
        query.append(("relay-factor", str(call.number("relay-factor"))))
    pieces = call.client.stream("/v1/internal/query/" + name, query, "POST", read_data(call.argument(1)))
    if call.out.structured:
        call.out.document(_summary(_documents(pieces)))
        return 0
    if not call.out.quiet:
        call.out.line(f"Query '{name}' dispatched")
    for answer in _documents(pieces):
        _print(call, answer)
        sys.stdout.flush()
    return 0


def _print(call: Call, answer: dict[str, Any]) -> None:
    kind = answer["Type"]
    if call.out.quiet:
        if kind == "response":
            call.out.line(answer["From"])
    elif kind == "ack":
        call.out.line(f"Ack from '{answer['From']}'")
    elif kind == "response":
        call.out.line(f"Response from '{answer['From']}': {_shown(_payload(answer))}")
    else:
        call.out.line(f"Total Acks: {answer['Acks']}\nTotal Responses: {answer['Responses']}")


def _summary(answers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Serf's document: who has received it, and who has said what."""
    acks, responses = [], {}
    for answer in answers:
        if answer["Type"] == "ack":
            acks.append(answer["From"])
        elif answer["Type"] == "response":
            responses[answer["From"]] = _payload(answer).decode("utf-8", "replace")
    return {"Acks": acks, "Responses": responses}


def _payload(answer: dict[str, Any]) -> bytes:
    import binascii

    return binascii.a2b_base64(answer["Payload"])


def _shown(payload: bytes) -> str:
    """Text without its last newline. Others sent it: nothing in it may speak to the terminal."""
    text = payload.decode("utf-8", "replace").removesuffix("\n")
    return "".join(
        [char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text]
    )


def _documents(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON documents on the lines of a body that comes in pieces."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            document: dict[str, Any] = decode_json(line)
            yield document
