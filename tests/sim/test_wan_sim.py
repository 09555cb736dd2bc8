"""The WAN in the large, on pretend time: how soon datacenters know each other, and what routes do when
links are slow in one direction, or cut."""

from __future__ import annotations

import math
import random

import pytest

from core.errors import Unavailable
from core.gossip.settings import WAN
from core.node.wan import NO_PATH, NONE_REACHABLE
from tests.sim.gossip_cluster import Host, predicted_rounds
from tests.sim.wan_cluster import Wan

FAR = 0.15  # seconds to the other side of the planet


def _planet(seed: int) -> dict[tuple[int, int], float]:
    """One-way latencies between 20 places, up to FAR."""
    rng = random.Random(seed)
    places = {number: (rng.random(), rng.random()) for number in range(1, 21)}
    return {
        (a, b): 0.005 + (FAR - 0.005) * math.dist(one, other) / math.sqrt(2)
        for a, one in places.items()
        for b, other in places.items()
    }


def _bound(nodes: int, loss: float) -> float:
    """Seconds for news of newcomers: the join is a stream there and back, then it is an epidemic, where each
    round waits for the next tick and travels as far as it may."""
    rounds = predicted_rounds(nodes, WAN.gossip_nodes, loss)
    return 2.2 * FAR + rounds * (WAN.gossip_interval + 1.1 * FAR) + 1.0  # until those beside it are told


def _exchange() -> float:
    """Seconds until everyone has exchanged all it knows with someone. The interval grows beyond 32 nodes
    by the logarithm of their number (protocols/gossip.md 4.9)."""
    return WAN.push_pull_interval * (math.ceil(math.log2(60) - math.log2(32)) + 1)


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_twentieth_datacenter_is_known_as_soon_as_predicted(loss: float) -> None:
    ways = _planet(1)
    wan = Wan(1, 20, 3, lambda a, b: ways[a, b], loss)
    for name in wan.names[:-1]:
        first = wan.start(name)[0]
        wan.join(first, wan.hosts["dc1"][0])
        wan.world.run(2)
    wan.world.until(wan.agree, 120)
    wan.world.run(10)
    known = wan.all_hosts
    newcomers = wan.start("dc20")
    wan.join(newcomers[0], wan.hosts["dc7"][1])
    wan.world.run(_bound(60, loss))
    # News are told a bounded number of times, so that somebody may miss one, with luck as bad as losses
    # make it: what is left comes with the next exchange.
    told = [host.status(one.name) == "alive" for host in known for one in newcomers]
    assert sum(told) >= 0.98 * len(told), sum(told) / len(told)
    for one in newcomers:  # by way of the one that joined
        assert set(one.statuses()) >= {host.name for host in known}
    wan.world.until(wan.agree, _exchange())
    for host in wan.all_hosts:
        router = wan.router(host)
        assert set(router.datacenters) == set(wan.names)
        assert all(router.target(name).datacenter == name for name in wan.names if name != router.own)


def test_twenty_datacenters_at_once() -> None:
    """They start together, each knowing one server of the one before it. What packets have no room for
    is exchanged whole, once in the interval of push and pull."""
    ways = _planet(2)
    wan = Wan(2, 20, 3, lambda a, b: ways[a, b], loss=0.02)
    for number, name in enumerate(wan.names):
        first = wan.start(name)[0]
        if number:
            wan.join(first, wan.hosts[wan.names[number - 1]][0])
    took = wan.world.until(wan.agree, 300, step=0.5)
    assert took <= _exchange() + _bound(60, 0.02), took


# Asymmetric: the way from the second to the third is a satellite, the way back a cable.
_WAYS = {(1, 2): 0.02, (2, 1): 0.03, (1, 3): 0.08, (3, 1): 0.05, (2, 3): 0.25, (3, 2): 0.06}


@pytest.fixture
def three() -> Wan:
    wan = Wan(3, 3, 3, lambda a, b: _WAYS[a, b], loss=0.01)
    for name in wan.names:
        first = wan.start(name)[0]
        if name != "dc1":
            wan.join(first, wan.hosts["dc1"][0])
    wan.world.until(wan.agree, 120)
    wan.world.run(300)  # coordinates find their places
    return wan


def _place(name: str) -> str:
    return name.rpartition(".")[2]


def _detected() -> float:
    """Seconds until a silent server is known to have failed: it is probed in turn by eight others, which
    suspect it for as long as the timing says at most, and tell."""
    probe = 9 * WAN.probe_interval * WAN.awareness_max_multiplier
    shortest = WAN.suspicion_mult * max(1.0, math.log10(9)) * WAN.probe_interval
    return probe + WAN.suspicion_max_timeout_mult * shortest


def _fails(wan: Wan, host: Host, datacenter: str) -> str:
    try:
        wan.router(host).target(datacenter)
    except Unavailable as error:
        return error.text
    return ""


def test_the_nearest_datacenter_is_that_with_the_shortest_way_there_and_back(three: Wan) -> None:
    for host in three.hosts["dc1"]:
        assert three.nearest(host) == ["dc2", "dc3"]
    for host in three.hosts["dc3"]:  # 130 ms there and back, against 310 ms
        assert three.nearest(host) == ["dc1", "dc2"]
    for host in three.all_hosts:
        assert not host.of_kind("failed"), host.name


def test_a_cut_between_two_is_bridged_by_the_third(three: Wan) -> None:
    """Others are asked to probe, so gossip sees no failure; a call that fails goes to the next server."""
    three.world.cut = lambda source, target: {_place(source), _place(target)} == {"dc1", "dc3"}
    three.world.run(_detected())
    for host in three.all_hosts:
        assert all(status == "alive" for status in host.statuses().values()), host.statuses()
    host = three.hosts["dc1"][0]
    router = three.router(host)
    tried = []
    for _ in range(3):
        target = router.target("dc3")
        tried.append(target.name)
        router.failed(target)
    assert sorted(tried) == ["s1", "s2", "s3"]


@pytest.mark.parametrize("both", [True, False], ids=["both ways", "deaf"])
def test_a_datacenter_is_cut_off_and_returns(three: Wan, both: bool) -> None:
    def cut(source: str, target: str) -> bool:
        ends = (_place(source), _place(target))
        return ends[0] != ends[1] and (ends[1] == "dc3" or (both and ends[0] == "dc3"))

    rest = [*three.hosts["dc1"], *three.hosts["dc2"]]
    three.world.cut = cut
    took = three.world.until(
        lambda: all(_fails(three, host, "dc3") == NONE_REACHABLE for host in rest), _detected()
    )
    assert took >= WAN.suspicion_mult * WAN.probe_interval
    assert all(host.statuses()[other.name] == "alive" for host in rest for other in rest)
    assert all(_fails(three, host, "dc9") == NO_PATH for host in rest)
    assert all(not _fails(three, host, "dc1") for host in three.hosts["dc2"])
    if both:
        lost = three.hosts["dc3"]
        three.world.until(
            lambda: all(_fails(three, host, name) for host in lost for name in ("dc1", "dc2")), _detected()
        )
        assert all(host.statuses()[other.name] == "alive" for host in lost for other in lost)
    three.world.cut = None
    # Whoever failed is called again, one of them every reconnect interval, by chance.
    three.world.until(three.agree, 20 * WAN.reconnect_interval, step=1.0)
    for host in three.all_hosts:
        router = three.router(host)
        assert all(router.target(name).datacenter == name for name in three.names if name != router.own)
