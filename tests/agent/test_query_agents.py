"""Prepared queries, nearness and Serf queries with real agents: a server, a client agent, a real `serf`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.agent.serf_agent import DEADLINE, SerfAgent
from tests.harness import DNS, SERF_LAN, Agent, Response, until

# Where nodes are, in milliseconds from `a` along a line.
PLACES = {"a": 0, "b": 30, "c": 10, "d": 70}
NEAR_B = ["b", "c", "a", "d", "x"]  # x has no coordinate


class Pair:
    """A server and a client agent."""

    def __init__(self, folder: Path) -> None:
        for name in ("s1", "c1"):
            (folder / name).mkdir()
        self.server = Agent(folder / "s1", flags=["--node", "s1"])
        flags = ["--node", "c1", "--server=false", "--bootstrap=false", "--retry-join", self.server.address]
        self.client = Agent(folder / "c1", dev=False, flags=flags)

    @property
    def both(self) -> tuple[Agent, Agent]:
        return self.server, self.client


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"))
    try:
        made.server.start()
        made.client.start(wait=False)
        made.client.wait_http()
        made.client.wait_leader()
        _fill(made)
        yield made
    finally:
        for agent in made.both:
            agent.end()


def _fill(pair: Pair) -> None:
    """Instances of web on nodes that have coordinates, and on one that has none."""
    for number, name in enumerate([*PLACES, "x"], 1):
        service = {"ID": f"web-{name}", "Service": "web", "Port": 8000 + number, "Tags": [name]}
        check = {"Name": "c", "CheckID": f"c-{name}", "Status": "passing", "ServiceID": f"web-{name}"}
        body = {"Node": name, "Address": f"10.0.0.{number}", "Service": service, "Check": check}
        pair.server.put("/v1/catalog/register", body)
    for name, milliseconds in PLACES.items():
        coord = {"Vec": [milliseconds / 1000] + [0.0] * 7, "Error": 0.1, "Height": 1e-5}
        pair.client.put("/v1/coordinate/update", {"Node": name, "Coord": coord})

    def known() -> bool:
        found = {one["Node"] for one in pair.client.get("/v1/coordinate/nodes")}
        return found >= PLACES.keys()

    until("coordinates are written", known)


def post(agent: Agent, path: str, body: Any) -> Response:
    return agent.http("POST", path, json.dumps(body))


# --- near


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("/v1/catalog/nodes?", lambda row: row["Node"]),
        ("/v1/catalog/service/web?", lambda row: row["Node"]),
        ("/v1/health/service/web?", lambda row: row["Node"]["Node"]),
        ("/v1/health/checks/web?", lambda row: row["Node"]),
        ("/v1/health/state/passing?", lambda row: row["Node"]),
    ],
)
def test_near_ones_first(pair: Pair, path: str, node: Callable[[Any], str]) -> None:
    for agent in pair.both:
        found = [node(row) for row in agent.get(f"{path}near=b")]
        assert [name for name in found if name in NEAR_B] == NEAR_B
        assert sorted(found) == sorted(node(row) for row in agent.get(path + "near=nobody"))
        assert agent.get(f"{path}near=x") == agent.get(path)
        assert agent.http("GET", f"{path}near=_agent").status == 200


# --- prepared queries


def test_a_query_through_the_client(pair: Pair) -> None:
    client, server = pair.client, pair.server
    index = client.http("GET", "/v1/query").consul_index
    made = post(client, "/v1/query", {"Name": "geo", "Service": {"Service": "web", "Near": "b"}}).json()["ID"]
    assert client.http("GET", "/v1/query").consul_index > index
    for agent in pair.both:
        assert agent.get(f"/v1/query/{made}")[0]["Name"] == "geo"
        for name in ("geo", "GEO", made):
            answer = agent.http("GET", f"/v1/query/{name}/execute?limit=3")
            assert [row["Node"]["Node"] for row in answer.json()["Nodes"]] == NEAR_B[:3]
            assert answer.headers["x-consul-effective-consistency"] == "leader"
        stale = agent.get("/v1/query/geo/execute?stale&near=d")
        assert stale["Nodes"][0]["Node"]["Node"] == "d"
        assert stale["ConsistencyLevel"] == "stale"
        assert agent.get("/v1/query/geo/execute?consistent")["ConsistencyLevel"] == "consistent"
        elsewhere = agent.http("GET", "/v1/query/geo/execute?dc=dc9")
        assert (elsewhere.status, elsewhere.text.rpartition(": ")[2]) == (500, "No path to datacenter")
        for path in ("none/execute", "none/explain", "00000000-1111-2222-3333-444444444444"):
            missing = agent.http("GET", f"/v1/query/{path}")
            assert missing.status == 404
            assert "Query not found" in missing.text
    again = post(client, "/v1/query", {"Name": "GEO", "Service": {"Service": "web"}})
    assert (again.status, "aliases an existing query name" in again.text) == (500, True)
    assert (
        client.http("PUT", f"/v1/query/{made}", '{"Name": "geo", "Service": {"Service": "x"}}').status == 200
    )
    assert server.get("/v1/query/geo/execute")["Nodes"] == []
    assert client.http("DELETE", f"/v1/query/{made}").status == 200
    assert server.get("/v1/query") == []


def test_a_blocked_list_wakes(pair: Pair) -> None:
    index = pair.client.http("GET", "/v1/query").consul_index
    made = post(pair.server, "/v1/query", {"Name": "late", "Service": {"Service": "web"}}).json()["ID"]
    found = pair.client.http("GET", f"/v1/query?index={index}&wait=20s")
    assert [one["Name"] for one in found.json()] == ["late"]
    pair.server.http("DELETE", f"/v1/query/{made}")


def test_templates_and_names(pair: Pair) -> None:
    body = {
        "Name": "t-",
        "Template": {"Type": "name_prefix_match", "Regexp": "^t-(.+)-of-(.+)$"},
        "Service": {"Service": "${match(2)}", "Tags": ["${match(1)}"]},
        "DNS": {"TTL": "42s"},
    }
    made = post(pair.client, "/v1/query", body).json()["ID"]
    for agent in pair.both:
        shown = agent.get("/v1/query/t-c-of-web/explain")["Query"]["Service"]
        assert (shown["Service"], shown["Tags"]) == ("web", ["c"])
        assert agent.http("GET", f"/v1/query/{made}/execute").status == 500
        question = dns.message.make_query("T-c-OF-web.query.consul", "SRV")
        for ask in (dns.query.udp, dns.query.tcp):
            (rrset,) = ask(question, agent.address, 5.0, DNS).answer
            assert rrset.to_text() == "T-c-OF-web.query.consul. 42 IN SRV 1 1 8003 c.node.dc1.consul."
        for name in ("none.query.consul", "t-none-of-web.query.consul", "t-c-of-web.query.dc9.consul"):
            message = dns.query.udp(dns.message.make_query(name, "A"), agent.address, 5.0, DNS)
            assert message.rcode() == dns.rcode.NXDOMAIN
    assert pair.server.http("DELETE", f"/v1/query/{made}").status == 200


def test_the_command(pair: Pair) -> None:
    for agent in pair.both:
        made = agent.ctl("query", "create", "cmd", "-service=web", "-near=b", "-ttl=5s", "--quiet")
        assert made.returncode == 0, made.stderr
        found = agent.ctl("query", "exec", "cmd", "--quiet")
        assert found.stdout.decode().split() == [f"10.0.0.{n}:800{n}" for n in (2, 3, 1, 4, 5)]
        assert b"web" in agent.ctl("query", "show", made.stdout.decode().strip()).stdout
        assert agent.ctl("query", "delete", "cmd").stdout == b"Deleted query: cmd\n"
        assert agent.ctl("query", "exec", "cmd").returncode == 1


def test_another_datacenter_helps_out(pair: Pair, tmp_path: Path) -> None:
    with Agent(tmp_path, flags=["--node", "far", "--datacenter", "dc2"]) as other:
        other.put("/v1/catalog/register", {"Node": "n9", "Address": "10.0.0.9", "Service": {"Service": "db"}})
        other.put(f"/v1/agent/join/{pair.server.address}?wan=1")
        until("they know each other", lambda: pair.server.get("/v1/catalog/datacenters") == ["dc1", "dc2"])
        for failover in (
            {"NearestN": 1},
            {"Datacenters": ["dc9", "dc2"]},
            {"Targets": [{"Datacenter": "dc2"}]},
        ):
            body = {"Name": "over", "Service": {"Service": "db", "Failover": failover}}
            made = post(pair.client, "/v1/query", body).json()["ID"]
            for agent in pair.both:
                found = agent.get("/v1/query/over/execute")
                assert (found["Datacenter"], found["Failovers"]) == ("dc2", 1)
                assert [one["Node"]["Node"] for one in found["Nodes"]] == ["n9"]
                question = dns.message.make_query("over.query.consul", "SRV")
                (rrset,) = dns.query.udp(question, agent.address, 5.0, DNS).answer
                assert rrset.to_text().endswith(" n9.node.dc2.consul.")
            pair.server.http("DELETE", f"/v1/query/{made}")


# --- Serf queries


def test_a_real_serf_answers_queries(pair: Pair, tool: Callable[[str], str], tmp_path: Path) -> None:
    """Its event handler answers with the payload in capitals."""

    async def scene() -> None:
        serf = SerfAgent(tool("serf"), tmp_path, "serf1", "-tag", "role=web")
        try:
            await serf.start()
            await serf.ok("join", f"{pair.server.address}:{SERF_LAN}")
            await asyncio.to_thread(_all_reached, pair.server)
            await asyncio.to_thread(_asked, pair.client, serf)
            await asyncio.to_thread(_streams, pair.client)
        finally:
            await serf.ok("leave")
            await serf.end()

    asyncio.run(scene())


def _send(agent: Agent, *words: str) -> Any:
    done = agent.ctl("query", "send", "-timeout=600ms", "-o", "json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _all_reached(agent: Agent) -> None:
    """Nothing makes up for a query that did not reach everybody, so it is asked again."""
    expected = {"Acks": ["c1", "s1", "serf1"], "Responses": {"serf1": "ABC"}}
    until("all are reached", lambda: _sorted(_send(agent, "load", "abc")) == expected, DEADLINE)


def _asked(agent: Agent, serf: SerfAgent) -> None:
    _all_reached(agent)
    for words, acks, responses in (
        (("-tag=role=^web$", "load", "x"), ["serf1"], {"serf1": "X"}),
        (("-no-ack", "-node=serf1", "load", "x"), [], {"serf1": "X"}),
        (("-node=c1", "load", "x"), ["c1"], {}),
    ):
        expected = {"Acks": acks, "Responses": responses}
        until(" ".join(words), lambda w=words, e=expected: _send(agent, *w) == e, DEADLINE)  # type: ignore[misc]
    until("a ping", lambda: len(_send(agent, "_serf_ping")["Acks"]) == 3, DEADLINE)
    assert "query load abc" in serf.handled()
    assert not any("_serf_" in line for line in serf.handled())


def _sorted(document: Any) -> Any:
    return {"Acks": sorted(document["Acks"]), "Responses": document["Responses"]}


def _streams(agent: Agent) -> None:
    """What is here already is told while others are waited for."""
    connection = agent.connection(20.0)
    began = time.monotonic()
    connection.request("POST", "/v1/internal/query/load?timeout=1s&node=c1", b"x")
    answer = connection.getresponse()
    first = json.loads(answer.readline())
    assert first == {"Type": "ack", "From": "c1"}
    assert time.monotonic() - began < 0.8
    assert json.loads(answer.readline()) == {"Type": "done", "Acks": 1, "Responses": 0}
    assert 0.9 < time.monotonic() - began < 6.0
    connection.close()
    for path, why in (
        ("_serf_use-key", "Serf's own"),
        ("q?timeout=x", "Invalid timeout"),
        ("", "Missing query"),
    ):
        refused = agent.http("POST", f"/v1/internal/query/{path}", b"")
        assert (refused.status, why in refused.text) == (400, True)
    assert agent.http("POST", "/v1/internal/query/q", b"x" * 1100).status == 400
    assert agent.http("GET", "/v1/internal/query/q").status == 405
