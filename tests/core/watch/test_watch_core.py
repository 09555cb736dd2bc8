"""What a watch asks, what counts as news, and what changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.watch.diff import changes
from core.watch.progress import EventProgress, Progress, identity
from core.watch.question import question


@pytest.mark.parametrize(
    ("parameters", "subject", "target"),
    [
        ({"type": "key", "key": "/a b/ü"}, "a b/ü", "/v1/kv/a%20b/%C3%BC"),
        ({"type": "keyprefix", "prefix": "a/"}, "a/", "/v1/kv/a/?recurse="),
        ({"type": "services"}, "services", "/v1/catalog/services"),
        ({"type": "nodes", "filter": "Node == a"}, "nodes", "/v1/catalog/nodes?filter=Node+%3D%3D+a"),
        (
            {"type": "service", "service": "web", "tag": ["a", "b"], "passingonly": True},
            "web",
            "/v1/health/service/web?tag=a&tag=b&passing=1",
        ),
        ({"type": "service", "service": "web", "tag": "a"}, "web", "/v1/health/service/web?tag=a"),
        ({"type": "checks"}, "any", "/v1/health/state/any"),
        ({"type": "checks", "state": "critical"}, "critical", "/v1/health/state/critical"),
        ({"type": "checks", "service": "web"}, "web", "/v1/health/checks/web"),
        ({"type": "event"}, "any", "/v1/event/list"),
        ({"type": "event", "name": "deploy"}, "deploy", "/v1/event/list?name=deploy"),
    ],
)
def test_questions(parameters: dict[str, Any], subject: str, target: str) -> None:
    asked = question(parameters)
    assert (asked.subject, asked.target()) == (subject, target)


def test_a_question_with_more_parameters() -> None:
    assert (
        question({"type": "key", "key": "a"}).target(("index", "7"), ("dc", "b")) == "/v1/kv/a?index=7&dc=b"
    )


# What is news


def test_only_another_value_is_a_change() -> None:
    progress = Progress()
    assert progress.take(5, None) == (True, None)
    assert progress.take(6, None) == (False, None)
    assert progress.take(7, {"Value": "x"}) == (True, {"Value": "x"})
    assert progress.take(7, {"Value": "y"}) == (False, {"Value": "y"})
    assert progress.take(3, {"Value": "y"})[0] and progress.index == 0


def test_after_a_restart_the_same_is_no_news() -> None:
    before = Progress()
    before.take(5, ["a"])
    after = Progress()
    after.restore(before.save())
    assert after.take(900, ["a"]) == (False, ["a"])
    assert after.take(901, ["a", "b"])[0]
    other = Progress()
    other.restore(before.save())
    assert other.take(900, ["c"])[0]


@pytest.mark.parametrize("saved", [{}, {"seen": 7}, {"events": "x"}, {"events": [1]}])
def test_what_was_kept_may_be_rubbish(saved: dict[str, Any]) -> None:
    for progress in (Progress(), EventProgress()):
        progress.restore(saved)
        assert progress.take(1, [{"ID": "a"}])[0]


def event(name: str) -> dict[str, Any]:
    return {"ID": name, "Name": "deploy"}


def test_events_are_handed_over_once() -> None:
    before = EventProgress()
    assert before.take(9, [event("a")]) == (True, [event("a")])
    assert before.take(4, [event("a"), event("b")]) == (True, [event("b")])
    after = EventProgress()
    after.restore(before.save())
    assert after.take(4, [event("a"), event("b")]) == (False, [])
    assert after.take(5, [event("b"), event("c")]) == (True, [event("c")])


@given(st.lists(st.integers(0, 3)), st.sets(st.integers(0, 30)))
def test_restarts_neither_lose_nor_double_a_change(values: list[int], restarts: set[int]) -> None:
    """However often it is started anew, each value that differs from the one before is told once."""
    progress, told, expected = Progress(), [], []
    for number, value in enumerate(values):
        if number in restarts:
            saved, progress = progress.save(), Progress()
            progress.restore(saved)
        if not expected or expected[-1] != value:
            expected.append(value)
        changed, payload = progress.take(number + 1, value)
        if changed:
            told.append(payload)
    assert told == expected


def test_the_identity_is_that_of_the_definition() -> None:
    watch = {"type": "key", "key": "a", "args": ["x"]}
    assert identity(watch) == identity({"args": ["x"], "key": "a", "type": "key", "token": "secret"})
    assert identity(watch) != identity({**watch, "args": ["y"]})


# What changed


def entry(key: str, value: str) -> dict[str, Any]:
    return {"Key": key, "Value": value}


def test_changes_of_a_prefix() -> None:
    before = [entry("a", "1"), entry("b", "1"), entry("c", "1")]
    after = [entry("a", "1"), entry("b", "2"), entry("d", "1")]
    assert changes("keyprefix", before, after) == {
        "Current": after,
        "Added": [entry("d", "1")],
        "Removed": [entry("c", "1")],
        "Changed": [{"From": entry("b", "1"), "To": entry("b", "2")}],
    }


def test_changes_of_each_type() -> None:
    added: list[tuple[str, Any]] = [
        ("key", entry("a", "1")),
        ("nodes", [{"Node": "n"}]),
        ("checks", [{"Node": "n", "CheckID": "c"}]),
        ("service", [{"Node": {"Node": "n"}, "Service": {"ID": "web"}}]),
    ]
    for kind, payload in added:
        items = [payload] if kind == "key" else payload
        assert changes(kind, None, payload)["Added"] == items
        assert changes(kind, payload, None)["Removed"] == items
    told = changes("services", {"a": [], "b": []}, {"b": ["x"], "c": []})
    assert told["Added"] == [{"Name": "c", "Tags": []}] and told["Removed"] == [{"Name": "a", "Tags": []}]
    assert told["Changed"] == [{"From": {"Name": "b", "Tags": []}, "To": {"Name": "b", "Tags": ["x"]}}]
    assert changes("event", [event("a")], [event("b")])["Removed"] == []


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=2)), st.dictionaries(st.text(max_size=3), st.text())
)
def test_changes_lead_from_the_one_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    told = changes(
        "keyprefix", [entry(*one) for one in before.items()], [entry(*one) for one in after.items()]
    )
    state = dict(before)
    for item in told["Removed"]:
        del state[item["Key"]]
    for item in told["Added"]:
        assert item["Key"] not in state
        state[item["Key"]] = item["Value"]
    for item in told["Changed"]:
        assert state[item["From"]["Key"]] == item["From"]["Value"] != item["To"]["Value"]
        state[item["To"]["Key"]] = item["To"]["Value"]
    assert state == after
