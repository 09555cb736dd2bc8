"""The file by which a restarted agent finds its pool again (protocols/gossip.md 7.8).

The file is advice: losing its last lines, or all of it, costs a rejoin by other means. So it is not synced
at each line, and nothing that happens to it ends the agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core.gossip import snapshot
from core.gossip.snapshot import SnapshotState

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World

_KEEP_DAMAGED = ".damaged"
_FLUSH_INTERVAL = 0.5  # seconds that lines may wait (protocols/gossip.md 7.8)


class SnapshotFile:
    """The file at `path`. One thread at a time uses it: first the one that starts, then the pool's writer."""

    def __init__(self, path: Path, world: World, log: Logger) -> None:
        self.path, self._world, self._log = path, world, log
        self._descriptor = -1
        self._failing = False
        self.size = 0

    def load(self, rejoin_after_leave: bool) -> SnapshotState:
        """What the file says. One that is no text is set aside, so that someone can look at it."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return SnapshotState()
        except OSError as error:
            self._log.warn("snapshot cannot be read", path=str(self.path), error=str(error))
            return SnapshotState()
        if b"\0" in raw:  # what a file system leaves where data did not reach the disk before a crash
            self._set_aside()
            return SnapshotState()
        self.size = len(raw)
        return snapshot.parse(raw.decode("utf-8", "surrogateescape"), rejoin_after_leave)

    def _set_aside(self) -> None:
        aside = self.path.with_name(self.path.name + _KEEP_DAMAGED)
        with contextlib.suppress(OSError):
            os.replace(self.path, aside)
        self._log.warn("snapshot is damaged and was set aside", path=str(self.path), now=str(aside))

    def append(self, lines: Iterable[str]) -> None:
        """Add lines at the end."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        try:
            if self._descriptor < 0:
                self._open()
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._failed(error)
            return
        self.size += written
        self._failing = written < len(data)

    def replace(self, text: str) -> None:
        """Put `text`, which says the same in fewer lines, in its place."""
        data = text.encode("utf-8", "surrogateescape")
        self.close()
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._world.write_file(self.path, data)
        except OSError as error:
            self._failed(error)
            return
        self.size = len(data)
        self._failing = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # a torn last line must not spoil the next one

    def _failed(self, error: OSError) -> None:
        if not self._failing:  # once, not for every line on a full disk
            self._log.warn("snapshot was not written", path=str(self.path), error=str(error))
        self._failing = True


class Source(Protocol):
    """What the file is made of. Serf is one."""

    @property
    def snapshot_limit(self) -> int: ...

    def snapshot_text(self) -> str: ...


class SnapshotWriter:
    """Writes lines to a file a moment after they came, on a thread, so that a slow disk delays nobody."""

    def __init__(self, file: SnapshotFile, source: Source, disk: Executor) -> None:
        self._file, self._source, self._disk = file, source, disk
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def note(self, lines: Iterable[str]) -> None:
        """These lines are to be appended."""
        self._lines += lines
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_INTERVAL, self._due)

    def _due(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        lines, self._lines = self._lines, []
        loop = asyncio.get_running_loop()
        if self._file.size > self._source.snapshot_limit:
            await loop.run_in_executor(self._disk, self._file.replace, self._source.snapshot_text())
        else:
            await loop.run_in_executor(self._disk, self._file.append, lines)
        self._writing = None
        if self._lines:
            self.note(())

    async def close(self) -> None:
        """Write what is left, now."""
        if self._writing is not None:
            await self._writing
        if self._timer is not None:
            self._timer.cancel()
        if self._lines:
            await self._write()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.get_running_loop().run_in_executor(self._disk, self._file.close)
