"""A yamux session: many streams on one connection (protocols/rpc.md section 2).

A machine: bytes in, events and bytes out.

    for stream, kind, data in session.receive(data, now): ...    DATA, FINISHED or RESET
    session.send(stream, data); session.consumed(stream, size)
    transport.write(session.drain())

`drain` gives what is to be written, once at the end of a turn: a greeting rides on the first data of its
stream. What the other side does wrong ends the session: `closed` tells why, `drain` has the farewell.

The window of a stream opens again by what was `consumed`, so the reader decides how much it holds."""

from __future__ import annotations

from collections import deque
from struct import Struct as Layout
from typing import Any

from msgspec import Struct

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)

INITIAL_WINDOW = 256 << 10

# Kinds of events: (stream, DATA, bytes), (stream, FINISHED, b""), (stream, RESET, b"").
FINISHED, RESET = FIN, RST

_LAYOUT = Layout(">BBHII")
_SIZE = _LAYOUT.size
_unpack = _LAYOUT.unpack_from
_pack = _LAYOUT.pack
_MAX_ID = (1 << 32) - 1


class Settings(Struct, frozen=True):
    """`streams`: how many the other side may have open; seconds between pings, and for an answer."""

    streams: int = 16384
    keep_alive: float = 30.0
    ping_timeout: float = 10.0


class Stream:
    """One stream. `owner` is whatever the user of the session keeps with it."""

    __slots__ = (
        "_ack_owed",
        "_consumed",
        "_finish_asked",
        "_finished",
        "_finished_by_peer",
        "_pending",
        "_receive_window",
        "_send_window",
        "_syn_owed",
        "id",
        "owner",
    )

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.owner: Any = None
        self._send_window = INITIAL_WINDOW
        self._receive_window = INITIAL_WINDOW
        self._consumed = 0
        self._pending: deque[memoryview] = deque()  # what the window does not let out yet
        self._finish_asked = False
        self._finished = False  # by this side
        self._finished_by_peer = False
        self._syn_owed = False
        self._ack_owed = False

    def __repr__(self) -> str:
        return f"Stream({self.id})"

    @property
    def waiting(self) -> int:
        """How many bytes wait for the other side to read."""
        return sum(map(len, self._pending))


Event = tuple[Stream, int, bytes]


class _Violation(Exception):
    """The other side did what the protocol does not allow."""


class Session:
    """One side of a connection; `client` is the one that connected."""

    def __init__(self, client: bool, now: float, settings: Settings = Settings()) -> None:  # noqa: B008
        self.closed = ""  # why the session is over
        self.leaving = False  # the other side opens and takes no more streams
        self._settings = settings
        self._streams: dict[int, Stream] = {}
        self._next_id = 1 if client else 2
        self._their_parity = 0 if client else 1
        self._out: list[bytes] = []
        self._ack_owed: list[Stream] = []
        self._rest = bytearray()  # the beginning of a frame
        self._needed = _SIZE  # bytes that are needed to go on with it
        self._skip = 0  # bytes of a body that nobody wants
        self._ping_id = 0
        self._ping_at = now + settings.keep_alive
        self._answer_by: float | None = None

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    # what this side does

    def open(self) -> Stream:
        """A new stream; the other side hears of it with the first data. ValueError when there is no
        number left or the other side takes none."""
        if self.closed or self.leaving or self._next_id > _MAX_ID:
            raise ValueError(self.closed or "no more streams on this connection")
        stream = self._streams[self._next_id] = Stream(self._next_id)
        stream._syn_owed = True
        self._next_id += 2
        return stream

    def send(self, stream: Stream, data: bytes) -> None:
        """Send `data`, as much of it as the window lets out now, the rest later."""
        if self.closed or stream._finish_asked or self._streams.get(stream.id) is not stream:
            return
        if stream._pending or len(data) > stream._send_window:
            stream._pending.append(memoryview(data))
            self._let_out(stream)
            return
        self._emit(stream, data)

    def finish(self, stream: Stream) -> None:
        """No more data from this side; what was sent before still goes out."""
        if not stream._finish_asked and self._streams.get(stream.id) is stream:
            stream._finish_asked = True
            if not stream._pending:
                self._emit_finish(stream)

    def reset(self, stream: Stream) -> None:
        """End the stream at once, in both directions."""
        if self._streams.get(stream.id) is stream:
            if stream._syn_owed:
                del self._streams[stream.id]  # nobody knows of it
            else:
                self._frame(WINDOW_UPDATE, RST, stream.id, 0)
                self._forget(stream)

    def consumed(self, stream: Stream, size: int) -> None:
        """`size` bytes of the data of this stream need no more room."""
        stream._consumed += size
        if stream._consumed * 2 >= INITIAL_WINDOW and self._streams.get(stream.id) is stream:
            if not stream._finished_by_peer:
                self._frame(WINDOW_UPDATE, self._greeting(stream), stream.id, stream._consumed)
            stream._receive_window += stream._consumed
            stream._consumed = 0

    def go_away(self) -> None:
        """Tell the other side to open no more streams."""
        if not self.closed:
            self._frame(GO_AWAY, 0, 0, NORMAL)

    def drain(self) -> bytes:
        """What is to be written; empty when there is nothing."""
        if self._ack_owed:
            for stream in self._ack_owed:
                if stream._ack_owed:
                    self._frame(WINDOW_UPDATE, self._greeting(stream), stream.id, 0)
            self._ack_owed.clear()
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    # time

    def deadline(self) -> float | None:
        """When to `tick`."""
        if self.closed:
            return None
        return self._ping_at if self._answer_by is None else self._answer_by

    def tick(self, now: float) -> None:
        """Ping the other side when it is time to; the session is over when it does not answer."""
        if self.closed:
            return
        if self._answer_by is not None:
            if now >= self._answer_by:
                self._end("keepalive timeout")
        elif now >= self._ping_at:
            self._frame(PING, SYN, 0, self._ping_id)
            self._answer_by = now + self._settings.ping_timeout

    # what the other side does

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the connection; what they mean for the streams."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        events: list[Event] = []
        position = 0
        if self._skip:
            position = min(self._skip, len(data))
            self._skip -= position
        try:
            while len(data) - position >= _SIZE and not self.closed:
                version, kind, flags, stream_id, length = _unpack(data, position)
                if version != 0:
                    raise _Violation(f"version {version}")
                if kind == DATA:
                    end = self._data(data, position, flags, stream_id, length, events)
                    if end < 0:
                        self._needed = _SIZE + length
                        break
                    position = end
                    continue
                self._control(kind, flags, stream_id, length, events, now)
                position += _SIZE
                self._needed = _SIZE
        except _Violation as error:
            self._end(f"protocol error: {error}", PROTOCOL_ERROR)
        if position < len(data) and not self.closed:
            if len(data) - position < _SIZE:
                self._needed = _SIZE
            self._rest += data[position:] if position else data
        return events

    def _data(
        self, data: bytes, position: int, flags: int, stream_id: int, length: int, events: list[Event]
    ) -> int:
        """A data frame; where the next one begins, -1 when its body is not all there."""
        stream = self._streams.get(stream_id)
        start = position + _SIZE
        if length > (INITIAL_WINDOW if stream is None else stream._receive_window) and (
            stream is not None or flags & SYN
        ):
            raise _Violation("receive window exceeded")
        end = start + length
        if (stream is not None or flags & SYN) and end > len(data):
            return -1
        if flags & SYN:
            stream = self._opened(stream_id)
        if stream is None:
            self._skip = max(0, end - len(data))
            return min(end, len(data))
        if length:
            if stream._finished_by_peer:
                raise _Violation("data after the end of a stream")
            stream._receive_window -= length
            events.append((stream, DATA, data[start:end]))
        if flags & (FIN | RST):
            self._ended(stream, flags, events)
        return end

    def _control(
        self, kind: int, flags: int, stream_id: int, length: int, events: list[Event], now: float
    ) -> None:
        if kind == WINDOW_UPDATE:
            stream = self._opened(stream_id) if flags & SYN else self._streams.get(stream_id)
            if stream is None:
                return
            stream._send_window += length
            if stream._pending:
                self._let_out(stream)
            if flags & (FIN | RST):
                self._ended(stream, flags, events)
        elif kind == PING:
            if flags & SYN:
                self._frame(PING, ACK, 0, length)
            elif self._answer_by is not None and length == self._ping_id:
                self._answer_by = None
                self._ping_id = (self._ping_id + 1) & _MAX_ID
                self._ping_at = now + self._settings.keep_alive
        elif kind == GO_AWAY:
            if length == NORMAL:
                self.leaving = True
            else:
                self._end(f"the other side ended the session, code {length}")
        else:
            raise _Violation(f"type {kind}")

    def _opened(self, stream_id: int) -> Stream | None:
        """The other side opens a stream; None when there are too many."""
        if stream_id in self._streams or stream_id == 0 or stream_id % 2 != self._their_parity:
            raise _Violation(f"stream {stream_id} cannot be opened")
        if len(self._streams) >= self._settings.streams:
            self._frame(WINDOW_UPDATE, RST, stream_id, 0)
            return None
        stream = self._streams[stream_id] = Stream(stream_id)
        stream._ack_owed = True
        self._ack_owed.append(stream)
        return stream

    def _ended(self, stream: Stream, flags: int, events: list[Event]) -> None:
        if flags & RST:
            self._forget(stream)
            events.append((stream, RESET, b""))
            return
        if stream._finished_by_peer:
            raise _Violation("a stream ended twice")
        stream._finished_by_peer = True
        events.append((stream, FINISHED, b""))
        if stream._finished:
            self._forget(stream)

    # frames

    def _emit(self, stream: Stream, data: bytes | memoryview) -> None:
        stream._send_window -= len(data)
        flags = self._greeting(stream) if stream._syn_owed or stream._ack_owed else 0
        self._out.append(_pack(0, DATA, flags, stream.id, len(data)) + data)

    def _let_out(self, stream: Stream) -> None:
        """Send of what is pending as much as the window has room for."""
        pending = stream._pending
        while pending and stream._send_window:
            piece, room = pending[0], stream._send_window
            if len(piece) > room:
                self._emit(stream, piece[:room])
                pending[0] = piece[room:]
            else:
                self._emit(stream, pending.popleft())
        if stream._finish_asked and not pending:
            self._emit_finish(stream)

    def _emit_finish(self, stream: Stream) -> None:
        stream._finished = True
        self._frame(WINDOW_UPDATE, FIN | self._greeting(stream), stream.id, 0)
        if stream._finished_by_peer:
            self._forget(stream)

    def _greeting(self, stream: Stream) -> int:
        """SYN or ACK, once, on the first frame of a stream."""
        if stream._syn_owed:
            stream._syn_owed = False
            return SYN
        if stream._ack_owed:
            stream._ack_owed = False
            return ACK
        return 0

    def _forget(self, stream: Stream) -> None:
        stream._ack_owed = False
        stream._finish_asked = True
        stream._pending.clear()
        self._streams.pop(stream.id, None)

    def _frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._out.append(_pack(0, kind, flags, stream_id, length))

    def _end(self, why: str, code: int | None = None) -> None:
        self.closed = why
        if code is not None:
            self._frame(GO_AWAY, 0, 0, code)
        for stream in self._streams.values():
            stream._pending.clear()
        self._streams.clear()
        self._ack_owed.clear()
