"""How long a suspect has to defend itself, and the other formulas that grow with the cluster
(protocols/gossip.md 4.5, 4.8, 4.9)."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, log, log2, log10


@lru_cache(1024)
def retransmit_limit(mult: int, nodes: int) -> int:
    """How often a message is sent in a cluster of `nodes`."""
    return mult * ceil(log10(nodes + 1))


@lru_cache(1024)
def suspicion_timeout(mult: int, nodes: int, interval: float) -> float:
    """The shortest time (seconds) between suspicion and death."""
    scale = floor(max(1.0, log10(max(1.0, nodes))) * 1000)
    return mult * scale * interval / 1000


@lru_cache(1024)
def push_pull_interval(interval: float, nodes: int) -> float:
    """The time between two push/pulls: it grows with the cluster, since so does the state."""
    return interval if nodes <= 32 else interval * (ceil(log2(nodes) - log2(32)) + 1)


class Suspicion:
    """The patience with one suspect. It starts at `longest` and shrinks to `shortest` with each confirmation
    by another node, up to `wanted` of them."""

    def __init__(self, accuser: str, wanted: int, shortest: float, longest: float, now: float) -> None:
        self.wanted, self.shortest, self.longest, self.start = wanted, shortest, longest, now
        self.deadline = now + (longest if wanted > 0 else shortest)
        self.confirmations = 0
        self._accusers = {accuser}

    def confirm(self, accuser: str) -> bool:
        """Counts an accuser; False when that is no news. `deadline` may have come closer."""
        if self.confirmations >= self.wanted or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        self.confirmations += 1
        self.deadline = self.start + patience(self.confirmations, self.wanted, self.shortest, self.longest)
        return True

    def postpone(self, seconds: float) -> None:
        """The clock stood still for so long."""
        self.start += seconds
        self.deadline += seconds


def patience(confirmations: int, wanted: int, shortest: float, longest: float) -> float:
    """Seconds from suspicion to death after so many confirmations."""
    share = log(confirmations + 1) / log(wanted + 1)
    return max(shortest, floor((longest - share * (longest - shortest)) * 1000) / 1000)
