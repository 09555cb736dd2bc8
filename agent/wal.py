"""The durable log and vote: segment files, one write and one fsync for a whole batch.

Writing is three steps so that the slow one may run on another thread:

    frame = log.prepare(readies)     encode; decides whether a new segment is needed
    log.write(frame)                 pwrite and fdatasync; StorageFull, then nothing has changed
    log.finish(frame)                remember where the entries are

`MemoryLog` has the same door and keeps everything in memory (dev mode)."""

from __future__ import annotations

import contextlib
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from msgspec import Struct

from agent import wal_format as form
from agent.wal_files import Files
from agent.wal_recovery import CorruptLog, Recovered, Segment, read_frame, recover
from core.errors import CtlError, StorageFull
from core.raft.messages import Entry
from core.raft.ready import HardState, Ready

SEGMENT_SIZE = 16 << 20
FIRST_SIZE = 1 << 20  # the first segment, and one that is needed before a spare is ready


class Frame(Struct):
    """One batch on its way to the disk."""

    readies: Sequence[Ready]
    body: bytes
    hard: HardState
    roll: bool = False  # goes to a new segment
    mark: tuple[int, int] | None = None
    replaced: bool = False  # with the mark: all entries are dropped
    offset: int = 0

    @property
    def size(self) -> int:
        return len(self.body) + form.FRAME_OVERHEAD


class LogStore(Protocol):
    """What the Raft service needs of a log."""

    recovered: Recovered

    def read(self, first: int, last: int) -> list[Entry]: ...

    def prepare(self, readies: Sequence[Ready]) -> Frame: ...

    def prepare_mark(self, index: int, term: int, replace: bool = False) -> Frame: ...

    def write(self, frame: Frame) -> None: ...

    def finish(self, frame: Frame) -> None: ...

    def is_quick(self, frame: Frame) -> bool: ...

    def wants_spare(self) -> bool: ...

    def make_spare(self) -> None: ...

    def take_unused(self) -> list[Path]: ...

    def remove(self, paths: list[Path]) -> None: ...

    def close(self) -> None: ...


class Wal:
    """The log in `folder`. Not thread-safe, except that `write` and `make_spare` may each run on a
    thread of their own while the owner reads."""

    def __init__(
        self, folder: Path, random: Random, files: Files | None = None, segment_size: int = SEGMENT_SIZE
    ) -> None:
        """Open, creating it if absent. CorruptLog if acknowledged entries are damaged, CtlError if
        another process has it open."""
        self._files = files or Files()
        self._folder = folder
        self._random = random
        self._segment_size = segment_size
        try:
            self._lock = self._files.lock(folder)
        except BlockingIOError as error:
            raise CtlError(f"{folder} is in use by another process") from error
        self._descriptor = -1
        self._reading: tuple[int, int] = (0, -1)  # segment number, descriptor
        self._spare: Segment | None = None
        self._creating = threading.Lock()
        self._unknown_tail = False  # a write failed: what the current segment ends with is unknown
        try:
            self.recovered = recover(self._files, folder)
            self._load(self.recovered)
        except (OSError, CtlError):
            self.close()
            raise

    def _load(self, state: Recovered) -> None:
        self._sequence = state.sequence
        self._hard = state.hard
        self._base, self._base_term = state.base, state.base_term
        self._last = state.last
        # One frame per item, oldest first: index of its first entry, and segment << 32 | offset.
        self._firsts = array("Q", [frame[0] for frame in state.frames])
        self._places = array("Q", [frame[1] << 32 | frame[2] for frame in state.frames])
        self._drop_before(state.base)
        self._segments = {segment.number: segment for segment in state.segments}
        self._number = max(self._segments, default=0)
        if state.segments:
            used = [s for s in state.segments if s.end > form.HEADER_BLOCK] or state.segments[:1]
            self._current = used[-1]
        else:
            self._current = self._create(min(FIRST_SIZE, self._segment_size))
            self._segments[self._current.number] = self._current
        for number in sorted(self._segments):
            if number > self._current.number:
                segment = self._segments.pop(number)
                if self._spare is None:
                    self._spare = segment
                else:
                    self._files.remove(segment.path)
        self._descriptor = self._files.open(self._current.path)

    # Writing

    def append(self, ready: Ready) -> None:
        """Make one Ready's hard state, truncation and entries durable. StorageFull: nothing happened."""
        frame = self.prepare([ready])
        self.write(frame)
        self.finish(frame)

    def prepare(self, readies: Sequence[Ready]) -> Frame:
        """One batch of all that these ask to persist."""
        pieces: list[bytes] = []
        hard = self._hard
        for ready in readies:
            form.encode_ready(ready, pieces)
            hard = ready.hard_state or hard
        return self._frame(readies, pieces, hard)

    def prepare_mark(self, index: int, term: int, replace: bool = False) -> Frame:
        """A batch that says: the log starts after `index`; with `replace` it holds nothing any more."""
        pieces = [form.encode_truncate(min(self._base, index) + 1)] if replace else []
        pieces.append(form.encode_mark(index, term))
        frame = self._frame([], pieces, self._hard)
        frame.mark, frame.replaced = (index, term), replace
        return frame

    def _frame(self, readies: Sequence[Ready], pieces: list[bytes], hard: HardState) -> Frame:
        size = sum(map(len, pieces)) + form.FRAME_OVERHEAD
        roll = self._unknown_tail or self._current.end + size > self._current.size
        if roll:  # a segment starts with what earlier ones, once deleted, can no longer say
            pieces.insert(0, form.encode_hard(self._hard))
            pieces.insert(1, form.encode_mark(self._base, self._base_term))
        return Frame(readies, b"".join(pieces), hard, roll)

    def is_quick(self, frame: Frame) -> bool:
        """Whether `write` is one pwrite and one fsync, with no file to create."""
        spare = self._spare
        return not frame.roll or (spare is not None and frame.size <= spare.size - form.HEADER_BLOCK)

    def write(self, frame: Frame) -> None:
        """Make it durable. On StorageFull nothing was acknowledged and later writes go elsewhere."""
        try:
            if frame.roll:
                self._roll(frame.size)
            data = form.encode_frame(frame.body, self._sequence, self._current.salt)
            frame.offset = self._current.end
            self._unknown_tail = True
            self._files.write(self._descriptor, data, frame.offset)
            self._unknown_tail = False
        except OSError as error:
            raise StorageFull(f"the Raft log cannot be written: {error.strerror or error}") from error
        self._sequence += 1
        self._current.end += len(data)

    def _roll(self, size: int) -> None:
        """Go on in the spare segment, or in a new one."""
        room = size + form.HEADER_BLOCK
        with self._creating:
            segment = self._spare
            if segment is None or segment.size < room:
                segment = self._create(max(room, min(FIRST_SIZE, self._segment_size)))
                unwanted = self._spare  # its number is lower
            else:
                unwanted = None
            self._spare = None
        descriptor = self._files.open(segment.path)
        self._files.close(self._descriptor)
        self._descriptor = descriptor
        left, self._current = self._current, segment
        self._segments[segment.number] = segment
        if left.end == form.HEADER_BLOCK:
            del self._segments[left.number]
            unwanted = unwanted or left
        if unwanted is not None:
            with contextlib.suppress(OSError):
                self._files.remove(unwanted.path)

    def _create(self, size: int) -> Segment:
        self._number += 1
        number, salt = self._number, self._random.getrandbits(32)
        path = self._folder / f"{number:016x}.seg"
        self._files.create(path, form.segment_header(number, salt), size)
        return Segment(number, path, salt, size)

    def finish(self, frame: Frame) -> None:
        """The frame is durable: its entries can be read, its hard state and mark count."""
        self._hard = frame.hard
        if frame.mark is not None:
            self._mark(*frame.mark, frame.replaced)
        first = 0
        for ready in frame.readies:
            if ready.truncate and ready.truncate <= self._last:
                self._truncate(ready.truncate)
                first = 0 if ready.truncate <= first else first
            if ready.entries:
                first = first or ready.entries[0].index
                self._last = ready.entries[-1].index
        if first:
            self._firsts.append(first)
            self._places.append(self._current.number << 32 | frame.offset)

    def _truncate(self, first: int) -> None:
        kept = bisect_left(self._firsts, first)
        del self._firsts[kept:], self._places[kept:]
        self._last = first - 1

    def _mark(self, index: int, term: int, replaced: bool) -> None:
        self._base, self._base_term = index, term
        if replaced or index > self._last:
            del self._firsts[:], self._places[:]
            self._last = index
        else:
            self._drop_before(index)

    def _drop_before(self, base: int) -> None:
        kept = max(0, bisect_right(self._firsts, base + 1) - 1)
        if base >= self._last:
            kept = len(self._firsts)
        del self._firsts[:kept], self._places[:kept]

    # Reading

    def read(self, first: int, last: int) -> list[Entry]:
        """Entries `first` to `last`. CorruptLog if their bytes changed since they were written."""
        entries: list[Entry] = []
        position = bisect_right(self._firsts, first) - 1
        while first <= last:
            place = self._places[position]
            end = self._firsts[position + 1] if position + 1 < len(self._firsts) else self._last + 1
            found = form.surviving_entries(form.parse_records(self._body(place >> 32, place & 0xFFFFFFFF)))
            start = found[0].index
            entries += found[first - start : min(last + 1, end) - start]
            first = end
            position += 1
        return entries

    def _body(self, number: int, offset: int) -> memoryview:
        segment = self._segments[number]
        if self._reading[0] != number:
            self._stop_reading()
            self._reading = (number, self._files.open(segment.path))
        frame = read_frame(self._files, self._reading[1], segment, offset)
        if frame is None:
            raise CorruptLog(f"{segment.path}: offset {offset}: damaged since it was written")
        return frame[1]

    def _stop_reading(self) -> None:
        if self._reading[0]:
            self._files.close(self._reading[1])
        self._reading = (0, -1)

    # Housekeeping

    def wants_spare(self) -> bool:
        """Whether the next segment should be prepared by now."""
        return self._spare is None and self._current.end * 2 > self._current.size

    def make_spare(self) -> None:
        """Prepare the next segment; slow. OSError if there is no room."""
        with self._creating:
            if self._spare is None:
                self._spare = self._create(self._segment_size)

    def take_unused(self) -> list[Path]:
        """The files of segments whose entries are all at or before the mark, for `remove`."""
        needed = self._places[0] >> 32 if self._places else self._current.number
        numbers = sorted(number for number in self._segments if number < needed)
        if self._reading[0] in numbers:
            self._stop_reading()
        return [self._segments.pop(number).path for number in numbers]

    def remove(self, paths: list[Path]) -> None:
        """Delete files, oldest first. OSError."""
        for path in paths:
            self._files.remove(path)

    def close(self) -> None:
        """Let go of all files."""
        self._stop_reading()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                self._files.close(descriptor)
        self._descriptor = self._lock = -1


class MemoryLog:
    """The same door without a disk: nothing survives the process."""

    def __init__(self) -> None:
        self.recovered = Recovered()
        self._entries: list[Entry] = []
        self._first = 1

    def prepare(self, readies: Sequence[Ready]) -> Frame:
        return Frame(readies, b"", HardState())

    def prepare_mark(self, index: int, term: int, replace: bool = False) -> Frame:
        return Frame([], b"", HardState(), mark=(index, term), replaced=replace)

    def is_quick(self, frame: Frame) -> bool:
        return True

    def write(self, frame: Frame) -> None:
        """Nothing to do."""

    def finish(self, frame: Frame) -> None:
        if frame.mark is not None:
            kept = [] if frame.replaced else self._entries[max(0, frame.mark[0] + 1 - self._first) :]
            self._entries, self._first = kept, frame.mark[0] + 1
        for ready in frame.readies:
            if ready.truncate:
                del self._entries[max(0, ready.truncate - self._first) :]
            self._entries += ready.entries

    def read(self, first: int, last: int) -> list[Entry]:
        return self._entries[first - self._first : last - self._first + 1]

    def wants_spare(self) -> bool:
        return False

    def make_spare(self) -> None:
        """Nothing to do."""

    def take_unused(self) -> list[Path]:
        return []

    def remove(self, paths: list[Path]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
