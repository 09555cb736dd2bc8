"""DNS over TCP (RFC 7766): length-prefixed messages, any number per connection, answered as they come.

A client has a few seconds for each question and for taking each answer, whatever it dribbles meanwhile;
connections are limited in all and per address, so that idle ones cannot use up file descriptors."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Protocol, cast

from agent.dns_udp import Send

_IDLE = 10.0  # seconds without a whole question or without taking an answer
_CONNECTIONS = 1024
_PER_ADDRESS = 128
_SLICE = 16  # questions answered before others have their turn
_OPEN = 100  # questions of one connection that wait for recursors


class Answers(Protocol):
    """What a connection asks of the server. `respond` calls `send` at once, later, or (with an empty
    message) when there will be no answer."""

    def respond(self, data: bytes, udp: bool, send: Send, client: str) -> None: ...


class Connections:
    """The connections of all TCP listeners; `accept` is the protocol factory."""

    def __init__(self, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self.answers = answers
        self.loop = loop
        self._open: set[Connection] = set()
        self._hosts: Counter[str] = Counter()

    def accept(self) -> Connection:
        return Connection(self)

    def enter(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        if len(self._open) >= _CONNECTIONS or self._hosts[connection.host] >= _PER_ADDRESS:
            return False
        self._open.add(connection)
        self._hosts[connection.host] += 1
        return True

    def leave(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._hosts[connection.host] -= 1
            if not self._hosts[connection.host]:
                del self._hosts[connection.host]

    def close(self) -> None:
        for connection in list(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, connections: Connections) -> None:
        self.host = ""
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting = 0  # questions without an answer yet
        self._blocked = False  # the client does not take answers
        self._ended = False  # the client asks no more
        self._more: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # (uvloop's are none by inheritance)
        peer: Any = transport.get_extra_info("peername")
        self.host = peer[0] if peer else ""
        if not self._all.enter(self):
            self.abort()
            return
        self._touch()
        self._timer = self._all.loop.call_at(self._deadline, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._all.leave(self)
        for handle in (self._timer, self._more):
            if handle is not None:
                handle.cancel()
        self._timer = self._more = None
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._more is None:
            self._work()

    def eof_received(self) -> bool:
        self._ended = True
        self._finish()
        return self._transport is not None and not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._blocked = True
        self._touch()

    def resume_writing(self) -> None:
        self._blocked = False
        self._touch()
        self._work()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _touch(self) -> None:
        self._deadline = self._all.loop.time() + _IDLE

    def _check(self) -> None:
        """The timer, which is set again rather than moved with each question."""
        if self._waiting and not self._blocked:
            self._touch()
        if self._all.loop.time() >= self._deadline:
            self.abort()
        else:
            self._timer = self._all.loop.call_at(self._deadline, self._check)

    def _work(self) -> None:
        """Answer what has come in whole, some at a time; stop reading while that is not all."""
        self._more = None
        for _ in range(_SLICE):
            if self._transport is None or self._blocked or self._waiting >= _OPEN:
                break
            message = self._next()
            if message is None:
                break
            self._touch()
            self._waiting += 1
            self._all.answers.respond(message, False, self._send, self.host)
        if self._transport is None or self._transport.is_closing():
            return
        if not self._has_whole():
            self._transport.resume_reading()
            self._finish()
            return
        self._transport.pause_reading()
        if not self._blocked and self._waiting < _OPEN:
            self._more = self._all.loop.call_soon(self._work)

    def _has_whole(self) -> bool:
        buffer = self._buffer
        return len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big")

    def _next(self) -> bytes | None:
        if not self._has_whole():
            return None
        end = 2 + int.from_bytes(self._buffer[:2], "big")
        message = bytes(self._buffer[2:end])
        del self._buffer[:end]
        return message

    def _send(self, message: bytes) -> None:
        self._waiting -= 1
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if message:
            transport.write(len(message).to_bytes(2, "big") + message)
        elif not self._waiting:  # nothing to answer: not a DNS client (RFC 7766 8)
            transport.close()
            return
        if self._waiting == _OPEN - 1 and self._more is None:
            self._more = self._all.loop.call_soon(self._work)
        self._finish()

    def _finish(self) -> None:
        """Close when the client has ended its side and has all its answers."""
        if self._ended and not self._waiting and not self._has_whole() and self._transport is not None:
            self._transport.close()
