"""User events and queries once each, whatever way and however often they come (protocols/gossip.md 7.3, 7.5).

A ring of slots, one per Lamport time modulo its size. What is older than the ring is dropped: it cannot
be told from what was delivered before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

MAX_PER_TIME = 1024  # nodes that speak at the same Lamport time; a liar can invent any number

K = TypeVar("K")


class Ring(Generic[K]):
    """What has been seen at each of the last Lamport times: an event's (name, payload), or a query's id."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots: dict[int, tuple[int, list[K]]] = {}  # slot -> Lamport time, keys
        self.minimum = 0  # what is older happened before we came

    def is_new(self, ltime: int, key: K, current: int) -> bool:
        """Whether it must be delivered; remembers it. `current` is the time of the clock after witnessing."""
        if ltime < self.minimum or (current > self._size and ltime < current - self._size):
            return False
        slot = ltime % self._size
        known = self._slots.get(slot)
        if known is None or known[0] != ltime:
            self._slots[slot] = (ltime, [key])
            return True
        if key in known[1] or len(known[1]) >= MAX_PER_TIME:
            return False
        known[1].append(key)
        return True

    def __iter__(self) -> Iterator[tuple[int, list[K]]]:
        """All that is remembered: Lamport time, keys."""
        return iter(self._slots.values())
