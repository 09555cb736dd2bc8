"""Raft connections that come in: requests in, responses out in the same order (protocols/raft.md section 1).

The machine may answer later (a disk is in between) and in another order than it was asked on several
connections; here every connection gets its answers in its own order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast

from agent.raft_lane import tune
from agent.raft_receive import Receiving
from core.raft.messages import (
    UNSUPPORTED_VERSION,
    AppendEntries,
    InstallSnapshot,
    Request,
    RequestPreVote,
    RequestVote,
    Response,
    encode_response,
    refused_version,
)
from core.raft.stream import Requests

_MANY = 512  # unanswered requests on one connection: read no more until it is half of that


class Follower(Protocol):
    """What a connection needs of this server."""

    def source(self, sender: str, address: str) -> str:
        """The id of the server that says it has this id or address."""
        ...

    def take(self, source: str, request: Request, inbound: Inbound) -> None: ...

    def receive(self, request: InstallSnapshot, inbound: Inbound) -> Receiving: ...

    def gone(self, inbound: Inbound) -> None: ...

    def encode(self, response: Response) -> bytes: ...


class Inbound(asyncio.Protocol):
    """One connection from another server."""

    def __init__(self, follower: Follower, address: str) -> None:
        self._follower = follower
        self.address = address  # where it comes from
        self._requests = Requests()
        self._transport: asyncio.Transport | None = None
        self._open: deque[_Slot] = deque()
        self._receiving: Receiving | None = None
        self.source = ""  # id of the server at the other end, once it has said so

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        tune(self._transport)

    @property
    def waits(self) -> bool:
        """Whether something was asked that is not answered yet."""
        return bool(self._open)

    def abort(self) -> None:
        """Hang up: what is not answered will not be."""
        if self._transport is not None:
            self._transport.abort()

    # In

    def data_received(self, data: bytes) -> None:
        try:
            if self._receiving is not None:
                rest = self._receiving.feed(data)
                if not rest:
                    return
                data = rest
            self._requests.feed(data)
            self._read()
        except ValueError:  # not Raft, or not in a version that we know: nothing to be said to it
            self.abort()

    def resume(self) -> None:
        """The snapshot has come in whole: go on reading what follows it."""
        self._receiving = None
        self.pause(False)
        try:
            self._read()
        except ValueError:
            self.abort()

    def _read(self) -> None:
        while self._receiving is None and self._transport is not None:
            request = self._requests.next()
            if request is None:
                return
            self._take(request)

    def _take(self, request: Request) -> None:
        slot = _Slot(request)
        self._open.append(slot)
        is_heartbeat = isinstance(request, AppendEntries) and request.is_heartbeat
        if not is_heartbeat and refused_version(request.version):
            self._settle(slot, encode_response(None, UNSUPPORTED_VERSION))
            return
        self.source = self._follower.source(request.sender, _address(request)) or self.source
        if isinstance(request, InstallSnapshot):
            self._receiving = self._follower.receive(request, self)
            rest = self._receiving.feed(self._requests.raw(request.size))
            assert not rest
        else:
            self._follower.take(self.source, request, self)
        if len(self._open) >= _MANY:
            self.pause(True)

    # Out

    def answer(self, request: Request, response: Response) -> None:
        """The machine's answer to a request that came in here."""
        self._answer(request, self._follower.encode(response))

    def refuse(self, request: Request, error: str) -> None:
        """An error text instead of an answer."""
        self._answer(request, encode_response(None, error))

    def _answer(self, request: Request, data: bytes) -> None:
        for slot in self._open:
            if slot.request is request:
                self._settle(slot, data)
                return

    def _settle(self, slot: _Slot, data: bytes) -> None:
        slot.data = data
        while self._open and self._open[0].data:
            first = self._open.popleft()
            if self._transport is not None:
                self._transport.write(first.data)
        if self._receiving is None and len(self._open) == _MANY // 2:
            self.pause(False)

    def pause(self, pause: bool) -> None:
        """More is coming in than the disk takes, or it has caught up."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._receiving is not None:
            self._receiving.give_up()
        self._open.clear()
        self._follower.gone(self)


class _Slot:
    """A request and, once known, the bytes of its answer."""

    __slots__ = ("data", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.data = b""


def _address(request: Request) -> str:
    if isinstance(request, AppendEntries | InstallSnapshot):
        return request.leader
    if isinstance(request, RequestVote | RequestPreVote):
        return request.candidate
    return ""
