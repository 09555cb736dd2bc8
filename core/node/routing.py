"""Which server an agent asks: the list of servers of its datacenter, whom to ask first, and when to change.

A client agent stays with one server until a call to it fails; then the next one is asked. Now and then
the list is shuffled, so that servers that came later get their share (protocols/rpc.md section 5)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from core.node.servers import ServerFacts

MIN_REBALANCE = 120.0  # seconds, up to half as long again by chance
_REBALANCES_PER_SECOND = 64  # of all agents together, at one server


class ServerList:
    """The servers that are alive, in the order in which this agent asks them. Times are monotonic seconds."""

    def __init__(self, chance: random.Random, now: float) -> None:
        self._chance = chance
        self._servers: list[ServerFacts] = []
        self._rebalance_at = now + MIN_REBALANCE

    def __len__(self) -> int:
        return len(self._servers)

    def __iter__(self) -> Iterator[ServerFacts]:
        return iter(self._servers)

    def update(self, servers: Iterable[ServerFacts]) -> bool:
        """Take over what gossip knows now; whether a server came that was not there."""
        alive = {server.id or server.name: server for server in servers if server.alive}
        kept = [alive.pop(key) for one in self._servers if (key := one.id or one.name) in alive]
        new = list(alive.values())
        self._chance.shuffle(new)
        self._servers = kept + new
        return bool(new)

    def first(self) -> ServerFacts | None:
        """The server to ask, None when none is alive."""
        return self._servers[0] if self._servers else None

    def by_id(self, server_id: str) -> ServerFacts | None:
        """The server with this node id."""
        for server in self._servers:
            if server.id == server_id:
                return server
        return None

    def failed(self, server: ServerFacts) -> None:
        """A call to this server failed: it comes last now."""
        for position, one in enumerate(self._servers):
            if one.id == server.id and one.name == server.name:
                self._servers.append(self._servers.pop(position))
                return

    def rebalance(self, now: float, nodes: int) -> bool:
        """Shuffle when it is time to; whether it was. `nodes` of the whole cluster keep large ones from
        changing servers all at once."""
        if now < self._rebalance_at:
            return False
        self._chance.shuffle(self._servers)
        slowest = nodes / (_REBALANCES_PER_SECOND * max(1, len(self._servers)))
        self._rebalance_at = now + max(MIN_REBALANCE * (1 + self._chance.random() / 2), slowest)
        return True
