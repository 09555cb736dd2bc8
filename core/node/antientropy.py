"""When the agent looks over the whole catalog entry of its node, and when it only pushes changes.

A full look every minute and up to a second one by chance, longer in large clusters so that the servers'
work grows slower than the cluster; a push of changes as soon as there are any; a full look soon after a
failure, or when a server appears (protocols/rpc.md section 6).

A machine on monotonic seconds: ask `due(now)` at `deadline()`, do what it says, then tell `done`."""

from __future__ import annotations

from math import ceil, log2
from random import Random
from typing import Literal

INTERVAL = 60.0
SERVER_UP = 3.0
RETRY = 15.0
FIRST_RETRY = 0.25
"""After a failure: doubling from the first to the last, so that an agent that starts before its servers
have a leader is there as soon as they have, and one without servers does not trouble the network."""

_SCALE_FROM = 128

Work = Literal["full", "partial"]


def scale(nodes: int) -> int:
    """How many times longer the interval is in a cluster of so many nodes."""
    return 1 if nodes <= _SCALE_FROM else ceil(log2(nodes) - log2(_SCALE_FROM)) + 1


class AntiEntropy:
    """The schedule of one agent."""

    def __init__(self, random: Random, now: float) -> None:
        self.nodes = 1
        self._random = random
        self._full_at = now
        self._changed = False
        self._retry = 0.0  # the last pause after a failure, 0 while all is well
        self._working = False

    def changed(self) -> None:
        """There is something to push."""
        self._changed = True

    def server_up(self, now: float) -> None:
        """A server has come, or there is a leader: have a look within 3 s (at once on a small cluster
        that has failed before), not all agents at the same moment."""
        spread = SERVER_UP * scale(self.nodes) if self.nodes > _SCALE_FROM or not self._retry else 0.0
        self._full_at = min(self._full_at, now + self._random.random() * spread)

    def deadline(self) -> float | None:
        """When to ask `due`; None while work is under way."""
        if self._working:
            return None
        if self._changed and not self._retry:
            return float("-inf")
        return self._full_at

    def due(self, now: float) -> Work | None:
        """What is to be done now."""
        if self._working:
            return None
        work: Work
        if now >= self._full_at:
            work = "full"
        elif self._changed and not self._retry:
            work = "partial"
        else:
            return None
        self._working, self._changed = True, False
        return work

    def done(self, work: Work, ok: bool, now: float) -> None:
        """The work is over. A failure of either kind is mended by a full look."""
        self._working = False
        if ok:
            self._retry = 0.0
            if work == "full":
                interval = INTERVAL * scale(self.nodes)
                self._full_at = now + interval + self._random.random() * interval
        else:
            self._retry = min(RETRY, self._retry * 2 or FIRST_RETRY)
            self._full_at = now + self._retry * (1 + self._random.random() * (self.nodes > 1))
