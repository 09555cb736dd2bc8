"""A gossip pool (LAN or WAN) as the agent sees it: members, events, joining, leaving, keys.

Everything is called on the agent's own loop; the work is done on the pool's thread (`gossip_thread.py`).
What is asked crosses by `call_soon_threadsafe`; what is told comes back the same way, in order: when an
event is delivered, `members()` already shows what it says. `members()` is a tuple that never changes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from agent.gossip_keys import KeyringFile
from agent.gossip_log import GossipLog
from agent.gossip_snapshot import SnapshotFile
from agent.gossip_sockets import Sockets
from agent.gossip_thread import GossipThread, Heard
from core.api.endpoint import KeyringAnswer
from core.codec.regex import compile as compile_regex
from core.errors import Invalid, Unavailable
from core.gossip.admission import Admission
from core.gossip.coordinates import Coordinate
from core.gossip.keyring import Keyring
from core.gossip.queries import QueryParams
from core.gossip.serf import Serf
from core.gossip.settings import GossipSettings
from core.gossip.snapshot import SnapshotState
from core.store.structs import Coord

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.gossip.member import GossipEvent, Member, QueryEvent, QueryResponse

_FILES = {"lan": "local", "wan": "remote"}  # Consul's names (protocols/gossip.md 9.1)
_STOP_SECONDS = 5.0
_LEAVE_MARGIN = 5.0  # seconds more than a leave takes by its own rules

T = TypeVar("T")


class PoolSettings(Struct, frozen=True, kw_only=True):
    """What configuration says of a pool. `name` is `node` in the LAN, `node.datacenter` in the WAN."""

    name: str
    bind: str
    port: int
    tags: Mapping[str, str]
    timing: GossipSettings
    advertise: str = ""  # what others reach; the bind address if empty
    advertise_port: int = 0
    encrypt: str = ""  # base64
    data_dir: Path | None = None  # None: nothing is kept
    keyring_file: bool = True
    rejoin_after_leave: bool = False
    admission: Admission | None = None  # who may come in


class GossipPool:
    """One pool; `start`, then anything, then `leave` and `stop`, or `stop` alone."""

    def __init__(
        self,
        pool: str,
        settings: PoolSettings,
        world: World,
        log: Logger,
        on_event: Callable[[GossipEvent], None],
    ) -> None:
        """`pool` is "lan" or "wan". `on_event` is called on the loop that `start` runs on."""
        self.pool, self.settings = pool, settings
        self.members_index = 0  # grows with each change of `members()`
        self._world, self._log = world, log
        self._on_event = on_event
        self._members: tuple[Member, ...] = ()
        self._stats: dict[str, str] = {}
        self._mail: deque[Heard] = deque()
        self._mail_is_due = False
        self._thread: threading.Thread | None = None
        self._there: asyncio.AbstractEventLoop | None = None  # the thread's loop while it runs
        self._serf: Serf | None = None  # None before `start`: HTTP answers a moment sooner

    # --- life

    async def start(self) -> None:
        """Take the address, read the files, begin. ConfigError when the address or the keys cannot be had."""
        self._here = asyncio.get_running_loop()
        settings, world = self.settings, self._world
        log = GossipLog(self._log, world.now)
        keys = KeyringFile(self._path("keyring") if settings.keyring_file else None, world, self._log)
        found = keys.load(settings.encrypt)
        path = self._path("snapshot")
        snapshot = SnapshotFile(path, world, self._log) if path is not None else None
        sockets = Sockets(self.pool, settings.bind, settings.port)
        try:
            previous = snapshot.load(settings.rejoin_after_leave) if snapshot is not None else None
            serf = self._machine(sockets, Keyring(found) if found else None, previous)
            self._serf = serf
            self._work = GossipThread(serf, sockets, keys, snapshot, world, log, self._hear)
            self._stats = serf.stats()
            self._members = serf.members()
            await self._begin(sockets)
        except BaseException:
            sockets.close()
            raise
        if previous is not None and previous.alive:
            await self._call(self._work.rejoin(previous.alive))

    def _path(self, kind: str) -> Path | None:
        data_dir = self.settings.data_dir
        return None if data_dir is None else data_dir / "serf" / f"{_FILES[self.pool]}.{kind}"

    def _machine(self, sockets: Sockets, keyring: Keyring | None, previous: SnapshotState | None) -> Serf:
        settings, world = self.settings, self._world
        self.endpoint = (settings.advertise or settings.bind, settings.advertise_port or sockets.port)
        return Serf(
            settings.name,
            *self.endpoint,
            settings.tags,
            settings.timing,
            keyring,
            Random(world.random.getrandbits(64)),
            world.now(),
            settings.admission,
            compile=compile_regex,
            previous=previous,
            rejoin_after_leave=settings.rejoin_after_leave,
        )

    async def _begin(self, sockets: Sockets) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(started,), name=f"gossip-{self.pool}", daemon=True
        )
        self._thread.start()
        self._there = await asyncio.wrap_future(started)

    def _live(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        """The life of the thread."""
        import uvloop

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.get_loop().set_exception_handler(self._defect)
                runner.run(self._work.run(started.set_result))
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            else:
                self._log.error("gossip ended", error=repr(error))
            raise

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        self._log.error("gossip failed", at=context.get("message", ""), error=repr(error), trace=trace)

    async def stop(self) -> None:
        """End at once, without a word to the others."""
        there, self._there = self._there, None
        if there is None or self._thread is None:
            return
        there.call_soon_threadsafe(self._work.stop)
        await self._here.run_in_executor(None, self._thread.join, _STOP_SECONDS)
        if self._thread.is_alive():
            self._log.error("gossip does not end")

    # --- what is told

    def _hear(self, heard: Heard) -> None:
        """On the pool's thread: hand over to the agent's loop."""
        self._mail.append(heard)
        if not self._mail_is_due:
            self._mail_is_due = True
            self._post(self._deliver)

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the agent's loop is closed: nobody is there to be told
            self._here.call_soon_threadsafe(call, *arguments)

    def _deliver(self) -> None:
        self._mail_is_due = False  # before looking: what is put in from now on is due anew
        while self._mail:
            heard = self._mail.popleft()
            self._stats = heard.stats
            if heard.members is not self._members:
                self._members = heard.members
                self.members_index += 1
            for event in heard.events:
                self._tell(event)

    def _tell(self, event: GossipEvent) -> None:
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001  # the next event must be delivered all the same
            trace = "".join(traceback.format_exception(error))
            self._log.error("an event was not taken", event_type=type(event).__name__, trace=trace)

    # --- looking

    def members(self) -> tuple[Member, ...]:
        """All members that are known, gone ones too; a new tuple with each change."""
        return self._members

    @property
    def encrypted(self) -> bool:
        return self._serf is not None and self._serf.memberlist.keyring is not None

    def stats(self) -> dict[str, str]:
        """The figures of `info`, at most a second old."""
        return self._stats

    def coordinate(self) -> Coord:
        """Where this node is in the network."""
        return _coord(self._serf.coordinate if self._serf is not None else Coordinate())

    def coordinate_of(self, name: str) -> Coord | None:
        """Where a member said that it is, when it last answered a probe of ours."""
        found = self._serf.coordinate_of(name) if self._serf is not None else None
        return None if found is None else _coord(found)

    def look_at(self, ip: str) -> None:
        """A connection from this address has ended: probe the member there out of turn, since a member
        that dies takes its connections with it."""
        if self._there is not None:
            self._there.call_soon_threadsafe(self._work.look_at, ip)

    # --- asking

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the pool's thread. Unavailable when that has stopped."""
        if self._there is None:
            work.close()
            raise Unavailable("gossip is not running")
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._there))
        except asyncio.CancelledError:
            if self._there is None:
                raise Unavailable("gossip has stopped") from None
            raise

    async def join(self, addresses: Sequence[str], ignore_old: bool = True) -> tuple[int, list[str]]:
        """Join what the addresses stand for: how many answered, and why others did not. Oneself counts when
        nobody else is asked for. `ignore_old`: user events of the time before are not delivered."""
        return await self._call(self._work.join(addresses, ignore_old))

    async def leave(self) -> bool:
        """Leave in peace: the others show us as left then. False when they could not be told in time."""
        timing = self.settings.timing
        longest = 2 * timing.broadcast_timeout + timing.leave_propagate_delay + _LEAVE_MARGIN
        return await self._call(self._work.leave(longest))

    async def force_leave(self, name: str, prune: bool) -> None:
        """Take a failed member for left; with `prune` erase it."""
        await self._call(self._work.call(lambda now: self._work.serf.force_leave(name, prune, now)))

    async def set_tags(self, tags: Mapping[str, str]) -> None:
        """Announce other tags. Invalid when they are too large."""
        await self._call(self._work.call(lambda now: self._work.serf.set_tags(tags, now)))
        self.settings = replace(self.settings, tags=tags)

    async def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None:
        """Tell everyone, ourselves too. Invalid when it is too large."""
        await self._call(
            self._work.call(lambda now: self._work.serf.user_event(name, payload, coalesce, now))
        )

    async def query(
        self,
        name: str,
        payload: bytes = b"",
        *,
        nodes: Sequence[str] = (),
        tags: Mapping[str, str] = MappingProxyType({}),
        ack: bool = False,
        relay_factor: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[QueryResponse]:
        """Ask the members that pass the filters; yields acks and answers until `timeout` seconds are over
        (None: as long as the size of the cluster asks for). Invalid when it is too large."""
        heard: asyncio.Queue[QueryResponse | None] = asyncio.Queue()
        params = QueryParams(nodes, tags, ack, relay_factor, timeout)

        def hear(response: QueryResponse | None) -> None:
            self._post(heard.put_nowait, response)

        await self._call(self._work.ask(name, payload, params, hear))
        while (response := await heard.get()) is not None:
            yield response

    async def respond(self, query: QueryEvent, payload: bytes) -> None:
        """Answer a query that was delivered, once and in time. Invalid."""
        await self._call(self._work.call(lambda now: self._work.serf.respond(query, payload, now)))

    async def keyring(self, operation: str, key: str = "", relay_factor: int = 0) -> KeyringAnswer:
        """`list`, `install`, `use` or `remove` a key (base64) on every member. That nobody can be
        asked, with a key that is no base64, is an answer as well."""
        try:
            result = await self._call(self._work.operate_keys(operation, key, relay_factor))
        except Invalid as error:
            return KeyringAnswer(error=error.text)
        return KeyringAnswer(
            messages=dict(result.messages),
            keys=dict(result.keys),
            primary_keys=dict(result.primary_keys),
            nodes=result.nodes,
            error=result.error,
        )


def _coord(coordinate: Coordinate) -> Coord:
    return Coord(list(coordinate.vec), coordinate.error, coordinate.adjustment, coordinate.height)
