"""The bytes of the log: segment headers, frames and the records in them.

    segment   header block (4096 bytes): magic, number, salt, crc; then frames; then zeros
    frame     magic, body length, crc, sequence; body = the records of one batch
    record    kind, then entry | hard state | truncate | mark

One frame is one write and one fsync, so it is whole or it was never acknowledged. Sequences are
consecutive over all segments. A frame's crc starts from its segment's random salt and covers the
sequence, so neither old bytes nor bytes that a client stored can pass for a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct as Layout
from typing import TypeAlias
from zlib import crc32

from msgspec import Struct

from core.raft.messages import Entry
from core.raft.ready import HardState, Ready

HEADER_BLOCK = 4096
SEGMENT_MAGIC = b"ctl-wal1"
FRAME_MAGIC = b"\xf7wAL"
FRAME_HEADER = Layout("<4sIIQ")
FRAME_OVERHEAD = FRAME_HEADER.size

_SEGMENT = Layout("<8sQI")
_SEQUENCE = Layout("<Q")
_ENTRY = Layout("<BBQQII")  # kind, type, index, term, bytes of data, bytes of extensions
_HARD = Layout("<BQI")  # kind, term, bytes of vote
_TRUNCATE = Layout("<BQ")  # kind, first dropped index
_MARK = Layout("<BQQ")  # kind, index, term of the last entry that a snapshot made useless
_NONE = 0xFFFFFFFF

ENTRY, HARD, TRUNCATE, MARK = 1, 2, 3, 4


class Truncate(Struct):
    """Entries from `first` on are dropped."""

    first: int


class Mark(Struct):
    """The log starts after this entry."""

    index: int
    term: int


Record: TypeAlias = Entry | HardState | Truncate | Mark


def segment_header(number: int, salt: int) -> bytes:
    """The first block of a segment file."""
    head = _SEGMENT.pack(SEGMENT_MAGIC, number, salt)
    return (head + crc32(head).to_bytes(4, "little")).ljust(HEADER_BLOCK, b"\0")


def parse_segment_header(block: bytes) -> tuple[int, int] | None:
    """(number, salt), or None if the block is no header."""
    head = block[: _SEGMENT.size]
    if len(block) < HEADER_BLOCK or crc32(head).to_bytes(4, "little") != block[len(head) : len(head) + 4]:
        return None
    magic, number, salt = _SEGMENT.unpack(head)
    return (number, salt) if magic == SEGMENT_MAGIC else None


def encode_ready(ready: Ready, pieces: list[bytes]) -> None:
    """Add the records of one Ready, in the order in which they count."""
    if ready.hard_state is not None:
        pieces.append(encode_hard(ready.hard_state))
    if ready.truncate:
        pieces.append(encode_truncate(ready.truncate))
    pack = _ENTRY.pack
    for entry in ready.entries:
        data, extensions = entry.data, entry.extensions
        pieces.append(
            pack(
                ENTRY,
                entry.type,
                entry.index,
                entry.term,
                _NONE if data is None else len(data),
                _NONE if extensions is None else len(extensions),
            )
        )
        if data:
            pieces.append(data)
        if extensions:
            pieces.append(extensions)


def encode_hard(state: HardState) -> bytes:
    vote = state.vote.encode("utf-8", "surrogateescape")
    return _HARD.pack(HARD, state.term, len(vote)) + vote


def encode_truncate(first: int) -> bytes:
    return _TRUNCATE.pack(TRUNCATE, first)


def encode_mark(index: int, term: int) -> bytes:
    return _MARK.pack(MARK, index, term)


def encode_frame(body: bytes, sequence: int, salt: int) -> bytes:
    """A whole frame; `salt` is that of the segment it goes to."""
    return FRAME_HEADER.pack(FRAME_MAGIC, len(body), _crc(body, sequence, salt), sequence) + body


def _crc(body: bytes | memoryview, sequence: int, salt: int) -> int:
    return crc32(body, crc32(_SEQUENCE.pack(sequence), salt))


def parse_frame(data: bytes, offset: int, salt: int) -> tuple[int, memoryview] | None:
    """(sequence, body) of the frame at `offset`, or None if there is no valid one."""
    if offset + FRAME_OVERHEAD > len(data):
        return None
    magic, length, crc, sequence = FRAME_HEADER.unpack_from(data, offset)
    start = offset + FRAME_OVERHEAD
    if magic != FRAME_MAGIC or start + length > len(data):
        return None
    body = memoryview(data)[start : start + length]
    return (sequence, body) if _crc(body, sequence, salt) == crc else None


def parse_records(body: memoryview) -> Iterator[Record]:
    """The records of a frame. ValueError if it holds something else (its crc was right: a newer format)."""
    position, end = 0, len(body)
    while position < end:
        kind = body[position]
        if kind == ENTRY:
            _, type_, index, term, size, more = _ENTRY.unpack_from(body, position)
            position += _ENTRY.size
            data = None if size == _NONE else bytes(body[position : position + size])
            position += 0 if size == _NONE else size
            extensions = None if more == _NONE else bytes(body[position : position + more])
            position += 0 if more == _NONE else more
            yield Entry(index, term, type_, data, extensions)
        elif kind == HARD:
            _, term, size = _HARD.unpack_from(body, position)
            position += _HARD.size
            vote = bytes(body[position : position + size]).decode("utf-8", "surrogateescape")
            position += size
            yield HardState(term, vote)
        elif kind == TRUNCATE:
            yield Truncate(_TRUNCATE.unpack_from(body, position)[1])
            position += _TRUNCATE.size
        elif kind == MARK:
            _, index, term = _MARK.unpack_from(body, position)
            position += _MARK.size
            yield Mark(index, term)
        else:
            raise ValueError(f"unknown record kind {kind}")


def surviving_entries(records: Iterable[Record]) -> list[Entry]:
    """The entries that a frame adds, after the truncations inside it."""
    entries: list[Entry] = []
    for record in records:
        if isinstance(record, Entry):
            entries.append(record)
        elif isinstance(record, Truncate) and entries:
            del entries[max(0, record.first - entries[0].index) :]
    return entries
