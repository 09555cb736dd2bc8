"""The door for Raft: committed entries in, results out; snapshots both ways.

Also joins commands that were too large for one entry (protocols/fsm.md section 7)."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from msgspec import Struct

from core.errors import Unavailable
from core.store import persist
from core.store.apply import CorruptCommand, apply
from core.store.state import Store
from core.store.structs import ChunkInfo

MAX_CHUNKS = 1 << 16


class ChunkingSuccess(Struct, frozen=True):
    """The result of a command that came in chunks, given for its last one."""

    response: object = None


class FSM:
    """The replicated state machine. `store` is the same object for life, also over a restore."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = Store() if store is None else store

    def apply(self, index: int, data: bytes, extensions: bytes = b"", term: int = 0) -> object:
        """Apply one committed command entry; see `core.store.apply.apply` for results and errors.
        An entry with `extensions` is one chunk of a command: the result is None for all but the last,
        then ChunkingSuccess, or Unavailable (returned) when the others were lost with their term."""
        if self.store.chunks:
            self._forget_other_terms(term)
        if not extensions:
            return apply(self.store, index, data)
        number, sequence, count = read_chunk_info(extensions)
        if not sequence < count <= MAX_CHUNKS:
            raise CorruptCommand(f"log entry {index} is chunk {sequence} of {count}")
        parts = self.store.chunks.setdefault(number, [None] * count)
        if len(parts) != count:
            raise CorruptCommand(f"log entry {index} changes the number of chunks to {count}")
        parts[sequence] = ChunkInfo(number, sequence, count, term, data)
        if sequence + 1 < count:
            self.store.applied = index
            return None
        del self.store.chunks[number]
        whole = [part.data for part in parts if part is not None]
        if len(whole) < count:
            self.store.applied = index
            return Unavailable("please resubmit call for rechunking")
        return ChunkingSuccess(apply(self.store, index, b"".join(whole)))

    def _forget_other_terms(self, term: int) -> None:
        """The leader of an old term cannot send the chunks that are missing."""
        chunks = self.store.chunks
        for number in [
            number for number, parts in chunks.items() if any(p and p.term != term for p in parts)
        ]:
            del chunks[number]

    def snapshot(self) -> Iterator[bytes]:
        """state.bin as of now, in slices; later commands do not show in it."""
        return persist.dump(self.store)

    def restore(self, data: bytes) -> None:
        """Replace the whole state by that in state.bin; all watches fire. SnapshotError leaves the
        state as it was."""
        self.store.replace_with(persist.load(data))

    def load(self, data: bytes) -> Generator[None, None, Store]:
        """The state in state.bin, built aside in steps of about a millisecond. SnapshotError."""
        return persist.loading(data)

    def adopt(self, state: Store) -> Iterator[None]:
        """Replace the whole state by one that was loaded; all watches fire. What is given back takes
        the old one apart in steps: letting go of millions of rows at once takes long, too."""
        old = list(self.store.tables.values())
        self.store.replace_with(state)
        return (None for table in old for _ in table.dismantled())


def read_chunk_info(extensions: bytes) -> tuple[int, int, int]:
    """(operation, sequence, count) of a chunk's protobuf. CorruptCommand for broken bytes."""
    fields = {1: 0, 2: 0, 3: 0}
    at = 0
    while at < len(extensions):
        tag, at = _varint(extensions, at)
        value, at = _varint(extensions, at)
        if tag & 7 == 2:  # length-delimited: skip the content
            at += value
        elif tag & 7:
            raise CorruptCommand("chunk info: unexpected wire type")
        else:
            fields[tag >> 3] = value
    return fields[1], fields[2], fields[3]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise CorruptCommand("chunk info: bad number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
