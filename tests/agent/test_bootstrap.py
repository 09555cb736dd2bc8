"""The beginning of a cluster, as protocols/raft.md section 8 tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from agent.bootstrap import Bootstrap
from core.errors import Unsent
from core.gossip.member import ALIVE, FAILED
from core.node.servers import ServerFacts
from tests.agent.raft_network import Host, Network, run, until

QUICK = (0.001,) * 20


def facts(host: Host, expect: int = 3, status: int = ALIVE, **more: object) -> ServerFacts:
    found = ServerFacts(host.name, host.name, "dc1", host.host, host.network.port, status, expect)
    return structs.replace(found, **more)


class Town:
    """Hosts that know each other, and answer Status.Peers once they are up."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.known = {name: facts(host) for name, host in net.hosts.items()}
        self.asked: list[str] = []

    async def peers(self, server: ServerFacts) -> list[str]:
        self.asked.append(server.id)
        host = self.net[server.id]
        if host.listener is None:
            raise Unsent("connection refused")
        return [one.address for one in host.raft.configuration.servers]

    def bootstrap(self, name: str, see: Callable[[], Sequence[ServerFacts]] | None = None) -> Bootstrap:
        return Bootstrap(
            3, self.net[name].raft, see or (lambda: list(self.known.values())), self.peers, QUICK
        )


def test_the_expected_servers_begin_with_the_same_entry(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        town = Town(net)
        starts = []
        for name in "bca":
            await net[name].start()
            starts.append(town.bootstrap(name, lambda: sorted(town.known.values(), key=id)))
            starts[-1].consider()  # the first ones ask servers that are not up yet
        await net.leader()
        for host in net.hosts.values():
            await until(lambda host=host: host.raft.last_index >= 2)  # type: ignore[misc]
        entries = {host.raft.node.log.slice(1, 1)[0].data for host in net.hosts.values()}
        assert entries == {net.configuration("abc").encode()}
        for start in starts:
            start.consider()
            assert start.over
        await net.stop()

    run(test)


def test_a_server_of_an_existing_cluster_stops_it(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path, "abcd")
        town = Town(net)
        for host in net.hosts.values():
            await host.start()
        for name in "abc":
            net[name].raft.bootstrap(net.configuration("abc"))
        start = town.bootstrap("d")
        start.consider()
        await until(lambda: start.over)
        assert net["d"].raft.is_empty
        await net.stop()

    run(test)


def test_it_waits_for_all_and_for_the_same_expectation(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        town = Town(net)
        for host in net.hosts.values():
            await host.start()
        seen: list[ServerFacts] = []
        start = town.bootstrap("a", lambda: seen)
        a, b, c = town.known.values()
        for seen in (  # noqa: B007  # the servers of `start`
            [a, b],
            [a, b, facts(net["c"], status=FAILED)],
            [a, b, facts(net["c"], expect=5)],
            [a, b, facts(net["c"], bootstrap=True)],
            [a, b, facts(net["c"], expect=0, nonvoter=True)],
        ):
            start.consider()
            await asyncio.sleep(0.01)
            assert net["a"].raft.is_empty and not town.asked
        seen = [c, b, a]
        start.consider()
        await until(lambda: start.over)
        assert net["a"].raft.configuration == net.configuration("abc")
        await net.stop()

    run(test)


def test_only_as_many_as_expected_begin(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path, "abcd")
        town = Town(net)
        for host in net.hosts.values():
            await host.start()
        starts = [town.bootstrap(name) for name in net.hosts]
        for start in starts:
            start.consider()
        await until(lambda: len(net.leaders) == 1)
        assert net.leaders[0].raft.configuration == net.configuration("abc")
        assert net["d"].raft.is_empty
        await net.stop()

    run(test)
