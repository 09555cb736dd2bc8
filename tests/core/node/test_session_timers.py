"""The wheel of session deadlines: against a naive one, and after a pause."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.node.session_timers import PAUSE, SLOT, SessionTimers


def test_a_session_ends_after_twice_its_ttl_unless_renewed() -> None:
    timers = SessionTimers(0.0)
    assert timers.deadline() is None
    timers.start("a", 10.0, 0.0)
    timers.start("b", 10.0, 0.0)
    expired: list[str] = []
    for tenth in range(1, 450):
        now = tenth / 10
        if now == 15.0:
            timers.start("b", 10.0, now)
        expired += [f"{name}@{now}" for name in timers.tick(now)]
        for entry in expired:
            timers.stop(entry[0])
    assert [one[0] for one in expired] == ["a", "b"]
    assert 20.0 <= float(expired[0][2:]) <= 20.0 + 2 * SLOT + 0.1
    assert 35.0 <= float(expired[1][2:]) <= 35.0 + 2 * SLOT + 0.1
    assert len(timers) == 0


def test_a_shorter_renewal_takes_nothing_away() -> None:
    timers = SessionTimers(0.0)
    timers.start("a", 100.0, 0.0)
    timers.start("a", 10.0, 1.0)
    assert ticks(timers, 1.0, 190.0) == [] and ticks(timers, 190.0, 201.0) == ["a"]


def test_a_pause_of_the_judge_moves_every_deadline() -> None:
    timers = SessionTimers(0.0)
    timers.start("a", 10.0, 0.0)
    assert ticks(timers, 0.0, 15.0) == []
    assert timers.tick(75.0) == []  # a minute in which nobody could renew
    assert ticks(timers, 75.0, 79.0) == [] and ticks(timers, 79.0, 81.0) == ["a"]


def test_what_could_not_be_ended_is_tried_again() -> None:
    timers = SessionTimers(0.0)
    timers.start("a", 10.0, 0.0)
    assert ticks(timers, 0.0, 25.0) == ["a"]
    assert ticks(timers, 25.0, 35.0) == ["a"]


def ticks(timers: SessionTimers, start: float, end: float) -> list[str]:
    expired, now = [], start
    while now < end:
        now += 0.1
        expired += timers.tick(now)
    return expired


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.sampled_from("abcd"), st.integers(10, 40)),
            st.tuples(st.just("stop"), st.sampled_from("abcd"), st.just(0)),
            st.tuples(st.just("wait"), st.just(""), st.integers(1, 200)),
        ),
        max_size=60,
    )
)
def test_as_the_naive_wheel(steps: list[tuple[str, str, int]]) -> None:
    timers, naive, now = SessionTimers(0.0), dict[str, float](), 0.0
    for what, name, number in steps:
        if what == "start":
            timers.start(name, number, now)
            naive[name] = max(now + 2 * number, naive.get(name, 0.0))
        elif what == "stop":
            timers.stop(name)
            naive.pop(name, None)
        else:
            for _ in range(number):
                now += PAUSE / 4
                for gone in timers.tick(now):
                    assert naive.pop(gone) <= now
                    timers.stop(gone)
                assert all(deadline > now - 2 * SLOT for deadline in naive.values())
    assert len(timers) == len(naive)


def test_the_first_session_after_a_time_without_any() -> None:
    timers = SessionTimers(0.0)
    timers.start("a", 10.0, 0.0)
    timers.stop("a")
    timers.start("b", 10.0, 3600.0)
    due = timers.deadline()
    assert due is not None and 3600.0 <= due <= 3600.0 + 2 * SLOT
    assert ticks(timers, 3600.0, 3619.0) == [] and ticks(timers, 3619.0, 3621.0) == ["b"]
