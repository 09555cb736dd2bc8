"""The conformance kit against three servers and a client agent: what is meant for a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.test_conformance import FILES, KIT
from tests.harness import Agent, own_address, until

SERVERS = ("s1", "s2", "s3")
CLIENT = "c1"
CASES = [
    *((name, scenario) for name in SERVERS for scenario in ("cluster/raft", "dns/cluster")),
    (CLIENT, "kv/client-agent"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Agent]]:
    first = own_address()
    agents: dict[str, Agent] = {}
    try:
        for name in (*SERVERS, CLIENT):
            server = ("--bootstrap-expect", "3") if name in SERVERS else ("--server=false",)
            agents[name] = Agent(
                tmp_path_factory.mktemp(name),
                dev=False,
                address=first if not agents else "",
                flags=("--bootstrap=false", *server, "--node", name, "--retry-join", first),
            )
            agents[name].start(wait=False)
        for agent in agents.values():
            agent.wait_http()
            agent.wait_leader()
        until("all are in the catalog", lambda: len(_nodes(agents[CLIENT])) == len(agents))
        yield agents
    finally:
        for agent in agents.values():
            agent.end()


def _nodes(agent: Agent) -> list[Any]:
    nodes: list[Any] = agent.http("GET", "/v1/catalog/nodes").json()
    return nodes


@pytest.mark.parametrize(("at", "name"), CASES)
def test_scenario(cluster: dict[str, Agent], at: str, name: str) -> None:
    agent = cluster[at]
    kit = KIT.Target(agent.base, f"{agent.address}:{agent.dns_port}", None, set())
    kit.probe()
    document = KIT.load(FILES[name])
    assert set(document["needs"]) <= kit.have
    failure, steps = KIT.Runner(kit).scenario(document)
    assert failure is None, failure
    assert steps


def test_every_scenario_for_clusters_is_run() -> None:
    needing = {
        name for name, path in FILES.items() if {"cluster", "client"} & set(KIT.load(path).get("needs") or [])
    }
    assert needing == {name for _, name in CASES}
