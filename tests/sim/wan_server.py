"""One server of a simulated datacenter: the agent's own ways from a call to its answer (calls, relay, pool,
RPC, gossip's events, flooding) on pretend time, around simulated disks, packets and streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agent import joining, settings
from agent.calls import Calls
from agent.cluster import Cluster as AgentCluster
from agent.coordinates import CoordinateBatch
from agent.logs import get_logger
from agent.raft_view import RaftView
from agent.rpc import MULTIPLEX, Peer
from agent.rpc_serve import RpcServer
from agent.world import World as Outside
from core.config.formats import Source
from core.config.load import load
from core.errors import CtlError, NoLeader, Unavailable
from core.gossip.admission import lan_admission, wan_admission
from core.gossip.coordinates import Coordinate
from core.gossip.serf import Ready
from core.gossip.snapshot import parse
from core.node.servers import ServerFacts, server_facts
from core.raft.messages import Entry
from core.store.structs import Coord
from tests.sim.gossip_cluster import PORT, Host, World
from tests.sim.pretend import ProcessLoop
from tests.sim.raft_member import OK, Member
from tests.sim.streams import Dial, End

if TYPE_CHECKING:
    from core.gossip.member import GossipEvent
    from core.gossip.member import Member as GossipMember
    from tests.sim.wan_planet import Planet

_log = get_logger("sim")


@cache
def _configuration() -> dict[str, Any]:
    """What every server is configured with, but for its name and whom it joins."""
    text = 'server = true\nbootstrap_expect = 3\ndata_dir = "/x"'
    return load([Source("sim", "hcl", text)], hostname="sim").values


class Pretended(Outside):
    """The outside of a process."""

    def __init__(self, loop: ProcessLoop, chance: Random) -> None:
        self._loop = loop
        self.random = Random(chance.getrandbits(64))

    def now(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time()


class Seat(Member):
    """A server's Raft. Who waits for an entry hears at once that leadership was lost, as in agent/raft.py."""

    loop: ProcessLoop
    led: object = None

    def settle(self) -> None:
        super().settle()
        node = self.node
        if self.led is not None and node.leader is not self.led:
            for index in [index for index in self.waiting if index > node.commit]:
                self.waiting.pop(index)[1]("lost", None)
        self.led = node.leader


class RaftDoor(RaftView):
    """What agent/calls.py sees of Raft."""

    def __init__(self, seat: Seat, loop: ProcessLoop) -> None:
        self.node_id, self.address = seat.name, seat.address
        self._seat, self._loop = seat, loop
        self._stopped = self._due = False
        self._lease_until = 0.0
        self._world = SimpleNamespace(now=seat.clock)  # type: ignore[assignment]

    @property
    def node(self) -> Any:  # type: ignore[override]
        return self._seat.node

    @property
    def _applied(self) -> int:  # type: ignore[override]
        return self._seat.applied

    def propose(self, data: bytes, done: Callable[[object], None]) -> None:
        def answer(outcome: str, result: Any) -> None:
            lost = Unavailable("leadership lost while committing log")
            self._loop.call_soon(done, result if outcome == OK else lost)

        if self.node.leader is None:
            done(NoLeader())
            return
        try:
            index = self.node.propose(Entry(data=data))
        except CtlError as error:
            done(error)
            return
        self._seat.waiting[index] = (self.node.term, answer)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._due = False
        self._seat.settle()

    async def apply(self, data: bytes) -> object:
        future = self._loop.create_future()
        self.propose(data, lambda result: None if future.done() else future.set_result(result))
        result = await future
        if isinstance(result, Exception):
            raise result
        return result

    async def verify_leader(self) -> None:
        future = self._loop.create_future()

        def answer(outcome: str, _: object) -> None:
            if not future.done():
                future.set_result(outcome)

        self._seat.read_verified(lambda: None, answer)
        if await future != OK:
            raise NoLeader()


class Pool:
    """A gossip pool as the agent sees it (agent/gossip.py), its machine in a simulated world."""

    def __init__(self, server: Server, wan: bool, heard: Callable[[GossipEvent], None]) -> None:
        self._server, self._heard = server, heard
        self._loop = server.loop
        self._world: World = server.planet.wan if wan else server.planet.lans[server.datacenter]
        self._wan = wan
        self._lines = server.files[wan]
        self._name = server.name if wan else server.node_name
        self._joins: dict[int, asyncio.Future[str]] = {}
        self._members: tuple[GossipMember, ...] = ()
        self.host: Host

    async def start(self) -> None:
        server = self._server
        previous = parse("\n".join(self._lines))
        admission = wan_admission if self._wan else lan_admission(self._name, server.name, server.datacenter)
        tags = server.tags(self._wan)
        self.host = host = self._world.add(
            self._name, tags, address=server.address, admission=admission, previous=previous
        )
        self._members = host.serf.members()
        host.take = self._take  # type: ignore[method-assign]
        self._tell(list(host.events), self._members)
        addresses = [address for name, address in previous.alive.items() if name != self._name]
        if addresses:
            server.world.random.shuffle(addresses)
            self._loop.create_task(self._rejoin(addresses))

    async def _rejoin(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            if (await self.join([address]))[0]:
                return

    async def stop(self) -> None:
        raise NotImplementedError("servers of the simulation are killed")

    leave = force_leave = stop

    def members(self) -> tuple[GossipMember, ...]:
        return self._members

    def coordinate(self) -> Coord:
        return _coord(self.host.serf.coordinate)

    def coordinate_of(self, name: str) -> Coord | None:
        found = self.host.serf.coordinate_of(name)
        return None if found is None else _coord(found)

    def look_at(self, ip: str) -> None:
        self._world.do(self.host, self.host.serf.look_at, ip)

    async def join(self, addresses: Sequence[str]) -> tuple[int, list[str]]:
        targets = [joining.split(address, PORT)[1:] for address in addresses]
        others = [target for target in targets if target[0] != self._server.address]
        if not others:
            return min(len(targets), 1), []
        numbers = self._world.do(self.host, self.host.serf.join, others, True)
        futures = [self._joins.setdefault(number, self._loop.create_future()) for number in numbers]
        outcomes = await asyncio.gather(*futures)
        return outcomes.count(""), [why for why in outcomes if why]

    # --- what the machine tells

    def _take(self, ready: Ready) -> None:
        self._lines += ready.snapshot
        if self._loop.ended:
            return
        members = self.host.serf.members()
        if ready.events or members is not self._members:
            self._loop.call_soon(self._tell, ready.events, members)
        for result in ready.joins:
            self._loop.call_soon(self._joined, result.id, result.error)

    def _tell(self, events: Sequence[GossipEvent], members: tuple[GossipMember, ...]) -> None:
        self._members = members
        for event in events:
            self._heard(event)

    def _joined(self, number: int, error: str) -> None:
        future = self._joins.pop(number, None)
        if future is not None:
            future.set_result(error)


class Cluster(AgentCluster):
    """The agent's view of the others, with pools of the simulation."""

    def __init__(self, agent: Any, server: Server) -> None:
        self._server = server
        super().__init__(agent)

    def _pool(self, wan: bool) -> Any:
        return Pool(self._server, wan, self._heard_wan if wan else self._heard)


class Server:
    """One server: what lasts (its disk), and what lives between two crashes."""

    calls_class = Calls
    cluster_class = Cluster

    def __init__(self, planet: Planet, datacenter: str, seat: Seat) -> None:
        self.planet, self.datacenter, self.seat = planet, datacenter, seat
        self.name = seat.name  # and node id
        self.node_name = seat.name.partition(".")[0]
        self.address = f"10.{datacenter[2:]}.0.{self.node_name[1:]}"
        self.files: dict[bool, list[str]] = {False: [], True: []}
        self.running = self.dark = False
        self.ends: list[End] = []
        self.work: dict[Any, None] = {}  # of clients
        self.loop = ProcessLoop(planet.time, planet.defects)

    def tags(self, wan: bool) -> dict[str, str]:
        found = {"role": "consul", "dc": self.datacenter, "id": self.name, "build": "1.9.8:", "port": "8300"}
        found |= {"vsn": "2", "raft_vsn": "3", "expect": "3", "ft_fs": "1", "ft_si": "1", "acls": "0"}
        return found if wan else {**found, "wan_join_port": str(PORT)}

    # --- life

    def start(self) -> None:
        """The process begins with what is on the disk."""
        planet = self.planet
        self.loop = self.seat.loop = ProcessLoop(planet.time, planet.defects)
        self.running, self.dark = True, False
        self.ends.clear()
        self.seat.start()
        self.world = Pretended(self.loop, planet.random)
        self.loop.enter(self._build)
        self.loop.create_task(self._gossip())

    async def _gossip(self) -> None:
        await self.cluster.open()
        await self.cluster.start()

    def _build(self) -> None:
        self.raft = RaftDoor(self.seat, self.loop)
        config = {**_configuration(), **self.planet.joins(self)}
        self.calls = self.calls_class(
            self.seat.fsm.store,
            self.raft,  # type: ignore[arg-type]
            self.datacenter,
            self.world,
            self.loop,
            settings.calls(config),  # type: ignore[arg-type]
        )
        agent = SimpleNamespace(
            config=config,
            world=self.world,
            calls=self.calls,
            datacenter=self.datacenter,
            node_name=self.node_name,
            tls=None,
            dialer=Dial(self.planet.network, self, self.datacenter),
            local=SimpleNamespace(state=None, server_up=lambda: None, set_nodes=lambda count: None),
            tokens=SimpleNamespace(for_agent=""),
        )
        self.cluster = self.cluster_class(agent, self)
        self.rpc = RpcServer(self.loop, self.calls, gone=self.cluster.lan.look_at)
        batch = CoordinateBatch(self.raft.apply, _log)
        self.calls.server = SimpleNamespace(coordinates=batch, store=self.seat.fsm.store)  # type: ignore[assignment]

    def accept(self, first_byte: int, peer: Peer) -> asyncio.Protocol:
        assert first_byte == MULTIPLEX
        return self.rpc.multiplexed(peer)

    def crash(self, dark: bool) -> None:
        """The process dies, or the power of its machine fails."""
        self.running, self.dark = False, dark
        self.loop.end()
        for pool in (self.cluster.lan, self.cluster.wan):
            if hasattr(pool, "host"):
                pool.host.running = False
        self.seat.crash()
        for end in self.ends:
            if not dark:
                end.kill()
        self.ends.clear()
        for work in list(self.work):
            work.lost()

    def stall(self, until: float) -> None:
        """The process does nothing until then."""
        self.loop.busy_until = self.seat.busy_until = until
        for pool in (self.cluster.lan, self.cluster.wan):
            if hasattr(pool, "host"):
                pool.host.busy_until = until

    def flush(self) -> None:
        """Call everyone once: connections to earlier lives of others are found out."""

        async def ping(facts: ServerFacts) -> None:
            with contextlib.suppress(CtlError):
                await self.cluster.pool.ping(facts)

        for pool in (self.cluster.lan, self.cluster.wan):
            for facts in filter(None, map(server_facts, pool.members())):
                self.loop.create_task(ping(facts))

    # --- what it knows

    def listed(self) -> dict[str, list[str]]:
        """The servers that its router would ask, by datacenter."""
        router = self.cluster.router
        return {
            name: sorted(facts.name for facts in router.servers(name) or ())
            for name in router.datacenters
            if name != self.datacenter
        }


def _coord(coordinate: Coordinate) -> Coord:
    return Coord(list(coordinate.vec), coordinate.error, coordinate.adjustment, coordinate.height)
