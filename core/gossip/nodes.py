"""The nodes that memberlist knows (protocols/gossip.md 4.1), in the random order in which they are probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from msgspec import Struct

from core.gossip.messages import Alive

ALIVE, SUSPECT, DEAD, LEFT = range(4)  # as push/pull writes them
_TRIES = 8


class Node(Struct, gc=False, eq=False):
    """A node. `facts` is the last alive message accepted from it (shared, never changed); `incarnation` may
    be newer. `since` is the time of the last change of state. A cluster simulated in one process holds
    millions of these, hence no more fields and no work for the garbage collector."""

    facts: Alive
    incarnation: int
    state: int
    since: float

    @property
    def name(self) -> str:
        return self.facts.node

    @property
    def address(self) -> str:
        """The IP as text."""
        return self.facts.address

    @property
    def port(self) -> int:
        return self.facts.port

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where its packets and streams go."""
        return self.facts.address, self.facts.port

    @property
    def meta(self) -> bytes:
        return self.facts.meta

    @property
    def protocol(self) -> tuple[int, int, int]:
        """Memberlist's protocol versions: min, max, current."""
        vsn = self.facts.vsn
        return vsn[0], vsn[1], vsn[2]

    @property
    def delegate(self) -> tuple[int, int, int]:
        """Serf's protocol versions: min, max, current."""
        vsn = self.facts.vsn
        return vsn[3], vsn[4], vsn[5]

    @property
    def gone(self) -> bool:
        """Dead or left."""
        return self.state >= DEAD


class NodeList:
    """All nodes by name, and in probe order."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._by_name: dict[str, Node] = {}
        self._order: list[Node] = []
        self._next = 0  # index of the node to probe next
        self.get = self._by_name.get

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._order)

    def add(self, node: Node) -> None:
        """A new node, at a random place of the order."""
        order = self._order
        self._by_name[node.name] = node
        order.append(node)
        place = int(self._rng.random() * len(order))
        order[place], order[-1] = order[-1], order[place]

    def random(self, count: int, fits: Callable[[Node], bool]) -> Iterator[Node]:
        """Up to `count` different random nodes that fit, each looked for when it is wanted. When chance does
        not find them soon, all nodes are looked at."""
        order, chance = self._order, self._rng.random
        size = len(order)
        found: list[Node] = []
        for _ in range(3 * min(count, size) + _TRIES if size else 0):
            if len(found) >= count:
                return
            node = order[int(chance() * size)]
            if fits(node) and node not in found:
                found.append(node)
                yield node
        fitting = [node for node in order if fits(node) and node not in found]
        yield from self._rng.sample(fitting, min(count - len(found), len(fitting)))

    def next_to_probe(self, skip: str, forget_before: float) -> Node | None:
        """The next living node in order. After a whole round, nodes that are gone since before
        `forget_before` are forgotten and the order is shuffled anew. None: no node lives but `skip`."""
        for _ in range(2 * len(self._order) + 1):  # the rest of this round, and a new one
            if self._next >= len(self._order):
                self._new_round(forget_before)
                self._next = 0
                if not self._order:
                    return None
            node = self._order[self._next]
            self._next += 1
            if node.state < DEAD and node.name != skip:
                return node
        return None

    def _new_round(self, forget_before: float) -> None:
        kept = [node for node in self._order if node.state < DEAD or node.since >= forget_before]
        if len(kept) < len(self._order):
            for node in self._order:
                if node.state >= DEAD and node.since < forget_before:
                    del self._by_name[node.name]
        self._rng.shuffle(kept)
        self._order = kept
