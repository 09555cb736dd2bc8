"""Replicated proposals per second: `python tests/bench/raft_cluster.py [seconds] [clients]`.

Three processes on loopback addresses with data directories in the current one (or $TMPDIR). The
leader's clients propose again when they were answered. Then the leader is killed, nine times, and it
is measured how long the others need for the next acknowledged proposal."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.dial import Dialer
from agent.raft import RaftService, RaftSettings
from agent.raft_transport import RaftTransport, configured
from agent.rpc import RAFT, RpcLimits, RpcListener
from agent.world import World
from core.raft.configuration import Configuration, Server
from core.store import commands
from core.store.fsm import FSM

NAMES = ("a", "b", "c")


async def serve(name: str, folder: Path, net: str) -> None:
    """One server; says on stdout when it leads, and proposes while a file says so."""
    loop = asyncio.get_running_loop()
    addresses = {other: f"127.{net}.{number + 1}" for number, other in enumerate(NAMES)}
    transport = RaftTransport(
        Dialer(loop, None), lambda server, address: configured(server, f"{addresses[server]}:8300", "dc1")
    )
    address = f"{addresses[name]}:8300"
    raft = RaftService(name, address, folder / name, FSM(), RaftSettings(), World(), transport=transport)
    await raft.start(False)
    listener = RpcListener(
        loop, addresses[name], 8300, {RAFT: transport.protocol}, None, RpcLimits(max_conns_per_client=0)
    )
    listener.open()
    if raft.is_empty:
        raft.bootstrap(Configuration(tuple(Server(other, f"{addresses[other]}:8300") for other in NAMES)))

    def leads(leading: bool) -> None:
        if leading:
            raft.propose(commands.kvs("set", b"first", name.encode()), acknowledged)

    def acknowledged(result: object) -> None:
        if not isinstance(result, Exception):
            print(f"leads {time.monotonic()}", flush=True)

    raft.on_leader(leads)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        clients, seconds = line.split()
        await load(raft, int(clients), float(seconds))


async def load(raft: RaftService, clients: int, seconds: float) -> None:
    latencies: list[float] = []
    finished = asyncio.get_running_loop().create_future()
    end = time.perf_counter() + seconds
    left = clients

    def client(number: int) -> None:
        start = time.perf_counter()

        def done(result: object) -> None:
            nonlocal left
            now = time.perf_counter()
            latencies.append(now - start)
            if isinstance(result, Exception):
                raise result
            if now < end:
                asyncio.get_running_loop().call_soon(client, number)
                return
            left -= 1
            if not left:
                finished.set_result(None)

        raft.propose(commands.kvs("set", b"key-%d" % (number % 1000), b"x" * 64), done)

    begin, cpu = time.perf_counter(), time.process_time()
    for number in range(clients):
        client(number)
    await finished
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    latencies.sort()
    count = len(latencies)
    rate, median, late = count / took, latencies[count // 2], latencies[-count // 100]
    print(
        f"{clients} clients: {rate:.0f}/s, p50 {median * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms, "
        f"leader's CPU {used / count * 1e6:.0f} us each, mean write {raft.log.mean * 1e6:.0f} us",
        flush=True,
    )


class Child:
    def __init__(self, name: str, folder: Path, net: str) -> None:
        self.name, self.folder, self.net = name, folder, net
        self.leads = asyncio.Event()
        self.at = 0.0

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            self.name,
            str(self.folder),
            self.net,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.reading = asyncio.create_task(self.read())
        self.told = asyncio.Event()

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith(b"leads "):
                self.at = float(line.split()[1])
                self.leads.set()
            elif b"clients" in line:
                print(line.decode().rstrip())
                self.told.set()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.leads.clear()


async def leader(children: list[Child]) -> Child:
    tasks = {asyncio.create_task(child.leads.wait()): child for child in children}
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    return tasks[done.pop()]


async def measure(folder: Path, seconds: float, clients: list[int]) -> None:
    net = f"{Random().randrange(20, 250)}.{Random().randrange(250)}"
    children = [Child(name, folder, net) for name in NAMES]
    start = time.monotonic()
    for child in children:
        await child.start()
    first = await leader(children)
    print(f"first write after the start of three processes: {first.at - start:.2f} s")
    for count in clients:
        first.told.clear()
        assert first.process.stdin is not None
        first.process.stdin.write(b"%d %f\n" % (count, seconds))
        await first.told.wait()
    took = []
    for _ in range(9):
        first.process.stdin.write(b"32 30\n")
        await asyncio.sleep(0.7)
        killed = time.monotonic()
        first.kill()
        old, first = first, await leader([child for child in children if child is not first])
        took.append(first.at - killed)
        await old.process.wait()
        await old.start()
        await asyncio.sleep(2.5)  # it starts, is found and catches up
    print("next write after kill -9 under load:", " ".join(f"{one:.2f}" for one in sorted(took)), "s")
    for child in children:
        child.kill()
        await child.process.wait()


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(serve(sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
        return
    numbers = [float(item) for item in sys.argv[1:]]
    base = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR") or "."))
    try:
        asyncio.run(
            measure(base, numbers[0] if numbers else 3.0, [int(n) for n in numbers[1:]] or [1, 32, 200])
        )
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
