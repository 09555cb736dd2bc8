"""The few things that the log asks of a disk. Tests hand in a disk that fills up, fails or forgets."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_SLICE = 1 << 20


class Files:
    """A real directory. Every method raises OSError as the system does."""

    def lock(self, folder: Path) -> int:
        """Create `folder` if needed and hold it for this process; BlockingIOError if another holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of `data` and make it durable."""
        written = os.pwrite(descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
        os.fdatasync(descriptor)

    def create(self, path: Path, header: bytes, size: int) -> None:
        """A file of `size` bytes, `header` then zeros, durable under its name or not there at all.

        The zeros are really written: into blocks that exist, a later fsync has no metadata to store."""
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            try:
                os.posix_fallocate(descriptor, 0, size)
                self.write(descriptor, header, 0)
                zeros = bytes(min(_SLICE, size))
                for offset in range(len(header), size, _SLICE):
                    self.write(descriptor, zeros[: size - offset], offset)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, path)
            self.sync_folder(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def remove(self, path: Path) -> None:
        """Unlink; durable, so that files vanish in the order in which they are removed."""
        os.unlink(path)
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
