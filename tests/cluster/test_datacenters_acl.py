"""Access control over datacenters: dc1 owns the ACLs, dc2 copies them with the tokens, dc3 asks for those."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Cluster, Node
from tests.cluster.test_datacenters import QUICK, addresses
from tests.harness import Response, until

ROOT = "5f0d8b2e-1111-4a7b-9c3d-000000000001"
TTL = {"token_ttl": "1s", "policy_ttl": "1s", "role_ttl": "1s"}


class Federation(NamedTuple):
    """The primary datacenter, one with copies of tokens, one without."""

    dc1: Cluster
    dc2: Cluster
    dc3: Cluster


def _cluster(folder: Path, name: str, primary: str, clients: int = 0, **acl: Any) -> Cluster:
    place = folder / name
    place.mkdir()
    tokens = {"agent": ROOT, "replication": ROOT, "dns": ROOT}
    if not primary:
        tokens["initial_management"] = ROOT
    config = {
        "datacenter": name,
        "primary_datacenter": "dc1",
        "retry_join_wan": [primary] if primary else [],
        "gossip_wan": QUICK,
        "actions": {"where": {"args": ["/bin/sh", "-c", f"echo {name} $CTL_NODE"]}},
        "acl": {"enabled": True, "default_policy": "deny", "tokens": tokens, **TTL, **acl},
    }
    found = Cluster(place, servers=1, clients=clients, config=config)
    for agent in found.agents:
        agent.token = ROOT
    return found


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("acls")
    dc1 = _cluster(folder, "dc1", "")
    address = dc1["s1"].address
    dc2 = _cluster(folder, "dc2", address, enable_token_replication=True)
    dc3 = _cluster(folder, "dc3", address, clients=1)
    found = Federation(dc1, dc2, dc3)
    try:
        for cluster in found:
            cluster.start(wait=False)
        for cluster in found:
            cluster.settle()
        _wait_copied(found)
        yield found
    finally:
        for cluster in found:
            cluster.end()


def _status(agent: Node) -> dict[str, Any]:
    found: dict[str, Any] = agent.get("/v1/acl/replication")
    return found


def _wait_copied(federation: Federation) -> None:
    until("tokens were copied", lambda: _status(federation.dc2["s1"])["ReplicatedTokenIndex"])
    until("policies were copied", lambda: _status(federation.dc3["s1"])["ReplicatedIndex"])


def _everywhere(federation: Federation) -> list[Node]:
    return [agent for cluster in federation for agent in cluster.agents]


def _as(agent: Node, secret: str, path: str, method: str = "GET", body: bytes = b"") -> Response:
    return agent.http(method, path, body, headers={"X-Consul-Token": secret}, timeout=30)


def _seen(answer: Response) -> bool:
    return answer.status == 200 and bool(answer.json())


def _policy(agent: Node, name: str, rules: str) -> str:
    made = agent.put("/v1/acl/policy", {"Name": name, "Rules": rules})
    identity: str = made.json()["ID"]
    return identity


def _token(agent: Node, policy: str, **more: Any) -> dict[str, Any]:
    made = agent.put("/v1/acl/token", {"Policies": [{"ID": policy}], **more})
    assert made.status == 200, made.text
    found: dict[str, Any] = made.json()
    return found


def test_the_status_of_copying(federation: Federation) -> None:
    assert _status(federation.dc1["s1"])["Enabled"] is False
    status = _status(federation.dc2["s1"])
    assert (status["Enabled"], status["Running"], status["SourceDatacenter"]) == (True, True, "dc1")
    assert status["ReplicationType"] == "tokens" and status["LastSuccess"] > "2020"
    for agent in federation.dc3.agents:
        status = _status(agent)
        assert (status["ReplicationType"], status["ReplicatedTokenIndex"]) == ("policies", 0)


@pytest.mark.parametrize("asked", ["dc1/s1", "dc2/s1", "dc3/s1", "dc3/c1"])
def test_changes_of_what_holds_everywhere_are_made_in_the_primary(federation: Federation, asked: str) -> None:
    name, _, node = asked.partition("/")
    clusters = dict(zip(("dc1", "dc2", "dc3"), federation, strict=True))
    agent = clusters[name][node]
    word = asked.replace("/", "-")
    policy = _policy(agent, f"p-{word}", f'key_prefix "{word}" {{ policy = "write" }}')
    role = agent.put("/v1/acl/role", {"Name": f"r-{word}", "Policies": [{"ID": policy}]}).json()["ID"]
    made = agent.put("/v1/acl/token", {"Roles": [{"ID": role}]}).json()
    assert made["Local"] is False
    assert federation.dc1["s1"].get(f"/v1/acl/token/{made['AccessorID']}")["Roles"][0]["ID"] == role
    for other in _everywhere(federation):
        path = f"/v1/kv/{word}/{other.cluster.folder.name}-{other.name}"
        until("it may write", lambda o=other, p=path: _as(o, made["SecretID"], p, "PUT").status == 200)
        assert _as(other, made["SecretID"], "/v1/kv/other", "PUT").status == 403
        until("the role is there", lambda o=other: o.http("GET", f"/v1/acl/role/{role}").status == 200)
    # What is changed and deleted follows.
    agent.put(f"/v1/acl/policy/{policy}", {"ID": policy, "Name": f"p-{word}", "Rules": ""})
    for other in _everywhere(federation):
        path = f"/v1/kv/{word}/late"
        until("it may not", lambda o=other, p=path: _as(o, made["SecretID"], p, "PUT").status == 403)
    assert agent.http("DELETE", f"/v1/acl/token/{made['AccessorID']}").status == 200
    for other in _everywhere(federation):
        until(
            "it is gone",
            lambda o=other: "ACL not found" in _as(o, made["SecretID"], "/v1/acl/token/self").text,
        )
    agent.http("DELETE", f"/v1/acl/role/{role}")
    agent.http("DELETE", f"/v1/acl/policy/{policy}")
    for other in _everywhere(federation):
        until("no policy", lambda o=other: o.http("GET", f"/v1/acl/policy/{policy}").status == 403)


def test_tokens_of_one_datacenter(federation: Federation) -> None:
    """They are valid there, and elsewhere nobody hears of them."""
    dc1, dc2, dc3 = federation
    policy = _policy(dc1["s1"], "local", 'key_prefix "" { policy = "write" }')
    until("it is copied", lambda: dc2["s1"].http("GET", f"/v1/acl/policy/{policy}").status == 200)
    made = _token(dc2["s1"], policy, Local=True)
    secret = made["SecretID"]
    assert _as(dc2["s1"], secret, "/v1/kv/mine", "PUT").json() is True
    for agent in (dc1["s1"], *dc3.agents):
        assert _as(agent, secret, "/v1/kv/mine").status == 403
        assert secret not in str(agent.get("/v1/acl/tokens"))
    # Sent to another datacenter without the token, a request is nobody's.
    answer = _as(dc2["s1"], secret, "/v1/kv/mine?dc=dc1", "PUT")
    assert answer.status == 403 and "ACL not found" not in answer.text
    assert "anonymous" in answer.text or "Permission denied" in answer.text
    refused = dc3["s1"].http("PUT", "/v1/acl/token", b'{"Local": true}')
    assert refused.status == 500 and "Local tokens are disabled" in refused.text
    assert dc2["s1"].http("DELETE", f"/v1/acl/token/{made['AccessorID']}").status == 200
    assert _as(dc2["s1"], secret, "/v1/kv/mine").status == 403


def test_logins_need_tokens_of_the_datacenter(federation: Federation) -> None:
    answer = federation.dc3["s1"].http("POST", "/v1/acl/login", b'{"AuthMethod": "m", "BearerToken": "x"}')
    text = "Token replication is required for auth methods to function"
    assert text in answer.text
    for agent in federation.dc3.agents:
        answer = agent.http("GET", "/v1/acl/auth-methods")
        assert answer.status == 500 and text in answer.text


def test_config_entries_are_the_primary_datacenters(federation: Federation) -> None:
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    assert federation.dc3["c1"].put("/v1/config", entry).json() is True
    for agent in _everywhere(federation):
        path = "/v1/config/service-defaults/web"
        until("it is copied", lambda a=agent, p=path: a.http("GET", p).status == 200)
        assert agent.get(path)["Protocol"] == "http"
    federation.dc2["s1"].put("/v1/config", {**entry, "Protocol": "grpc"})
    for agent in _everywhere(federation):
        until("it changed", lambda a=agent, p=path: a.get(p)["Protocol"] == "grpc")
    assert federation.dc3["s1"].http("DELETE", path).status == 200
    for agent in _everywhere(federation):
        until("it is gone", lambda a=agent, p=path: a.http("GET", p).status == 404)


def test_actions_run_in_another_datacenter(federation: Federation) -> None:
    """The token is judged there, and the nodes are those of there."""
    nodes = "/v1/catalog/nodes?dc=dc2"
    for asked in (federation.dc1["s1"], federation.dc3["c1"]):
        words = ("exec", "-datacenter", "dc2", "-verbose", "-o", "json", "where")
        done = asked.ctl(*words, CONSUL_HTTP_TOKEN=ROOT)
        assert done.returncode == 0, done.stderr
        assert b"dc2 s1" in done.stdout and b"dc1" not in done.stdout
        policy = _policy(
            federation.dc1["s1"], f"none-{asked.cluster.folder.name}", 'node_prefix "" { policy = "read" }'
        )
        secret = _token(federation.dc1["s1"], policy)["SecretID"]
        until("token and policy are known", lambda a=asked, s=secret: _seen(_as(a, s, nodes)))
        refused = asked.ctl(*words, CONSUL_HTTP_TOKEN=secret)
        assert refused.returncode == 1 and b"Permission denied" in refused.stderr
        assert b"dc2 s1" not in refused.stdout
    gone = federation.dc1["s1"].ctl("exec", "-datacenter", "nowhere", "where", CONSUL_HTTP_TOKEN=ROOT)
    assert gone.returncode == 1 and b"No path to datacenter" in gone.stderr


def test_names_need_a_token(federation: Federation) -> None:
    """Also where only the primary datacenter knows the token of DNS."""
    for agent in _everywhere(federation):
        for name, cluster in zip(("dc1", "dc2", "dc3"), federation, strict=True):
            wanted = {cluster["s1"].address}
            until("it is seen", lambda a=agent, n=name, w=wanted: addresses(a, f"s1.node.{n}.consul") == w)


def test_the_first_question_with_a_new_token_waits_for_its_judge(federation: Federation) -> None:
    """Where only the primary datacenter knows it, too: it is no failure of the server's."""
    server = federation.dc3["s1"]
    policy = _policy(federation.dc1["s1"], "names", 'node_prefix "" { policy = "read" }')
    until("it is copied", lambda: server.http("GET", f"/v1/acl/policy/{policy}").status == 200)
    for _ in range(3):
        secret = _token(federation.dc1["s1"], policy)["SecretID"]
        server.put("/v1/agent/token/dns", {"Token": secret})
        assert addresses(server, "s1.node.consul") == {server.address}
    server.put("/v1/agent/token/dns", {"Token": ROOT})


def test_the_primary_datacenter_is_lost_and_returns(federation: Federation) -> None:
    dc1, dc2, dc3 = federation
    policy = _policy(dc1["s1"], "kv", 'key_prefix "kv/" { policy = "write" }')
    secret = _token(dc1["s1"], policy)["SecretID"]
    local = [dc2["s1"], *dc3.agents]
    for agent in local:
        until("it may", lambda a=agent: _as(a, secret, "/v1/kv/kv/a", "PUT").status == 200)
    dc1.kill9([dc1["s1"]])
    until("gossip knows", lambda: _is_down(dc2["s1"]) and _is_down(dc3["s1"]), 30)
    end = time.monotonic() + 3  # longer than tokens are remembered without asking
    while time.monotonic() < end:
        for agent in local:
            began = time.monotonic()
            assert _as(agent, secret, "/v1/kv/kv/a?raw", "PUT", b"x").json() is True
            assert _as(agent, secret, "/v1/kv/kv/a?raw&consistent").text == "x"
            assert time.monotonic() - began < 3
    for agent in local:
        refused = agent.http("PUT", "/v1/acl/policy", b'{"Name": "late"}', timeout=30)
        assert refused.status == 500 and "Remote DC has no server currently reachable" in refused.text
    # dc2 knows all tokens, dc3 cannot tell.
    assert "ACL not found" in _as(dc2["s1"], "nobody", "/v1/kv/kv/a").text
    for agent in dc3.agents:
        assert _as(agent, "nobody", "/v1/kv/kv/a").status == 403
    until("the status says so", lambda: _status(dc2["s1"])["LastError"] > _status(dc2["s1"])["LastSuccess"])
    dc1["s1"].start()
    late = until("it can be changed again", lambda: _try_policy(dc2["s1"]), 40)
    for agent in _everywhere(federation):
        until("it is copied", lambda a=agent: a.http("GET", f"/v1/acl/policy/{late}").status == 200, 40)
    until("the status is good", lambda: _status(dc2["s1"])["LastSuccess"] > _status(dc2["s1"])["LastError"])


def _is_down(agent: Node) -> bool:
    return any(one["Name"] == "s1.dc1" and one["Status"] == 4 for one in agent.get("/v1/agent/members?wan=1"))


def _try_policy(agent: Node) -> str:
    made = agent.http("PUT", "/v1/acl/policy", b'{"Name": "late"}')
    return str(made.json()["ID"]) if made.status == 200 else ""
