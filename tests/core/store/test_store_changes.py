"""The stream of changes: in order, complete or said to be incomplete, never half a command."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.api.changes import CHANGES, ChangesRequest
from core.store import changes, commands
from core.store.changes import Changes
from core.store.fsm import FSM
from core.store.structs import DirEntry, TxnKVOp, TxnOp, TxnRequest
from core.store.watch import Watch
from tests.core.store.maker import Bench


def kinds(bench: Bench, since: int) -> list[tuple[str, str, bool]]:
    """Kind, key and whether it is there, of all changes above an index."""
    found = bench.store.changes.since(since)
    assert found is not None
    return [(change.kind, str(change.key), change.row is not None) for change in found]


def test_each_kind() -> None:
    bench = Bench()
    start = bench.index
    bench.put(b"a")
    bench.register("N1")
    bench.service("N1", "web1")
    bench.check("N1", "c1", service_id="web1")
    bench.session("00000000-0000-0000-0000-000000000001", node="N1")  # of no interest
    bench.delete(b"a")
    assert kinds(bench, start) == [
        ("kv", "b'a'", True),
        ("node", "n1", True),
        ("service", "('n1', 'web1')", True),
        ("check", "('n1', 'c1')", True),
        ("kv", "b'a'", False),
    ]
    last = bench.index
    bench.deregister("N1")
    assert {kind for kind, _, there in kinds(bench, last) if not there} == {"node", "service", "check"}
    assert kinds(bench, bench.index) == []


def test_what_failed_and_what_changes_nothing_is_not_told() -> None:
    bench = Bench()
    bench.put(b"a")
    last = bench.index
    operations = [
        TxnOp(kv=TxnKVOp("set", DirEntry(key=b"b", value=b"1"))),
        TxnOp(kv=TxnKVOp("check-index", DirEntry(key=b"a", modify_index=1))),
    ]
    bench.apply(commands.txn(TxnRequest("dc1", operations)))
    bench.delete(b"none")
    bench.put(b"a")  # the same value
    assert kinds(bench, last) == []


def test_a_row_that_a_command_touches_twice_is_told_once() -> None:
    bench = Bench()
    last = bench.index
    operations = [
        TxnOp(kv=TxnKVOp("set", DirEntry(key=b"a", value=b"1"))),
        TxnOp(kv=TxnKVOp("set", DirEntry(key=b"a", value=b"2"))),
        TxnOp(kv=TxnKVOp("set", DirEntry(key=b"b", value=b"1"))),
        TxnOp(kv=TxnKVOp("delete", DirEntry(key=b"b"))),
    ]
    bench.apply(commands.txn(TxnRequest("dc1", operations)))
    found = bench.store.changes.since(last)
    assert found is not None
    assert [(change.key, change.row and change.row.value) for change in found] == [(b"a", b"2")]


def test_too_much_is_forgotten_whole_commands_at_a_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(changes, "MOST", 5)
    bench = Bench()
    start = bench.index
    for number in range(4):
        operations = [
            TxnOp(kv=TxnKVOp("set", DirEntry(key=b"%d-%d" % (number, part), value=b"1"))) for part in b"ab"
        ]
        bench.apply(commands.txn(TxnRequest("dc1", operations)))
    assert bench.store.changes.since(start) is None
    assert bench.store.changes.since(start + 1) is None
    assert [len(kinds(bench, start + 2)), len(kinds(bench, start + 3))] == [4, 2]
    bench.apply(commands.kvs("delete-tree", b""))  # more than are kept at all
    assert bench.store.changes.since(bench.index - 1) is None
    assert kinds(bench, bench.index) == []


def test_large_values_are_not_kept_for_ever() -> None:
    bench = Bench()
    start = bench.index
    for number in range(40):
        bench.put(b"large", b"%d" % number * 250_000)
    assert bench.store.changes.since(start) is None
    assert kinds(bench, bench.index - 5)


def test_after_a_snapshot_only_what_came_later_is_known() -> None:
    bench = Bench()
    bench.put(b"a")
    other = FSM()
    other.restore(b"".join(bench.fsm.snapshot()))
    assert other.store.changes.since(other.store.applied - 1) is None
    assert other.store.changes.since(other.store.applied) == []
    other.apply(bench.index + 1, commands.kvs("set", b"b", b"1"))
    found = other.store.changes.since(bench.index)
    assert found is not None and [change.key for change in found] == [b"b"]


def test_a_watch_fires_with_the_next_change_only() -> None:
    bench = Bench()
    bench.put(b"a")
    watch = Watch()
    answer = CHANGES.run(bench.store, ChangesRequest(bench.index), watch)
    assert answer.index == bench.index and not answer.value.changes
    bench.delete(b"none")
    bench.session("00000000-0000-0000-0000-000000000001", node="none")
    assert not watch.fired
    bench.put(b"b")
    assert watch.fired


class Nothing:
    """A judge that allows some names."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.accessor, self.expires = "", False

    def allows(self, resource: str, name: str, access: str) -> bool:
        return name in self._names


def test_only_what_may_be_read_is_told() -> None:
    bench = Bench()
    start = bench.index
    bench.put(b"open")
    bench.put(b"secret")
    bench.register("n1")
    bench.service("n1", "web1", "web")
    bench.service("n1", "db1", "db")
    args = ChangesRequest(start)
    answer = CHANGES.run(bench.store, args, None)
    permit: Any = CHANGES.permit
    seen = permit(Nothing("open", "n1", "web"), args, answer)
    assert seen.filtered
    assert [told.name for told in seen.value.changes] == ["open", "n1", "web"]
    assert [told.name for told in permit(Nothing("web"), args, answer).value.changes] == []


keys = st.sampled_from([b"a", b"b", b"c"])
steps = st.lists(st.tuples(st.sampled_from(["set", "delete", "delete-tree"]), keys, st.binary(max_size=2)))


@given(steps, st.integers(0, 30))
@settings(max_examples=60)
def test_the_changes_above_any_index_lead_from_its_state_to_the_last(
    steps: list[tuple[str, bytes, bytes]], at: int
) -> None:
    bench = Bench()
    states = {bench.index: dict(bench.store.kv.rows)}
    for op, key, value in steps:
        bench.apply(commands.kvs(op, key, value))
        states[bench.index] = dict(bench.store.kv.rows)
    since = min(10 + at, bench.index)
    state = states[since]
    found = bench.store.changes.since(since)
    assert found is not None
    assert [change.index for change in found] == sorted(change.index for change in found)
    for change in found:
        if change.row is None:
            del state[change.key]
        else:
            state[change.key] = change.row
    assert state == states[bench.index]


def test_an_empty_one_knows_all() -> None:
    assert Changes().since(0) == []
