"""Three RaftServices over real connections: what a cluster must do when servers come, go and move."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.errors import NoLeader, Unavailable
from tests.agent.raft_network import CALM, Network, run, until


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


def test_all_servers_come_back_with_new_addresses(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        await leader.raft.apply(b"1")
        await net.same()
        await net.stop()
        for number, host in enumerate(net.hosts.values()):
            host.host = f"127.{net.subnet}.{100 + number}"
            await host.start()
        leader = await net.leader()
        await leader.raft.apply(b"2")
        await net.same()
        assert all(host.fsm.numbers == [b"1", b"2"] for host in net.hosts.values())
        own = leader.raft.configuration.get(leader.name)
        assert own is not None and own.address == leader.address
        assert leader.raft.leader_address == leader.address
        await net.stop()

    run(test)


def test_one_server_moves_while_the_others_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        moving = net.followers()[0]
        await moving.stop()
        await leader.raft.apply(b"1")
        moving.host = f"127.{net.subnet}.100"
        await moving.start()
        for host in net.hosts.values():
            host.transport.addresses_changed()
        await until(lambda: moving.fsm.numbers == [b"1"])
        await net.stop()

    run(test)


def test_leadership_is_handed_over_without_a_gap(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        await leader.raft.apply(b"1")
        target = net.followers()[1]
        assert leader.raft.transfer(target.name) == target.name
        await until(lambda: target.raft.is_leader, 1)
        await target.raft.apply(b"2")
        await until(lambda: leader.raft.leader_id == target.name)
        await net.same()
        assert leader.led == [True, False]
        await net.stop()

    run(test)


def test_a_follower_far_behind_gets_a_snapshot_while_heartbeats_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path, settings=CALM)
        leader = await net.start()
        behind = net.followers()[0]
        await behind.stop()
        for _ in range(3):
            for _ in range(10):
                await leader.raft.apply(bytes(300_000))
            await leader.raft.snapshot()
        assert leader.raft.node.log.base > 3
        term = leader.raft.term
        await behind.start()
        await until(lambda: behind.raft.applied_index == leader.raft.applied_index)
        assert behind.fsm.numbers == leader.fsm.numbers and behind.raft.node.snapshot_index > 3
        assert (leader.raft.term, behind.raft.configuration) == (term, leader.raft.configuration)
        await leader.raft.apply(b"more")
        await net.same()
        await behind.stop()
        await behind.start()  # what it stored is whole
        await net.same()
        assert behind.fsm.numbers == leader.fsm.numbers
        await net.stop()

    run(test)


def test_memory_only_servers_send_snapshots_too() -> None:
    async def test() -> None:
        net = Network(None, "abcd")
        for host in net.hosts.values():
            await host.start()
        for name in "abc":
            net[name].raft.bootstrap(net.configuration("abc"))
        await until(lambda: len(net.leaders) == 1)
        leader = net.leaders[0]
        for _ in range(2):
            for number in range(40):
                await leader.raft.apply(b"%d" % number)
            await leader.raft.snapshot()
        assert leader.raft.node.log.base > 0
        await leader.raft.change(leader.raft.configuration.with_nonvoter("d", net["d"].address))
        await until(lambda: net["d"].fsm.numbers == leader.fsm.numbers)
        await leader.raft.change(leader.raft.configuration.with_voter("d", net["d"].address))
        await leader.raft.change(leader.raft.configuration.without(net.followers()[0].name))
        assert len(leader.raft.configuration.voters) == 3
        await net.stop()

    run(test)


def test_nothing_happens_when_connections_break_but_the_leader_lives(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        term = leader.raft.term
        for _ in range(20):
            for host in net.hosts.values():
                for inbound in list(host.transport._inbound):
                    inbound.abort()
            await asyncio.sleep(0.02)
        await leader.raft.apply(b"1")
        await net.same()
        assert (leader.raft.term, leader.raft.is_leader, leader.led) == (term, True, [True])
        await net.stop()

    run(test)


def test_without_a_majority_writes_fail_soon_and_work_again_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        others = net.followers()
        for host in others:
            await host.kill()
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable):
                await leader.raft.apply(b"lost?")
        with pytest.raises(NoLeader):
            await leader.raft.verify_leader()
        await others[0].start()
        new = await net.leader()
        await new.raft.apply(b"2")
        assert new.fsm.numbers[-1] == b"2"
        await net.stop()

    run(test)
