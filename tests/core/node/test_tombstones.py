"""Tombstones go a quarter of an hour after they were seen, once, and never before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.node.tombstones import GRANULARITY, TTL, TombstoneClock


def test_what_there_was_at_the_start_gets_the_whole_time() -> None:
    clock = TombstoneClock()
    clock.observe(7, 100.0)
    assert clock.due(100.0 + TTL - 0.1) == 0
    assert clock.due(100.0 + TTL) == 7
    assert clock.due(100.0 + TTL) == 0


def test_nothing_was_deleted() -> None:
    clock = TombstoneClock()
    clock.observe(0, 1.0)
    assert clock.due(10_000.0) == 0
    assert clock.deadline(5.0) == 5.0 + GRANULARITY


@given(st.lists(st.integers(0, 3), max_size=100))
def test_each_deletion_goes_in_time(deletions: list[int]) -> None:
    """A deletion is reaped no sooner than its time is up, and at most a look later."""
    clock, index, buried, now = TombstoneClock(), 0, {}, 0.0
    for count in deletions + [0] * 40:
        for _ in range(count):
            index += 1
            buried[index] = now
        clock.observe(index, now)
        reaped = clock.due(now)
        for one in [one for one in buried if one <= reaped]:
            assert TTL <= now - buried.pop(one) <= TTL + GRANULARITY
        now = clock.deadline(now)
    assert not buried
