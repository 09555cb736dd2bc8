"""Does what a leader owes the cluster while it leads: the catalog follows the members, Raft follows the
servers, autopilot watches over them, old tombstones go (all decided in core/node)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from agent.acl_leader import AclDuties
from agent.autopilot import AutopilotLoop, ServerChanges
from agent.raft_waiting import raised
from core.errors import CtlError, Invalid
from core.gossip.member import REAP, Member, MemberEvent
from core.node import leader, peers
from core.node.autopilot import DEFAULTS, Health
from core.node.cluster import Cluster, Me, Refusal
from core.node.tombstones import TombstoneClock
from core.store import commands
from core.store.structs import AutopilotConfig, AutopilotSetConfigRequest, RegisterRequest

if TYPE_CHECKING:
    from agent.autopilot import Fetch
    from agent.logs import Logger
    from agent.raft_waiting import Done
    from agent.world import World
    from core.acl.settings import AclSettings
    from core.gossip.member import GossipEvent
    from core.metrics import Metrics
    from core.raft.configuration import Configuration
    from core.store.state import Store

NEW_LEADER = "consul:new-leader"
BATCH = 128  # members that are planned, and written in one go, before others have their turn


class LeaderSettings(Struct, frozen=True, kw_only=True):
    """Times in seconds. `heartbeat_gap`: how long a follower may hear nothing of this leader."""

    autopilot: AutopilotConfig = DEFAULTS  # written into the log when there is none
    heartbeat_gap: float = 0.2
    reconcile: float = 60.0
    retry: float = 2.0
    gather: float = 0.1  # after a look at the members: what happens meanwhile is one batch
    forget_after: float = 60.0  # from the start of the agent until its list of members is taken for complete


class Log(Protocol):
    """What a leader needs of Raft. agent/raft.py's RaftService fulfils it."""

    @property
    def configuration(self) -> Configuration: ...

    def propose(self, data: bytes, done: Done) -> None: ...

    async def barrier(self) -> None: ...

    async def change(self, configuration: Configuration) -> None: ...


class Gossip(Protocol):
    """What a leader needs of the LAN pool. agent/gossip.py's GossipPool fulfils it."""

    def members(self) -> Sequence[Member]: ...

    async def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None: ...

    async def force_leave(self, name: str, prune: bool) -> None: ...


class Leadership:
    """The duties of the leader. They run from `leading(True)` to `leading(False)`.

    `fetch(server)` asks a server, this one too, for its Status.RaftStats."""

    def __init__(
        self,
        me: Me,
        store: Store,
        raft: Log,
        lan: Gossip,
        fetch: Fetch,
        world: World,
        logger: Logger,
        metrics: Metrics,
        settings: LeaderSettings,
        acl: AclSettings,
    ) -> None:
        self._me = me
        self._store = store
        self._raft = raft
        self._lan = lan
        self._fetch = fetch
        self._world = world
        self._log = logger
        self._metrics = metrics
        self._settings = settings
        self._complete_at = world.now() + settings.forget_after
        self._tasks: set[asyncio.Task[None]] = set()
        self._autopilot: AutopilotLoop | None = None
        self._changes = ServerChanges(raft, logger)
        self._acl = AclDuties(acl, store, self._apply, world, logger)
        self._told: dict[str, Member | None] = {}  # names that gossip told of; with the member if it is gone
        self._awake = asyncio.Event()
        self._said: set[str] = set()  # the refusals that stand

    # Life

    def leading(self, is_leader: bool) -> None:
        """Leadership was won and all that was committed before is applied, or it was lost."""
        if not is_leader:
            self.stop()
        elif not self._tasks:
            self._said.clear()
            self._autopilot = AutopilotLoop(
                self._me,
                self._store,
                self._lan,
                self._changes,
                self._fetch,
                self._world,
                self._log,
                self._metrics,
                self._settings.heartbeat_gap,
                self._settings.autopilot,
            )
            duties = (
                self._follow_members,
                self._autopilot.run,
                self._reap_tombstones,
                self._acl.reap_expired,
            )
            for duty in duties:
                self._begin(duty)

    def stop(self) -> None:
        """End the duties."""
        tasks, self._tasks, self._autopilot = self._tasks, set(), None
        for task in tasks:
            task.cancel()

    def _begin(self, duty: Callable[[], Awaitable[None]], pause: float = 0.0) -> None:
        async def work() -> None:
            await asyncio.sleep(pause)
            await duty()

        def ended(task: asyncio.Task[None]) -> None:
            if task in self._tasks and not task.cancelled():
                # A duty is for ever, so its end is a defect: tell it, and try again.
                self._tasks.discard(task)
                self._log.error("a duty of the leader has failed", error=repr(task.exception()))
                self._begin(duty, self._settings.retry)

        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(ended)

    def on_gossip(self, event: GossipEvent) -> None:
        """Members came, went or changed."""
        if isinstance(event, MemberEvent) and self._tasks:
            for member in event.members:
                self._told[member.name.lower()] = member if event.kind == REAP else None
            self._awake.set()

    def health(self) -> Health:
        """Autopilot's last judgement, an empty one where there is none (not the leader, or only just)."""
        return Health() if self._autopilot is None else self._autopilot.health

    # Members

    async def _follow_members(self) -> None:
        """Look at all members at once and every minute, and at those that gossip tells of."""
        settings = self._settings
        all_at = self._world.now()
        ready = False
        while True:
            now = self._world.now()
            told, self._told = self._told, {}
            self._awake.clear()
            try:
                if not ready:
                    await self._take_office()
                    ready = True
                if now >= all_at:
                    await self._look(told, everyone=True)
                    all_at = now + settings.reconcile
                    if now < self._complete_at:
                        all_at = min(all_at, self._complete_at)
                elif told:
                    await self._look(told, everyone=False)
            except CtlError as error:
                self._log.error("failed to reconcile members", error=str(error))
                all_at = now + settings.retry
            await asyncio.sleep(settings.gather)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, all_at - self._world.now())):
                    await self._awake.wait()

    async def _take_office(self) -> None:
        begun = perf_counter()
        await self._raft.barrier()
        self._metrics.sample("leader.barrier", (perf_counter() - begun) * 1000)
        await self._acl.take_office()
        try:
            await self._lan.user_event(NEW_LEADER, self._me.name.encode())
        except CtlError as error:
            self._log.warn("could not tell who leads now", error=str(error))
        if self._store.autopilot_config() is None:
            request = AutopilotSetConfigRequest(self._me.datacenter, self._settings.autopilot)
            raised(await self._propose(commands.command(commands.AUTOPILOT, request)))

    async def _look(self, told: dict[str, Member | None], everyone: bool) -> None:
        """Make the catalog and Raft follow those that were told of, or everyone."""
        begun = perf_counter()
        gone = [member for member in told.values() if member is not None]
        cluster = Cluster(self._lan.members(), self._me.datacenter, gone)
        refusals = cluster.conflicts(self._store)
        names = iter(list(cluster.by_name) if everyone else told)
        while some := list(islice(names, BATCH)):
            refusals += await self._write(leader.plan_catalog(self._store, cluster, some, self._me))
            await asyncio.sleep(0)
        if everyone and self._world.now() >= self._complete_at:
            refusals += await self._write(leader.plan_forgotten(self._store, cluster, self._me))
        steps = peers.plan_servers(self._store, cluster, self._raft.configuration, self._me)
        self._say(refusals + [step for step in steps if isinstance(step, Refusal)], everyone)
        for step in steps:
            if not isinstance(step, Refusal):
                await self._changes.make(step)
        self._metrics.sample("leader.reconcile", (perf_counter() - begun) * 1000)

    async def _write(self, steps: Iterable[leader.CatalogStep]) -> list[Refusal]:
        """Write to the catalog, many steps in one go. What the state machine refused is returned."""
        refused = []
        rest = iter(steps)
        while some := list(islice(rest, BATCH)):
            for step, future in [(step, self._propose(_data(step))) for step in some]:
                try:
                    raised(await future)
                except Invalid as error:
                    refused.append(Refusal(f'node "{step.request.node}": {error}'))
                else:
                    self._log.info(step.text, member=step.request.node)
        return refused

    def _propose(self, data: bytes) -> asyncio.Future[object]:
        """What is to come of a command: its result, or the exception that it failed with, as a value."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._raft.propose(data, lambda result: None if future.done() else future.set_result(result))
        return future

    async def _apply(self, data: bytes) -> object:
        return raised(await self._propose(data))

    def _say(self, refusals: list[Refusal], everyone: bool) -> None:
        """Log what is new among the refusals: once, until it has gone and comes back."""
        texts = {refusal.text for refusal in refusals}
        for text in sorted(texts - self._said):
            self._log.error(text)
        self._said = texts if everyone else self._said | texts

    # Tombstones

    async def _reap_tombstones(self) -> None:
        clock = TombstoneClock()
        owed = 0
        while True:
            now = self._world.now()
            clock.observe(self._store.index("tombstones"), now)
            owed = max(owed, clock.due(now))
            if owed and len(self._store.tombstones):
                try:
                    raised(await self._propose(commands.tombstone_reap(owed, self._me.datacenter)))
                    owed = 0
                except CtlError as error:
                    self._log.error("failed to reap tombstones", error=str(error))
            await asyncio.sleep(clock.deadline(now) - now)


def _data(step: leader.CatalogStep) -> bytes:
    if isinstance(step.request, RegisterRequest):
        return commands.register(step.request)
    return commands.deregister(step.request)
