"""The write door: encoders, unknown and broken commands, chunks, transactions, and the smaller tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import msgpack, wire
from core.errors import Invalid, Unavailable
from core.store import acl_structs as acls
from core.store import commands, mesh, structs, txn
from core.store.apply import CorruptCommand, UnknownCommand, handles
from core.store.fsm import FSM, ChunkingSuccess
from core.store.structs import (
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    PreparedQuery,
    PreparedQueryRequest,
    QueryTemplateOptions,
    Session,
    TxnCheckOp,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnRequest,
    TxnServiceOp,
    TxnSessionOp,
)
from core.store.watch import Watch
from tests.core.store.maker import Bench

LOG = json.loads((Path(__file__).parents[2] / "vectors" / "fsm" / "log_sequence.json").read_text())["vectors"]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Bytes


def test_kv_commands_have_the_recorded_bytes() -> None:
    seen = 0
    for entry in LOG:
        if entry.get("command") != commands.KVS or "decoded" not in entry:
            continue
        request = wire.unpack(structs.KVSRequest, bytes.fromhex(entry["data_hex"])[1:])
        item = request.dir_ent
        data = commands.kvs(
            request.op,
            item.key,
            item.value,
            item.flags,
            item.session,
            item.modify_index,
            request.datacenter,
            request.token,
        )
        assert data.hex() == entry["data_hex"]
        seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        (commands.REGISTER, structs.RegisterRequest),
        (commands.DEREGISTER, structs.DeregisterRequest),
        (commands.SESSION, structs.SessionRequest),
        (commands.PREPARED_QUERY, structs.PreparedQueryRequest),
        (commands.TXN, structs.TxnRequest),
        (commands.AUTOPILOT, structs.AutopilotSetConfigRequest),
        (commands.ACL_BOOTSTRAP, acls.ACLTokenBootstrapRequest),
        (commands.ACL_TOKEN_SET, acls.ACLTokenBatchSetRequest),
        (commands.ACL_TOKEN_DELETE, acls.ACLTokenBatchDeleteRequest),
        (commands.ACL_POLICY_SET, acls.ACLPolicyBatchSetRequest),
        (commands.ACL_ROLE_SET, acls.ACLRoleBatchSetRequest),
        (commands.ACL_BINDING_RULE_SET, acls.ACLBindingRuleBatchSetRequest),
        (commands.ACL_AUTH_METHOD_SET, acls.ACLAuthMethodBatchSetRequest),
    ],
)
def test_recorded_commands_come_back_byte_for_byte(kind: int, cls: type[Any]) -> None:
    recorded = [entry["data_hex"] for entry in LOG if entry.get("command") == kind and "decoded" in entry]
    assert recorded
    for data in recorded:
        value = wire.unpack(cls, bytes.fromhex(data)[1:])
        assert commands.command(kind, value).hex() == data


def test_config_entries_come_back_byte_for_byte() -> None:
    recorded = [bytes.fromhex(e["data_hex"]) for e in LOG if e.get("command") == commands.CONFIG_ENTRY]
    assert len(recorded) > 4
    for data in recorded:
        kind, request = mesh.read_entry_request(msgpack.decode(data[1:]))
        again = mesh.write_entry_request(
            kind, request["Entry"], request["Op"], request["Datacenter"], request["Token"]
        )
        assert bytes([commands.CONFIG_ENTRY]) + msgpack.encode(again) == data


# The door


def test_unknown_commands_stop_the_server_unless_they_may_be_skipped(bench: Bench) -> None:
    with pytest.raises(UnknownCommand, match="type 99"):
        bench.apply(b"\x63\x80")
    assert bench.apply(bytes([99 | commands.IGNORE_UNKNOWN]) + b"\x80") is None
    assert bench.store.applied == bench.index


@pytest.mark.parametrize(
    "data", [b"", b"\x02", b"\x02\x80", b"\x02\x90", b"\x00\x81\xa4Node\x05", b"\x16\x80"]
)
def test_broken_commands_stop_the_server_and_change_nothing(bench: Bench, data: bytes) -> None:
    with pytest.raises(CorruptCommand):
        bench.apply(data)
    assert bench.store.applied == 0
    assert bench.store.indexes == {}


@given(st.integers(0, 31), st.binary(max_size=60))
def test_random_commands_are_refused_in_one_of_three_ways(kind: int, data: bytes) -> None:
    bench = Bench()
    try:
        bench.apply(bytes([kind]) + data)
    except (CorruptCommand, UnknownCommand):
        assert bench.store.indexes == {}


def test_a_command_has_one_handler() -> None:
    with pytest.raises(ValueError, match="command 2 has a handler already"):
        handles(commands.KVS)(lambda store, index, value: None)


@pytest.mark.parametrize(
    ("kind", "request_map", "problem"),
    [
        (commands.SESSION, {"Op": "renew"}, "Invalid Session operation 'renew'"),
        (commands.TOMBSTONE, {"Op": "keep"}, "Invalid Tombstone operation 'keep'"),
        (commands.PREPARED_QUERY, {"Op": "run"}, "Invalid PreparedQuery operation 'run'"),
        (commands.ACL, {"Op": "x"}, "Invalid ACL operation 'x'"),
        (commands.INTENTION, {"Op": "x"}, "Invalid Intention operation 'x'"),
        (commands.CONNECT_CA, {"Op": "x"}, "Invalid CA operation 'x'"),
        (commands.CA_LEAF, {"Op": "x"}, "Invalid CA Leaf operation 'x'"),
        (commands.FEDERATION_STATE, {"Op": "x", "State": {}}, "invalid federation state operation type: x"),
        (commands.SYSTEM_METADATA, {"Op": "x", "Entry": {}}, "invalid system metadata operation type: x"),
    ],
)
def test_unknown_operations_are_errors(bench: Bench, kind: int, request_map: Any, problem: str) -> None:
    result, moved = bench.moved(bytes([kind]) + msgpack.encode(request_map))
    assert isinstance(result, Invalid)
    assert str(result) == problem
    assert moved == set()


# Chunks


def chunked(data: bytes, number: int, sizes: Sequence[int]) -> list[tuple[bytes, bytes]]:
    """Pieces with their protobuf ChunkInfo."""
    pieces = []
    for sequence, size in enumerate(sizes):
        info = bytes([8, number]) + (bytes([16, sequence]) if sequence else b"") + bytes([24, len(sizes)])
        pieces.append((data[:size], info))
        data = data[size:]
    return pieces


def test_chunks_are_joined_at_the_last_one() -> None:
    fsm = FSM()
    one = chunked(commands.kvs("set", b"one", b"1"), 5, [20, 20, 999])
    two = chunked(commands.kvs("set", b"two", b"2"), 6, [20, 999])
    assert fsm.apply(1, *one[0], term=2) is None
    assert fsm.apply(2, *two[0], term=2) is None
    assert fsm.apply(3, *one[1], term=2) is None
    assert fsm.apply(4, *two[1], term=2) == ChunkingSuccess(None)
    assert fsm.apply(5, *one[2], term=2) == ChunkingSuccess(None)
    assert [entry.modify_index for entry in fsm.store.kv_list(b"")[1]] == [5, 4]
    assert fsm.store.chunks == {}


def test_a_new_term_forgets_unfinished_chunks() -> None:
    fsm = FSM()
    pieces = chunked(commands.kvs("set", b"one", b"1"), 5, [20, 999])
    fsm.apply(1, *pieces[0], term=2)
    fsm.apply(2, commands.kvs("set", b"other", b"1"), term=3)
    assert fsm.store.chunks == {}
    assert isinstance(fsm.apply(3, *pieces[1], term=3), Unavailable)
    assert fsm.store.applied == 3
    assert fsm.store.kv_get(b"one")[1] is None


@pytest.mark.parametrize(
    "info", ["08", "0805 18", "0d00", "08051802 1002", "080518ffffffff7f", "08" + "ff" * 12]
)
def test_broken_chunk_info_stops_the_server(info: str) -> None:
    with pytest.raises(CorruptCommand):
        FSM().apply(1, b"x", bytes.fromhex(info), 1)


def test_the_next_extensions_are_skipped() -> None:
    fsm = FSM()
    data = commands.kvs("set", b"k", b"v")
    assert fsm.apply(1, data, bytes.fromhex("0805180122020000"), 1) == ChunkingSuccess(None)


# Transactions


def run(bench: Bench, *ops: TxnOp) -> structs.TxnResponse:
    response = bench.apply(commands.txn(TxnRequest("dc1", list(ops))))
    assert isinstance(response, structs.TxnResponse)
    return response


def problems(response: structs.TxnResponse) -> list[tuple[int, str]]:
    assert response.results is None
    return [(error.op_index, error.what) for error in response.errors or ()]


def kv(verb: str, key: bytes, value: bytes | None = None, **fields: Any) -> TxnOp:
    return TxnOp(kv=TxnKVOp(verb, DirEntry(key, value, **fields)))


def test_results_of_a_transaction(bench: Bench) -> None:
    bench.put(b"t/1", b"one")
    response = run(
        bench,
        kv("set", b"t/2", b"two"),
        kv("get", b"t/2"),
        kv("get-tree", b"t/"),
        kv("check-not-exists", b"no"),
        kv("check-index", b"t/1", modify_index=bench.index),
        kv("delete", b"t/1"),
        TxnOp(),
    )
    assert response.errors is None
    found = [(result.kv.key, result.kv.value) for result in response.results or () if result.kv]
    assert found == [
        (b"t/2", None),
        (b"t/2", b"two"),
        (b"t/1", b"one"),
        (b"t/2", b"two"),
        (b"t/1", None),
    ]
    assert run(bench) == structs.TxnResponse([], None)


def test_all_that_fails_is_named_and_nothing_happens(bench: Bench) -> None:
    bench.put(b"k")
    before = b"".join(bench.fsm.snapshot())
    current = bench.index
    response = run(
        bench,
        kv("set", b"new"),
        kv("cas", b"k", modify_index=1),
        kv("delete-cas", b"k", modify_index=1),
        kv("lock", b"k"),
        kv("lock", b"k", session="x"),
        kv("unlock", b"k", session="x"),
        kv("get", b"none"),
        kv("check-session", b"none"),
        kv("check-session", b"k", session="s"),
        kv("check-index", b"none"),
        kv("check-index", b"k", modify_index=1),
        kv("check-not-exists", b"k"),
        kv("fly", b"k"),
        TxnOp(node=TxnNodeOp("get", Node(node="n"))),
        TxnOp(node=TxnNodeOp("cas", Node(node="n", modify_index=3))),
        TxnOp(node=TxnNodeOp("delete-cas", Node(node="n", modify_index=3))),
        TxnOp(node=TxnNodeOp("fly", Node(node="n"))),
        TxnOp(service=TxnServiceOp("get", "n", NodeService(id="s"))),
        TxnOp(service=TxnServiceOp("set", "n", NodeService(id="s"))),
        TxnOp(service=TxnServiceOp("cas", "n", NodeService(id="s", modify_index=3))),
        TxnOp(service=TxnServiceOp("delete-cas", "n", NodeService(id="s", modify_index=3))),
        TxnOp(service=TxnServiceOp("fly", "n", NodeService(id="s"))),
        TxnOp(check=TxnCheckOp("get", HealthCheck("n", "c"))),
        TxnOp(check=TxnCheckOp("set", HealthCheck("n", "c"))),
        TxnOp(check=TxnCheckOp("cas", HealthCheck("n", "c", modify_index=3))),
        TxnOp(check=TxnCheckOp("delete-cas", HealthCheck("n", "c", modify_index=3))),
        TxnOp(check=TxnCheckOp("fly", HealthCheck("n", "c"))),
        TxnOp(session=TxnSessionOp("create", Session("s"))),
    )
    texts = [
        'failed to set key "k", index is stale',
        'failed to delete key "k", index is stale',
        "missing session",
        'invalid session "x"',
        'failed to unlock key "k", lock isn\'t held, or is held by another session',
        'key "none" doesn\'t exist',
        'failed to check session, key "none" doesn\'t exist',
        'failed session check for key "k", current session "" != "s"',
        'failed to check index, key "none" doesn\'t exist',
        f'failed index check for key "k", current modify index {current} != 1',
        'key "k" exists',
        'unknown KV verb "fly"',
        'node "n" doesn\'t exist',
        'failed to set node "n", index is stale',
        'failed to delete node "n", index is stale',
        'unknown Node verb "fly"',
        'service "s" on node "n" doesn\'t exist',
        "Missing node registration",
        'failed to set service "s" on node "n", index is stale',
        'failed to delete service "s" on node "n", index is stale',
        'unknown Service verb "fly"',
        'check "c" on node "n" doesn\'t exist',
        "Missing node registration",
        'failed to set check "c" on node "n", index is stale',
        'failed to delete check "c" on node "n", index is stale',
        'unknown Check verb "fly"',
        'unknown Session verb "create"',
    ]
    assert problems(response) == list(enumerate(texts, 1))
    after = b"".join(bench.fsm.snapshot())
    assert (
        after.replace(msgpack.encode(bench.index), b"", 1)[9:]
        == before.replace(msgpack.encode(current), b"", 1)[9:]
    )


def test_the_catalog_in_a_transaction(bench: Bench) -> None:
    run(
        bench,
        TxnOp(node=TxnNodeOp("set", Node(node="n", address="10.0.0.1"))),
        TxnOp(service=TxnServiceOp("set", "n", NodeService(id="s", service="s"))),
        TxnOp(check=TxnCheckOp("set", HealthCheck("n", "c", service_id="s"))),
    )
    index = bench.index
    response = run(
        bench,
        TxnOp(node=TxnNodeOp("cas", Node(node="n", address="10.0.0.2", modify_index=index))),
        TxnOp(service=TxnServiceOp("get", "n", NodeService(id="s"))),
        TxnOp(check=TxnCheckOp("cas", HealthCheck("n", "c", status="passing", modify_index=index))),
    )
    assert [result.node.address for result in response.results or () if result.node] == ["10.0.0.2"]
    assert bench.store.get_check("n", "c").status == "passing"  # type: ignore[union-attr]
    run(
        bench,
        TxnOp(check=TxnCheckOp("delete", HealthCheck("n", "c"))),
        TxnOp(service=TxnServiceOp("delete-cas", "n", NodeService(id="s", modify_index=index))),
        TxnOp(node=TxnNodeOp("delete", Node(node="n"))),
    )
    assert bench.store.node_dump()[1] == []


def test_which_transactions_only_read() -> None:
    assert txn.read_only([kv("get", b"k"), kv("check-index", b"k"), TxnOp()])
    assert txn.read_only([TxnOp(node=TxnNodeOp("get"), check=TxnCheckOp("get"))])
    assert not txn.read_only([kv("get", b"k"), kv("set", b"k")])
    assert not txn.read_only([TxnOp(session=TxnSessionOp("delete"))])
    assert not txn.read_only([TxnOp(intention={})])


# Prepared queries


def query(bench: Bench, op: str, **fields: Any) -> Any:
    request = PreparedQueryRequest("dc1", op, PreparedQuery(**fields))
    return bench.apply(commands.command(commands.PREPARED_QUERY, request))


def test_query_names_are_unique_and_found(bench: Bench) -> None:
    template = QueryTemplateOptions("name_prefix_match")
    assert query(bench, "create", id="1", name="exact") is None
    assert query(bench, "create", id="2", name="ge", template=template) is None
    assert query(bench, "create", id="3", name="geo-", template=template) is None
    assert query(bench, "create", id="4", template=template) is None
    assert str(query(bench, "create", id="5", name="exact")) == "name 'exact' aliases an existing query name"
    assert str(query(bench, "create", id="5", name="1")) == "name '1' aliases an existing query ID"
    assert str(query(bench, "create", id="5", template=template)).startswith("a query template with an empty")
    assert str(query(bench, "create", id="5", session="s")) == 'invalid session "s"'
    assert str(query(bench, "create", id="5", name="EXACT")).startswith("name 'EXACT' aliases")
    assert str(query(bench, "create")) == "Missing query ID"
    bad = QueryTemplateOptions("name_prefix_match", "(")
    assert str(query(bench, "create", id="5", name="n", template=bad)).startswith(
        "failed compiling template: Bad Regexp: error parsing regexp: missing closing )"
    )
    by_name = (("1", "1"), ("exact", "1"), ("Exact", "1"), ("geo-x", "3"), ("GEO-x", "3"), ("ge-x", "2"))
    for wanted, found in (*by_name, ("other", "4")):
        resolved = bench.store.query_resolve(wanted)[1]
        assert resolved is not None
        assert resolved.id == found
    for wanted, why in (("2", "templates can only be resolved up by name"), ("", "Missing query ID")):
        with pytest.raises(Invalid, match=why):
            bench.store.query_resolve(wanted)
    query(bench, "delete", id="4")
    assert bench.store.query_resolve("other") == (bench.index, None)
    assert bench.store.query_resolve("exac")[1] is None
    assert len(bench.store.query_list()[1]) == 3


def test_a_query_ends_with_its_session(bench: Bench) -> None:
    bench.register("n1")
    bench.session("s")
    query(bench, "create", id="1", session="s")
    created = bench.index
    query(bench, "update", id="1", session="s", name="x")
    assert bench.store.query_get("1")[1].create_index == created  # type: ignore[union-attr]
    bench.destroy("s")
    assert bench.store.query_get("1") == (bench.index, None)


# Operator tables


def test_coordinates_of_unknown_nodes_and_broken_ones_are_skipped(bench: Bench) -> None:
    bench.register("n1")
    good = structs.Coord([0.0] * 8, 1.5, 0.0, 1e-5)
    batch = [
        structs.Coordinate("N1", "", good),
        structs.Coordinate("n1", "seg", good),
        structs.Coordinate("nosuch", "", good),
        structs.Coordinate("n1", "short", structs.Coord([0.0])),
        structs.Coordinate("n1", "nan", structs.Coord([float("nan")] * 8)),
        structs.Coordinate("n1", "nil", None),
    ]
    data = bytes([commands.COORDINATES | commands.IGNORE_UNKNOWN])
    assert bench.apply(data + msgpack.encode([wire.to_wire(one) for one in batch])) is None
    assert [one.segment for one in bench.store.node_coordinates("n1")[1]] == ["", "seg"]
    assert bench.store.coordinate_list()[0] == bench.index
    assert bench.moved(data + b"\x90")[1] == {"coordinates"}
    assert bench.moved(commands.deregister(structs.DeregisterRequest("dc1", "n1")))[1] == {
        "nodes",
        "coordinates",
    }
    assert bench.store.coordinate_list()[1] == []


def test_sub_tables_keep_their_create_index(bench: Bench) -> None:
    store = bench.store

    def metadata(op: str, value: str = "") -> Any:
        entry = {"Key": "K", "Value": value}
        return bench.apply(bytes([commands.SYSTEM_METADATA]) + msgpack.encode({"Op": op, "Entry": entry}))

    assert metadata("upsert", "1") is True
    created = bench.index
    assert metadata("upsert", "2") is True
    entry = store.system_metadata.get("k")
    assert entry == structs.SystemMetadataEntry("K", "2", created, bench.index)
    assert store.metadata("k") == "2"
    metadata("delete")
    assert store.metadata("k") is None
    state = {"Op": "upsert", "State": {"Datacenter": "DC2", "PrimaryModifyIndex": 7}}
    bench.apply(bytes([commands.FEDERATION_STATE]) + msgpack.encode(state))
    index, (federation,) = store.federation_state_list()
    assert (index, federation.primary_modify_index) == (bench.index, 7)


def test_watches_of_the_small_tables(bench: Bench) -> None:
    store = bench.store
    for read, change in (
        (store.coordinate_list, bytes([commands.COORDINATES]) + b"\x90"),
        (
            store.query_list,
            commands.command(commands.PREPARED_QUERY, PreparedQueryRequest("", "create", PreparedQuery("1"))),
        ),
    ):
        watch = Watch()
        read(watch)
        bench.apply(change)
        assert watch.fired


FIELDS = [
    "Op",
    "Mutation",
    "Intention",
    "Config",
    "Roots",
    "ProviderState",
    "ID",
    "Value",
    "Destination",
    "Name",
]
OPS = ["upsert", "create", "update", "delete", "delete-all", "set-config", "set-roots", "set-provider-state"]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "web"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*FIELDS, "Active", "Sources", "ModifyIndex"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.integers(0, 31),
    st.sampled_from(OPS),
    st.dictionaries(st.sampled_from(FIELDS[1:]), ODD, max_size=5) | ODD,
)
def test_odd_maps_are_refused_in_one_of_three_ways(kind: int, op: str, value: Any) -> None:
    bench = Bench()
    if isinstance(value, dict):
        value = {**value, "Op": op}
    if kind == commands.CONFIG_ENTRY:
        value = msgpack.encode("service-intentions") + msgpack.encode({"Op": op, "Entry": value})
    try:
        bench.apply(bytes([kind]) + msgpack.encode(value))
    except (CorruptCommand, UnknownCommand):
        assert bench.store.indexes == {}
