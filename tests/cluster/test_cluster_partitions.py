"""Servers that cannot reach each other and are not told so, each in a network namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, Load, Network
from tests.harness import until

CONSISTENT = ("?consistent",)
# Who is cut off stays a peer: removed, it would come back without a vote, and a cut of another be the end.
KEPT = {"autopilot": {"cleanup_dead_servers": False}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("partitions")
    with Cluster(folder, servers=3, config=KEPT, network=Network()) as found:
        yield found


def test_nobody_follows_a_leader_that_is_cut_off(cluster: Cluster) -> None:
    network = cluster.network
    assert network is not None
    old = cluster.settle()
    rest = cluster.followers()
    old.put("/v1/kv/known", "before")
    with Load(cluster.servers, timeout=3) as load:
        load.until_acknowledged()
        network.cut([old], rest)
        new = cluster.wait_leader(other_than=old)
        assert load.until_acknowledged() < 5
        new.put("/v1/kv/known", "after")
        # The old leader knows that it is none: it neither writes nor vouches for what it knows.
        until("it gave up", lambda: old.raft()["state"] != "Leader")
        assert old.http("PUT", "/v1/kv/known", "lost", timeout=30).status == 500
        assert old.http("GET", "/v1/kv/known?consistent", timeout=30).status == 500
        assert old.http("GET", "/v1/kv/known?stale&raw").text == "before"
        network.heal()
        load.until_acknowledged()
    cluster.settle()
    assert old.http("GET", "/v1/kv/known?raw&consistent").text == "after"
    load.check(old)


@pytest.mark.parametrize("deaf", [True, False], ids=["hears-nobody", "reaches-nobody"])
def test_a_leader_is_cut_off_in_one_direction(cluster: Cluster, deaf: bool) -> None:
    network = cluster.network
    assert network is not None
    old = cluster.settle()
    rest = cluster.followers()
    with Load(cluster.servers, reads=CONSISTENT, timeout=3) as load:
        load.until_acknowledged()
        network.cut(*((rest, [old]) if deaf else ([old], rest)), both=False)
        cluster.wait_leader(other_than=old)
        assert load.until_acknowledged() < 5
        network.heal()
        load.until_acknowledged()
    cluster.settle()
    load.check(old)


def test_a_follower_that_comes_back_disturbs_nobody(cluster: Cluster) -> None:
    network = cluster.network
    assert network is not None
    leader = cluster.settle()
    term = leader.raft()["term"]
    lonely, other = cluster.followers()
    with Load([leader, other], timeout=3) as load:
        load.until_acknowledged()
        network.cut([lonely], [leader, other])
        until("it looks for a leader", lambda: lonely.raft()["state"] == "Candidate")
        load.until_acknowledged(200)
        network.heal()
        until("it follows again", lambda: lonely.raft()["state"] == "Follower")
    cluster.settle()
    assert cluster.leader() is leader and leader.raft()["term"] == term
    load.check(lonely)
