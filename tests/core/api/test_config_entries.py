"""Config entries: decoding, rules, permits, the log, RPC, and whatever strangers may send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.acl.access import UNLIMITED
from core.api import config_entry
from core.api.config_entry import (
    ConfigEntryRequest,
    EntryQuery,
    KindEntries,
    KindsQuery,
    ServiceConfig,
    ServiceQuery,
)
from core.api.config_entry_kinds import KINDS, read_entry, refit, show_entry
from core.api.config_entry_rules import normalize, validate
from core.api.endpoint import Answer, Command, Query, QueryOptions, Question, Reply, Request
from core.api.remote import REMOTES
from core.codec import msgpack
from core.errors import BadRequest, CtlError, Denied, Invalid, NotFound
from core.store.apply import apply
from core.store.state import Store

FULL: dict[str, dict[str, Any]] = {
    "service-defaults": {"Name": "web", "Protocol": "HTTP", "MeshGateway": {"Mode": "local"}},
    "proxy-defaults": {"Name": "global", "Config": {"protocol": "http", "n": 1}},
    "service-router": {
        "Name": "web",
        "Routes": [
            {
                "Match": {"HTTP": {"PathPrefix": "/a", "Methods": ["get"]}},
                "Destination": {"Service": "api", "RequestTimeout": "5s", "PrefixRewrite": "/"},
            }
        ],
    },
    "service-splitter": {"Name": "web", "Splits": [{"Weight": 90.004}, {"Weight": 10, "Service": "api"}]},
    "service-resolver": {
        "Name": "web",
        "DefaultSubset": "v1",
        "ConnectTimeout": "15s",
        "Subsets": {"v1": {"Filter": "Service.Meta.version == v1"}},
        "Failover": {"*": {"Datacenters": ["dc2"]}},
        "LoadBalancer": {"Policy": "maglev", "HashPolicies": [{"Field": "header", "FieldValue": "x"}]},
    },
    "ingress-gateway": {
        "Name": "door",
        "Listeners": [{"Port": 80, "Protocol": "http", "Services": [{"Name": "*"}]}],
    },
    "terminating-gateway": {"Name": "out", "Services": [{"Name": "db", "CAFile": "ca.pem"}]},
    "service-intentions": {
        "Name": "web",
        "Sources": [{"Name": "*", "Action": "deny"}, {"Name": "api", "Action": "allow"}],
    },
}


def entry(kind: str, **more: Any) -> dict[str, Any]:
    return {"Kind": kind, **FULL[kind], **more}


def http(method: str, path: str, body: Any = None, **query: str) -> Any:
    """The outcome of a request: Question or Command."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    target = "&".join(f"{name}={value}" for name, value in query.items()).encode()
    rest = path.removeprefix("/v1/config/") if path != "/v1/config" else ""
    request = Request(method, path, rest, Query(target), {}, raw)
    handler = config_entry.apply if path == "/v1/config" else config_entry.entry
    return handler(_Agent(), request)  # type: ignore[arg-type]


class _Agent:
    datacenter = "dc1"


class State:
    """A store, written by commands as a leader would."""

    def __init__(self) -> None:
        self.store = Store()
        self.index = 10

    def do(self, outcome: Any) -> Reply:
        if isinstance(outcome, Question):
            answer = outcome.read.run(self.store, outcome.args, None)
            return outcome.render(answer)
        assert isinstance(outcome, Command)
        data = outcome.write.prepare(self.store, outcome.args)
        assert isinstance(data, bytes)
        self.index += 1
        result = apply(self.store, self.index, data)
        if isinstance(result, Exception):
            raise result
        return outcome.render(result)

    def put(self, body: Any, **query: str) -> Any:
        return json.loads(self.do(http("PUT", "/v1/config", body, **query)).body or b"")

    def get(self, path: str) -> Reply:
        return self.do(http("GET", f"/v1/config/{path}"))

    def shown(self, path: str) -> Any:
        return json.loads(self.get(path).body or b"")


# --- kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_written_read_listed_and_deleted(kind: str) -> None:
    state = State()
    if kind in ("service-router", "service-splitter"):
        assert state.put(entry("service-defaults")) is True
    name = FULL[kind]["Name"]
    assert state.put(entry(kind)) is True
    shown = state.shown(f"{kind}/{name}")
    assert shown["Kind"] == kind
    assert shown["ModifyIndex"] == shown["CreateIndex"] == state.index
    assert state.shown(kind) == [shown]
    assert state.put(shown) is True  # what is read can be written
    again = state.shown(f"{kind}/{name}")
    assert {**again, "ModifyIndex": 0} == {**shown, "ModifyIndex": 0}
    assert state.do(http("DELETE", f"/v1/config/{kind}/{name}")).body == b"{}"
    assert state.get(f"{kind}/{name}").status == 404


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_travels_and_is_snapshotted(kind: str) -> None:
    """Over RPC and back; and as Raft's log has it, the state machine takes it."""
    whole = normalize(refit(kind, read_entry(entry(kind))))
    args = ConfigEntryRequest("upsert", kind, whole, "dc1", "t")
    command = Command(config_entry.APPLY, args, lambda _: Reply())
    remote = REMOTES["ConfigEntry.Apply"]
    body = msgpack.decode(msgpack.encode(remote.request(command, "dc1")))
    accepted = remote.accept(body)
    assert isinstance(accepted, Command)
    assert refit(kind, accepted.args.entry) == whole
    assert (accepted.args.op, accepted.args.kind, accepted.args.token) == ("upsert", kind, "t")
    for rpc, value in (
        ("ConfigEntry.Get", whole),
        ("ConfigEntry.List", KindEntries(kind, [whole])),
        ("ConfigEntry.ListAll", [whole, whole]),
    ):
        reply = msgpack.decode(msgpack.encode(REMOTES[rpc].reply(Answer(7, value))))
        found = REMOTES[rpc].answer(reply)
        assert (found.index, found.value) == (7, value)


def test_names_may_be_snake_case_and_values_loose() -> None:
    found = read_entry(
        {
            "kind": "service-router",
            "name": "web",
            "routes": {
                "match": [{"http": [{"path_prefix": "/x", "query_param": {"name": "q", "exact": 1}}]}],
                "destination": {"num_retries": "3", "request_timeout": 1000},
            },
        }
    )
    (route,) = found["Routes"]
    assert route["Match"]["HTTP"]["PathPrefix"] == "/x"
    assert route["Match"]["HTTP"]["QueryParam"][0]["Exact"] == "1"
    assert route["Destination"]["NumRetries"] == 3
    assert show_entry(found)["Routes"][0]["Destination"] == {"RequestTimeout": "1µs", "NumRetries": 3}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Kind": "service-defaults", "Name": "a", "Colour": 1}, 'invalid config key "Colour"'),
        ({"Kind": "service-defaults", "Name": "a", "Expose": {"X": 1}}, 'invalid config key "Expose.X"'),
        ({"Kind": "service-router", "Routes": [{"A": 1}]}, 'invalid config key "Routes[0].A"'),
        ({"Kind": "service-defaults", "Namespace": "x"}, "namespaces are a consul enterprise feature"),
        ({"Kind": "service-defaults", "Name": ["a", "b"]}, "'Name' expected type 'string'"),
        ({"Kind": "service-defaults", "MeshGateway": "x"}, "'MeshGateway' expected a map, got 'string'"),
        ({"Kind": "ingress-gateway", "TLS": {"Enabled": "maybe"}}, "cannot parse 'TLS.Enabled' as bool"),
        ({"Kind": "service-resolver", "ConnectTimeout": "soon"}, "error decoding 'ConnectTimeout'"),
        ({"Kind": "ingress-gateway", "Listeners": [{"Port": 2**70}]}, "overflows int"),
        ({"Kind": 5}, "Kind value in payload is not a string"),
        ({"Kind": "mesh"}, "invalid config entry kind: mesh"),
        ({}, "Payload does not contain a kind/Kind key at the top level"),
        ([1], "'' expected a map, got 'slice'"),
        ("x", "'' expected a map, got 'string'"),
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
    ],
)
def test_what_cannot_be_decoded_is_named(body: Any, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        http("PUT", "/v1/config", body)
    assert str(caught.value).startswith("Bad request: Request decoding failed: ")
    assert text in str(caught.value)


# --- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "more", "text"),
    [
        ("service-defaults", {"Name": ""}, "serviceName is required"),
        ("proxy-defaults", {"Name": "other"}, 'only "global" is supported'),
        ("service-defaults", {"Meta": {"k" * 129: ""}}, "exceeds maximum length 128"),
        ("service-defaults", {"Meta": {str(n): "" for n in range(65)}}, "maximum element count 64"),
        ("service-router", {"Routes": [{"Match": {"HTTP": {"PathExact": "a"}}}]}, "doesn't start with '/'"),
        ("service-router", {"Routes": [{"Destination": {"PrefixRewrite": "/"}}]}, "PrefixRewrite without"),
        ("service-router", {"Routes": [{"Match": {"HTTP": {"Methods": ["X"]}}}]}, 'invalid method "X"'),
        (
            "service-router",
            {"Routes": [{"Match": {"HTTP": {"Header": [{"Name": "a"}]}}}]},
            "only contain one",
        ),
        ("service-splitter", {"Splits": []}, "no splits configured"),
        ("service-splitter", {"Splits": [{"Weight": 50}]}, "must be 100, not 50.000000"),
        ("service-splitter", {"Splits": [{"Weight": 50}, {"Weight": 50}]}, "more than once"),
        ("service-resolver", {"DefaultSubset": "v9"}, 'DefaultSubset "v9" is not a valid subset'),
        ("service-resolver", {"Subsets": {"v1": {"Filter": "!!"}}}, "not a valid expression"),
        ("service-resolver", {"Subsets": {"v1": {}, "V_2": {}}}, 'Subset "V_2" is invalid'),
        ("service-resolver", {"Redirect": {"Service": "x"}}, "Redirect and Failover cannot both be set"),
        ("service-resolver", {"Failover": {"v8": {"Service": "x"}}}, 'Bad Failover["v8"]'),
        ("service-resolver", {"LoadBalancer": {"Policy": "best"}}, '"best" is not supported'),
        ("service-resolver", {"ConnectTimeout": -1}, "Bad ConnectTimeout '-1ns'"),
        ("ingress-gateway", {"Listeners": [{"Port": 1}]}, "No service declared for listener with port 1"),
        (
            "ingress-gateway",
            {"Listeners": [{"Port": 1, "Services": [{"Name": "*"}]}]},
            "Wildcard service name is only valid",
        ),
        ("terminating-gateway", {"Services": [{"Name": "a", "CertFile": "x"}]}, "must have a CertFile"),
        ("terminating-gateway", {"Services": [{}]}, "Service name cannot be blank."),
        ("service-intentions", {"Sources": []}, "At least one source is required"),
        ("service-intentions", {"Sources": [{"Name": "a"}]}, "Sources[0].Action must be set"),
        ("service-intentions", {"Sources": [{"Name": "a*", "Action": "deny"}]}, "partial values"),
    ],
)
def test_rules(kind: str, more: dict[str, Any], text: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate(normalize(refit(kind, read_entry(entry(kind, **more)))))
    assert text in str(caught.value)


def test_routing_needs_a_protocol_with_routes() -> None:
    state = State()
    with pytest.raises(Invalid, match='discovery chain "web" uses a protocol "tcp"'):
        state.put(entry("service-router"))
    state.put(entry("proxy-defaults"))
    assert state.put(entry("service-router")) is True
    with pytest.raises(Invalid, match='uses a protocol "tcp"'):  # nor may it be taken away
        state.put(entry("service-defaults", Protocol="tcp"))
    with pytest.raises(Invalid, match='does not have a subset named "v7"'):
        state.put(entry("service-router", Routes=[{"Destination": {"ServiceSubset": "v7"}}]))


def test_defaults_are_filled_in() -> None:
    state = State()
    state.put(entry("service-defaults"))
    assert state.shown("service-defaults/WEB")["Protocol"] == "http"
    state.put(entry("service-splitter"))
    assert state.shown("service-splitter/web")["Splits"][0] == {"Weight": 90}
    state.put(entry("service-intentions"))
    sources = state.shown("service-intentions/web")["Sources"]
    assert [(one["Name"], one["Precedence"], one["Type"]) for one in sources] == [
        ("api", 9, "consul"),
        ("*", 8, "consul"),
    ]


def test_check_and_set() -> None:
    state = State()
    assert state.put(entry("service-defaults"), cas="1") is False
    assert state.put(entry("service-defaults"), cas="0") is True
    index = state.shown("service-defaults/web")["ModifyIndex"]
    assert state.put(entry("service-defaults"), cas=str(index)) is True
    doomed = "/v1/config/service-defaults/web"
    assert state.do(http("DELETE", doomed, cas=str(index))).body == b"false"
    assert (
        state.do(http("DELETE", doomed, cas=str(state.shown("service-defaults/web")["ModifyIndex"]))).body
        == b"true"
    )
    assert state.get("service-defaults/web").status == 404


def test_what_cannot_be_deleted_is_named() -> None:
    with pytest.raises(NotFound, match="Must provide both a kind and name to delete"):
        http("DELETE", "/v1/config/service-defaults")
    with pytest.raises(BadRequest, match="invalid config entry kind: bogus"):
        http("DELETE", "/v1/config/bogus/x")


# --- permits ---------------------------------------------------------------------------------------


class Judge:
    """Allows what is listed."""

    accessor = "a"
    expires = False

    def __init__(self, *rights: str) -> None:
        self._rights = rights

    def allows(self, resource: str, name: str, access: str) -> bool:
        return f"{resource}:{access} {name}".strip() in self._rights

    def require(self, resource: str, name: str, access: str) -> None:
        if not self.allows(resource, name, access):
            raise Denied(f"Permission denied: {resource}:{access} {name}")


@pytest.mark.parametrize(
    ("kind", "rights"),
    [
        ("service-defaults", ("service:write web",)),
        ("proxy-defaults", ("operator:write",)),
        ("service-router", ("service:write web", "service:read api")),
        ("service-splitter", ("service:write web", "service:read api")),
        ("service-resolver", ("service:write web",)),
        ("ingress-gateway", ("operator:write",)),
        ("terminating-gateway", ("operator:write",)),
        ("service-intentions", ("intention:write web",)),
    ],
)
def test_writing_needs(kind: str, rights: tuple[str, ...]) -> None:
    args = http("PUT", "/v1/config", entry(kind)).args
    permit = config_entry.APPLY.permit
    assert permit is not None
    permit(Judge(*rights), Store(), args)  # type: ignore[arg-type]
    for missing in range(len(rights)):
        with pytest.raises(Denied):
            permit(Judge(*(rights[:missing] + rights[missing + 1 :])), Store(), args)  # type: ignore[arg-type]


def test_reading_shows_what_may_be_seen() -> None:
    entries = [{"Kind": "service-defaults", "Name": "a"}, {"Kind": "proxy-defaults", "Name": "global"}]
    answer = Answer(3, KindEntries("", entries))
    permit = config_entry.LIST.permit
    assert permit is not None
    seen = permit(Judge(), EntryQuery(""), answer)  # type: ignore[arg-type]
    assert seen.value.entries == entries[1:]
    assert seen.filtered
    assert permit(Judge("service:read a"), EntryQuery(""), answer) is answer  # type: ignore[arg-type]
    assert permit(UNLIMITED, EntryQuery(""), answer) is answer
    every = config_entry.LIST_ALL.permit
    assert every is not None
    assert every(Judge(), KindsQuery(), Answer(3, entries)).value == entries[1:]  # type: ignore[arg-type]
    one = config_entry.GET.permit
    assert one is not None
    with pytest.raises(Denied):
        one(Judge(), EntryQuery("service-intentions", "web"), Answer(3, None))  # type: ignore[arg-type]


# --- what agents of Consul ask ---------------------------------------------------------------------


def test_the_configuration_of_a_service_is_joined() -> None:
    state = State()
    state.put(entry("proxy-defaults", MeshGateway={"Mode": "remote"}))
    state.put(entry("service-defaults", Protocol="grpc", MeshGateway={}))
    found = config_entry.RESOLVE.run(state.store, ServiceQuery("web", ("web", "other"), True), None).value
    assert found.proxy == {"protocol": "grpc", "n": 1.0}
    assert found.upstreams == {"web": {"protocol": "grpc"}, "other": {"protocol": "http"}}
    assert found.mesh_gateway["Mode"] == "remote"
    remote = REMOTES["ConfigEntry.ResolveServiceConfig"]
    back = remote.answer(msgpack.decode(msgpack.encode(remote.reply(Answer(5, found)))))
    assert (back.value.proxy, back.value.upstreams) == (found.proxy, found.upstreams)
    question = Question(
        config_entry.RESOLVE, ServiceQuery("web", ("a",), True), QueryOptions(), lambda _: Reply()
    )
    assert (
        remote.accept(msgpack.decode(msgpack.encode(remote.request(question, "dc1")))).args == question.args
    )
    empty = remote.answer(remote.reply(Answer(1, ServiceConfig())))
    assert empty.value.proxy == {}


def test_what_is_listed_without_kinds_is_what_was_known_before() -> None:
    state = State()
    state.put(entry("service-defaults"))
    state.put(entry("service-intentions"))
    assert len(config_entry.LIST_ALL.run(state.store, KindsQuery(), None).value) == 1
    assert len(config_entry.LIST_ALL.run(state.store, KindsQuery(("service-intentions",)), None).value) == 1


# --- strangers -------------------------------------------------------------------------------------

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_NAMES = sorted(
    {name for record in KINDS.values() for name in record.fields}
    | {"ModifyIndex"}
    | {"http", "name", "Mode", "Filter", "a"}
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=6))
def test_any_body_is_taken_or_refused_with_a_reason(kind: str, fields: dict[str, Any]) -> None:
    state = State()
    try:
        assert state.put(json.dumps({**FULL[kind], **fields, "Kind": kind}).encode()) in (True, False)
    except CtlError as error:
        assert str(error)
    else:
        for shown in state.shown(kind):
            json.dumps(shown)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(BadRequest, match="Bad request: Request decoding failed: "):
        http("PUT", "/v1/config", body)


@settings(max_examples=200)
@given(st.sampled_from([*sorted(KINDS), "bogus"]), _JSON)
def test_entries_over_rpc_may_be_anything(kind: str, fields: Any) -> None:
    for op, write in (("upsert", config_entry.APPLY), ("delete", config_entry.DELETE)):
        args = ConfigEntryRequest(op, kind, fields if isinstance(fields, dict) else {}, "dc1", "")
        try:
            write.prepare(Store(), args)
        except CtlError as error:
            assert str(error)
