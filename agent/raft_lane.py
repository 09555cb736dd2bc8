"""One connection to another server for one kind of Raft's requests: dialled when needed, again after a pause.

Responses come in the order of the requests, so a lane is also a queue: what must not wait for a disk
(heartbeats) and what may have to (entries, votes) go on different lanes."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from core.errors import CtlError
from core.raft.messages import (
    KINDS,
    UNEXPECTED_COMMAND,
    Request,
    RequestPreVote,
    Response,
    Unreachable,
    decode_response,
)
from core.raft.stream import Responses

DEADLINE = 10.0  # seconds that a request may take (protocols/raft.md section 1)
UNSEEN = 2000  # ms that sent bytes may stay without the other kernel's word: then the path is gone
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)  # seconds before dialling again, by number of failures
_MAX_QUEUED = 256

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]


class Listener(Protocol):
    """Who hears what became of requests."""

    def heard(self, message: Response | Unreachable) -> None: ...

    def knows_no_pre_vote(self, request: RequestPreVote) -> None:
        """The other server cannot answer this one; what it would say must be found out another way."""
        ...

    def encode(self, request: Request) -> bytes: ...


class Lane:
    """Sends requests of one kind to one server."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener, self._loop = listener, loop
        self._line: _Line | None = None
        self._queue: deque[Request] = deque()
        self._dialling: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self.error = ""  # why the last attempt failed

    def send(self, request: Request, connect: Connect) -> None:
        """Send it now, or as soon as there is a connection; what becomes of it is told to the listener."""
        if self._line is not None:
            self._line.send(request, self._listener.encode(request))
        elif self._closed or self._loop.time() < self._not_before or len(self._queue) >= _MAX_QUEUED:
            self._fail([request])
        else:
            self._queue.append(request)
            if self._dialling is None:
                self._dialling = self._loop.create_task(self._dial(connect))

    def close(self) -> None:
        """Hang up; nothing more is told."""
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        self.redial()

    def redial(self) -> None:
        """Hang up; the next request dials anew, maybe another address."""
        if self._line is not None:
            self._line.hang_up()
        self._not_before, self._failures = 0.0, 0

    async def _dial(self, connect: Connect) -> None:
        try:
            await connect(lambda: _Line(self, self._loop))
        except CtlError as error:
            self.error = str(error)
            self._pause()
            failed, self._queue = self._queue, deque()
            self._fail(failed)
        finally:
            self._dialling = None

    def _pause(self) -> None:
        self._not_before = self._loop.time() + _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1

    def _fail(self, requests: deque[Request] | list[Request]) -> None:
        """Told in a later turn: the machine may be in the middle of asking."""
        for request in requests:
            self._loop.call_soon(self._listener.heard, Unreachable(request))

    # What the connection says

    def opened(self, line: _Line) -> None:
        self._line = line
        self.error = ""
        queued, self._queue = self._queue, deque()
        for request in queued:
            line.send(request, self._listener.encode(request))

    def answered(self, request: Request, error: str, response: Response | None) -> None:
        self._failures = 0
        if response is not None:
            response.request = request
            self._listener.heard(response)
        elif isinstance(request, RequestPreVote) and error.startswith(UNEXPECTED_COMMAND):
            self._listener.knows_no_pre_vote(request)
        else:
            self.error = error
            self._listener.heard(Unreachable(request))

    def lost(self, line: _Line, waiting: list[Request], error: str) -> None:
        if self._line is line:
            self._line = None
        if self._closed:
            return
        if not line.knows_pre_vote and len(waiting) == 1 and isinstance(waiting[0], RequestPreVote):
            # Consul 1.9.8 hangs up at a question that it does not know. The vote itself may follow at once,
            # so nothing must stand in the way of dialling again.
            self._loop.call_soon(self._listener.knows_no_pre_vote, waiting[0])
            return
        self.error = error
        if waiting:
            self._pause()
        self._fail(waiting)


class _Line(asyncio.Protocol):
    """The connection while it lasts."""

    def __init__(self, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        self._lane, self._loop = lane, loop
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, float]] = deque()
        self._responses = Responses()
        self._timer: asyncio.TimerHandle | None = None
        self._error = ""
        self.knows_pre_vote = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        tune(self._transport)
        self._lane.opened(self)

    def send(self, request: Request, data: bytes) -> None:
        assert self._transport is not None
        self._waiting.append((request, self._loop.time()))
        self._transport.write(data)
        if self._timer is None:
            self._timer = self._loop.call_later(DEADLINE, self._check)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _check(self) -> None:
        """The oldest request must not be too old."""
        self._timer = None
        if not self._waiting:
            return
        due = self._waiting[0][1] + DEADLINE
        if due <= self._loop.time():
            self._error = "no answer in time"
            self.hang_up()
        else:
            self._timer = self._loop.call_at(due, self._check)

    def data_received(self, data: bytes) -> None:
        try:
            self._responses.feed(data)
            while (found := self._responses.next()) is not None:
                error, fields = found
                if not self._waiting:
                    raise ValueError("a response to no request")
                request = self._waiting[0][0]
                response = None if error else decode_response(KINDS[type(request)], fields)
                self._waiting.popleft()
                if response is not None and isinstance(request, RequestPreVote):
                    self.knows_pre_vote = True
                self._lane.answered(request, error, response)
        except ValueError as error:
            self._error = str(error)
            self.hang_up()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        waiting = [request for request, _ in self._waiting]
        self._lane.lost(self, waiting, self._error or str(error or "connection closed"))


def tune(transport: asyncio.BaseTransport) -> None:
    """Send small messages at once; notice a path that swallows packets long before TCP gives up."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSEEN)
