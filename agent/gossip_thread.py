"""Gossip at work, on a thread and an event loop of its own: sockets, timers and files around Serf.

A thread of its own, because a node that does not answer probes in time looks failed to the others: what
the API is busy with must not delay an answer (design: pains row 9). Everything here runs on that thread,
but for what is marked; `GossipPool` is the door for the agent's loop.

Nothing that arrives ends the thread: each call of the machine is guarded, a defect is logged with its
trace and costs that packet, that stream or that tick."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from agent import joining
from agent.driver import Driver
from agent.gossip_snapshot import SnapshotFile, SnapshotWriter
from agent.gossip_streams import StreamFailed, StreamServer, exchange
from agent.joining import Target, Unresolved

if TYPE_CHECKING:
    from agent.gossip_keys import KeyringFile
    from agent.gossip_log import GossipLog
    from agent.gossip_sockets import Sockets
    from agent.world import World
    from core.gossip.keys import KeyResult
    from core.gossip.member import GossipEvent, Member, QueryResponse
    from core.gossip.memberlist import StreamRequest
    from core.gossip.queries import QueryParams
    from core.gossip.serf import Ready, Serf
    from core.gossip.streams import StreamMessage

_PACKETS = 256  # read per wake, then others have their turn
_WAITING = 4096  # read before a tick: answers that came in time while this thread did not run
_AFTER_DEFECT = 0.1  # seconds until the machine is asked again
_STATS_INTERVAL = 1.0

T = TypeVar("T")


class Heard:
    """What the agent is told, in one piece: events, and what is true after them."""

    __slots__ = ("events", "members", "stats")

    def __init__(
        self, events: Sequence[GossipEvent], members: tuple[Member, ...], stats: dict[str, str]
    ) -> None:
        self.events, self.members, self.stats = events, members, stats


class _Guarded:
    """The machine for the driver. It is fed what waits in the socket before it hears that time has passed:
    a process that was stopped, or had no processor, must not take the late answers for missing ones."""

    def __init__(self, thread: GossipThread) -> None:
        self._thread = thread
        self._not_before = 0.0

    def receive(self, source: Any, message: Any, now: float) -> None:
        self._thread.guard("packet", self._thread.serf.receive, source, message, now)

    def tick(self, now: float) -> None:
        self._thread.read_packets(_WAITING)
        if self._thread.guard("tick", self._tick, now) is None:
            self._not_before = now + _AFTER_DEFECT

    def _tick(self, now: float) -> bool:
        self._thread.serf.tick(now)
        return True

    def deadline(self) -> float | None:
        due = self._thread.guard("deadline", self._thread.serf.deadline)
        return None if due is None else max(due, self._not_before)

    def drain(self) -> Ready | None:
        return self._thread.guard("drain", self._thread.serf.drain)


class GossipThread:
    """One pool's machine and what it needs. `tell` is called with all that the agent should hear."""

    def __init__(
        self,
        serf: Serf,
        sockets: Sockets,
        keys: KeyringFile,
        snapshot: SnapshotFile | None,
        world: World,
        log: GossipLog,
        tell: Callable[[Heard], None],
    ) -> None:
        self.serf, self.sockets = serf, sockets
        self._keys = keys
        self._world, self._log, self._tell = world, log, tell
        self._joins: dict[int, asyncio.Future[str]] = {}
        self._key_results: dict[int, asyncio.Future[KeyResult]] = {}
        self._queries: dict[int, Callable[[QueryResponse | None], None]] = {}
        self._streams = StreamServer(serf.inbound, self._answer_stream, serf.settings.stream_timeout, log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._members: tuple[Member, ...] = ()
        # A stuck disk must hold up neither gossip nor the look-up of names on the loop's own threads.
        self._disk = ThreadPoolExecutor(1, "gossip-disk")
        self._writer = SnapshotWriter(snapshot, serf, self._disk) if snapshot is not None else None

    # --- life

    async def run(self, started: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """From the first packet to the last; `started` is called when packets are taken."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._left = asyncio.Event()
        self._driver = Driver(_Guarded(self), self._act, self._world.now)
        sock = self.sockets.packets
        server = await asyncio.start_server(self._streams.serve, sock=self.sockets.streams)
        self._loop.add_reader(sock.fileno(), self._readable)
        self._driver.wake()
        stats = self._loop.create_task(self._tell_stats())
        started(self._loop)
        try:
            await self._stop.wait()
        finally:
            stats.cancel()
            self._driver.close()
            self._loop.remove_reader(sock.fileno())
            server.close()
            await self._wind_up()

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()

    async def _wind_up(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for join in self._joins.values():
            join.cancel()
        for operation in self._key_results.values():
            operation.cancel()
        for answer in self._queries.values():
            answer(None)
        if self._writer is not None:
            await self._writer.close()
        self._disk.shutdown(wait=False)
        self.sockets.close()

    def guard(self, what: str, call: Callable[..., T], *arguments: Any) -> T | None:
        """What `call` gives; None, and a line in the log, when it has a defect."""
        try:
            return call(*arguments)
        except Exception as error:  # noqa: BLE001  # one packet's defect must not end the thread
            trace = "".join(traceback.format_exception(error))
            self._log.error("gossip failed", at=what, error=repr(error), trace=trace)
            return None

    # --- packets

    def _readable(self) -> None:
        self.read_packets(_PACKETS)
        now = self._world.now()
        for address in self.sockets.refusals():
            self.guard("refusal", self.serf.packet_refused, address, now)
        # uvloop does not look any more at a socket that had an error to tell, and does not say so.
        descriptor = self.sockets.packets.fileno()
        self._loop.remove_reader(descriptor)
        self._loop.add_reader(descriptor, self._readable)
        self._driver.wake()

    def read_packets(self, most: int) -> None:
        """Give the machine the packets that have arrived."""
        guard, receive, now = self.guard, self.serf.receive, self._world.now()
        for source, packet in self.sockets.received(most):
            guard("packet", receive, source, packet, now)

    def _act(self, ready: Ready) -> None:
        self.guard("act", self._carry_out, ready)

    def _carry_out(self, ready: Ready) -> None:
        send = self.sockets.send
        for to, packet in ready.packets:
            send(to, packet)
        for request in ready.streams:
            self._spawn(self._exchange(request))
        for level, text in ready.log:
            self._log.say(level, text)
        if ready.snapshot and self._writer is not None:
            self._writer.note(ready.snapshot)
        if ready.keyring_changed:
            self._save_keys()
        if ready.left:
            self._left.set()
        if ready.name_lost:
            self._log.error("another member has our name, and most others agree")
        members = self.serf.members()
        if ready.events or members is not self._members:
            self._members = members
            self._tell(Heard(ready.events, members, self.serf.stats()))
        self._resolve(ready)

    def _resolve(self, ready: Ready) -> None:
        """Tell those who wait; after the members, which they will look at next."""
        for result in ready.joins:
            join = self._joins.pop(result.id, None)
            if join is not None and not join.done():
                join.set_result(result.error)
        for number, key_result in ready.key_results:
            operation = self._key_results.pop(number, None)
            if operation is not None and not operation.done():
                operation.set_result(key_result)
        for number, response in ready.answers:
            if number in self._queries:
                self._queries[number](response)
        for number in ready.ended:
            answer = self._queries.pop(number, None)
            if answer is not None:
                answer(None)

    async def _tell_stats(self) -> None:
        told: dict[str, str] = {}
        while True:
            await asyncio.sleep(_STATS_INTERVAL)
            stats = self.guard("stats", self.serf.stats)
            if stats is not None and stats != told:
                told = stats
                self._tell(Heard((), self._members, stats))

    # --- streams

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)  # a defect in it goes to the loop's handler

    async def _exchange(self, request: StreamRequest) -> None:
        serf, now = self.serf, self._world.now
        answer: StreamMessage | None = None
        why = "internal error"
        refused = False
        try:
            answer = await exchange(request, serf.inbound(), self.sockets.source)
        except StreamFailed as error:
            why, refused = str(error), error.refused
        finally:  # whatever happened, somebody may wait for the outcome
            if answer is None:
                self.guard("stream", serf.stream_failed, request.id, why, now(), refused)
            else:
                self.guard("stream", serf.stream_answered, request.id, answer, now())
            self._driver.wake()

    def _answer_stream(self, message: StreamMessage) -> bytes | None:
        reply = self.guard("stream", self.serf.answer_stream, message, self._world.now())
        self._driver.wake()
        return reply

    # --- files

    def _save_keys(self) -> None:
        keyring = self.serf.memberlist.keyring
        if keyring is not None:
            self._loop.run_in_executor(self._disk, self._keys.save, keyring.keys)

    # --- what the pool asks

    async def join(self, addresses: Sequence[str], ignore_old: bool) -> tuple[int, list[str]]:
        """Join all that the addresses stand for: how many answered, and why others did not."""
        targets, errors = await self._resolve_all(addresses)
        own = self.serf.memberlist.local_node.endpoint
        others = [target for target in targets if not self.sockets.is_own(target.ip, target.port, own)]
        if not others:
            return (0 if errors else min(len(targets), 1)), errors
        futures = []
        numbers = self.serf.join(
            [(target.ip, target.port) for target in others], ignore_old, self._world.now()
        )
        for number in numbers:
            self._joins[number] = future = self._loop.create_future()
            futures.append(future)
        self._driver.wake()
        outcomes = await asyncio.gather(*futures)
        for target, why in zip(others, outcomes, strict=True):
            if why:
                errors.append(f"Failed to join {target.ip}: {why}")
        return outcomes.count(""), errors

    async def _resolve_all(self, addresses: Sequence[str]) -> tuple[list[Target], list[str]]:
        found: dict[tuple[str, int], Target] = {}
        errors = []
        looked_up = await asyncio.gather(
            *(joining.resolve(address, self.sockets.port, self.sockets.reachable) for address in addresses),
            return_exceptions=True,
        )
        for outcome in looked_up:
            if isinstance(outcome, Unresolved):
                errors.append(str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found.update({(target.ip, target.port): target for target in outcome})
        return list(found.values()), errors

    def look_at(self, ip: str) -> None:
        """Probe the member at this address out of turn."""
        self.guard("hint", self.serf.look_at, ip, self._world.now())
        self._driver.wake()

    async def call(self, work: Callable[[float], T]) -> T:
        """Do something with the machine, and what follows from it."""
        try:
            return work(self._world.now())
        finally:
            self._driver.wake()

    async def operate_keys(self, operation: str, key: str, relay_factor: int) -> KeyResult:
        number = self.serf.operate_keys(operation, key, relay_factor, self._world.now())
        future: asyncio.Future[KeyResult] = self._loop.create_future()
        self._key_results[number] = future
        self._driver.wake()
        return await future

    async def ask(
        self, name: str, payload: bytes, params: QueryParams, answer: Callable[[QueryResponse | None], None]
    ) -> None:
        """Ask a query; `answer` is called with every response, and with None at the end."""
        number = self.serf.query(name, payload, params, self._world.now())
        self._queries[number] = answer
        self._driver.wake()

    async def leave(self, longest: float) -> bool:
        """Leave in peace; whether it was told within `longest` seconds."""
        self.serf.leave(self._world.now())
        self._driver.wake()
        try:
            async with asyncio.timeout(longest):
                await self._left.wait()
        except TimeoutError:
            return False
        return True

    async def rejoin(self, known: Mapping[str, str]) -> None:
        """Find those again that were alive before a restart, in random order until one answers; goes on
        behind the back of who asks."""
        addresses = [address for name, address in known.items() if name != self.serf.name]
        self._world.random.shuffle(addresses)
        self._spawn(self._rejoin(addresses))

    async def _rejoin(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            joined, _ = await self.join([address], ignore_old=False)
            if joined:
                self._log.info("re-joined to previously known node", address=address)
                return
        if addresses:
            self._log.warn("failed to re-join any previously known node")
