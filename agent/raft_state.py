"""What a server finds on its disk at start: newest usable snapshot, log, vote; and the very first entry."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from agent import slices
from agent.logs import get_logger
from agent.raft_recovery import forget_peers, wanted_peers
from agent.raft_takeover import take_over
from agent.snapshots import DiskSnapshots, MemorySnapshots, SnapshotMeta, SnapshotStore
from agent.wal import SEGMENT_SIZE, LogStore, MemoryLog, Wal
from agent.wal_files import Files
from agent.wal_recovery import CorruptLog
from core.errors import CtlError
from core.raft.configuration import Configuration, Configurations, Server, decode
from core.raft.log import Log
from core.raft.messages import COMMAND, CONFIGURATION, Entry
from core.raft.ready import HardState, Ready

if TYPE_CHECKING:
    from agent.raft_doors import StateMachine
    from agent.world import World

_log = get_logger("agent.raft")


class Opened(Struct):
    """Everything the machine starts from."""

    log_store: LogStore
    snapshots: SnapshotStore
    log: Log
    hard: HardState
    configurations: Configurations
    applied: int
    applied_term: int
    snapshot: SnapshotMeta | None


async def open_state(
    folder: Path | None,
    fsm: StateMachine,
    world: World,
    first: Server | None,
    segment_size: int = SEGMENT_SIZE,
    files: Files | None = None,
) -> Opened:
    """Recover from `folder` (None: memory only). `first` is who a still empty server bootstraps with.

    Files are read by a thread and the state is restored in slices: others have the loop meanwhile.
    Raises CorruptLog, CtlError, OSError, StorageFull."""
    if folder is None:
        return _opened(MemoryLog(), MemorySnapshots(), None, first)
    loop = asyncio.get_running_loop()
    snapshots = DiskSnapshots(folder / "snapshots")
    wanted = wanted_peers(folder)
    await loop.run_in_executor(None, take_over, folder, world.random, files or Files(), segment_size)
    store = await loop.run_in_executor(None, Wal, folder / "wal", world.random, files, segment_size)
    try:
        snapshot = await _restore(snapshots, fsm)
        if wanted is None:
            return _opened(store, snapshots, snapshot, first)
        if snapshot is None and store.recovered.is_empty:
            raise CtlError(
                "refused to recover cluster with no initial state, this is probably an operator error"
            )
        opened = _assemble(store, snapshots, snapshot)
        await _apply_all(opened, fsm)
        snapshot = await _snapshot(opened, fsm, world, wanted)
        forget_peers(folder)
        _log.warn("the servers are those of peers.json now", configuration=str(wanted))
        return _assemble(store, snapshots, snapshot)
    except BaseException:
        store.close()
        raise


def _opened(
    store: LogStore, snapshots: SnapshotStore, snapshot: SnapshotMeta | None, first: Server | None
) -> Opened:
    if first is not None and snapshot is None and store.recovered.is_empty:
        _bootstrap(store, first)
    return _assemble(store, snapshots, snapshot)


async def _restore(snapshots: SnapshotStore, fsm: StateMachine) -> SnapshotMeta | None:
    loop = asyncio.get_running_loop()
    for meta in snapshots.list():
        try:
            data = await loop.run_in_executor(None, snapshots.load, meta)
            state = await slices.run(fsm.load(data))
        except (OSError, ValueError, CtlError) as error:
            _log.error("a snapshot cannot be restored", id=meta.id, error=error)
        else:
            await slices.drop(fsm.adopt(state))
            _log.info("restored snapshot", id=meta.id)
            return meta
    return None


async def _apply_all(opened: Opened, fsm: StateMachine) -> None:
    """peers.json: every entry counts, also those of which nobody knows whether they were committed."""

    def steps() -> Generator[None, None, None]:
        log, index = opened.log, opened.applied
        while index < log.last:
            for entry in log.slice(index + 1, min(log.last, index + 64), 1 << 20):
                index = entry.index
                if entry.type == COMMAND:
                    fsm.apply(index, entry.data or b"", entry.extensions or b"", entry.term)
            yield

    await slices.run(steps())


async def _snapshot(
    opened: Opened, fsm: StateMachine, world: World, configuration: Configuration
) -> SnapshotMeta:
    """peers.json: all there is becomes a snapshot with the new configuration, and the log is emptied."""
    loop = asyncio.get_running_loop()
    index, term = opened.log.last, opened.log.last_term
    meta = SnapshotMeta(f"{term}-{index}-{int(world.wall() * 1000)}", index, term, configuration, 1)
    writer = await loop.run_in_executor(None, opened.snapshots.create, meta)
    for piece in fsm.snapshot():
        await loop.run_in_executor(None, writer.write, piece)
    meta = await loop.run_in_executor(None, writer.finish)
    store = opened.log_store
    _start_log(store, index, term)
    recovered = store.recovered
    recovered.base, recovered.base_term, recovered.last = index, term, index
    recovered.runs, recovered.configurations = [], []
    return meta


def _start_log(store: LogStore, index: int, term: int) -> None:
    """Let the log begin after `index`, with nothing in it."""
    frame = store.prepare_mark(index, term, replace=True)
    store.write(frame)
    store.finish(frame)


def _bootstrap(store: LogStore, first: Server) -> None:
    data = Configuration((first,)).encode()
    ready = Ready(hard_state=HardState(1, ""), entries=[Entry(1, 1, CONFIGURATION, data)])
    frame = store.prepare([ready])
    store.write(frame)
    store.finish(frame)
    recovered = store.recovered
    recovered.hard = HardState(1, "")
    recovered.last, recovered.runs, recovered.configurations = 1, [(1, 1)], [(1, data)]


def _assemble(store: LogStore, snapshots: SnapshotStore, snapshot: SnapshotMeta | None) -> Opened:
    found = store.recovered
    index, term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    if found.base > index and term <= found.base_term:
        raise CorruptLog(
            f"the Raft log starts with entry {found.base + 1}, "
            f"but no usable snapshot reaches beyond entry {index}: entries are missing"
        )
    if not found.base <= index <= found.last or (index > found.base and found.term(index) != term):
        # The server stopped between storing a leader's snapshot and starting the log behind it.
        _start_log(store, index, term)
        log = Log(store, index, term, index)
    else:
        log = Log(store, found.base, found.base_term, found.last, found.runs)
    configuration = snapshot.configuration if snapshot else Configuration()
    position = snapshot.configuration_index if snapshot else 0
    configurations = Configurations(configuration, position)
    for entry_index, data in found.configurations:
        if max(index, position) < entry_index <= log.last:
            configurations.append(entry_index, decode(data))
    return Opened(store, snapshots, log, found.hard, configurations, index, term, snapshot)
