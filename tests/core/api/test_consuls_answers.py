"""What Consul 1.9.8 answered to requests beside the usual ones, held against the handlers alone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from core.acl.access import UNLIMITED
from core.api import catalog, decode, kv, render, session, txn
from core.api.agent_common import agent_service
from core.api.agent_common import listing as agent_listing
from core.api.endpoint import Command, Query, Question, Reply, Request, Settled
from core.errors import BadRequest, CtlError, Invalid, TooLarge
from core.node.definitions import CheckDefinition
from core.node.registration import check_problem
from core.store.apply import apply
from core.store.state import Store
from core.store.structs import CheckSpec, HealthCheck, NodeService, RegisterRequest

AGENT: Any = SimpleNamespace(node_name="n1", datacenter="dc1", kv_max_value_size=100, txn_max_req_len=10_000)
S = 1_000_000_000


def request(method: str, rest: str = "", query: str = "", body: Any = b"") -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, "", rest, Query(query.encode()), {}, raw, length=len(raw))


def registered(*requests: RegisterRequest) -> Store:
    store = Store()
    for index, one in enumerate(requests, 1):
        apply(store, index, catalog.REGISTER.prepare(store, one))  # type: ignore[arg-type]
    return store


# --- sessions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "checks", "node_checks"),
    [
        ({}, None, ["serfHealth"]),
        ({"Checks": []}, None, []),
        ({"Checks": None, "NodeChecks": ["a"]}, None, []),
        ({"Checks": ["serfHealth"], "NodeChecks": ["a"]}, None, ["a"]),
        ({"Checks": ["a"]}, ["a"], ["serfHealth"]),
        ({"Checks": ["a"], "NodeChecks": []}, None, []),
        ({"checks": ["a"], "nodechecks": None}, None, None),
        ({"NodeChecks": ["a"]}, None, ["a"]),
        ({"NodeChecks": None}, None, None),
    ],
)
def test_checks_of_a_session_by_their_old_and_new_name(body: Any, checks: Any, node_checks: Any) -> None:
    outcome = session.create(AGENT, request("PUT", body=body))
    assert isinstance(outcome, Command)
    made = outcome.args.session
    assert (made.checks, made.node_checks) == (checks, node_checks)


def test_what_is_wrong_with_the_options_is_told_before_what_is_missing() -> None:
    for handler in (session.info, session.node):
        with pytest.raises(BadRequest, match="Invalid index"):
            handler(AGENT, request("GET", query="index=x"))


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "size", "kind", "text"),
    [
        ("cas=x&release=y", 0, BadRequest, "Conflicting flags: cas=x&release=y"),
        ("cas=x&release=y", 101, BadRequest, "Conflicting flags"),
        ("cas=x", 101, TooLarge, "Request body"),
        ("cas=x", 0, Invalid, 'strconv.ParseUint: parsing "x": invalid syntax'),
    ],
)
def test_conflicts_come_before_sizes_and_sizes_before_numbers(
    query: str, size: int, kind: type[CtlError], text: str
) -> None:
    with pytest.raises(kind) as error:
        kv.kv(AGENT, request("PUT", "a", query, b"x" * size))
    assert error.value.text.startswith(text)


def test_a_session_that_is_no_uuid_cannot_lock() -> None:
    text = "failed session lookup: index error: UUID must be 36 characters"
    with pytest.raises(Invalid, match=text):
        kv.APPLY.prepare(Store(), kv.KVChange("lock", b"a", session="short"))
    status, body = carried_out(Store(), [{"KV": {"Verb": "lock", "Key": "a", "Session": "short"}}])
    assert (status, body["Errors"][0]["What"]) == (409, text)


# --- the catalog --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"id": "x", "address": ""}, "Bad node ID: uuid string is wrong length"),
        ({"address": ""}, "Must provide address if SkipNodeUpdate is not set"),
        ({"service": NodeService(service="web", address="0.0.0.0")}, "Invalid service address"),
        ({"service": NodeService(service="web", address="::")}, "Invalid service address"),
        (
            {"check": HealthCheck(status="passing")},
            'failed inserting check: failed inserting check: object missing primary index on node "a"',
        ),
    ],
)
def test_registrations_that_cannot_be(more: dict[str, Any], text: str) -> None:
    with pytest.raises(Invalid) as error:
        catalog.REGISTER.prepare(Store(), RegisterRequest(**{"node": "a", "address": "x"} | more))
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (CheckSpec(http="http://x", interval=S), "http"),
        (CheckSpec(http="http://x"), ""),
        (CheckSpec(grpc="x", http="y", interval=S), "grpc"),
        (CheckSpec(tcp="x:1", interval=S), "tcp"),
        (CheckSpec(ttl=S), "ttl"),
        (CheckSpec(alias_node="a"), "alias"),
        (CheckSpec(script_args=["x"], docker_container_id="y", interval=S), "docker"),
        (CheckSpec(script_args=["x"]), "script"),
        (CheckSpec(), ""),
    ],
)
def test_a_check_of_the_catalog_has_the_kind_that_its_definition_tells(spec: CheckSpec, kind: str) -> None:
    check = HealthCheck(name="c", definition=spec)
    store = registered(RegisterRequest(node="a", address="x", check=check))
    [stored] = store.node_checks("a")[1]
    assert stored.type == kind


def test_a_node_without_services_has_null_for_them() -> None:
    store = registered(RegisterRequest(node="a", address="x"))
    for query, expected in (("", None), ("filter=Port==1", [])):
        question = catalog.node_services(AGENT, request("GET", "a", query))
        assert isinstance(question, Question) and question.read.sift is not None
        answer = question.read.sift(question.args, question.read.run(store, question.args, None))
        assert json.loads(question.render(answer).body or b"")["Services"] == expected


def test_names_of_services_by_a_filter_on_their_instances() -> None:
    store = registered(
        RegisterRequest(
            node="a", address="x", node_meta={"z": "1"}, service=NodeService(service="web", tags=["b", "a"])
        ),
        RegisterRequest(node="b", address="y", service=NodeService(service="web", tags=["c"], port=80)),
        RegisterRequest(node="b", address="y", service=NodeService(service="db")),
    )

    def names(query: str) -> Any:
        question = catalog.services(AGENT, request("GET", query=query))
        assert isinstance(question, Question)
        read = question.read
        assert read.sift is not None and callable(read.permit)
        answer = read.permit(UNLIMITED, question.args, read.run(store, question.args, None))
        return json.loads(question.render(read.sift(question.args, answer)).body or b"")

    assert names("") == {"db": [], "web": ["a", "b", "c"]}
    assert names("filter=ServiceName==web") == {"web": ["a", "b", "c"]}
    assert names("filter=ServicePort==80") == {"web": ["c"]}
    assert names("filter=b+in+ServiceTags") == {"web": ["a", "b"]}
    assert names("filter=ServiceName!=none&node-meta=z:1") == {"web": ["a", "b"]}
    with pytest.raises(Invalid, match="is not valid"):
        names("filter=Nope==1")


def test_a_proxy_is_shown_by_its_own_agent_only_where_there_can_be_one() -> None:
    mesh = {"proxy": {"DestinationServiceName": "db"}, "connect": {"Native": False, "X": 1}}
    plain = agent_service(NodeService(id="a", service="a", **mesh), "dc1")  # type: ignore[arg-type]
    assert "Proxy" not in plain and "Connect" not in plain
    for kind in ("connect-proxy", "mesh-gateway"):
        assert "Proxy" in agent_service(NodeService(id="a", kind=kind, **mesh), "dc1")  # type: ignore[arg-type]
    native = NodeService(id="a", connect={"Native": True})
    assert agent_service(native, "dc1")["Connect"] == {"Native": True}


def test_the_mesh_part_of_a_service_ends_with_gateway_and_exposure() -> None:
    proxy = {"Expose": {}, "MeshGateway": {}, "DestinationServiceName": "db"}
    assert list(render.mesh_proxy(proxy)) == ["DestinationServiceName", "MeshGateway", "Expose"]


def test_alias_checks_have_neither_ttl_nor_interval() -> None:
    assert (
        check_problem(CheckDefinition(alias_service="a", ttl=S)) == "TTL must be not be set for Alias checks"
    )
    both = CheckDefinition(alias_node="a", http="http://x", interval=S)
    assert check_problem(both) == "Interval cannot be set for Alias checks"
    assert check_problem(CheckDefinition(alias_node="a")) == ""


# --- transactions -------------------------------------------------------------------------------------


def carried_out(store: Store, body: Any, query: str = "") -> tuple[int, Any]:
    """Status and body of the reply to a transaction."""
    outcome = txn.execute(AGENT, request("PUT", query=query, body=body))
    reply: Reply
    if isinstance(outcome, Question):
        reply = outcome.render(outcome.read.run(store, outcome.args, None))
    else:
        assert isinstance(outcome, Command)
        data = outcome.write.prepare(store, outcome.args)
        result = data.result if isinstance(data, Settled) else apply(store, 50, data)
        reply = outcome.render(result)
    return reply.status, json.loads(reply.body or b"")


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ({"KV": {"Verb": "get-tree", "Key": ""}}, "Must provide key"),
        ({"KV": {}}, "Must provide key"),
        ({"Service": {}}, 'unknown Service verb ""'),
        ({"Service": {"Verb": "set", "Node": "n"}}, "failed inserting service: object missing primary index"),
        ({"Service": {"Verb": "set", "Service": {"ID": "x"}}}, "Must provide service name with ID"),
        (
            {"Service": {"Verb": "set", "Service": {"Service": "x", "Address": "0.0.0.0"}}},
            "Invalid service address",
        ),
        ({"Check": {"Verb": "set"}}, "failed inserting check: object missing primary index"),
    ],
)
def test_operations_that_cannot_be(operation: Any, what: str) -> None:
    status, body = carried_out(Store(), [operation])
    assert status == 409
    [error] = body["Errors"]
    assert error["OpIndex"] == 0 and error["What"].startswith(what)


def test_what_asks_for_nothing_is_no_operation() -> None:
    bad = {"KV": {"Verb": "get", "Key": "none"}}
    status, body = carried_out(Store(), [{}, {"KV": None}, bad])
    assert status == 409 and body["Errors"][0]["OpIndex"] == 0
    assert carried_out(Store(), [{}])[0] == 200


def test_options_of_reads_are_not_looked_at_when_a_transaction_writes() -> None:
    assert carried_out(Store(), [{"KV": {"Verb": "set", "Key": "a"}}], "wait=x")[0] == 200
    with pytest.raises(BadRequest, match="Invalid wait time"):
        carried_out(Store(), [{"KV": {"Verb": "get", "Key": "a"}}], "wait=x")
    with pytest.raises(BadRequest, match="Failed to parse body"):
        carried_out(Store(), b"{", "wait=x")


def test_tags_are_shown_as_they_were_given() -> None:
    store = registered(RegisterRequest(node="n", address="x"))
    for tags in (None, [], ["a"]):
        service = {"Service": "web", "Tags": tags}
        _, body = carried_out(store, [{"Service": {"Verb": "set", "Node": "n", "Service": service}}])
        assert body["Results"][0]["Service"]["Tags"] == tags
    _, body = carried_out(store, [{"Check": {"Verb": "set", "Check": {"Node": "n", "Name": "c"}}}])
    assert body["Results"][0]["Check"]["ServiceTags"] is None


@pytest.mark.parametrize(
    ("value", "expected"), [([1, 255, None], b"\x01\xff\x00"), ([], None), ("eA==", b"x"), (None, None)]
)
def test_a_value_may_be_a_list_of_bytes(value: Any, expected: bytes | None) -> None:
    store = Store()
    assert carried_out(store, [{"KV": {"Verb": "set", "Key": "a", "Value": value}}])[0] == 200
    entry = store.kv_get(b"a")[1]
    assert entry is not None and entry.value == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "cannot unmarshal number into Go struct field KVTxnOp.KV.Value of type []uint8"),
        (["x"], "cannot unmarshal string into Go struct field KVTxnOp.KV.Value of type uint8"),
        ([256], "cannot unmarshal number 256 into Go struct field KVTxnOp.KV.Value of type uint8"),
    ],
)
def test_values_that_are_no_bytes(value: Any, text: str) -> None:
    with pytest.raises(BadRequest) as error:
        carried_out(Store(), [{"KV": {"Verb": "set", "Key": "a", "Value": value}}])
    assert error.value.text == f"Failed to parse body: json: {text}"


# --- bodies -------------------------------------------------------------------------------------------


def test_some_parts_take_no_notice_of_what_they_do_not_know() -> None:
    body = (
        b'{"Service": {"Connect": {"X": 1, "Native": true}}, "Check": {"Definition": {"X": 1, "TCP": "a"}}}'
    )
    found = decode.catalog_register(body)
    assert found.service is not None and found.service.connect == {"Native": True}
    assert found.check is not None and found.check.definition == CheckSpec(tcp="a")
    for part in (b'{"X": 1}', b'{"Service": {"X": 1}}', b'{"Check": {"X": 1}}'):
        with pytest.raises(BadRequest, match='unknown field "X"'):
            decode.catalog_register(part)


def test_true_is_no_duration() -> None:
    assert decode.check_definition(b'{"TTL": true, "Interval": true, "Timeout": 5}') == CheckDefinition(
        timeout=5
    )


def test_numbers_are_named_without_their_digits_where_no_integer_was_wanted() -> None:
    with pytest.raises(BadRequest, match=r"cannot unmarshal number into Go value of type struct { LockDelay"):
        decode.session(b"7", session._DEFAULT)
    with pytest.raises(
        BadRequest, match=r"cannot unmarshal number into Go struct field \.Node of type string"
    ):
        decode.catalog_deregister(b'{"Node": 7}')
    with pytest.raises(BadRequest, match=r"invalid character '\[' exceeded max depth"):
        decode.catalog_deregister(b"[" * 12000)


# --- filters of the agent's own checks ----------------------------------------------------------------


def test_a_selector_that_no_check_has_is_noticed_with_the_first_check() -> None:
    def asked(checks: dict[str, HealthCheck], expression: str) -> tuple[int, bytes | None]:
        question = request("GET", query=f"filter={expression}")
        reply = agent_listing(question, checks, lambda *_: True, "health_check", render.health_check)
        return reply.status, reply.body

    assert asked({}, "Odd==1") == (200, b"{}")
    assert asked({"c": HealthCheck(check_id="c")}, "Odd==1") == (500, b'Selector "Odd" is not valid')
    assert asked({}, "x")[0] == 500
    assert asked({}, "Name==c") == (200, b"{}")


@pytest.mark.parametrize("name", ["Session", "session", "Odd"])
def test_transactions_have_no_other_operations(name: str) -> None:
    with pytest.raises(BadRequest, match=f'^Failed to parse body: json: unknown field "{name}"$'):
        txn.execute(AGENT, request("PUT", body=[{name: {"Verb": "delete"}}]))


def test_services_of_a_node_are_in_the_order_of_bytes() -> None:
    made = [
        RegisterRequest("dc1", node="n", address="1", service=NodeService(service=name))
        for name in ("consul", "Web", "api")
    ]
    outcome = catalog.node(AGENT, request("GET", "n"))
    assert isinstance(outcome, Question)
    body = outcome.render(outcome.read.run(registered(*made), outcome.args, None)).body
    assert list(json.loads(body or b"")["Services"]) == ["Web", "api", "consul"]
