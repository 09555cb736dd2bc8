"""Serf's messages, tags and coordinates against bytes that real agents sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.gossip import consul_events, coordinates
from core.gossip import serf_messages as serf
from core.gossip.tags import decode_tags, encode_tags

FOLDER = Path(__file__).parents[2] / "vectors" / "gossip"


@cache
def vectors() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def plain(value: Any) -> Any:
    """The value that a vector's JSON stands for."""
    if isinstance(value, dict):
        if set(value) == {"$hex"}:
            return bytes.fromhex(value["$hex"])
        if "$sparse_len" in value:
            slots = [None] * value["$sparse_len"]
            for index, slot in value["$non_nil"].items():
                slots[int(index)] = plain(slot)
            return slots
        return {key: plain(item) for key, item in value.items() if not key.startswith("$")}
    return [plain(item) for item in value] if isinstance(value, list) else value


def found(node: Any, key: str) -> Iterator[Any]:
    """All values under `key`, wherever in the tree."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from found(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from found(value, key)


def serf_parts() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(vector, a Serf message or payload, all that the vector shows as bytes)."""
    for name, vector in vectors().items():
        shown = " ".join(
            [vector.get("hex", ""), *found(vector, "plain_hex"), *found(vector, "uncompressed_hex")]
        )
        for key in ("serf", "user_state", "payload_decoded", "inner"):
            for part in found(vector.get("decoded"), key):
                if isinstance(part, dict) and "serf_type" in part:
                    yield name, part, shown


PARTS = list(serf_parts())


def test_there_are_all_types() -> None:
    assert {part["serf_type"] for _, part, _ in PARTS} == set(range(10))


@pytest.mark.parametrize(("name", "part", "shown"), PARTS, ids=[f"{n}-{p['serf_type']}" for n, p, _ in PARTS])
def test_messages_have_the_reference_s_bytes(name: str, part: dict[str, Any], shown: str) -> None:
    body = plain(part["body"])
    if part["serf_type"] == serf.RELAY:
        header = wire.from_wire(serf.RelayHeader, msgpack.decode(msgpack.encode(body)))
        inner = serf.encode(_struct(part["inner"]["serf_type"], plain(part["inner"]["body"])))
        raw = serf.encode_relay(header.address.ip, header.address.port, header.name, inner)
        assert raw.hex() in shown
        assert serf.decode_relay(raw) == (header, inner)
        return
    message = _struct(part["serf_type"], body)
    raw = serf.encode(message)
    if raw.hex() not in shown:  # maps of Go are in any order, and so were those that were recorded
        assert part["serf_type"] == serf.CONFLICT or "StatusLTimes" in body
        assert sorted(raw.hex()) == sorted(part_hex(raw, shown))
    assert serf.decode(raw) == message


def part_hex(raw: bytes, shown: str) -> str:
    """The stretch of `shown` that begins and is as long as `raw`."""
    start = shown.index(raw[:12].hex())
    return shown[start : start + 2 * len(raw)]


def _struct(kind: int, body: dict[str, Any]) -> Any:
    return serf.decode_as(serf.TYPES[kind], msgpack.encode(body))


def test_filters() -> None:
    seen = 0
    for name, vector in vectors().items():
        for part in found(vector.get("decoded"), "serf"):
            for raw, want in zip(
                plain(part["body"].get("Filters") or []), part.get("filters_decoded", []), strict=True
            ):
                seen += 1
                if want["filter_type"] == serf.FILTER_NODE:
                    assert serf.decode_filter(raw) == want["value"], name
                    assert serf.encode_node_filter(want["value"]) == raw
                else:
                    tag, expression = want["value"]["Tag"], want["value"]["Expr"]
                    assert serf.decode_filter(raw) == serf.TagFilter(tag, expression)
                    assert serf.encode_tag_filter(tag, expression) == raw
    assert seen >= 2


def test_tags() -> None:
    seen = 0
    for name, vector in vectors().items():
        for node in [*found(vector, "nodes"), *found(vector, "body")]:
            for one in node if isinstance(node, list) else [node]:
                if isinstance(one, dict) and "$tags" in one and one["$tags"]:
                    meta = plain(one["Meta"])
                    assert decode_tags(meta) == one["$tags"], name
                    assert encode_tags(one["$tags"]) == meta
                    seen += 1
    assert seen >= 5


def test_tags_of_other_times() -> None:
    assert decode_tags(b"") == {"role": ""}
    assert decode_tags(b"web") == {"role": "web"}
    assert decode_tags(b"\xff\x93") == {}
    assert decode_tags(b"\xff\x01") == {}
    with pytest.raises(Invalid, match="limit of 512 bytes"):
        encode_tags({"a": "x" * 512})


def test_ack_payloads() -> None:
    seen = 0
    for vector in vectors().values():
        for ack in found(vector.get("decoded"), "body"):
            payload = plain(ack).get("Payload") if isinstance(ack, dict) and "SeqNo" in ack else None
            if payload and payload[:1] == b"\x01":
                assert coordinates.encode(coordinates.decode(payload)) == payload
                assert len(payload) == 130
                seen += 1
    assert seen


def test_consul_s_events() -> None:
    vector = vectors()["consul_udp_user_event"]
    (part,) = found(vector["decoded"], "serf")
    payload, want = plain(part["body"])["Payload"], plain(part["payload_decoded"])
    event = consul_events.decode(payload)
    assert event == consul_events.ConsulEvent(
        want["ID"], want["n"], want["nf"], want["p"], want["sf"], want["tf"], want["v"]
    )
    assert consul_events.encode(event) == payload
    assert event.serf_name == part["body"]["Name"]
    bare = consul_events.ConsulEvent("id", "deploy")
    assert consul_events.encode(bare) == b"\x83\xa2ID\xa2id\xa1n\xa6deploy\xa1v\x01"
    assert consul_events.decode(consul_events.encode(bare)) == bare
    (leader,) = found(vectors()["consul_udp_new_leader"]["decoded"], "body")
    assert leader["Name"] == consul_events.NEW_LEADER


def test_event_of_six_letters_leaves_402_bytes() -> None:
    id = "a6899c1b-8785-023f-d18e-dab0e8686095"
    for size in (402, 403):
        event = consul_events.ConsulEvent(id, "deploy", payload=bytes(size))
        message = serf.UserEventMessage(300, event.serf_name, consul_events.encode(event))
        assert (len(serf.encode(message)) <= 512) == (size == 402)


SPOKEN = (*serf.TYPES.values(), serf.EventSlot, serf.EventBody, serf.RelayHeader, serf.RelayAddress)
KEYS = sorted({field.encode_name for cls in SPOKEN for field in structs.fields(cls)})
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=12,
)
hostile = st.binary(max_size=64) | st.builds(
    lambda kind, body: bytes((kind,)) + msgpack.encode(body), st.integers(0, 255), junk
)


DECODERS: list[Callable[[bytes], Any]] = [
    *(serf.decode, serf.decode_relay, serf.decode_filter),
    *(coordinates.decode, consul_events.decode),
]


@given(hostile)
def test_decoders_are_total(data: bytes) -> None:
    for decode in (
        serf.decode,
        serf.decode_relay,
        serf.decode_filter,
        coordinates.decode,
        consul_events.decode,
    ):
        try:
            decode(data)  # type: ignore[operator]
        except DecodeError:
            continue
    decode_tags(data)


@given(st.integers(0, 2**64 - 1), st.text(), st.booleans(), st.binary(max_size=100))
def test_messages_survive_the_way(ltime: int, name: str, flag: bool, payload: bytes) -> None:
    for message in (
        serf.LeaveIntent(ltime, name, flag),
        serf.JoinIntent(ltime, name),
        serf.UserEventMessage(ltime, name, payload, flag),
        serf.QueryMessage(ltime, 7, payload, 80, name, [payload], 1, 2, -5, name, payload),
        serf.QueryResponseMessage(ltime, 7, name, 1, None),
        serf.PushPull(ltime, {name: ltime}, [name], ltime, [None, serf.EventSlot(ltime)], ltime),
    ):
        assert serf.decode(serf.encode(message)) == message
