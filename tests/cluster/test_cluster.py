"""One cluster of three servers and two client agents, as it comes up, answers, and loses members."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from tests.cluster import Cluster, Node
from tests.harness import until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), servers=3, clients=2) as found:
        yield found


def _addresses(agent: Node, name: str) -> set[str]:
    """What DNS says of a service or node."""
    query = dns.message.make_query(name, "A")
    answer = dns.query.udp(query, agent.address, port=agent.dns_port, timeout=5)
    return {record.address for rrset in answer.answer for record in rrset if record.rdtype == 1}


def test_all_see_all_members(cluster: Cluster) -> None:
    for agent in cluster.agents:
        assert agent.members() == dict.fromkeys(["s1", "s2", "s3", "c1", "c2"], "alive")
    leaders = {agent.get("/v1/status/leader") for agent in cluster.agents}
    leader = cluster.wait_leader()
    assert leaders == {f"{leader.address}:8300"}
    peers = {f"{server.address}:8300" for server in cluster.servers}
    for agent in cluster.agents:
        assert set(agent.get("/v1/status/peers")) == peers


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "c1", "c2"])
def test_any_agent_takes_writes_that_all_can_read(cluster: Cluster, name: str) -> None:
    asked = cluster[name]
    key = f"/v1/kv/via/{name}"
    assert asked.put(key, name).json() is True
    assert asked.put(f"{key}?cas=0", "no").json() is False
    service = {"Node": f"n-{name}", "Address": "10.1.1.1", "Service": {"Service": f"web-{name}", "Port": 80}}
    asked.put("/v1/catalog/register", service)
    session = asked.put("/v1/session/create", {"Name": name, "Node": name}).json()["ID"]
    assert asked.put(f"{key}-lock?acquire={session}", "held").json() is True
    operation = {"KV": {"Verb": "set", "Key": f"txn/{name}", "Value": "dHhu"}}
    assert asked.put("/v1/txn", [operation]).json()["Errors"] is None
    for agent in cluster.agents:
        for mode in ("", "&consistent"):
            assert agent.http("GET", f"{key}?raw{mode}").text == name
        assert agent.get(f"{key}-lock")[0]["Session"] == session
        assert [one["Address"] for one in agent.get(f"/v1/catalog/service/web-{name}")] == ["10.1.1.1"]
        assert agent.http("GET", f"/v1/kv/txn/{name}?raw").text == "txn"
        until("DNS has it", lambda a=agent: _addresses(a, f"web-{name}.service.consul") == {"10.1.1.1"})
        assert _addresses(agent, f"{name}.node.consul") == {asked.address}


def test_a_blocking_query_anywhere_wakes_on_a_write_elsewhere(cluster: Cluster) -> None:
    asked, writer = cluster["c1"], cluster["s2"]
    writer.put("/v1/kv/blocked", "before")
    for agent in (cluster["c1"], cluster["s1"], cluster["s3"]):
        index = asked.http("GET", "/v1/kv/blocked").consul_index
        connection = agent.connection(20)
        connection.request("GET", f"/v1/kv/blocked?index={index}&wait=15s")
        writer.put("/v1/kv/blocked", f"for {agent.name}")
        answer = connection.getresponse()
        entry = json.loads(answer.read())[0]
        assert entry["ModifyIndex"] > index
        connection.close()


def test_those_who_wait_for_the_same_get_it_in_their_own_form(cluster: Cluster) -> None:
    agent = cluster.wait_leader()
    agent.put("/v1/kv/form", "old")
    index = agent.http("GET", "/v1/kv/form").consul_index
    forms = {form: agent.connect(30.0) for form in ("", "&raw")}
    before = _blocked(agent)  # what client agents keep current waits here too
    for form, connection in forms.items():
        path = f"/v1/kv/form?index={index}&wait=20s{form}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    until("both wait", lambda: _blocked(agent) >= before + 2)
    agent.put("/v1/kv/form", "new")
    answers = {form: connection.makefile("rb").read() for form, connection in forms.items()}
    assert b'"Value":"bmV3"' in answers[""] and answers["&raw"].endswith(b"\r\n\r\nnew")


def _blocked(agent: Node) -> int:
    gauges = agent.get("/v1/agent/metrics")["Gauges"]
    return next(int(one["Value"]) for one in gauges if one["Name"].endswith("http.blocked_queries"))


def test_servers_are_in_the_wan_too(cluster: Cluster) -> None:
    expected = {f"{server.name}.dc1" for server in cluster.servers}
    for server in cluster.servers:
        until(
            f"{server.name} sees them",
            lambda s=server: {one["Name"] for one in s.get("/v1/agent/members?wan=1")} == expected,
        )


PATHS = (
    "/v1/kv/?recurse",
    "/v1/kv/via/s1",
    "/v1/kv/missing",
    "/v1/kv/via?keys",
    "/v1/catalog/nodes",
    "/v1/catalog/services",
    "/v1/catalog/service/web-s1",
    "/v1/catalog/node/c1",
    "/v1/health/state/any",
    "/v1/health/node/s2",
    "/v1/health/service/consul?passing",
    "/v1/session/list",
)


def test_the_index_is_the_same_on_all_servers(cluster: Cluster) -> None:
    def answers(path: str) -> list[tuple[int, Any]]:
        stale = f"{path}{'&' if '?' in path else '?'}stale"
        found = [server.http("GET", stale) for server in cluster.servers]
        return [(one.consul_index, one.body) for one in found]

    for path in PATHS:
        # Followers may be a moment behind; but there is a moment at which all are equal.
        until(f"{path} is the same everywhere", lambda p=path: len(set(answers(p))) == 1)


def test_a_killed_client_agent_is_noticed(cluster: Cluster) -> None:
    gone = cluster["c2"]
    check = {"CheckID": "up", "TTL": "1h", "Status": "passing"}
    gone.put("/v1/agent/service/register", {"Name": "shop", "Port": 80, "Check": check})
    gone.put("/v1/agent/check/pass/up")
    remembered = gone.data_dir / "checks" / "state"  # over a restart
    until("this is remembered", lambda: remembered.exists() and any(remembered.iterdir()))
    others = [agent for agent in cluster.agents if agent is not gone]

    def offered(agent: Node) -> bool:
        return bool(agent.get("/v1/health/service/shop?passing"))

    until("the service is known", lambda: all(offered(agent) for agent in others))
    for agent in others:  # a server's DNS answers from its own state, which may be a moment behind
        until("DNS knows it", lambda a=agent: _addresses(a, "shop.service.consul") == {gone.address})
    gone.kill9()
    until("others see it failed", lambda: all(a.members()[gone.name] == "failed" for a in others))
    until("its serfHealth is critical", lambda: cluster.catalog(others[0])[gone.name] == "critical")
    until("it is not offered", lambda: not any(offered(agent) for agent in others))
    for agent in others:
        until("DNS does not offer it", lambda a=agent: not _addresses(a, "shop.service.consul"))
    gone.start()
    until("it is offered again", lambda: all(offered(agent) for agent in others))
    assert all(status == "alive" for status in cluster["s1"].members().values())


def test_who_leaves_in_peace_has_left(cluster: Cluster) -> None:
    leaving = cluster["c1"]
    others = [agent for agent in cluster.agents if agent is not leaving]
    assert leaving.ctl("leave").returncode == 0
    leaving.wait_end()
    seen = [agent.members().get(leaving.name) for agent in others]
    assert "failed" not in seen
    until("others see it left", lambda: all(a.members()[leaving.name] == "left" for a in others))
    until("it is not in the catalog", lambda: leaving.name not in cluster.catalog(others[0]))
    leaving.start()
    until("it is back", lambda: cluster.catalog(others[0]).get(leaving.name) == "passing")


def test_a_server_that_leaves_is_no_peer_any_more(cluster: Cluster) -> None:
    leaving = cluster.wait_leader()
    rest = [server for server in cluster.servers if server is not leaving]
    assert leaving.ctl("leave").returncode == 0
    leaving.wait_end()
    leader = cluster.wait_leader()
    assert leader is not leaving
    assert "failed" not in {agent.members().get(leaving.name) for agent in rest}
    until("two peers", lambda: len(leader.get("/v1/status/peers")) == 2)
    leader.put("/v1/kv/two", "servers")
    leaving.start()
    until("three peers", lambda: len(cluster.wait_leader().get("/v1/status/peers")) == 3)
    cluster.settle()
