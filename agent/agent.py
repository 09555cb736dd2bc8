"""The agent that endpoints see: it owns the state, the log, the local services and the listeners.

`start` builds from the inside out: state, log, HTTP (so that clients get an answer early), duties,
local services, DNS. `stop` takes it apart the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import describe, identity, settings
from agent.acl import ServerPermissions
from agent.acl_client import ClientPermissions
from agent.acl_secondary import SecondaryPermissions
from agent.actions import Actions
from agent.archives import Archives
from agent.calls import Calls
from agent.cluster import Cluster
from agent.counts import Counts, TimedFSM, collect_agent, hear_gossip
from agent.debug import Debug
from agent.dial import Dialer
from agent.events import EventLog
from agent.front import Front
from agent.http import HttpServer
from agent.listeners import Listeners
from agent.local import LocalAgent
from agent.logs import LogHub, Subscription, get_logger, set_level
from agent.names import dns_server
from agent.raft import RaftService
from agent.raft_transport import RaftTransport, configured
from agent.server import Server
from agent.sync import CallsCatalog
from agent.telemetry import Telemetry
from agent.tokens import AgentTokens
from agent.watches import Watches
from agent.wire import Wire
from agent.world import errno_text
from core.acl.resolve import Judges
from core.api.primary import primary
from core.api.router import Router
from core.api.table import ROUTES
from core.config.diff import Reload, compare
from core.errors import ConfigError, Unavailable
from core.gossip.member import ALIVE, Member
from core.metrics import Metrics
from core.node.servers import ServerFacts
from core.store.structs import Node

if TYPE_CHECKING:
    from agent.gossip import GossipPool
    from agent.world import World
    from core.api.endpoint import Answer, Errand, Permissions, Question
    from core.config.addresses import Addresses
    from core.config.settings import Config


class Agent:
    """One agent. `load` reads the configuration again, for reloads."""

    def __init__(
        self, config: Config, addresses: Addresses, load: Callable[[], Config], world: World, hub: LogHub
    ) -> None:
        self.config = config
        self.addresses = addresses
        self.world = world
        self.logs = hub
        self.stopping = asyncio.Event()
        self._started = asyncio.Event()
        self.exit_code = 1
        self._load = load
        self._log = get_logger("agent")
        self._reloading = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.data_dir = None if config.dev else _prepared(Path(config["data_dir"]))
        self.node_id = identity.node_id(world, config["node_id"], self.data_dir)
        self.acl = settings.acl(config)
        self.tokens = AgentTokens(
            settings.acl_tokens(config),
            self.data_dir if self.acl.token_persistence else None,
            world,
            get_logger("agent.acl"),
        )
        self.metrics = settings.metrics(config, world.wall())
        self._telemetry = Telemetry(self.metrics, settings.sinks(config))
        self._fsm = TimedFSM(self.metrics)
        self.store = self._fsm.store
        self.tls = settings.rpc_tls(config)
        self.dialer = Dialer(self._loop, self.tls, addresses.bind, config["datacenter"])
        self._transport = RaftTransport(self.dialer, self._locate) if config["server"] else None
        self.raft = self._make_raft() if config["server"] else None
        self.calls = self._make_calls()
        self.front = self._make_front()
        self.front.audit = settings.audit(config)
        self.debug = Debug(self)
        self.http = HttpServer(
            self.front,
            self._loop,
            config["limits.http_max_conns_per_client"],
            config["http_config.max_header_bytes"],
            max(settings.OTHER_BODIES, config["limits.kv_max_value_size"]),
        )
        self._listeners = Listeners(self.http, config, self._log, world.wall)
        self.dns = dns_server(self)
        self.local: LocalAgent = self._make_local()
        self.cluster = Cluster(self)
        self.actions = Actions(self, get_logger("agent.actions"))
        self.cluster.on_lan(self.actions.hear)
        self.watches = Watches(self.front, self.data_dir, world, self._log)
        self.snapshots = Archives(
            self.raft, self.dialer, self.datacenter, self.calls.target, lambda: self.calls.permissions
        )
        self.server: Server | None = None
        if self.acl.enabled:
            self._guard()
        if self.raft is not None and self._transport is not None:
            self.server = self.calls.server = Server(self, self.cluster, self.raft, self._transport)
            self.calls.primary = primary(self.acl, self.store)

    def _guard(self) -> None:
        """From now on tokens are asked for."""
        judges = Judges(self.acl, self.node_name)
        logger = get_logger("agent.acl")
        if self.raft is None:
            self.calls.permissions = ClientPermissions(
                judges, self.tokens, self.cluster.ask, self.world, logger
            )
            self.tokens.on_change = self._tokens_changed
            return
        permissions = ServerPermissions(
            self.store, judges, self.tokens, self.world, self._permissions_changed
        )
        self.calls.permissions = permissions
        self.tokens.on_change = self._tokens_changed
        place = self.acl.primary_datacenter
        if self.acl.datacenter != place and not self.acl.token_replication:
            there = ClientPermissions(
                judges, self.tokens, partial(self.cluster.ask_in, place), self.world, logger, place
            )
            self.calls.permissions = SecondaryPermissions(permissions, there, self.world)

    def _tokens_changed(self) -> None:
        """This agent works with other tokens: what was refused to it may not be now, and the other way."""
        if isinstance(self.calls.permissions, ServerPermissions):
            self.calls.permissions.forget()
        self._permissions_changed()
        self.local.server_up()

    def _permissions_changed(self) -> None:
        """What was answered before need not hold for the same token now."""
        self.front.forget_answers()
        self.dns.forget()

    def _make_calls(self) -> Calls:
        config = self.config
        calls = Calls(
            self.store, self.raft, config["datacenter"], self.world, self._loop, settings.calls(config)
        )
        calls.counts = Counts(self.metrics)
        return calls

    def _make_front(self) -> Front:
        config = self.config
        return Front(
            self,
            self.calls,
            Wire(
                self.acl.default_policy if self.acl.enabled else "allow",
                settings.response_headers(config),
                always_pretty=config.dev,
            ),
            settings.front(config),
            self.world.random,
            get_logger("agent.http"),
            self._loop,
            Router(ROUTES),
            self.metrics,
        )

    def _make_local(self) -> LocalAgent:
        return LocalAgent(
            self.world,
            self._node(self.config),
            CallsCatalog(self.calls, lambda: self.tokens.for_agent),
            self.tokens,
            self.data_dir,
            settings.local(self.config),
            self._log,
        )

    def _node(self, config: Config) -> Node:
        """This node as the catalog should have it."""
        return Node(
            id=self.node_id,
            node=config["node_name"],
            address=self.addresses.advertise,
            datacenter=config["datacenter"],
            tagged_addresses={**self.addresses.tagged, **config["tagged_addresses"]},
            meta={**config["node_meta"], "consul-network-segment": ""},
        )

    def _make_raft(self) -> RaftService:
        return RaftService(
            self.node_id,
            f"{self.addresses.advertise}:{self.config['ports.server']}",
            self.data_dir / "raft" if self.data_dir is not None else None,
            self._fsm,
            settings.raft(self.config),
            self.world,
            self.metrics,
            self._transport,
        )

    def _locate(self, server_id: str, address: str) -> ServerFacts | None:
        """Where Raft reaches a server: gossip's word, else the address in the configuration."""
        return self.cluster.server(server_id) or configured(server_id, address, self.datacenter)

    # life

    async def start(self) -> None:
        """Open everything. ConfigError when something cannot be had."""
        for text in self.addresses.notices:
            self._log.warn(text)
        self._warn_of_scripts()
        self._telemetry.start(self.world.wall())
        self.metrics.register_collector(self._collect)
        self.cluster.on_lan(hear_gossip(self.metrics))
        if self.raft is not None:
            await self.raft.start(self.config["bootstrap"] or self.config.dev)
        if self.server is not None:
            self.server.open()
        await self.cluster.open()
        if self.raft is not None:  # a leader's duties need gossip, and who can ask expects them done
            self.raft.on_leader(self._leader_changed)
        await self._listeners.open(self.addresses.http, self.addresses.https)
        await self._listeners.open_default_socket()
        await self.local.start(self.config.services, self.config.checks)
        await self._start_dns()
        await self.cluster.start()
        self.watches.reload(self.config.watches)
        self._started.set()

    def _warn_of_scripts(self) -> None:
        """Scripts by way of an open API have been real break-ins (design: pains row 25)."""
        listeners = [*self.addresses.http, *self.addresses.https]
        reach = [one for one in listeners if not one.path and not ip_address(one.host).is_loopback]
        if reach and self.config["enable_script_checks"]:
            places = ", ".join(str(listener) for listener in reach)
            text = "whoever reaches the HTTP API can run commands here; prefer enable_local_script_checks"
            self._log.warn(text, address=places)
        if self.config["actions"] and self.config["actions_without_acl"] and not self.acl.enabled:
            self._log.warn("whoever reaches the HTTP API of any agent can run the actions of this one")

    async def _start_dns(self) -> None:
        pairs = [(listener.host, listener.port) for listener in self.addresses.dns]
        try:
            await self.dns.start(pairs)
        except OSError as error:
            places = ", ".join(str(listener) for listener in self.addresses.dns)
            words = errno_text(error)
            raise ConfigError(f"cannot listen for dns on {places}: {words}") from None

    async def stop(self) -> None:
        """Close everything, keeping what must last."""
        self.http.stop_accepting()
        await self.watches.stop()
        await self.actions.stop()
        if self.server is not None:
            self.server.stop()
        await self.dns.stop()
        await self.local.stop()
        await self.cluster.stop()
        self.calls.cache.stop()
        if self.raft is not None:
            await self.raft.stop()
        self.http.close_connections()
        self._listeners.remove_sockets()
        self._telemetry.stop()
        if self.front.audit is not None:
            self.front.audit.close()

    def _leader_changed(self, is_leader: bool) -> None:
        self.front.forget_answers()
        if self.server is not None:
            self.server.leading(is_leader)
        if is_leader:
            self._log.info("cluster leadership acquired")
            self.local.server_up()
        else:
            self._log.warn("cluster leadership lost")
            if self.raft is not None and self.raft.failure is not None:
                # Its state would differ from the others' from here on: better no answer than a wrong one.
                self._log.error("stopping: the log cannot be applied", error=str(self.raft.failure))
                self.stopping.set()

    def _collect(self, metrics: Metrics) -> None:
        """What is counted where it happens, told when someone asks for the metrics."""
        self.front.collect(metrics)
        self.calls.counts.collect(metrics)
        self._fsm.collect(metrics)
        collect_agent(self, metrics)
        metrics.gauge("http.connections", self.http.connections)

    # what endpoints ask (core/api/endpoint.py, AgentDoor)

    @property
    def node_name(self) -> str:
        name: str = self.config["node_name"]
        return name

    @property
    def datacenter(self) -> str:
        name: str = self.config["datacenter"]
        return name

    @property
    def kv_max_value_size(self) -> int:
        size: int = self.config["limits.kv_max_value_size"]
        return size

    @property
    def txn_max_req_len(self) -> int:
        size: int = self.config["limits.txn_max_req_len"]
        return size

    @property
    def keeps_coordinates(self) -> bool:
        return not self.config["disable_coordinates"]

    @property
    def translate_wan_addrs(self) -> bool:
        wanted: bool = self.config["translate_wan_addrs"]
        return wanted

    @property
    def permissions(self) -> Permissions | None:
        return self.calls.permissions

    @property
    def is_leader(self) -> bool:
        return self.raft is not None and self.raft.is_leader

    def known_datacenters(self) -> list[str]:
        return self.cluster.datacenters()

    def members(self, wan: bool) -> list[dict[str, Any]]:
        if wan:
            pool = self.cluster.wan
            return [] if pool is None else [describe.member(member) for member in pool.members()]
        return [describe.member(one, self._rpc_state(one)) for one in self.cluster.lan.members()]

    def _rpc_state(self, member: Member) -> str:
        if member.status != ALIVE or member.tags.get("role") != "consul":
            return ""
        return self.cluster.rpc_state(member.tags.get("id", ""))

    @property
    def events(self) -> EventLog:
        return self.cluster.events

    @property
    def pool(self) -> GossipPool:
        return self.cluster.lan

    def self_description(self) -> dict[str, Any]:
        return describe.about(self)

    def leader_address(self) -> str:
        return self.raft.leader_address if self.raft is not None else ""

    def raft_stats(self) -> dict[str, str]:
        return self.raft.stats() if self.raft is not None else {}

    @property
    def prometheus_enabled(self) -> bool:
        return bool(self.config["telemetry.prometheus_retention_time"] > 0)

    @property
    def max_query_time(self) -> int:
        longest: int = self.config["max_query_time"]
        return longest

    async def host_facts(self) -> dict[str, Any]:
        from agent import host

        return await self._loop.run_in_executor(None, host.facts, str(self.data_dir or ""), self.world.wall())

    def follow_log(self, level: str, as_json: bool) -> Subscription:
        return self.logs.subscribe(level, as_json)

    def wall(self) -> float:
        return self.world.wall()

    @property
    def debug_enabled(self) -> bool:
        return bool(self.config["enable_debug"])

    async def ask(self, question: Question) -> Answer:
        """Have a read answered, wherever that can be done."""
        return await self.calls.read(question)

    async def run(self, errand: Errand) -> Any:
        """Have an action done by a server that can."""
        return await self.calls.run(errand)

    async def join(self, address: str, wan: bool) -> None:
        """Join the pool of whoever is at `address`."""
        await self.cluster.join(address, wan)

    async def force_leave(self, node: str, prune: bool, wan: bool = False) -> None:
        """Push a failed member out."""
        await self.cluster.force_leave(node, prune, wan)

    async def leave(self, destroy_quorum: bool = False) -> None:
        """Leave in peace and stop: the cluster knows before this returns. Unavailable when the servers that
        stay could not elect a leader, unless that is wanted."""
        await self._started.wait()  # a signal may come while it starts
        refusal = "" if self.server is None or destroy_quorum else self.server.leave_refusal()
        if refusal:
            raise Unavailable(refusal)
        self._log.info("leaving")
        self.calls.leaving = True
        if self.server is not None:
            await self.server.hand_over()
        await self.cluster.leave()
        if self.server is not None:
            await self.server.drain(settings.seconds(self.config["performance.leave_drain_time"]))
        self._log.info("leaving: graceful leave complete, shutting down")
        self.exit_code = 0
        # The answer to the request that asked goes out first.
        self._loop.call_later(0.05, self.stopping.set)

    async def reload(self) -> list[str]:
        """Load the configuration again: all of it is taken, or nothing. What needs a restart is returned."""
        async with self._reloading:
            new = self._load()
            difference = compare(self.config, new)
            await self._apply(difference)
        return [str(change) for change in difference.restart]

    async def _apply(self, difference: Reload) -> None:
        config = difference.config
        self._listeners.reload(config)
        await self.local.reload(config.services, config.checks)
        self.local.state.set_node(self._node(config))
        self.local.state.discard_check_output = config["discard_check_output"]
        self.config = config
        self.cluster.reload()
        if self.server is not None:
            self.server.configure(config)
        set_level(config["log_level"])
        self.tokens.reload(settings.acl_tokens(config))
        self.dns.reload(settings.dns(config))
        self.http.max_conns_per_client = config["limits.http_max_conns_per_client"]
        self.metrics.set_filters(config["telemetry.prefix_filter"], config["telemetry.filter_default"])
        if self.raft is not None:
            self.raft.configure(settings.raft(config))
        for text in config.warnings:
            self._log.warn(text)
        self.watches.reload(config.watches)
        for change in difference.applied:
            self._log.info("configuration changed", option=str(change))
        for change in difference.restart:
            self._log.warn("this change needs a restart", option=str(change))
        self._log.info("configuration reloaded")


def _prepared(data_dir: Path) -> Path:
    """The data directory, made if it is not there."""
    try:
        data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data_dir {data_dir} cannot be made: {error.strerror}") from None
    return data_dir
