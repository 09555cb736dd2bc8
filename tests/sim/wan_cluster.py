"""Datacenters on pretend time: their servers in one WAN pool, with the latency of their distances, each with
the routing table that it makes of the pool's members, and join flooding from LAN to WAN."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.gossip.admission import wan_admission
from core.gossip.member import ALIVE, Member
from core.gossip.settings import WAN, GossipSettings
from core.node.distance import datacenters_by_distance
from core.node.servers import server_facts
from core.node.wan import Router, missing
from tests.sim.gossip_cluster import PORT, Host, World

FLOOD = 60.0  # seconds between looks for servers that are missing in the WAN
_NEAR = (0.0002, 0.0006)  # seconds within a datacenter


class Wan:
    """`count` datacenters `dc1`, `dc2`, ... of `servers` servers. `way(a, b)`: seconds from the datacenter
    numbered a to that numbered b; it need not be the same back."""

    def __init__(
        self,
        seed: int,
        count: int,
        servers: int,
        way: Callable[[int, int], float],
        loss: float = 0.0,
        settings: GossipSettings = WAN,
    ) -> None:
        self.world = World(seed, settings, loss)
        self.world.way = self._delay
        self.names = [f"dc{number}" for number in range(1, count + 1)]
        self._servers = servers
        self._way = way
        self.hosts: dict[str, list[Host]] = {}
        self.routers: dict[str, Router] = {}

    def start(self, datacenter: str) -> list[Host]:
        """Its servers come up; they see each other in their LAN at once, and flood the WAN."""
        hosts = [
            self.world.add(f"s{number}.{datacenter}", self._tags(datacenter, number), admission=wan_admission)
            for number in range(1, self._servers + 1)
        ]
        self.hosts[datacenter] = hosts
        for host in hosts:
            self.routers[host.name] = Router(datacenter, random.Random(1), 0.0)
            self._flood(host, datacenter)
        return hosts

    def join(self, host: Host, to: Host) -> None:
        """`join -wan`; when that is done the servers beside the host are told (Flood.spread)."""
        self.world.join(host, to, True)
        self.world.later(self.world.now + 1.0, self._spread, host)

    def _spread(self, host: Host) -> None:
        for one in self.hosts[self.routers[host.name].own]:
            if one is not host:
                self.world.join(host, one, True)

    def _tags(self, datacenter: str, number: int) -> dict[str, str]:
        identity = f"{datacenter:0>8}-0000-0000-0000-{number:012d}"
        return {
            "role": "consul",
            "dc": datacenter,
            "id": identity,
            "build": "1.9.8:",
            "port": "8300",
            "vsn": "2",
        }

    def _flood(self, host: Host, datacenter: str) -> None:
        """What agent/flood.py does when servers join the LAN, and every minute."""
        if host.running:
            lan = []
            for one in self.hosts[datacenter]:
                node = one.serf.memberlist.local_node
                tags = {**self._tags(datacenter, 1), "wan_join_port": str(PORT)}
                name = one.name.removesuffix(f".{datacenter}")
                lan.append(Member(name, node.endpoint[0], node.endpoint[1], tags, ALIVE))
            for facts in missing(lan, host.serf.members(), datacenter):
                if f"{facts.name}.{datacenter}" != host.name:
                    self.world.do(host, host.serf.join, [(facts.address, facts.wan_join_port)], True)
        self.world.later(self.world.now + FLOOD, self._flood, host, datacenter)

    def _delay(self, source: str, target: str) -> tuple[float, float]:
        ends = [int(name.rpartition(".dc")[2]) for name in (source, target)]
        if ends[0] == ends[1]:
            return _NEAR
        seconds = self._way(*ends)
        return (seconds, 1.1 * seconds)

    # --- what servers know

    @property
    def all_hosts(self) -> list[Host]:
        return [host for hosts in self.hosts.values() for host in hosts]

    def agree(self) -> bool:
        """Whether all that run see all of them alive."""
        names = {host.name: "alive" for host in self.all_hosts}
        return all(host.statuses() == names for host in self.all_hosts)

    def router(self, host: Host) -> Router:
        """The routing table of a server, as it is now."""
        router = self.routers[host.name]
        found = (server_facts(member) for member in host.serf.members())
        router.update(facts for facts in found if facts is not None)
        return router

    def nearest(self, host: Host) -> list[str]:
        """The other datacenters, by the coordinates that this server knows."""
        own = self.routers[host.name].own
        places = [
            (facts.datacenter, host.serf.coordinate_of(member.name))
            for member in host.serf.members()
            if (facts := server_facts(member)) is not None and facts.datacenter != own
        ]
        return datacenters_by_distance(host.serf.coordinate, places)
