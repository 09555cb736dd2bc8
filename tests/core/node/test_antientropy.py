from __future__ import annotations

from random import Random

import pytest

from core.node.antientropy import INTERVAL, RETRY, AntiEntropy, scale


@pytest.mark.parametrize(("nodes", "factor"), [(1, 1), (128, 1), (129, 2), (256, 2), (257, 3), (4096, 6)])
def test_large_clusters_are_looked_over_less_often(nodes: int, factor: int) -> None:
    assert scale(nodes) == factor


def looked(seed: int = 1) -> AntiEntropy:
    """A machine that has looked once, at 0."""
    machine = AntiEntropy(Random(seed), 0.0)
    assert machine.due(0.0) == "full"
    machine.done("full", True, 0.0)
    return machine


def test_a_full_look_at_once_and_then_every_minute_or_two() -> None:
    machine = looked()
    now = 0.0
    for _ in range(20):
        deadline = machine.deadline()
        assert deadline is not None
        assert now + INTERVAL <= deadline <= now + 2 * INTERVAL
        assert machine.due(deadline - 0.001) is None
        assert machine.due(deadline) == "full"
        assert machine.due(deadline) is None  # under way
        assert machine.deadline() is None
        now = deadline + 1
        machine.done("full", True, now)


def test_changes_are_pushed_at_once_and_once() -> None:
    machine = looked()
    machine.changed()
    machine.changed()
    assert machine.deadline() == float("-inf")
    assert machine.due(5.0) == "partial"
    machine.changed()  # while the push is under way
    machine.done("partial", True, 5.0)
    assert machine.due(5.0) == "partial"
    machine.done("partial", True, 5.0)
    assert machine.due(5.0) is None


def test_a_failure_is_followed_by_full_looks_farther_and_farther_apart() -> None:
    machine = looked()
    machine.changed()
    assert machine.due(1.0) == "partial"
    machine.done("partial", False, 1.0)
    now, pauses = 1.0, []
    for _ in range(12):
        machine.changed()
        deadline = machine.deadline()
        assert deadline is not None
        assert machine.due(deadline - 0.01) is None  # changes wait for the look
        pauses.append(deadline - now)
        now = deadline
        assert machine.due(now) == "full"
        machine.done("full", False, now)
    assert pauses[0] < 1
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRY
    machine.due(now + RETRY)
    machine.done("full", True, now + RETRY)
    assert machine.due(now + RETRY + 1) is None


def test_a_server_makes_it_look_soon() -> None:
    machine = looked()
    machine.server_up(10.0)
    deadline = machine.deadline()
    assert deadline is not None and 10.0 <= deadline <= 13.0
    failed = AntiEntropy(Random(1), 0.0)
    failed.due(0.0)
    for _ in range(10):
        failed.done("full", False, 0.0)
    failed.server_up(1.0)
    assert failed.due(1.0) == "full"


def test_in_a_large_cluster_agents_do_not_look_at_the_same_moment() -> None:
    deadlines = set()
    for seed in range(50):
        machine = looked(seed)
        machine.nodes = 4096
        machine.server_up(10.0)
        deadline = machine.deadline()
        assert deadline is not None and 10.0 <= deadline <= 10.0 + 3 * 6
        deadlines.add(round(deadline))
    assert len(deadlines) > 8
