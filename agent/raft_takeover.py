"""A Consul server's Raft log becomes ours: its data directory, opened by ctl for the first time.

    <data_dir>/raft/raft.db            Consul's log, term and vote (BoltDB); snapshots are shared as they are
    <data_dir>/raft/wal.taking-over    our log while it is being made
    <data_dir>/raft/raft.db.taken-over what raft.db is called afterwards

Entries, term and vote must all survive: a server that forgets what it acknowledged or whom it voted for
breaks the promise of Raft. Each rename is one step: whenever it stops, the next start goes on."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from agent.logs import get_logger
from agent.snapshots import DiskSnapshots, SnapshotMeta
from agent.wal import Wal
from agent.wal_files import Files
from agent.wal_recovery import recover
from core.codec.bolt import Bolt
from core.codec.msgpack import DecodeError
from core.errors import CtlError
from core.raft import configuration as membership
from core.raft.configuration import Configuration
from core.raft.messages import CONFIGURATION, Entry, decode_entry
from core.raft.ready import HardState, Ready

_log = get_logger("agent.raft")

SOURCE, MAKING, TAKEN = "raft.db", "wal.taking-over", "raft.db.taken-over"
_BATCH = 4 << 20  # bytes of entries in one write


def take_over(folder: Path, random: Random, files: Files, segment_size: int) -> None:
    """Make `wal` of `raft.db` in the Raft folder, if there is one. CtlError when that cannot be."""
    source, making, log = folder / SOURCE, folder / MAKING, folder / "wal"
    if not source.exists():
        if making.exists():  # we were stopped between the two renames
            _put(making, log, files)
        return
    if log.is_dir() and not recover(files, log).is_empty:
        raise CtlError(
            f"both {source} and {log} hold a Raft log: Consul was started here after ctl. Let this server "
            f"join anew with an empty data directory, or move the log away that is not up to date"
        )
    with _opened(source) as data:
        shutil.rmtree(making, ignore_errors=True)
        snapshots = DiskSnapshots(folder / "snapshots").list()
        store = Wal(making, random, files, segment_size)
        try:
            count = _copy(Bolt(data), store, snapshots[0] if snapshots else None)
        except DecodeError as error:
            raise CtlError(f"{source} cannot be taken over: {error}") from error
        finally:
            store.close()
    files.sync_folder(folder)  # the new log is there for good before the old one goes
    os.replace(source, folder / TAKEN)
    files.sync_folder(folder)
    _put(making, log, files)
    _log.warn("took over the Raft log of a Consul server", entries=count, kept=folder / TAKEN)


def _put(making: Path, log: Path, files: Files) -> None:
    shutil.rmtree(log, ignore_errors=True)  # an empty one, from an earlier start
    os.replace(making, log)
    files.sync_folder(log.parent)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[memoryview]:
    """The file's bytes, while nobody else has it open."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CtlError(f"{path} is in use: stop the Consul agent first") from error
        if not path.stat().st_size:
            raise CtlError(f"{path} is empty, so it is no Raft log: move it away")
        yield memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def _copy(source: Bolt, store: Wal, snapshot: SnapshotMeta | None) -> int:
    """Write all that counts of `source` into the empty `store`; gives the number of entries."""
    conf = {key: bytes(value) for key, value in source.bucket(b"conf")}
    first, last = _newest_run(source)
    reach = snapshot.index if snapshot else 0
    if last <= reach:
        first = last + 1  # the snapshot says it all
    count, configuration = 0, snapshot.configuration if snapshot else Configuration()
    batch: list[Entry] = []
    size = 0
    for key, value in source.bucket(b"logs"):
        index = int.from_bytes(key, "big")
        if index < first:
            continue
        entry = decode_entry(bytes(value))
        if entry.index != index:
            raise DecodeError(f"entry {index} says that it is entry {entry.index}")
        if entry.type == CONFIGURATION:
            configuration = membership.decode(entry.data or b"")
        if index == first and index > 1:
            known = snapshot is not None and snapshot.index == index - 1
            base = (index - 1, snapshot.term) if known and snapshot else (index, entry.term)
            _write_mark(store, *base)
            if not known:
                continue  # a snapshot has it too, or else the start will say what is missing
        batch.append(entry)
        count, size = count + 1, size + entry.size
        if size >= _BATCH:
            store.append(Ready(entries=batch))
            batch, size = [], 0
    store.append(Ready(hard_state=_hard_state(conf, configuration), entries=batch))
    return count


def _newest_run(source: Bolt) -> tuple[int, int]:
    """First and last index of the entries without a gap at the end: before one lies what a snapshot from
    the leader made superfluous."""
    first, last = 1, 0
    for key, _ in source.bucket(b"logs"):
        index = int.from_bytes(key, "big")
        if index != last + 1:
            first = index
        last = index
    return first, last


def _write_mark(store: Wal, index: int, term: int) -> None:
    frame = store.prepare_mark(index, term, replace=True)
    store.write(frame)
    store.finish(frame)


def _hard_state(conf: dict[bytes, bytes], configuration: Configuration) -> HardState:
    """Consul notes the address of whom it voted for; ids of servers are meant here."""
    term = int.from_bytes(conf.get(b"CurrentTerm", b""), "big")
    if int.from_bytes(conf.get(b"LastVoteTerm", b""), "big") != term:
        return HardState(term, "")
    address = conf.get(b"LastVoteCand", b"").decode("utf-8", "surrogateescape")
    server = configuration.by_address(address)
    return HardState(term, server.id if server else address)
