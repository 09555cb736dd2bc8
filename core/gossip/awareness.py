"""How healthy we think we are ourselves: Lifeguard's score (protocols/gossip.md 4.3)."""

from __future__ import annotations


class Awareness:
    """0 is healthy. The higher the score, the more time others get to answer our probes."""

    def __init__(self, limit: int) -> None:
        self._worst = limit - 1
        self.score = 0

    def add(self, delta: int) -> None:
        """A bad sign (positive) or a good one (negative)."""
        self.score = min(max(self.score + delta, 0), self._worst)

    def scale(self, seconds: float) -> float:
        """A time-out, longer when we are not well."""
        return seconds * (self.score + 1)
