"""Patroni's store for Consul: what keeps a PostgreSQL cluster to one primary.

Its DCS class is driven as its loop does: two members, one lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.clients.lending import imported, python_folder
from tests.harness import Agent, until

Member = Callable[..., Any]


@pytest.fixture(scope="module")
def patroni() -> Iterator[ModuleType]:
    with imported(
        python_folder("patroni==4.1.5", "py-consul==1.8.0", "psycopg2-binary==2.9.*"), "patroni.dcs", "consul"
    ) as module:
        yield module


@pytest.fixture
def member(patroni: ModuleType, home: Agent, request: pytest.FixtureRequest) -> Member:
    """Makes the store of one member of a cluster that no other test has."""
    scope = request.node.name.translate(str.maketrans("[]_", "---"))

    def make(name: str, agent: Agent = home, **more: Any) -> Any:
        consul = {"host": f"{agent.address}:{agent.http_port}", "token": agent.token, **more}
        settings = {"scope": scope, "namespace": "/service/", "name": name, "ttl": 20, "loop_wait": 1}
        return patroni.get_dcs({**settings, "retry_timeout": 9, "consul": consul})

    return make


def told(name: str, role: str = "replica", port: int = 5432) -> dict[str, Any]:
    """What a member says of itself."""
    return {
        "conn_url": f"postgres://127.0.0.1:{port}/postgres",
        "api_url": f"http://127.0.0.1:{port}/patroni",
        "state": "running",
        "role": role,
        "version": "4.1.5",
        "name": name,
    }


def test_one_leader(member: Member) -> None:
    one, two = member("one"), member("two")
    assert one.initialize(create_new=True, sysid="") is True
    assert two.initialize(create_new=True, sysid="") is False, "the race to make the cluster has one winner"
    assert one.initialize(create_new=False, sysid="7000000000000000001") is True
    assert one.touch_member(told("one", "primary")) is True and two.touch_member(told("two")) is True
    assert one.attempt_to_acquire_leader() is True
    assert two.attempt_to_acquire_leader() is False
    assert one.attempt_to_acquire_leader() is True
    cluster = two.get_cluster()
    assert cluster.initialize == "7000000000000000001" and cluster.leader_name == "one"
    assert sorted(each.name for each in cluster.members) == ["one", "two"]
    assert cluster.get_member("two").conn_url == "postgres://127.0.0.1:5432/postgres"
    assert cluster.leader.session == one._session
    cluster = one.get_cluster()
    assert one.update_leader(cluster, 42, None, {"one": "http://127.0.0.1"}) is True
    seen = two.get_cluster()
    assert seen.status.last_lsn == 42 and seen.failsafe == {"one": "http://127.0.0.1"}
    assert one.delete_leader(one.get_cluster().leader) is not False
    until("the lock is free", lambda: two.get_cluster().is_unlocked())
    assert two.attempt_to_acquire_leader() is True
    assert one.get_cluster().leader_name == "two"
    assert one.delete_cluster() is True and one.get_cluster().is_empty()


def test_what_the_cluster_keeps(member: Member) -> None:
    store = member("one")
    assert store.set_config_value('{"ttl":20}') is True
    version = store.get_cluster().config.version
    assert store.set_config_value('{"ttl":21}', version) is True
    assert store.set_config_value('{"ttl":22}', version) is False
    assert store.get_cluster().config.data == {"ttl": 21}
    assert store.manual_failover("one", "two") is True
    failover = store.get_cluster().failover
    assert (failover.leader, failover.candidate) == ("one", "two")
    assert store.manual_failover("", "", version=failover.version) is True
    assert store.manual_failover("", "x", version=failover.version) is False
    state = store.write_sync_state("one", ["two"], 0)
    assert state is not None and store.get_cluster().sync.members == ["one", "two"]
    assert store.write_sync_state("one", ["three"], 0, version=state.version) is not None
    assert store.write_sync_state("one", ["four"], 0, version=state.version) is None
    assert store.delete_sync_state(store.get_cluster().sync.version) is True
    assert store.set_history_value('[[1,2,"no recovery target"]]') is True
    assert store.get_cluster().history.lines == [[1, 2, "no recovery target"]]
    assert store.cancel_initialization() is True


def test_a_watch_wakes_when_the_leader_goes(member: Member) -> None:
    one, two = member("one"), member("two")
    assert one.touch_member(told("one", "primary")) and one.attempt_to_acquire_leader() is True
    leader = two.get_cluster().leader
    two.watch(None, 0)  # the first is cut short, since the time to live was set
    woken: list[float] = []
    begun = time.monotonic()

    def watch() -> None:
        assert two.watch(leader.version, 15) is True
        woken.append(time.monotonic() - begun)

    watching = threading.Thread(target=watch)
    watching.start()
    assert one.delete_leader(one.get_cluster().leader) is not False
    watching.join(20)
    assert woken and woken[0] < 10
    assert two.watch(leader.version, 1) is True


def test_a_dead_member_loses_the_lock(member: Member, home: Agent) -> None:
    """Its session ends, and its keys with it (behaviour delete); the other takes over."""
    one, two = member("one"), member("two")
    assert one.touch_member(told("one", "primary")) and one.attempt_to_acquire_leader() is True
    home.put(f"/v1/session/destroy/{one._session}")
    until("the lock is free", lambda: two.get_cluster().is_unlocked())
    assert two.get_cluster().members == []
    assert two.attempt_to_acquire_leader() is True
    assert one.touch_member(told("one")) is False, "the refusal tells that the session is gone"
    assert one.touch_member(told("one")) is True, "a new session is made"
    assert one.attempt_to_acquire_leader() is False


def test_services_for_the_clients_of_the_database(member: Member, home: Agent) -> None:
    store = member("one", register_service=True, service_tags=["db"])
    assert store.touch_member(told("one", "primary")) is True
    (service,) = until("it is registered", lambda: home.get(f"/v1/catalog/service/{store._service_name}"))
    assert service["ServiceTags"] == ["db", "primary", "master"] and service["ServicePort"] == 5432
    assert service["ServiceEnableTagOverride"] is True
    assert store.touch_member({**told("one", "replica"), "state": "stopped"}) is True
    until("it is gone", lambda: not home.get(f"/v1/catalog/service/{store._service_name}"))


def test_the_lock_outlives_a_restart_of_the_agent(member: Member, make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(dev=False).start()
    one, two = member("one", agent), member("two", agent)
    assert one.touch_member(told("one", "primary")) and one.attempt_to_acquire_leader() is True
    session = one._session
    agent.restart()
    cluster = until("the store answers", lambda: one.get_cluster())
    assert cluster.leader_name == "one"
    assert one.update_leader(cluster, 43) is True and one._session == session
    assert two.attempt_to_acquire_leader() is False
    assert two.get_cluster().status.last_lsn == 43
