"""The log against a list: appends, truncations, marks, restarts, crashes in the middle of a write."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.wal import Frame, Wal
from core.errors import StorageFull
from core.raft.messages import COMMAND, Entry
from core.raft.ready import HardState, Ready
from tests.agent.wal_disk import IO_ERROR, Crash, ForgetfulFiles

SEGMENT = 1 << 14


class Model:
    """What the log should hold."""

    def __init__(self) -> None:
        self.hard = HardState()
        self.base, self.base_term = 0, 0
        self.entries: list[Entry] = []

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def copy(self) -> Model:
        other = Model()
        other.hard, other.base, other.base_term = self.hard, self.base, self.base_term
        other.entries = list(self.entries)
        return other

    def append(self, ready: Ready) -> None:
        self.hard = ready.hard_state or self.hard
        if ready.truncate:
            del self.entries[ready.truncate - self.base - 1 :]
        self.entries += ready.entries

    def mark(self, index: int, term: int, replace: bool) -> None:
        if replace:
            self.entries = []
        else:
            del self.entries[: index - self.base]
        self.base, self.base_term = index, term


class WalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.random = Random(1)
        self.files = ForgetfulFiles(self.random)
        self.model = Model()
        self.term = 1
        self.wal = self.open()

    def open(self) -> Wal:
        return Wal(self.folder, self.random, self.files, SEGMENT)

    def teardown(self) -> None:
        self.wal.close()
        shutil.rmtree(self.folder)

    def write(self, frame: Frame, after: Model, crash: bool) -> None:
        """Write; a crash leaves the state before or the state after, nothing between."""
        self.files.crash_next = crash
        try:
            self.wal.write(frame)
            self.wal.finish(frame)
            self.model = after
        except Crash:
            self.wal.close()
            self.files.crash_next = False
            self.wal = self.open()
            if not self.matches(self.model):
                self.model = after
        assert self.matches(self.model)

    def matches(self, model: Model) -> bool:
        wal = self.wal
        found = (wal._hard, wal._base, wal._base_term, wal._last)
        if found != (model.hard, model.base, model.base_term, model.last):
            return False
        return not model.entries or wal.read(model.base + 1, model.last) == model.entries

    @rule(
        sizes=st.lists(st.lists(st.integers(0, 3000), max_size=4), min_size=1, max_size=3),
        back=st.integers(0, 5),
        bump=st.booleans(),
        vote=st.booleans(),
        crash=st.sampled_from([False, False, False, True]),
    )
    def append(self, sizes: list[list[int]], back: int, bump: bool, vote: bool, crash: bool) -> None:
        after = self.model.copy()
        readies = []
        for number, lengths in enumerate(sizes):
            self.term += bump
            ready = Ready(hard_state=HardState(self.term, "v") if vote else None)
            if number == 0 or lengths:
                back = min(back, len(after.entries))
                ready.truncate = after.last - back + 1 if back and lengths else 0
                first = after.last - back + 1 if ready.truncate else after.last + 1
                ready.entries = [
                    Entry(first + i, self.term, COMMAND, bytes([i % 251]) * length)
                    for i, length in enumerate(lengths)
                ]
            after.append(ready)
            readies.append(ready)
        self.write(self.wal.prepare(readies), after, crash)

    @precondition(lambda self: self.model.entries)
    @rule(share=st.floats(0, 1), crash=st.booleans())
    def compact(self, share: float, crash: bool) -> None:
        position = int(share * (len(self.model.entries) - 1))
        entry = self.model.entries[position]
        after = self.model.copy()
        after.mark(entry.index, entry.term, False)
        self.write(self.wal.prepare_mark(entry.index, entry.term), after, crash)
        self.wal.remove(self.wal.take_unused())

    @rule(ahead=st.integers(-3, 10), crash=st.booleans())
    def install(self, ahead: int, crash: bool) -> None:
        index = max(self.model.last + ahead, self.model.base, 1)
        after = self.model.copy()
        after.mark(index, self.term, True)
        self.write(self.wal.prepare_mark(index, self.term, replace=True), after, crash)

    @rule()
    def failing_write(self) -> None:
        """All bytes reach the file, but the fsync fails: the batch must not come back."""
        entry = Entry(self.model.last + 1, 999, COMMAND, b"never")
        frame = self.wal.prepare([Ready(entries=[entry])])
        write = self.files.write

        def failing(descriptor: int, data: bytes, offset: int) -> None:
            write(descriptor, data, offset)
            raise OSError(IO_ERROR, "input/output error")

        self.files.write = failing  # type: ignore[method-assign]
        try:
            self.wal.write(frame)
            raise AssertionError("the write should have failed")
        except StorageFull:
            pass
        finally:
            self.files.write = write  # type: ignore[method-assign]
        # without this, a crash now could bring the entry back, which a leader may not rely on either way
        ready = Ready(hard_state=HardState(self.term, "again"))
        after = self.model.copy()
        after.append(ready)
        self.write(self.wal.prepare([ready]), after, False)

    @rule()
    def spare(self) -> None:
        self.wal.make_spare()

    @rule()
    def reopen(self) -> None:
        self.wal.close()
        self.wal = self.open()
        found = self.wal.recovered
        model = self.model
        assert (found.hard, found.base, found.last) == (model.hard, model.base, model.last)
        assert found.base_term == model.base_term
        for entry in model.entries:
            assert found.term(entry.index) == entry.term

    @invariant()
    def holds_what_it_should(self) -> None:
        model = self.model
        if model.entries:
            assert self.wal.read(model.base + 1, model.last) == model.entries


TestWalModel = WalMachine.TestCase
TestWalModel.settings = settings(max_examples=120, stateful_step_count=40)
