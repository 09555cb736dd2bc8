"""A disk for tests: it fills up, fails, and forgets what was not synced."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

from agent.wal_files import Files


class Crash(Exception):
    """The machine lost power."""


class FlakyFiles(Files):
    """Real files, and a switch for every way in which a disk can fail."""

    def __init__(self) -> None:
        self.fail_write = 0  # errno of the next writes
        self.fail_create = 0
        self.write_part: int | None = None  # bytes of a failing write that reach the file
        self.writes = 0

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        self.writes += 1
        if self.fail_write:
            if self.write_part is not None:
                os.pwrite(descriptor, data[: self.write_part], offset)
            raise OSError(self.fail_write, os.strerror(self.fail_write))
        super().write(descriptor, data, offset)

    def create(self, path: Path, header: bytes, size: int) -> None:
        if self.fail_create:
            raise OSError(self.fail_create, os.strerror(self.fail_create))
        super().create(path, header, size)


class ForgetfulFiles(Files):
    """Synced bytes stay; a crash keeps any subset of the 512-byte sectors of an unfinished write.

    Nothing is really synced, which makes long random runs fast."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.crash_next = False

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if not self.crash_next:
            os.pwrite(descriptor, data, offset)
            return
        position = 0
        while position < len(data):
            sector = data[position : position + 512 - (offset + position) % 512]
            if self._random.random() < 0.5:
                os.pwrite(descriptor, sector, offset + position)
            position += len(sector)
        raise Crash()

    def create(self, path: Path, header: bytes, size: int) -> None:
        if self.crash_next:
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_bytes(header[: self._random.randrange(len(header))])
            raise Crash()
        path.write_bytes(header + bytes(size - len(header)))

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_folder(self, folder: Path) -> None:
        """Nothing is lost that was renamed."""


NO_SPACE = errno.ENOSPC
IO_ERROR = errno.EIO
