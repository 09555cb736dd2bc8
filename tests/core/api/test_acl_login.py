"""Auth methods, binding rules, logins and logouts: from a credential to a token and back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.api.acl_binding import interpolate
from core.errors import Invalid
from tests.core.api.acl_kit import ROOT, Client, PretendedServer

ISSUER = "https://issuer.example"
KEYS = "https://issuer.example/keys"


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(name: str) -> str:
    return key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_set(*names: str) -> bytes:
    rows = [pyjwt.algorithms.ECAlgorithm.to_jwk(key(name).public_key(), as_dict=True) for name in names]
    return json.dumps({"keys": [{**row, "kid": n} for row, n in zip(rows, names, strict=True)]}).encode()


@pytest.fixture(params=[False, True], ids=["here", "rpc"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(PretendedServer(), remote=request.param)


def method(client: Client, config: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    maps = {"ClaimMappings": {"name": "who"}, "ListClaimMappings": {"groups": "groups"}}
    body = {
        "Name": "corp",
        "Type": "jwt",
        "Config": {**maps, **(config or {"JWTValidationPubKeys": [pem("a")]})},
        **fields,
    }
    made: dict[str, Any] = client.ok("PUT", "/v1/acl/auth-method", body)
    return made


def rule(client: Client, kind: str, name: str, selector: str = "", **fields: Any) -> dict[str, Any]:
    body = {"AuthMethod": "corp", "BindType": kind, "BindName": name, "Selector": selector, **fields}
    made: dict[str, Any] = client.ok("PUT", "/v1/acl/binding-rule", body)
    return made


def credential(client: Client, by: str = "a", **claims: Any) -> str:
    now = client.server.now
    head = {"kid": by}
    return pyjwt.encode({"iat": now, "exp": now + 60, **claims}, key(by), algorithm="ES256", headers=head)


def login(client: Client, by: str = "a", meta: dict[str, str] | None = None, **claims: Any) -> dict[str, Any]:
    body = {"AuthMethod": "corp", "BearerToken": credential(client, by, **claims), "Meta": meta}
    made: dict[str, Any] = client.ok("POST", "/v1/acl/login", body, token="")
    return made


def test_a_login_and_its_end(client: Client) -> None:
    method(client, MaxTokenTTL="10m")
    rule(client, "service", "web-${value.who}", 'value.who == "Ann"')
    made = login(client, name="Ann", meta={"pod": "p1", "a": "<b>"})
    assert made["ServiceIdentities"] == [{"ServiceName": "web-ann"}]
    assert made["Description"] == r'token created via login: {"a":"\u003cb\u003e","pod":"p1"}'
    assert made["Local"] is True and made["AuthMethod"] == "corp"
    assert made["ExpirationTime"] == "2023-11-14T22:23:20.25Z"
    assert [one["AccessorID"] for one in client.ok("GET", "/v1/acl/tokens?authmethod=corp")] == [
        made["AccessorID"]
    ]
    assert client.ok("GET", "/v1/acl/token/self", token=made["SecretID"])["AccessorID"] == made["AccessorID"]
    copy = client.refused("PUT", f"/v1/acl/token/{made['AccessorID']}/clone", {})
    assert copy == "500 Cannot clone a token created from an auth method"
    assert client.ok("POST", "/v1/acl/logout", token=made["SecretID"]) is True
    assert client.refused("POST", "/v1/acl/logout", token=made["SecretID"]) == "403 ACL not found"


def test_only_logins_are_ended_by_logout(client: Client) -> None:
    assert client.refused("POST", "/v1/acl/logout", token=ROOT).startswith("403 Permission denied")
    assert client.refused("POST", "/v1/acl/logout", token="") == "403 ACL not found"


def test_all_that_rules_can_give(client: Client) -> None:
    method(client, TokenLocality="global")
    client.policy("readers")
    client.ok("PUT", "/v1/acl/role", {"Name": "ops"})
    rule(client, "node", "n-${value.who}")
    rule(client, "role", "${value.who}s-missing")
    rule(client, "role", "ops", '"admins" in list.groups')
    rule(client, "policy", "readers", "list.groups is not empty")
    rule(client, "templated-policy", "builtin/service", BindVars={"Name": "api-${value.who}"})
    made = login(client, name="ann", groups=["users", "admins"])
    assert made["NodeIdentities"] == [{"NodeName": "n-ann", "Datacenter": "dc1"}]
    assert [link["Name"] for link in made["Roles"]] == ["ops"]
    assert [link["Name"] for link in made["Policies"]] == ["readers"]
    assert made["TemplatedPolicies"] == [
        {"TemplateName": "builtin/service", "TemplateVariables": {"Name": "api-ann"}}
    ]
    assert made["Local"] is False and "ExpirationTime" not in made
    less = login(client, name="bob", groups=["users"])
    assert "Roles" not in less and len(less["Policies"]) == 1


def test_a_login_that_gives_nothing(client: Client) -> None:
    method(client)
    body = {"AuthMethod": "corp", "BearerToken": credential(client)}
    nothing = '403 Permission denied: no binding rule of auth method "corp" gives anything to this login'
    assert client.refused("POST", "/v1/acl/login", body, "") == nothing
    rule(client, "role", "missing")
    assert client.refused("POST", "/v1/acl/login", body, "") == nothing
    rule(client, "service", "x-${value.who}", 'value.who != "Ann"')
    bad = client.refused("POST", "/v1/acl/login", {**body, "BearerToken": credential(client, name="a b")}, "")
    assert bad == '500 computed "service" bind name for bind target is invalid: "x-a b"'
    assert client.server.store.acl_tokens.group("auth_method", "corp") == []


@pytest.mark.parametrize(
    ("claims", "by", "text"),
    [
        ({"exp": 5}, "a", "token is expired (exp)"),
        ({"aud": "x"}, "a", "audience claim found in JWT but no audiences are bound"),
        ({}, "b", "no known key successfully validated the token signature"),
    ],
)
def test_credentials_that_are_refused(client: Client, claims: dict[str, Any], by: str, text: str) -> None:
    method(client)
    rule(client, "service", "web")
    body = {"AuthMethod": "corp", "BearerToken": credential(client, by, **claims)}
    refused = client.refused("POST", "/v1/acl/login", body, "")
    assert refused.startswith("500 ") and refused.endswith(text)
    padded = {**body, "BearerToken": f" {body['BearerToken']}\n"}
    assert client.refused("POST", "/v1/acl/login", padded, "") == refused
    assert body["BearerToken"] not in refused
    assert client.server.fetched == []  # nothing to fetch: the keys are given


def test_keys_are_fetched_anew_when_none_fits(client: Client) -> None:
    client.server.documents[KEYS] = key_set("a")
    method(client, {"JWKSURL": KEYS})
    rule(client, "service", "web")
    login(client)
    client.server.documents[KEYS] = key_set("b")
    client.server.fetched.clear()
    assert login(client, "b")
    assert client.server.fetched == [(KEYS, False)]  # the pretended server remembers nothing
    client.server.fetched.clear()
    body = {"AuthMethod": "corp", "BearerToken": credential(client, "a")}
    assert "no known key" in client.refused("POST", "/v1/acl/login", body, "")
    assert client.server.fetched == [(KEYS, False), (KEYS, True)]
    del client.server.documents[KEYS]
    assert client.refused("POST", "/v1/acl/login", body, "") == (
        f"500 Invalid Auth Method: error checking JWKSURL: {KEYS}: HTTP Error 404: Not Found"
    )


def test_discovery(client: Client) -> None:
    where = f"{ISSUER}/.well-known/openid-configuration"
    documents = client.server.documents
    put = ("PUT", "/v1/acl/auth-method")
    body = {
        "Name": "corp",
        "Type": "jwt",
        "Config": {"OIDCDiscoveryURL": ISSUER, "JWTSupportedAlgs": ["ES256"]},
    }
    assert "error checking OIDCDiscoveryURL" in client.refused(*put, body)
    for wrong in (b"{}", b"[]", b"x", b'{"issuer": "me"}', b'{"issuer": "me", "jwks_uri": "http://x"}'):
        documents[where] = wrong
        assert client.refused(*put, body).startswith(
            "500 Invalid Auth Method: error checking OIDCDiscoveryURL: "
        )
    documents[where] = json.dumps({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}).encode()
    assert "jwks_uri is not an http or https URL" in client.refused(*put, body)
    documents[where] = json.dumps({"issuer": ISSUER, "jwks_uri": KEYS}).encode()
    documents[KEYS] = key_set("a")
    assert client.ok(*put, body)["Config"]["OIDCDiscoveryURL"] == ISSUER
    rule(client, "service", "web")
    assert login(client, iss=ISSUER)
    other = {"AuthMethod": "corp", "BearerToken": credential(client, iss="https://elsewhere.example")}
    assert "invalid issuer claim" in client.refused("POST", "/v1/acl/login", other, "")


def test_what_tokens_are_called(client: Client) -> None:
    method(client, TokenNameFormat="${auth_method_type}-${value.who}-${nothing}")
    rule(client, "service", "web")
    assert login(client, name="Ann")["Description"] == "JWT-Ann-"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"Name": ""}, "500 Invalid Auth Method: no Name is set"),
        (
            {"Name": "a b"},
            "500 Invalid Auth Method: invalid Name. Only alphanumeric characters, '-' and '_' are allowed",
        ),
        ({"Type": "oidc"}, "500 Invalid Auth Method: Type should be one of: [jwt kubernetes]"),
        ({"MaxTokenTTL": "5s"}, "500 MaxTokenTTL 5s cannot be less than 1m0s"),
        ({"MaxTokenTTL": "48h"}, "500 MaxTokenTTL 48h0m0s cannot be more than 24h0m0s"),
        (
            {"TokenLocality": "x"},
            "500 Invalid Auth Method: TokenLocality should be one of 'local' or 'global'",
        ),
        ({"Config": None}, "500 Invalid Auth Method: exactly one of"),
        ({"Config": []}, "400 Bad request: AuthMethod decoding failed: json: cannot unmarshal array into Go"),
    ],
    ids=str,
)
def test_what_a_method_cannot_be(client: Client, change: dict[str, Any], text: str) -> None:
    body = {"Name": "new", "Type": "jwt", "Config": {"JWTValidationPubKeys": [pem("a")]}, **change}
    assert client.refused("PUT", "/v1/acl/auth-method", body).startswith(text)


def test_kubernetes_is_refused_with_a_way_out(client: Client) -> None:
    body = {"Name": "k8s", "Type": "kubernetes", "Config": {"Host": "https://k8s"}}
    refused = client.refused("PUT", "/v1/acl/auth-method", body)
    assert "kubernetes is not offered here" in refused and "Use Type jwt" in refused


def test_changes_of_methods(client: Client) -> None:
    made = method(client, DisplayName="Corp", Description="d", MaxTokenTTL="2m")
    assert client.ok("GET", "/v1/acl/auth-method/CORP") == made
    (stub,) = client.ok("GET", "/v1/acl/auth-methods")
    assert stub["MaxTokenTTL"] == "2m0s" and "Config" not in stub
    url = "/v1/acl/auth-method/corp"
    text = client.refused("PUT", url, {"Name": "other"})
    assert text == "400 Bad request: AuthMethod Name in URL and payload do not match"
    assert (
        client.refused("PUT", url, {"Type": "kubernetes"})
        == "500 the Type field of an Auth Method is immutable"
    )
    changed = client.ok("PUT", url, {"Config": {"JWTValidationPubKeys": [pem("b")]}})
    assert changed["Type"] == "jwt" and "MaxTokenTTL" not in changed
    rule(client, "service", "web")
    made = login(client, "b")
    assert client.ok("DELETE", url) is True and client.ok("DELETE", url) is True
    assert client.ok("GET", "/v1/acl/binding-rules") == []
    assert client.refused("GET", "/v1/acl/token/self", token=made["SecretID"]) == "403 ACL not found"
    assert client.refused("GET", url) == "404 "


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"AuthMethod": ""}, "500 Invalid Binding Rule: no AuthMethod is set"),
        ({"AuthMethod": "none"}, '500 cannot find auth method with name "none"'),
        ({"BindType": ""}, "500 Invalid Binding Rule: no BindType is set"),
        ({"BindName": ""}, "500 Invalid Binding Rule: no BindName is set"),
        ({"BindType": "x"}, '500 Invalid Binding Rule: unknown BindType "x"'),
        ({"BindName": "-x"}, '500 Invalid Binding Rule: invalid BindName: invalid bind name: "-x"'),
        (
            {"BindName": "${value.x}"},
            "500 Invalid Binding Rule: invalid BindName: "
            "error interpreting template: unknown variable accessed: value.x",
        ),
        (
            {"BindName": "${upper(x)}"},
            "500 Invalid Binding Rule: invalid BindName: error interpreting template",
        ),
        ({"Selector": "who"}, "500 invalid Binding Rule: Selector is invalid: "),
        ({"Selector": "other.who == 1"}, "500 invalid Binding Rule: Selector is invalid: "),
        (
            {"BindVars": {"Name": "x"}},
            "500 Invalid Binding Rule: BindVars are for BindType templated-policy only",
        ),
        (
            {"BindType": "templated-policy"},
            "500 Invalid Binding Rule: invalid BindName: Bind name for templated-policy bind type does not",
        ),
        (
            {"BindType": "templated-policy", "BindName": "builtin/node"},
            "500 Invalid Binding Rule: invalid BindName: templated policy builtin/node needs the variable",
        ),
        ({"ID": "x"}, "400 Bad request: BindingRule ID in URL and payload do not match"),
    ],
    ids=str,
)
def test_what_a_rule_cannot_be(client: Client, change: dict[str, Any], text: str) -> None:
    method(client)
    body = {"AuthMethod": "corp", "BindType": "service", "BindName": "web", **change}
    assert client.refused("PUT", "/v1/acl/binding-rule", body).startswith(text)


def test_changes_of_rules(client: Client) -> None:
    method(client)
    made = rule(client, "service", "web")
    url = f"/v1/acl/binding-rule/{made['ID']}"
    assert client.ok("GET", url) == made
    assert client.ok("GET", "/v1/acl/binding-rules?authmethod=CORP") == [made]
    assert client.ok("GET", "/v1/acl/binding-rules?authmethod=x") == []
    changed = client.ok("PUT", url, {"BindType": "node", "BindName": "n"})
    assert (changed["BindType"], changed["AuthMethod"]) == ("node", "corp")
    other = {"AuthMethod": "x", "BindType": "node", "BindName": "n"}
    assert client.refused("PUT", url, other) == "500 the AuthMethod field of an Binding Rule is immutable"
    gone = "99999999-9999-9999-9999-999999999999"
    assert client.refused("PUT", f"/v1/acl/binding-rule/{gone}", {}) == f"500 cannot find binding rule {gone}"
    assert client.refused("PUT", "/v1/acl/binding-rule/x", {}) == "500 Binding Rule ID invalid UUID"
    assert client.ok("DELETE", url) is True and client.ok("DELETE", url) is True
    assert client.refused("GET", url) == "404 "


def test_interpolation() -> None:
    known = {"value.a": "Ann", "value.b": "$${value.a}"}
    assert interpolate("x-${ value.a }-$${value.a}", known) == "x-ann-${value.a}"
    assert interpolate("${value.b}", known) == "$${value.a}"  # what comes out is not looked at again
    assert interpolate("$a {b} $", known) == "$a {b} $"
    for wrong in ("${", "${value.c}", "${value.a", "${1}"):
        with pytest.raises(Invalid):
            interpolate(wrong, known)
