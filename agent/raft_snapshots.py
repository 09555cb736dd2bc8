"""When and how snapshots are taken, and what the log may forget afterwards.

The state is frozen on the loop, encoded there in slices of about 2 ms, and written, summed and
synced by a thread while the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from agent import slices
from agent.logs import get_logger
from agent.snapshots import SnapshotMeta, SnapshotStore, SnapshotWriter
from core.errors import CtlError, Unavailable
from core.raft import configuration as membership
from core.raft.messages import InstallSnapshot
from core.store.archive import read as read_archive

if TYPE_CHECKING:
    from agent.raft import RaftService
    from agent.raft_doors import StateMachine
    from agent.world import World

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_log = get_logger("agent.raft.snapshot")

_SLICE = 0.002  # seconds of encoding in one turn of the loop
_PIECE = 1 << 18  # bytes handed to the thread at once
_REST = 0.002  # seconds that others have the loop between two slices
_PATIENCE = 8  # times the usual length that the log may have for a follower that is being sent a snapshot


class Snapshotter:
    """One snapshot at a time, taken from time to time, on request, or received from a leader."""

    def __init__(self, raft: RaftService, fsm: StateMachine, store: SnapshotStore, world: World) -> None:
        self._raft, self._fsm, self.store, self._world = raft, fsm, store, world
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Look again after the interval, 1x to 2x."""
        if not self._stopped:
            interval = self._raft.settings.snapshot_interval * (1 + self._world.random.random())
            self._timer = self._loop.call_later(interval, self._look)

    async def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def take(self) -> None:
        """Take one now, or wait for the one under way. Raises StorageFull."""
        await asyncio.shield(self._task or self._begin(self._take()))

    def install(self, request: InstallSnapshot) -> None:
        """Restore a leader's snapshot; `request.handle` is a SnapshotWriter that holds its state."""
        self._begin(self._install(request, self._task))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._task = task = self._loop.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and task.exception() is not None:
            _log.error("no snapshot could be taken", error=task.exception())

    def _look(self) -> None:
        node = self._raft.node
        grown = self._raft.applied_index - node.snapshot_index
        due = grown >= self._raft.settings.snapshot_threshold or node.wants_snapshot
        if self._task is None and due:
            self._begin(self._take())
        self.start()

    async def _take(self) -> None:
        raft, node = self._raft, self._raft.node
        index = raft.applied_index
        term = node.log.term(index)
        if index <= node.snapshot_index or term is None:
            return
        position, configuration = node.configurations.at(index)
        name = f"{term}-{index}-{int(self._world.wall() * 1000)}"
        meta = SnapshotMeta(name, index, term, configuration, position)
        chunks = self._fsm.snapshot()
        raft.log.crowd(1)
        try:
            writer = await self._in_thread(self.store.create, meta)
            meta = await self._write(writer, chunks)
        finally:
            raft.log.crowd(-1)
        _log.info("snapshot complete", id=meta.id, size=meta.size)
        node.snapshot_taken(index, term, (position, configuration), meta)
        await self._compact()

    async def _write(self, writer: SnapshotWriter, chunks: Iterator[bytes]) -> SnapshotMeta:
        now = self._world.now
        try:
            finished = False
            while not finished:
                pieces, size, until = [], 0, now() + _SLICE
                finished = True
                for piece in chunks:
                    pieces.append(piece)
                    size += len(piece)
                    if size >= _PIECE or now() > until:
                        finished = False
                        break
                if pieces:
                    await self._in_thread(writer.write, b"".join(pieces))
                await asyncio.sleep(_REST)
            return await self._in_thread(writer.finish)
        except asyncio.CancelledError:
            writer.abandon()
            raise

    async def _compact(self) -> None:
        """Let the log forget what neither a follower nor a damaged newest snapshot would need."""
        raft, node = self._raft, self._raft.node
        spare = await self._in_thread(self.store.spare_index)
        trailing = raft.settings.trailing_logs
        index = min(spare, node.snapshot_index, node.log.last - trailing)
        if node.leader is not None:  # else a large state would have to be sent again and again
            most = node.log.last - _PATIENCE * (trailing + raft.settings.snapshot_threshold)
            index = min(index, max(node.leader.floor(), most))
        term = node.log.term(index)
        if index <= node.log.base or term is None:
            return
        await raft.log.mark(index, term, False)
        node.compact(index)
        await self._remove_unused()

    async def _remove_unused(self) -> None:
        log = self._raft.log.store
        await self._in_thread(log.remove, log.take_unused())

    async def _install(self, request: InstallSnapshot, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        writer: SnapshotWriter = request.handle
        try:
            meta = await self._in_thread(writer.finish)
            data = await self._in_thread(self.store.load, meta)
            state = await slices.run(self._fsm.load(data))
            await self._raft.log.mark(request.last_index, request.last_term, True)
        except (CtlError, ValueError, OSError) as error:
            _log.error("the leader's snapshot cannot be installed", error=error)
            self._raft.installed(False, None)
        else:
            _log.info("installed the leader's snapshot", id=meta.id, size=meta.size)
            await self._adopt(state, meta)

    async def _adopt(self, state: Any, meta: SnapshotMeta) -> None:
        rest = self._fsm.adopt(state)
        self._raft.installed(True, meta)
        await slices.drop(rest)
        await self._remove_unused()

    async def restore(self, archive: bytes) -> None:
        """Replace this leader's state by an archive's, and the log by a snapshot of it, which followers
        will be sent. SnapshotError, StorageFull, NoLeader and Unavailable: nothing has changed."""
        found, data = await self._in_thread(read_archive, archive)
        state = await slices.run(self._fsm.load(data))
        while self._task is not None:
            await asyncio.wait([self._task])
        await asyncio.shield(self._begin(self._restore(found.index, data, state)))

    async def _restore(self, floor: int, data: bytes, state: Any) -> None:
        raft, node = self._raft, self._raft.node
        request = raft.hold(floor)
        index, term = request.last_index, request.last_term
        meta = SnapshotMeta(
            f"{term}-{index}-{int(self._world.wall() * 1000)}",
            index,
            term,
            membership.decode(request.configuration),
            request.configuration_index,
        )
        try:
            writer = await self._in_thread(self.store.create, meta)
            pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
            meta = await self._write(writer, pieces)
            if node.leader is None or node.term != term:
                await self._in_thread(self.store.remove, meta)
                raise Unavailable("leadership lost while restoring a snapshot")
            await raft.log.mark(index, term, True)
        except BaseException:
            raft.installed(False, None)
            raise
        _log.warn("the state was replaced by that of an archive", id=meta.id, size=meta.size)
        await self._adopt(state, meta)

    async def _in_thread(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await self._loop.run_in_executor(None, function, *arguments)
