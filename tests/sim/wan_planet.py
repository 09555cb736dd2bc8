"""Three datacenters of three servers on one pretend time: in each a Raft and a LAN pool, one WAN pool over
all, links that are long, slower in one direction, lossy, or cut."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from core.gossip.settings import LAN, WAN
from core.raft.configuration import VOTER, Configuration
from core.raft.configuration import Server as Voter
from core.raft.messages import CONFIGURATION, Entry
from core.raft.ready import HardState, Ready
from core.raft.settings import Settings
from tests.sim.gossip_cluster import PORT, World
from tests.sim.pretend import Time
from tests.sim.raft_cluster import Cluster
from tests.sim.raft_member import Member
from tests.sim.raft_weather import CALM
from tests.sim.streams import Network
from tests.sim.wan_server import Seat, Server

SIZE = 3  # datacenters, and servers of each
NEAR = (0.0002, 0.0006)  # seconds within a datacenter
JITTER = 1.1
FAR = 0.15  # seconds, the longest way
DISTINCT = 1.5  # so much further is a datacenter than the next one, there and back
KEYS = ("a", "b")
# So that there is less to simulate: Raft at its slowest and half as much LAN gossip; the WAN's twice as fast
# as by default, so that half the time is enough.
TIMING = replace(Settings().scaled(10), snapshot_timeout=2.0)
BESIDE = replace(LAN, gossip_interval=0.4, probe_interval=2.0, probe_timeout=1.0)
POOL = replace(WAN, probe_interval=2.5, probe_timeout=1.5, push_pull_interval=30.0, reconnect_interval=15.0)


class Datacenter(Cluster):
    """The Raft of one datacenter, with what must hold of it, and the history of its keys."""

    def __init__(self, planet: Planet, name: str) -> None:
        self.planet, self.name = planet, name
        seed = f"{planet.seed}/{name}"
        super().__init__(seed, SIZE, CALM, timing=TIMING, trace=None, spare=0, time=planet.time)
        self.cut = planet.cut
        self.keys = list(KEYS)
        if planet.trace is not None:
            self.trace = lambda text: planet.say(f"{name} {text}") if "->" not in text else None

    def new_member(self) -> Member:
        self.names += 1
        member = Seat(self, f"s{self.names}.{self.name}")
        member.rate = self.random.uniform(0.99, 1.01)
        member.ahead = self.random.uniform(0, 1000)
        self.members[member.name] = member
        return member

    def bootstrap(self, names: list[str]) -> None:
        """What a first start leaves on the disks."""
        data = Configuration(tuple(Voter(n, self.members[n].address, VOTER) for n in names)).encode()
        self.entries[1, 1] = [0, CONFIGURATION, data]
        for name in names:
            first = Entry(1, 1, CONFIGURATION, data)
            self.members[name].disk.store(Ready(hard_state=HardState(1, ""), entries=[first]))

    def wake_after(self, gone: Server) -> None:
        """Those whose connections ended find that nobody listens there any more (agent/raft_watch.py)."""

        def noticed(member: Member) -> None:
            member.node.leader_gone(gone.name, member.clock())
            member.settle()

        for member in self.members.values():
            if member.node is not None and not self.cut[gone.name, member.name]:
                self.later(self.random.uniform(0.01, 0.1), noticed, member, member)


class Planet:
    """Everything of one seed."""

    def __init__(
        self, seed: int, server_class: type[Server] = Server, trace: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.time = Time(1000.0)
        self.trace = trace
        self.random = random.Random(f"planet {seed}")
        self.defects: list[str] = []
        self.cut: Counter[tuple[str, str]] = Counter()
        self.names = [f"dc{number}" for number in range(1, SIZE + 1)]
        self.ways = self._ways()
        self._known_ways: dict[tuple[str, str], tuple[float, float]] = {}
        self.loss = self.random.choice((0.0, 0.0, 0.01, 0.03))  # of what goes from one datacenter to another
        self.network = Network(self.time, self.random, self.way, self.lost, self.cut)
        self.wan = World(seed, POOL, time=self.time, loss=self.loss)
        self.wan.way = self.way
        self.wan.cut = lambda source, target: self.cut.get((source, target), 0) > 0
        self.lans = {name: self._lan(name) for name in self.names}
        self.datacenters = {name: Datacenter(self, name) for name in self.names}
        self.servers: dict[str, Server] = {}
        for name, datacenter in self.datacenters.items():
            for seat in datacenter.members.values():
                self.servers[seat.name] = server_class(self, name, seat)  # type: ignore[arg-type]
        self.network.machines = {server.address: server for server in self.servers.values()}

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.time.now:9.3f} {text}")

    # --- the links

    def _ways(self) -> dict[tuple[str, str], float]:
        """Seconds from one datacenter to another, so that for each the others are clearly not equally far."""
        while True:
            places = {name: (self.random.random(), self.random.random()) for name in self.names}
            trips = {
                (a, b): 2 * FAR * math.dist(places[a], places[b]) / math.sqrt(2)
                for a in self.names
                for b in self.names
            }
            lists = [sorted(trips[a, b] for b in self.names if b != a) for a in self.names]
            if all(trip[0] > 0.02 and trip[1] > DISTINCT * trip[0] for trip in lists):
                break
        found = {}
        for number, a in enumerate(self.names):
            for b in self.names[number + 1 :]:
                share = self.random.uniform(0.2, 0.8)
                found[a, b], found[b, a] = share * trips[a, b], (1 - share) * trips[a, b]
        return found

    def way(self, source: str, target: str) -> tuple[float, float]:
        found = self._known_ways.get((source, target))
        if found is None:
            ends = (place(source), place(target))
            seconds = self.ways.get(ends, 0.0)
            found = NEAR if ends[0] == ends[1] else (seconds, JITTER * seconds)
            self._known_ways[source, target] = found
        return found

    def lost(self, source: str, target: str) -> float:
        return self.loss if place(source) != place(target) else 0.0

    def trip(self, a: str, b: str) -> float:
        """Seconds from one datacenter to another and back, at most."""
        return JITTER * (self.ways[a, b] + self.ways[b, a])

    def _lan(self, name: str) -> World:
        world = World(self.random.getrandbits(32), BESIDE, time=self.time)
        world.delay = NEAR
        full = {f"s{number}": f"s{number}.{name}" for number in range(1, SIZE + 1)}
        world.cut = lambda source, target: self.cut.get((full[source], full[target]), 0) > 0
        return world

    def cut_off(self, ones: list[str], others: list[str], both: bool) -> Callable[[], None]:
        """No packet gets from `ones` to `others` (and back) until what this gives is called."""
        links = [(a, b) for a in ones for b in others if a != b]
        if both:
            links += [(b, a) for a, b in links]
        self.cut.update(links)
        return lambda: self.cut.subtract(links)

    # --- servers

    def of(self, datacenter: str) -> list[Server]:
        return [server for server in self.servers.values() if server.datacenter == datacenter]

    def running(self, datacenter: str = "") -> list[Server]:
        return [s for s in self.servers.values() if s.running and datacenter in ("", s.datacenter)]

    def joins(self, server: Server) -> dict[str, Any]:
        """Whom a server is configured to join: the others beside it, and the first server of the first
        datacenter."""
        lan = [f"{one.address}:{PORT}" for one in self.of(server.datacenter) if one is not server]
        first = self.of(self.names[0])[0]
        wan = [f"{first.address}:{PORT}"] if server.datacenter != self.names[0] else []
        return {"node_name": server.node_name, "retry_join": lan, "retry_join_wan": wan}

    def crash(self, server: Server, dark: bool) -> None:
        if server.running:
            self.say(f"{server.name} {'loses its power' if dark else 'crashes'}")
            server.crash(dark)
            if not dark:
                self.datacenters[server.datacenter].wake_after(server)

    def start(self, server: Server) -> None:
        if not server.running:
            self.say(f"{server.name} starts")
            server.start()

    # --- what must come about

    def leaders(self) -> bool:
        """Whether each datacenter has a leader that is ready, and all its servers know it."""
        return all(
            len({server.raft.leader_id for server in self.running(name)}) == 1
            and any(server.raft.is_leader for server in self.running(name))
            for name in self.names
        )

    def trust(self) -> bool:
        """Whether nobody suspects anybody any more, of what was in the storm."""
        pools = [*self.lans.values(), self.wan]
        hosts = [host for pool in pools for host in pool.hosts.values() if host.running]
        return not any(host.serf.memberlist._membership._suspicions for host in hosts)

    def agree(self) -> bool:
        """Whether all that run list the same servers: those that run."""
        running = {name: sorted(s.node_name for s in self.running(name)) for name in self.names}
        for server in self.running():
            others = {name: servers for name, servers in running.items() if name != server.datacenter}
            if server.listed() != others:
                return False
            if sorted(facts.name for facts in server.calls.servers) != running[server.datacenter]:
                return False
        return True


def place(name: str) -> str:
    """The datacenter of a server."""
    return name.rpartition(".")[2]
