"""Clients of a simulated cluster: they put, get, compare and delete, and write down what they saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.store import commands
from tests.sim.linearizable import CAS, DELETE, GET, PUT, Operation
from tests.sim.raft_member import OK, REFUSED, Member

if TYPE_CHECKING:
    from tests.sim.raft_cluster import Cluster


class Client:
    """One operation at a time. It asks any server that believes to lead, also across partitions: nobody
    would notice a stale leader sooner."""

    def __init__(self, cluster: Cluster, name: str, pace: float) -> None:
        self.cluster, self.name, self.pace = cluster, name, pace
        self.count = 0
        self.known: dict[str, tuple[int, Any]] = {}  # what it saw last of each key: ModifyIndex and value
        self.later()

    def later(self) -> None:
        self.cluster.later(self.cluster.random.expovariate(1 / self.pace), self.ask)

    def ask(self, _: object = None) -> None:
        cluster, chance = self.cluster, self.cluster.random
        if not cluster.clients_run:
            return
        leaders = list(cluster.leading())
        if not leaders:
            self.later()
            return
        key = chance.choice(cluster.keys)
        kind = chance.choice((PUT, PUT, GET, GET, CAS, CAS, DELETE) if key in self.known else (PUT, GET))
        operation = Operation(kind, key, cluster.now, client=self.name)
        index = 0
        if kind in (PUT, CAS):
            cluster.values += 1
            operation.value = b"%d" % cluster.values
        if kind == CAS:
            index, operation.expected = self.known[key]
        leased = kind == GET and chance.random() < 0.5
        self.send(chance.choice(leaders), operation, index, leased)

    def send(self, member: Member, operation: Operation, index: int, leased: bool) -> None:
        """Ask `member`; whatever comes first counts: the answer, or that patience is at its end."""
        cluster = self.cluster
        self.count += 1
        number = self.count

        def over(outcome: str, result: Any) -> None:
            if number != self.count:
                return
            self.count += 1
            self.note(operation, question, outcome, result)
            self.later()

        def answer(outcome: str, result: Any) -> None:
            cluster.later(cluster.random.uniform(0, 0.002), lambda _: over(outcome, result))

        def serve(_: object) -> None:
            if operation.kind != GET:
                member.write(_command(operation, index), answer)
            elif leased:
                member.read_leased(lambda: _read(member, operation.key), answer)
            else:
                member.read_verified(lambda: _read(member, operation.key), answer)

        cluster.asked += 1
        question = cluster.asked
        if not leased or not cluster.clocks_jump:  # no lease holds when clocks may jump
            cluster.history[question] = operation
        cluster.later(cluster.random.uniform(0, 0.002), serve, member)
        cluster.later(cluster.patience, lambda _: over("", None))

    def note(self, operation: Operation, question: int, outcome: str, result: Any) -> None:
        cluster = self.cluster
        if outcome == REFUSED:
            cluster.history.pop(question, None)  # it never was
        elif outcome == OK:
            operation.returned = cluster.now
            cluster.answered += 1
            if operation.kind == GET:
                index, operation.result = result
                self.known[operation.key] = index, operation.result
            elif operation.kind == CAS:
                operation.result = result
        if cluster.trace is not None:
            cluster.trace(f"{operation} {outcome or 'no answer'}")


def _command(operation: Operation, index: int) -> bytes:
    kinds = {PUT: "set", CAS: "cas", DELETE: "delete"}
    return commands.kvs(kinds[operation.kind], operation.key.encode(), operation.value, cas_index=index)


def _read(member: Member, key: str) -> tuple[int, bytes | None]:
    entry = member.fsm.store.kv_get(key.encode())[1]
    return (0, None) if entry is None else (entry.modify_index, entry.value)
