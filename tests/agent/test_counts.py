"""What is counted where it happens: names, labels, and that nothing grows without end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.counts import Counts, TimedFSM, operation_of
from core.api import health, kv
from core.api.catalog import ServiceRequest
from core.api.endpoint import Answer, QueryOptions, Question, Reply
from core.metrics import Metrics
from core.store import commands

NOW = 1_790_000_000.0


def rows(metrics: Metrics, kind: str) -> dict[tuple[str, Any], Any]:
    """Totals of counters, numbers of samples."""
    figure = "Sum" if kind == "Counters" else "Count"
    found = metrics.snapshot(NOW + 1)[kind]
    return {(row["Name"], tuple(row["Labels"].items())): row[figure] for row in found}


@given(st.binary(max_size=200))
def test_the_operation_of_any_command(data: bytes) -> None:
    assert operation_of(data) in ("", "set", "cas", "lock", "create", "delete", "reap", "update", "unlock")
    for op in ("set", "delete-tree", "unlock"):
        assert operation_of(commands.kvs(op, b"k", data, token="t")) == op


def test_commands_are_timed_by_kind_and_operation() -> None:
    metrics = Metrics(NOW)
    fsm = TimedFSM(metrics)
    for index, op in enumerate(("set", "set", "delete"), 1):
        fsm.apply(index, commands.kvs(op, b"k", b"v"))
    fsm.collect(metrics)
    fsm.collect(metrics)  # tells nothing twice
    found = rows(metrics, "Samples")
    assert found["consul.fsm.kvs", (("op", "set"),)] == 2
    assert found["consul.fsm.kvs", (("op", "delete"),)] == 1
    assert found["consul.raft.fsm.apply", ()] == 3


def test_times_are_told_before_they_are_many() -> None:
    metrics = Metrics(NOW)
    fsm = TimedFSM(metrics)
    for index in range(1, 3000):
        fsm.apply(index, commands.kvs("set", b"k", b"v"))
    assert sum(map(len, fsm._times.values())) < 1024
    assert rows(metrics, "Samples")["consul.raft.fsm.apply", ()] == 2048


def test_reads_and_writes_have_consuls_names() -> None:
    metrics, counts = Metrics(NOW), Counts()

    def ask(name: str, found: list[Any]) -> None:
        question = Question(health.SERVICE_NODES, ServiceRequest(name), QueryOptions(), lambda _: Reply())
        counts.read(question, Answer(1, found))

    ask("web", [1])
    ask("web", [1])
    ask("nobody", [])  # names that nobody has are not counted: they have no bound
    done: list[object] = []
    counts.timed("KVS.Apply", done.append)(True)
    counts.wrote("Txn.Apply", 0.0)
    assert counts.timed("Coordinate.Update", done.append) == done.append
    counts.collect(metrics)
    counters, samples = rows(metrics, "Counters"), rows(metrics, "Samples")
    assert counters["consul.rpc.query", ()] == 3
    assert counters["consul.health.service.query", (("service", "web"),)] == 2
    assert not any("nobody" in str(key) for key in counters)
    assert samples["consul.kvs.apply", ()] == samples["consul.txn.apply", ()] == 1
    assert done == [True]
    assert kv.APPLY.rpc == "KVS.Apply"
