"""Sorted tables with secondary indexes and an undo journal."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from sortedcontainers import SortedList

K = TypeVar("K")
V = TypeVar("V")
Journal = list[tuple["Table[Any, Any]", Any, Any]]


class Table(Generic[K, V]):
    """Rows by primary key, in key order. Rows are values: a change puts another row.

    `groups` names secondary indexes: a function from (key, row) to the group that the row is in, or
    None when it is in none. Every change is noted in the store's journal, so that a command that
    fails half-way can be taken back."""

    __slots__ = ("_groups", "_journal", "_order", "rows")

    def __init__(self, journal: Journal, groups: dict[str, Callable[[K, V], Any]] | None = None) -> None:
        self.rows: dict[K, V] = {}
        self._order: Any = SortedList()
        self._journal = journal
        self._groups: dict[str, tuple[Callable[[K, V], Any], dict[Any, list[Any]]]] = {
            name: (group_of, {}) for name, group_of in (groups or {}).items()
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, key: K) -> bool:
        return key in self.rows

    def get(self, key: K) -> V | None:
        return self.rows.get(key)

    def __iter__(self) -> Iterator[K]:
        """All keys in order."""
        return iter(self._order)

    def values(self) -> Iterator[V]:
        """All rows in key order."""
        return map(self.rows.__getitem__, self._order)

    def keys_between(self, low: K, high: K | None) -> Iterator[K]:
        """Keys from `low` up to but not including `high` (None: to the end), in order."""
        keys: Iterator[K] = self._order.irange(low, high, inclusive=(True, False))
        return keys

    def group(self, index: str, group: Any) -> list[K]:
        """The keys of the rows in `group` of a secondary index, in order. Do not change the list, and
        copy it before changing the table."""
        return self._groups[index][1].get(group, [])

    def group_names(self, index: str) -> list[Any]:
        """All groups of a secondary index, in no order."""
        return list(self._groups[index][1])

    def put(self, key: K, row: V) -> None:
        """Insert or replace."""
        old = self.rows.get(key)
        self._journal.append((self, key, old))
        self._place(key, old, row)

    def remove(self, key: K) -> V | None:
        """Take out and return the row, None when there is none."""
        old = self.rows.get(key)
        if old is not None:
            self._journal.append((self, key, old))
            self._place(key, old, None)
        return old

    def remove_between(self, low: K, high: K | None) -> list[K]:
        """Take out all rows with keys from `low` up to but not including `high` (None: to the end) and
        return their keys. Much cheaper than one by one when they are many."""
        start = self._order.bisect_left(low)
        end = len(self._order) if high is None else self._order.bisect_left(high)
        keys: list[K] = list(self._order[start:end])
        del self._order[start:end]
        for key in keys:
            old = self.rows.pop(key)
            self._journal.append((self, key, old))
            for group_of, members in self._groups.values():
                _leave(members, group_of(key, old), key)
        return keys

    def undo(self, key: K, old: V | None) -> None:
        """Bring back what was there before a change (None: nothing)."""
        self._place(key, self.rows.get(key), old)

    def frozen(self) -> tuple[dict[K, V], list[K]]:
        """The rows and the order of their keys as they are now, cheap to take."""
        return dict(self.rows), list(self._order)

    def dismantled(self) -> Iterator[None]:
        """Drop everything, a thousand rows a step. The table is of no use afterwards."""
        for _, members in self._groups.values():
            while members:
                for _ in range(min(1000, len(members))):
                    members.popitem()
                yield
        while self.rows:
            for _ in range(min(1000, len(self.rows))):
                self.rows.popitem()
                self._order.pop()
            yield

    def _place(self, key: K, old: V | None, row: V | None) -> None:
        for group_of, members in self._groups.values():
            before = None if old is None else group_of(key, old)
            after = None if row is None else group_of(key, row)
            if before != after:
                _leave(members, before, key)
                if after is not None:
                    insort(members.setdefault(after, []), key)
        if row is None:
            if old is not None:
                del self.rows[key]
                self._order.remove(key)
            return
        if old is None:
            self._order.add(key)
        self.rows[key] = row


def _leave(members: dict[Any, list[Any]], group: Any, key: Any) -> None:
    if group is None:
        return
    keys = members[group]
    if len(keys) == 1:
        del members[group]
    else:
        del keys[bisect_left(keys, key)]
