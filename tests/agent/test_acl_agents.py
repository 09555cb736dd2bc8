"""A server and a client agent with ACLs that deny by default: what tokens may do, at once and everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.harness import Agent, Response, until

ROOT = "11110000-0000-0000-0000-000000000001"
RECOVERY = "11110000-0000-0000-0000-000000000002"
ACL: dict[str, Any] = {"enabled": True, "default_policy": "deny", "token_ttl": "1s", "policy_ttl": "1s"}
RULES = 'key_prefix "team/" { policy = "write" } key_prefix "team/secret" { policy = "deny" }'


class Pair(NamedTuple):
    """The agents, and the two ways to the same state."""

    server: Agent
    client: Agent

    def make(self, rules: str) -> dict[str, Any]:
        """A token with one policy of its own."""
        name = f"p{abs(hash(rules)) % 10**9}"
        send(self.server, "PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = send(self.server, "PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        assert made.status == 200, made.text
        token: dict[str, Any] = made.json()
        return token


def send(agent: Agent, method: str, path: str, body: Any = None, token: str = ROOT) -> Response:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return agent.http(method, path, data, {"X-Consul-Token": token})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    tokens = {"initial_management": ROOT, "agent": ROOT}
    config = {"acl": {**ACL, "tokens": tokens}, "node_name": "s1"}
    with Agent(tmp_path_factory.mktemp("server"), config=config, token=ROOT) as server:
        config = {
            "acl": {
                **ACL,
                "enable_token_persistence": True,
                "tokens": {"agent": ROOT, "agent_recovery": RECOVERY},
            },
            "node_name": "c1",
            "server": False,
            "retry_join": [server.address],
        }
        client = Agent(tmp_path_factory.mktemp("client"), dev=False, config=config, token=ROOT)
        client._flags = [flag for flag in client._flags if flag not in ("--server", "--bootstrap")]
        with client:
            yield Pair(server, client)


def test_rules_hold_at_both_agents(pair: Pair) -> None:
    secret = pair.make(RULES)["SecretID"]
    for agent in pair:
        assert send(agent, "PUT", "/v1/kv/team/a", b"1", secret).json() is True
        assert send(agent, "GET", "/v1/kv/team/a?raw", token=secret).text == "1"
        for token in (secret, ""):
            refused = send(agent, "PUT", "/v1/kv/team/secret/a", b"1", token)
            assert refused.status == 403 and "Permission denied" in refused.text
        assert send(agent, "GET", "/v1/kv/team/a", token="no such token").text.endswith("ACL not found")
        assert send(agent, "GET", "/v1/kv/x").headers["x-consul-default-acl-policy"] == "deny"


def test_a_refusal_names_what_is_missing_and_who_refused(pair: Pair) -> None:
    token = pair.make(RULES)
    refused = send(pair.server, "PUT", "/v1/kv/other", b"1", token["SecretID"])
    assert refused.text == (
        f"Permission denied: token with AccessorID '{token['AccessorID']}' lacks permission 'key:write' "
        'on "other" (refused by "s1")'
    )
    assert "anonymous token" in send(pair.server, "GET", "/v1/kv/other", token="").text


def test_a_deleted_token_is_refused_at_once(pair: Pair) -> None:
    token = pair.make(RULES)
    secret = token["SecretID"]
    send(pair.server, "PUT", "/v1/kv/team/b", b"1")
    for _ in range(3):  # the second and third time from memory
        assert send(pair.server, "GET", "/v1/kv/team/b?raw", token=secret).text == "1"
    assert send(pair.client, "GET", "/v1/kv/team/b?raw", token=secret).text == "1"
    assert send(pair.server, "DELETE", f"/v1/acl/token/{token['AccessorID']}").status == 200
    for agent in pair:
        assert send(agent, "GET", "/v1/kv/team/b?raw", token=secret).status == 403


def test_a_changed_policy_counts_at_once(pair: Pair) -> None:
    policy = send(
        pair.server, "PUT", "/v1/acl/policy", {"Name": "x", "Rules": 'key "k" { policy = "read" }'}
    ).json()
    secret = send(pair.server, "PUT", "/v1/acl/token", {"Policies": [{"Name": "x"}]}).json()["SecretID"]
    send(pair.server, "PUT", "/v1/kv/k", b"1")
    assert send(pair.server, "GET", "/v1/kv/k?raw", token=secret).text == "1"
    send(
        pair.server,
        "PUT",
        f"/v1/acl/policy/{policy['ID']}",
        {"Name": "x", "Rules": 'key "z" { policy = "read" }'},
    )
    assert send(pair.server, "GET", "/v1/kv/k?raw", token=secret).status == 403


def test_what_the_client_agent_itself_judges(pair: Pair) -> None:
    secret = pair.make('agent "c1" { policy = "read" }')["SecretID"]
    assert send(pair.client, "GET", "/v1/agent/self", token=secret).status == 200
    assert send(pair.server, "GET", "/v1/agent/self", token=secret).status == 403
    refused = send(pair.client, "GET", "/v1/agent/self", token="")
    assert refused.status == 403 and refused.text.startswith("Permission denied")
    assert send(pair.client, "GET", "/v1/agent/self", token="none").text == "ACL not found"
    assert send(pair.client, "GET", "/v1/agent/self", token=RECOVERY).status == 200
    assert send(pair.server, "GET", "/v1/agent/self", token=RECOVERY).status == 403


def test_agents_register_themselves_with_their_token(pair: Pair) -> None:
    def names() -> set[str]:
        return {node["Node"] for node in send(pair.server, "GET", "/v1/catalog/nodes").json()}

    until("both nodes", lambda: names() >= {"s1", "c1"})


def test_the_default_token_can_be_set_and_is_kept(pair: Pair) -> None:
    secret = pair.make(RULES)["SecretID"]
    send(pair.server, "PUT", "/v1/kv/team/c", b"1")
    assert send(pair.client, "GET", "/v1/kv/team/c?raw", token="").status == 403
    assert send(pair.client, "PUT", "/v1/agent/token/default", {"Token": secret}).status == 200
    assert send(pair.client, "GET", "/v1/kv/team/c?raw", token="").text == "1"
    file = pair.client.data_dir / "acl-tokens.json"
    assert json.loads(file.read_bytes()) == {"default": secret}
    assert file.stat().st_mode & 0o777 == 0o600
    assert send(pair.client, "PUT", "/v1/agent/token/default", {"Token": ""}).status == 200
    assert send(pair.client, "GET", "/v1/kv/team/c?raw", token="").status == 403
    assert json.loads(file.read_bytes()) == {}


def test_a_default_token_at_the_server_counts_at_once(pair: Pair) -> None:
    send(pair.server, "PUT", "/v1/kv/team/d", b"1")
    secret = pair.make(RULES)["SecretID"]
    for wanted, status in ((secret, 200), ("", 403)):
        assert send(pair.server, "PUT", "/v1/agent/token/default", {"Token": wanted}).status == 200
        for _ in range(3):
            assert send(pair.server, "GET", "/v1/kv/team/d?raw", token="").status == status


def test_no_secret_is_in_the_log(pair: Pair) -> None:
    secret = pair.make(RULES)["SecretID"]
    for agent in pair:
        assert agent.http("GET", f"/v1/kv/team/a?token={secret}").status in (200, 404)
        log = agent.log_path.read_text()
        assert not [line for line in log.splitlines() if secret in line or ROOT in line or RECOVERY in line]


def test_an_answer_at_hand_is_not_for_a_token_that_is_gone(pair: Pair) -> None:
    send(pair.server, "PUT", "/v1/catalog/register", {"Node": "hidden", "Address": "10.9.9.9"})
    token = pair.make('node_prefix "" { policy = "read" } ')

    def cached() -> Response:
        return send(pair.client, "GET", "/v1/catalog/nodes?cached", token=token["SecretID"])

    assert "hidden" in cached().text and cached().headers["x-cache"] == "HIT"
    assert send(pair.server, "DELETE", f"/v1/acl/token/{token['AccessorID']}").status == 200
    until("it is refused", lambda: cached().status == 403)


def test_a_long_archive_is_not_taken_in_for_somebody_who_may_not_restore_it(pair: Pair) -> None:
    refused = send(pair.server, "PUT", "/v1/snapshot", b"x" * (4 << 20), token="")
    assert refused.status == 403 and "acl:write" in refused.text
    wrong = send(pair.server, "PUT", "/v1/snapshot", b"x" * (4 << 20))
    assert wrong.status == 500, "who may is told what is wrong with it"


def test_a_token_that_is_known_outlasts_the_servers(pair: Pair) -> None:
    """The last test here: it ends the server. acl.down_policy is extend-cache."""
    secret = pair.make('agent "c1" { policy = "read" }')["SecretID"]
    assert send(pair.client, "GET", "/v1/agent/self", token=secret).status == 200
    pair.server.kill9()

    def asked_in_vain() -> bool:
        assert send(pair.client, "GET", "/v1/agent/self", token=secret).status == 200
        return "cannot resolve a token" in pair.client.log_text()

    until("acl.token_ttl is over", asked_in_vain)
    assert send(pair.client, "GET", "/v1/agent/self", token="never seen before").status == 403
    assert send(pair.client, "GET", "/v1/agent/self", token=RECOVERY).status == 200
