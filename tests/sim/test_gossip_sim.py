"""Gossip in the large, on pretend time: how fast an event spreads, how seldom the healthy look failed.
`make bench` prints the table with 5,000 nodes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.gossip.settings import LAN
from tests.sim.gossip_cluster import WITHOUT_LIFEGUARD, World, false_alarms, predicted_rounds, spread


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.25])
def test_an_event_reaches_a_thousand_nodes_as_fast_as_predicted(loss: float) -> None:
    result = spread(seed=1, nodes=1000, loss=loss)
    assert result.complete
    assert result.times[-1] <= result.predicted
    assert result.by(0.5) < result.by(0.99) < result.times[-1]


def test_prediction_is_that_of_the_convergence_simulator() -> None:
    """Read off its graph: 0.2 s, fan-out 3."""
    assert predicted_rounds(30, 3, 0.0) == 5
    assert predicted_rounds(1000, 3, 0.0) == 6
    assert predicted_rounds(1000, 3, 0.25) == 8
    assert predicted_rounds(5000, 3, 0.05) == 7


def test_gossip_is_what_spreads_events() -> None:
    """The test of the test: with a fan-out of one and no piggyback on probes it is too slow."""
    slow = replace(LAN, gossip_nodes=1, probe_interval=0.0)
    result = spread(seed=1, nodes=300, loss=0.0, settings=slow)
    assert result.times[-1] > predicted_rounds(300, 3, 0.0) * LAN.gossip_interval


def test_lifeguard_keeps_slow_nodes_from_accusing_healthy_ones() -> None:
    """Four of 32 nodes hear nothing for 16 seconds at a time."""
    slow = {"seed": 3, "nodes": 32, "slow": 4, "seconds": 60.0, "busy": 16.0, "idle": 0.5}
    guarded = false_alarms(settings=LAN, **slow)  # type: ignore[arg-type]
    bare = false_alarms(settings=WITHOUT_LIFEGUARD, **slow)  # type: ignore[arg-type]
    assert bare.of_healthy >= 20
    assert guarded.of_healthy * 10 <= bare.of_healthy
    assert guarded.by_healthy == 0


def test_one_seed_one_story() -> None:
    stories = []
    for _ in range(2):
        world = World(5, loss=0.1)
        hosts = world.build(8)
        world.kill(hosts[3])
        world.run(30)
        stories.append((world.packets, world.bytes, [host.events for host in hosts]))
    assert stories[0] == stories[1]


def test_a_killed_node_is_noticed_and_not_too_soon() -> None:
    """By all of five, and never sooner than the shortest suspicion, which two confirmations bring about."""
    took = []
    for seed in range(20):
        world = World(seed)
        hosts = world.build(5)
        world.run(1 + seed / 10)
        world.kill(hosts[4])
        rest = hosts[:4]
        took.append(world.until(lambda rest=rest: all(h.status("n4") == "failed" for h in rest), 10))  # type: ignore[misc]
        assert all(host.of_kind("failed") == ["n4"] for host in rest)
    assert min(took) >= 4.0
    assert sorted(took)[len(took) // 2] <= 6.0
    assert max(took) <= 8.0
