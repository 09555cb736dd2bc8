"""Three servers and two client agents as real processes: what an operator relies on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.agent.real_cluster import Cluster, Load, running
from tests.harness import Agent, until
from tests.sim.linearizable import violation

ALIVE, LEFT, FAILED = 1, 3, 4
WEB = '{"Name": "web", "Port": 80, "Check": {"TTL": "10m", "Status": "passing"}}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory, 3, 2) as cluster:
        yield cluster


def test_every_node_sees_all_members(shared: Cluster) -> None:
    expected = dict.fromkeys((*shared.servers, *shared.clients), ALIVE)
    for name in shared.agents:
        until(f"{name} sees all", lambda name=name: shared.members(name) == expected)


def test_any_agent_answers_any_question(shared: Cluster) -> None:
    for name, agent in shared.agents.items():
        assert agent.put(f"/v1/kv/from/{name}", name).json() is True
    wanted = sorted(f"from/{name}" for name in shared.agents)
    for name in shared.agents:
        assert sorted(shared.get("/v1/kv/from/?keys", name)) == wanted
        assert len(shared.get("/v1/catalog/nodes?consistent", name)) == 5


def test_the_index_is_the_same_everywhere(shared: Cluster) -> None:
    shared.agents["c1"].put("/v1/kv/index", "x")

    def indexes(path: str) -> set[int]:
        return {shared.agents[name].http("GET", f"{path}?stale").consul_index for name in shared.servers}

    for path in ("/v1/kv/index", "/v1/catalog/services", "/v1/health/state/any"):
        until(f"all agree about {path}", lambda path=path: len(indexes(path)) == 1)


def test_a_blocked_client_hears_of_a_change_made_elsewhere(shared: Cluster) -> None:
    shared.agents["s1"].put("/v1/kv/news", "old")
    index = shared.agents["c2"].http("GET", "/v1/kv/news").consul_index
    connection = shared.agents["c2"].connect(30.0)
    connection.sendall(f"GET /v1/kv/news?raw&index={index}&wait=20s HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    began = time.monotonic()
    shared.agents["c1"].put("/v1/kv/news", "new")
    answer = b""
    while not answer.endswith(b"new"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    assert time.monotonic() - began < 5.0
    connection.close()


def test_those_who_wait_for_the_same_get_it_in_their_own_form(shared: Cluster) -> None:
    agent = shared.agents[shared.leader()]
    agent.put("/v1/kv/form", "old")
    index = agent.http("GET", "/v1/kv/form").consul_index
    forms = {form: agent.connect(30.0) for form in ("", "&raw")}
    for form, connection in forms.items():
        path = f"/v1/kv/form?index={index}&wait=20s{form}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    until("both wait", lambda: agent.get("/v1/agent/metrics") and _blocked(agent) == 2)
    agent.put("/v1/kv/form", "new")
    answers = {form: connection.makefile("rb").read() for form, connection in forms.items()}
    assert b'"Value":"bmV3"' in answers[""] and answers["&raw"].endswith(b"\r\n\r\nnew")


def _blocked(agent: Agent) -> int:
    gauges = agent.get("/v1/agent/metrics")["Gauges"]
    return next(int(one["Value"]) for one in gauges if one["Name"].endswith("http.blocked_queries"))


def test_servers_are_in_the_wan_too(shared: Cluster) -> None:
    expected = {f"{name}.dc1" for name in shared.servers}
    for name in shared.servers:
        until(
            f"{name} sees them",
            lambda name=name: (
                {one["Name"] for one in shared.get("/v1/agent/members?wan=1", name)} == expected
            ),
        )


def test_a_killed_node_leaves_the_answers_and_one_that_leaves_is_left(shared: Cluster) -> None:
    shared.agents["c1"].put("/v1/agent/service/register", WEB)
    until("it is found", lambda: shared.get("/v1/health/service/web?passing", "c2"))
    shared.agents["c1"].kill9()
    until("it is noticed", lambda: shared.members("s1")["c1"] == FAILED, 20.0)
    until("it has gone from the answers", lambda: shared.get("/v1/health/service/web?passing", "c2") == [])
    shared.agents["c2"].put("/v1/agent/leave")
    until("it has left", lambda: shared.members("s1")["c2"] == LEFT, 20.0)
    until("the catalog has forgotten it", lambda: len(shared.get("/v1/catalog/nodes")) == 4, 20.0)


def test_no_acknowledged_write_is_lost_with_a_leader(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory, 3, 1) as cluster:
        with Load(cluster) as load:
            load.await_progress()
            leader = cluster.leader()
            cluster.asked = next(name for name in cluster.servers if name != leader)
            cluster.agents[leader].kill9()
            load.await_progress()
            cluster.agents[leader].start(wait=False)
            for name in cluster.servers:  # a rolling restart of all servers
                if cluster.agents[name].process is not None and name != leader:
                    cluster.asked = next(other for other in cluster.servers if other != name)
                    cluster.agents[name].stop()
                    cluster.agents[name].start(wait=False)
                    cluster.agents[name].wait_http(20.0)
                    load.await_progress()
        assert violation(load.history) == ""


def test_a_quorum_lost_is_said_and_found_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory, 3, 0) as cluster:
        cluster.agents["s1"].put("/v1/kv/kept", "1")
        for name in ("s2", "s3"):
            os.kill(cluster.agents[name].pid, signal.SIGKILL)
            cluster.agents[name].end()
        answers = [cluster.agents["s1"].http("PUT", "/v1/kv/lost", "2", timeout=30) for _ in range(2)]
        assert [answer.status for answer in answers] == [500, 500]
        # A leader that is left alone loses its lease over the first write.
        assert answers[0].text in ("No cluster leader", "leadership lost while committing log")
        assert answers[1].text == "No cluster leader"
        for name in ("s2", "s3"):
            cluster.agents[name].start(wait=False)
        until("it works again", lambda: cluster.agents["s1"].http("PUT", "/v1/kv/a", "3").status == 200, 30.0)
        assert cluster.get("/v1/kv/kept") is not None


def test_servers_come_back_with_new_addresses(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory, 3, 0) as cluster:
        cluster.agents["s2"].put("/v1/kv/kept", "1")
        cluster.end()
        cluster.start()
        for name in cluster.servers:
            assert cluster.get("/v1/kv/kept", name) is not None


def test_a_node_that_stands_still_makes_no_other_look_failed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory, 3, 1) as cluster:
        for _ in range(2):
            os.kill(cluster.agents["c1"].pid, signal.SIGSTOP)
            until("it is missed", lambda: cluster.members("s1")["c1"] == FAILED, 25.0)
            os.kill(cluster.agents["c1"].pid, signal.SIGCONT)
            until("it is back", lambda: cluster.members("s1")["c1"] == ALIVE, 30.0)
        for name in cluster.agents:
            assert set(cluster.members(name).values()) == {ALIVE}
            failed = [
                line
                for line in cluster.agents[name].log_text().splitlines()
                if "serf.lan: marking" in line and "failed" in line
            ]
            assert all("marking c1 as failed" in line for line in failed), failed
