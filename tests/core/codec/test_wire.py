"""Structs and the maps that travel: the zero values of the reference encoder, and what reading forgives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import msgpack, wire
from core.store import acl_structs, structs

VECTORS = Path(__file__).parents[2] / "vectors" / "rpc" / "structs.json"
REFERENCE: dict[str, Any] = json.loads(VECTORS.read_text())["structs"]
NAMES = {
    "CheckSpec": "HealthCheckDefinition",
    "Coord": "coordinate.Coordinate",
    "ChunkInfo": "go-raftchunking.ChunkInfo",
    "ACLLink": "ACLTokenPolicyLink",
    "LegacyACL": "ACL",
    "LegacyACLRequest": "ACLRequest",
}
# Of versions after the recorded one.
LATER = {"ACLTemplateVariables", "ACLTemplatedPolicy", "QueryFailoverTarget"}
CLASSES = [
    cls
    for module in (structs, acl_structs)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct) and cls.__module__ == module.__name__
    if cls.__name__ not in LATER
]
WITHOUT_ZERO = {"Weights", "CheckServiceNode", "ChunkInfo"}  # other defaults than Go's zero value, on purpose


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_fields_are_those_of_the_reference(cls: type[msgspec.Struct]) -> None:
    recorded = REFERENCE[NAMES.get(cls.__name__, cls.__name__)]
    later = {"extra", *getattr(cls, "OPTIONAL", ())}
    fields = [field for field in msgspec.structs.fields(cls) if field.name not in later]
    assert sorted(field.encode_name for field in fields) == sorted(
        field["name"] for field in recorded["fields"]
    )


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if cls.__name__ not in WITHOUT_ZERO], ids=lambda cls: cls.__name__
)
def test_the_empty_struct_has_the_bytes_of_the_reference(cls: type[msgspec.Struct]) -> None:
    zero = bytes.fromhex(REFERENCE[NAMES.get(cls.__name__, cls.__name__)]["zero_hex"])
    assert wire.pack(cls()) == zero
    assert wire.unpack(cls, zero) == cls()


TEXT = st.text(st.characters(codec="utf-8"), max_size=10) | st.binary(max_size=10).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
U64 = st.integers(0, (1 << 64) - 1)
META = st.none() | st.dictionaries(TEXT, TEXT, max_size=3)
SERVICES = st.builds(
    structs.NodeService,
    kind=TEXT,
    id=TEXT,
    service=TEXT,
    tags=st.none() | st.lists(TEXT, max_size=3),
    tagged_addresses=st.none()
    | st.dictionaries(TEXT, st.builds(structs.ServiceAddress, TEXT, st.integers(0, 65535)), max_size=2),
    meta=META,
    port=st.integers(-1, 70000),
    weights=st.none() | st.builds(structs.Weights, st.integers(0, 9), st.integers(0, 9)),
    connect=st.none() | st.just({"Native": True, "SidecarService": None}),
    create_index=U64,
    modify_index=U64,
)
CHECKS = st.builds(
    structs.HealthCheck,
    node=TEXT,
    check_id=TEXT,
    output=TEXT,
    service_tags=st.none() | st.lists(TEXT, max_size=3),
    definition=st.builds(
        structs.CheckSpec,
        http=TEXT,
        header=st.none() | st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
        interval=st.integers(-(1 << 63), (1 << 63) - 1),
    ),
)
REQUESTS = st.builds(
    structs.RegisterRequest,
    node=TEXT,
    node_meta=META,
    service=st.none() | SERVICES,
    check=st.none() | CHECKS,
    checks=st.none() | st.lists(CHECKS, max_size=2),
    skip_node_update=st.booleans(),
)
ENTRIES = st.builds(
    structs.DirEntry, st.binary(max_size=20), st.none() | st.binary(max_size=20), U64, U64, TEXT, U64, U64
)


@given(REQUESTS | ENTRIES | SERVICES)
def test_structs_survive_with_sorted_keys(value: msgspec.Struct) -> None:
    data = wire.pack(value)
    assert wire.unpack(type(value), data) == value
    keys = list(msgpack.decode(data))
    assert keys == sorted(keys)


def test_unknown_keys_are_skipped_and_missing_ones_are_defaults() -> None:
    coord = wire.from_wire(structs.Coordinate, {b"Node": b"n", b"Peering": {b"x": 1}, b"Coord": None})
    assert coord == structs.Coordinate(node="n")


def test_unknown_keys_of_growing_structs_come_back() -> None:
    sent = {b"Node": b"n", b"Peering": {b"x": 1, b"y": b"\xff"}, b"Zone": b"", b"Meta": None}
    node = wire.from_wire(structs.Node, sent)
    assert node == structs.Node(node="n", extra={"Peering": {"x": 1, "y": "\udcff"}})
    assert list(wire.to_wire(node)) == sorted([*wire.to_wire(structs.Node()), "Peering"])
    assert wire.unpack(structs.Node, wire.pack(node)) == node


def test_mesh_maps_are_full_on_the_wire_and_none_in_memory() -> None:
    service = wire.to_wire(structs.NodeService(connect={"Native": True}))
    assert service["Proxy"] == structs.ZERO_PROXY
    assert service["Connect"] == {"Native": True, "SidecarService": None}
    back = wire.unpack(structs.NodeService, msgpack.encode(service))
    assert back.proxy is None
    assert back.connect == {"Native": True, "SidecarService": None}


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (structs.Node, []),
        (structs.Node, {b"Node": 5}),
        (structs.Node, {b"Meta": [b"a"]}),
        (structs.Node, {b"Meta": {b"a": 1}}),
        (structs.NodeService, {b"Port": b"80"}),
        (structs.NodeService, {b"Port": True}),
        (structs.NodeService, {b"EnableTagOverride": 2}),
        (structs.NodeService, {b"Tags": b"a"}),
        (structs.NodeService, {b"Weights": [1, 1]}),
        (structs.NodeService, {b"Proxy": b""}),
        (structs.DirEntry, {b"Key": {}}),
        (structs.Coordinate, {b"Coord": {b"Error": b"1"}}),
    ],
)
def test_wrong_types_are_a_decode_error(cls: type[msgspec.Struct], wrong: Any) -> None:
    with pytest.raises(msgpack.DecodeError, match=cls.__name__):
        wire.from_wire(cls, wrong)


def test_numbers_may_stand_for_bools_and_floats() -> None:
    assert wire.from_wire(structs.NodeService, {b"EnableTagOverride": 1}).enable_tag_override is True
    assert wire.from_wire(structs.Coord, {b"Error": 2, b"Vec": [1, 0.5]}) == structs.Coord([1.0, 0.5], 2.0)


@given(st.binary(max_size=60))
def test_untyped_values_survive_as_text(raw: bytes) -> None:
    value = {raw: [raw, {b"n": 1.5}, None]}
    assert msgpack.encode(wire.plain(value)) == msgpack.encode(value)


def test_fields_of_later_versions_are_written_when_they_are_set() -> None:
    variables = acl_structs.ACLTemplateVariables("web")
    rule = acl_structs.ACLBindingRule(bind_type="templated-policy", bind_vars=variables)
    assert wire.to_wire(rule)["BindVars"] == {"Name": "web"}
    assert wire.unpack(acl_structs.ACLBindingRule, wire.pack(rule)) == rule
    assert "BindVars" not in wire.to_wire(acl_structs.ACLBindingRule())
