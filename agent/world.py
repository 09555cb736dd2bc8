"""The real clock, chance and files, behind one door, so that a test can hand in another world."""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from pathlib import Path


def errno_text(error: OSError) -> str:
    """What the system says went wrong, as Go says it: without the number, and without the sentence that
    asyncio puts around it."""
    if not error.errno or error.errno < 0:
        return str(error)
    return os.strerror(error.errno).lower()


class World:
    """What the daemon may know of the outside. `now` is monotonic seconds, `wall` Unix seconds."""

    def __init__(self, seed: int | None = None) -> None:
        self.random = random.Random(seed)

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def uuid(self) -> str:
        """A UUID (version 4) that nobody can guess."""
        return str(uuid.UUID(bytes=os.urandom(16), version=4))

    def write_file(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Replace `path` durably and in one step: a reader sees the old bytes or the new ones."""
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
