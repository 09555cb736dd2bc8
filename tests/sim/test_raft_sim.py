from __future__ import annotations

import msgspec
import pytest

from core.raft import log as raft_log
from core.raft.messages import Request, Response
from core.raft.node import Node
from core.raft.ready import Outgoing, Ready
from core.raft.settings import Settings
from tests.sim.raft_cluster import TIMING, Cluster, Disk, Faults, Unsafe


@pytest.fixture(autouse=True)
def small_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs forget their tail early, so that reading from the disk is part of the simulation."""
    monkeypatch.setattr(raft_log, "TAIL_ENTRIES", 16)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("seed", range(20))
def test_seed(seed: int, size: int) -> None:
    cluster = Cluster(seed * 10 + size, size, Faults())
    cluster.storm(10)
    cluster.calm()
    assert len(cluster.acknowledged) > 20
    assert cluster.reads > 10


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> tuple[object, ...]:
        cluster = Cluster(5, 3, Faults())
        cluster.storm(5)
        return cluster.count, cluster.leaders, cluster.applied, cluster.acknowledged

    assert run() == run()


HARSH = Faults(
    loss=0.05, duplicate=0, delay=0.08, slow=0.1, crash=2, partition=2, snapshot=0, membership=0, transfer=0
)
# One entry per message, so that an old entry can travel without the new term's first one.
SINGLE = msgspec.structs.replace(TIMING, max_entries=1, max_inflight=1, prevote=False)


def caught(
    make: type[Cluster], node_class: type[Node], timing: Settings, seeds: int = 60, faults: Faults = HARSH
) -> str:
    """What the first of these seeds that finds something finds."""
    for seed in range(seeds):
        cluster = make(seed, 3, faults, node_class, timing)
        try:
            cluster.storm(20)
        except Unsafe as error:
            return str(error)
    return ""


def test_the_harsh_weather_alone_breaks_nothing() -> None:
    assert caught(Cluster, Node, SINGLE, 20) == ""


def test_a_vote_that_is_not_persisted_is_caught() -> None:
    class Forgetful(Cluster):
        def store(self, disk: Disk, ready: Ready) -> None:
            ready.hard_state = None
            disk.store(ready)

    assert caught(Forgetful, Node, SINGLE)


def test_committing_old_terms_by_count_is_caught() -> None:
    class Counting(Node):
        def may_commit(self, index: int) -> bool:
            return True

    assert "lacks committed" in caught(Cluster, Counting, SINGLE)


def test_entries_confirmed_before_they_are_durable_are_caught() -> None:
    class Hasty(Node):
        def answer(self, to: str, request: Request, response: Response) -> None:
            self._messages.append(Outgoing(to, response, request))

    slow = Faults(
        loss=0, duplicate=0, crash=4, partition=1, slow_disk=10, disk_full=0, snapshot=0, membership=0
    )
    assert caught(Cluster, Hasty, TIMING, faults=slow)


def test_reads_without_a_quorum_are_caught() -> None:
    class Trusting(Node):
        def verify(self, token: object, now: float) -> None:
            self.tell_verified(token, self.leader is not None)

    without_lease = msgspec.structs.replace(TIMING, lease_timeout=1e9)
    assert "stale read" in caught(Cluster, Trusting, without_lease)
