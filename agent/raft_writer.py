"""Writes to the log: on the loop while the disk is quick, on a thread of their own when it is not.

Handing a write to a thread and back costs more than a quick fsync; a slow one would hold up
everybody. The last fsyncs decide."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter

from agent.wal import Frame, LogStore
from core.errors import StorageFull

QUICK = 0.002  # seconds: a mean fsync below this may run on the loop
_WEIGHT = 0.2  # of the newest fsync in the mean

Done = Callable[[Frame, StorageFull | None], None]


class LogWriter:
    """One write at a time. `done(frame, error)` is called on the loop, maybe before `write` returns."""

    def __init__(self, log: LogStore, done: Done) -> None:
        self._log = log
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Frame | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.mean = 0.0  # seconds per write
        self.busy = False
        self.crowded = 0  # others that write much to the same disk now: an fsync may take long

    def write(self, frame: Frame) -> None:
        """Make the frame durable."""
        if not self.crowded and self.mean < QUICK and self._log.is_quick(frame):
            self._done(frame, self._write(frame))
            return
        self.busy = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raft-log", daemon=True)
            self._thread.start()
        self._queue.put(frame)

    def close(self) -> None:
        """Finish the write under way and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _write(self, frame: Frame) -> StorageFull | None:
        start = perf_counter()
        error = None
        try:
            self._log.write(frame)
        except StorageFull as failure:
            error = failure
        self.mean += (perf_counter() - start - self.mean) * _WEIGHT
        return error

    def _run(self) -> None:
        while (frame := self._queue.get()) is not None:
            error = self._write(frame)
            self._loop.call_soon_threadsafe(self._finish, frame, error)

    def _finish(self, frame: Frame, error: StorageFull | None) -> None:
        self.busy = False
        self._done(frame, error)
