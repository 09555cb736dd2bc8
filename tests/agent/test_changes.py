"""The stream of changes over HTTP, and `ctl changes`: at a server, a client agent, over a restart."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.changes import events
from tests.cluster import Cluster, Node
from tests.harness import CTL, ENVIRONMENT, ROOT, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("changes"), servers=1, clients=1) as found:
        yield found


def read(agent: Node, query: str) -> list[tuple[str, int, Any]]:
    """What is known now: type, index, document."""
    answer = agent.http("GET", f"/v1/ctl/changes?once&{query}")
    assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream", answer.text
    return [(kind, index, json.loads(data)) for kind, index, data in events(iter([answer.body])) if kind]


@pytest.mark.parametrize("name", ["s1", "c1"])
def test_what_happened_since(cluster: Cluster, name: str) -> None:
    agent = cluster[name]
    agent.put("/v1/kv/start", name)
    start = agent.http("GET", "/v1/kv/start").consul_index
    agent.put(f"/v1/kv/a/{name}", "1")
    operations = [
        {"KV": {"Verb": "set", "Key": f"a/{name}", "Value": "Mg=="}},
        {"KV": {"Verb": "set", "Key": f"b/{name}", "Value": "MQ=="}},
    ]
    agent.put("/v1/txn", operations)
    service = {"Node": "other", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}}
    agent.put("/v1/catalog/register", service)
    agent.http("DELETE", f"/v1/kv/a/{name}")
    agent.put("/v1/catalog/deregister", {"Node": "other"})

    def told() -> list[tuple[str, int, Any]]:
        return read(agent, f"since={start}&prefix=")

    found = [
        [
            (change["Kind"], change["Op"], change.get("Key") or change.get("Service") or change["Node"])
            for change in document
            if change.get("Node") in (None, "other")
        ]
        for _, _, document in told()
    ]
    assert [one for one in found if one] == [
        [("kv", "set", f"a/{name}")],
        [("kv", "set", f"a/{name}"), ("kv", "set", f"b/{name}")],
        [("node", "set", "other"), ("service", "set", "web")],
        [("kv", "delete", f"a/{name}")],
        [("service", "delete", "web"), ("node", "delete", "other")],
    ]
    indexes = [index for _, index, _ in told()]
    assert indexes == sorted(set(indexes))
    assert told()[1:] == read(agent, f"since={indexes[0]}")
    only = read(agent, f"since={start}&kind=kv&prefix=b/")
    assert [[change["Key"] for change in document] for _, _, document in only] == [[f"b/{name}"]]


def test_bad_questions(cluster: Cluster) -> None:
    agent = cluster["c1"]
    assert agent.http("GET", "/v1/ctl/changes?since=x").status == 400
    assert "Unknown kind" in agent.http("GET", "/v1/ctl/changes?kind=zork").text
    assert agent.http("GET", "/v1/ctl/changes?dc=nowhere").status == 500


def test_following_over_a_restart_of_the_agent_loses_and_doubles_nothing(cluster: Cluster) -> None:
    agent = cluster["c1"]
    command = [*CTL, "changes", "-f", "--kind", "kv", "--prefix", "f/", "-o", "json"]
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": agent.base}
    follower = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert follower.stdout is not None
    server = cluster["s1"]
    try:
        seen: list[dict[str, Any]] = []
        values = map(str, itertools.count())  # another one each time: the same again is no change
        until("it follows", lambda: server.put("/v1/kv/f/0", next(values)) and _ready(follower))
        while not seen or seen[-1]["Key"] != "f/1":
            if not seen:
                server.put("/v1/kv/f/1", "x")
            seen.append(json.loads(follower.stdout.readline()))
        agent.kill9()
        for number in range(2, 30):
            server.put(f"/v1/kv/f/{number}", "x")
        agent.start()
        server.put("/v1/kv/f/last", "x")
        while seen[-1]["Key"] != "f/last":
            seen.append(json.loads(follower.stdout.readline()))
    finally:
        follower.terminate()
        follower.wait()
    after = [one["Key"] for one in seen if one["Key"] not in ("f/0", "f/1")]
    assert after == [f"f/{number}" for number in range(2, 30)] + ["f/last"]


def _ready(process: subprocess.Popen[bytes]) -> bool:
    import select

    return bool(select.select([process.stdout], [], [], 0)[0])


def test_the_command_without_following(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster["s1"]
    agent.put("/v1/kv/once", "1")
    since = agent.http("GET", "/v1/kv/once").consul_index - 1
    done = agent.ctl("changes", "--since", str(since), "--prefix", "once")
    assert done.returncode == 0 and b"set    kv      once = 1" in done.stdout
    assert agent.ctl("changes").returncode == 1
