"""Recovery by hand after a quorum was lost: look into a data directory, say who the servers shall be.

    <data_dir>/raft/peers.json   [{"id", "address", "non_voter"}], read once at start and deleted
    <data_dir>/raft/peers.info   its presence says that this version has started here before

A peers.json beside no peers.info comes from a time when Consul wrote that file itself: it is deleted
unused (protocols/raft.md section 8)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.logs import get_logger
from agent.snapshots import DiskSnapshots
from agent.wal_files import Files
from agent.wal_recovery import Recovered, recover
from agent.world import World
from core.errors import CtlError, Invalid, NotFound
from core.raft import configuration as membership
from core.raft.configuration import NONVOTER, VOTER, Configuration, Server

_log = get_logger("agent.raft")

_INFO = """\
The file peers.json in this directory is read when the agent starts, and deleted. It says who the Raft
servers are after a quorum was lost for good: stop all servers, write the same file on each of them,
start them again. `ctl operator raft recover` compares the servers' data and writes it:

[
  {"id": "<node id>", "address": "<ip:port>", "non_voter": false}
]
"""


class Inspection(Struct, frozen=True):
    """What the Raft data of one server holds. The entry with the highest (last_term, last_index) is the
    newest of all servers; whoever has it lacks nothing that was ever acknowledged to a client."""

    last_index: int = 0
    last_term: int = 0
    term: int = 0
    vote: str = ""  # server id
    snapshot_index: int = 0
    snapshot_term: int = 0
    configuration: Configuration = Configuration()
    configuration_index: int = 0
    running: bool = False  # an agent has it open: numbers may be out of date at once
    pending_recovery: bool = False  # there is a peers.json for the next start


def inspect(data_dir: Path) -> Inspection:
    """Read the Raft data in an agent's data directory and change nothing. NotFound when it is no
    server's, CtlError (CorruptLog) when it is damaged, OSError when it cannot be read."""
    folder = data_dir / "raft"
    if not folder.is_dir():
        raise NotFound(f"{data_dir} holds no Raft data: it is not the data directory of a server")
    if (folder / "raft.db").exists():
        raise CtlError(f"{folder} holds a Consul server's Raft log; ctl takes it over when it starts there")
    snapshots = DiskSnapshots(folder / "snapshots").list()
    wal = folder / "wal"
    log = recover(_ReadOnly(), wal) if wal.is_dir() else Recovered()
    index, term, configuration, position = 0, 0, Configuration(), 0
    if snapshots:
        newest = snapshots[0]
        index, term = newest.index, newest.term
        configuration, position = newest.configuration, newest.configuration_index
    for entry_index, data in log.configurations:
        if entry_index > max(index, position):
            configuration, position = membership.decode(data), entry_index
    last, last_term = index, term
    if log.last > index:
        last, last_term = log.last, log.term(log.last) or log.base_term
    return Inspection(
        last,
        last_term,
        max(log.hard.term, last_term),
        log.hard.vote,
        index,
        term,
        configuration,
        position,
        _is_open(wal),
        (folder / "peers.json").exists(),
    )


def write_peers(data_dir: Path, servers: Sequence[Server]) -> Path:
    """Let the server in `data_dir` start with `servers` as its configuration; gives the file's path.
    Invalid when they are no configuration, NotFound when there is no Raft data, OSError."""
    folder = data_dir / "raft"
    if not folder.is_dir():
        raise NotFound(f"{data_dir} holds no Raft data: it is not the data directory of a server")
    _checked(servers)
    peers = [
        {"id": server.id, "address": server.address, "non_voter": server.suffrage != VOTER}
        for server in servers
    ]
    world = World()
    if not (folder / "peers.info").exists():
        world.write_file(folder / "peers.info", _INFO.encode())
    path = folder / "peers.json"
    world.write_file(path, msgspec.json.format(msgspec.json.encode(peers), indent=2) + b"\n")
    return path


def wanted_peers(folder: Path) -> Configuration | None:
    """What peers.json in the Raft folder asks for, None without one. CtlError when it is not valid."""
    path, info = folder / "peers.json", folder / "peers.info"
    if not info.exists():
        folder.mkdir(parents=True, exist_ok=True)
        World().write_file(info, _INFO.encode())
        if path.exists():
            _log.warn("peers.json was deleted unused: it was written before this version's first start")
            path.unlink()
        return None
    if not path.exists():
        return None
    try:
        peers = msgspec.json.decode(path.read_bytes(), type=list[_Peer | str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CtlError(f"recovery failed to parse peers.json: {error}") from error
    try:
        return _checked([_server(peer) for peer in peers])
    except Invalid as error:
        raise CtlError(f"recovery failed to parse peers.json: {error}") from error


def forget_peers(folder: Path) -> None:
    """The wish was granted. OSError."""
    (folder / "peers.json").unlink()
    Files().sync_folder(folder)


class _Peer(Struct):
    id: str
    address: str
    non_voter: bool = False


def _server(peer: _Peer | str) -> Server:
    if isinstance(peer, str):  # protocol 2: a server is its address
        return Server(peer, peer)
    return Server(peer.id, peer.address, NONVOTER if peer.non_voter else VOTER)


def _checked(servers: Sequence[Server]) -> Configuration:
    configuration = Configuration()
    voters_first = sorted(servers, key=lambda server: server.suffrage)
    if len({server.id for server in servers}) < len(servers):
        raise Invalid("found duplicate ID in configuration")
    if not servers or voters_first[0].suffrage != VOTER:
        raise Invalid("need at least one voter in configuration")
    for server in voters_first:
        if server.suffrage == VOTER:
            configuration = configuration.with_voter(server.id, server.address)
        else:
            configuration = configuration.with_nonvoter(server.id, server.address)
    return Configuration(tuple(servers))


def _is_open(folder: Path) -> bool:
    """Whether an agent holds the log."""
    if not folder.is_dir():
        return False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class _ReadOnly(Files):
    """A disk on which recovery repairs nothing."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """The last batch stays as it is."""

    def remove(self, path: Path) -> None:
        """Unfinished files stay."""
