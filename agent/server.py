"""What only a server does: it listens for RPC, takes part in Raft, and has duties while it leads.

It is also what the actions of core/api see of the server that they run on (ServerDoor)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agent import settings
from agent.bootstrap import Bootstrap
from agent.coordinates import CoordinateBatch
from agent.first_entries import first_entries, write_first
from agent.jwt_documents import Documents
from agent.leader import Leadership
from agent.logs import get_logger
from agent.replication import Replication
from agent.rpc import MULTIPLEX, RAFT, SINGLE, SNAPSHOT, RpcListener
from agent.rpc_limits import RequestLimits
from agent.rpc_serve import RpcServer
from agent.sessions import Sessions
from core.codec import wire
from core.errors import CtlError, Unavailable
from core.gossip.member import MemberEvent
from core.node import peers
from core.node.autopilot import Health, RaftStats
from core.node.cluster import Me
from core.node.jobs import Jobs

if TYPE_CHECKING:
    from random import Random

    from agent.agent import Agent
    from agent.cluster import Cluster
    from agent.gossip import GossipPool
    from agent.raft import RaftService
    from agent.raft_transport import RaftTransport
    from core.api.acl_requests import ACLReplicationStatus
    from core.api.endpoint import Errand, Permissions
    from core.config.settings import Config
    from core.gossip.member import GossipEvent
    from core.node.servers import ServerFacts
    from core.store.state import Store
    from core.store.structs import Session

_HAND_OVER_SECONDS = 5.0
_RESET_FILE = "acl-bootstrap-reset"


class Server:
    """One server of its datacenter."""

    def __init__(self, agent: Agent, cluster: Cluster, raft: RaftService, transport: RaftTransport) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._log = get_logger("agent.server")
        config = agent.config
        self.datacenter: str = agent.datacenter
        self.store: Store = agent.store
        self.raft = raft
        self.lan: GossipPool = cluster.lan
        self.wan: GossipPool | None = cluster.wan
        self.coordinates = CoordinateBatch(raft.apply, get_logger("agent.server.coordinate"))
        self.acl = agent.acl
        self._data_dir = agent.data_dir
        self._world = agent.world
        self._documents = Documents(agent.world)
        self.jobs = Jobs()
        self._calls = agent.calls
        self._transport = transport
        transport.on_gone = cluster.lan.look_at
        transport.leader_of = self._leader_of
        self._cluster = cluster
        self._sessions = Sessions(self.store, raft, agent.datacenter, agent.world, self._log)
        self._limits = RequestLimits(agent.world, config)
        self.rpc = RpcServer(loop, agent.calls, self._limits, gone=cluster.lan.look_at)
        self._listener = self._make_listener(agent)
        self._leadership = Leadership(
            Me(agent.node_id, agent.node_name, agent.datacenter),
            self.store,
            raft,
            cluster.lan,
            self._raft_stats,
            agent.world,
            get_logger("agent.leader"),
            agent.metrics,
            settings.leader(config),
            agent.acl,
        )
        self._replication = Replication(
            agent.acl,
            self.store,
            agent.calls.read,
            raft.apply,
            lambda: agent.tokens.secret("replication"),
            agent.world,
            get_logger("agent.server.replication"),
        )
        entries = first_entries(config["config_entries.bootstrap"])
        self._first_entries = entries if agent.acl.datacenter == agent.acl.primary_datacenter else []
        self._beginning: asyncio.Task[None] | None = None
        expect = 0 if config["bootstrap"] or config.dev else config["bootstrap_expect"]
        self._bootstrap = Bootstrap(expect, raft, lambda: cluster.servers, self._peers)
        cluster.on_lan(self._heard)

    def _make_listener(self, agent: Agent) -> RpcListener:
        protocols = {
            SINGLE: self.rpc.single,
            MULTIPLEX: self.rpc.multiplexed,
            RAFT: self._transport.protocol,
            SNAPSHOT: agent.snapshots.protocol,
        }
        port, limits = agent.config["ports.server"], settings.rpc_limits(agent.config)
        return RpcListener(self._loop, agent.addresses.bind, port, protocols, self._cluster.tls, limits)

    # life

    def open(self) -> None:
        """Listen for RPC. ConfigError when the port cannot be had."""
        self._listener.open()

    def configure(self, config: Config) -> None:
        """Take over what may change while running."""
        self._listener.configure(settings.rpc_limits(config))
        self._limits.configure(config)

    def _heard(self, event: GossipEvent) -> None:
        if isinstance(event, MemberEvent):
            self._transport.addresses_changed()
            self._bootstrap.consider()
        self._leadership.on_gossip(event)

    def leading(self, is_leader: bool) -> None:
        """Leadership was won, or lost."""
        self._sessions.leading(is_leader)
        self._leadership.leading(is_leader)
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        if is_leader:
            self._replication.start()
            if self._first_entries:
                work = write_first(self._first_entries, self.store, self.raft.apply, self._log)
                self._beginning = self._loop.create_task(work)
        else:
            self._replication.stop()
            self.coordinates.stop()
            self.jobs.clear()

    def stop(self) -> None:
        """Serve nobody any more."""
        if self._beginning is not None:
            self._beginning.cancel()
        self._bootstrap.stop()
        self._leadership.stop()
        self._replication.stop()
        self._sessions.leading(False)
        self.coordinates.stop()
        self._listener.close()

    def leave_refusal(self) -> str:
        """Why this server should not leave; empty if it may."""

        def is_alive(server_id: str) -> bool:
            facts = self._cluster.server(server_id)
            return facts is not None and facts.alive

        return peers.leave_refusal(self.raft.configuration, self.raft.node_id, is_alive)

    async def hand_over(self) -> None:
        """Before a leave: another voter leads, if there is one that can."""
        others = [voter for voter in self.raft.configuration.voters if voter != self.raft.node_id]
        if not self.raft.is_leader or not others:
            return
        try:
            target = self.raft.transfer()
        except CtlError as error:
            self._log.warn("leaving as the leader", error=str(error))
            return
        self._log.info("leadership is handed over", server=target)
        await self._until(lambda: self.raft.leader_id not in ("", self.raft.node_id), _HAND_OVER_SECONDS)

    async def drain(self, seconds: float) -> None:
        """After a leave: go on until the leader has taken this server out of the configuration, and calls
        that are under way are through, at most `seconds`."""
        if len(self.raft.configuration.voters) > 1:
            await self._until(lambda: self.raft.configuration.get(self.raft.node_id) is None, seconds)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        until = self._loop.time() + seconds
        while not condition() and self._loop.time() < until:
            await asyncio.sleep(0.02)

    async def _peers(self, server: ServerFacts) -> list[str]:
        found = await self._cluster.pool.call(server, "Status.Peers", {})
        return [wire.text(address) for address in found or ()]

    async def _leader_of(self, server: ServerFacts) -> str:
        return wire.text(await self._cluster.pool.call(server, "Status.Leader", {}))

    async def _raft_stats(self, server: ServerFacts) -> RaftStats:
        found = await self._cluster.pool.call(server, "Status.RaftStats", {})
        return wire.from_wire(RaftStats, found)

    # core.api.endpoint.ServerDoor

    def wall(self) -> float:
        """Unix seconds by this server's clock."""
        return self._world.wall()

    async def fetch(self, url: str, ca: str, fresh: bool = False) -> bytes:
        """The document at an http(s) URL; see Documents."""
        return await self._documents.fetch(url, ca, fresh)

    def renew_session(self, session: Session) -> None:
        """The session's TTL starts anew."""
        self._sessions.renew(session)

    @property
    def permissions(self) -> Permissions | None:
        return self._calls.permissions

    def bootstrap_reset_index(self) -> int:
        """What the file acl-bootstrap-reset in the data directory says; 0 without it. The file is removed."""
        if self._data_dir is None:
            return 0
        path = self._data_dir / _RESET_FILE
        try:
            text = path.read_text("ascii")
            path.unlink()
            return int(text)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            self._log.error("bootstrap: cannot use the reset index", file=path, error=error)
            return 0

    def replication_status(self) -> ACLReplicationStatus:
        """How copying ACLs from the primary datacenter goes."""
        return self._replication.status()

    def autopilot_health(self) -> Health:
        """Autopilot's last judgement."""
        return self._leadership.health()

    async def transfer_leader(self, target: str) -> None:
        """Hand leadership to this server ("": any that is able), and wait until it is lost."""
        chosen = self.raft.transfer(target)
        await self._until(lambda: not self.raft.is_leader, _HAND_OVER_SECONDS)
        if self.raft.is_leader:
            raise Unavailable(f"server {chosen} has not taken over the leadership in time")

    # core.api.actions

    def now(self) -> float:
        """Monotonic seconds."""
        return self._world.now()

    # core.api.query_execute

    @property
    def chance(self) -> Random:
        """This server's source of chance."""
        return self._world.random

    def other_datacenters(self) -> list[str]:
        """Those that gossip knows, nearest first."""
        return self._cluster.datacenters()[1:]

    async def run(self, errand: Errand) -> Any:
        """Have an action done where its datacenter is. Raises CtlError."""
        return await self._calls.run(errand)

    async def run_all(self, errands: Sequence[Errand]) -> list[Any]:
        """Have actions done where their datacenters are, all at once: their results, or CtlErrors."""
        results = await asyncio.gather(*map(self._calls.run, errands), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, CtlError):
                raise result
        return results

    def failed_over(self, query: str, datacenter: str, error: CtlError) -> None:
        """Note that a prepared query could not be looked for in a datacenter."""
        text = "a prepared query could not be looked for in another datacenter"
        self._log.warn(text, query=query, dc=datacenter, error=str(error))
