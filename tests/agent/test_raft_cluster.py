"""Three RaftServices over real connections: what a cluster must do when servers come, go and move."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.agent.raft_network import Network, run, until


def test_three_elect_a_leader_and_replicate(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        for number in range(50):
            await leader.raft.apply(b"%d" % number)
        await net.same()
        assert all(host.fsm.numbers == [b"%d" % n for n in range(50)] for host in net.hosts.values())
        assert sum(host.led.count(True) for host in net.hosts.values()) == 1
        await net.stop()

    run(test)


def test_a_killed_leader_is_replaced_long_before_the_time_out(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        await leader.raft.apply(b"1")
        loop = asyncio.get_running_loop()
        start = loop.time()
        await leader.kill()
        new = await net.leader()
        took = loop.time() - start
        assert new is not leader and took < net.settings.timing.heartbeat_timeout
        await new.raft.apply(b"2")
        await leader.start()
        await net.leader()
        await net.same()
        assert all(host.fsm.numbers == [b"1", b"2"] for host in net.hosts.values())
        await until(lambda: leader.raft.leader_id == new.name)
        await net.stop()

    run(test)
