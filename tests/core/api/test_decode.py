from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.api import decode
from core.errors import BadRequest
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store.structs import (
    CheckSpec,
    DeregisterRequest,
    HealthCheck,
    NodeService,
    RegisterRequest,
    ServiceAddress,
    Weights,
)

S = 1_000_000_000


def test_register_with_everything() -> None:
    body = {
        "node": "n1",
        "ADDRESS": "10.0.0.1",
        "NodeMeta": {"a": "b"},
        "Service": {
            "Service": "web",
            "Tags": ["x"],
            "Port": 80,
            "Weights": {"Passing": 5},
            "TaggedAddresses": {"lan": {"address": "1.2.3.4", "port": 1}},
            "Proxy": None,
            "Connect": {"native": True},
        },
        "Check": {"Name": "c", "Definition": {"Interval": "10s", "Timeout": 5, "tls_skip_verify": True}},
        "Checks": [{"CheckID": "d", "Status": "passing"}, None],
    }
    assert decode.catalog_register(json.dumps(body).encode() + b" trailing") == RegisterRequest(
        node="n1",
        address="10.0.0.1",
        node_meta={"a": "b"},
        service=NodeService(
            service="web",
            tags=["x"],
            port=80,
            weights=Weights(5, 0),
            tagged_addresses={"lan": ServiceAddress("1.2.3.4", 1)},
            connect={"Native": True},
        ),
        check=HealthCheck(name="c", definition=CheckSpec(interval=10 * S, timeout=5, tls_skip_verify=True)),
        checks=[HealthCheck(check_id="d", status="passing"), HealthCheck()],
    )


def test_deregister() -> None:
    assert decode.catalog_deregister(b'{"Node":"n","ServiceID":"s","checkid":"c"}') == DeregisterRequest(
        node="n", service_id="s", check_id="c"
    )


def test_service_definition_in_camel_and_snake_case() -> None:
    expected = ServiceDefinition(
        name="web",
        enable_tag_override=True,
        tagged_addresses={"lan": ServiceAddress("a", 1)},
        checks=[
            CheckDefinition(
                args=["a"], interval=10 * S, deregister_critical_service_after=90 * S, docker_container_id="d"
            ),
            CheckDefinition(id="c2", ttl=60 * S),
        ],
    )
    camel = {
        "Name": "web",
        "EnableTagOverride": True,
        "TaggedAddresses": {"lan": {"Address": "a", "Port": 1}},
        "Check": {
            "ScriptArgs": ["a"],
            "Interval": "10s",
            "DeregisterCriticalServiceAfter": "90s",
            "DockerContainerID": "d",
        },
        "Checks": [{"CheckID": "c2", "TTL": "1m", "Namespace": "default"}],
    }
    snake = {
        "name": "web",
        "enable_tag_override": True,
        "tagged_addresses": {"lan": {"address": "a", "port": 1}},
        "check": {
            "args": ["a"],
            "interval": 10 * S,
            "deregister_critical_service_after": "1.5m",
            "docker_container_id": "d",
        },
        "checks": [{"id": "c2", "ttl": "60s"}],
    }
    assert decode.service_definition(json.dumps(camel).encode()) == expected
    assert decode.service_definition(json.dumps(snake).encode()) == expected


def test_the_definition_of_the_quick_start_with_its_odd_spelling() -> None:
    body = b"""{ "name": "web", "tags": ["web1"], "port": 80, "enableTagOverride": false,
      "checks": [ { "id": "api", "name": "HTTP API on port 80", "http": "http://localhost:80/index.html",
                    "interval": "10s", "timeout": "1s" } ] }"""
    service = decode.service_definition(body)
    assert service.checks[0].id == "api"
    assert service.checks[0].kind == "http"
    assert service.checks[0].timeout == S


def test_an_empty_check_is_none() -> None:
    assert decode.service_definition(b'{"Name": "a", "Check": {}}').checks == []
    assert len(decode.service_definition(b'{"Name": "a", "Checks": [{}]}').checks) == 1


@pytest.mark.parametrize("read", [decode.service_definition, decode.check_definition])
def test_null_is_nothing(read: Callable[[bytes], Any]) -> None:
    assert read(b"null").name == ""


@pytest.mark.parametrize(
    ("read", "body", "text"),
    [
        (decode.catalog_register, b"", "EOF"),
        (
            decode.catalog_register,
            b'"text"',
            "json: cannot unmarshal string into Go value of type structs.RegisterRequest",
        ),
        (
            decode.catalog_register,
            b'{"Service": {"Port": "80"}}',
            "json: cannot unmarshal string into Go struct field NodeService.Service.Port of type int",
        ),
        (decode.catalog_register, b'{"Colour": 1}', 'json: unknown field "Colour"'),
        (decode.catalog_register, b'{"node_meta": {}}', 'json: unknown field "node_meta"'),
        (decode.catalog_register, b'{"Partition": "blue"}', 'json: unknown field "Partition"'),
        (decode.catalog_deregister, b"{", "unexpected EOF"),
        (
            decode.service_definition,
            b'{"Port": "80"}',
            "json: cannot unmarshal string into Go struct field .Port of type int",
        ),
        (decode.service_definition, b'{"Check": {"TTL": "banana"}}', 'time: invalid duration "banana"'),
        (decode.service_definition, b'{"Port": "x", "Check": {"TTL": "b"}}', 'time: invalid duration "b"'),
        (decode.check_definition, b'{"Script": "true"}', 'json: unknown field "Script"'),
        (decode.check_update, b'{"Status": "passing", "Colour": 1}', 'json: unknown field "Colour"'),
    ],
)
def test_refusals(read: Callable[[bytes], Any], body: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.text == "Request decode failed: " + text


def test_updates_and_tokens() -> None:
    assert decode.check_update(b'{"status": "passing"}') == ("passing", "")
    assert decode.agent_token(b'{"Token": "x"}') == "x"


_NAMES = [
    "Name",
    "name",
    "ID",
    "Port",
    "Tags",
    "Check",
    "Checks",
    "TTL",
    "ttl",
    "Interval",
    "Header",
    "Weights",
]
_NAMES += [
    "Service",
    "Node",
    "Meta",
    "TaggedAddresses",
    "Proxy",
    "Connect",
    "Definition",
    "Passing",
    "Namespace",
]
_ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("10s"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=15,
)


@given(_ANYTHING)
def test_any_body_is_decoded_or_refused(value: object) -> None:
    body = json.dumps(value).replace("Infinity", "1e400").encode()
    reads: list[Callable[[bytes], Any]] = [
        decode.catalog_register,
        decode.catalog_deregister,
        decode.service_definition,
        decode.check_definition,
        decode.check_update,
        decode.agent_token,
    ]
    for read in reads:
        try:
            read(body)
        except BadRequest as error:
            assert error.text.startswith("Request decode failed: ")


@pytest.mark.parametrize(
    ("field", "told"),
    [("Args", "args"), ("args", "args"), ("scriptargs", "ScriptArgs"), ("script_args", "script_args")],
)
def test_a_wrong_type_is_told_under_the_name_that_go_has_for_it(field: str, told: str) -> None:
    expected = f"cannot unmarshal string into Go struct field .{told} of type []string$"
    with pytest.raises(BadRequest, match=expected.replace("[]", r"\[\]")):
        decode.check_definition(json.dumps({"Name": "c", field: "x"}).encode())
    with pytest.raises(BadRequest, match=r"field \.tagged_addresses of type"):
        decode.service_definition(b'{"Name": "w", "tagged_addresses": 1}')


def test_a_check_that_is_registered_by_itself_has_no_other_name_for_its_id() -> None:
    with pytest.raises(BadRequest, match='unknown field "CheckID"'):
        decode.check_definition(b'{"Name": "c", "CheckID": "x"}')
    assert decode.check_definition(b'{"Name": "c", "ID": "x"}').id == "x"
    made = decode.service_definition(b'{"Name": "w", "Check": {"CheckID": "x", "TTL": "1h"}}')
    assert [check.id for check in made.checks] == ["x"]
