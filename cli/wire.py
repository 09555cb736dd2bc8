"""Just enough HTTP/1.1 for a command: one connection, requests in turn, replies whole or in pieces.

The standard client costs 60 ms to import, this one 4 ms. It speaks to `_socket.socket` (the C class
below `socket.socket`) or to a TLS socket: both have sendall, recv and settimeout."""

from __future__ import annotations

import _json
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Protocol

    Query = Sequence[tuple[str, str]]

    class Stream(Protocol):
        def sendall(self, data: bytes, /) -> None: ...

        def recv(self, size: int, /) -> bytes: ...

        def settimeout(self, value: float | None, /) -> None: ...

        def close(self) -> None: ...

        def fileno(self) -> int: ...


_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
_PATH_SAFE = frozenset(_UNRESERVED + b"$&+,/:;=@")
_QUERY_SAFE = frozenset(_UNRESERVED)


class Closed(OSError):
    """The other side closed the connection in the middle of a reply (Go says EOF)."""


class BadReply(OSError):
    """What came back is not HTTP."""


class Connection:
    """One connection. `deadline` (monotonic seconds) bounds every wait; None waits for ever.

    `wakeup` is a descriptor that ends a wait when it can be read: a signal that arrives just before
    recv would not interrupt it. Python then runs the handler, which raises."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.deadline: float | None = None
        self.wakeup = -1
        self.reusable = True
        self._buffer = b""

    def close(self) -> None:
        self.stream.close()

    def send(self, head: bytes, body: bytes) -> None:
        self._arm()
        if len(body) < 65536:
            self.stream.sendall(head + body)
        else:
            self.stream.sendall(head)
            self.stream.sendall(body)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next final reply."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                if len(self._buffer) > 1 << 20:
                    raise BadReply("malformed HTTP response")
                self._more()
            raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            lines = raw.decode("latin-1").split("\r\n")
            version, _, rest = lines[0].partition(" ")
            code = rest[:3]
            if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
                raise BadReply(f'malformed HTTP response "{lines[0][:80]}"')
            status = int(code)
            if status >= 200:
                break
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if version == "HTTP/1.0" or headers.get("connection", "").lower() == "close":
            self.reusable = False
        return status, headers

    def read_body(self, headers: dict[str, str]) -> bytes:
        return b"".join(self.pieces(headers))

    def pieces(self, headers: dict[str, str]) -> Iterator[bytes]:
        """The body as it arrives: chunked, of known length, or until the connection closes."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit()):
                raise BadReply(f'bad Content-Length "{length}"')
            yield from self._exactly(int(length))
        else:
            self.reusable = False
            yield from self._until_closed()

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            size_text = line.partition(b";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise BadReply("malformed chunked encoding") from None
            if size == 0:
                while self._line():
                    pass
                return
            yield from self._exactly(size)
            self._line()

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._buffer:
                self._more()
            piece, self._buffer = self._buffer[:count], self._buffer[count:]
            count -= len(piece)
            yield piece

    def _until_closed(self) -> Iterator[bytes]:
        while True:
            if self._buffer:
                piece, self._buffer = self._buffer, b""
                yield piece
            try:
                self._more()
            except Closed:
                return

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _more(self) -> None:
        self._arm()
        if self.wakeup >= 0:
            self._wait_for_data_or_signal()
        data = self.stream.recv(262144)
        if not data:
            raise Closed("EOF")
        self._buffer += data

    def _wait_for_data_or_signal(self) -> None:
        import select

        pending = getattr(self.stream, "pending", None)  # what TLS has decrypted already
        if pending is not None and pending():
            return
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        select.select([self.stream.fileno(), self.wakeup], [], [], left)

    def _arm(self) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("i/o timeout")
            self.stream.settimeout(left)


def escape_path(path: str) -> str:
    """`path` for a request line, as Go's url.URL writes it: `/` stays, odd bytes are escaped."""
    return _escape(path, _PATH_SAFE)


def query_text(query: Query) -> str:
    """`?a=b&c`, or nothing. A parameter with an empty value is a bare name."""
    if not query:
        return ""
    pieces = [name if not value else f"{name}={_escape(value, _QUERY_SAFE)}" for name, value in query]
    return "?" + "&".join(pieces)


def _escape(text: str, safe: frozenset[int]) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return "".join([chr(byte) if byte in safe else f"%{byte:02X}" for byte in raw])


class _Context:
    """What the C scanner of the json module asks of its decoder: the defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def decode_json(data: bytes) -> Any:
    """A JSON document. ValueError when it is none.

    `json` itself costs 10 ms to import (it compiles patterns); its C scanner needs none of them."""
    text = data.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = _json.make_scanner(_Context())(text, start)  # type: ignore[arg-type]
    except StopIteration:
        raise ValueError("unexpected end of JSON input") from None
    if text[end:].strip(" \t\r\n"):
        raise ValueError("invalid character after top-level value")
    return value
