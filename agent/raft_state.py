"""What a server finds on its disk at start: newest usable snapshot, log, vote; and the very first entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec import Struct

from agent.logs import get_logger
from agent.snapshots import DiskSnapshots, MemorySnapshots, SnapshotMeta, SnapshotStore
from agent.wal import SEGMENT_SIZE, LogStore, MemoryLog, Wal
from agent.wal_files import Files
from agent.wal_recovery import CorruptLog
from core.errors import CtlError
from core.raft.configuration import Configuration, Configurations, Server, decode
from core.raft.log import Log
from core.raft.messages import CONFIGURATION, Entry
from core.raft.ready import HardState, Ready

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


def open_state(
    folder: Path | None,
    random: Random,
    restore: Callable[[bytes], None],
    first: Server | None,
    segment_size: int = SEGMENT_SIZE,
    files: Files | None = None,
) -> Opened:
    """Recover from `folder` (None: memory only). `first` is who a still empty server bootstraps with.

    Raises CorruptLog, CtlError, OSError, StorageFull. `restore` gets the newest snapshot's state."""
    snapshots: SnapshotStore = DiskSnapshots(folder / "snapshots") if folder else MemorySnapshots()
    store: LogStore = Wal(folder / "wal", random, files, segment_size) if folder else MemoryLog()
    try:
        snapshot = _restore(snapshots, restore)
        if first is not None and snapshot is None and store.recovered.is_empty:
            _bootstrap(store, first)
        return _assemble(store, snapshots, snapshot)
    except BaseException:
        store.close()
        raise


def _restore(snapshots: SnapshotStore, restore: Callable[[bytes], None]) -> SnapshotMeta | None:
    for meta in snapshots.list():
        try:
            data = snapshots.load(meta)
            restore(data)
        except (OSError, ValueError, CtlError) as error:
            _log.error("a snapshot cannot be restored", id=meta.id, error=error)
        else:
            _log.info("restored snapshot", id=meta.id)
            return meta
    return None


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
    if found.base > index:
        raise CorruptLog(
            f"the Raft log starts with entry {found.base + 1}, "
            f"but no usable snapshot reaches beyond entry {index}: entries are missing"
        )
    if index > found.last or (index > found.base and found.term(index) != term):
        # The server stopped between storing a leader's snapshot and starting the log behind it.
        frame = store.prepare_mark(index, term, replace=True)
        store.write(frame)
        store.finish(frame)
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
