"""Snapshots over the network: state.bin raw behind an InstallSnapshot (protocols/raft.md section 1).

The disk is touched by threads only, and no more bytes are taken from the network, or given to it,
than the slower side has dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.logs import get_logger
from agent.snapshots import SnapshotMeta, SnapshotStore, SnapshotWriter
from core.errors import CtlError
from core.raft import configuration as membership
from core.raft.messages import InstallSnapshot

PIECE = 1 << 18  # bytes handed to or taken from a thread at once
_HIGH = 1 << 20  # bytes that may wait for the disk

_log = get_logger("agent.raft.snapshot")


class Receiving:
    """One snapshot that comes in. `done(error)` is called once: "" when it is whole, in `request.handle`."""

    def __init__(
        self,
        request: InstallSnapshot,
        store: SnapshotStore,
        wall: float,
        pause: Callable[[bool], None],
        done: Callable[[str], None],
    ) -> None:
        self._request, self._store = request, store
        self._wall, self._pause, self._done = wall, pause, done
        self._left = request.size  # bytes still to come
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._more = asyncio.Event()
        self._given_up = False
        if request.size < 0:
            raise ValueError("a snapshot of negative size")
        self._task = asyncio.get_running_loop().create_task(self._run())

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the snapshot; gives back what does not."""
        mine, rest = data[: self._left], data[self._left :]
        self._left -= len(mine)
        if mine:
            self._pieces.append(mine)
            self._waiting += len(mine)
            if self._waiting >= _HIGH or not self._left:
                self._pause(True)
        if mine or not self._left:
            self._more.set()
        return rest

    def give_up(self) -> None:
        """The connection is gone. What a thread is doing right now is finished first."""
        self._given_up = True
        self._more.set()

    async def _run(self) -> None:
        try:
            writer = await self._write()
        except (CtlError, ValueError) as error:
            _log.error("a snapshot cannot be received", error=error)
            self._done(str(error))
        else:
            if writer is not None:
                self._request.handle = writer
                self._done("")

    async def _write(self) -> SnapshotWriter | None:
        """The writer with all the state, None when it was given up."""
        loop = asyncio.get_running_loop()
        writer = await loop.run_in_executor(None, self._store.create, self._meta())
        while (self._left or self._pieces) and not self._given_up:
            await self._more.wait()
            self._more.clear()
            data, self._pieces, self._waiting = b"".join(self._pieces), [], 0
            if self._left:
                self._pause(False)
            if data and not self._given_up:
                await loop.run_in_executor(None, writer.write, data)
        if not self._given_up:
            return writer
        await loop.run_in_executor(None, writer.abandon)
        return None

    def _meta(self) -> SnapshotMeta:
        request = self._request
        return SnapshotMeta(
            f"{request.last_term}-{request.last_index}-{int(self._wall * 1000)}",
            request.last_index,
            request.last_term,
            membership.decode(request.configuration),
            request.configuration_index,
        )
