"""The way to other datacenters: their servers, as the WAN pool shows them (protocols/gossip.md 9)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from core.errors import Unavailable
from core.gossip.member import ALIVE, Member
from core.node.routing import ServerList
from core.node.servers import ServerFacts, server_facts

NO_PATH = "No path to datacenter"
NONE_REACHABLE = "Remote DC has no server currently reachable"


def missing(lan: Sequence[Member], wan: Sequence[Member], datacenter: str) -> list[ServerFacts]:
    """The servers of our LAN that should be in the WAN pool and are not (protocols/gossip.md 9.1)."""
    there = {member.name for member in wan if member.status == ALIVE}
    servers = [server_facts(member) for member in lan if member.status == ALIVE]
    return [
        facts
        for facts in servers
        if facts is not None
        and facts.datacenter == datacenter
        and facts.wan_join_port > 0
        and f"{facts.name}.{datacenter}" not in there
    ]


class Router:
    """The servers of every other datacenter, each list in the order in which this server asks them.
    Times are monotonic seconds."""

    def __init__(self, own: str, chance: random.Random, now: float) -> None:
        """`own` is this datacenter."""
        self.own = own
        self._chance, self._now = chance, now
        self._lists: dict[str, ServerList] = {}

    def update(self, servers: Iterable[ServerFacts]) -> None:
        """Take over what the WAN pool knows now."""
        known: dict[str, list[ServerFacts]] = {}
        for server in servers:
            if server.datacenter != self.own:
                known.setdefault(server.datacenter, []).append(server)
        for name in self._lists.keys() - known.keys():
            del self._lists[name]
        for name, found in known.items():
            self._lists.setdefault(name, ServerList(self._chance, self._now)).update(found)

    @property
    def datacenters(self) -> list[str]:
        """Every datacenter that has or had a server, this one first, the others by name."""
        return [self.own, *sorted(self._lists)]

    def servers(self, datacenter: str) -> ServerList | None:
        """The servers of another datacenter that are alive; None when there never was one."""
        return self._lists.get(datacenter)

    def target(self, datacenter: str) -> ServerFacts:
        """The server of another datacenter to ask. Unavailable in Consul's words."""
        known = self._lists.get(datacenter)
        if known is None:
            raise Unavailable(NO_PATH)
        server = known.first()
        if server is None:
            raise Unavailable(NONE_REACHABLE)
        return server

    def failed(self, server: ServerFacts) -> None:
        """A call to this server failed: others of its datacenter are asked before it."""
        known = self._lists.get(server.datacenter)
        if known is not None:
            known.failed(server)

    def rebalance(self, now: float, nodes: int) -> None:
        """Give every server its share, now and then."""
        for known in self._lists.values():
            known.rebalance(now, nodes)
