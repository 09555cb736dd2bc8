"""Bodies that nobody expects, to every ACL endpoint: a refusal with a reason, or a good answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.api import acl
from tests.core.api.acl_kit import ROOT, Client, PretendedServer

GONE = "99999999-9999-9999-9999-999999999999"
KNOWN = (
    *("AccessorID", "SecretID", "Description", "Policies", "Roles", "ServiceIdentities", "NodeIdentities"),
    *("TemplatedPolicies", "Local", "AuthMethod", "ExpirationTime", "ExpirationTTL", "CreateTime", "Hash"),
    *("ID", "Name", "Rules", "Datacenters", "Type", "DisplayName", "MaxTokenTTL", "TokenLocality", "Config"),
    *("Selector", "BindType", "BindName", "BindVars", "BearerToken", "Meta", "BootstrapSecret", "Namespace"),
    *("Resource", "Segment", "Access", "TokenNameFormat", "TemplateName", "ServiceName", "NodeName", "Token"),
    *("JWTValidationPubKeys", "JWKSURL", "ClaimMappings", "TemplateVariables", "Datacenter", "CreateIndex"),
)
WORDS = (
    *("jwt", "kubernetes", "service", "role", "templated-policy", "builtin/service", "builtin/dns", "local"),
    *("1h", "2030-01-01T00:00:00Z", 'key "a" { policy = "read" }', "global-management", "${value.a}", "key"),
    *(
        "read",
        "http://127.0.0.1:1/x",
        GONE,
        "value.a == `x`",
        "client",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(WORDS)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=6)
BODIES = st.binary(max_size=60) | (VALUES | OBJECTS | st.lists(OBJECTS, max_size=2)).map(
    lambda value: json.dumps(value).encode()
)
RESTS = st.sampled_from(
    ["", "x", GONE, "00000000-0000-0000-0000-000000000001", "corp", "builtin/service", "a/clone"]
)
REQUESTS = [
    (method, route.path)
    for route in acl.ROUTES
    for method in route.methods
    if method in ("PUT", "POST") or route.path.endswith("/")
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@settings(max_examples=25)
@given(body=BODIES, rest=RESTS)
def test_no_body_is_a_defect(method: str, path: str, body: bytes, rest: str) -> None:
    client = Client(PretendedServer())
    url = path + rest if path.endswith("/") else path
    reply = client.call(method, url, body, ROOT)
    assert reply.status in (200, 400, 401, 403, 404, 500)
    if reply.status != 200 and reply.status != 404:
        assert reply.body and not reply.body.startswith(b"internal error")
    for entry in client.server.raft.entries[-1:]:  # what was written can be read by everybody
        assert entry[0] < 64


@settings(max_examples=60)
@given(first=OBJECTS, second=OBJECTS)
def test_methods_rules_and_logins(first: dict[str, Any], second: dict[str, Any]) -> None:
    """In a row, so that the second and third find what the first made."""
    client = Client(PretendedServer())
    config = (
        {"JWKSURL": "http://x/keys", "ClaimMappings": {"a": "a"}, **(first.get("Config") or {})}
        if isinstance(first.get("Config"), dict | None)
        else first["Config"]
    )
    client.server.documents["http://x/keys"] = b'{"keys": []}'
    method = {**first, "Name": "corp", "Type": "jwt", "Config": config}
    for url, body in (
        ("/v1/acl/auth-method", method),
        ("/v1/acl/binding-rule", {"BindType": "service", "BindName": "web", **second, "AuthMethod": "corp"}),
    ):
        body.pop("Namespace", None)
        reply = client.call("PUT", url, body)
        assert reply.status == 200 or (reply.status in (400, 500) and reply.body)
    reply = client.call(
        "POST", "/v1/acl/login", {"AuthMethod": "corp", "BearerToken": second.get("BearerToken")}, ""
    )
    assert reply.status in (400, 403, 500) and reply.body
