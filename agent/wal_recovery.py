"""Reading the log back after a stop or a crash.

A crash can only damage the batch that was being written, which nobody was told about: the last
frame. So bytes that are no frame are cut off if no later batch follows them, and are a damaged log,
with acknowledged entries in it, if one does: then the agent must not start, and says where."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from agent import wal_format as form
from agent.wal_files import Files
from core.errors import CtlError
from core.raft.messages import CONFIGURATION, Entry
from core.raft.ready import HardState


class CorruptLog(CtlError):
    """The log lacks something that was acknowledged. The text names file and offset."""


class Segment(Struct):
    """One file of the log. `end` is where the next frame goes."""

    number: int
    path: Path
    salt: int
    size: int
    end: int = form.HEADER_BLOCK
    first_sequence: int = 0  # of its first frame when the log was opened, 0 if it had none


class Recovered(Struct):
    """What the log says."""

    hard: HardState = HardState()
    base: int = 0  # the log starts after this entry
    base_term: int = 0
    last: int = 0
    runs: list[tuple[int, int]] = []  # (first index, term) of each run of one term in (base, last]
    configurations: list[tuple[int, bytes]] = []  # configuration entries in (base, last]
    frames: list[tuple[int, int, int]] = []  # (first entry index, segment number, offset)
    segments: list[Segment] = []
    sequence: int = 1  # of the next frame
    missing_to: int = 0  # entries up to here were deleted: a mark must say so

    @property
    def is_empty(self) -> bool:
        """Nothing was ever stored."""
        return not (self.last or self.hard.term)

    def entry(self, entry: Entry) -> None:
        """The next entry. Behind a hole only if older segments were deleted; a mark further on says so."""
        if entry.index > self.last + 1:
            self.missing_to = entry.index - 1
            self._restart(entry.index - 1, 0)
        self.last = entry.index
        if not self.runs or self.runs[-1][1] != entry.term:
            self.runs.append((entry.index, entry.term))
        if entry.type == CONFIGURATION:
            self.configurations.append((entry.index, entry.data or b""))

    def truncate(self, first: int) -> None:
        """Entries from `first` on are dropped. At or before the base: older segments were deleted, or a mark
        follows that takes the log back."""
        if first <= self.base:
            self.missing_to = first - 1 if self.missing_to else 0
            self._restart(first - 1, 0)
        if first > self.last:
            return
        self.last = max(first - 1, self.base)
        for kept in (self.runs, self.configurations, self.frames):
            while kept and kept[-1][0] >= first:
                kept.pop()

    def mark(self, index: int, term: int) -> None:
        """The log starts after `index`."""
        if index < self.base:
            return
        if index >= self.missing_to:
            self.missing_to = 0
        if index > self.last:
            self._restart(index, term)
            return
        following = self.term(index + 1)
        self.base, self.base_term = index, term
        self.runs = [run for run in self.runs if run[0] > index + 1]
        if following is not None:
            self.runs.insert(0, (index + 1, following))
        self.configurations = [item for item in self.configurations if item[0] > index]

    def term(self, index: int) -> int | None:
        """Term of an entry, None if the log does not have it."""
        if not self.base < index <= self.last:
            return None
        return next(term for first, term in reversed(self.runs) if first <= index)

    def _restart(self, base: int, term: int) -> None:
        self.base, self.base_term, self.last = base, term, base
        self.runs, self.configurations, self.frames = [], [], []


_NEVER = 1 << 64


def recover(files: Files, folder: Path) -> Recovered:
    """Read all segments in `folder`. CorruptLog if acknowledged entries are damaged or missing."""
    state = Recovered()
    for name in files.names(folder):
        if name.endswith(".tmp"):
            files.remove(folder / name)
        elif name.endswith(".seg"):
            state.segments.append(_open_segment(files, folder / name))
    state.segments.sort(key=lambda segment: segment.number)
    # A batch whose fsync failed is written again to the next segment under the same sequence, so a
    # segment counts up to where any later one begins.
    limits, limit = [], _NEVER
    for segment in reversed(state.segments):
        limits.append(limit)
        limit = min(limit, segment.first_sequence or _NEVER)
    started = False
    for segment, limit in zip(state.segments, reversed(limits), strict=True):
        if segment.first_sequence and not started:
            state.sequence, started = segment.first_sequence, True
        _read_segment(files, state, segment, limit)
    if state.missing_to:
        raise CorruptLog(f"{folder}: entries up to {state.missing_to} are missing")
    return state


def _open_segment(files: Files, path: Path) -> Segment:
    descriptor = files.open(path)
    try:
        header = form.parse_segment_header(files.pread(descriptor, form.HEADER_BLOCK, 0))
        if header is None:
            raise CorruptLog(f"{path}: offset 0: not the header of a log segment")
        segment = Segment(header[0], path, header[1], files.size(descriptor))
        frame = read_frame(files, descriptor, segment, form.HEADER_BLOCK)
    finally:
        files.close(descriptor)
    segment.first_sequence = frame[0] if frame else 0
    return segment


def read_frame(files: Files, descriptor: int, segment: Segment, offset: int) -> tuple[int, memoryview] | None:
    """(sequence, body) of the frame at `offset` of an open segment, None if it is not valid."""
    header = files.pread(descriptor, form.FRAME_OVERHEAD, offset)
    if len(header) < form.FRAME_OVERHEAD:
        return None
    size = min(form.FRAME_HEADER.unpack(header)[1], segment.size)
    return form.parse_frame(files.pread(descriptor, form.FRAME_OVERHEAD + size, offset), 0, segment.salt)


def _read_segment(files: Files, state: Recovered, segment: Segment, limit: int) -> None:
    """Take the frames below sequence `limit`; cut a torn tail; rewrite the last frame.

    The rewrite is for a process that died after a failed fsync: the page cache may call bytes clean
    that never reached the disk."""
    data = files.read(segment.path)
    offset, last_offset = form.HEADER_BLOCK, 0
    while state.sequence < limit:
        frame = form.parse_frame(data, offset, segment.salt)
        if frame is None or frame[0] != state.sequence:
            _check_tail(segment, data, offset, state.sequence, limit)
            break
        _take(state, segment, offset, frame[1])
        last_offset, offset = offset, offset + form.FRAME_OVERHEAD + len(frame[1])
        state.sequence += 1
    segment.end = offset
    tail = len(data.rstrip(b"\0"))
    if limit == _NEVER and (last_offset or tail > offset):
        descriptor = files.open(segment.path)
        try:
            start = last_offset or offset
            files.write(descriptor, data[start:offset] + bytes(max(0, tail - offset)), start)
        finally:
            files.close(descriptor)


def _take(state: Recovered, segment: Segment, offset: int, body: memoryview) -> None:
    try:
        records = list(form.parse_records(body))
    except ValueError as error:
        raise CorruptLog(f"{segment.path}: offset {offset}: {error}") from error
    for record in records:
        if isinstance(record, Entry):
            state.entry(record)
        elif isinstance(record, HardState):
            state.hard = record
        elif isinstance(record, form.Truncate):
            state.truncate(record.first)
        else:
            state.mark(record.index, record.term)
    entries = form.surviving_entries(records)
    if entries and entries[-1].index > state.base:
        state.frames.append((entries[0].index, segment.number, offset))


def _check_tail(segment: Segment, data: bytes, offset: int, expected: int, limit: int) -> None:
    """Bytes at `offset` are no frame: fine at the end of the log, damage if a later batch follows."""
    if limit != _NEVER:
        raise CorruptLog(
            f"{segment.path}: offset {offset}: batches {expected} to {limit - 1} are damaged or missing"
        )
    position = data.find(form.FRAME_MAGIC, offset)
    while position >= 0:
        frame = form.parse_frame(data, position, segment.salt)
        if frame is not None and frame[0] > expected:
            raise CorruptLog(
                f"{segment.path}: offset {offset}: damaged, and batch {frame[0]} follows at {position}"
            )
        position = data.find(form.FRAME_MAGIC, position + 1)
