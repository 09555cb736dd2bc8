"""What a token might try to learn, or change, by ways that were not made for it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from msgspec.structs import replace

from agent import snapshot_rpc
from agent.coordinates import batch_command
from core.api import agent as agent_endpoints
from core.api import agent_services, catalog, config_entry, event, health, remote_internal, txn
from core.api import coordinate as coordinates
from core.api.endpoint import AgentDoor, Query, QueryOptions, Question, Read, Reply, Request
from core.api.remote_reads import NODE_SERVICE_LIST
from core.errors import Denied, Invalid
from core.gossip import consul_events
from core.gossip.consul_events import ConsulEvent
from core.node.definitions import ServiceDefinition
from core.store import commands
from core.store.apply import apply
from core.store.state import Store
from core.store.structs import (
    Coord,
    Coordinate,
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnRequest,
)
from tests.agent.local_fakes import FakeAgent
from tests.agent.raft_network import Network
from tests.agent.test_permitted import Known, judge, leading, no_reply

NODES = 'node_prefix "" { policy = "read" }'
SECRET = "hunter2"


def _hidden_service(calls: Any) -> None:
    register = RegisterRequest(
        datacenter="dc1",
        node="n1",
        address="10.0.0.1",
        service=NodeService(id="vault", service="vault", meta={"password": SECRET}),
        checks=[HealthCheck(node="n1", check_id="up", service_id="vault", output=SECRET)],
    )
    assert not isinstance(apply(calls.store, 1, commands.register(register)), Exception)


FILTERED: list[tuple[Read, Any, str]] = [
    (catalog.SERVICE_NODES, catalog.ServiceRequest("vault"), "ServiceMeta.password"),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), "Meta.password"),
    (NODE_SERVICE_LIST, catalog.NameRequest("n1"), "Meta.password"),
    (health.SERVICE_NODES, catalog.ServiceRequest("vault"), "Service.Meta.password"),
    (health.NODE_CHECKS, catalog.NameRequest("n1"), "Output"),
    (health.SERVICE_CHECKS, health.ChecksRequest(service="vault"), "Output"),
    (health.CHECKS_IN_STATE, health.ChecksRequest(state="any"), "Output"),
    (remote_internal.SERVICE_DUMP, remote_internal.DumpRequest(), "Service.Meta.password"),
]


@pytest.mark.parametrize(("read", "args", "field"), FILTERED, ids=lambda one: getattr(one, "rpc", None))
def test_a_filter_does_not_tell_of_what_is_hidden(read: Read, args: Any, field: str) -> None:
    """The answer to a guess at a hidden field is the same whether the guess is right or not."""

    async def scene() -> None:
        calls = leading(Known(reader=judge(NODES)))
        _hidden_service(calls)
        answers = []
        for guess in ("hunter", "zzz"):
            asked = type(args)(
                **{name: getattr(args, name) for name in args.__struct_fields__}
                | {"filter": f'{field} matches "{guess}"'}
            )
            answers.append(calls.ask(Question(read, asked, QueryOptions(token="reader"), no_reply)))
        assert answers[0] == answers[1]
        assert answers[0].filtered

    asyncio.run(scene())


def test_a_filter_still_picks_and_a_wrong_one_is_refused() -> None:
    async def scene() -> None:
        calls = leading(Known(all=judge(NODES + ' service_prefix "" { policy = "read" }')))
        _hidden_service(calls)

        def found(expression: str) -> int:
            args = health.ChecksRequest(state="any", filter=expression)
            return len(
                calls.ask(Question(health.CHECKS_IN_STATE, args, QueryOptions(token="all"), no_reply)).value
            )

        assert (found(f'Output == "{SECRET}"'), found('Output == "x"')) == (1, 0)
        with pytest.raises(Invalid):
            found("Output ==")

    asyncio.run(scene())


NODE_ID = "aaaaaaaa-2222-3333-4444-555555555555"
N9, MINE = 'node "n9" { policy = "write" } ', 'service "mine" { policy = "write" } '


def _judged(store: Store, rules: str, args: RegisterRequest) -> list[str]:
    """Who refuses: the registration, and the transaction that says the same of the node."""
    assert catalog.REGISTER.permit is not None and txn.APPLY.permit is not None
    refused = []
    try:
        catalog.REGISTER.permit(judge(rules), store, args)
    except Denied:
        refused.append("register")
    op = TxnOp(node=TxnNodeOp("set", Node(id=args.id, node=args.node, address=args.address)))
    if txn.APPLY.permit(judge(rules), store, TxnRequest("dc1", [op])) is not None:
        refused.append("txn")
    return refused


def _with_node(status: str) -> Store:
    store = Store()
    alive = HealthCheck(node="n1", check_id="serfHealth", status=status)
    mine = NodeService(id="mine", service="mine")
    register = RegisterRequest(
        datacenter="dc1", id=NODE_ID, node="n1", address="10.0.0.1", check=alive, service=mine
    )
    assert not isinstance(apply(store, 1, commands.register(register)), Exception)
    return store


@pytest.mark.parametrize(("status", "refused"), [("passing", ["register", "txn"]), ("critical", [])])
def test_a_node_that_lives_does_not_lose_its_id_to_another_name(status: str, refused: list[str]) -> None:
    """Whoever takes the id of a node deletes it."""
    store = _with_node(status)
    args = RegisterRequest(datacenter="dc1", id=NODE_ID.upper(), node="n9", address="10.0.0.9")
    assert _judged(store, N9, args) == refused
    assert _judged(store, N9 + 'node "n1" { policy = "write" }', args) == []


def test_the_health_of_a_node_does_not_become_that_of_a_service() -> None:
    store = _with_node("critical")
    taken = HealthCheck(node="n1", check_id="SERFHEALTH", service_id="mine", status="passing")
    args = RegisterRequest(datacenter="dc1", node="n1", skip_node_update=True, check=taken)
    assert catalog.REGISTER.permit is not None
    with pytest.raises(Denied):
        catalog.REGISTER.permit(judge(MINE), store, args)
    catalog.REGISTER.permit(judge(MINE + 'node "n1" { policy = "write" }'), store, args)


def test_an_event_needs_the_right_to_the_name_that_agents_hear() -> None:
    """Another agent may send any payload under any name."""
    allowed = judge('event "deploy" { policy = "write" }')

    def fire(name: str, told: str) -> None:
        payload = consul_events.encode(ConsulEvent(id=NODE_ID, name=told))
        assert event.FIRE.permit is not None
        event.FIRE.permit(allowed, event.EventFireRequest("dc1", name, payload))

    fire("deploy", "deploy")
    with pytest.raises(Denied):
        fire("deploy", "reboot")


def test_no_archive_is_waited_for_from_somebody_who_may_not_restore_it() -> None:
    async def scene() -> None:
        net = Network(None, "a")
        host = await net.start()
        host.archives._permissions = lambda: Known()
        server = net.address_of("a", "")
        assert server is not None
        reader, writer = await snapshot_rpc._call(
            host.archives._dialer, server, snapshot_rpc.RESTORE, "dc1", False, ""
        )
        with pytest.raises(Denied, match="acl:write"):
            await snapshot_rpc._answer(reader, 3.0)
        writer.close()
        await net.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("guarded", [True, False])
def test_what_is_asked_as_a_read_writes_nothing(guarded: bool) -> None:
    """Over RPC any operation can be sent as Txn.Read, which does not go through the log."""

    async def scene() -> None:
        calls = leading(Known(writer=judge('key_prefix "" { policy = "write" }')))
        if not guarded:
            calls.permissions = None
        ops = (TxnOp(kv=TxnKVOp("set", DirEntry(b"a", b"v"))),)
        asked = Question(txn.READ, txn.TxnReadRequest(ops), QueryOptions(token="writer"), no_reply)
        with pytest.raises(Invalid):
            calls.ask(asked)
        assert not calls.store.kv.rows

    asyncio.run(scene())


def test_the_case_of_letters_is_no_way_around_a_rule() -> None:
    """Names that are found in any case, where a rule takes one out of many."""
    authorizer = judge(
        'node_prefix "" { policy = "read" } node "n1" { policy = "deny" } '
        'service_prefix "" { policy = "write" } service "web" { policy = "deny" }'
    )
    store = _with_node("passing")
    update = batch_command([Coordinate("n1", "", Coord([0.0] * 8))])
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    request = config_entry.ConfigEntryRequest("upsert", "service-defaults", entry, "dc1")
    assert config_entry.APPLY.permit is not None and config_entry.GET.permit is not None
    written = config_entry.APPLY.prepare(store, request)
    for index, data in enumerate((update, written), 2):
        assert isinstance(data, bytes) and not isinstance(apply(store, index, data), Exception)

    asked = coordinates.NodeRequest("N1")
    found = coordinates.NODE.run(store, asked, None)
    assert found.value and coordinates.NODE.permit is not None
    with pytest.raises(Denied):
        coordinates.NODE.permit(authorizer, asked, found)
    with pytest.raises(Denied):
        again = replace(request, entry={**entry, "Name": "WEB"})
        config_entry.APPLY.permit(authorizer, store, again)
    query = config_entry.EntryQuery("service-defaults", "WEB")
    seen = config_entry.GET.run(store, query, None)
    assert seen.value
    with pytest.raises(Denied):
        config_entry.GET.permit(authorizer, query, seen)


def test_a_log_that_is_read_ends_with_the_right_to_it() -> None:
    async def scene() -> None:
        agent = FakeAgent()
        tokens = {"reader": judge('agent "n1" { policy = "read" }')}
        agent.permissions = Known(**tokens)
        request = Request("GET", "/v1/agent/monitor", "", Query(b""), {}, b"", "reader")
        request.authorizer = tokens["reader"]
        reply = agent_endpoints.monitor(cast(AgentDoor, agent), request)
        assert isinstance(reply, Reply) and reply.stream is not None
        lines = reply.stream
        assert await anext(lines) == b"one\n"
        agent.permissions.tokens.clear()
        assert [line async for line in lines] == [] and agent.log.closed
        await agent.local.stop()

    asyncio.run(scene())


def test_a_service_that_is_waited_for_is_not_told_to_a_token_that_is_gone() -> None:
    async def scene() -> None:
        agent = FakeAgent()
        await agent.local.start([ServiceDefinition(name="web", port=80)], [])
        agent.permissions = Known(reader=judge('service "web" { policy = "read" }'))

        async def ask(query: bytes) -> Reply:
            request = Request("GET", "/v1/agent/service/web", "web", Query(query), {}, b"", "reader")
            assert agent.permissions is not None
            request.authorizer = await agent.permissions.find("reader")
            return await agent_services.service(cast(AgentDoor, agent), request)

        known = (await ask(b"")).headers["X-Consul-ContentHash"]
        waiting = asyncio.create_task(ask(f"hash={known}&wait=10s".encode()))
        await asyncio.sleep(0)
        agent.permissions.tokens.clear()
        await agent.local.add_service(ServiceDefinition(name="web", port=81), False, "")
        with pytest.raises(Denied):
            await waiting
        await agent.local.stop()

    asyncio.run(scene())
