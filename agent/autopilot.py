"""Autopilot at work: asks the servers how they are, and does what core/node/autopilot.py decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from core.errors import CtlError
from core.gossip.member import ALIVE, Member
from core.node.autopilot import (
    HEALTH_INTERVAL,
    Autopilot,
    AutopilotStep,
    ForceLeave,
    Health,
    Promote,
    RaftStats,
    RemoveStale,
)
from core.node.peers import AddServer, RemoveServer
from core.node.servers import ServerFacts, server_facts
from core.store.structs import AutopilotConfig

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.metrics import Metrics
    from core.node.cluster import Me
    from core.raft.configuration import Configuration
    from core.store.state import Store

_PATIENCE = 0.75 * HEALTH_INTERVAL  # seconds to wait for a server's answer
Fetch = Callable[[ServerFacts], Awaitable[RaftStats]]


class RaftChanges(Protocol):
    """The part of Raft that changes who the servers are."""

    @property
    def configuration(self) -> Configuration: ...

    async def change(self, configuration: Configuration) -> None: ...


class Members(Protocol):
    """The part of the LAN pool that autopilot needs."""

    def members(self) -> Sequence[Member]: ...

    async def force_leave(self, name: str, prune: bool) -> None: ...


class ServerChanges:
    """Changes of the Raft configuration: one at a time, whoever asks for them."""

    def __init__(self, raft: RaftChanges, logger: Logger) -> None:
        self._raft = raft
        self._log = logger
        self._turn = asyncio.Lock()

    @property
    def configuration(self) -> Configuration:
        """The servers as they are now."""
        return self._raft.configuration

    async def make(self, step: AddServer | RemoveServer | Promote | RemoveStale) -> None:
        """Make the change, unless it is made already. Raises CtlError."""
        async with self._turn:
            known = self.configuration
            if isinstance(step, AddServer):
                wanted = known.with_nonvoter(step.id, step.address)
            elif not isinstance(step, Promote):
                wanted = known.without(step.id)
            else:
                server = known.get(step.id)
                wanted = known.with_voter(step.id, server.address) if server is not None else known
            if wanted != known:
                await self._raft.change(wanted)
                self._log.info(step.text, server=step.id)


class AutopilotLoop:
    """One term of autopilot. `initial` is its configuration until the log has one."""

    def __init__(
        self,
        me: Me,
        store: Store,
        lan: Members,
        changes: ServerChanges,
        fetch: Fetch,
        world: World,
        logger: Logger,
        metrics: Metrics,
        heartbeat_gap: float,
        initial: AutopilotConfig,
    ) -> None:
        self._me = me
        self._store = store
        self._lan = lan
        self._changes = changes
        self._fetch = fetch
        self._world = world
        self._log = logger
        self._metrics = metrics
        self._initial = initial
        self._machine = Autopilot(me.id, world.now(), heartbeat_gap)

    @property
    def health(self) -> Health:
        """The last judgement."""
        return self._machine.health

    async def run(self) -> None:
        """Look after the servers for ever."""
        while True:
            begun = self._world.now()
            await self.round()
            await asyncio.sleep(max(0.0, begun + HEALTH_INTERVAL - self._world.now()))

    async def round(self) -> None:
        """Ask, judge, act."""
        servers = [
            member
            for member in self._lan.members()
            if member.tags.get("role") == "consul" and member.tags.get("dc") == self._me.datacenter
        ]
        alive = [
            facts for one in servers if one.status == ALIVE and (facts := server_facts(one)) and facts.id
        ]
        answers = await asyncio.gather(*map(self._ask, alive))
        stats = {facts.id: stat for facts, stat in zip(alive, answers, strict=True) if stat is not None}
        config = self._store.autopilot_config() or self._initial
        now, configuration = self._world.now(), self._changes.configuration
        health = self._machine.observe(now, self._world.wall(), config, servers, configuration, stats)
        self._metrics.gauge("autopilot.healthy", 1.0 if health.healthy else 0.0)
        self._metrics.gauge("autopilot.failure_tolerance", health.failure_tolerance)
        for step in self._machine.decide(now, config, servers, configuration):
            await self._take(step)

    async def _ask(self, server: ServerFacts) -> RaftStats | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._fetch(server)
        except (CtlError, OSError) as error:  # a TimeoutError is an OSError
            self._log.debug("server does not tell its Raft state", server=server.name, error=str(error))
            return None

    async def _take(self, step: AutopilotStep) -> None:
        try:
            if isinstance(step, ForceLeave):
                self._log.info(step.text, server=step.name)
                await self._lan.force_leave(step.name, prune=False)
            else:
                await self._changes.make(step)
        except CtlError as error:
            self._log.warn("autopilot could not do what it wanted", what=step.text, error=str(error))
