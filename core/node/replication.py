"""Copies of what the primary datacenter keeps for all: which rows differ from it, and in which order they
are taken over. Pure; agent/replication.py does what is decided here."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Known(Struct, frozen=True):
    """A row as a list shows it. `name` is unique among the rows, `` where names do not matter."""

    key: str
    index: int = 0  # ModifyIndex, where it was listed
    hash: bytes | None = None
    name: str = ""


class Difference(Struct, frozen=True):
    """Keys: `delete` what the primary has no more, `fetch` what is new there or has changed."""

    delete: list[str]
    fetch: list[str]


def difference(local: Iterable[Known], remote: Iterable[Known], since: int) -> Difference:
    """`since`: the primary's index that the local rows were last brought to; 0 compares all. A row that
    was changed after that is fetched unless its hash says that it is the same."""
    there = {row.key: row for row in remote}
    here = {row.key: row for row in local}
    changed = [
        key
        for key, row in there.items()
        if key not in here or (row.index > since and (row.hash is None or row.hash != here[key].hash))
    ]
    return Difference(sorted(here.keys() - there.keys()), sorted(changed))


def in_the_way(local: Iterable[Known], incoming: Iterable[Known]) -> list[str]:
    """Local rows that have a name which an incoming row of another key takes: they go first, and come back
    under their new name. (Two rows may have swapped their names since.)"""
    taken = {row.name.lower(): row.key for row in incoming if row.name}
    return sorted(row.key for row in local if taken.get(row.name.lower(), row.key) != row.key)
