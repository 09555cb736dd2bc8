"""The rules of checks, on pretend time: thresholds, TTL, output limits, aliases, overdue services."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec.duration import MINUTE, SECOND
from core.errors import Invalid
from core.node.checks import (
    AliasView,
    OverdueChecks,
    Result,
    Tail,
    Thresholds,
    Timers,
    TtlChecks,
    alias_result,
    cap_note,
    effective_interval,
    effective_output_size,
    effective_timeout,
    first_delay,
    status_of_exit,
    status_of_http,
)
from core.store.structs import HealthCheck

P, W, C, KEEP = "passing", "warning", "critical", None


@pytest.mark.parametrize(
    ("passing", "warning", "critical", "found", "recorded"),
    [
        # without thresholds every result counts
        (0, 0, 0, [P, C, W, P, C, C], [P, C, W, P, C, C]),
        (1, 1, 1, [P, C, P, C], [P, C, P, C]),
        # the first result counts at once, whatever the thresholds
        (3, 0, 3, [P], [P]),
        (3, 0, 3, [C], [C]),
        (3, 0, 3, [W], [W]),
        # then a change takes a full run of equal results
        (3, 0, 0, [C, P, P, P, P], [C, KEEP, KEEP, P, P]),
        (3, 0, 0, [C, P, P, C, P, P, P], [C, KEEP, KEEP, C, KEEP, KEEP, P]),
        (0, 0, 3, [P, C, C, C, C], [P, KEEP, KEEP, C, C]),
        (0, 0, 3, [P, C, C, P, C, C, C], [P, KEEP, KEEP, P, KEEP, KEEP, C]),
        # warnings count as successes
        (2, 0, 2, [C, W, W, C, W], [C, KEEP, W, KEEP, KEEP]),
        (2, 0, 0, [C, W, P], [C, KEEP, P]),
        # warn before critical
        (0, 1, 3, [P, C, C, C, P], [P, W, W, C, P]),
        (0, 2, 4, [P, C, C, C, C], [P, KEEP, W, W, C]),
        (0, 5, 2, [P, C, C], [P, KEEP, C]),
        # both directions
        (2, 1, 2, [P, C, C, P, P], [P, W, C, KEEP, P]),
    ],
)
def test_thresholds(
    passing: int, warning: int, critical: int, found: list[str], recorded: list[str | None]
) -> None:
    thresholds = Thresholds(passing, warning, critical)
    assert [thresholds.judge(status) for status in found] == recorded


def test_progress_for_the_log() -> None:
    thresholds = Thresholds(3, 2, 4)
    thresholds.judge(P)
    thresholds.judge(C)
    assert thresholds.progress() == {
        "failure_count": 1,
        "warning_threshold": 2,
        "failure_threshold": 4,
    }
    thresholds.judge(P)
    assert thresholds.progress() == {"success_count": 1, "success_threshold": 3}


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.lists(st.sampled_from([P, W, C])))
def test_a_long_run_always_gets_through(passing: int, warning: int, critical: int, found: list[str]) -> None:
    thresholds = Thresholds(passing, warning, critical)
    for status in found:
        assert thresholds.judge(status) in (status, W, None)
    for status in (P, C):
        last = [thresholds.judge(status) for _ in range(5)][-1]
        assert last == status


@pytest.mark.parametrize(
    ("code", "status"),
    [(200, P), (204, P), (299, P), (300, C), (199, C), (404, C), (429, W), (500, C), (301, C)],
)
def test_http_status(code: int, status: str) -> None:
    assert status_of_http(code) == status


@pytest.mark.parametrize(("code", "status"), [(0, P), (1, W), (2, C), (255, C), (-9, C)])
def test_exit_status(code: int, status: str) -> None:
    assert status_of_exit(code) == status


def test_defaults() -> None:
    assert effective_interval(0) == SECOND
    assert effective_interval(5 * SECOND) == 5 * SECOND
    assert effective_timeout("script", 0) == 30 * SECOND
    assert effective_timeout("docker", -1) == 30 * SECOND
    assert effective_timeout("http", 0) == 10 * SECOND
    assert effective_timeout("http", SECOND) == SECOND
    assert effective_output_size(0, 0) == 4096
    assert effective_output_size(4096, 100) == 100
    assert effective_output_size(1000, 4096) == 1000


def test_first_runs_spread_over_the_interval() -> None:
    random = Random(7)
    delays = [first_delay(10 * SECOND, random) for _ in range(1000)]
    assert all(0 <= delay < 10 for delay in delays)
    assert 4 < sum(delays) / len(delays) < 6
    assert len({int(delay) for delay in delays}) == 10


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_tail_keeps_the_end(pieces: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for piece in pieces:
        tail.write(piece)
    whole = b"".join(pieces)
    assert tail.total == len(whole)
    assert tail.text() == whole[-limit:].decode("utf-8", "replace")
    if len(whole) <= limit:
        assert tail.report() == tail.text()
    else:
        assert tail.report() == f"Captured {limit} of {len(whole)} bytes\n...\n{tail.text()}"


def test_note_of_a_ttl_update_is_capped() -> None:
    assert cap_note("x" * 4096, 4096) == "x" * 4096
    assert cap_note("x" * 5000, 4096) == "x" * 4096 + " ... (captured 4096 of 5000 bytes)"
    assert cap_note("\u00e9\u00e9", 3) == "\u00e9\ufffd ... (captured 3 of 4 bytes)"


def test_ttl_expires_once_and_starts_anew_with_an_update() -> None:
    ttl = TtlChecks()
    ttl.add("a", 10 * SECOND, 4096, now=100.0)
    assert ttl.deadline() == 110.0
    assert ttl.expire(109.9) == []
    assert ttl.expire(110.0) == [("a", "TTL expired")]
    assert ttl.deadline() is None
    assert ttl.expire(1000.0) == []
    assert ttl.update("a", "fine", now=2000.0) == "fine"
    assert ttl.update("a", "better", now=2005.0) == "better"
    assert ttl.deadline() == 2015.0
    assert ttl.expire(2014.0) == []
    assert ttl.expire(2015.0) == [("a", "TTL expired (last output before timeout follows): better")]


def test_ttl_of_nobody() -> None:
    ttl = TtlChecks()
    with pytest.raises(Invalid, match=r'^CheckID "x" does not have associated TTL$'):
        ttl.update("x", "", 1.0)
    ttl.add("x", SECOND, 4096, 1.0)
    ttl.remove("x")
    ttl.remove("x")
    assert len(ttl) == 0
    assert ttl.deadline() is None
    with pytest.raises(Invalid):
        ttl.update("x", "", 1.0)


names = st.sampled_from("abcdef")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), names, st.integers(0, 30)),
        st.tuples(st.just("cancel"), names, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 30)),
    )
)


@given(steps)
def test_timers_against_a_dictionary(script: list[tuple[str, str, int]]) -> None:
    timers = Timers()
    model: dict[str, int] = {}
    for step, name, when in script:
        if step == "set":
            timers.set(name, when)
            model[name] = when
        elif step == "cancel":
            timers.cancel(name)
            model.pop(name, None)
        else:
            expected = {key for key, at in model.items() if at <= when}
            found = timers.due(when)
            assert len(found) == len(set(found))
            assert set(found) == expected
            assert [model[key] for key in found] == sorted(model[key] for key in found)
            model = {key: at for key, at in model.items() if at > when}
        assert timers.deadline() == min(model.values(), default=None)
        assert len(timers) == len(model)


def test_timers_that_are_renewed_all_the_time_stay_small() -> None:
    timers = Timers()
    timers.set("far", 1e9)
    for turn in range(10_000):
        timers.set("a", 10.0 + turn)
    assert len(timers._heap) < 200
    assert timers.due(1e6) == ["a"]


def test_overdue_counts_from_the_first_critical_result() -> None:
    overdue = OverdueChecks()
    overdue.add("a", 2 * MINUTE)
    overdue.add("short", SECOND)  # raised to a minute
    assert overdue.overdue(1e6) == []  # a critical initial status does not count
    overdue.observe("a", C, 100.0)
    overdue.observe("a", C, 200.0)
    overdue.observe("short", C, 100.0)
    overdue.observe("other", C, 0.0)
    assert overdue.overdue(160.0) == []
    assert overdue.overdue(160.1) == ["short"]
    assert sorted(overdue.overdue(220.1)) == ["a", "short"]
    overdue.observe("a", W, 221.0)
    assert overdue.overdue(500.0) == ["short"]
    overdue.remove("short")
    assert overdue.overdue(500.0) == []
    assert len(overdue) == 1


def check(check_id: str, status: str, service_id: str = "", output: str = "") -> HealthCheck:
    return HealthCheck(check_id=check_id, name=check_id, status=status, service_id=service_id, output=output)


@pytest.mark.parametrize(
    ("checks", "exists", "expected"),
    [
        ([], True, Result(P, "No checks found.")),
        ([], False, Result(C, "Service web could not be found on node n1")),
        ([check("m", P)], False, Result(C, "Service web could not be found on node n1")),
        ([check("a", P, "web")], True, Result(P, "All checks passing.")),
        ([check("a", C, "db", "no")], True, Result(P, "No checks found.")),
        ([check("a", W, "web", "hm"), check("b", P)], True, Result(W, 'Aliased check "a" failing: hm')),
        (
            [check("a", W, "web"), check("b", C, "", "dead")],
            True,
            Result(C, 'Aliased check "b" failing: dead'),
        ),
        ([check("me", C, "web", "old")], True, Result(P, "No checks found.")),
    ],
)
def test_alias(checks: list[HealthCheck], exists: bool, expected: Result) -> None:
    assert alias_result("me", "n1", "web", AliasView(checks, exists)) == expected


def test_alias_that_knows_nothing_is_critical() -> None:
    view = AliasView(error="No cluster leader")
    expected = Result(C, "Failure checking aliased node or service: No cluster leader")
    assert alias_result("me", "n1", "web", view) == expected
