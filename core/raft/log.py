"""The log as the machine sees it: terms of all entries, the newest entries themselves, a reader for the rest.

    dropped | base |  on disk only  |  tail, in memory  | last
                     first .................................

The entry at `base` is gone, its term is known: a follower's previous entry may be compared with it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from core.raft.messages import Entry

TAIL_ENTRIES = 1024
TAIL_BYTES = 8 << 20


class Reader(Protocol):
    """Where entries that left the tail can be read again."""

    def read(self, first: int, last: int) -> list[Entry]:
        """Entries `first` to `last`, both included; all of them were appended and not dropped."""
        ...


class Log:
    """Not durable by itself: the node says in its Ready what must be written."""

    __slots__ = (
        "_bytes",
        "_reader",
        "_runs",
        "_tail",
        "_tail_first",
        "base",
        "base_term",
        "last",
        "last_term",
    )

    def __init__(
        self,
        reader: Reader,
        base: int = 0,
        base_term: int = 0,
        last: int = 0,
        runs: Sequence[tuple[int, int]] = (),
    ) -> None:
        """`runs` are (first index, term) for every change of term in (base, last]."""
        self._reader = reader
        self._runs = list(runs)
        self._tail: list[Entry] = []
        self._tail_first = max(last, base) + 1
        self._bytes = 0
        self.base = base
        self.base_term = base_term
        self.last = max(last, base)
        self.last_term = self._runs[-1][1] if self._runs else base_term

    @property
    def first(self) -> int:
        """Index of the oldest entry that can be read (base + 1, also when the log is empty)."""
        return self.base + 1

    def term(self, index: int) -> int | None:
        """Term of an entry in the log or of the base; None when the log does not know it."""
        runs = self._runs
        if index > self.last or index < self.base:
            return None
        if index == self.base:
            return self.base_term
        if runs[-1][0] <= index:
            return runs[-1][1]
        return runs[bisect_right(runs, index, key=_first) - 1][1]

    def append(self, entries: list[Entry]) -> None:
        """Add entries that follow `last` without a gap."""
        for entry in entries:
            if entry.term != self.last_term or not self._runs:
                self._runs.append((entry.index, entry.term))
                self.last_term = entry.term
            self._bytes += len(entry.data or b"")
        self._tail += entries
        self.last += len(entries)

    def truncate(self, first: int) -> None:
        """Drop entries from `first` on (first > base)."""
        if first > self.last:
            return
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        if first <= self._tail_first:
            self._tail, self._tail_first, self._bytes = [], first, 0
        else:
            dropped = self._tail[first - self._tail_first :]
            self._bytes -= sum(len(entry.data or b"") for entry in dropped)
            del self._tail[first - self._tail_first :]
        self.last = first - 1
        self.last_term = self._runs[-1][1] if self._runs else self.base_term

    def slice(self, first: int, last: int, max_bytes: int = 1 << 62) -> list[Entry]:
        """Entries `first` to `last`, cut when their payload passes `max_bytes`; at least one if any."""
        start = self._tail_first
        if first >= start:
            entries = self._tail[first - start : last - start + 1]
        else:
            entries = self._reader.read(first, min(last, start - 1))
            if last >= start:
                entries += self._tail[: last - start + 1]
        total = 0
        for count, entry in enumerate(entries):
            total += len(entry.data or b"")
            if total > max_bytes and count:
                return entries[:count]
        return entries

    def trim(self, safe: int) -> None:
        """Let the tail forget entries up to `safe` (durable and applied) when it has grown too large."""
        if len(self._tail) <= TAIL_ENTRIES and self._bytes <= TAIL_BYTES:
            return
        count = 0
        limit = min(safe - self._tail_first + 1, len(self._tail))
        goal_entries, goal_bytes = len(self._tail) - TAIL_ENTRIES // 2, self._bytes - TAIL_BYTES // 2
        freed = 0
        while count < limit and (count < goal_entries or freed < goal_bytes):
            freed += len(self._tail[count].data or b"")
            count += 1
        del self._tail[:count]
        self._tail_first += count
        self._bytes -= freed

    def compact(self, index: int) -> None:
        """Make `index` the base: it and everything before it can no longer be read."""
        term = self.term(index)
        if term is None or index <= self.base:
            return
        position = bisect_right(self._runs, index, key=_first) - 1
        tail = self._runs[position + 1 :]
        if index < self.last and (not tail or tail[0][0] > index + 1):
            tail.insert(0, (index + 1, self._runs[position][1]))
        self._runs = tail
        self.base, self.base_term = index, term
        if self._tail_first <= index:
            gone = min(index - self._tail_first + 1, len(self._tail))
            self._bytes -= sum(len(entry.data or b"") for entry in self._tail[:gone])
            del self._tail[:gone]
            self._tail_first = index + 1

    def reset(self, index: int, term: int) -> None:
        """Drop everything: the log continues after a snapshot at `index`."""
        self._runs, self._tail, self._bytes = [], [], 0
        self._tail_first = index + 1
        self.base, self.base_term = index, term
        self.last, self.last_term = index, term


def _first(run: tuple[int, int]) -> int:
    return run[0]
