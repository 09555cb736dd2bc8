"""Locks and semaphores as Consul's clients keep them in the KV store (reference/watch.md section 5).

A lock is the key PREFIX/.lock, held by a session. A semaphore is a JSON document there, changed with
check-and-set: how many may hold it, and which sessions do; each contender also holds PREFIX/SESSION, so
that those whose session has ended are known."""

from __future__ import annotations

import json
from binascii import a2b_base64
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.command import Failure

if TYPE_CHECKING:
    from cli.client import Client
    from cli.wire import Query

LOCK_FLAGS = 0x2DDCCBC058A50C18
SEMAPHORE_FLAGS = 0xE0F69A2BAA414DE0
_PAUSE = 1.0  # seconds until a key that is free but in its lock delay is tried again
_CONFLICT = "Lock acquisition failed: Existing key does not match {} use"

Entry = dict[str, Any]


class Held(NamedTuple):
    """It is ours. `token` grows with every holder."""

    token: int


class Busy(NamedTuple):
    """Others hold it. `after` is the index to wait beyond; `pause`: seconds to wait instead."""

    after: int
    pause: float = 0.0


class KV:
    """The few requests that locks are made of. A Failure from any of them leaves it open whether it was
    carried out."""

    def __init__(self, client: Client, query: Query) -> None:
        self.client = client
        self._query = list(query)

    def read(self, path: str, *query: tuple[str, str]) -> tuple[int, list[Entry]]:
        """The index and the entries, none of them for a missing key."""
        response = self.client.get("/v1/kv/" + path, [*query, *self._query])
        if response.status == 404:
            return response.index, []
        return response.index, response.checked().json()

    def write(self, key: str, value: bytes, *query: tuple[str, str]) -> bool:
        path = "/v1/kv/" + key
        return bool(self.client.put(path, [*query, *self._query], value).checked().json())

    def delete(self, key: str, *query: tuple[str, str]) -> bool:
        path = "/v1/kv/" + key
        return bool(self.client.request("DELETE", path, [*query, *self._query]).checked().json())


class Mutex:
    """A lock with one holder."""

    def __init__(self, prefix: str, session: str) -> None:
        self.key = f"{prefix}/.lock"
        self._session = session

    def attempt(self, kv: KV, waiting: Query) -> Held | Busy:
        """Look (waiting for a change, as `waiting` says) and take it if it is free."""
        index, entry = self._entry(kv, *waiting)
        if entry is None or not entry.get("Session"):
            if not kv.write(self.key, b"", ("acquire", self._session), ("flags", str(LOCK_FLAGS))):
                index, entry = self._entry(kv)
                return Busy(index) if entry and entry.get("Session") else Busy(0, _PAUSE)
            index, entry = self._entry(kv, ("consistent", ""))
        if entry is not None and entry.get("Session") == self._session:
            return Held(entry["ModifyIndex"])
        return Busy(index)

    def holds(self, kv: KV, waiting: Query) -> tuple[bool, int]:
        """Whether it is still ours, and the index of this answer."""
        index, entry = self._entry(kv, ("consistent", ""), *waiting)
        return entry is not None and entry.get("Session") == self._session, index

    def leave(self, kv: KV) -> None:
        """Give it up, if we have it."""
        kv.write(self.key, b"", ("release", self._session), ("flags", str(LOCK_FLAGS)))

    def clean(self, kv: KV) -> bool:
        """Remove the key; False when somebody has it."""
        _, entry = self._entry(kv)
        if entry is None:
            return True
        return not entry.get("Session") and kv.delete(self.key, ("cas", str(entry["ModifyIndex"])))

    def _entry(self, kv: KV, *query: tuple[str, str]) -> tuple[int, Entry | None]:
        index, found = kv.read(self.key, *query)
        if not found:
            return index, None
        if found[0]["Flags"] != LOCK_FLAGS:
            raise Failure(_CONFLICT.format("lock"), kind="conflict")
        return index, found[0]


class Semaphore:
    """A lock with up to `limit` holders."""

    def __init__(self, prefix: str, session: str, limit: int) -> None:
        self.key = f"{prefix}/.lock"
        self._prefix, self._session, self._limit = prefix + "/", session, limit
        self._contends = self._joins = False  # or may do so: the answer was lost

    def attempt(self, kv: KV, waiting: Query) -> Held | Busy:
        """Look (waiting for a change, as `waiting` says) and join the holders if there is room."""
        index, entry, limit, holders, contenders = self._look(kv, *waiting)
        if self._session not in contenders:
            self._contends = True
            place = self._prefix + self._session
            if not kv.write(place, b"", ("acquire", self._session), ("flags", str(SEMAPHORE_FLAGS))):
                raise Failure("Lock acquisition failed: failed to make contender entry", kind="conflict")
            return Busy(0)
        if self._session in holders:
            return Held(entry["ModifyIndex"] if entry else index)
        if limit != self._limit and (holders or contenders - {self._session}):
            raise Failure(
                f"Lock acquisition failed: semaphore limit conflict (lock: {limit}, local: {self._limit})",
                kind="conflict",
            )
        if len(holders) >= self._limit:
            return Busy(index)
        self._joins = True
        self._store(kv, entry, self._limit, holders | {self._session})
        return Busy(0)  # look who was first

    def holds(self, kv: KV, waiting: Query) -> tuple[bool, int]:
        """Whether we are among the holders, and the index of this answer."""
        index, _, _, holders, _ = self._look(kv, ("consistent", ""), *waiting)
        return self._session in holders, index

    def leave(self, kv: KV) -> None:
        """Leave the holders and the contenders."""
        while self._joins:
            _, entry, limit, holders, _ = self._look(kv)
            gone = entry is None or self._session not in _holders_of(entry)
            self._joins = not gone and not self._store(kv, entry, limit, holders - {self._session})
        if self._contends:
            kv.delete(self._prefix + self._session)

    def clean(self, kv: KV) -> bool:
        """Remove the key; False when somebody holds it."""
        _, entry, _, holders, _ = self._look(kv)
        if entry is None:
            return True
        return not holders and kv.delete(self.key, ("cas", str(entry["ModifyIndex"])))

    def _look(
        self, kv: KV, *query: tuple[str, str]
    ) -> tuple[int, Entry | None, int, frozenset[str], frozenset[str]]:
        """Index, the document's entry, its limit, its holders whose sessions live, and all contenders."""
        index, found = kv.read(self._prefix, ("recurse", ""), *query)
        entry = next((one for one in found if one["Key"] == self.key), None)
        contenders = frozenset(
            one["Session"]
            for one in found
            if one.get("Session") and one["Key"] == self._prefix + one["Session"]
        )
        if entry is None:
            return index, None, self._limit, frozenset(), contenders
        return index, entry, _document(entry).get("Limit", 0), _holders_of(entry) & contenders, contenders

    def _store(self, kv: KV, entry: Entry | None, limit: int, holders: frozenset[str]) -> bool:
        document = {"Limit": limit, "Holders": dict.fromkeys(sorted(holders), True)}
        value = json.dumps(document, separators=(",", ":")).encode()
        index = entry["ModifyIndex"] if entry else 0
        return kv.write(self.key, value, ("cas", str(index)), ("flags", str(SEMAPHORE_FLAGS)))


def _document(entry: Entry) -> dict[str, Any]:
    """What stands in a semaphore's key. Failure when it is no semaphore."""
    try:
        document = json.loads(a2b_base64(entry["Value"] or "")) if entry["Flags"] == SEMAPHORE_FLAGS else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Failure(_CONFLICT.format("semaphore"), kind="conflict")
    return document


def _holders_of(entry: Entry) -> frozenset[str]:
    holders = _document(entry).get("Holders")
    return frozenset(holders) if isinstance(holders, dict) else frozenset()
