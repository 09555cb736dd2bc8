"""A yamux session on a connection: feeds what comes, writes what goes, once a turn of the loop."""

from __future__ import annotations

import asyncio
from typing import cast

from agent.world import errno_text
from core.codec.yamux import Session, Settings, Stream

_LATE = 0.5  # seconds: a timer that rings so late says that this process was asleep
_WAKE = 0.01  # seconds, in which a process that was asleep reads what has come


class Mux(asyncio.Protocol):
    """A connection of many streams; subclasses say what their data means."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: bool, settings: Settings) -> None:
        self.loop = loop
        self.session = Session(client, loop.time(), settings)
        self.transport: asyncio.Transport | None = None
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False

    def event(self, stream: Stream, kind: int, data: bytes) -> None:
        """Something came on a stream: DATA, FINISHED or RESET of core.codec.yamux."""
        raise NotImplementedError

    def lost(self, why: str) -> None:
        """The connection is over; all streams with it."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # (uvloop's are none by inheritance)
        self._arm()

    def data_received(self, data: bytes) -> None:
        session = self.session
        for event in session.receive(data, self.loop.time()):
            self.event(*event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        for handle in (self._flushing, self._timer):
            if handle is not None:
                handle.cancel()
        self.lost(self.session.closed or (_why(exc) if exc is not None else "EOF"))

    def wake(self) -> None:
        """Something is to be written: at the end of this turn, with all else that is."""
        if self._flushing is None:
            self._flushing = self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        transport = self.transport
        if transport is None:
            return
        data = self.session.drain()
        if data:
            transport.write(data)
        if self.session.closed:
            transport.close()

    def end(self) -> None:
        """Close the connection, after what has been written."""
        if self.transport is not None:
            self.session.go_away()
            self.flush()
            self.transport.close()

    def _arm(self) -> None:
        due = self.session.deadline()
        if due is not None:
            self._timer = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        now, due = self.loop.time(), self.session.deadline()
        if due is not None and now - due > _LATE and not self._woken:
            # This process was asleep, not the other side: hear first what has come meanwhile.
            self._woken = True
            self._timer = self.loop.call_later(_WAKE, self._ring)
            return
        self._woken = False
        self.session.tick(now)
        self.flush()
        if self.session.closed and self.transport is not None:
            self.transport.abort()  # the other side reads no more
        self._arm()


def _why(error: Exception) -> str:
    return errno_text(error) if isinstance(error, OSError) else str(error)
