"""What was handed over last, and so what is a change."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from core.watch.payload import to_text

KEPT = 1024  # ids of events; an agent keeps 256 events


class Progress:
    """What was seen last. An answer counts when its index moved and its value differs."""

    def __init__(self, initial: bool = True) -> None:
        """`initial`: what is there at the start is handed over."""
        self.index = 0
        self.initial = initial
        self.started = False
        self._seen = ""  # fingerprint of the last value

    def take(self, index: int, value: Any) -> tuple[bool, Any]:
        """Take an answer in: whether there is something to hand over, and what."""
        before, self.index = self.index, index
        first, self.started = not self.started, True
        if not first and index < before:
            self.index = 0  # restored or started anew: ask again from the beginning
        if not first and index == before:
            return False, value
        mark = fingerprint(value)
        seen, self._seen = self._seen, mark
        return (self.initial if first and not seen else mark != seen), value

    def save(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {"seen": self._seen}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from where another one was: what it saw is no news."""
        seen = saved.get("seen")
        self._seen = seen if isinstance(seen, str) else ""


class EventProgress(Progress):
    """The same for events: only those that were not there before are handed over. Their index is made
    of the last event's id and may go up or down."""

    def __init__(self, initial: bool = True, empty: bool = False) -> None:
        """`empty`: at the start hand over also that there is none."""
        super().__init__(initial)
        self._empty = empty
        self._news = News()
        self._restored = False

    def take(self, index: int, value: Any) -> tuple[bool, Any]:
        fresh = self._news.of(value)
        first, self.started, self.index = not self.started, True, index
        if first and not self._restored:
            return self.initial and (bool(fresh) or self._empty), fresh
        return bool(fresh), fresh

    def save(self) -> dict[str, Any]:
        return {"events": self._news.ids}

    def restore(self, saved: dict[str, Any]) -> None:
        ids = saved.get("events")
        if isinstance(ids, list) and all(isinstance(one, str) for one in ids):
            self._news = News(ids)
            self._restored = True


class News:
    """Which events of a list did not stand in the lists before it."""

    def __init__(self, ids: list[str] | None = None) -> None:
        self._seen: dict[str, None] = dict.fromkeys(ids or ())

    @property
    def ids(self) -> list[str]:
        """Those that are no news any more."""
        return list(self._seen)

    def of(self, events: list[Any]) -> list[Any]:
        """The new ones, in their order."""
        fresh = [event for event in events if event["ID"] not in self._seen]
        self._seen.update(dict.fromkeys(event["ID"] for event in fresh))
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
        return fresh


def fingerprint(value: Any) -> str:
    """A short word for a payload; equal ones have the same."""
    return hashlib.sha256(to_text(value).encode("utf-8", "surrogateescape")).hexdigest()


def identity(definition: dict[str, Any]) -> str:
    """A name for a watch with its handler, the same for as long as it is defined so. The token is only a
    means and does not count."""
    counted = {name: value for name, value in definition.items() if name != "token"}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def back_off(failures: int) -> float:
    """Seconds to wait after that many failures in a row: quick at first, so that an agent's restart
    goes unnoticed, and never so long that an operator would wonder."""
    return min(0.5 * failures * failures, 10.0)
