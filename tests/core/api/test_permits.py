"""What each question shows a token, and what each change asks of it: rules beside what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.acl.authorizer import Judge
from core.acl.policy import parse
from core.acl.rights import Rights
from core.api import catalog, coordinate, event, health, keyring, kv, operator, remote_internal, session, txn
from core.api.endpoint import OPEN, Action, Answer, Read, Settled, Write
from core.api.remote import REMOTES
from core.api.remote_reads import NODE_SERVICE_LIST, SERVICES_AT, AddressRequest
from core.errors import Denied, Invalid
from core.store import commands
from core.store.apply import apply
from core.store.state import Store
from core.store.structs import (
    Coord,
    DeregisterRequest,
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
    Session,
    SessionRequest,
    TxnCheckOp,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnRequest,
    TxnResponse,
    TxnServiceOp,
    TxnSessionOp,
)

SESSION = "11111111-2222-3333-4444-555555555555"
GONE = "99999999-2222-3333-4444-555555555555"
ADDRESS = "10.0.0.1"


AT = {"web": "10.1.0.1", "db": "10.1.0.2"}


def judge(rules: str, key_list: bool = False) -> Judge:
    """The judge of a token with these rules, and nothing else allowed."""
    return Judge("the-accessor", Rights([("p", parse(rules))]), "deny", "agent-1", key_list)


def state() -> Store:
    """Two nodes with the services web and db, checks, a session, coordinates and keys."""
    store = Store()
    made = [
        commands.register(
            RegisterRequest(
                datacenter="dc1",
                node=node,
                address=ADDRESS,
                service=NodeService(id=f"{name}-1", service=name, tags=["t"], address=AT[name]),
                checks=[
                    HealthCheck(node=node, check_id=f"{name}-up", status="passing", service_id=f"{name}-1"),
                    HealthCheck(node=node, check_id="alive", status="passing"),
                ],
            )
        )
        for node, name in (("n1", "web"), ("n2", "db"))
    ]
    made.append(commands.session(SessionRequest("dc1", "create", Session(id=SESSION, node="n1"))))
    made += [commands.kvs("set", key, b"v") for key in KEYS]
    made.append(
        commands.txn(TxnRequest("dc1", []))  # an index without a change
    )
    for index, data in enumerate(made, 1):
        result = apply(store, index, data)
        assert not isinstance(result, Exception), result
    return store


KEYS = (b"a", b"app/b/x", b"app/b/y", b"app/c/x", b"app/d", b"z")
STORE = state()


def ask(read: Read, args: Any, rules: str, key_list: bool = False) -> Answer:
    """What `Calls` makes of a question where ACLs are on."""
    authorizer = judge(rules, key_list)
    if read.judged is not None:
        return read.judged(authorizer, STORE, args, None)
    assert read.permit is not None
    before = read.run(STORE, args, None)
    answer = read.permit(authorizer, args, before)
    assert before == read.run(STORE, args, None), "the answer that it was given is left as it was"
    return answer


ALL = 'node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }'
N1 = 'node "n1" { policy = "read" }'
WEB = 'service "web" { policy = "read" }'

SERVICE = catalog.ServiceRequest("web")
LISTS: list[tuple[Read, Any, str, list[str]]] = [
    (catalog.LIST_NODES, catalog.NodesRequest(), ALL, ["n1", "n2"]),
    (catalog.LIST_NODES, catalog.NodesRequest(), N1, ["n1"]),
    (catalog.LIST_NODES, catalog.NodesRequest(), WEB, []),
    (catalog.LIST_SERVICES, catalog.NodesRequest(), ALL, ["db", "web"]),
    (catalog.LIST_SERVICES, catalog.NodesRequest(), WEB, ["web"]),
    (catalog.LIST_SERVICES, catalog.NodesRequest(), N1, []),
    (catalog.SERVICE_NODES, SERVICE, ALL, ["n1/web"]),
    (catalog.SERVICE_NODES, SERVICE, N1 + WEB, ["n1/web"]),
    (catalog.SERVICE_NODES, SERVICE, N1, []),
    (catalog.SERVICE_NODES, SERVICE, WEB, []),
    (SERVICES_AT, AddressRequest(AT["web"]), N1 + WEB, ["n1/web"]),
    (SERVICES_AT, AddressRequest(AT["web"]), N1, []),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), ALL, ["n1/web"]),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), N1 + WEB, ["n1/web"]),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), N1, ["n1/"]),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), WEB, []),
    (NODE_SERVICE_LIST, catalog.NameRequest("n1"), N1, ["n1/"]),
    (NODE_SERVICE_LIST, catalog.NameRequest("n1"), WEB, []),
    (health.SERVICE_NODES, SERVICE, N1 + WEB, ["n1/web"]),
    (health.SERVICE_NODES, SERVICE, N1, []),
    (health.SERVICE_NODES, SERVICE, WEB, []),
    (health.NODE_CHECKS, catalog.NameRequest("n1"), ALL, ["n1/alive", "n1/web-up"]),
    (health.NODE_CHECKS, catalog.NameRequest("n1"), N1, ["n1/alive"]),
    (health.NODE_CHECKS, catalog.NameRequest("n1"), WEB, []),
    (health.SERVICE_CHECKS, health.ChecksRequest("web"), N1 + WEB, ["n1/web-up"]),
    (health.SERVICE_CHECKS, health.ChecksRequest("web"), N1, []),
    (health.CHECKS_IN_STATE, health.ChecksRequest(state="any"), N1, ["n1/alive"]),
    (health.CHECKS_IN_STATE, health.ChecksRequest(state="any"), N1 + WEB, ["n1/alive", "n1/web-up"]),
    (session.LIST, session.NodeRequest(), 'session "n1" { policy = "read" }', [SESSION]),
    (session.LIST, session.NodeRequest(), 'session "n2" { policy = "read" }' + ALL, []),
    (session.NODE_SESSIONS, session.NodeRequest("n1"), ALL, []),
    (session.NODE_SESSIONS, session.NodeRequest("n1"), 'session_prefix "" { policy = "write" }', [SESSION]),
    (
        session.GET,
        session.SessionSpecificRequest(SESSION),
        'session_prefix "n" { policy = "read" }',
        [SESSION],
    ),
    (session.GET, session.SessionSpecificRequest(SESSION), N1, []),
    (remote_internal.NODE_DUMP, remote_internal.DumpRequest(), ALL, ["n1/web/2", "n2/db/2"]),
    (remote_internal.NODE_DUMP, remote_internal.DumpRequest(), N1, ["n1//1"]),
    (remote_internal.NODE_INFO, remote_internal.DumpRequest(node="n1"), N1 + WEB, ["n1/web/2"]),
    (remote_internal.NODE_INFO, remote_internal.DumpRequest(node="n1"), WEB, []),
    (remote_internal.SERVICE_DUMP, remote_internal.DumpRequest(), N1 + WEB, ["n1/web"]),
    (remote_internal.SERVICE_DUMP, remote_internal.DumpRequest(), N1, []),
    (kv.LIST, kv.KeyRequest(b"app/"), 'key_prefix "app/b/" { policy = "read" }', ["app/b/x", "app/b/y"]),
    (kv.LIST, kv.KeyRequest(b""), 'key "a" { policy = "read" } key_prefix "" { policy = "deny" }', ["a"]),
    (kv.LIST, kv.KeyRequest(b""), ALL, []),
    (kv.LIST_KEYS, kv.KeyRequest(b"app/"), 'key "app/d" { policy = "read" }', ["app/d"]),
    (
        kv.LIST_KEYS,
        kv.KeyRequest(b"app/", b"/"),
        'key_prefix "app/" { policy = "read" } key_prefix "app/c/" { policy = "deny" }',
        ["app/b/", "app/d"],
    ),
    (kv.LIST_KEYS, kv.KeyRequest(b"app/", b"/"), 'key "app/c/x" { policy = "read" }', ["app/c/"]),
]


def names(value: Any) -> list[str]:
    """What is in an answer, in short."""
    if isinstance(value, tuple):  # a node and its services
        host, services = value
        return [f"{host.node}/{'+'.join(one.service for one in services)}"] if host is not None else []
    return sorted(map(_name, value))


def _name(item: Any) -> str:
    if isinstance(item, str | bytes):
        return item if isinstance(item, str) else item.decode()
    if isinstance(item, tuple):
        if len(item) == 3:
            return f"{item[0].node}/{'+'.join(one.service for one in item[1])}/{len(item[2])}"
        return f"{item[0].node}/{item[1].service}"
    if isinstance(item, Node):
        return item.node
    if isinstance(item, HealthCheck):
        return f"{item.node}/{item.check_id}"
    if isinstance(item, Session):
        return item.id
    if isinstance(item, DirEntry):
        return item.key.decode()
    return f"{item.node.node}/{item.service.service}"


@pytest.mark.parametrize(
    ("read", "args", "rules", "seen"), LISTS, ids=[f"{n}-{one[0].rpc}" for n, one in enumerate(LISTS)]
)
def test_a_listing_shows_what_may_be_read(read: Read, args: Any, rules: str, seen: list[str]) -> None:
    answer = ask(read, args, rules)
    assert names(answer.value) == seen
    all_there = names(read.run(STORE, args, None).value)
    if read is not kv.LIST_KEYS:
        assert answer.filtered == (seen != all_there)
    if not seen:
        assert answer.filtered == bool(all_there)


REFUSED: list[tuple[Read, Any, str, str]] = [
    (kv.GET, kv.KeyRequest(b"a"), 'key "a" { policy = "read" }', 'key_prefix "b" { policy = "write" }'),
    (kv.GET, kv.KeyRequest(b"missing"), 'key_prefix "m" { policy = "read" }', ALL),
    (coordinate.NODE, coordinate.NodeRequest("n1"), N1, WEB),
    (catalog.GATEWAY_SERVICES, catalog.NameRequest("web"), WEB, N1),
]


@pytest.mark.parametrize(("read", "args", "enough", "other"), REFUSED)
def test_a_read_of_one_thing_is_refused_as_a_whole(read: Read, args: Any, enough: str, other: str) -> None:
    ask(read, args, enough)
    with pytest.raises(Denied, match="Permission denied"):
        ask(read, args, other)


def test_a_refusal_tells_whose_right_to_what_is_missing_and_who_says_so() -> None:
    with pytest.raises(Denied) as refused:
        ask(kv.GET, kv.KeyRequest(b"a"), "")
    for word in ("Permission denied", "the-accessor", "key:read", '"a"', "agent-1"):
        assert word in refused.value.text


def test_listing_keys_needs_a_right_of_its_own_where_the_agent_says_so() -> None:
    read, listed = 'key_prefix "app/" { policy = "read" }', 'key_prefix "app/" { policy = "list" }'
    for one in (kv.LIST, kv.LIST_KEYS):
        args = kv.KeyRequest(b"app/")
        assert len(ask(one, args, read).value) == 4
        assert len(ask(one, args, listed, key_list=True).value) == 4
        with pytest.raises(Denied):
            ask(one, args, read, key_list=True)


def test_a_service_of_the_mesh_is_hidden_by_its_own_name() -> None:
    connect = catalog.ServiceRequest("web", connect=True)
    for read in (catalog.SERVICE_NODES, health.SERVICE_NODES):
        assert not ask(read, connect, 'node_prefix "" { policy = "read" }').value


# --- changes ------------------------------------------------------------------------------------------


def permitted(write: Write, args: Any, rules: str) -> Settled | None:
    assert write.permit is not None
    return write.permit(judge(rules), STORE, args)


def kvs(op: str, key: bytes) -> kv.KVChange:
    return kv.KVChange(op, key, b"")


def register(node: str = "n1", address: str = ADDRESS, **more: Any) -> RegisterRequest:
    return RegisterRequest(datacenter="dc1", node=node, address=address, **more)


def write(resource: str, name: str) -> str:
    return f'{resource} "{name}" {{ policy = "write" }} '


def check(**fields: Any) -> HealthCheck:
    return HealthCheck(node="n1", check_id="c", **fields)


N, W = write("node", "n1"), write("service", "web")
WEB_1 = NodeService(id="web-1", service="web")
WRITES: list[tuple[Write, Any, str, str]] = [  # what is enough, and what is not
    (kv.APPLY, kvs("set", b"a"), write("key", "a"), 'key "a" { policy = "read" }'),
    (kv.APPLY, kvs("lock", b"a"), write("key", "a"), write("key", "b")),
    (kv.APPLY, kvs("delete", b"a"), write("key_prefix", ""), write("key", "b")),
    (
        kv.APPLY,
        kvs("delete-tree", b"app/"),
        write("key_prefix", "app/"),
        write("key_prefix", "app/") + 'key "app/c/x" { policy = "read" }',
    ),
    (kv.APPLY, kvs("delete-tree", b"app"), write("key_prefix", "app"), write("key_prefix", "app/")),
    (session.APPLY, SessionRequest("", "create", Session(node="n1")), write("session", "n1"), N),
    (session.APPLY, SessionRequest("", "destroy", Session(id=SESSION)), write("session", "n1"), N),
    # a node that is made or changed, and one that is not
    (catalog.REGISTER, register("n9"), write("node", "n9"), N),
    (catalog.REGISTER, register(address="10.0.0.9"), N, W),
    (catalog.REGISTER, register("N1"), N + write("node", "N1"), write("node", "N1")),
    (catalog.REGISTER, register(), "", ""),
    (catalog.REGISTER, register(address="x", skip_node_update=True), "", ""),
    (catalog.REGISTER, register("n9", skip_node_update=True), write("node", "n9"), N),
    # services, and those which they replace
    (catalog.REGISTER, register(service=NodeService(service="api")), write("service", "api"), W),
    (catalog.REGISTER, register(service=WEB_1), W, N),
    (
        catalog.REGISTER,
        register(service=NodeService(id="web-1", service="api")),
        W + write("service", "api"),
        write("service", "api"),
    ),
    (
        catalog.REGISTER,
        register(
            service=NodeService(service="side", kind="connect-proxy", proxy={"DestinationServiceName": "web"})
        ),
        W + write("service", "side"),
        write("service", "side"),
    ),
    # checks
    (catalog.REGISTER, register(check=check()), N, W),
    (catalog.REGISTER, register(checks=[check(service_id="web-1")]), W, N),
    (catalog.REGISTER, register(service=WEB_1, check=check(service_id="web-1")), W, N),
    (catalog.REGISTER, register(service=WEB_1, checks=[check()]), N + W, W),
    # going
    (catalog.DEREGISTER, DeregisterRequest(node="n1"), N, W),
    (catalog.DEREGISTER, DeregisterRequest(node="N1"), N + write("node", "N1"), write("node", "N1")),
    (catalog.DEREGISTER, DeregisterRequest(node="n1", service_id="web-1"), W, write("service", "web-1")),
    (catalog.DEREGISTER, DeregisterRequest(node="n1", service_id="web-1"), N, write("node", "n2")),
    (catalog.DEREGISTER, DeregisterRequest(node="n1", check_id="web-up"), W, write("node", "n2")),
    (catalog.DEREGISTER, DeregisterRequest(node="n1", check_id="alive"), N, W),
    (operator.SET_AUTOPILOT, None, 'operator = "write"', 'operator = "read"'),
]


@pytest.mark.parametrize(("one", "args", "enough", "other"), WRITES)
def test_a_change_needs_its_rights(one: Write, args: Any, enough: str, other: str) -> None:
    assert permitted(one, args, enough) is None
    if enough:
        with pytest.raises(Denied, match="Permission denied"):
            permitted(one, args, other)
        with pytest.raises(Denied, match="Permission denied"):
            permitted(one, args, "")


def test_what_is_not_there_cannot_be_judged() -> None:
    for args, text in (
        (DeregisterRequest(node="n1", service_id="none"), "Unknown service 'none'"),
        (DeregisterRequest(node="n1", check_id="none"), "Unknown check 'none'"),
    ):
        with pytest.raises(Invalid, match=text):
            permitted(catalog.DEREGISTER, args, W)
        assert permitted(catalog.DEREGISTER, args, N) is None
    with pytest.raises(Invalid, match="Unknown service 'none' for check 'c'"):
        permitted(catalog.REGISTER, register(check=check(service_id="none")), N + W)
    strange = HealthCheck(node="n2", check_id="c")
    with pytest.raises(Invalid, match="doesn't match register request node 'n1'"):
        permitted(catalog.REGISTER, register(check=strange), N + write("node", "n2"))
    assert permitted(session.APPLY, SessionRequest("", "destroy", Session(id=GONE)), "") is None
    with pytest.raises(Invalid, match="Session lookup failed: failed session lookup: index error"):
        permitted(session.APPLY, SessionRequest("", "destroy", Session(id="x")), "")


ACTIONS: list[tuple[Action, Any, str, str, str]] = [
    (event.FIRE, event.EventFireRequest(name="deploy"), write("event", "deploy"), W, "Permission denied"),
    (coordinate.UPDATE, coordinate.UpdateRequest(node="n1", coord=Coord()), N, W, "Permission denied"),
    (
        keyring.OPERATE,
        keyring.KeyringRequest("list"),
        'keyring = "read"',
        'operator = "write"',
        "^Reading keyring denied by ACLs$",
    ),
    (
        keyring.OPERATE,
        keyring.KeyringRequest("use"),
        'keyring = "write"',
        'keyring = "read"',
        "^Modifying keyring denied due to ACLs$",
    ),
    *(
        (one, None, 'operator = "read"', 'acl = "write"', "^Permission denied")
        for one in (operator.RAFT_CONFIGURATION, operator.SERVER_HEALTH, operator.AUTOPILOT_STATE)
    ),
    *(
        (one, None, 'operator = "write"', 'operator = "read"', "^Permission denied")
        for one in (operator.REMOVE_BY_ID, operator.REMOVE_BY_ADDRESS, operator.TRANSFER_LEADER)
    ),
]


@pytest.mark.parametrize(("action", "args", "enough", "other", "text"), ACTIONS)
def test_an_action_needs_its_rights(action: Action, args: Any, enough: str, other: str, text: str) -> None:
    assert action.permit is not None
    action.permit(judge(enough), args)
    with pytest.raises((Denied, Invalid), match=text):
        action.permit(judge(other), args)


# --- transactions -------------------------------------------------------------------------------------


def on_key(verb: str, key: bytes) -> TxnOp:
    return TxnOp(kv=TxnKVOp(verb, DirEntry(key)))


def on_service(verb: str, service_id: str, name: str) -> TxnOp:
    return TxnOp(service=TxnServiceOp(verb, "n1", NodeService(id=service_id, service=name)))


def on_check(verb: str, **fields: Any) -> TxnOp:
    return TxnOp(check=TxnCheckOp(verb, HealthCheck(node="n1", **fields)))


def on_node(verb: str, name: str = "n1") -> TxnOp:
    return TxnOp(node=TxnNodeOp(verb, Node(node=name, address=ADDRESS)))


UNTOUCHED = on_key("get", b"a")
OPERATIONS: list[tuple[TxnOp, str, str]] = [
    (on_key("set", b"a"), write("key", "a"), 'key "a" { policy = "read" }'),
    (on_key("check-not-exists", b"q"), write("key", "q"), 'key "q" { policy = "read" }'),
    (on_key("check-index", b"a"), 'key "a" { policy = "read" }', write("key", "b")),
    (on_key("check-session", b"a"), 'key "a" { policy = "read" }', W),
    (
        on_key("delete-tree", b"app/"),
        write("key_prefix", "app/"),
        write("key_prefix", "app/") + 'key "app/d" { policy = "deny" }',
    ),
    (on_node("set"), N, W),
    (on_node("delete", "N1"), N + write("node", "N1"), write("node", "N1")),
    (on_service("set", "api-1", "api"), write("service", "api"), W),
    (on_service("set", "web-1", "api"), W + write("service", "api"), write("service", "api")),
    (on_service("delete", "web-1", "mine"), W + write("service", "mine"), write("service", "mine")),
    (on_check("set", check_id="c"), N, W),
    (on_check("set", check_id="c", service_id="web-1", service_name="web"), W, N),
    (on_check("set", check_id="c", service_id="web-1"), W, N),
    # what is there belongs to another one than the operation says
    (
        on_check("delete", check_id="web-up", service_id="mine", service_name="mine"),
        W + write("service", "mine"),
        write("service", "mine"),
    ),
    (on_check("delete", check_id="web-up"), N + W, N),
    (on_check("delete", check_id="alive", service_id="web-1", service_name="web"), N + W, W),
    (TxnOp(session=TxnSessionOp("delete", Session(id=SESSION))), write("session", "n1"), N),
]


@pytest.mark.parametrize(("op", "enough", "other"), OPERATIONS)
def test_an_operation_of_a_transaction_needs_its_rights(op: TxnOp, enough: str, other: str) -> None:
    ops = [UNTOUCHED, op, UNTOUCHED]
    assert permitted(txn.APPLY, TxnRequest("dc1", ops), enough) is None
    refused = permitted(txn.APPLY, TxnRequest("dc1", ops), other)
    assert refused is not None and refused.result.results is None
    assert [(one.op_index, one.what) for one in refused.result.errors] == [(1, "Permission denied")]


def test_a_transaction_says_of_all_operations_what_is_wrong() -> None:
    ops = [on_key("set", b""), on_key("set", b"a"), on_service("set", "x", ""), on_key("set", b"b")]
    refused = permitted(txn.APPLY, TxnRequest("dc1", ops), write("key", "b"))
    assert refused is not None
    assert [(one.op_index, one.what) for one in refused.result.errors] == [
        (0, "Must provide key"),
        (1, "Permission denied"),
        (2, "Must provide service name with ID"),
    ]


READERS = [
    on_key("get-tree", b"app/"),
    on_node("get"),
    on_service("get", "web-1", ""),
    on_check("get", check_id="alive"),
]


def shown(response: TxnResponse) -> list[str]:
    found = []
    for one in response.results or ():
        found += [one.kv.key.decode()] if one.kv is not None else []
        found += [one.node.node] if one.node is not None else []
        found += [one.service.service] if one.service is not None else []
        found += [one.check.check_id] if one.check is not None else []
    return found


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        ("", []),
        ('key_prefix "app/b/" { policy = "read" }', ["app/b/x", "app/b/y"]),
        (N1, ["n1", "alive"]),
        (WEB, ["web"]),
        (ALL + 'key "app/d" { policy = "write" }', ["app/d", "n1", "web", "alive"]),
    ],
)
def test_a_transaction_shows_what_may_be_read(rules: str, seen: list[str]) -> None:
    """Whether it only reads, or also writes."""
    answer = ask(txn.READ, txn.TxnReadRequest(tuple(READERS)), rules)
    assert shown(answer.value) == seen
    assert txn.APPLY.shown is not None
    everything = txn.READ.run(STORE, txn.TxnReadRequest(tuple(READERS)), None).value
    assert shown(txn.APPLY.shown(judge(rules), everything)) == seen


def test_a_read_in_a_transaction_that_would_tell_by_its_outcome_is_refused() -> None:
    ops = (on_key("get", b"a"), on_key("check-index", b"a"))
    answer = ask(txn.READ, txn.TxnReadRequest(ops), W)
    assert answer.value.results is None
    assert [(one.op_index, one.what) for one in answer.value.errors] == [(1, "Permission denied")]


# --- all of them --------------------------------------------------------------------------------------


@given(
    rules=st.lists(
        st.tuples(
            st.sampled_from(("key", "key_prefix")),
            st.sampled_from(("", "a", "app", "app/", "app/b/", "app/b/x", "app/c/", "app/d", "z")),
            st.sampled_from(("deny", "read", "list", "write")),
        ),
        max_size=6,
        unique_by=lambda rule: rule[:2],
    ),
    prefix=st.sampled_from((b"", b"a", b"app/", b"app/b", b"q")),
    separator=st.sampled_from((b"", b"/", b"p/")),
)
def test_cut_names_are_those_of_the_keys_that_may_be_read(
    rules: Sequence[tuple[str, str, str]], prefix: bytes, separator: bytes
) -> None:
    text = " ".join(f'{kind} "{name}" {{ policy = "{level}" }}' for kind, name, level in rules)
    authorizer = judge(text)
    expected: list[str] = []
    for key in KEYS:
        if key.startswith(prefix) and authorizer.allows("key", key.decode(), "read"):
            head, found, _ = key[len(prefix) :].partition(separator or b"\0")
            name = (prefix + head + found).decode()
            if name not in expected:
                expected.append(name)
    answer = ask(kv.LIST_KEYS, kv.KeyRequest(prefix, separator), text)
    assert [name.decode() for name in answer.value] == expected


def test_every_remote_method_stands_for_work_that_has_a_permit_or_is_open() -> None:
    """What needs no right at all, over RPC: who reads this list sees what everybody may do."""
    open_ones = set()
    for rpc, remote in REMOTES.items():
        for name in ("_read", "_write", "_action", "_question"):
            work = getattr(remote, name, None)
            if isinstance(work, Read | Write | Action) and work.permit is OPEN:
                open_ones.add(rpc)
    assert open_ones == {
        "ACL.BootstrapTokens",  # once, or who may write into the data directory
        "ACL.Get",  # who has the secret
        "ACL.Login",
        "ACL.ReplicationStatus",
        "Catalog.ListDatacenters",
        "Coordinate.ListDatacenters",
        "Status.Leader",
        "Status.Peers",
        "Status.Ping",
        "Status.RaftStats",
        # these ask for the judge themselves, since only their work tells what is needed
        "ACL.Authorize",
        "ACL.Logout",
        "ACL.PolicyResolve",
        "ACL.RoleResolve",
        "Internal.ExecResults",
        "Internal.ExecStart",
        "PreparedQuery.Apply",
        "Session.Renew",
    }
