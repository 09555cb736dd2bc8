"""Prepared queries over HTTP and RPC: made, changed, read, executed, by tokens that may and may not."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.acl.access import UNLIMITED
from core.api import catalog, health, query, query_execute, query_shapes
from core.api.endpoint import Answer, Errand, Query, Question, Reply, Request
from core.api.query_execute import Executed, ExecuteRemoteRequest, ExecuteRequest
from core.api.remote import REMOTES
from core.codec import msgpack
from core.errors import BadRequest, CtlError, Denied, Invalid, NotFound, Unavailable
from core.node.prepared import Found, Source
from core.store.structs import (
    CheckServiceNode,
    Node,
    NodeService,
    PreparedQuery,
    PreparedQueryRequest,
    QueryDatacenterOptions,
    QueryDNSOptions,
    QueryFailoverTarget,
    QueryTemplateOptions,
    ServiceQuery,
)
from tests.core.api.query_server import Judges, Only, QueryServer

AGENT: Any = SimpleNamespace(translate_wan_addrs=False, datacenter="dc1", node_name="me")


def ask(method: str, path: str, raw: str = "", body: bytes = b"", **headers: str) -> Any:
    """What the handler makes of a request below /v1/query."""
    request = Request(method, path, path.removeprefix("/v1/query/"), Query(raw.encode()), headers, body, "t")
    request.remote = "127.0.0.9"
    handler = query.general if path == "/v1/query" else query.specific
    return handler(AGENT, request)


def run(server: QueryServer, errand: Errand) -> Any:
    """Nothing here waits for anything, so no loop is needed."""
    work: Any = errand.action.run(server, errand.args)  # type: ignore[arg-type]
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def make(server: QueryServer, body: Any) -> str:
    errand = ask("POST", "/v1/query", body=json.dumps(body).encode())
    reply = errand.render(run(server, errand))
    made: str = json.loads(reply.body)["ID"]
    return made


def execute(server: QueryServer, name: str, raw: str = "", **headers: str) -> Any:
    errand = ask("GET", f"/v1/query/{name}/execute", raw, **headers)
    return json.loads(errand.render(run(server, errand)).body)


def read(server: QueryServer, question: Question) -> Any:
    answer = question.read.run(server.store, question.args, None)
    return json.loads(question.render(answer).body or b"null")


@pytest.fixture
def server() -> QueryServer:
    server = QueryServer()
    for number in range(4):
        server.bench.register(f"n{number}", address=f"10.0.0.{number}")
        server.bench.service(f"n{number}", f"w{number}", "web")
    return server


# --- made, changed, read


def test_a_query_is_made_changed_read_and_deleted(server: QueryServer) -> None:
    made = make(server, {"Name": "q", "Service": {"Service": "web"}})
    assert read(server, ask("GET", f"/v1/query/{made}"))[0]["Name"] == "q"
    change = ask("PUT", f"/v1/query/{made}", body=b'{"Name": "r", "Service": {"Service": "web"}}')
    assert change.render(run(server, change)) == Reply()
    assert [one["Name"] for one in read(server, ask("GET", "/v1/query"))] == ["r"]
    gone = ask("DELETE", f"/v1/query/{made}")
    assert gone.render(run(server, gone)) == Reply()
    assert read(server, ask("GET", "/v1/query")) == []
    with pytest.raises(NotFound, match="Query not found"):
        read(server, ask("GET", f"/v1/query/{made}"))
    for errand in (gone, change):
        with pytest.raises(Invalid, match=f"Cannot modify non-existent prepared query: '{made}'"):
            run(server, errand)
    with pytest.raises(
        Invalid, match="Prepared Query lookup failed: failed prepared query lookup: index error"
    ):
        run(server, ask("DELETE", "/v1/query/short"))


def test_what_is_refused_leaves_no_trace(server: QueryServer) -> None:
    index = server.bench.index
    for body in ({}, {"Name": "q"}, {"ID": "x", "Name": "q", "Service": {"Service": "web"}}):
        with pytest.raises(Invalid):
            make(server, body)
    odd = PreparedQueryRequest("dc1", "upsert", PreparedQuery(), "")
    with pytest.raises(Invalid, match="Prepared Query lookup failed"):
        run(server, Errand(query.APPLY, odd, lambda _: Reply()))
    assert server.bench.index == index
    with pytest.raises(Invalid, match='invalid session "s"'):
        make(server, {"Session": "s", "Service": {"Service": "web"}})
    assert server.store.query_list()[1] == []


def test_unknown_operations(server: QueryServer) -> None:
    made = make(server, {"Name": "q", "Service": {"Service": "web"}})
    odd = PreparedQueryRequest("dc1", "upsert", PreparedQuery(id=made), "")
    with pytest.raises(Invalid, match="Unknown prepared query operation: upsert"):
        run(server, Errand(query.APPLY, odd, lambda _: Reply()))


def test_targets_are_kept_and_shown(server: QueryServer) -> None:
    targets = [{"Peer": "", "Datacenter": "dc2"}]
    made = make(server, {"Name": "q", "Service": {"Service": "web", "Failover": {"Targets": targets}}})
    failover = read(server, ask("GET", f"/v1/query/{made}"))[0]["Service"]["Failover"]
    assert failover == {"NearestN": 0, "Datacenters": None, "Targets": targets}
    body = {"Name": "r", "Service": {"Service": "web", "Failover": {"Targets": None}, "Namespace": "default"}}
    assert (
        "Targets"
        not in query_shapes.show(query_shapes.decode(json.dumps(body).encode()))["Service"]["Failover"]
    )


def test_methods_of_one_query() -> None:
    for path, allowed in (("x/execute", "GET"), ("x/explain", "GET"), ("x", "GET,PUT,DELETE")):
        reply = ask("PATCH", f"/v1/query/{path}")
        assert (reply.status, reply.headers, reply.body) == (
            405,
            {"Allow": allowed},
            b"method PATCH not allowed",
        )
        assert ask("OPTIONS", f"/v1/query/{path}").headers == {"Allow": f"OPTIONS,{allowed}"}


def test_explaining(server: QueryServer) -> None:
    template = {"Type": "name_prefix_match", "Regexp": "^geo-(.*)$"}
    made = make(server, {"Name": "geo-", "Template": template, "Service": {"Service": "${match(1)}"}})
    shown = read(server, ask("GET", "/v1/query/geo-db/explain"))
    assert (shown["Query"]["ID"], shown["Query"]["Service"]["Service"]) == (made, "db")
    assert (shown["ConsistencyLevel"], shown["KnownLeader"], shown["Index"]) == ("leader", True, 0)
    with pytest.raises(NotFound):
        read(server, ask("GET", "/v1/query/other/explain"))
    with pytest.raises(Invalid, match="only be resolved up by name"):
        read(server, ask("GET", f"/v1/query/{made}/explain"))


# --- executed


def test_executing_by_name_and_id(server: QueryServer) -> None:
    made = make(server, {"Name": "Q", "Service": {"Service": "web"}, "DNS": {"TTL": "5s"}})
    for name in ("Q", "q", made):
        found = execute(server, name)
        assert sorted(one["Service"]["ID"] for one in found["Nodes"]) == ["w0", "w1", "w2", "w3"]
        assert (found["Datacenter"], found["Failovers"], found["DNS"]) == ("dc1", 0, {"TTL": "5s"})
    assert len({tuple(one["Node"]["Node"] for one in execute(server, "q")["Nodes"]) for _ in range(20)}) > 5
    with pytest.raises(NotFound, match="Query not found"):
        execute(server, "none")


def test_limits_and_who_asks(server: QueryServer) -> None:
    make(server, {"Name": "q", "Service": {"Service": "web", "Near": "_ip"}})
    assert len(execute(server, "q", "limit=2")["Nodes"]) == 2
    assert len(execute(server, "q", "limit=-1")["Nodes"]) == 4
    # Whoever is named is the first of those near, though nothing has a coordinate.
    firsts = {
        execute(server, "q", "near=n2")["Nodes"][0]["Node"]["Node"],
        execute(server, "q", **{"x-forwarded-for": "10.0.0.2, 10.0.0.1"})["Nodes"][0]["Node"]["Node"],
    }
    assert firsts == {"n2"}
    for raw, why in (("limit=x", "Bad limit: strconv.Atoi"), ("connect=x", "Error parsing 'connect' value")):
        with pytest.raises(Invalid, match=why):
            ask("GET", "/v1/query/q/execute", raw)
    with pytest.raises(Invalid, match="value out of range"):
        ask("GET", "/v1/query/q/execute", "limit=99999999999999999999")
    assert execute(server, "q", "connect=true")["Nodes"] == []


@pytest.mark.parametrize(
    ("forwarded", "remote", "expected"),
    [
        ("", "10.1.1.1", "10.1.1.1"),
        ("10.2.2.2", "10.1.1.1", "10.2.2.2"),
        ("nonsense, 10.2.2.2", "10.1.1.1", "10.1.1.1"),
        ("", "::ffff:10.1.1.1", "10.1.1.1"),
        ("", "fe80::1%eth0", "fe80::1"),
        ("", "", ""),
    ],
)
def test_the_address_of_the_client(forwarded: str, remote: str, expected: str) -> None:
    request = Request("GET", "/", "", Query(b""), {"x-forwarded-for": forwarded}, b"", remote=remote)
    assert query_execute.who_asks(AGENT, request)[0].ip == expected


def test_consistency(server: QueryServer) -> None:
    make(server, {"Name": "q", "Service": {"Service": "web"}})
    assert execute(server, "q", "consistent")["ConsistencyLevel"] == "consistent"
    assert server.raft.verified == 1
    server.raft.is_leader, server.raft.contact = False, 9_000_000
    stale = ask("GET", "/v1/query/q/execute", "stale")
    assert not stale.action.leader
    reply = stale.render(run(server, stale))
    assert (reply.headers["X-Consul-LastContact"], reply.index) == ("9", 1)
    assert json.loads(reply.body)["LastContact"] == 9_000_000
    assert ask("GET", "/v1/query/q/execute").action.leader
    # Too stale: the leader is asked instead.
    server.elsewhere["dc1"] = Executed(Found("leader's"))
    assert execute(server, "q", "max_stale=5ms")["Service"] == "leader's"
    assert not server.sent[-1].args.allow_stale
    assert execute(server, "q", "max_stale=10ms")["Service"] == "web"


def test_a_cached_result_is_made_anew_at_any_server(server: QueryServer) -> None:
    make(server, {"Name": "q", "Service": {"Service": "web"}})
    cached = ask("GET", "/v1/query/q/execute", "cached")
    assert not cached.action.leader
    reply = cached.render(run(server, cached))
    assert reply.headers["X-Cache"] == "MISS"
    assert reply.headers["X-Consul-Effective-Consistency"] == "leader"


def test_tags_that_were_never_given_are_null(server: QueryServer) -> None:
    make(server, {"Name": "q", "Service": {"Service": "web"}})
    server.bench.service("n0", "w0", "web", tags=["a"])
    tags = [one["Service"]["Tags"] for one in execute(server, "q")["Nodes"]]
    assert sorted(tags, key=str) == [None, None, None, ["a"]]


def test_a_query_can_be_called_execute(server: QueryServer) -> None:
    make(server, {"Name": "execute", "Service": {"Service": "web"}})
    errand = ask("GET", "/v1/query/execute")
    assert len(json.loads(errand.render(run(server, errand)).body)["Nodes"]) == 4
    assert read(server, ask("GET", "/v1/query/execute/explain"))["Query"]["Name"] == "execute"
    assert ask("PUT", "/v1/query/explain").status == 405
    with pytest.raises(Invalid, match=r"^Prepared Query lookup failed"):
        run(server, ask("PUT", "/v1/query/short"))


# --- other datacenters

FAR = (CheckServiceNode(Node(node="far", datacenter="dc3"), NodeService(id="w", service="db")),)


def failing(**failover: Any) -> tuple[QueryServer, dict[str, Any]]:
    server = QueryServer(
        {
            "dc2": Unavailable("No path to datacenter"),
            "dc4": Executed(Found("db", (), QueryDNSOptions("1s"), "dc4")),
            "dc3": Executed(Found("db", FAR, QueryDNSOptions("1s"), "dc3")),
            "dc5": Executed(Found("db", FAR, QueryDNSOptions("1s"), "dc5")),
        }
    )
    body = {"Name": "q", "Service": {"Service": "db", "Failover": failover}, "DNS": {"TTL": "1s"}}
    make(server, body)
    return server, execute(server, "q", "limit=3&token=x")


@pytest.mark.parametrize(
    ("failover", "datacenter", "failovers"),
    [
        ({}, "dc1", 0),
        ({"NearestN": 1}, "dc1", 1),
        ({"NearestN": 2}, "dc4", 2),
        ({"NearestN": 9}, "dc3", 3),
        ({"NearestN": 1, "Datacenters": ["dc5", "dc9", "dc3"]}, "dc5", 2),
        ({"Targets": [{"Datacenter": "dc5"}]}, "dc5", 1),
    ],
)
def test_other_datacenters_are_asked_in_turn(failover: Any, datacenter: str, failovers: int) -> None:
    server, found = failing(**failover)
    assert (found["Datacenter"], found["Failovers"]) == (datacenter, failovers)
    assert bool(found["Nodes"]) == (datacenter in ("dc3", "dc5"))
    assert [errand.action.rpc for errand in server.sent] == ["PreparedQuery.ExecuteRemote"] * failovers
    asked_dc2 = any(errand.datacenter == "dc2" for errand in server.sent)
    assert server.failures == (["q dc2: No path to datacenter"] if asked_dc2 else [])
    for errand in server.sent:
        args = errand.args
        assert (args.datacenter, args.limit, args.query.name) == (errand.datacenter, 3, "q")


def test_templates_go_to_other_datacenters_filled_in() -> None:
    server = QueryServer({"dc3": Executed(Found("db", FAR, QueryDNSOptions(), "dc3"))})
    service = {"Service": "${name.suffix}", "Failover": {"Datacenters": ["dc3"]}}
    make(server, {"Name": "t-", "Template": {"Type": "name_prefix_match"}, "Service": service})
    assert execute(server, "t-db")["Datacenter"] == "dc3"
    assert server.sent[0].args.query.service.service == "db"


def test_a_query_of_another_datacenter_is_looked_for_here(server: QueryServer) -> None:
    asked = PreparedQuery(name="q", service=ServiceQuery("web", near="n1"), dns=QueryDNSOptions("2s"))
    errand = query_execute.remote_errand(ExecuteRemoteRequest("dc1", asked, limit=3))
    orders = set()
    for _ in range(20):
        executed = run(server, errand)
        assert (executed.found.service, executed.found.dns.ttl, executed.found.datacenter) == (
            "web",
            "2s",
            "dc1",
        )
        orders.add(tuple(one.node.node for one in executed.found.nodes))
    assert len(orders) > 5  # whoever asks is far from all of them
    assert all(len(order) == 3 for order in orders)


# --- tokens

QUERIES = [
    PreparedQuery(id="1", name="geo-a", token="secret"),
    PreparedQuery(id="2", name="other"),
    PreparedQuery(id="3", session="s", token="secret"),
    PreparedQuery(id="4", template=QueryTemplateOptions("name_prefix_match")),
]


def seen(permit: Any, judge: Only, value: Any) -> Any:
    return permit(judge, query.QueryRequest(), Answer(7, value))


def test_lists_show_what_may_be_read() -> None:
    everything = seen(query._permit_list, Only("acl:write"), QUERIES)
    assert (everything.value, everything.filtered) == (QUERIES, False)
    some = seen(query._permit_list, Only("query:read geo-"), QUERIES)
    assert [(one.id, one.token) for one in some.value] == [("1", "<hidden>")]
    assert some.filtered
    names = seen(query._permit_list, Only("query:read"), QUERIES)
    assert [one.id for one in names.value] == ["1", "2", "4"]
    assert not names.filtered  # that a nameless one is missing is not told


def test_reading_one_query() -> None:
    for one, judge, token in (
        (QUERIES[0], Only("query:read geo-"), "<hidden>"),
        (QUERIES[0], Only("query:read geo-", "acl:write"), "secret"),
        (QUERIES[0], Only("acl:write"), "secret"),
        (QUERIES[2], Only(), "<hidden>"),  # whoever has its id may read it
    ):
        assert seen(query._permit_get, judge, [one]).value[0].token == token
    with pytest.raises(Denied):
        seen(query._permit_get, Only("query:read other"), [QUERIES[0]])


def test_explaining_takes_reading() -> None:
    args = query.ExplainRequest("geo-a")
    assert (
        query._permit_explain(Only("query:read geo-"), args, Answer(0, QUERIES[0])).value.token == "<hidden>"
    )
    for one, judge in ((QUERIES[0], Only("query:read other")), (QUERIES[2], Only("query:read"))):
        with pytest.raises(Denied, match="Permission denied"):
            query._permit_explain(judge, args, Answer(0, one))
    assert query._permit_explain(UNLIMITED, args, Answer(0, QUERIES[0])).value == QUERIES[0]


def test_changing_takes_writing_of_the_old_and_the_new_name(server: QueryServer) -> None:
    server.permissions = Judges({"t": Only("query:write geo-"), "": Only()})
    with pytest.raises(Denied, match="query:write on web"):
        make(server, {"Name": "web", "Service": {"Service": "web"}})
    made = make(server, {"Name": "geo-1", "Service": {"Service": "web"}})
    with pytest.raises(Denied, match="query:write on web"):
        run(server, ask("PUT", f"/v1/query/{made}", body=b'{"Name": "web", "Service": {"Service": "web"}}'))
    server.permissions = Judges({"t": Only("query:write web")})
    for errand in (
        ask("PUT", f"/v1/query/{made}", body=b'{"Name": "web", "Service": {"Service": "web"}}'),
        ask("DELETE", f"/v1/query/{made}"),
    ):
        with pytest.raises(Denied, match="query:write on geo-1"):
            run(server, errand)
    server.permissions = Judges({})
    with pytest.raises(Denied, match="ACL not found"):
        run(server, ask("DELETE", f"/v1/query/{made}"))
    assert server.store.query_get(made)[1] is not None


def test_executing_shows_what_the_token_may_see(server: QueryServer) -> None:
    make(server, {"Name": "q", "Service": {"Service": "web"}})
    make(server, {"Name": "with", "Token": "own", "Service": {"Service": "web"}})
    server.permissions = Judges(
        {
            "t": Only("service:read web", "node:read n1"),
            "own": Only("service:read", "node:read"),
            "no": Only(),
            "": Only(),
        }
    )
    errand = ask("GET", "/v1/query/q/execute")
    reply = errand.render(run(server, errand))
    assert [one["Node"]["Node"] for one in json.loads(reply.body)["Nodes"]] == ["n1"]
    assert reply.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"
    assert len(execute(server, "with")["Nodes"]) == 4
    nothing = run(server, query_execute.errand(ExecuteRequest("q", token="no")))
    assert (nothing.found.nodes, nothing.filtered) == ([], True)
    nobody = run(server, query_execute.errand(ExecuteRequest("q")))
    assert (nobody.found.nodes, nobody.filtered) == ([], False)
    remote = ExecuteRemoteRequest("dc1", PreparedQuery(service=ServiceQuery("web")), token="no")
    assert run(server, query_execute.remote_errand(remote)).found.nodes == []
    with pytest.raises(Denied, match="ACL not found"):
        run(server, query_execute.errand(ExecuteRequest("q", token="unknown")))


# --- over RPC


def over_rpc(work: Any) -> Any:
    """The same work after a way over the wire."""
    remote = REMOTES[(work.read if isinstance(work, Question) else work.action).rpc]
    return remote.accept(msgpack.decode(msgpack.encode(remote.request(work, "dc1"))))


def test_work_is_the_same_behind_the_wire() -> None:
    raw = "near=n1&limit=4&connect=1&stale&dc=dc2&max_stale=3s"
    errand = ask("GET", "/v1/query/q/execute", raw)
    there = over_rpc(errand)
    assert (there.args, there.datacenter, there.action.leader) == (errand.args, "dc2", False)
    assert there.args.source == Source("dc2", "", "n1", "127.0.0.9")
    asked = PreparedQuery(
        id="1",
        name="q",
        service=ServiceQuery(
            "web", QueryDatacenterOptions(0, None, [QueryFailoverTarget(datacenter="dc9")]), tags=["a"]
        ),
    )
    remote = query_execute.remote_errand(ExecuteRemoteRequest("dc3", asked, 2, True, "t"))
    assert over_rpc(remote).args == remote.args
    change = ask("PUT", "/v1/query/1", body=b'{"Name": "r", "Service": {"Service": "web"}}')
    assert over_rpc(change).args == replace(change.args, token="t")
    for path in ("/v1/query", "/v1/query/1", "/v1/query/x/explain"):
        question = ask("GET", path)
        assert over_rpc(question).args == question.args


def test_what_was_found_is_the_same_behind_the_wire() -> None:
    executed = Executed(Found("db", list(FAR), QueryDNSOptions("3s"), "dc3", 2), 5, True)
    for rpc in ("PreparedQuery.Execute", "PreparedQuery.ExecuteRemote"):
        remote = REMOTES[rpc]
        assert remote.answer(msgpack.decode(msgpack.encode(remote.reply(executed)))) == executed
        with pytest.raises(Unavailable):
            remote.answer([])


# --- odd bodies

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["ID", "Name", "Session", "Token", "Service", "DNS", "Template", "name", "x"])
SERVICE = st.dictionaries(
    st.sampled_from(["Service", "Failover", "Near", "Tags", "NodeMeta", "IgnoreCheckIDs", "OnlyPassing"]),
    JSON | st.just("${match(1)}") | st.lists(st.just("${name.full}"), max_size=2),
    max_size=4,
)
TEMPLATE = st.fixed_dictionaries(
    {"Type": st.just("name_prefix_match"), "Regexp": st.text("(a|b)*?[]+", max_size=6)}
)


@given(
    st.binary(max_size=30)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(FIELDS, JSON | SERVICE | TEMPLATE, max_size=5).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_odd_bodies_are_refused_with_a_reason(body: bytes) -> None:
    server = QueryServer()
    try:
        errand = ask("POST", "/v1/query", body=body)
    except BadRequest as error:
        assert str(error).startswith("Request decode failed: ")
        return
    try:
        made = run(server, errand)
    except CtlError as error:
        assert str(error)
        return
    shown = read(server, ask("GET", f"/v1/query/{made}"))
    assert shown[0]["ID"] == made
    name = shown[0]["Name"]
    if name:
        execute(server, name)


# --- near, for reads of the catalog and of health


def test_orders_by_distance_are_not_remembered(server: QueryServer) -> None:
    """The nodes move without anything that a watch would tell."""
    for handler, rest in (
        (catalog.nodes, ""),
        (catalog.service, "web"),
        (health.service, "web"),
        (health.checks, "web"),
        (health.state, "any"),
    ):
        for raw, node, remembered in (("near=n1", "n1", False), ("near=_agent", "me", False), ("", "", None)):
            question: Any = handler(AGENT, Request("GET", "/", rest, Query(raw.encode()), {}, b""))
            assert question.args.near == node
            answer = question.read.run(server.store, question.args, None)
            assert remembered is None or answer.remember is remembered
            assert over_rpc(question).args == question.args


def test_who_is_elsewhere_is_not_near() -> None:
    request = Request("GET", "/", "web", Query(b"near=n1"), {}, b"")
    question: Any = health.service(AGENT, request)
    body = REMOTES["Health.ServiceNodes"].request(question, "dc1")
    body["Source"]["Datacenter"] = "dc2"
    asked: Any = REMOTES["Health.ServiceNodes"].accept(msgpack.decode(msgpack.encode(body)))
    assert asked.args.near == ""
