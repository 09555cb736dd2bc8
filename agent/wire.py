"""Replies as HTTP/1.1 bytes: status line, Consul's headers, Date, gzip and pretty printing."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from core.api.endpoint import JSON, Reply

GZIP_FROM = 1400  # bytes; Consul compresses bodies from about this size

_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
_STATUS = {code: f"HTTP/1.1 {code} {reason}\r\n".encode() for code, reason in _REASONS.items()}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def date_line(second: int) -> bytes:
    """`Date: ...` of a Unix second (RFC 9110, 5.6.7), the same in every locale."""
    t = time.gmtime(second)
    return (
        f"Date: {_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT\r\n"
    ).encode()


def status_line(code: int) -> bytes:
    return _STATUS.get(code) or f"HTTP/1.1 {code} Status\r\n".encode()


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header names gzip (`gzip;q=0` refuses it, as does a weight that is none)."""
    for part in header.lower().split(","):
        name, semicolon, weight = part.strip().partition(";")
        if name.strip() == "gzip":
            return not semicolon or _weight(weight) > 0
    return False


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


class Wire:
    """Makes the bytes of a reply. One per agent: it knows the headers that every answer carries."""

    def __init__(self, default_policy: str, extra: Mapping[str, str], always_pretty: bool) -> None:
        lines = ["Vary: Accept-Encoding", f"X-Consul-Default-Acl-Policy: {default_policy}"]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        self._common = "".join(line + "\r\n" for line in lines).encode("utf-8", "replace")
        self.always_pretty = always_pretty
        self._fixed: dict[int, tuple[bytes, bytes]] = {}

    def halves(
        self, reply: Reply, *, pretty: bool = False, gzip: bool = False, head: bool = False
    ) -> tuple[bytes, bytes]:
        """The answer without its Date line: what comes before it, and headers and body after it."""
        body = reply.body
        first = status_line(reply.status) + (b"" if reply.bare else self._common)
        lines = [f"{name}: {value}\r\n" for name, value in reply.headers.items()]
        if reply.index:
            lines.append(f"X-Consul-Index: {reply.index}\r\n")
        if body is None:
            lines.append("Content-Length: 0\r\n\r\n")
            return first, "".join(lines).encode("utf-8", "replace")
        if reply.content_type == JSON and (pretty or self.always_pretty):
            body = msgspec.json.format(body, indent=4) + b"\n"
        if gzip and len(body) >= GZIP_FROM:
            import zlib

            packer = zlib.compressobj(6, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            lines.append("Content-Encoding: gzip\r\n")
        lines.append(f"Content-Type: {reply.content_type}\r\nContent-Length: {len(body)}\r\n\r\n")
        rest = "".join(lines).encode("utf-8", "replace")
        return first, rest if head else rest + body

    def fixed(self, reply: Reply) -> tuple[bytes, bytes]:
        """The halves of a reply that is one object for the life of the program (`Reply.fixed`), made once."""
        found = self._fixed.get(id(reply))
        if found is None:
            found = self._fixed[id(reply)] = self.halves(reply)
        return found

    def pack(self, reply: Reply, date: bytes, *, pretty: bool, gzip: bool, head: bool, close: bool) -> bytes:
        """The whole answer."""
        before, after = self.halves(reply, pretty=pretty, gzip=gzip, head=head)
        if close:
            return before + date + b"Connection: close\r\n" + after
        return before + date + after

    def stream_head(self, reply: Reply, date: bytes) -> bytes:
        """The head of an answer without end: chunked, closed with the connection."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()).encode(
            "latin-1", "replace"
        )
        kind = f"Content-Type: {reply.content_type}\r\n".encode()
        return (
            status_line(reply.status)
            + self._common
            + date
            + lines
            + kind
            + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
