"""`ctl acl` against a real agent: from the first token to a login, as an operator does it."""

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness import Agent, until

ACLS = 'acl { enabled = true default_policy = "deny" }'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """An agent that refuses whoever has no token, itself included."""
    agent = Agent(tmp_path_factory.mktemp("guarded"), flags=["-hcl", ACLS])
    agent.start(wait=False)
    try:
        agent.wait_http()
        yield agent
    finally:
        agent.end()


@pytest.fixture(scope="module")
def root(guarded):
    """The first token; its like is refused until there is a leader."""

    def made():
        return guarded.http("PUT", "/v1/acl/bootstrap")

    found = until("the first token", lambda: (answer := made()).status == 200 and answer.json())
    return found["SecretID"]


@pytest.fixture
def ok(ctl, guarded, root, monkeypatch):
    """Run a command with the first token and give what it prints."""
    monkeypatch.setenv("CTL_HTTP_ADDR", guarded.base)
    monkeypatch.setenv("CTL_HTTP_TOKEN", root)

    def call(*words, stdin=b""):
        result = ctl(*words, stdin=stdin)
        assert (result.code, result.err) == (0, ""), words
        return result.out

    return call


def field(text, name):
    return next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":"))


def test_bootstrap_only_once(ctl, ok):
    result = ctl("acl", "bootstrap")
    assert result.code == 1
    assert result.err.startswith(
        "Failed ACL bootstrapping: Unexpected response code: 403 "
        "(Permission denied: ACL bootstrap no longer allowed (reset index: "
    )


def test_from_policies_to_verdicts(ctl, ok):
    policy = field(
        ok("acl", "policy", "create", "-name=kvr", '-rules=key_prefix "a/" { policy = "read" }'), "ID"
    )
    assert f"\nkvr:\n   ID:           {policy}\n" in ok("acl", "policy", "list")
    role = field(ok("acl", "role", "create", "-name=reader", f"-policy-id={policy[:13]}"), "ID")
    created = ok("acl", "token", "create", "-description=t1", "-role-name=reader", "-service-identity=web")
    accessor, secret = field(created, "AccessorID"), field(created, "SecretID")
    assert created.endswith(f"Roles:\n   {role} - reader\nService Identities:\n   web (Datacenters: all)\n\n")
    assert secret not in ok("acl", "token", "list")

    verdict = ok("acl", "why", "-token", secret, "key:read", "a/b")
    assert verdict.endswith(
        'Answer:   allowed\nPolicy:   kvr\nRule:     key_prefix "a/" { policy = "read" }\n'
    )
    for words in (("key:write", "a/b"), ("key:read", "b"), ("agent:read", "n1")):
        assert ctl("acl", "why", "-accessor", accessor[:13], *words).code == 1
    assert 'Rule:     service "web" { policy = "write" }' in ok(
        "acl", "why", "-accessor", accessor, "service:write", "web"
    )
    refused = ctl("kv", "put", "-token", secret, "a/b", "1")
    assert refused.code == 1
    assert f"token with AccessorID '{accessor}' lacks permission 'key:write'" in refused.err

    ok("acl", "policy", "update", "-name=kvr", '-rules=key_prefix "a/" { policy = "write" }')
    until("the new rules hold", lambda: ctl("kv", "put", "-token", secret, "a/b", "1").code == 0)
    expanded = ok("acl", "token", "read", "-expanded", "-accessor-id", accessor)
    assert '\t\t\t\t\tkey_prefix "a/" { policy = "write" }\n' in expanded
    assert "Default Policy:    deny\n" in expanded

    clone = field(ok("acl", "token", "clone", "-accessor-id", accessor), "SecretID")
    assert field(ok("acl", "token", "read", "-self", "-token", clone), "Description") == "t1"
    ok("acl", "token", "update", "-accessor-id", accessor, "-append-policy-name=global-management")
    changed = json.loads(ok("acl", "token", "read", "-accessor-id", accessor, "-o", "json"))
    assert [link["Name"] for link in changed["Policies"]] == ["global-management"]
    assert [link["Name"] for link in changed["Roles"]] == ["reader"]
    assert changed["ServiceIdentities"] == [{"ServiceName": "web"}]

    assert (
        ok("acl", "token", "delete", "-accessor-id", accessor) == f'Token "{accessor}" deleted successfully\n'
    )
    ok("acl", "role", "delete", "-name=reader")
    ok("acl", "policy", "delete", "-name=kvr")
    assert ctl("acl", "role", "read", "-name=reader").err == 'Role not found with name "reader"\n'
    assert ctl("acl", "policy", "read", f"-id={policy}").code == 1


def test_the_agents_own_token(ok):
    """Only the agent itself tells its tagged addresses, and without a token it may not."""

    def addresses():
        return json.loads(ok("catalog", "nodes", "-o", "json"))[0]["TaggedAddresses"]

    assert not addresses()
    ok("acl", "policy", "create", "-name=agents", '-rules=node_prefix "" { policy = "write" }')
    secret = ok("acl", "token", "create", "-policy-name=agents", "--quiet").strip()
    assert ok("acl", "set-agent-token", "agent", secret) == 'ACL token "agent" set successfully\n'
    until("the agent has told of itself", addresses)


def test_templates(ok):
    assert ok("acl", "templated-policy", "list").splitlines()[:2] == ["builtin/api-gateway", "builtin/dns"]
    shown = ok("acl", "templated-policy", "read", "-name=builtin/node")
    assert "\tName: String - Required - The name of the node.\n" in shown
    preview = ok("acl", "templated-policy", "preview", "-name=builtin/service", "-var=name:api")
    assert 'service "api" {' in preview
    token = ok("acl", "token", "create", "-templated-policy=builtin/service", "-var=name:api", "-quiet")
    assert "service:write api" in ok("acl", "why", f"-token={token.strip()}", "service:write", "api")


def test_login_and_logout(ctl, ok, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    config = {
        "JWTValidationPubKeys": [public.decode()],
        "JWTSupportedAlgs": ["ES256"],
        "BoundIssuer": "ci",
        "ClaimMappings": {"project": "project"},
    }
    made = ok(
        *("acl", "auth-method", "create", "-type=jwt", "-name=ci", "-max-token-ttl=1h", "-config=-"),
        stdin=json.dumps(config).encode(),
    )
    assert field(made, "MaxTokenTTL") == "1h0m0s"
    rule = field(
        ok(
            *("acl", "binding-rule", "create", "-method=ci", "-bind-name=${value.project}"),
            "-selector=value.project == shop",
        ),
        "ID",
    )
    claims = {"iss": "ci", "iat": int(time.time()), "exp": int(time.time()) + 300}
    credential, sink = tmp_path / "job.jwt", tmp_path / "sink"
    credential.write_text(jwt.encode({**claims, "project": "shop"}, key, "ES256"))
    words = ["login", "-method=ci", f"-bearer-token-file={credential}", f"-token-sink-file={sink}"]
    assert ok(*words) == ""
    own = ok("acl", "token", "read", "-self", f"-token-file={sink}")
    assert "\nAuth Method:      ci (Namespace: )\n" in own
    assert "   shop (Datacenters: all)\n" in own
    assert ok("logout", f"-token-file={sink}") == ""
    assert ctl("acl", "token", "read", "-self", f"-token-file={sink}").code == 1

    credential.write_text(jwt.encode({**claims, "project": "other"}, key, "ES256"))
    sink.unlink()
    refused = ctl(*words)
    assert refused.code == 1
    assert refused.err.startswith("Error logging in: Unexpected response code: 403 (Permission denied")
    assert not sink.exists()

    ok("acl", "binding-rule", "update", f"-id={rule[:13]}", "-selector=")
    assert ok(*words) == ""
    ok("acl", "auth-method", "delete", "-name=ci")
    assert ok("acl", "binding-rule", "list") == ""
    assert ctl("acl", "token", "read", "-self", f"-token-file={sink}").code == 1
