"""Answers without what must differ between two agents: addresses, ids, times, and where the log began."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

UNTOLD = frozenset(("date", "content-length", "transfer-encoding", "connection"))
_INDEXES = frozenset(("CreateIndex", "ModifyIndex", "Index", "RaftIndex"))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_HASH = re.compile(r'(?<="ContentHash":")[0-9a-f]{16}')


class Answer(NamedTuple):
    """What came back: a status (0: no answer at all), headers in order, the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Frame(NamedTuple):
    """What is an agent's own: its address, the index of its log when the scenario began, and by its names
    what was saved from its answers."""

    address: str
    base: int
    known: Mapping[str, str]


class Plain(NamedTuple):
    """An answer that can be compared. Headers sorted, names in lower case; a body of JSON as its text."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


def plain(answer: Answer, frame: Frame) -> Plain:
    """The answer without what is the agent's own."""
    headers = sorted(
        (name.lower(), _header(name.lower(), value, frame))
        for name, value in answer.headers
        if name.lower() not in UNTOLD
    )
    return Plain(answer.status, tuple(headers), _body(answer.body, frame))


def relative(index: int, base: int) -> str | int:
    """An index by its distance from where the scenario began; older ones all count the same."""
    if index > base:
        return f"+{index - base}"
    return "old" if index > 1 else index


def _header(name: str, value: str, frame: Frame) -> str:
    if name == "x-consul-index" and value.isdigit():
        return str(relative(int(value), frame.base))
    if name == "x-consul-contenthash":
        return "<hash>"
    return _text(value, frame)


def _body(body: bytes, frame: Frame) -> str:
    text = body.decode("utf-8", "backslashreplace")
    try:
        value = json.loads(text)
    except ValueError:
        return _text(text, frame)
    if not isinstance(value, dict | list):
        return _text(text, frame)
    shown = json.dumps(_value(value, frame), ensure_ascii=False, separators=(",", ":"))
    # Where the layout is odd it counts too.
    layout = "indented" if text.startswith(("[\n", "{\n")) else "plain" if ": " not in text else "spaced"
    return _text(shown, frame) + ("" if layout == "plain" or ": " in shown else f" ({layout})")


def _value(value: Any, frame: Frame) -> Any:
    if isinstance(value, dict):
        return {key: _member(key, item, frame) for key, item in value.items()}
    if isinstance(value, list):
        items = [_value(item, frame) for item in value]
        if items and all(isinstance(item, dict) and _is_random(item.get("ID")) for item in items):
            items.sort(key=lambda item: _text(json.dumps(item), frame))  # the order of ids that chance made
        return items
    return value


def _member(key: str, item: Any, frame: Frame) -> Any:
    if key in _INDEXES and isinstance(item, int) and not isinstance(item, bool):
        return relative(item, frame.base)
    return _value(item, frame)


def _is_random(value: Any) -> bool:
    return isinstance(value, str) and bool(_UUID.fullmatch(value))


def _text(text: str, frame: Frame) -> str:
    for name, value in frame.known.items():
        if len(value) == 36:
            text = text.replace(value, f"<{name}>")
    text = text.replace(frame.address, "<addr>")
    return _HASH.sub("<hash>", _TIME.sub("<time>", _UUID.sub("<uuid>", text)))
