"""What is waiting to be gossiped (protocols/gossip.md 4.8); memberlist has one queue, Serf three."""

from __future__ import annotations

from bisect import bisect_left, insort

from msgspec import Struct

from core.gossip.suspicion import retransmit_limit


class Broadcast(Struct, eq=False):
    """A queued message. `done`: told often enough, replaced by a newer one, or pruned."""

    message: bytes
    key: str | None = None
    sent: int = 0
    done: bool = False


# Sorts as the queue is served: fewest transmissions, then longest, then newest.
_Entry = tuple[int, int, int, Broadcast]


class BroadcastQueue:
    """Messages in the order in which they get room in packets."""

    def __init__(self, retransmit_mult: int) -> None:
        self._mult = retransmit_mult
        self._entries: list[_Entry] = []
        self._keyed: dict[str, _Entry] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, message: bytes, key: str | None = None) -> Broadcast:
        """Queue `message`. One with a key replaces the waiting one with the same key."""
        broadcast = Broadcast(message, key)
        if key is not None and key in self._keyed:
            self._drop(self._keyed[key])
        self._count += 1
        self._insert((0, -len(message), -self._count, broadcast))
        return broadcast

    def take(self, overhead: int, limit: int, nodes: int) -> list[bytes]:
        """The messages for one packet: the sum of (length + overhead) stays within `limit`. Each counts as
        sent once; those sent often enough for a cluster of `nodes` leave the queue."""
        entries = self._entries
        if not entries:
            return []
        taken: list[_Entry] = []
        free = limit - overhead
        place: tuple[int, int] = (entries[0][0], -free)
        while free > 0:
            index = bisect_left(entries, place)
            if index == len(entries):
                break
            entry = entries[index]
            if entry[0] != place[0]:  # nothing of this round fits; the next starts with its longest
                place = (entry[0], -free)
                if -entry[1] > free:
                    continue
            del entries[index]
            taken.append(entry)
            free += entry[1] - overhead
            place = (entry[0], -free)
        self._sent(taken, retransmit_limit(self._mult, nodes))
        return [entry[3].message for entry in taken]

    def prune(self, keep: int) -> int:
        """Drops what was sent most often until `keep` are left; how many were dropped."""
        excess = max(len(self._entries) - keep, 0)
        for _ in range(excess):
            self._drop(self._entries[-1])
        return excess

    def _sent(self, taken: list[_Entry], limit: int) -> None:
        for sent, length, order, broadcast in taken:
            broadcast.sent = sent + 1
            if broadcast.sent >= limit:
                broadcast.done = True
                if broadcast.key is not None:
                    del self._keyed[broadcast.key]
            else:
                self._insert((broadcast.sent, length, order, broadcast))

    def _insert(self, entry: _Entry) -> None:
        insort(self._entries, entry)  # orders differ before the broadcasts are compared
        if entry[3].key is not None:
            self._keyed[entry[3].key] = entry

    def _drop(self, entry: _Entry) -> None:
        del self._entries[bisect_left(self._entries, entry)]
        entry[3].done = True
        if entry[3].key is not None:
            del self._keyed[entry[3].key]
