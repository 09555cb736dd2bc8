"""What commands changed lately, in order: keys, nodes, services and checks. Not replicated and not in
snapshots: every server notes what it applies itself, so all have the same for the same indexes."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct

from core.store.table import Journal, Table

MOST = 8192  # changes that are kept
MOST_BYTES = 16 << 20  # of values of keys in them
KINDS = {"kvs": "kv", "nodes": "node", "services": "service", "checks": "check"}


class Change(Struct, frozen=True, gc=False):
    """One row as a command left it. `row` None: it is gone, `before` tells what it was (of keys: nothing)."""

    index: int
    kind: str  # kv, node, service, check
    key: Any  # of its table
    row: Any
    before: Any


class Changes:
    """The last changes. Those with an index up to `complete_after` are not known."""

    def __init__(self, complete_after: int = 0) -> None:
        self.complete_after = complete_after
        self.last = complete_after  # index of the last change
        self._kept: deque[Change] = deque()
        self._bytes = 0

    def note(self, index: int, journal: Journal, names: dict[int, str]) -> bool:
        """Take over what a command changed; `names` are the kinds of the tables of interest by their
        identity. Whether there was anything."""
        if len(journal) == 1:  # most commands: as quickly as can be
            table, key, old = journal[0]
            kind = names.get(id(table))
            if kind is None:
                return False
            self.last = index
            self._add(kind, Change(index, kind, key, table.rows.get(key), None if kind == "kv" else old))
            return True
        first: dict[tuple[int, Any], tuple[Table[Any, Any], Any]] = {}
        for table, key, old in journal:
            if id(table) in names:
                first.setdefault((id(table), key), (table, old))
        if not first:
            return False
        self.last = index
        if len(first) > MOST:
            self._forget_all(index)
            return True
        for (number, key), (table, old) in first.items():
            row = table.rows.get(key)
            if row is not None or old is not None:
                kind = names[number]
                self._add(kind, Change(index, kind, key, row, None if kind == "kv" else old))
        return True

    def since(self, index: int) -> list[Change] | None:
        """All changes above `index`, in order. None: not all of them are known any more."""
        if index < self.complete_after:
            return None
        found: list[Change] = []
        for change in reversed(self._kept):
            if change.index <= index:
                break
            found.append(change)
        found.reverse()
        return found

    def _add(self, kind: str, change: Change) -> None:
        self._kept.append(change)
        if kind == "kv" and change.row is not None and change.row.value:
            self._bytes += len(change.row.value)
        if len(self._kept) > MOST or self._bytes > MOST_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """All of one index: half a command is never told."""
        index = self._kept[0].index
        while self._kept and self._kept[0].index == index:
            gone = self._kept.popleft()
            if gone.kind == "kv" and gone.row is not None and gone.row.value:
                self._bytes -= len(gone.row.value)
        self.complete_after = index

    def _forget_all(self, index: int) -> None:
        self._kept.clear()
        self._bytes = 0
        self.complete_after = index
