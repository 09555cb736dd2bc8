"""Which index each write moves and which index each read gives (protocols/fsm.md section 2)."""

from __future__ import annotations

import pytest

from core.store import commands
from core.store.structs import HealthCheck, NodeService, RegisterRequest, Weights
from tests.core.store.maker import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_missing_key_has_the_index_of_all_keys(bench: Bench) -> None:
    assert bench.store.kv_get(b"a") == (0, None)
    bench.put(b"a")
    bench.put(b"b")
    index, entry = bench.store.kv_get(b"a")
    assert entry is not None
    assert index == entry.modify_index == bench.index - 1
    assert bench.store.kv_get(b"c")[0] == bench.index
    bench.delete(b"a")
    assert bench.store.kv_get(b"a") == (bench.index, None)


def test_the_same_value_again_changes_nothing(bench: Bench) -> None:
    bench.put(b"a")
    assert bench.moved(commands.kvs("set", b"a", b"v")) == (None, set())
    assert bench.moved(commands.kvs("set", b"a", b"v", flags=1)) == (None, {"kvs"})
    bench.put(b"e", b"")
    assert bench.moved(commands.kvs("set", b"e", None)) == (None, set())


def test_a_listing_does_not_go_back_when_its_newest_key_goes(bench: Bench) -> None:
    bench.put(b"a/1")
    bench.put(b"a/2")
    bench.delete(b"a/2")
    deleted = bench.index
    bench.put(b"z")
    assert bench.store.kv_list(b"a/")[0] == deleted
    assert bench.store.kv_keys(b"a/") == (deleted, [b"a/1"])
    assert bench.store.kv_list(b"")[0] == bench.index
    assert bench.store.kv_list(b"none/")[0] == bench.index


def test_a_tree_that_goes_moves_the_listings_below_it(bench: Bench) -> None:
    bench.put(b"a/b/1")
    bench.delete(b"a/b/1")
    bench.put(b"a/b/2")
    written = bench.store.kv_list(b"a/b/")[0]
    bench.apply(commands.kvs("delete-tree", b"a/"))
    assert bench.store.kv_list(b"a/b/")[0] == bench.index > written


def test_deleting_everything_moves_every_listing(bench: Bench) -> None:
    bench.put(b"a/1")
    bench.delete(b"a/1")
    bench.put(b"a/2")
    assert bench.moved(commands.kvs("delete-tree", b""))[1] == {"kvs"}
    assert bench.store.kv_list(b"a/") == (bench.index, [])


def test_reaping_forgets_tombstones_and_moves_nothing(bench: Bench) -> None:
    for key in (b"a", b"b"):
        bench.put(key)
        bench.delete(key)
    first = bench.store.tombstones.get(b"a")
    assert first is not None
    assert bench.moved(commands.tombstone_reap(first)) == (None, set())
    assert list(bench.store.tombstones) == [b"b"]


def test_a_node_counts_for_all_its_services(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "web1")
    change = RegisterRequest("dc1", "", "n1", "10.9.9.9")
    assert bench.moved(commands.register(change))[1] == {"nodes", "service.web", "service_kind.typical"}
    assert bench.store.service_nodes("WEB")[0] == bench.index
    assert bench.moved(commands.register(change)) == (None, set())


def test_only_the_last_instance_is_an_extinction(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "web1")
    bench.service("n1", "web2")
    bench.deregister("n1", "web1")
    assert bench.store.service_nodes("web")[0] == bench.index
    assert "service_last_extinction" not in bench.store.indexes
    bench.deregister("n1", "WEB2")
    assert bench.store.service_nodes("web") == (bench.index, [])
    assert bench.store.indexes["service_last_extinction"] == bench.index
    assert "service.web" not in bench.store.indexes


def test_a_service_that_never_was_has_the_index_of_the_catalog(bench: Bench) -> None:
    bench.register("n1")
    assert bench.store.service_nodes("web")[0] == bench.index
    bench.check("n1", "c")
    assert bench.store.service_nodes("web")[0] == bench.index - 1
    assert bench.store.check_service_nodes("web")[0] == bench.index


def test_an_instance_that_changes_its_name_leaves_the_old_service(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "id", name="old")
    bench.service("n1", "id", name="new")
    assert bench.store.service_nodes("old") == (bench.index, [])
    assert len(bench.store.service_nodes("new")[1]) == 1
    assert "service.old" not in bench.store.indexes


def test_checks_move_their_service_and_node_checks_all(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "web1", "web")
    bench.service("n1", "db1", "db")
    check = HealthCheck(node="n1", check_id="c", status="passing", service_id="web1")
    request = RegisterRequest("dc1", "", "n1", check=check, skip_node_update=True)
    assert bench.moved(commands.register(request))[1] == {"checks", "service.web", "service_kind.typical"}
    assert bench.moved(commands.register(request)) == (None, set())
    on_node = RegisterRequest(
        "dc1", "", "n1", check=HealthCheck(node="n1", check_id="n"), skip_node_update=True
    )
    everything = {"checks", "service.web", "service.db", "service_kind.typical"}
    assert bench.moved(commands.register(on_node))[1] == everything
    assert bench.store.get_check("N1", "N").status == "critical"  # type: ignore[union-attr]


def test_node_reads_have_the_index_of_nodes_and_services(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "web1")
    bench.check("n1", "c")
    assert bench.store.nodes()[0] == bench.index - 2
    assert bench.store.node("n1")[0] == bench.store.node_services("n1")[0] == bench.index - 1
    assert bench.store.services() == (bench.index - 1, {"web": []})
    assert bench.store.services(node_meta={"a": "b"}) == (bench.index - 1, {})
    for index, checks in (bench.store.node_checks("N1"), bench.store.checks_in_state("passing")):
        assert index == bench.index
        assert [check.check_id for check in checks] == ["c"]
    assert bench.store.service_checks("web") == (bench.index, [])


def test_kinds_have_their_own_index(bench: Bench) -> None:
    bench.register("n1")
    bench.service("n1", "p", "p", kind="connect-proxy")
    assert bench.store.indexes["service_kind.connect-proxy"] == bench.index
    assert "service_kind.typical" not in bench.store.indexes
    assert bench.store.service_dump("connect-proxy")[0] == bench.index
    assert bench.store.service_dump("")[1] == []
    assert len(bench.store.service_dump()[1]) == 1


def test_a_registration_is_all_or_nothing(bench: Bench) -> None:
    request = RegisterRequest(
        "dc1",
        "",
        "new",
        "10.0.0.1",
        service=NodeService(id="s", service="s"),
        checks=[HealthCheck(node="new", check_id="c", service_id="nosuch")],
    )
    result, moved = bench.moved(commands.register(request))
    assert str(result) == 'failed inserting check: Missing service registration on node "new"'
    assert moved == set()
    assert bench.store.nodes()[1] == []
    assert bench.store.services()[1] == {}


def test_weights_that_make_no_sense_become_one(bench: Bench) -> None:
    bench.register("n1")
    for weights, stored in (
        (None, Weights(1, 1)),
        (Weights(0, 5), Weights(1, 1)),
        (Weights(3, 0), Weights(3, 0)),
        (Weights(3, -1), Weights(1, 1)),
    ):
        bench.service("n1", "web1", weights=weights)
        assert bench.store.get_service("n1", "web1").weights == stored  # type: ignore[union-attr]
