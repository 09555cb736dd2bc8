"""Lamport clocks: which of two things said is the newer one (protocols/gossip.md section 6)."""

from __future__ import annotations

LAST = 2**64 - 1  # what travels is a u64


class LamportClock:
    """Counts what happens here, and never falls behind what is heard. It stops at the last u64: a peer
    that claims to be there must not make us send numbers that have no encoding."""

    __slots__ = ("_time",)

    def __init__(self) -> None:
        self._time = 1

    @property
    def time(self) -> int:
        """The current time."""
        return self._time

    def increment(self) -> int:
        """Move on by one; the time before."""
        before = self._time
        self._time = min(before + 1, LAST)
        return before

    def witness(self, heard: int) -> None:
        """Be later than `heard`."""
        if heard >= self._time:
            self._time = min(heard + 1, LAST)
