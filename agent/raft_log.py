"""The log's writing: what waits is one batch, what promises it is durable waits for it.

    submit(ready) -> batch -> prepare, write (loop or thread), finish -> persisted -> held messages

One write at a time; everything submitted meanwhile is the next batch."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from agent.logs import get_logger
from agent.raft_writer import LogWriter
from agent.wal import Frame, LogStore
from core.errors import StorageFull
from core.raft.ready import Outgoing, Ready

if TYPE_CHECKING:
    from agent.world import World
    from core.metrics import Metrics

_log = get_logger("agent.raft")

_SPARE_RETRY = 1.0  # seconds


class Owner(Protocol):
    """Who is told what became of writes."""

    def send(self, messages: list[Outgoing]) -> None: ...

    def persisted(self, mark: int) -> None: ...

    def write_failed(self, error: StorageFull) -> None: ...

    def settled(self) -> None:
        """The machine may go on."""


class LogKeeper:
    """Writes a log in batches, and holds back what may not be said before."""

    def __init__(self, store: LogStore, owner: Owner, world: World, metrics: Metrics | None) -> None:
        self.store = store
        self._owner, self._world, self._metrics = owner, world, metrics
        self._writer = LogWriter(store, self._written)
        self._pending: list[Ready] = []
        self._held: list[Outgoing] = []
        self._held_in_flight: list[Outgoing] = []
        self._marks: list[tuple[int, int, bool, asyncio.Future[None]]] = []
        self._sent_at = 0.0
        self._full = False
        self._spare: asyncio.Future[None] | None = None
        self._spare_retry_at = 0.0
        self._closed = False

    async def close(self) -> None:
        """Finish the write under way and let go of the store."""
        self._closed = True
        if self._spare is not None:
            await asyncio.wait([self._spare])
        while self._writer.busy:
            await asyncio.sleep(0.001)
        self._writer.close()
        self.store.close()
        for *_, future in self._marks:
            future.cancel()
        self._marks.clear()

    @property
    def mean(self) -> float:
        """Seconds that a write took lately."""
        return self._writer.mean

    @property
    def writing_since(self) -> float | None:
        """perf_counter() when the write under way began."""
        return self._sent_at if self._writer.busy else None

    def submit(self, ready: Ready) -> None:
        """Write what `ready` wants written, and send what it holds back when all until now is durable."""
        if ready.mark:
            self._pending.append(ready)
        if ready.held:
            if self._pending or self._writer.busy:
                self._held += ready.held
            else:
                self._owner.send(ready.held)
        if ready.mark:
            self._write_next()

    def mark(self, index: int, term: int, replace: bool) -> asyncio.Future[None]:
        """Let the log start after `index`, durably (`replace`: it holds nothing any more, also of what
        was submitted before)."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks.append((index, term, replace, future))
        self._write_next()
        return future

    def crowd(self, change: int) -> None:
        """Something begins (1) or ends (-1) that makes writes slow, or a wait for one costly: the loop
        does not wait then."""
        self._writer.crowded += change

    def _write_next(self) -> None:
        while not self._writer.busy and not self._closed:
            if self._marks and not (self._marks[0][2] and self._pending):
                frame = self.store.prepare_mark(*self._marks[0][:3])
            elif self._pending:
                frame = self.store.prepare(self._pending)
                self._pending = []
                self._held_in_flight, self._held = self._held, []
            else:
                return
            self._sent_at = perf_counter()
            self._writer.write(frame)

    def _written(self, frame: Frame, error: StorageFull | None) -> None:
        """A write ended. Called while `_write_next` runs, or later from the loop."""
        if frame.mark is not None:
            future = self._marks.pop(0)[3]
            if error is None:
                self.store.finish(frame)
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)
        elif error is not None:
            self._failed(error)
        else:
            self.store.finish(frame)
            self._owner.persisted(frame.readies[-1].mark)
            self._measure(frame)
            if self._full:
                self._full = False
                _log.info("the Raft log can be written again")
        if self._held_in_flight:
            held, self._held_in_flight = self._held_in_flight, []
            self._owner.send(held)
        if self._held and not self._pending:
            held, self._held = self._held, []
            self._owner.send(held)
        if self.store.wants_spare():
            self._make_spare()
        self._write_next()
        self._owner.settled()

    def _measure(self, frame: Frame) -> None:
        if self._metrics is None:
            return
        took = (perf_counter() - self._sent_at) * 1000
        self._metrics.sample("raft.leader.dispatchLog", took)
        self._metrics.sample("raft.commitTime", took)
        self._metrics.incr("raft.apply", sum(len(ready.entries) for ready in frame.readies))

    def _failed(self, error: StorageFull) -> None:
        """Nothing of the batch, nor of what was to follow it, is in the log."""
        if not self._full:
            self._full = True
            _log.error("writes are refused", error=error)
        if self._metrics is not None:
            self._metrics.incr("raft.log.write_failed")
        self._pending.clear()
        self._held.clear()
        self._held_in_flight.clear()
        self._owner.write_failed(error)

    # The next segment

    def _make_spare(self) -> None:
        """Prepare the next segment on another thread."""
        if self._spare is not None or self._world.now() < self._spare_retry_at or self._closed:
            return
        self.crowd(1)
        self._spare = asyncio.get_running_loop().run_in_executor(None, self.store.make_spare)
        self._spare.add_done_callback(self._spare_made)

    def _spare_made(self, task: asyncio.Future[None]) -> None:
        self._spare = None
        self.crowd(-1)
        error = task.exception()
        if error is not None:
            self._spare_retry_at = self._world.now() + _SPARE_RETRY
            _log.warn("no room for the next segment of the Raft log", error=error)
