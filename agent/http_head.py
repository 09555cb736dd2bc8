"""The head of an HTTP request, as Go's server takes it: odd ways to write one, and what is refused."""

from __future__ import annotations

import re

import httptools

from agent.wire import accepts_gzip

_OFFER = re.compile(rb"\r\n(upgrade):", re.IGNORECASE)
_SPECIAL = frozenset(("transfer-encoding", "expect", "upgrade", "trailer", "te"))
_BARE_LF = re.compile(rb"(?<!\r)\n")
_END = re.compile(rb"\r?\n\r?\n")
_NOT_IN_HOST = re.compile(rb"[^a-zA-Z0-9!$%&'()*+,\-.:;=\[\]_~]")
_WHY = {
    "Invalid header token": "invalid header name",
    "Invalid header value char": "invalid header value",
}


class Head:
    """A header block. Clients send the same one with every request, so it is worth keeping."""

    __slots__ = ("fields", "gzip", "headers", "length", "namespace", "token")

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.fields = fields
        headers: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        self.headers = headers
        self.gzip = accepts_gzip(headers.get("accept-encoding", ""))
        self.token = _token(headers)
        self.namespace = headers.get("x-consul-namespace", "")
        self.length = 0  # bytes of body that came with it

    def repeatable(self) -> bool:
        """Whether the same bytes in front of the same length of body always mean the same."""
        headers = self.headers
        return (
            not (_SPECIAL & headers.keys())
            and headers.get("connection", "keep-alive").lower() == "keep-alive"
        )


def _token(headers: dict[str, str]) -> str:
    """The caller's token: X-Consul-Token, else Authorization: Bearer."""
    token = headers.get("x-consul-token", "")
    if token:
        return token
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def with_crlf(data: bytes, begun: bool = False) -> bytes:
    """What begins a request (or, `begun`, goes on with its head) with the lines of the head ended by CRLF: a
    bare LF is taken as well (RFC 9112, 2.2), by Go's server too."""
    first = _BARE_LF.search(data)
    if first is None:
        return data
    end = _END.search(data)
    if end is None and begun and data[:1] == b"\n":
        length = 1  # the blank line after a line that came before
    else:
        length = len(data) if end is None else end.end()
    return data if first.start() >= length else _BARE_LF.sub(b"\r\n", data[:length]) + data[length:]


def without_oddities(data: bytes) -> bytes:
    """What begins a request, as the parser takes it. Bytes of its target that are no ASCII become %XX: Go's
    server takes them, and many clients send names as they are. An offer of another protocol (h2c, as Java's
    client makes it) loses its name: one may pass it over (RFC 9110, 7.8), but the parser would stop."""
    data = with_crlf(data)
    line, end, rest = data.partition(b"\r\n")
    if not line.isascii():
        data = b"".join(b"%c" % byte if byte < 0x80 else b"%%%02X" % byte for byte in line) + end + rest
    head = data.find(b"\r\n\r\n")
    offer = _OFFER.search(data, 0, max(head, 0))
    return data if offer is None else data[: offer.start(1)] + b"x-offer" + data[offer.end(1) :]


def host_problem(fields: list[tuple[bytes, bytes]], version: str) -> str | None:
    """Why a request is refused for its Host headers, in the words of Go's server; None if it is not."""
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1:
        return "400 Bad Request"
    if not hosts:
        return "400 Bad Request: missing required Host header" if version == "1.1" else None
    return "400 Bad Request: malformed Host header" if _NOT_IN_HOST.search(hosts[0]) else None


def refused(error: httptools.HttpParserError) -> tuple[int, str]:
    """Status and text for what cannot be parsed: Go's where it has one, else the parser's reason."""
    text = str(error)
    return 400, f"400 Bad Request: {_WHY.get(text, text)}"
