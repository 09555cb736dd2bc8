"""A snapshot on its way to a follower: the header, then state.bin raw, on a connection of its own.

Pieces are read by a thread and the next one only when the network has taken the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from agent.raft_lane import Connect, tune
from agent.raft_receive import PIECE
from agent.snapshots import SnapshotMeta, SnapshotReader, SnapshotStore
from core.errors import CtlError
from core.raft.messages import INSTALL_SNAPSHOT, InstallReply, InstallSnapshot, decode_response
from core.raft.stream import Responses

_LEAST = 10.0  # seconds for any snapshot, and for each 256 KiB of it (protocols/raft.md section 1)


async def send_snapshot(
    request: InstallSnapshot,
    store: SnapshotStore,
    encode: Callable[[InstallSnapshot], bytes],
    connect: Connect,
) -> InstallReply:
    """Send the snapshot `request.handle` and wait for the answer. Raises CtlError, OSError, ValueError."""
    loop = asyncio.get_running_loop()
    meta = cast(SnapshotMeta, request.handle)
    reader = await loop.run_in_executor(None, store.open, meta)
    try:
        request.size = meta.size
        line = _Line()
        await connect(lambda: line)
        try:
            async with asyncio.timeout(_LEAST * max(1, meta.size >> 18)):
                return await _send(request, reader, encode(request), line)
        except TimeoutError:
            raise CtlError("no answer in time") from None
        finally:
            line.hang_up()
    finally:
        await loop.run_in_executor(None, reader.close)


async def _send(request: InstallSnapshot, reader: SnapshotReader, head: bytes, line: _Line) -> InstallReply:
    loop = asyncio.get_running_loop()
    line.write(head)
    left = request.size
    while left:
        piece = await loop.run_in_executor(None, reader.read, min(left, PIECE))
        if not piece:
            raise CtlError(f"the snapshot lacks {left} of {request.size} bytes")
        left -= len(piece)
        line.write(piece)
        await line.drained()
    reply = await line.reply()
    reply.request = request
    return reply


class _Line(asyncio.Protocol):
    """One request, one response."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._responses = Responses()
        self._reply: asyncio.Future[InstallReply] = loop.create_future()
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tune(transport)

    def write(self, data: bytes) -> None:
        if self._reply.done():
            self._reply.result()  # raises: refused already, or the connection is gone
        assert self._transport is not None
        self._transport.write(data)

    async def drained(self) -> None:
        """Return when the network has taken most of what was written."""
        await self._room.wait()

    async def reply(self) -> InstallReply:
        return await self._reply

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self._reply.done():
            self._reply.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        if self._reply.done():
            return
        try:
            self._responses.feed(data)
            found = self._responses.next()
            if found is None:
                return
            error, fields = found
            if error:
                raise CtlError(error)
            reply = decode_response(INSTALL_SNAPSHOT, fields)
            assert isinstance(reply, InstallReply)
        except (ValueError, CtlError) as error_:
            self._fail(error_)
        else:
            self._reply.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(CtlError(str(error or "connection closed")))

    def _fail(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)
            self._reply.exception()  # whoever waits is told; if nobody does, nobody needs to be
        self._room.set()
