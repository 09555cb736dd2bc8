"""What the Raft service costs beside the fsync: `python tests/bench/raft_batch.py [--memory] [seconds]`.

Clients that propose again when they were answered, 1, 32 and 200 of them, on a data directory in
the current one (or $TMPDIR), next to the bare pwrite + fdatasync of the same number of bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.raft import RaftService, RaftSettings
from agent.world import World

COMMAND = b"\x02" + b"x" * 250


class Nothing:
    """A state machine without state."""

    def apply(self, index: int, data: bytes, extensions: bytes, term: int) -> object:
        return True

    def snapshot(self) -> Iterator[bytes]:
        yield b""

    def load(self, data: bytes) -> Generator[None, None, None]:
        yield

    def adopt(self, state: None) -> Iterator[None]:
        return iter(())


def bare(folder: Path, rounds: int = 1000) -> float:
    """Median seconds of one pwrite and fdatasync into written blocks."""
    path = folder / "bare"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(1 << 20), 0)
    os.fsync(descriptor)
    times = []
    for number in range(rounds):
        start = time.perf_counter()
        os.pwrite(descriptor, bytes(300), number * 300)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - start)
    os.close(descriptor)
    path.unlink()
    return sorted(times)[rounds // 2]


async def run(folder: Path | None, clients: int, seconds: float) -> tuple[float, float, float]:
    """(proposals per second, CPU seconds per proposal, median latency)."""
    service = RaftService("n1", "127.0.0.1:8300", folder, Nothing(), RaftSettings(), World())
    await service.start(True)
    latencies: list[float] = []
    finished = asyncio.get_running_loop().create_future()
    end = time.perf_counter() + seconds
    left = clients

    def client() -> None:
        start = time.perf_counter()

        def done(result: object) -> None:
            nonlocal left
            now = time.perf_counter()
            latencies.append(now - start)
            if isinstance(result, Exception):
                raise result
            if now < end:
                asyncio.get_running_loop().call_soon(client)
                return
            left -= 1
            if not left:
                finished.set_result(None)

        service.propose(COMMAND, done)

    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(clients):
        client()
    await finished
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    await service.stop()
    latencies.sort()
    return len(latencies) / took, used / len(latencies), latencies[len(latencies) // 2]


def main() -> None:
    memory = "--memory" in sys.argv
    numbers = [float(item) for item in sys.argv[1:] if not item.startswith("-")]
    seconds = numbers[0] if numbers else 2.0
    base = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR") or "."))
    try:
        print(f"bare pwrite + fdatasync: {bare(base) * 1e6:.0f} us")
        print(f"{'clients':>8} {'per second':>11} {'CPU us each':>12} {'p50 us':>8}")
        for clients in (1, 32, 200):
            folder = None if memory else base / str(clients)
            rate, cpu, median = uvloop.run(run(folder, clients, seconds))
            print(f"{clients:>8} {rate:>11.0f} {cpu * 1e6:>12.1f} {median * 1e6:>8.0f}")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
