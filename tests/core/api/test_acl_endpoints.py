"""Tokens, policies, roles, the first token, templates: what endpoints take and refuse, here and through RPC.

The conformance scenarios hold the common ways; here is the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from core.acl.settings import AclSettings
from core.codec import wire
from core.store import commands
from core.store.acl_structs import ACLToken, ACLTokenBatchSetRequest
from tests.core.api.acl_kit import ROOT, SETTINGS, Client, PretendedServer

NOBODY = ""
GONE = "99999999-9999-9999-9999-999999999999"


@pytest.fixture(params=[False, True], ids=["here", "rpc"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(PretendedServer(), remote=request.param)


# --- tokens


def test_a_token_brings_its_ids_along(client: Client) -> None:
    accessor, secret = "0badc0de-0000-0000-0000-000000000001", "0badc0de-0000-0000-0000-000000000002"
    made = client.token(AccessorID=accessor, SecretID=secret, Description="d")
    assert (made["AccessorID"], made["SecretID"]) == (accessor, secret)
    assert client.ok("GET", "/v1/acl/token/self", token=secret) == made
    create = ("PUT", "/v1/acl/token")
    assert client.refused(*create, {"AccessorID": accessor}) == (
        "500 Invalid Token: AccessorID is already in use"
    )
    assert (
        client.refused(*create, {"AccessorID": secret}) == "500 Invalid Token: AccessorID is already in use"
    )
    assert client.refused(*create, {"SecretID": secret}) == "500 Invalid Token: SecretID is already in use"
    assert client.refused(*create, {"SecretID": "x"}) == "500 Invalid Token: SecretID is not a valid UUID"
    wrong = "500 Failed acl token lookup by accessor: failed acl token lookup: index error: "
    assert client.refused(*create, {"AccessorID": "x"}) == f"{wrong}UUID must be 36 characters"
    assert client.refused("PUT", "/v1/acl/token/x", {}) == f"{wrong}UUID must be 36 characters"
    assert client.refused(*create, {"AccessorID": "0" * 36}) == (
        "500 Invalid Token: AccessorID is not a valid UUID"
    )
    loud = client.token(AccessorID="0BADC0DE-0000-0000-0000-000000000003")
    assert loud["AccessorID"] == "0BADC0DE-0000-0000-0000-000000000003", "kept as given, found in any case"
    assert client.ok("GET", f"/v1/acl/token/{loud['AccessorID'].lower()}") == loud
    reserved = {"AccessorID": "00000000-0000-0000-0000-000000000007"}
    assert "are reserved" in client.refused(*create, reserved)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"ExpirationTTL": "30s"}, "500 ExpirationTime cannot be less than 1m0s in the future (was 30s)"),
        (
            {"ExpirationTTL": "25h"},
            "500 ExpirationTime cannot be more than 24h0m0s in the future (was 25h0m0s)",
        ),
        ({"ExpirationTTL": "-5s"}, "500 Token Expiration TTL '-5s' should be > 0"),
        ({"ExpirationTime": "2001-01-01T00:00:00Z"}, "500 ExpirationTime cannot be before CreateTime"),
        (
            {"ExpirationTTL": "5m", "ExpirationTime": "2033-01-01T00:00:00Z"},
            "500 Token Expiration TTL and Expiration Time cannot both be set",
        ),
        ({"AuthMethod": "x"}, "500 AuthMethod field is disallowed outside of Login"),
        ({"Rules": "x"}, "500 Rules cannot be specified for this token"),
        ({"Policies": [{"Name": "no"}]}, '500 No such ACL policy with name "no"'),
        ({"Policies": [{"ID": GONE}]}, f'500 No such ACL policy with ID "{GONE}"'),
        ({"Roles": [{"Name": "no"}]}, '500 No such ACL role with name "no"'),
        ({"Roles": [None]}, '500 No such ACL role with name ""'),
        (
            {"ServiceIdentities": [{}]},
            "500 Service identity is missing the service name field on this token",
        ),
        (
            {"ServiceIdentities": [{"ServiceName": "Web"}]},
            '500 Service identity "Web" has an invalid name. '
            "Only alphanumeric characters, '-' and '_' are allowed",
        ),
        (
            {"Local": True, "ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc1"]}]},
            '500 Service identity "web" cannot specify a list of datacenters on a local token',
        ),
        ({"NodeIdentities": [{}]}, "500 Node identity is missing the node name field on this token"),
        (
            {"NodeIdentities": [{"NodeName": "n"}]},
            "500 Node identity is missing the datacenter field on this token",
        ),
        ({"TemplatedPolicies": [{"TemplateName": "x"}]}, '500 no such ACL templated policy with Name "x"'),
        (
            {"TemplatedPolicies": [{"TemplateName": "builtin/service"}]},
            "500 templated policy builtin/service needs the variable Name",
        ),
        ({"Colour": 1}, '400 Bad request: Token decoding failed: json: unknown field "Colour"'),
        (
            {"Namespace": "team"},
            '400 Bad request: Token decoding failed: json: unknown field "Namespace"'
            " - Namespaces are a Consul Enterprise feature",
        ),
        ({"ExpirationTTL": "x"}, '400 Bad request: Token decoding failed: time: invalid duration "x"'),
        (b"", "400 Bad request: Token decoding failed: EOF"),
    ],
    ids=str,
)
def test_what_a_token_cannot_be(client: Client, body: Any, text: str) -> None:
    assert client.refused("PUT", "/v1/acl/token", body) == text


def test_a_time_that_is_none(client: Client) -> None:
    for value in ("x", "2020-13-01T00:00:00Z", "2020-01-01", 5, "2020-01-01T00:00:00+99:00"):
        text = client.refused("PUT", "/v1/acl/token", {"ExpirationTime": value})
        assert text.startswith("400 Bad request: Token decoding failed: parsing time ")


def test_a_token_ends(client: Client) -> None:
    made = client.token(ExpirationTTL="90s")
    assert made["ExpirationTime"] == "2023-11-14T22:14:50.25Z"
    assert "ExpirationTTL" not in made
    accessor = made["AccessorID"]
    assert client.refused("PUT", f"/v1/acl/token/{accessor}", {"ExpirationTTL": "5m"}) == (
        f"500 Cannot change expiration time of {accessor}"
    )
    later = {"ExpirationTime": "2023-11-14T22:15:50Z"}
    assert "Cannot change expiration" in client.refused("PUT", f"/v1/acl/token/{accessor}", later)
    kept = client.ok("PUT", f"/v1/acl/token/{accessor}", {"Description": "kept"})
    assert kept["ExpirationTime"] == made["ExpirationTime"]
    same = {"ExpirationTime": "2023-11-15T00:14:50.25+02:00"}  # the same moment in another zone
    assert client.ok("PUT", f"/v1/acl/token/{accessor}", same)["ExpirationTime"] == made["ExpirationTime"]
    assert accessor in [one["AccessorID"] for one in client.ok("GET", "/v1/acl/tokens")]
    client.server.now += 91
    assert accessor not in [one["AccessorID"] for one in client.ok("GET", "/v1/acl/tokens")]
    assert client.refused("GET", f"/v1/acl/token/{accessor}") == "403 ACL not found"
    assert client.refused("PUT", f"/v1/acl/token/{accessor}", {}) == f'500 Cannot find token "{accessor}"'
    assert client.refused("PUT", f"/v1/acl/token/{accessor}/clone", {}) == "403 ACL not found"
    assert client.ok("DELETE", f"/v1/acl/token/{accessor}") is True


def test_what_a_change_may_not_touch(client: Client) -> None:
    made = client.token(Description="a", Local=True)
    url = f"/v1/acl/token/{made['AccessorID']}"
    assert (
        client.refused("PUT", url, {"Local": False})
        == f"500 cannot toggle local mode of {made['AccessorID']}"
    )
    other = {"Local": True, "SecretID": GONE}
    assert client.refused("PUT", url, other) == "500 Changing a tokens SecretID is not permitted"
    method = {"Local": True, "AuthMethod": "x"}
    assert client.refused("PUT", url, method) == f"500 Cannot change AuthMethod of {made['AccessorID']}"
    assert client.refused("PUT", url, {"AccessorID": GONE}) == (
        "400 Bad request: Token Accessor ID in URL and payload do not match"
    )
    changed = client.ok("PUT", url, {**made, "Description": "b"})
    assert {**changed, "ModifyIndex": 0} == {
        **made,
        "Description": "b",
        "Hash": changed["Hash"],
        "ModifyIndex": 0,
    }
    assert changed["Hash"] != made["Hash"]


def test_who_may_not_delete_what(client: Client) -> None:
    anonymous = "/v1/acl/token/00000000-0000-0000-0000-000000000002"
    assert client.refused("DELETE", anonymous) == "500 Delete operation not permitted on the anonymous token"
    assert client.refused("DELETE", "/v1/acl/token/x") == "500 Accessor ID is missing or an invalid UUID"
    assert client.refused("DELETE", "/v1/acl/token/") == "400 Bad request: Missing token ID"
    root = client.ok("GET", "/v1/acl/token/self")["AccessorID"]
    text = "500 Deletion of the request's authorization token is not permitted"
    assert client.refused("DELETE", f"/v1/acl/token/{root}") == text


def test_secrets_are_hidden_from_readers(client: Client) -> None:
    client.policy("reader", 'acl = "read"')
    reader = client.token("reader")
    made = client.token(Description="other")
    seen = client.ok("GET", f"/v1/acl/token/{made['AccessorID']}", token=reader["SecretID"])
    assert seen == {**made, "SecretID": "<hidden>"}
    assert client.ok("GET", "/v1/acl/token/self", token=reader["SecretID"])["SecretID"] == reader["SecretID"]
    for one in client.ok("GET", "/v1/acl/tokens", token=reader["SecretID"]):
        assert "SecretID" not in one and "Rules" not in one


EVERYTHING = [
    ("GET", "/v1/acl/tokens", None),
    ("GET", f"/v1/acl/token/{GONE}", None),
    ("PUT", "/v1/acl/token", {}),
    ("PUT", f"/v1/acl/token/{GONE}", {}),
    ("PUT", f"/v1/acl/token/{GONE}/clone", {}),
    ("DELETE", f"/v1/acl/token/{GONE}", None),
    ("GET", "/v1/acl/policies", None),
    ("GET", f"/v1/acl/policy/{GONE}", None),
    ("GET", "/v1/acl/policy/name/x", None),
    ("PUT", "/v1/acl/policy", {"Name": "x"}),
    ("PUT", f"/v1/acl/policy/{GONE}", {"Name": "x"}),
    ("DELETE", f"/v1/acl/policy/{GONE}", None),
    ("GET", "/v1/acl/roles", None),
    ("GET", f"/v1/acl/role/{GONE}", None),
    ("GET", "/v1/acl/role/name/x", None),
    ("PUT", "/v1/acl/role", {"Name": "x"}),
    ("DELETE", f"/v1/acl/role/{GONE}", None),
    ("GET", "/v1/acl/auth-methods", None),
    ("GET", "/v1/acl/auth-method/x", None),
    ("PUT", "/v1/acl/auth-method", {"Name": "x", "Type": "jwt"}),
    ("DELETE", "/v1/acl/auth-method/x", None),
    ("GET", "/v1/acl/binding-rules", None),
    ("GET", f"/v1/acl/binding-rule/{GONE}", None),
    ("PUT", "/v1/acl/binding-rule", {"AuthMethod": "x"}),
    ("DELETE", f"/v1/acl/binding-rule/{GONE}", None),
    ("POST", "/v1/acl/rules/translate", b""),
    ("GET", f"/v1/acl/rules/translate/{GONE}", None),
    ("GET", "/v1/acl/templated-policies", None),
    ("GET", "/v1/acl/templated-policy/name/builtin/dns", None),
    ("POST", "/v1/acl/templated-policy/preview/builtin/dns", {}),
    ("GET", f"/v1/internal/acl/why?resource=key&name=a&access=read&accessor={GONE}", None),
    ("PUT", "/v1/acl/create", {}),
    ("PUT", "/v1/acl/update", {"ID": GONE}),
    ("PUT", f"/v1/acl/destroy/{GONE}", None),
    ("GET", "/v1/acl/list", None),
    ("PUT", "/v1/agent/token/default", {"Token": "x"}),
]


@pytest.mark.parametrize(("method", "url", "body"), EVERYTHING, ids=lambda value: str(value)[:40])
def test_nobody_may_without_a_right(client: Client, method: str, url: str, body: Any) -> None:
    """A refusal tells whose token lacks which right, after Consul's words."""
    client.policy(
        "other", 'key_prefix "" { policy = "write" } operator = "write" node_prefix "" { policy = "write" }'
    )
    other = client.token("other")
    before = len(client.server.raft.entries)
    text = client.refused(method, url, body, other["SecretID"])
    assert text.startswith("403 Permission denied: ") and other["AccessorID"] in text
    assert client.refused(method, url, body, NOBODY).startswith("403 Permission denied: ")
    assert client.refused(method, url, body, GONE) == "403 ACL not found"
    assert len(client.server.raft.entries) == before


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [*EVERYTHING, ("GET", "/v1/acl/token/self", None), ("PUT", "/v1/acl/bootstrap", None)],
    ids=lambda value: str(value)[:40],
)
def test_nothing_is_told_where_acls_are_off(method: str, url: str, body: Any) -> None:
    client = Client(PretendedServer(AclSettings(enabled=False)))
    client.server.acl = AclSettings(enabled=False)
    assert client.refused(method, url, body) == "401 ACL support disabled"


def test_servers_without_acls_refuse_the_actions_of_others(client: Client) -> None:
    client.server.acl = AclSettings(enabled=False)  # the client believes that they are on
    assert client.refused("PUT", "/v1/acl/token", {}) == "401 ACL support disabled"
    assert client.refused("PUT", "/v1/acl/bootstrap") == "401 ACL support disabled"
    assert client.refused("PUT", "/v1/acl/create", {}) == "401 ACL support disabled"


def test_lists_of_tokens(client: Client) -> None:
    first, second = client.policy("one"), client.policy("two")
    role = client.ok("PUT", "/v1/acl/role", {"Name": "r", "Policies": [{"Name": "two"}]})
    a = client.token("one")["AccessorID"]
    b = client.token(Roles=[{"Name": "r"}])["AccessorID"]
    c = client.token(ServiceIdentities=[{"ServiceName": "web"}])["AccessorID"]
    filled = {"TemplateName": "builtin/service", "TemplateVariables": {"Name": "web"}}
    d = client.token(TemplatedPolicies=[filled])["AccessorID"]

    def listed(query: str) -> list[str]:
        return [one["AccessorID"] for one in client.ok("GET", f"/v1/acl/tokens?{query}")]

    assert listed(f"policy={first}") == [a] and listed(f"policy={second}") == []
    assert listed(f"role={role['ID']}") == [b]
    assert listed("servicename=web") == sorted([c, d])
    assert listed("authmethod=none") == []
    assert len(listed("")) == 6
    both = client.refused("GET", f"/v1/acl/tokens?policy={first}&role={role['ID']}")
    assert both == "500 can only filter by one of: policy, role, auth method"
    assert listed("policy=x") == listed("role=x") == client.ok("GET", "/v1/acl/roles?policy=x") == []


def test_an_expanded_token(client: Client) -> None:
    client.policy("one", 'key "a" { policy = "read" }')
    client.policy("two", 'key "b" { policy = "read" }')
    client.ok("PUT", "/v1/acl/role", {"Name": "r", "Policies": [{"Name": "two"}, {"Name": "one"}]})
    made = client.token("one", Roles=[{"Name": "r"}], ServiceIdentities=[{"ServiceName": "web"}])
    plain = client.ok("GET", f"/v1/acl/token/{made['AccessorID']}?expanded=false")
    assert "ExpandedPolicies" not in plain
    found = client.ok("GET", f"/v1/acl/token/{made['AccessorID']}?expanded=true")
    assert [one["Name"] for one in found["ExpandedPolicies"]][::2] == ["one", "two"]
    assert 'service "web"' in found["ExpandedPolicies"][1]["Rules"]
    assert [one["Name"] for one in found["ExpandedRoles"]] == ["r"]
    assert found["ExpandedRoles"][0]["Policies"][0]["Name"] == "two"
    assert (found["AgentACLDefaultPolicy"], found["AgentACLDownPolicy"]) == ("deny", "extend-cache")
    assert found["ResolvedByAgent"] == "n1"


def test_identities_are_kept_once(client: Client) -> None:
    services = [
        {"ServiceName": "web", "Datacenters": ["dc2"]},
        {"ServiceName": "db"},
        {"ServiceName": "web", "Datacenters": ["dc1", "dc2"]},
        {"ServiceName": "db", "Datacenters": ["dc1"]},
    ]
    nodes = [{"NodeName": "n", "Datacenter": "dc1"}] * 2
    templated = [{"TemplateName": "builtin/dns"}] * 2
    links = [{"Name": "one"}, {"ID": client.policy("one")}]
    made = client.token(
        ServiceIdentities=services, NodeIdentities=nodes, TemplatedPolicies=templated, Policies=links
    )
    assert made["ServiceIdentities"] == [
        {"ServiceName": "db"},
        {"ServiceName": "web", "Datacenters": ["dc1", "dc2"]},
    ]
    assert made["NodeIdentities"] == nodes[:1]
    assert made["TemplatedPolicies"] == [{"TemplateName": "builtin/dns"}]
    assert [link["Name"] for link in made["Policies"]] == ["one"]


def test_links_to_what_is_gone_are_not_shown(client: Client) -> None:
    policy = client.policy("one")
    made = client.token("one")
    assert client.ok("PUT", f"/v1/acl/policy/{policy}", {"Name": "new"})["Name"] == "new"
    url = f"/v1/acl/token/{made['AccessorID']}"
    assert client.ok("GET", url)["Policies"] == [{"ID": policy, "Name": "new"}]
    client.ok("DELETE", f"/v1/acl/policy/{policy}")
    assert "Policies" not in client.ok("GET", url)
    assert client.stored(made["AccessorID"]).policies is not None  # the row keeps it, as in Consul
    copy = client.ok("PUT", f"{url}/clone", {"Description": "c"})
    assert "Policies" not in copy and copy["Description"] == "c"


def test_the_leader_makes_what_followers_must_not(client: Client) -> None:
    """Ids, times and hashes are in the log, names of links and secrets of whoever asked are not."""
    client.policy("one")
    client.token("one", ExpirationTTL="1h")
    entry = client.server.raft.entries[-1]
    assert entry[0] == commands.ACL_TOKEN_SET and ROOT.encode() not in entry
    request = wire.unpack(ACLTokenBatchSetRequest, entry[1:])
    (token,) = request.tokens or []
    assert token.accessor_id and token.secret_id and token.hash and token.expiration_time
    assert token.expiration_ttl == 0 and token.policies is not None and token.policies[0].name == ""


# --- policies and roles


def test_what_a_policy_cannot_be(client: Client) -> None:
    create = ("PUT", "/v1/acl/policy")
    assert "invalid Name" in client.refused(*create, {"Name": "x" * 129})
    known = client.policy("one")
    client.policy("two")
    url = f"/v1/acl/policy/{known}"
    assert client.refused("PUT", url, {"Name": "two"}) == (
        '500 Invalid Policy: A policy with name "two" already exists'
    )
    assert client.ok("PUT", url, {"Name": "ONE"})["Name"] == "ONE"  # its own name in another case
    assert client.refused("PUT", f"/v1/acl/policy/{GONE}", {"Name": "x"}) == f"500 cannot find policy {GONE}"
    assert client.refused("PUT", "/v1/acl/policy/x", {"Name": "x"}) == "500 Policy ID invalid UUID"
    mismatch = "400 Bad request: Policy ID in URL and payload do not match"
    assert client.refused("PUT", url, {"ID": GONE, "Name": "x"}) == mismatch
    builtin = "/v1/acl/policy/00000000-0000-0000-0000-000000000001"
    rules = client.ok("GET", builtin)["Rules"]
    scoped = {"Name": "global-management", "Rules": rules, "Datacenters": ["dc1"]}
    assert "Changing the Datacenters of the builtin" in client.refused("PUT", builtin, scoped)
    assert client.ok("PUT", builtin, {"Name": "root", "Rules": rules})["Name"] == "root"


def test_what_a_role_cannot_be(client: Client) -> None:
    made = client.ok("PUT", "/v1/acl/role", {"Name": "one"})
    client.ok("PUT", "/v1/acl/role", {"Name": "two"})
    url = f"/v1/acl/role/{made['ID']}"
    taken = '500 Invalid Role: A role with name "two" already exists'
    assert client.refused("PUT", url, {"Name": "two"}) == taken
    assert client.refused("PUT", f"/v1/acl/role/{GONE}", {"Name": "x"}) == f"500 cannot find role {GONE}"
    assert client.refused("PUT", "/v1/acl/role/x", {"Name": "x"}) == "500 Role ID invalid UUID"
    assert "do not match" in client.refused("PUT", url, {"ID": GONE, "Name": "x"})
    missing = {"Name": "three", "NodeIdentities": [{"NodeName": "n"}]}
    assert "missing the datacenter field on this role" in client.refused("PUT", "/v1/acl/role", missing)
    assert client.refused("GET", "/v1/acl/role/short") == (
        "500 failed acl role lookup: index error: UUID must be 36 characters"
    )


# --- the first token


def test_bootstrap(client: Client) -> None:
    made = client.ok("PUT", "/v1/acl/bootstrap", token=NOBODY)
    assert made["ID"] == made["SecretID"] and made["Description"] == "Bootstrap Token (Global Management)"
    assert made["Policies"][0]["Name"] == "global-management"
    index = made["CreateIndex"]
    again = f"403 Permission denied: ACL bootstrap no longer allowed (reset index: {index})"
    assert client.refused("PUT", "/v1/acl/bootstrap") == again
    client.server.reset = index + 1
    wrong = f"500 Invalid bootstrap reset index (specified {index + 1}, reset index: {index})"
    assert client.refused("PUT", "/v1/acl/bootstrap") == wrong
    client.server.reset = index
    second = client.ok("PUT", "/v1/acl/bootstrap", {"BootstrapSecret": GONE})
    assert second["SecretID"] == GONE
    assert client.ok("GET", "/v1/acl/token/self", token=made["SecretID"])["AccessorID"] == made["AccessorID"]
    assert "reset index" in client.refused("PUT", "/v1/acl/bootstrap")  # the file is used up


def test_a_bootstrap_secret_must_be_good(client: Client) -> None:
    for secret, text in (("short", "not a valid UUID"), (ROOT, "a token has it already")):
        refused = client.refused("PUT", "/v1/acl/bootstrap", {"BootstrapSecret": secret})
        assert refused == f"500 Invalid bootstrap secret: {text}"
    assert client.server.store.bootstrap_allowed()


# --- what rules say


def test_templates(client: Client) -> None:
    found = client.ok("GET", "/v1/acl/templated-policies")
    assert {"builtin/service", "builtin/node", "builtin/dns"} <= found.keys()
    one = client.ok("GET", "/v1/acl/templated-policy/name/builtin/service")
    assert one == found["builtin/service"] and 'service "{{.Name}}"' in one["Template"]
    assert json.loads(one["Schema"])["required"] == ["Name"]
    url = "/v1/acl/templated-policy/preview/builtin/service"
    made = client.ok("POST", url, {"name": "api"})
    assert 'service "api-sidecar-proxy"' in made["Rules"]
    assert client.refused("POST", url, {}) == (
        "400 Bad request: templated policy builtin/service needs the variable Name"
    )
    assert "invalid Name" in client.refused("POST", url, {"Name": 'x" { policy = "write" } key "'})
    missing = client.refused("GET", "/v1/acl/templated-policy/name/none")
    assert missing == "404 Invalid templated policy Name: none"


def test_authorize(client: Client) -> None:
    client.policy("p", 'key_prefix "a/" { policy = "write" }')
    secret = client.token("p")["SecretID"]
    url = "/v1/internal/acl/authorize"
    asked = [
        {"Resource": "key", "Segment": "a/b", "Access": "write"},
        {"Resource": "key", "Segment": "b", "Access": "read"},
        {"Resource": "operator", "Access": "read"},
    ]
    assert [one["Allow"] for one in client.ok("POST", url, asked, secret)] == [True, False, False]
    assert [one["Allow"] for one in client.ok("POST", url, asked)] == [True, True, True]
    assert client.ok("POST", url, []) == []
    assert client.refused("POST", url, [{"Resource": "x", "Access": "read"}]) == (
        '400 Bad request: Invalid ACL resource requested: "x"'
    )
    assert client.refused("POST", url, [{"Resource": "node", "Access": "list"}]) == (
        "400 Bad request: Invalid access level for node resource: list"
    )
    assert "more than 64" in client.refused("POST", url, [asked[0]] * 65)


def test_why(client: Client) -> None:
    client.policy("p", 'key_prefix "a/" { policy = "read" }')
    made = client.token("p")
    url = "/v1/internal/acl/why?resource=key&name=a/b&access=write"
    own = client.ok("GET", url, token=made["SecretID"])
    assert (own["Allowed"], own["Policy"], own["AccessorID"]) == (False, "p", made["AccessorID"])
    assert own["Rule"] == 'key_prefix "a/" { policy = "read" }'
    assert client.ok("GET", f"{url}&accessor={made['AccessorID']}") == own
    default = client.ok("GET", url.replace("a/b", "z"), token=made["SecretID"])
    assert (default["Allowed"], default["Policy"], default["Default"]) == (False, "", "deny")
    assert client.refused("GET", f"{url}&accessor={GONE}") == "403 ACL not found"
    assert client.refused("GET", "/v1/internal/acl/why?resource=x&access=read").startswith("400 ")


def test_agent_tokens(client: Client) -> None:
    for kind, place in (("default", "default"), ("agent_master", "agent_recovery"), ("acl_token", "default")):
        assert client.ok("PUT", f"/v1/agent/token/{kind}", {"Token": kind}) is None
        assert client.tokens.given[place] == kind
    assert client.refused("PUT", "/v1/agent/token/x", {"Token": "x"}) == '404 Token "x" is unknown'


# --- the old system


def test_tokens_of_the_old_system(client: Client) -> None:
    rules = 'key "a" { policy = "write" }'
    made = client.ok("PUT", "/v1/acl/create", {"Name": "n", "Rules": rules})["ID"]
    (seen,) = client.ok("GET", f"/v1/acl/info/{made}", token=NOBODY)
    assert (seen["Name"], seen["Type"], seen["Rules"]) == ("n", "client", rules)
    assert client.ok("PUT", "/v1/acl/update", {"ID": made, "Name": "m", "Rules": rules})["ID"] == made
    assert "m" in [one["Name"] for one in client.ok("GET", "/v1/acl/list")]
    assert client.ok("GET", f"/v1/acl/info/{ROOT}")[0]["Type"] == "management", "the first token has a type"
    copy = client.call("PUT", f"/v1/acl/clone/{made}")
    assert copy.status == 200 and copy.index > 0
    assert client.refused("PUT", f"/v1/acl/clone/{GONE}") == "403 Permission denied"
    assert client.ok("PUT", f"/v1/acl/destroy/{made}") is True
    assert client.ok("GET", f"/v1/acl/info/{made}") == []
    assert client.refused("PUT", "/v1/acl/create", {"Type": "x"}) == "500 Invalid ACL Type"
    assert client.refused("PUT", "/v1/acl/create", {"Rules": "key {"}).startswith(
        "500 ACL rule compilation failed: "
    )
    assert client.refused("PUT", "/v1/acl/update", {}) == "400 ACL ID must be set"
    assert client.refused("PUT", "/v1/acl/destroy/anonymous") == (
        "403 Permission denied: Cannot delete anonymous token"
    )
    root = client.refused("PUT", "/v1/acl/update", {"ID": ROOT})
    assert root == "500 Cannot use legacy endpoint to modify a non-legacy token"
    assert client.refused("PUT", "/v1/acl/update", {"ID": "anonymous"}) == root


def test_old_rules_of_a_token_in_todays_words(client: Client) -> None:
    accessor = "0badc0de-0000-0000-0000-000000000009"
    row = ACLToken(accessor, GONE, "old", type="client", rules='key "a" { policy = "read" }')
    client.server.put(
        commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest([row, replace(row, accessor_id="")][:1])
    )
    reply = client.call("GET", f"/v1/acl/rules/translate/{accessor}")
    assert reply.status == 200 and (reply.body or b"").startswith(b'key_prefix "a" {')
    made = client.token()
    assert client.refused("GET", f"/v1/acl/rules/translate/{made['AccessorID']}") == (
        "500 The specified token does not have any rules set"
    )
    assert client.refused("PUT", f"/v1/acl/token/{accessor}/clone", {}) == (
        "500 Cannot clone a legacy ACL with this endpoint"
    )


def test_settings_bound_how_long_tokens_last() -> None:
    hour = 3_600_000_000_000
    client = Client(PretendedServer(replace(SETTINGS, max_expiration=hour)))
    assert "cannot be more than 1h0m0s" in client.refused("PUT", "/v1/acl/token", {"ExpirationTTL": "2h"})
