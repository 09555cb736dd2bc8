"""What is asked of both agents: steps, and scenarios of them. Nothing here does anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = re.compile(rb"\$\{(\w+)\}")


@dataclass(frozen=True)
class Step:
    """One request. `${name}` in target, headers and body stands for what an earlier step saved, on each side
    its own: `saves` names the ID in the JSON body or, for `index:NAME`, the X-Consul-Index of the answer.
    `raw`: these bytes are sent instead of a request made of the other fields."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    saves: str = ""
    raw: bytes = b""

    def packed(self, host: str, known: Mapping[str, str]) -> bytes:
        """The bytes to send, on a connection that ends with the answer."""
        body = _filled(self.body, known)
        if self.raw:
            return _filled(self.raw, known)
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}:8500", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if body or self.method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        return _filled(head, known) + body

    def __str__(self) -> str:
        if self.raw:
            return f"raw {self.raw[:200]!r}"
        words = [self.method, self.target, *(f"[{name}: {value}]" for name, value in self.headers)]
        if self.body:
            shown = self.body.decode("utf-8", "backslashreplace")
            words.append(shown if len(shown) <= 300 else f"{shown[:100]}... ({len(self.body)} bytes)")
        return " ".join(words)


@dataclass(frozen=True)
class Scenario:
    """Steps in order on a clean slate. `chained`: once a write has gone apart the rest tells nothing."""

    name: str
    steps: Sequence[Step] = field(default_factory=tuple)
    chained: bool = False


def _filled(data: bytes, known: Mapping[str, str]) -> bytes:
    return _VARIABLE.sub(lambda match: known.get(match[1].decode(), "none").encode(), data)


def get(target: str, **more: Any) -> Step:
    return Step("GET", target, **more)


def put(target: str, body: Any = b"", **more: Any) -> Step:
    """PUT of bytes or text as they are, of anything else as JSON."""
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogateescape")
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return Step("PUT", target, body, **more)


def delete(target: str) -> Step:
    return Step("DELETE", target)
