"""Nodes, services and checks: names, ids, renames, tags, order, sessions that end with them."""

from __future__ import annotations

import pytest

from core.errors import Invalid
from core.store import commands
from core.store.structs import DirEntry, HealthCheck, RegisterRequest
from tests.core.store.maker import Bench

ID_A = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
ID_B = "aaaabbbb-bbbb-cccc-dddd-eeeeeeeeeeee"


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register("n1", id=ID_A)
    return bench


def names(bench: Bench) -> list[str]:
    return [node.node for node in bench.store.nodes()[1]]


def test_names_are_found_in_any_case(bench: Bench) -> None:
    bench.register("N1", id=ID_A, address="10.0.0.2", skip_node_update=True)
    assert names(bench) == ["n1"]
    bench.service("N1", "Web1", "Web")
    assert bench.store.get_service("n1", "wEB1") is not None
    assert [service.id for _, service in bench.store.service_nodes("wEb")[1]] == ["Web1"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("n1", "n1"),
        (ID_A, "n1"),
        (ID_A.upper(), "n1"),
        ("aaaaaa", "n1"),
        ("aaaabb", "n2"),
        ("aaaa", None),  # two nodes
        ("aaaaaab", "n1"),  # an odd length is cut
        ("a", None),
        ("", None),
        ("zz", None),
    ],
)
def test_a_node_by_name_or_unique_id_prefix(bench: Bench, wanted: str, found: str | None) -> None:
    bench.register("n2", id=ID_B)
    node = bench.store.node(wanted)[1]
    assert (node.node if node else None) == found
    assert bench.store.node_services(wanted)[1][0] == node


def test_a_rename_keeps_the_create_index_and_drops_what_was_there(bench: Bench) -> None:
    created = bench.store.get_node("n1").create_index  # type: ignore[union-attr]
    bench.service("n1", "web1")
    assert bench.register("n9", id=ID_A) is None
    node = bench.store.get_node_by_id(ID_A)
    assert node is not None
    assert (node.node, node.create_index, node.modify_index) == ("n9", created, bench.index)
    assert names(bench) == ["n9"]
    assert bench.store.services()[1] == {}


def test_a_name_of_a_healthy_node_is_not_given_away(bench: Bench) -> None:
    bench.check("n1", "serfHealth")
    problem = f"Node name n1 is reserved by node {ID_A} with name n1 (10.0.0.1)"
    result = bench.register("n1", id=ID_B)
    assert isinstance(result, Invalid)
    assert str(result) == f'failed inserting node: Error while renaming Node ID: "{ID_B}": {problem}'
    bench.register("n2", id=ID_B)
    result = bench.register("N1", id=ID_B, address="10.0.0.2")
    assert str(result).startswith(
        f'failed inserting node: Error while renaming Node ID: "{ID_B}" (10.0.0.2): Node name N1 is reserved'
    )
    assert names(bench) == ["n1", "n2"]


def test_the_name_of_a_failed_or_external_node_may_be_taken(bench: Bench) -> None:
    bench.check("n1", "serfHealth", "critical")
    assert bench.register("n1", id=ID_B) is None
    assert bench.store.get_node_by_id(ID_A) is None
    assert bench.register("ext", address="10.0.0.7") is None
    assert bench.register("ext", id="cccccccc-bbbb-cccc-dddd-eeeeeeeeeeee") is None


def test_tags_all_match_in_any_case(bench: Bench) -> None:
    bench.service("n1", "w1", tags=["Blue", "v1"])
    bench.service("n1", "w2", tags=["blue", "v2"])
    bench.service("n1", "w3")
    store = bench.store

    def ids(*tags: str) -> list[str]:
        found = [service.id for _, service in store.service_nodes("web", tags)[1]]
        assert found == [item.service.id for item in store.check_service_nodes("web", tags)[1]]
        return found

    assert ids() == ["w1", "w2", "w3"]
    assert ids("BLUE") == ["w1", "w2"]
    assert ids("blue", "V2") == ["w2"]
    assert ids("v1", "v2") == []
    assert store.services()[1] == {"web": ["Blue", "blue", "v1", "v2"]}


def test_instances_come_in_order_with_node_checks_first(bench: Bench) -> None:
    bench.register("a")
    for node, service_id in (("n1", "w2"), ("n1", "w1"), ("a", "w9")):
        bench.service(node, service_id)
    bench.check("n1", "a-service", service_id="w1")
    bench.check("n1", "z-node")
    bench.check("n1", "other", service_id="w2")
    found = bench.store.check_service_nodes("web")[1]
    assert [(item.node.node, item.service.id) for item in found] == [("a", "w9"), ("n1", "w1"), ("n1", "w2")]
    assert [check.check_id for check in found[1].checks] == ["z-node", "a-service"]
    assert [check.service_name for check in found[1].checks] == ["", "web"]


def test_lookups_by_address(bench: Bench) -> None:
    bench.register("n2", address="10.0.0.1")
    bench.service("n2", "w", address="10.5.5.5")
    assert [node.node for node in bench.store.nodes_by_address("10.0.0.1")] == ["n1", "n2"]
    (pair,) = bench.store.services_by_address("10.5.5.5")
    assert (pair[0].node, pair[1].id) == ("n2", "w")
    bench.register("n2", address="10.0.0.3")
    assert [node.node for node in bench.store.nodes_by_address("10.0.0.1")] == ["n1"]
    assert bench.store.nodes_by_address("") == []


def test_a_dump_has_everything_of_a_node(bench: Bench) -> None:
    bench.service("n1", "w")
    bench.check("n1", "c")
    index, ((node, services, checks),) = bench.store.node_dump()
    assert index == bench.index
    assert (node.node, services[0].id, checks[0].check_id) == ("n1", "w", "c")
    assert bench.store.node_dump("N1")[1] == bench.store.node_dump()[1]
    assert bench.store.node_dump("none")[1] == []


def test_node_metadata_filters(bench: Bench) -> None:
    bench.register("n2", node_meta={"rack": "1", "x": "y"})
    bench.service("n2", "w", tags=["t"])
    bench.service("n1", "v", "other")
    bench.check("n2", "c", service_id="w")
    store, rack = bench.store, {"rack": "1"}
    assert [node.node for node in store.nodes(node_meta=rack)[1]] == ["n2"]
    assert store.nodes(node_meta={"rack": "2"})[1] == []
    assert store.services(node_meta=rack)[1] == {"web": ["t"]}
    assert len(store.checks_in_state("any", node_meta=rack)[1]) == 1
    assert store.service_checks("web", node_meta={"rack": "9"})[1] == []


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"": "x"}, "Couldn't load metadata pair ('', 'x'): Key cannot be blank"),
        ({"a b": "x"}, "Couldn't load metadata pair ('a b', 'x'): Key contains invalid characters"),
        ({"k" * 129: "x"}, f"Couldn't load metadata pair ('{'k' * 129}', 'x'): Key is too long"),
        ({"k": "x" * 513}, f"Couldn't load metadata pair ('k', '{'x' * 513}'): Value is too long"),
        ({str(n): "" for n in range(65)}, "Node metadata cannot contain more than 64 key/value pairs"),
    ],
)
def test_bad_service_metadata_is_refused(bench: Bench, meta: dict[str, str], problem: str) -> None:
    head = "failed inserting service: Invalid Service Meta for node n1 and serviceID w: "
    assert str(bench.service("n1", "w", meta=meta)).startswith(head + problem)
    assert bench.store.services()[1] == {}


def test_a_check_must_name_the_node_of_its_request(bench: Bench) -> None:
    request = RegisterRequest("dc1", "", "n1", check=HealthCheck(node="n2", check_id="c"))
    result = bench.apply(commands.register(request))
    assert str(result) == 'check node "n2" does not match node "n1"'


def test_a_session_on_an_unknown_node_is_refused(bench: Bench) -> None:
    assert str(bench.session("s", "nosuch")) == "Missing node registration"


def test_sessions_end_with_their_check_and_their_node(bench: Bench) -> None:
    heard: list[tuple[bytes, int]] = []
    bench.store.hooks.lock_released = lambda key, delay: heard.append((key, delay))  # type: ignore[method-assign]
    bench.check("n1", "c")
    assert bench.session("s1", node_checks=["c"], lock_delay=90_000_000_000) == "s1"
    assert bench.session("s2", behavior="delete") == "s2"
    assert bench.apply(commands.kvs("lock", b"k1", b"x", session="s1")) is True
    assert bench.apply(commands.kvs("lock", b"k2", b"x", session="s2")) is True
    assert bench.apply(commands.kvs("lock", b"k2", b"y", session="s1")) is False
    bench.check("n1", "c", "critical")
    assert bench.store.session_get("s1")[1] is None
    released = bench.store.kv_get(b"k1")[1]
    assert released == DirEntry(b"k1", b"x", 0, 1, "", released.create_index, bench.index)  # type: ignore[union-attr]
    assert heard == [(b"k1", 60_000_000_000)]
    bench.deregister("n1")
    assert bench.store.session_list()[1] == []
    assert bench.store.kv_get(b"k2")[1] is None
    assert len(bench.store.session_checks) == 0


def test_a_critical_or_missing_check_gives_no_session(bench: Bench) -> None:
    assert str(bench.session("s", node_checks=["c"])) == "Missing check 'c' registration"
    bench.check("n1", "c", "critical")
    assert str(bench.session("s", node_checks=["c"])) == "Check 'c' is in critical state"
    assert str(bench.session("s", behavior="keep")) == "Invalid session behavior: keep"
    assert str(bench.session("")) == "Missing session ID"


def test_a_lock_is_taken_again_and_given_back(bench: Bench) -> None:
    bench.session("s")
    lock = commands.kvs("lock", b"k", b"1", session="s")
    assert bench.apply(lock) is True
    assert bench.moved(lock) == (True, set())
    bench.put(b"k", b"2")
    entry = bench.store.kv_get(b"k")[1]
    assert entry is not None
    assert (entry.session, entry.lock_index) == ("s", 0)  # a plain write resets the lock index
    assert bench.apply(commands.kvs("unlock", b"k", b"3", session="other")) is False
    assert bench.apply(commands.kvs("unlock", b"k", b"3", session="s")) is True
    assert bench.apply(commands.kvs("unlock", b"k", b"3", session="s")) is False
    assert bench.apply(lock) is True
    assert bench.store.kv_get(b"k")[1].lock_index == 1  # type: ignore[union-attr]
    assert bench.store.node_sessions("N1")[1][0].id == "s"
