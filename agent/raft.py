"""The Raft service: the machine of core/raft, its log, its snapshots and the state machine, on the loop.

    propose -> node (end of turn: drain) -> log (one write for the batch) -> node -> fsm -> done

The machine decides; this file only does what its Ready asks for, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.driver import Driver
from agent.logs import get_logger
from agent.raft_doors import StateMachine, Transport
from agent.raft_log import LogKeeper
from agent.raft_snapshots import Snapshotter
from agent.raft_state import open_state
from agent.raft_view import RaftView
from agent.raft_waiting import Done, Waiting, raised, unchunked
from agent.snapshots import SnapshotMeta, SnapshotStore
from agent.wal import SEGMENT_SIZE
from agent.wal_files import Files
from core.errors import CtlError, NoLeader, StorageFull, Unavailable
from core.raft.chunking import chunk
from core.raft.configuration import Configuration, Server
from core.raft.messages import (
    BARRIER,
    COMMAND,
    Entry,
    InstallSnapshot,
    Request,
    Response,
    Unreachable,
)
from core.raft.node import STALLED, Node
from core.raft.ready import Outgoing, Ready
from core.raft.settings import Settings

if TYPE_CHECKING:
    from agent.world import World
    from core.metrics import Metrics

_log = get_logger("agent.raft")

_FORKED = (
    "the snapshot that was restored here was not confirmed by a quorum, the others went on without it; this "
    "server takes no entries until the leader has taken a snapshot"
)


class RaftSettings(Struct, frozen=True, kw_only=True):
    """Raft's options in the agent's configuration."""

    timing: Settings = Settings()
    snapshot_interval: float = 30.0  # seconds, 1x to 2x
    snapshot_threshold: int = 16384
    trailing_logs: int = 10240
    segment_size: int = SEGMENT_SIZE


class RaftService(RaftView):
    """One server's share of the cluster's log."""

    def __init__(
        self,
        node_id: str,
        address: str,
        folder: Path | None,
        fsm: StateMachine,
        settings: RaftSettings,
        world: World,
        metrics: Metrics | None = None,
        transport: Transport | None = None,
        files: Files | None = None,
    ) -> None:
        """`folder` is the data directory's `raft`; None keeps everything in memory."""
        super().__init__(node_id, address, settings.timing, world)
        self.settings = settings
        self._folder = folder
        self._fsm = fsm
        self._metrics = metrics
        self._transport = transport
        self._files = files
        self._waiting = Waiting()
        self._leading: object = None  # the Leader that the waiting proposals belong to
        self._was_ready = False
        self._role = ""  # that was last told to the metrics
        self._on_leader: list[Callable[[bool], None]] = []
        self._forked = False
        self._shared = False  # there are other servers
        self._started = False

    # Life

    async def start(self, bootstrap: bool) -> None:
        """Recover, and with `bootstrap` make an empty server a cluster of one. A sole voter leads at
        once. Raises CorruptLog, StorageFull, OSError."""
        first = Server(self.node_id, self.address) if bootstrap else None
        world = self._world
        opened = await open_state(
            self._folder, self._fsm, world, first, self.settings.segment_size, self._files
        )
        self._applied = opened.applied
        now = world.now()
        self.node = Node(
            self.node_id,
            self.address,
            opened.log,
            opened.hard,
            opened.configurations,
            self.settings.timing,
            world.random,
            now,
            opened.applied,
            opened.applied_term,
        )
        self.node.snapshot_handle = opened.snapshot
        self.log = LogKeeper(opened.log_store, self, world, self._metrics)
        self._driver = Driver(self.node, self._act, world.now, self._settle)
        self._snapshotter = Snapshotter(self, self._fsm, opened.snapshots, world)
        self._started = True
        if self._transport is not None:
            self._transport.attach(self)
        due = self.node.deadline()
        if due is not None and due <= now:
            self.node.tick(now)
        self._driver.run()
        self._snapshotter.start()

    @property
    def is_empty(self) -> bool:
        """Nothing was ever stored here: no entry, no term, no snapshot."""
        return not (self.node.log.last or self.node.term)

    def bootstrap(self, configuration: Configuration) -> None:
        """Begin a cluster of these servers. Raises Invalid unless `is_empty`."""
        self.node.bootstrap(configuration, self._world.now())
        self._driver.wake()

    async def stop(self) -> None:
        """End; what was acknowledged is durable, what waits gets an error."""
        if not self._started:
            return
        self._stopped, self._started = True, False
        self._driver.close()
        if self._transport is not None:
            self._transport.close()
        await self._snapshotter.stop()
        await self.log.close()
        self._waiting.fail(0, Unavailable("raft is already shutdown"))

    def configure(self, settings: RaftSettings) -> None:
        """Take over what may change while running: when to take snapshots and what to keep."""
        self.settings = settings

    # Proposing and asking

    def propose(self, data: bytes, done: Done) -> None:
        """Put a command into the log; `done(result)` once applied, or `done(an exception)`.

        Commands of one turn of the loop share one write. After an error of a leader that lost its
        leadership the command may still come to be applied."""
        node = self.node
        if node.leader is not self._leading:
            self._settle()
        if node.leader is None or self._stopped:
            done(NoLeader())
            return
        if self._waiting.is_full:
            done(Unavailable("too many writes are waiting for the Raft log"))
            return
        try:
            entries = chunk(data, self._world.random)
            if entries is None:
                index = node.propose(Entry(data=data))
            else:
                done = unchunked(done)
                for entry in entries:
                    index = node.propose(entry)
        except CtlError as error:
            done(error)
            return
        self._waiting.add(index, len(data), done)
        self._driver.wake()

    async def apply(self, data: bytes) -> object:
        """`propose` and wait. Raises what `done` would be given if it is an exception."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.propose(data, lambda result: None if future.done() else future.set_result(result))
        return raised(await future)

    async def barrier(self) -> None:
        """Return when everything that was in the log before is applied. Raises NoLeader, Unavailable."""
        if self.node.leader is None or self._stopped:
            raise NoLeader()
        future = self._waiting.future(self.node.propose(Entry(type=BARRIER)))
        self._driver.wake()
        raised(await future)

    async def verify_leader(self) -> None:
        """Return when a quorum confirmed the leadership and all that was committed is applied."""
        node = self.node
        if node.leader is None or self._stopped:
            raise NoLeader()
        commit = node.commit
        if node.leader.is_alone and self.is_leader and self._applied >= commit:
            return
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        node.verify(future, self._world.now())
        self._driver.wake()
        if not await future:
            raise NoLeader()
        if not self.is_leader or self._applied < commit:
            await self.barrier()

    async def change(self, configuration: Configuration) -> None:
        """Change one server of the configuration; return when it is committed. Raises CtlError."""
        future = self._waiting.future(self.node.change(configuration, self._world.now()))
        self._driver.wake()
        raised(await future)

    def transfer(self, target: str = "") -> str:
        """Begin to hand leadership to another voter ("": the most advanced); gives its id."""
        chosen = self.node.transfer(target, self._world.now())
        self._driver.wake()
        return chosen

    async def snapshot(self) -> None:
        """Take a snapshot now, whatever the threshold says. Raises StorageFull."""
        await self._snapshotter.take()

    async def restore(self, archive: bytes) -> None:
        """Replace the whole state, on all servers, by that in a snapshot archive; return when a quorum
        has it. The leader only; SnapshotError leaves everything as it was.

        As in Consul the log jumps to a new index, and followers get the state as a snapshot. If the
        leader dies before a quorum has it, it is not decided whether the restore will have happened."""
        await self.verify_leader()
        await self._snapshotter.restore(archive)
        await self.barrier()
        if self._was_ready:  # what a leader knows by heart is of the old state
            for ready in (False, True):
                for callback in self._on_leader:
                    callback(ready)

    def deliver(self, source: str, message: Request | Response | Unreachable) -> None:
        """A message from server `source`, or the news that one could not be sent to it."""
        if not self._stopped:
            self._driver.receive(source, message)

    def leader_gone(self, leader: str) -> None:
        """Nobody listens at the leader's address any more, and its connections are closed."""
        if not self._stopped:
            self.node.leader_gone(leader, self._world.now())
            self._driver.run()

    @property
    def snapshot_store(self) -> SnapshotStore:
        """Where the snapshots are."""
        return self._snapshotter.store

    def wall(self) -> float:
        """Unix seconds."""
        return self._world.wall()

    def on_leader(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(True)` when this server has become leader and has applied everything that was
        committed before, `callback(False)` when it no longer is."""
        self._on_leader.append(callback)
        if self._was_ready:
            callback(True)

    # Doing what the machine asks for

    def _act(self, ready: Ready) -> None:
        if ready.messages:
            self.send(ready.messages)
        if ready.mark or ready.held:
            self.log.submit(ready)
        if ready.install is not None:
            self._snapshotter.install(ready.install)
        if ready.committed:
            self._apply(ready.committed)
        for future, leading in ready.verified:
            if not future.done():
                future.set_result(leading)

    def send(self, messages: list[Outgoing]) -> None:
        if self._transport is None:
            return
        for message in messages:
            if message.answers is not None:
                self._transport.answer(message.answers, message.message)  # type: ignore[arg-type]
            else:
                server = self.configuration.get(message.to)
                address = server.address if server else ""
                self._transport.send(message.to, address, message.message)  # type: ignore[arg-type]

    def _apply(self, entries: list[Entry]) -> None:
        tell, apply = self._waiting.tell, self._fsm.apply
        for entry in entries:
            index, result = entry.index, None
            if entry.type == COMMAND:
                try:
                    result = apply(index, entry.data or b"", entry.extensions or b"", entry.term)
                except Exception as error:
                    self._halt(index, error)
                    raise
            self._applied = index
            tell(index, result)

    def _halt(self, index: int, error: Exception) -> None:
        """An entry cannot be applied: going on would make this server's state differ from the others'."""
        _log.error("a log entry cannot be applied, this server stops taking part", index=index, error=error)
        self.failure = error
        self._stopped = True
        self._driver.close()
        self._waiting.fail(0, Unavailable(f"log entry {index} cannot be applied: {error}"))
        self._settle()

    def hold(self, floor: int) -> InstallSnapshot:
        """The state is about to be replaced: proposals fail until `installed`. NoLeader, Unavailable."""
        request = self.node.hold(floor, self._world.now())
        self._waiting.fail(self._applied, Unavailable("the state is being replaced by a snapshot"))
        return request

    def installed(self, success: bool, meta: SnapshotMeta | None) -> None:
        """A snapshot of a leader's, or one that this leader restores, took effect or could not."""
        self.node.installed(success, self._world.now(), meta)
        self._applied = self.node.applied
        self._driver.run()

    # What became of writes (agent/raft_log.py, Owner)

    def persisted(self, mark: int) -> None:
        self.node.persisted(mark, self._world.now())

    def write_failed(self, error: StorageFull) -> None:
        self.node.write_failed(self._world.now())
        if self._transport is not None:
            self._transport.forget()
        # Alone, nobody has heard of the entries; others may have them, and the next leader commit them.
        told: CtlError = (
            Unavailable(f"leadership lost while committing log: {error}") if self._shared else error
        )
        self._waiting.fail(self.node.log.last, told)

    def settled(self) -> None:
        self._driver.run()

    # Leadership

    def _settle(self) -> None:
        """Notice a change of leadership and tell about it."""
        node = self.node
        if node.role != self._role:
            self._role = node.role
            if self._metrics is not None:
                self._metrics.incr(f"raft.state.{node.role.lower()}")
        if node.forked is not self._forked:
            self._forked = node.forked
            if node.forked:
                _log.error(_FORKED, index=node.log.base, leader=node.leader_id, term=node.term)
        shared = len(node.configurations.latest.servers) > 1
        if shared is not self._shared:
            self._shared = shared
            self.log.crowd(1 if shared else -1)  # a slow disk must not keep heartbeats waiting
        if self._leading is not node.leader:
            if self._leading is not None:
                self._lost_leadership()
            self._leading = node.leader
        ready = self.is_leader
        if ready is not self._was_ready:
            self._was_ready = ready
            for callback in self._on_leader:
                callback(ready)
            if ready:
                self._tell_new_address()

    def _lost_leadership(self) -> None:
        node = self.node
        why = node.gave_up or "another server leads, or a newer term began"
        _log.warn("no longer the leader", reason=why, term=node.term)
        if self._metrics is not None:
            self._metrics.incr("raft.leader.stepped_down" if node.gave_up else "raft.leader.deposed")
        # What is committed will be applied here as well, unless the disk is what it waits for.
        sure = self._applied if node.gave_up == STALLED else node.commit
        self._waiting.fail(sure, Unavailable("leadership lost while committing log"))

    def _tell_new_address(self) -> None:
        """A server that came back with another address enters it into the configuration."""
        known = self.configuration.get(self.node_id)
        if known is None or known.address == self.address:
            return
        try:
            self.node.change(self.configuration.with_voter(self.node_id, self.address), self._world.now())
        except CtlError as error:
            _log.warn("cannot change the own address in the Raft configuration", error=error)
        else:
            self._driver.wake()
