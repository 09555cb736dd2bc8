"""The store against plain dicts, with snapshot and restore among the rules.

Open questions stay watched the whole time: when an answer changes, its watch must have fired and its
index must have grown, else a blocking query would sleep through the change; no index ever goes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import Invalid
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import DirEntry, TxnKVOp, TxnOp, TxnRequest
from core.store.watch import Watch
from tests.core.store.maker import Bench

KEYS = st.sampled_from([b"a", b"a/", b"a/1", b"a/2", b"a/b/1", b"a/b/2", b"b", b"\xff", b"\xff\xff", b"a/b"])
PREFIXES = st.sampled_from([b"", b"a", b"a/", b"a/b/", b"b", b"\xff", b"c"])
VALUES = st.sampled_from([b"", b"1", b"2"])
NODES = st.sampled_from(["n1", "n2", "N1"])
IDS = st.sampled_from(
    ["", "", "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"]
)
SERVICE_IDS = st.sampled_from(["s1", "s2", "S1"])
SERVICE_NAMES = st.sampled_from(["web", "db", "Web"])
CHECK_IDS = st.sampled_from(["c1", "c2", "serfHealth"])
STATUSES = st.sampled_from(["passing", "warning", "critical"])
TAGS = st.sampled_from([None, ["t1"], ["t1", "t2"]])

Question = Callable[[Watch | None], tuple[int, Any]]


def questions(bench: Bench) -> dict[str, Question]:
    """One of each read, with arguments that the rules touch."""
    store = bench.store
    asked: dict[str, Question] = {
        "nodes": store.nodes,
        "services": store.services,
        "services by meta": lambda watch: store.services(watch, {"k": "1"}),
        "sessions": store.session_list,
    }
    for key in (b"a/1", b"a/b/1", b"\xff"):
        asked[f"key {key!r}"] = lambda watch, key=key: store.kv_get(key, watch)
    for prefix in (b"", b"a", b"a/", b"a/b/", b"\xff", b"c"):
        asked[f"list {prefix!r}"] = lambda watch, prefix=prefix: store.kv_list(prefix, watch)
        asked[f"keys {prefix!r}"] = lambda watch, prefix=prefix: store.kv_keys(prefix, b"/", watch)
    for name in ("n1", "n2", "aaaaaaaa"):
        asked[f"node {name}"] = lambda watch, name=name: store.node(name, watch)
        asked[f"services of {name}"] = lambda watch, name=name: store.node_services(name, watch)
        asked[f"checks of {name}"] = lambda watch, name=name: store.node_checks(name, watch)
    for name in ("web", "db"):
        asked[f"instances of {name}"] = lambda watch, name=name: store.service_nodes(name, (), watch)
        asked[f"tagged {name}"] = lambda watch, name=name: store.service_nodes(name, ("T2",), watch)
        asked[f"health of {name}"] = lambda watch, name=name: store.check_service_nodes(name, (), watch)
        asked[f"service checks of {name}"] = lambda watch, name=name: store.service_checks(name, watch)
    for state in ("any", "passing", "critical"):
        asked[f"checks {state}"] = lambda watch, state=state: store.checks_in_state(state, watch)
    return asked


class StoreAgainstDicts(RuleBasedStateMachine):
    """The model keeps values only; indexes are held to their laws instead."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.keys: dict[bytes, bytes] = {}
        self.nodes: dict[str, tuple[str, str, str]] = {}  # lower name -> name, id, address
        self.services: dict[tuple[str, str], tuple[str, Any]] = {}  # node, id -> name, tags
        self.checks: dict[tuple[str, str], tuple[str, str]] = {}  # node, id -> status, service id
        self.open: dict[str, tuple[Question, Watch, int, Any]] = {}
        self.reaped = False

    @initialize(rich=st.booleans())
    def ask(self, rich: bool) -> None:
        if rich:
            for node in ("n1", "n2"):
                self.register(node, "", "10.0.0.1")
                self.service(node, "s1", "web", ["t1"])
                self.check(node, "c1", "passing", "s1")
                self.check(node, "serfHealth", "passing", None)
            for key in (b"a/1", b"a/b/1", b"a/b/2"):
                self.put(key, b"1")
        for name, question in questions(self.bench).items():
            self._ask(name, question)

    def _ask(self, name: str, question: Question) -> None:
        watch = Watch()
        index, value = question(watch)
        self.open[name] = (question, watch, index, value)

    # Keys

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        assert self.bench.put(key, value) is None
        self.keys[key] = value

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.bench.delete(key) is None
        self.keys.pop(key, None)

    @rule(prefix=PREFIXES)
    def delete_tree(self, prefix: bytes) -> None:
        self.bench.apply(commands.kvs("delete-tree", prefix))
        self.keys = {key: value for key, value in self.keys.items() if not key.startswith(prefix)}

    @rule(key=KEYS, value=VALUES, fresh=st.booleans())
    def cas(self, key: bytes, value: bytes, fresh: bool) -> None:
        entry = self.bench.store.kv_get(key)[1]
        index = entry.modify_index if entry and fresh else 0
        expected = (key not in self.keys) or (fresh and key in self.keys)
        assert self.bench.apply(commands.kvs("cas", key, value, cas_index=index)) is expected
        if expected:
            self.keys[key] = value

    @rule(first=KEYS, second=KEYS, value=VALUES)
    def transaction(self, first: bytes, second: bytes, value: bytes) -> None:
        ops = [
            TxnOp(kv=TxnKVOp("set", DirEntry(first, value))),
            TxnOp(kv=TxnKVOp("delete", DirEntry(second))),
            TxnOp(kv=TxnKVOp("check-not-exists", DirEntry(b"a/1"))),
        ]
        expected = dict(self.keys)
        expected[first] = value
        expected.pop(second, None)
        response = self.bench.apply(commands.txn(TxnRequest("dc1", ops)))
        assert bool(response.errors) is (b"a/1" in expected)
        if not response.errors:
            self.keys = expected

    @rule(back=st.integers(0, 20))
    def reap(self, back: int) -> None:
        """Reaping may take back the index of a listing that ended with a deletion; the leader waits
        far longer than any blocking query does."""
        self.bench.apply(commands.tombstone_reap(self.bench.index - back))
        self.reaped = True

    # Catalog

    @rule(name=NODES, node_id=IDS, address=st.sampled_from(["10.0.0.1", "10.0.0.2"]))
    def register(self, name: str, node_id: str, address: str) -> None:
        key = name.lower()
        meta = {"k": address[-1]}
        result = self.bench.register(name, id=node_id, address=address, node_meta=meta)
        known = next((low for low, (_, other, _) in self.nodes.items() if node_id and other == node_id), None)
        if self._holds_name(key, node_id, known):
            assert isinstance(result, Invalid)
            return
        assert result is None
        current = self.nodes.get(key)
        if current and (current[1], current[2]) == (node_id, address):
            return  # a change of case alone is no change
        if known is not None and self.nodes[known][0] != name:
            self._forget_node(known)
        self.nodes[key] = (name, node_id, address)

    def _holds_name(self, key: str, node_id: str, known: str | None) -> bool:
        """Whether another node that is not failed keeps this one from taking its name."""
        if key not in self.nodes or not node_id:
            return False
        holder = self.nodes[key][1]
        if holder == node_id or (not holder and known is None):
            return False
        return self.checks.get((key, "serfhealth"), ("critical", ""))[0] != "critical"

    @rule(node=NODES, service_id=SERVICE_IDS, name=SERVICE_NAMES, tags=TAGS)
    def service(self, node: str, service_id: str, name: str, tags: list[str] | None) -> None:
        if node.lower() not in self.nodes:
            return
        assert self.bench.service(node, service_id, name, tags=tags) is None
        self.services[node.lower(), service_id.lower()] = (name, tags)

    @rule(node=NODES, check_id=CHECK_IDS, status=STATUSES, service_id=st.none() | SERVICE_IDS)
    def check(self, node: str, check_id: str, status: str, service_id: str | None) -> None:
        if node.lower() not in self.nodes:
            return
        result = self.bench.check(node, check_id, status, service_id or "")
        if service_id and (node.lower(), service_id.lower()) not in self.services:
            assert isinstance(result, Invalid)
            return
        assert result is None
        self.checks[node.lower(), check_id.lower()] = (status, (service_id or "").lower())

    @rule(node=NODES, service_id=SERVICE_IDS)
    def deregister_service(self, node: str, service_id: str) -> None:
        assert self.bench.deregister(node, service_id) is None
        key = (node.lower(), service_id.lower())
        if self.services.pop(key, None):
            self.checks = {at: check for at, check in self.checks.items() if (at[0], check[1]) != key}

    @rule(node=NODES, check_id=CHECK_IDS)
    def deregister_check(self, node: str, check_id: str) -> None:
        assert self.bench.deregister(node, check_id=check_id) is None
        self.checks.pop((node.lower(), check_id.lower()), None)

    @rule(node=NODES)
    def deregister_node(self, node: str) -> None:
        assert self.bench.deregister(node) is None
        self._forget_node(node.lower())

    def _forget_node(self, key: str) -> None:
        self.nodes.pop(key, None)
        self.services = {at: service for at, service in self.services.items() if at[0] != key}
        self.checks = {at: check for at, check in self.checks.items() if at[0] != key}

    # Sessions

    @rule(node=NODES, number=st.integers(1, 3), behavior=st.sampled_from(["release", "delete"]))
    def lock(self, node: str, number: int, behavior: str) -> None:
        """A session that takes a key and ends again."""
        if node.lower() not in self.nodes:
            return
        session, key = f"session-{number}", b"locked"
        assert self.bench.session(session, node, behavior=behavior) == session
        assert self.bench.apply(commands.kvs("lock", key, b"x", session=session)) is True
        assert self.bench.apply(commands.kvs("lock", key, b"y", session="none")).text.startswith("invalid")
        assert self.bench.destroy(session) is None
        entry = self.bench.store.kv_get(key)[1]
        if behavior == "delete":
            assert entry is None
            self.keys.pop(key, None)
        else:
            assert entry is not None
            assert entry.session == ""
            self.keys[key] = b"x"

    # Snapshots

    @rule()
    def restore(self) -> None:
        answers = {name: question(None) for name, (question, _, _, _) in self.open.items()}
        state = b"".join(self.bench.fsm.snapshot())
        watches = [watch for _, watch, _, _ in self.open.values()]
        self.bench.fsm.restore(state)
        assert all(watch.fired for watch in watches)
        assert b"".join(self.bench.fsm.snapshot()) == state
        for name, (question, _, _, _) in list(self.open.items()):
            assert question(None) == answers[name], name
            self._ask(name, question)

    @rule()
    @precondition(lambda self: self.bench.index % 3 == 0)
    def replicate(self) -> None:
        """Another server that gets the snapshot is in the same state."""
        other = FSM()
        other.restore(b"".join(self.bench.fsm.snapshot()))
        assert other.store.indexes == self.bench.store.indexes
        for name, table in self.bench.store.tables.items():
            assert list(other.store.tables[name].values()) == list(table.values()), name

    # Laws

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        store = self.bench.store
        entries = store.kv_list(b"")[1]
        assert [(entry.key, entry.value or b"") for entry in entries] == sorted(self.keys.items())
        found = {node.node.lower(): (node.id, node.address) for node in store.nodes()[1]}
        assert found == {key: (node_id, address) for key, (_, node_id, address) in self.nodes.items()}
        assert {key: (row.service, row.tags) for key, row in store.service_rows.rows.items()} == self.services
        checks = {key: (row.status, row.service_id.lower()) for key, row in store.check_rows.rows.items()}
        assert checks == self.checks
        for prefix in (b"a", b"a/", b"\xff"):
            names: dict[bytes, None] = {}
            for key in sorted(self.keys):
                if key.startswith(prefix):
                    head, separator, _ = key[len(prefix) :].partition(b"/")
                    names[prefix + head + separator] = None
            assert store.kv_keys(prefix, b"/")[1] == list(names)

    @invariant()
    def watches_and_indexes_keep_their_laws(self) -> None:
        for name, (question, watch, index, value) in list(self.open.items()):
            now, current = question(None)
            if current != value:
                assert watch.fired, f"{name} changed unheard"
                assert now > index, f"{name} changed, its index did not grow"
            if now < index:
                assert self.reaped and current == value, f"{name} went back"
            if watch.fired or now != index:
                watch.close()
                self._ask(name, question)
        self.reaped = False


TestStoreAgainstDicts = StoreAgainstDicts.TestCase
TestStoreAgainstDicts.settings = settings(max_examples=80, stateful_step_count=50)
