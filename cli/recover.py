"""`ctl operator raft recover`: from the data directories that are left to a peers.json. Needs no agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cli.client import error_text
from cli.command import Failure, Usage
from cli.output import Table
from core.errors import CtlError
from core.raft.configuration import VOTER, Server

if TYPE_CHECKING:
    from agent.raft_recovery import Inspection
    from cli.call import Call


class Found(Struct):
    """A data directory, whose it is, and what it holds."""

    folder: Path
    id: str
    data: Inspection

    @property
    def progress(self) -> tuple[int, int]:
        """What decides who lacks nothing: term first, then index."""
        return self.data.last_term, self.data.last_index


def recover(call: Call) -> int:
    """Compare, recommend, and write peers.json on request."""
    found = [_look_into(Path(word)) for word in call.arguments]
    if len({one.id for one in found}) < len(found):
        raise Failure("Error: two of the directories are of the same server; give the newer one only")
    newest = max(found, key=lambda one: one.progress)
    servers = _survivors(call, found, newest)
    if not call.out.structured:
        _show(call, found, newest, servers)
    running = [str(one.folder) for one in found if one.data.running]
    if running:
        raise Failure(f"Error: an agent runs on {', '.join(running)}; stop all servers first")
    written: list[str] = []
    if call.yes("yes") or _confirmed(call):
        written = [_write(one, servers) for one in found]
    if call.out.structured:
        call.out.document(_document(found, newest, servers, written))
    elif written:
        _say_what_is_next(call, servers, newest, written)
    if not written:
        raise Failure("Nothing was written; --yes writes peers.json.")
    return 0


def _look_into(folder: Path) -> Found:
    from agent.raft_recovery import inspect

    try:
        data = inspect(folder)
        identity = (folder / "node-id").read_text().strip()
    except CtlError as error:
        raise Failure(f"Error: {error}") from None
    except OSError as error:
        raise Failure(f"Error: cannot read {error.filename or folder}: {error_text(error)}") from None
    return Found(folder, identity, data)


def _survivors(call: Call, found: list[Found], newest: Found) -> list[Server]:
    """The servers of the new configuration: those of the directories and of -address."""
    given: dict[str, str] = {}
    for text in call.many("address"):
        identity, equals, address = text.partition("=")
        if not equals or not address.rpartition(":")[2].isdigit():
            raise Usage(f"Error: -address is ID=HOST:PORT, not {text}")
        given[identity] = address
    known = {server.id: server for server in newest.data.configuration.servers}
    servers = []
    for identity in dict.fromkeys([*(one.id for one in found), *given]):
        before = known.get(identity)
        address = given.get(identity) or (before.address if before else "")
        if not address:
            raise Failure(
                f"Error: the newest data does not know server {identity}, so not where it will be; "
                f"add -address {identity}=HOST:PORT"
            )
        servers.append(Server(identity, address, before.suffrage if before else VOTER))
    return servers


def _show(call: Call, found: list[Found], newest: Found, servers: list[Server]) -> None:
    """The directories side by side, then who counted before and who will."""
    rows = []
    for one in sorted(found, key=lambda one: one.progress, reverse=True):
        data = one.data
        state = "newest" if one.progress == newest.progress else f"{_behind(one, newest)} behind"
        if data.running:
            state += ", agent runs"
        if data.pending_recovery:
            state += ", has a peers.json"
        numbers = (data.last_term, data.last_index, data.snapshot_index)
        rows.append([str(one.folder), one.id, *map(str, numbers), state])
    columns = ("Directory", "ID", "LastTerm", "LastIndex", "Snapshot", "State")
    table = Table(columns, rows, status=(), keep=("Directory", "ID", "State"))
    call.out.show(None, table, [str(newest.folder)])
    staying = {server.id for server in servers}
    before = newest.data.configuration.servers
    lines = ["", f"Servers that Raft counted at index {newest.data.configuration_index}:"]
    for server in before:
        fate = "stays" if server.id in staying else "is given up"
        kind = "voter" if server.suffrage == VOTER else "non-voter"
        lines.append(f"  {server.id}  {server.address}  {kind}  {fate}")
    lines.append("Servers of the new configuration:")
    lines += [f"  {server.id}  {server.address}" for server in servers]
    voters = [server.id for server in before if server.suffrage == VOTER]
    left = [identity for identity in voters if identity in staying]
    if 2 * len(left) > len(voters):
        lines += [
            "",
            f"These are {len(left)} of {len(voters)} voters, which is a majority: start them, and they elect",
            "a leader without this. If they do not, see `ctl doctor`.",
        ]
    if not call.out.quiet:
        call.out.write("\n".join(lines) + "\n")


def _behind(one: Found, newest: Found) -> str:
    if one.data.last_term == newest.data.last_term:
        return str(newest.data.last_index - one.data.last_index)
    return f"{newest.data.last_term - one.data.last_term} terms"


def _confirmed(call: Call) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or call.out.structured:
        return False
    sys.stdout.flush()
    sys.stderr.write("Write peers.json into the directories above? Are all servers stopped? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(one: Found, servers: list[Server]) -> str:
    from agent.raft_recovery import write_peers

    try:
        return str(write_peers(one.folder, servers))
    except CtlError as error:
        raise Failure(f"Error: {one.folder}: {error}") from None
    except OSError as error:
        raise Failure(f"Error: cannot write {error.filename or one.folder}: {error_text(error)}") from None


def _say_what_is_next(call: Call, servers: list[Server], newest: Found, written: list[str]) -> None:
    lines = ["", *(f"Wrote {path}" for path in written), ""]
    elsewhere = len(servers) - len(written)
    if elsewhere:
        lines.append(f"Copy this peers.json into the raft folder of the other {elsewhere} servers too.")
    lines.append(f"Now start all {len(servers)} servers, the newest first ({newest.folder}).")
    lines.append("They read the file once and delete it. Then look at `ctl operator raft list-peers`.")
    if not call.out.quiet:
        call.out.write("\n".join(lines) + "\n")


def _document(found: list[Found], newest: Found, servers: list[Server], written: list[str]) -> dict[str, Any]:
    return {
        "Directories": [
            {
                "Directory": str(one.folder),
                "ID": one.id,
                "LastTerm": one.data.last_term,
                "LastIndex": one.data.last_index,
                "SnapshotIndex": one.data.snapshot_index,
                "Running": one.data.running,
                "PendingRecovery": one.data.pending_recovery,
            }
            for one in found
        ],
        "Newest": str(newest.folder),
        "Servers": [
            {"ID": server.id, "Address": server.address, "Voter": server.suffrage == VOTER}
            for server in servers
        ],
        "Written": written,
    }
