"""A server that writes as fast as it can and says what was acknowledged: the victim of kill -9.

Each acknowledged number is written to the pipe in one write, after `done` was called."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

from agent.raft import RaftService, RaftSettings
from agent.world import World


class Numbers:
    """A state machine that remembers the order of what it was given."""

    def __init__(self) -> None:
        self.numbers: list[bytes] = []

    def apply(self, index: int, data: bytes, extensions: bytes, term: int) -> object:
        self.numbers.append(data)
        return index

    def snapshot(self) -> Iterator[bytes]:
        numbers = list(self.numbers)
        return (b"".join(n + b"\n" for n in numbers[i : i + 100]) for i in range(0, len(numbers), 100))

    def load(self, data: bytes) -> Generator[None, None, list[bytes]]:
        yield
        return data.split(b"\n")[:-1]

    def adopt(self, state: list[bytes]) -> Iterator[None]:
        self.numbers = state
        return iter(())


SETTINGS = RaftSettings(
    snapshot_interval=0.02, snapshot_threshold=200, trailing_logs=100, segment_size=1 << 16
)


async def main(folder: Path, first: int, told: int) -> None:
    service = RaftService("n1", "127.0.0.1:8300", folder, Numbers(), SETTINGS, World())
    await service.start(True)
    number = first

    def propose() -> None:
        nonlocal number
        mine, number = number, number + 1

        def done(result: object) -> None:
            if isinstance(result, Exception):
                raise result
            os.write(told, b"%d\n" % mine)
            loop.call_soon(propose)

        service.propose(b"%d" % mine, done)

    loop = asyncio.get_running_loop()
    for _ in range(4):
        propose()
    await asyncio.Event().wait()


if __name__ == "__main__":
    told = os.dup(1)
    os.dup2(2, 1)  # the log goes elsewhere
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), told))
