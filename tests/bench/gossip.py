"""Gossip in large clusters, simulated from one seed: how an event spreads beside what Serf's convergence
simulator predicts, and how often nodes that live are said to have failed, with Lifeguard and without."""

from __future__ import annotations

from collections.abc import Iterator

from core.gossip.settings import LAN
from tests.sim.gossip_cluster import WITHOUT_LIFEGUARD, false_alarms, spread

SEED = 1
NODES = (1000, 5000)
LOSSES = (0.0, 0.05, 0.25)
# So many nodes, of which so many hear nothing for 16 s at a time; watched for so long.
ALARM_NODES, ALARM_SLOW, ALARM_SECONDS, BUSY, IDLE = 64, 4, 120.0, 16.0, 0.5

Line = tuple[str, str, str, str, str, str]


def rows() -> Iterator[Line]:
    """The table's lines as they become known."""
    for nodes in NODES:
        for loss in LOSSES:
            yield _spread_row(nodes, loss)
    yield from _alarm_rows()


def _spread_row(nodes: int, loss: float) -> Line:
    result = spread(SEED, nodes, loss)
    what = f"event to {nodes:,} nodes, {loss:.0%} of packets lost"
    if not result.complete:
        return what, f"{len(result.times):,} heard it", f"{result.predicted:.1f} s", "-", "-", "misses some"
    took = result.times[-1]
    verdict = "within the prediction" if took <= result.predicted else "later than predicted"
    ratio = f"{took / result.predicted:.2f}"
    detail = f"half by {result.by(0.5):.2f} s, 99 % by {result.by(0.99):.2f} s"
    return what, f"{took:.2f} s", f"{result.predicted:.1f} s predicted", ratio, "-", f"{verdict}; {detail}"


def _alarm_rows() -> Iterator[Line]:
    for name, settings in (("with Lifeguard", LAN), ("without", WITHOUT_LIFEGUARD)):
        alarms = false_alarms(SEED, ALARM_NODES, ALARM_SLOW, ALARM_SECONDS, settings, BUSY, IDLE)
        what = f"false failures, {ALARM_SLOW} of {ALARM_NODES} slow, {name}"
        found = f"{alarms.of_healthy} of healthy nodes"
        yield what, found, "-", "-", "-", f"{alarms.by_healthy} by healthy ones; {alarms.of_slow} of the slow"
