"""A datacenter that nothing reaches, and nobody is told: every agent in a network namespace of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, Network, Node
from tests.cluster.test_datacenters import LONGEST, QUICK
from tests.harness import until


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    """Gossip here is as slow as WAN gossip is, so it knows nothing while the test looks."""
    folder = tmp_path_factory.mktemp("cut")
    network = Network()
    found: list[Cluster] = []
    for name in ("dc1", "dc2"):
        (folder / name).mkdir()
        join = [found[0]["s1"].address] if found else []
        config = {
            "datacenter": name,
            "retry_join_wan": join,
            "gossip_wan": {**QUICK, "suspicion_mult": 600},
        }
        found.append(Cluster(folder / name, servers=1, config=config, network=network))
    first, second = found
    try:
        for cluster in found:
            cluster.start(wait=False)
        for cluster in found:
            cluster.settle()
        until("joined", lambda: len(first["s1"].get("/v1/catalog/datacenters")) == 2)
        yield first, second
    finally:
        for cluster in found:
            cluster.end()


def _timed(agent: Node, method: str, path: str) -> tuple[int, str, float]:
    began = time.monotonic()
    answer = agent.http(method, path, b"x" if method == "PUT" else None, timeout=40)
    return answer.status, answer.text, time.monotonic() - began


def test_no_way_there(clusters: tuple[Cluster, Cluster]) -> None:
    here, there = clusters[0]["s1"], clusters[1]["s1"]
    network = clusters[0].network
    assert network is not None
    assert here.put("/v1/kv/a?dc=dc2", "x").json() is True
    network.cut([here], [there])
    # The first over a connection that is there, the second where none can be made.
    for method in ("PUT", "GET"):
        status, text, seconds = _timed(here, method, "/v1/kv/a?dc=dc2")
        assert status == 500 and "rpc error" in text
        assert seconds < LONGEST, (method, text)
        for agent in (here, there):
            status, text, seconds = _timed(agent, "PUT", "/v1/kv/own")
            assert (status, seconds < 1) == (200, True)
            assert _timed(agent, "GET", "/v1/kv/own?consistent")[0] == 200
    network.heal()
    until("it is reached again", lambda: _timed(here, "GET", "/v1/kv/a?raw&dc=dc2")[:2] == (200, "x"), 30)
