"""The log in memory against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.raft import log as raft_log
from core.raft.log import Log
from core.raft.messages import Entry


class Shelf:
    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}

    def read(self, first: int, last: int) -> list[Entry]:
        return [self.entries[index] for index in range(first, last + 1)]


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self.log = Log(self.shelf)
        self.terms: list[int] = [0]  # of base and all entries after it
        self.base = 0
        self.term = 1

    @property
    def last(self) -> int:
        return self.base + len(self.terms) - 1

    @rule(count=st.integers(1, 8), bump=st.booleans(), size=st.integers(0, 60))
    def append(self, count: int, bump: bool, size: int) -> None:
        self.term += bump
        entries = [Entry(self.last + 1 + i, self.term, 0, bytes(size)) for i in range(count)]
        self.log.append(entries)
        self.shelf.entries |= {entry.index: entry for entry in entries}
        self.terms += [self.term] * count

    @precondition(lambda self: self.last > self.base)
    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        first = self.base + 1 + int(share * (self.last - self.base))
        self.log.truncate(first)
        del self.terms[first - self.base :]

    @rule(share=st.floats(0, 1))
    def compact(self, share: float) -> None:
        index = self.base + int(share * (self.last - self.base))
        self.log.compact(index)
        del self.terms[: index - self.base]
        self.base = index
        self.shelf.entries = {i: e for i, e in self.shelf.entries.items() if i > index}

    @rule(ahead=st.integers(0, 9))
    def reset(self, ahead: int) -> None:
        self.base, self.terms = self.last + ahead, [self.term]
        self.log.reset(self.base, self.term)
        self.shelf.entries = {}

    @rule(share=st.floats(0, 1))
    def trim(self, share: float) -> None:
        self.log.trim(self.base + int(share * (self.last - self.base)))

    @rule()
    def reopen(self) -> None:
        runs = [
            (self.base + i, self.terms[i])
            for i in range(1, len(self.terms))
            if i == 1 or self.terms[i] != self.terms[i - 1]
        ]
        self.log = Log(self.shelf, self.base, self.terms[0], self.last, runs)

    @invariant()
    def agrees(self) -> None:
        log = self.log
        assert (log.base, log.last, log.first) == (self.base, self.last, self.base + 1)
        assert (log.base_term, log.last_term) == (self.terms[0], self.terms[-1])
        assert [log.term(self.base + i) for i in range(len(self.terms))] == self.terms
        assert log.term(self.base - 1) is None and log.term(self.last + 1) is None
        for first in range(self.base + 1, self.last + 1, 3):
            found = log.slice(first, self.last)
            assert [(e.index, e.term) for e in found] == [
                (i, self.terms[i - self.base]) for i in range(first, self.last + 1)
            ]


@pytest.fixture(autouse=True)
def small_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_log, "TAIL_ENTRIES", 6)
    monkeypatch.setattr(raft_log, "TAIL_BYTES", 200)


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=80, stateful_step_count=30)


def test_a_slice_is_cut_by_bytes_but_gives_at_least_one() -> None:
    log = Log(Shelf())
    log.append([Entry(i, 1, 0, bytes(100)) for i in range(1, 6)])
    assert [len(log.slice(1, 5, limit)) for limit in (0, 99, 100, 250, 500, 501)] == [1, 1, 1, 2, 5, 5]
