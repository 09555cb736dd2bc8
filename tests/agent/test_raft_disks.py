"""A leader whose disk stalls or is full gives way to one that can write (design/pains.md row 15)."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import Unavailable
from core.metrics import Metrics
from tests.agent.raft_network import Host, Network, run, until
from tests.agent.wal_disk import NO_SPACE, FlakyFiles


class StallingFiles(FlakyFiles):
    """A disk that may stop for as long as a test likes."""

    def __init__(self) -> None:
        super().__init__()
        self.open_gate = threading.Event()
        self.open_gate.set()

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        self.open_gate.wait(20)
        super().write(descriptor, data, offset)


async def cluster(folder: Path, make: Any) -> tuple[Network, Host]:
    net = Network(folder)
    for host in net.hosts.values():
        host.files = make()
        await host.start(metrics=Metrics(time.time()))
    for host in net.hosts.values():
        host.raft.bootstrap(net.configuration())
    leader = await net.leader()
    await leader.raft.apply(b"1")
    await net.same()
    return net, leader


def counted(host: Host, name: str) -> bool:
    counters = host.raft._metrics.snapshot(time.time())["Counters"]  # type: ignore[union-attr]
    return any(name in one["Name"] for one in counters)


def test_a_leader_whose_disk_stalls_gives_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path, StallingFiles)
        loop = asyncio.get_running_loop()
        leader.files.open_gate.clear()
        start = loop.time()
        waiting = [asyncio.create_task(leader.raft.apply(b"w%d" % number)) for number in range(5)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        await until(lambda: any(host.raft.is_leader for host in net.hosts.values() if host is not leader))
        timing = net.settings.timing
        assert loop.time() - start < timing.write_timeout + timing.heartbeat_timeout  # it handed over
        new = next(host for host in net.hosts.values() if host.raft.is_leader)
        await new.raft.apply(b"2")
        term = new.raft.term
        await asyncio.sleep(timing.heartbeat_timeout)
        assert new.raft.term == term and not leader.raft.is_leader
        leader.files.open_gate.set()
        await net.same()
        assert leader.fsm.numbers == new.fsm.numbers and leader.fsm.numbers[-1] == b"2"
        assert counted(leader, "raft.leader.stepped_down")
        await net.stop()

    run(test)
    assert "the log could not be written in time" in "".join(capfd.readouterr())


def test_heartbeats_are_answered_while_a_followers_disk_stalls(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path, StallingFiles)
        slow, quick = net.followers()
        slow.files.open_gate.clear()
        for number in range(20):
            await leader.raft.apply(b"n%d" % number)  # the other follower is enough
        await quick.kill()
        await asyncio.sleep(net.settings.timing.lease_timeout * 2)
        assert leader.raft.is_leader  # because the slow one still answers heartbeats
        slow.files.open_gate.set()
        await leader.raft.apply(b"last")
        await until(lambda: slow.fsm.numbers == leader.fsm.numbers)
        assert leader.led == [True]
        await net.stop()

    run(test)


def test_a_leader_whose_disk_is_full_gives_way(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path, FlakyFiles)
        leader.files.fail_write = leader.files.fail_create = NO_SPACE
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(Unavailable, match=r"leadership lost.*the Raft log cannot be written"):
            await leader.raft.apply(b"2")  # not here, but the others have it
        await until(lambda: any(host.raft.is_leader for host in net.hosts.values() if host is not leader))
        assert loop.time() - start < net.settings.timing.heartbeat_timeout  # it handed over
        new = next(host for host in net.hosts.values() if host.raft.is_leader)
        for number in range(5):
            await new.raft.apply(b"%d" % number)
        await asyncio.sleep(net.settings.timing.heartbeat_timeout * 2)
        assert new.raft.is_leader and counted(leader, "raft.log.write_failed")
        leader.files.fail_write = leader.files.fail_create = 0
        await net.same()
        assert leader.fsm.numbers == [b"1", b"2", *(b"%d" % number for number in range(5))]
        await net.stop()

    run(test)
