"""Anti-entropy at work: keeps the catalog's copy of this agent's services and checks like the original.

What to do when is decided in core/node/antientropy.py, what differs in core/node/local.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from agent.logs import Logger
from agent.world import World
from core.api import catalog, health
from core.api.endpoint import Answer, Command, QueryOptions, Question, Read, Reply, TokenKind
from core.errors import CtlError, Denied, Unavailable
from core.node.antientropy import AntiEntropy
from core.node.local import LocalState, Push
from core.store.structs import DeregisterRequest, HealthCheck, Node, NodeService, RegisterRequest

if TYPE_CHECKING:
    from agent.calls import Calls

_GONE = ("Unknown service", "Unknown check")


class AgentTokensDoor(Protocol):
    """The tokens of the agent's own work. agent/tokens.py fulfils it."""

    @property
    def for_agent(self) -> str: ...

    def secret(self, kind: TokenKind) -> str: ...


class CatalogDoor(Protocol):
    """The catalog as the servers have it. Everything raises CtlError."""

    async def register(self, request: RegisterRequest) -> None: ...

    async def deregister(self, request: DeregisterRequest) -> None: ...

    async def node_services(self, node: str) -> tuple[Node | None, list[NodeService]]: ...

    async def node_checks(self, node: str) -> list[HealthCheck]: ...


class CallsCatalog:
    """The catalog behind the agent's own calls. `token()` is the agent's, for reads."""

    def __init__(self, calls: Calls, token: Callable[[], str]) -> None:
        self._calls = calls
        self._token = token

    async def register(self, request: RegisterRequest) -> None:
        await self._calls.apply(Command(catalog.REGISTER, request, _no_reply, request.datacenter))

    async def deregister(self, request: DeregisterRequest) -> None:
        await self._calls.apply(Command(catalog.DEREGISTER, request, _no_reply, request.datacenter))

    async def node_services(self, node: str) -> tuple[Node | None, list[NodeService]]:
        question = self._question(catalog.NODE_SERVICES, node)
        found: tuple[Node | None, list[NodeService]] = (await self._calls.read(question)).value
        return found

    async def node_checks(self, node: str) -> list[HealthCheck]:
        question = self._question(health.NODE_CHECKS, node)
        found: list[HealthCheck] = (await self._calls.read(question)).value
        return found

    def _question(self, read: Read, node: str) -> Question:
        options = QueryOptions(token=self._token())
        return Question(read, catalog.NameRequest(node), options, _no_reply)


def _no_reply(_: Answer) -> Reply:
    return Reply()


class Sync:
    """The loop that looks and pushes. Belongs to the event loop that it was started on."""

    def __init__(
        self, world: World, state: LocalState, door: CatalogDoor, tokens: AgentTokensDoor, log: Logger
    ) -> None:
        self._world = world
        self._state = state
        self._door = door
        self._tokens = tokens
        self._refused: dict[str, str] = {}  # what the servers refuse, and why
        self._log = log
        self._schedule = AntiEntropy(world.random, world.now())
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        state.on_change = self._changed
        state.on_wait = self._awake.set

    def start(self) -> None:
        """Begin with a full look."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End; a request under way is given up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def server_up(self) -> None:
        """A server has come, or there is a leader."""
        self._schedule.server_up(self._world.now())
        self._awake.set()

    def set_nodes(self, count: int) -> None:
        """How many nodes the cluster has: larger ones are looked over less often."""
        self._schedule.nodes = count

    def _changed(self) -> None:
        self._schedule.changed()
        self._awake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The loop only ends when it is told to; a defect in one round must not end anti-entropy."""
        if self._task is not task or task.cancelled():
            return
        self._log.error("anti-entropy failed, starting anew", error=repr(task.exception()))
        self._schedule.done("full", False, self._world.now())
        self.start()

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            self._state.tick(self._world.now())
            work = self._schedule.due(self._world.now())
            if work is None:
                await self._sleep()
                continue
            ok = await self._look() and await self._push() if work == "full" else await self._push()
            self._schedule.done(work, ok, self._world.now())

    async def _sleep(self) -> None:
        times = [when for when in (self._schedule.deadline(), self._state.deadline()) if when is not None]
        delay = max(0.0, min(times) - self._world.now()) if times else None
        timer = asyncio.get_running_loop().call_later(delay, self._awake.set) if delay is not None else None
        try:
            await self._awake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _look(self) -> bool:
        name = self._state.node.node
        try:
            node, services = await self._door.node_services(name)
            checks = await self._door.node_checks(name)
        except (CtlError, OSError) as error:
            self._fails("failed to sync remote state", error)
            return False
        self._state.compare(node, services, checks)
        return True

    async def _push(self) -> bool:
        ok = True
        for push in self._state.pushes():
            try:
                await self._send(push)
            except (Unavailable, OSError) as error:
                self._fails("failed to sync changes", error)
                return False
            except Denied as error:
                self._blocked(_named(push), error.text)
                self._state.dropped(push)
            except CtlError as error:
                self._fails("failed to sync changes", error, _named(push))
                ok = False
        if ok:
            self._failing = False
        return ok

    def _blocked(self, what: str, why: str) -> None:
        """A refusal is news once; what is refused is tried again with every look at the catalog, and when
        it or the agent's tokens change."""
        say = self._log.debug if self._refused.get(what) == why else self._log.warn
        self._refused[what] = why
        say("sync blocked by ACLs", what=what, error=why)

    def _token(self, push: Push) -> str:
        """What a push is sent with: what it was registered with, else what this agent has for the like."""
        tokens = self._tokens
        if not push.service_id and not push.check_ids:
            return tokens.for_agent
        of_files = tokens.secret("config_file_service_registration") if push.from_file else ""
        return push.request.token or of_files or tokens.secret("default") or tokens.for_agent

    async def _send(self, push: Push) -> None:
        token = self._token(push)
        if isinstance(push.request, RegisterRequest):
            await self._door.register(replace(push.request, token=token))
            self._log.info("Synced", what=_named(push))
        else:
            await self._deregister(push.request, token)
            self._log.info("Deregistered", what=_named(push))
        self._refused.pop(_named(push), None)
        self._state.pushed(push)

    async def _deregister(self, request: DeregisterRequest, token: str) -> None:
        """The token that something was registered with may be gone, and must not keep it in the catalog for
        ever: then the agent's own is tried."""
        own = self._tokens.for_agent
        try:
            try:
                await self._door.deregister(replace(request, token=token))
            except Denied:
                if own == token:
                    raise
                await self._door.deregister(replace(request, token=own))
        except CtlError as error:
            if not error.text.startswith(_GONE):
                raise

    def _fails(self, text: str, error: Exception, what: str = "") -> None:
        """Say so the first time, and quietly while it goes on."""
        say = self._log.debug if self._failing and not what else self._log.warn
        self._failing = True
        say(text, what=what or self._state.node.node, error=error)


def _named(push: Push) -> str:
    if push.service_id:
        return f"service {push.service_id}"
    return f"check {push.check_ids[0]}" if push.check_ids else "node info"
