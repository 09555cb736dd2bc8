"""What was heard about names that are no members (yet, or any more) (protocols/gossip.md 7.2).

Gossip overtakes itself: the word that a node joins or leaves may come before the node is known. It is kept
for a while. A tombstone is kept longer: an erased member must not come back because somebody who had not
heard of its end still tells of it (pains.md 10). While its tombstone stands, a node that memberlist finds
alive is a ghost and not shown, until it proves life: by a join intent newer than the tombstone, an answer
to our own probe, or a higher incarnation."""

from __future__ import annotations

import itertools

from msgspec import Struct

MAX_INTENTS = 8192  # hostile peers name nodes without end
MAX_TOMBSTONES = 65536


class Intent(Struct, frozen=True):
    """The newest intent about an unknown name."""

    ltime: int
    join: bool
    heard: float


class RecentIntents:
    """At most one intent per name, for a limited time."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._intents: dict[str, Intent] = {}

    def __len__(self) -> int:
        return len(self._intents)

    def note(self, name: str, ltime: int, join: bool, now: float) -> bool:
        """Keep it if it is newer than what is kept. True: pass it on."""
        kept = self._intents.get(name)
        if kept is not None:
            if kept.ltime >= ltime:
                return False
            del self._intents[name]  # the dict is in the order of hearing
        elif len(self._intents) >= MAX_INTENTS:
            del self._intents[next(iter(self._intents))]
        self._intents[name] = Intent(ltime, join, now)
        return True

    def get(self, name: str) -> Intent | None:
        """What was said about the name."""
        return self._intents.get(name)

    def expire(self, now: float) -> None:
        """Forget the old ones."""
        old = itertools.takewhile(lambda item: now - item[1].heard > self._lifetime, self._intents.items())
        for name in [name for name, _ in old]:
            del self._intents[name]


class Tombstone(Struct):
    """A member was erased at Lamport time `ltime`, when its last `incarnation` was known. `heard` is when
    somebody last told of it, `told` when the others were last reminded."""

    ltime: int
    incarnation: int
    heard: float
    told: float


class Tombstones:
    """The members that were erased on purpose. `ghosts`: those that memberlist shows alive all the same."""

    def __init__(self) -> None:
        self._stones: dict[str, Tombstone] = {}
        self.ghosts: set[str] = set()

    def __len__(self) -> int:
        return len(self._stones)

    def get(self, name: str) -> Tombstone | None:
        return self._stones.get(name)

    def times(self) -> dict[str, int]:
        """All names, with their Lamport times."""
        return {name: stone.ltime for name, stone in self._stones.items()}

    def set(self, name: str, ltime: int, incarnation: int, now: float) -> None:
        """The member was erased."""
        self._stones.pop(name, None)
        if len(self._stones) >= MAX_TOMBSTONES:
            self.lift(next(iter(self._stones)))
        self._stones[name] = Tombstone(ltime, incarnation, now, now)

    def lift(self, name: str) -> None:
        """The node lives."""
        self._stones.pop(name, None)
        self.ghosts.discard(name)

    def expire(self, now: float, lifetime: float) -> None:
        """Drop those of which nobody told for long, but not what hides a ghost: our probe will judge that."""
        for name, stone in list(self._stones.items()):
            if now - stone.heard > lifetime and name not in self.ghosts:
                del self._stones[name]
