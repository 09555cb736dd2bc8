"""This agent among the others: gossip, RPC, the way to the servers, and what a leader owes them.

    gossip -> members -> the servers to ask -> calls
                      -> bootstrap, Raft's addresses, the leader's duties
    RPC port <- calls, Raft, snapshots of others

`open` listens for RPC, before gossip tells anyone of us; `join` brings gossip up and finds the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from agent import describe, joining, settings
from agent.coordinates import CoordinateSender
from agent.events import EventLog
from agent.flood import Flood
from agent.gossip import GossipPool
from agent.logs import get_logger
from agent.pool import Pool
from agent.readiness import ready
from agent.relay import Bucket, Relay
from agent.retry_join import GaveUp, RetryJoin, start_join
from core.errors import CtlError, Lost, Unavailable, Unsent
from core.gossip.member import ALIVE, FAIL, MemberEvent, UserEvent
from core.node.distance import coordinate, datacenters_by_distance
from core.node.servers import ServerFacts, server_facts
from core.node.wan import Router

if TYPE_CHECKING:
    from agent.agent import Agent
    from core.gossip.member import GossipEvent

_ANSWER_SECONDS = 5.0  # for what a server can tell at once
_LOOK_SECONDS = 10.0  # between looks at servers that RPC did not reach, and whether to change servers


class Cluster:
    """What every agent has to do with others; agent/server.py has what only servers do."""

    def __init__(self, agent: Agent) -> None:
        config, world = agent.config, agent.world
        self._agent = agent
        self._log = get_logger("agent")
        self._loop = asyncio.get_running_loop()
        self.tls = agent.tls
        self.pool = Pool(self._loop, agent.dialer, settings.pool(config))
        self.bucket = Bucket(config["limits.rpc_rate"], config["limits.rpc_max_burst"], world.now())
        self.relay = Relay(self.pool, agent.datacenter, world, self.bucket, self._failed)
        self.events = EventLog(agent.node_name, agent.local.state, world, get_logger("agent"))
        self.lan: GossipPool = self._pool(False)
        self.wan: GossipPool | None = (
            self._pool(True) if config["server"] and config["ports.serf_wan"] > 0 else None
        )
        self.router = Router(agent.datacenter, world.random, world.now())
        if self.wan is not None:
            agent.calls.router = self.router
        self._servers: dict[str, ServerFacts] = {}  # of our datacenter, by id
        self._unreachable: dict[str, str] = {}  # by id: why RPC did not get there the last time
        self._on_lan: list[Callable[[GossipEvent], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flood: Flood | None = None
        self._coordinates = CoordinateSender(
            agent.node_name,
            agent.datacenter,
            self.lan.coordinate,
            self.lan.members,
            agent.calls.run,
            lambda: agent.tokens.for_agent,
            world,
            get_logger("agent"),
        )

    def _pool(self, wan: bool) -> GossipPool:
        agent = self._agent
        made = settings.gossip(agent.config, agent.addresses, agent.data_dir, describe.tags(agent, wan), wan)
        logger = get_logger("agent.server.serf.wan" if wan else "agent.serf.lan")
        return GossipPool(
            "wan" if wan else "lan", made, agent.world, logger, self._heard_wan if wan else self._heard
        )

    # life

    async def open(self) -> None:
        """Be a member. ConfigError when gossip cannot listen."""
        await self.lan.start()
        self._members_changed()
        if self.wan is not None:
            await self.wan.start()
        self._agent.calls.relay = self.relay

    async def start(self) -> None:
        """Look for the others. ConfigError when start_join fails."""
        config = self._agent.config
        if config["start_join"]:
            await start_join(self.lan, config["start_join"], self._log)
        if self.wan is not None and config["start_join_wan"]:
            await start_join(self.wan, config["start_join_wan"], self._log)
        self._retry(self.lan, False)
        if self.wan is not None:
            self._retry(self.wan, True)
        self.spawn(self._watch_servers())
        if self.wan is not None:
            self._flood = Flood(self.lan, self.wan, self._agent.datacenter, self._log)
            self.on_lan(self._flood.hear)
            self.spawn(self._flood.run())
        self._coordinates.start()

    def _retry(self, pool: GossipPool, wan: bool) -> None:
        config = self._agent.config
        end = "_wan" if wan else ""
        addresses = config[f"retry_join{end}"]
        if not addresses:
            return
        name = self._agent.node_name + (f".{self._agent.datacenter}" if wan else "")
        interval = settings.seconds(config[f"retry_interval{end}"])
        attempts, told = config[f"retry_max{end}"], None if wan else ready
        work = RetryJoin(pool, name, addresses, interval, attempts, self._agent.world, self._log, told)
        self.spawn(self._joining(work))

    async def _joining(self, work: RetryJoin) -> None:
        try:
            await work.run()
        except GaveUp as error:
            self._log.error("Retry join failed", error=str(error))
            self._agent.stopping.set()

    async def stop(self) -> None:
        """Vanish, as a killed agent does; `leave` is the polite way."""
        self._coordinates.stop()
        for task in list(self._tasks):
            task.cancel()
        for pool in (self.wan, self.lan):
            if pool is not None:
                await pool.stop()
        self.pool.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the rest, until the agent ends."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def reload(self) -> None:
        """Take over what may change while running; the certificates too. ConfigError."""
        config = self._agent.config
        if self.tls is not None:
            self.tls.reload(settings.rpc_files(config))
        self.pool.configure(settings.pool(config))
        self.bucket.rate, self.bucket.burst = config["limits.rpc_rate"], config["limits.rpc_max_burst"]

    async def leave(self) -> None:
        """Tell everyone that this agent goes, the WAN first (protocols/gossip.md 9.7)."""
        for pool in (self.wan, self.lan):
            if pool is not None:
                await pool.leave()

    # members

    def on_lan(self, callback: Callable[[GossipEvent], None]) -> None:
        """Call for every event of the LAN pool, once the servers are up to date."""
        self._on_lan.append(callback)

    def server(self, server_id: str) -> ServerFacts | None:
        """The server of our datacenter with this id, alive or not."""
        return self._servers.get(server_id)

    @property
    def servers(self) -> list[ServerFacts]:
        """The servers of our datacenter, alive or not."""
        return list(self._servers.values())

    def datacenters(self) -> list[str]:
        """Every datacenter with a server that gossip knows: our own first, then the nearest."""
        own, wan = self._agent.datacenter, self.wan
        if wan is None:
            return [own]
        places = [
            (facts.datacenter, coordinate(wan.coordinate_of(member.name)))
            for member in wan.members()
            if (facts := server_facts(member)) is not None and facts.datacenter != own
        ]
        return [own, *datacenters_by_distance(coordinate(wan.coordinate()), places)]

    def _heard(self, event: GossipEvent) -> None:
        if isinstance(event, MemberEvent):
            self._members_changed()
            self._cut_off(event)
        elif isinstance(event, UserEvent):
            self.events.take(event)
        for callback in self._on_lan:
            callback(event)

    def _heard_wan(self, event: GossipEvent) -> None:
        if isinstance(event, MemberEvent) and self.wan is not None:
            found = (server_facts(member) for member in self.wan.members())
            self.router.update(facts for facts in found if facts is not None)
            self._cut_off(event)

    def _cut_off(self, event: MemberEvent) -> None:
        """Calls to servers that have failed are over: the kernel of one that hangs would keep them."""
        for member in event.members if event.kind == FAIL else ():
            gone = server_facts(member)
            if gone is not None:
                self.pool.drop(gone)

    def _members_changed(self) -> None:
        agent = self._agent
        members = self.lan.members()
        found = (server_facts(member) for member in members)
        self._servers = {
            facts.id: facts for facts in found if facts is not None and facts.datacenter == agent.datacenter
        }
        if agent.calls.servers.update(self._servers.values()):
            agent.local.server_up()
        agent.local.set_nodes(sum(member.status == ALIVE for member in members))

    async def ask_in(self, datacenter: str, method: str, body: dict[str, Any]) -> Any:
        """The reply of a server of another datacenter. Raises CtlError."""
        servers = self.router.servers(datacenter)
        for _ in range(len(servers or ()) - 1):
            server = self.router.target(datacenter)
            try:
                return await self._ask(server, method, body)
            except (Unsent, Lost) as error:
                self._failed(server, error)
        return await self._ask(self.router.target(datacenter), method, body)

    async def ask(self, method: str, body: dict[str, Any]) -> Any:
        """The reply of the first server of our datacenter that can be called. Raises CtlError."""
        calls = self._agent.calls
        for _ in range(len(calls.servers) - 1):
            server = calls.target("")
            try:
                return await self._ask(server, method, body)
            except (Unsent, Lost) as error:
                self._failed(server, error)
        return await self._ask(calls.target(""), method, body)

    async def _ask(self, server: ServerFacts, method: str, body: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self.pool.call(server, method, body)
        except TimeoutError:
            raise Lost(f"rpc error making call: {method}: no answer within {_ANSWER_SECONDS:g} s") from None

    # servers that gossip shows and RPC does not reach (design: pains row 26)

    def rpc_state(self, server_id: str) -> str:
        """Why the last call to this server did not get there; empty if it did."""
        why = self._unreachable.get(server_id)
        return "" if why is None else f"failed: {why}"

    def _failed(self, server: ServerFacts, error: CtlError) -> None:
        if server.datacenter != self._agent.datacenter:
            self._log.warn("a server cannot be called", server=server.name, dc=server.datacenter, error=error)
            return self.router.failed(server)
        self._agent.calls.servers.failed(server)
        if server.id not in self._unreachable:
            self._log.warn("a server is a member but cannot be called", server=server.name, error=str(error))
        self._unreachable[server.id] = str(error)
        return None

    async def _ping(self, server: ServerFacts) -> bool:
        try:
            await self.pool.ping(server)
        except CtlError as error:
            self._failed(server, error)
            return False
        self._unreachable.pop(server.id, None)
        return True

    async def _watch_servers(self) -> None:
        """Servers that came are called once, those that failed until they answer, and now and then another
        one becomes the first to be asked."""
        calls, world = self._agent.calls, self._agent.world
        known: set[str] = set()
        while True:
            servers = list(calls.servers)
            for server in servers:
                if server.id not in known or server.id in self._unreachable:
                    await self._ping(server)
            known = {server.id for server in servers}
            for server_id in self._unreachable.keys() - known:
                del self._unreachable[server_id]
            await asyncio.sleep(_LOOK_SECONDS)
            self.router.rebalance(world.now(), len(self.lan.members()))
            if calls.servers.rebalance(world.now(), len(self.lan.members())):
                await self._check_first()

    async def _check_first(self) -> None:
        """The new first server must answer before calls rely on it."""
        servers = self._agent.calls.servers
        for _ in range(len(servers)):
            first = servers.first()
            if first is None or await self._ping(first):
                return

    # what operators ask

    async def join(self, address: str, wan: bool) -> None:
        """Join the pool of whoever is at `address`. Unavailable with Consul's text when that fails."""
        pool = self._asked(wan)
        joined, errors = await pool.join([address])
        if not joined:
            raise Unavailable(joining.report(errors))
        if wan and self._flood is not None:
            self.spawn(self._flood.spread())

    async def force_leave(self, node: str, prune: bool, wan: bool = False) -> None:
        """Declare a failed member gone. Unavailable when there is no such member."""
        pool = self._asked(wan)
        if not any(member.name == node for member in pool.members()):
            raise Unavailable(f"agent: No node found with name '{node}'")
        await pool.force_leave(node, prune)

    def _asked(self, wan: bool) -> GossipPool:
        if not wan:
            return self.lan
        if self.wan is None:
            raise Unavailable("Must be a server to join WAN cluster")
        return self.wan
