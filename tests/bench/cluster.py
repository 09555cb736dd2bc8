"""Rows about three servers on one machine: how soon they write, how fast, and how soon after a loss."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import load
from tests.cluster import Cluster, Load, Node
from tests.harness import until

CONFIG = {"limits": {"http_max_conns_per_client": 2000}}  # all load comes from one address
FIRST_WRITE, FAILOVER, DETECTION = 3.0, 1.5, 6.0  # seconds, the most that will do
Row = tuple[str, str, str, str, str, str]


def rows(folder: Path, seconds: float, rounds: int) -> Iterator[Row]:
    """One line for each figure; Consul 1.9.8's beside it, from a machine of two cores."""
    with Cluster(folder, servers=3, clients=2, config=CONFIG) as cluster:
        if load.has("wrk"):
            yield from _rates(cluster, seconds, rounds)
        yield from _failover(cluster, rounds)
        yield from _detection(cluster)
        yield from _start(cluster, rounds)


def _rates(cluster: Cluster, seconds: float, rounds: int) -> Iterator[Row]:
    leader, follower = cluster.settle(), cluster.followers()[0]
    leader.put("/v1/kv/bench/key", "Hello World")
    script = load.PUT_SCRIPT.replace("{path}", "/v1/kv/put/")
    key = "/v1/kv/bench/key"
    for what, agent, path, consul in (
        ("3 servers: durable PUT at the leader, 32", leader, "", 3_100),
        ("3 servers: durable PUT at a follower, 32", follower, "", 2_700),
        ("3 servers: stale GET at a follower, 32", follower, f"{key}?stale", 21_000),
        ("3 servers: GET through a client agent, 32", cluster["c1"], key, 0),
    ):
        found = statistics.median(_wrk(agent, path, seconds, script) for _ in range(rounds))
        shown = f"{found / consul:.1f}x Consul" if consul else "-"
        yield what, f"{found:,.0f}/s", "-", "-", f"{consul:,}/s" if consul else "-", shown


def _wrk(agent: Node, path: str, seconds: float, script: str) -> float:
    if path:
        return load.wrk(agent.base + path, 32, seconds)
    return load.wrk(agent.base, 32, seconds, script)


def _failover(cluster: Cluster, rounds: int) -> Iterator[Row]:
    times = []
    for _ in range(2 * rounds + 1):
        leader = cluster.settle()
        until("all vote", lambda: _voters(cluster) == 3, 60)
        with Load([server for server in cluster.servers if server is not leader]) as work:
            work.until_acknowledged()
            leader.kill9()
            times.append(work.until_acknowledged(1))
            leader.start(wait=False)
    found = statistics.median(times)
    yield _time("leader killed, next acknowledged write", found, "17 s", FAILOVER)


def _voters(cluster: Cluster) -> int:
    servers = cluster.wait_leader().get("/v1/operator/raft/configuration")["Servers"]
    return sum(server["Voter"] for server in servers)


def _detection(cluster: Cluster) -> Iterator[Row]:
    cluster.settle()
    killed = cluster["c2"]
    rest = [agent for agent in cluster.agents if agent is not killed]
    began = time.monotonic()
    killed.kill9()
    until("it is failed on all", lambda: all(a.members()[killed.name] == "failed" for a in rest), 30)
    yield _time("agent killed, failed on all of the other 4", time.monotonic() - began, "-", DETECTION)


def _start(cluster: Cluster, rounds: int) -> Iterator[Row]:
    times = []
    for _ in range(rounds):
        for agent in cluster.running:
            agent.end()
        began = time.monotonic()
        for server in cluster.servers:
            server.start(wait=False)
        until("the first write", lambda: _written(cluster.servers[0]), 30, 0.01)
        times.append(time.monotonic() - began)
    yield _time(
        "3 servers started again: first durable write", statistics.median(times), "5.6 s", FIRST_WRITE
    )


def _written(server: Node) -> bool:
    try:
        return server.http("PUT", "/v1/kv/first", b"1").status == 200
    except OSError:
        return False


def _time(what: str, found: float, consul: str, aim: float) -> Row:
    verdict = "meets" if found <= aim else "misses"
    return what, f"{found:.2f} s", "-", "-", consul, f"{verdict} the aim of {aim} s"
