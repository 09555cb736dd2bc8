"""Watches fire once, after the whole command, and only for what was looked at."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from core.store import commands
from core.store.fsm import FSM
from core.store.structs import DirEntry, HealthCheck, TxnCheckOp, TxnKVOp, TxnOp, TxnRequest
from core.store.watch import Watch
from tests.core.store.maker import Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register("n1", address="10.0.0.1")
    bench.register("n2", address="10.0.0.2")
    bench.service("n1", "web1", "web")
    bench.service("n2", "db1", "db")
    bench.check("n1", "c1", service_id="web1")
    bench.put(b"a/1")
    return bench


def watched(read: Callable[[Watch], object]) -> Watch:
    watch = Watch()
    read(watch)
    assert not watch.fired
    return watch


def fires(bench: Bench, read: Callable[[Watch], object], change: Callable[[], object]) -> bool:
    watch = watched(read)
    change()
    fired = watch.fired
    watch.close()
    return fired


def test_a_key_watch_hears_of_its_key_only(bench: Bench) -> None:
    def read(watch: Watch) -> object:
        return bench.store.kv_get(b"a/1", watch)

    assert fires(bench, read, lambda: bench.put(b"a/1", b"new"))
    assert not fires(bench, read, lambda: bench.put(b"a/1", b"new"))
    assert not fires(bench, read, lambda: bench.put(b"a/10"))
    assert fires(bench, read, lambda: bench.delete(b"a/1"))
    assert not fires(bench, read, lambda: bench.delete(b"a/1"))
    assert fires(bench, read, lambda: bench.put(b"a/1"))
    assert fires(bench, read, lambda: bench.apply(commands.kvs("delete-tree", b"a")))


def test_a_prefix_watch_hears_of_what_is_below(bench: Bench) -> None:
    for read in (
        lambda watch: bench.store.kv_list(b"a/", watch),
        lambda watch: bench.store.kv_keys(b"a/", b"/", watch),
    ):
        assert fires(bench, read, lambda: bench.put(b"a/2", str(bench.index).encode()))
        assert not fires(bench, read, lambda: bench.put(b"a", str(bench.index).encode()))
        assert not fires(bench, read, lambda: bench.put(b"b/2", str(bench.index).encode()))
        assert fires(bench, read, lambda: bench.apply(commands.kvs("delete-tree", b"")))
        assert not fires(bench, read, lambda: bench.apply(commands.kvs("delete-tree", b"")))
    assert fires(bench, lambda watch: bench.store.kv_list(b"", watch), lambda: bench.put(b"x"))


def test_a_service_watch_hears_of_instances_nodes_and_checks(bench: Bench) -> None:
    def read(watch: Watch) -> object:
        return bench.store.check_service_nodes("Web", (), watch)

    assert fires(bench, read, lambda: bench.check("n1", "c1", "warning", service_id="web1"))
    assert fires(bench, read, lambda: bench.check("n1", "node-check"))
    assert fires(bench, read, lambda: bench.register("n1", address="10.0.0.9"))
    assert fires(bench, read, lambda: bench.service("n2", "web2", "WEB"))
    assert fires(bench, read, lambda: bench.deregister("n2", "web2"))
    assert not fires(bench, read, lambda: bench.check("n2", "c", service_id="db1"))
    assert not fires(bench, read, lambda: bench.register("n2", address="10.0.0.8"))
    assert not fires(bench, read, lambda: bench.put(b"k"))
    assert fires(bench, read, lambda: bench.deregister("n1"))


def test_a_watch_on_a_missing_service_hears_of_the_first_instance(bench: Bench) -> None:
    def read(watch: Watch) -> object:
        return bench.store.service_nodes("new", (), watch)

    assert not fires(bench, read, lambda: bench.service("n1", "other", "other"))
    assert fires(bench, read, lambda: bench.service("n1", "new", "new"))


def test_a_check_that_moves_is_heard_by_both_services(bench: Bench) -> None:
    def read(watch: Watch) -> object:
        return bench.store.check_service_nodes("db", (), watch)

    bench.service("n1", "db2", "db")
    assert fires(bench, read, lambda: bench.check("n1", "c1", service_id="db2"))
    assert fires(bench, read, lambda: bench.check("n1", "c1", service_id="web1"))
    assert bench.store.service_nodes("db")[0] == bench.index
    bench.check("n1", "c1", service_id="db2")
    assert fires(bench, read, lambda: bench.check("n1", "c1"))


def test_a_check_is_heard_under_the_old_name_of_its_instance(bench: Bench) -> None:
    bench.service("n1", "web1", "renamed")

    def read(watch: Watch) -> object:
        return bench.store.service_checks("web", watch)

    assert [check.check_id for check in bench.store.service_checks("web")[1]] == ["c1"]
    assert fires(bench, read, lambda: bench.deregister("n1", check_id="c1"))


def test_node_watches_hear_of_their_node_only(bench: Bench) -> None:
    for read in (
        lambda watch: bench.store.node_services("N1", watch),
        lambda watch: bench.store.node("n1", watch),
        lambda watch: bench.store.node_checks("n1", watch),
    ):
        assert fires(bench, read, lambda: bench.service("n1", "s", port=bench.index))
        assert not fires(bench, read, lambda: bench.service("n2", "s", port=bench.index))
        assert not fires(bench, read, lambda: bench.register("n2", address=str(bench.index)))
    assert fires(bench, lambda watch: bench.store.node("n3", watch), lambda: bench.register("n3"))


def test_table_watches(bench: Bench) -> None:
    store = bench.store
    assert fires(bench, store.nodes, lambda: bench.register("n4"))
    assert not fires(bench, store.nodes, lambda: bench.service("n4", "s"))
    assert fires(bench, store.services, lambda: bench.service("n4", "t"))
    assert not fires(bench, store.services, lambda: bench.check("n4", "c"))
    assert fires(
        bench, lambda watch: store.checks_in_state("any", watch), lambda: bench.check("n4", "c", "warning")
    )
    assert fires(bench, store.session_list, lambda: bench.session("s"))
    assert fires(bench, store.session_list, lambda: bench.destroy("s"))


def test_a_watch_fires_after_the_whole_command(bench: Bench) -> None:
    seen: list[object] = []
    watch = watched(lambda watch: bench.store.kv_get(b"first", watch))
    watch.on_fire(lambda: seen.append((bench.store.kv_get(b"second"), bench.store.applied)))
    ops = [TxnOp(kv=TxnKVOp("set", DirEntry(key))) for key in (b"first", b"second")]
    bench.apply(commands.txn(TxnRequest("dc1", ops)))
    assert seen == [(bench.store.kv_get(b"second"), bench.index)]
    assert bench.store.kv_get(b"second")[1] is not None


def test_what_is_taken_back_fires_nothing(bench: Bench) -> None:
    watch = watched(lambda watch: bench.store.kv_list(b"", watch))
    bench.store.nodes(watch)
    ops = [
        TxnOp(kv=TxnKVOp("set", DirEntry(b"first"))),
        TxnOp(check=TxnCheckOp("set", HealthCheck(node="nosuch"))),
    ]
    bench.apply(commands.txn(TxnRequest("dc1", ops)))
    assert not watch.fired
    bench.put(b"first")
    assert watch.fired


def test_a_restore_fires_all_and_keeps_the_store(bench: Bench) -> None:
    watches = [
        watched(lambda watch: bench.store.kv_get(b"x", watch)),
        watched(lambda watch: bench.store.kv_list(b"x", watch)),
        watched(lambda watch: bench.store.service_nodes("x", (), watch)),
        watched(bench.store.nodes),
    ]
    store = bench.fsm.store
    empty = b"".join(FSM().snapshot())
    bench.fsm.restore(empty)
    assert bench.fsm.store is store
    assert all(watch.fired for watch in watches)
    assert store.nodes() == (0, [])
    assert fires(bench, store.nodes, lambda: bench.register("n1"))


def test_a_watch_leaves_no_trace(bench: Bench) -> None:
    store = bench.store
    for _ in range(3):
        watch = Watch()
        store.kv_get(b"k", watch)
        store.kv_list(b"prefix/", watch)
        store.service_nodes("web", (), watch)
        watch.close()
    fired = watched(lambda watch: store.kv_list(b"k", watch))
    bench.put(b"k1")
    assert fired.fired
    assert not store._key_cells
    assert not store._prefix_cells
    assert not store._prefix_cells._lengths
    assert not store._cells


def test_a_callback_may_ask_again(bench: Bench) -> None:
    """Each of two watches that ask again in their callback sees each write once."""
    counts = [0, 0]

    def ask(number: int) -> None:
        counts[number] += 1
        watch = Watch()
        bench.store.kv_get(b"k", watch)
        watch.on_fire(lambda: ask(number))

    ask(0)
    ask(1)
    for _ in range(5):
        bench.put(b"k", str(bench.index).encode())
    assert counts == [6, 6]


def best(call: Callable[[], object], rounds: int = 30) -> float:
    """The shortest of several runs, in seconds: what the machine can do when nobody disturbs."""
    shortest = 1e9
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest


def test_a_write_costs_the_same_with_many_watched_keys(bench: Bench) -> None:
    def write() -> None:
        bench.put(b"k", str(bench.index).encode())

    alone = best(write)
    watches = [watched(lambda watch, n=n: bench.store.kv_get(b"w%d" % n, watch)) for n in range(100_000)]
    watches += [watched(lambda watch, n=n: bench.store.kv_list(b"p%04d/" % n, watch)) for n in range(5_000)]
    assert best(write) < 5 * alone + 50e-6
    assert not any(watch.fired for watch in watches)


def test_many_watches_on_one_key_fire_quickly(bench: Bench) -> None:
    watches = [watched(lambda watch: bench.store.kv_get(b"hot", watch)) for _ in range(5_000)]
    fired: list[int] = []
    for number, watch in enumerate(watches):
        watch.on_fire(lambda number=number: fired.append(number))
    begin = time.perf_counter()
    bench.put(b"hot")
    assert time.perf_counter() - begin < 0.25
    assert len(fired) == 5_000
    assert not bench.store._key_cells


def test_a_session_wakes_only_who_asked_for_it_or_its_node(bench: Bench) -> None:
    store = bench.store
    bench.session("s1", "n1")
    one, other, node, every = Watch(), Watch(), Watch(), Watch()
    store.session_get("s1", one)
    store.session_get("s2", other)
    store.node_sessions("N2", node)
    store.session_list(every)
    bench.session("s3", "n2")
    assert (one.fired, other.fired, node.fired, every.fired) == (False, False, True, True)
    assert store.session_get("s1")[0] == bench.index
    bench.session("s2", "n1")
    assert other.fired and not one.fired
    bench.deregister("n1")
    assert one.fired


def test_a_check_wakes_nobody_who_lists_instances(bench: Bench) -> None:
    rows = Watch()
    bench.store.service_nodes("web", (), rows)
    bench.check("n1", "c1", "critical", service_id="web1")
    bench.check("n1", "node-check")
    assert not rows.fired and bench.store.service_nodes("web")[0] == bench.index
    bench.register("n1", address="10.0.0.9")
    assert rows.fired


def test_a_whole_watch_hears_of_all_that_moves_the_index(bench: Bench) -> None:
    store = bench.store
    whole = Watch(whole=True)
    store.service_nodes("web", (), whole)
    bench.check("n1", "c1", "critical", service_id="web1")
    assert whole.fired
    bench.session("s1", "n2")
    one, node = Watch(whole=True), Watch(whole=True)
    store.session_get("s1", one)
    store.node_sessions("n2", node)
    bench.session("s2", "n1")
    assert one.fired and node.fired
