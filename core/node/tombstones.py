"""When the leader lets the tombstones of deleted keys go (protocols/fsm.md section 8).

They keep the index of a listing from going back; a client that has not asked for a quarter of an hour is
taken not to mind. A machine on monotonic seconds: tell `observe` the index of the latest tombstone now and
then, ask `due` at `deadline()`."""

from __future__ import annotations

TTL = 900.0
GRANULARITY = 30.0


class TombstoneClock:
    """The schedule of one leader's term. Every tombstone that the term began with gets the whole time."""

    def __init__(self) -> None:
        self._latest = 0
        self._bins: list[tuple[float, int]] = []  # (when, highest index), in order

    def observe(self, latest: int, now: float) -> None:
        """The latest tombstone is of raft index `latest`: what is new goes when its time is up."""
        if latest > self._latest:
            self._latest = latest
            self._bins.append((now + TTL, latest))

    def deadline(self, now: float) -> float:
        """When to `observe` and to ask `due` again."""
        return min(now + GRANULARITY, self._bins[0][0]) if self._bins else now + GRANULARITY

    def due(self, now: float) -> int:
        """The index up to which tombstones may go now, 0 for none; it is told once."""
        found = 0
        while self._bins and self._bins[0][0] <= now:
            found = self._bins.pop(0)[1]
        return found
