"""What a leader does for its cluster, with real processes: three servers and a client agent."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Agent, own_address, until

SERVERS = ("s1", "s2", "s3")
CONFIGURATION = "/v1/operator/autopilot/configuration"


class Cluster:
    """The agents by name; `asked` is who is asked."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        addresses = {"s1": own_address(), "s2": own_address()}
        joins = [flag for address in addresses.values() for flag in ("--retry-join", address)]
        self.agents: dict[str, Agent] = {}
        for name in (*SERVERS, "c1"):
            server = ("--bootstrap-expect", "3") if name in SERVERS else ("--server=false",)
            flags = ("--bootstrap=false", *server, "--node", name, *joins)
            folder = factory.mktemp(name)
            self.agents[name] = Agent(folder, dev=False, address=addresses.get(name, ""), flags=flags)
        self.asked = self.agents["s1"]

    def start(self) -> None:
        for agent in self.agents.values():
            agent.start(wait=False)
        for agent in self.agents.values():
            agent.wait_http()
            agent.wait_leader()
        until("all are in the catalog", lambda: len(self.get("/v1/catalog/nodes")) == 4)

    def get(self, path: str) -> Any:
        answer = self.asked.http("GET", path)
        return answer.json() if answer.status in (200, 429) else None

    def raft(self) -> dict[str, dict[str, Any]]:
        found = self.get("/v1/operator/raft/configuration")
        return {one["Node"]: one for one in found["Servers"]} if found else {}

    def leader(self) -> str:
        return next((name for name, one in self.raft().items() if one["Leader"]), "")

    def serf_health(self, node: str) -> str:
        checks = self.get(f"/v1/health/node/{node}") or []
        return next((check["Status"] for check in checks if check["CheckID"] == "serfHealth"), "")

    def kill(self, name: str) -> None:
        agent = self.agents[name]
        os.killpg(agent.pid, signal.SIGKILL)
        assert agent.process is not None
        agent.process.wait()
        agent.process = None


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory)
    try:
        found.start()
        yield found
    finally:
        for agent in found.agents.values():
            if agent.process is not None:
                agent.end()


def test_a_leader_keeps_its_cluster_in_order(cluster: Cluster) -> None:
    assert [one["Voter"] for one in cluster.raft().values()] == [True, True, True]
    until("all are alive", lambda: all(cluster.serf_health(name) == "passing" for name in cluster.agents))
    until("all servers are healthy", lambda: cluster.get("/v1/operator/autopilot/health")["Healthy"])

    # Leadership goes where it is sent, asked for at any agent; its duties go with it.
    old = cluster.leader()
    new = next(name for name in SERVERS if name != old)
    target = cluster.raft()[new]["ID"]
    answer = cluster.agents["c1"].http("POST", f"/v1/operator/raft/transfer-leader?id={target}")
    assert (answer.status, answer.json()) == (200, {"Success": True})
    until("it leads", lambda: cluster.leader() == new)

    # Set at one agent, known at every other; the term's duties use it from then on.
    body = json.dumps({"ServerStabilizationTime": "1s"})
    assert cluster.agents["c1"].http("PUT", CONFIGURATION, body).json() is True
    until("all know", lambda: cluster.get(f"{CONFIGURATION}?stale")["ServerStabilizationTime"] == "1s")

    # A server that dies is noticed, then removed, and comes back by itself; an agent that leaves is gone.
    cluster.asked = cluster.agents[new]
    dead = next(name for name in SERVERS if name != new)
    cluster.kill(dead)
    until("it is critical", lambda: cluster.serf_health(dead) == "critical", 30.0)
    assert not cluster.get("/v1/operator/autopilot/health")["Healthy"]
    until("Raft forgets it", lambda: len(cluster.raft()) == 2, 30.0)
    until("the catalog forgets it", lambda: cluster.get(f"/v1/catalog/node/{dead}") is None)
    cluster.agents[dead].start(wait=False)
    until("it votes again", lambda: cluster.raft().get(dead, {}).get("Voter"), 30.0)
    assert cluster.serf_health(dead) == "passing"
    cluster.agents["c1"].http("PUT", "/v1/agent/leave")
    until("the client is gone", lambda: cluster.get("/v1/catalog/node/c1") is None)
