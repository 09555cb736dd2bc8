"""`ctl snapshot`: save the whole state of a datacenter, look into a saved one, put one back."""

from __future__ import annotations

import os
import sys

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call
    from cli.snapshotrecords import Snapshot

_MISSING = "Missing FILE argument"


def save(call: Call) -> int:
    """`snapshot save`: the file appears only when it has been read back and found whole."""
    from cli.client import error_text
    from cli.snapshotrecords import Snapshot
    from core.store.persist import SnapshotError

    path = _with_facts(call, call.argument(0))
    temporary = f"{path}.unverified.tmp{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        text = f"Error writing unverified snapshot file: open {temporary}: {error_text(error)}"
        raise Failure(text) from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            _receive(call, file.fileno())
            os.fsync(file.fileno())
            file.seek(0)
            snapshot = Snapshot(file.read())
        os.replace(temporary, path)
    except SnapshotError as error:
        raise Failure(f"Error verifying snapshot file: {error}") from None
    except OSError as error:
        raise Failure(f"Error writing snapshot file: {path}: {error_text(error)}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    _sync_folder(path)
    index = snapshot.meta.index
    call.out.done(
        f"Saved and verified snapshot to index {index}",
        {"File": path, "Index": index, "Size": snapshot.size, "ID": snapshot.meta.id},
    )
    return 0


def _with_facts(call: Call, path: str) -> str:
    """The file name with what -append-filename asks for, before its extension."""
    wanted = [word for word in call.text("append-filename").split(",") if word]
    if not wanted:
        return path
    about = call.fetch("/v1/agent/self")
    config = about["Config"]
    leads = about.get("Stats", {}).get("consul", {}).get("leader") == "true"
    facts = {
        "version": config["Version"],
        "dc": config["Datacenter"],
        "node": config["NodeName"],
        "status": "leader" if leads else "follower",
    }
    foreign = [word for word in wanted if word not in facts]
    if foreign:
        raise Usage(f"Error: -append-filename knows version, dc, node and status, not {foreign[0]}")
    stem, extension = os.path.splitext(path)
    return "-".join([stem, *(facts[word] for word in wanted)]) + extension


def _receive(call: Call, descriptor: int) -> None:
    """Write the archive as it comes."""
    from cli.client import TransportError, error_text
    from cli.progress import progress

    try:
        with progress(call, "Saving") as advance:
            for piece in call.client.stream("/v1/snapshot", call.query()):
                advance(len(piece))
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
    except TransportError as error:
        raise error.within("Error saving snapshot") from None
    except OSError as error:
        raise Failure(f"Error saving snapshot: the answer broke off: {error_text(error)}") from None


def _sync_folder(path: str) -> None:
    """Make the new name last. Some file systems cannot; the file itself is safe by then."""
    import contextlib

    with contextlib.suppress(OSError):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def inspect(call: Call) -> int:
    """`snapshot inspect`: what is in a file. Needs no agent."""
    snapshot = _open(call.argument(0))[1]
    details = call.yes("kvdetails")
    keys = snapshot.keys_by_size(call.number("kvdepth", 2), call.text("kvfilter")) if details else []
    from cli import snapshotview

    if call.out.structured:
        call.out.document(snapshotview.document(snapshot, keys, details))
    elif call.out.quiet:
        call.out.line(snapshot.meta.id)
    else:
        call.out.write(snapshotview.text(snapshot, keys, details))
    return 0


def decode(call: Call) -> int:
    """`snapshot decode`: one JSON object a record. Keys and values that are no text come as base64."""
    import json

    from cli.snapshotview import plain

    snapshot = _open(call.argument(0))[1]
    for record in snapshot.records():
        entry = {"Type": record.name, "Data": plain(record.value)}
        call.out.line(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))
    return 0


def restore(call: Call) -> int:
    """`snapshot restore`: says first what it replaces; asks only where somebody can answer."""
    data, snapshot = _open(call.argument(0))
    quiet = call.out.structured or call.out.quiet
    if not quiet:
        from cli.snapshotview import will_replace

        sys.stderr.write(will_replace(call, snapshot))
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not call.yes("yes")
    if asks and not _confirmed("Replace the state of the cluster?"):
        raise Failure("Nothing was changed.")
    from cli.client import TransportError
    from cli.progress import progress

    try:
        with progress(call, f"Restoring {_bytes(len(data))}", unit="snapshots"):
            call.send("/v1/snapshot", body=data)
    except TransportError as error:
        raise error.within("Error restoring snapshot") from None
    call.out.done("Restored snapshot", {"Restored": snapshot.meta.id, "Index": snapshot.meta.index})
    return 0


def _confirmed(question: str) -> bool:
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _open(path: str) -> tuple[bytes, Snapshot]:
    """The bytes of an archive and what they mean. Failure with Consul's texts."""
    from cli.client import error_text
    from cli.snapshotrecords import Snapshot
    from core.store.persist import SnapshotError

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        text = f"Error opening snapshot file: open {path}: {error_text(error)}"
        raise Failure(text, kind="missing") from None
    try:
        return data, Snapshot(data)
    except SnapshotError as error:
        raise Failure(f"Error reading snapshot: {error}") from None


def _bytes(count: int) -> str:
    from cli.snapshotview import byte_size

    return byte_size(count)


_FILE = Argument("FILE", "The snapshot.", missing=_MISSING, complete="files")

COMMANDS = (
    Command(
        "snapshot save",
        "Save the whole state to a file, and verify it",
        save,
        arguments=(_FILE,),
        flags=(Flag("append-filename", "string", "Add version, dc, node, status to the name."),),
        text="The file holds keys, the catalog, sessions, tokens and private keys: keep it like those.",
        example=("ctl snapshot save backup.snap", "ctl snapshot save -stale backup.snap"),
        server=True,
    ),
    Command(
        "snapshot inspect",
        "Show what is in a snapshot",
        inspect,
        arguments=(_FILE,),
        flags=(
            Flag("kvdetails", "bool", "Break the size of the keys down by prefix."),
            Flag("kvdepth", "uint", "Path elements of such a prefix.", default="2"),
            Flag("kvfilter", "string", "Only keys with this prefix."),
        ),
        example=("ctl snapshot inspect backup.snap", "ctl snapshot inspect -kvdetails backup.snap"),
        connects=False,
    ),
    Command(
        "snapshot decode",
        "Print the records of a snapshot as JSON, one a line",
        decode,
        arguments=(_FILE,),
        example=("ctl snapshot decode backup.snap | grep KVS",),
        connects=False,
        output=False,
    ),
    Command(
        "snapshot restore",
        "Replace the whole state of the cluster by a snapshot",
        restore,
        arguments=(_FILE,),
        flags=(Flag("yes", "bool", "Do not ask, even on a terminal."),),
        text="Tells what will be replaced, and warns when the token in use is not in the snapshot. Scripts\n"
        "are not asked.",
        example=("ctl snapshot restore backup.snap",),
        server=True,
    ),
)
