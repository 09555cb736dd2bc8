"""Questions, commands and errands as RPCs: Consul's own bytes, both ways, and what is not understood."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.api import remote_structs
from core.api.config_entry import ServiceConfig
from core.api.endpoint import Answer, Question
from core.api.remote import REMOTES, SERVICES
from core.codec import msgpack, netrpc, wire
from core.codec.msgpack import DecodeError
from core.errors import Invalid, Unavailable
from core.store import structs as store_structs

VECTORS = Path(__file__).parents[2] / "vectors" / "rpc"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


AGENT_CALLS: list[dict[str, Any]] = vectors("client_agent_calls.json")["vectors"]
CALLS: list[dict[str, Any]] = vectors("calls.json")["vectors"]
STRUCTS: dict[str, Any] = vectors("structs.json")["structs"]
METHODS: dict[str, dict[str, Any]] = {one["method"]: one for one in vectors("methods.json")["vectors"]}


def body_type(method: str) -> type[msgspec.Struct]:
    remote: Any = REMOTES[method]
    return getattr(remote, "body", store_structs.KVSRequest)  # KVS.Apply goes without a struct


@pytest.mark.parametrize(
    "call", [call for call in AGENT_CALLS if call["method"] in REMOTES], ids=lambda call: call["method"]
)
def test_requests_of_a_client_agent(call: dict[str, Any]) -> None:
    """All that a real agent sends has a place: it is encoded again to the same bytes."""
    raw = bytes.fromhex(call["request_hex"])
    body = msgpack.decode(raw)
    struct = body_type(call["method"])
    again = msgpack.decode(wire.pack(wire.from_wire(struct, body)))
    assert sorted(again.items()) == sorted(body.items())
    REMOTES[call["method"]].accept(body)


def test_requests_have_the_same_bytes() -> None:
    """Where no map is in it, whose order is chance, even the order is the same."""
    same = 0
    for call in AGENT_CALLS:
        raw = bytes.fromhex(call["request_hex"])
        if call["method"] in REMOTES:
            same += wire.pack(wire.from_wire(body_type(call["method"]), msgpack.decode(raw))) == raw
    assert same >= 30


# What a request can hold that this version does not act on, and so does not send on.
IGNORED = {b"Source", b"ServiceTags"}


@pytest.mark.parametrize(
    "call", [call for call in AGENT_CALLS if call["method"] in REMOTES], ids=lambda call: call["method"]
)
def test_requests_mean_the_same_when_sent_on(call: dict[str, Any]) -> None:
    remote = REMOTES[call["method"]]
    body = msgpack.decode(bytes.fromhex(call["request_hex"]))
    again = msgpack.decode(msgpack.encode(remote.request(remote.accept(body), "elsewhere")))
    assert again.keys() == body.keys()
    for name, value in body.items():
        if name not in IGNORED and name != b"UseCache":
            assert again[name] == value, name


def test_the_same_bytes_are_sent_on() -> None:
    """Requests in which nothing is ignored go on byte by byte."""
    same = 0
    for call in AGENT_CALLS:
        remote = REMOTES.get(call["method"])
        raw = bytes.fromhex(call["request_hex"])
        if remote is not None:
            same += msgpack.encode(remote.request(remote.accept(msgpack.decode(raw)), "")) == raw
    assert same >= 20


def _with_bytes(value: Any) -> Any:
    """A recorded reply as the decoder gives it: text as bytes."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key.encode(): _with_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


REPLIES = [call for call in AGENT_CALLS if call["method"] in REMOTES and call["response"] is not None]


@pytest.mark.parametrize("call", REPLIES, ids=lambda call: call["method"])
def test_replies_to_a_client_agent(call: dict[str, Any]) -> None:
    """What a real server answered becomes an outcome, and that the same reply again."""
    if call["response_error"]:
        return
    remote = REMOTES[call["method"]]
    reply = _with_bytes(call["response"])
    again = msgpack.decode(msgpack.encode(remote.reply(remote.answer(reply))))
    assert _normal(again) == _normal(reply)


def _normal(value: Any) -> Any:
    """Without what may differ: nil and empty, and the indexes of a node that travels in its instance."""
    if type(value) is dict:
        return {key: _normal(item) for key, item in value.items() if item not in (None, [], {}, b"")}
    return [_normal(item) for item in value] if type(value) is list else value


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call["method"])
def test_recorded_calls(call: dict[str, Any]) -> None:
    """A header and a body in one run of bytes; partial bodies, as a hand-written client sends them."""
    raw = bytes.fromhex(call["request_hex"])
    messages = netrpc.Messages()
    messages.feed(raw)
    header, body = messages.next() or ({}, None)
    method = header[b"ServiceMethod"].decode()
    assert (method, header[b"Seq"]) == (call["request"][0]["ServiceMethod"], call["request"][0]["Seq"])
    messages = netrpc.Messages()
    messages.feed(bytes.fromhex(call["response_hex"]))
    header, reply = messages.next() or ({}, None)
    if header[b"Error"]:
        assert netrpc.failure(method, header[b"Seq"], header[b"Error"].decode()) == bytes.fromhex(
            call["response_hex"]
        )
        return
    remote = REMOTES[method]
    work = remote.accept(body)
    if not (isinstance(work, Question) and method.startswith("Catalog.ListDatacenters")):
        remote.request(work, "dc1")
    assert netrpc.response(method, header[b"Seq"], remote.reply(remote.answer(reply))) == bytes.fromhex(
        call["response_hex"]
    )


@pytest.mark.parametrize("size", [0, 1, 15, 16, 64, 65, 1000])
def test_long_replies_in_pieces_are_the_same(size: int) -> None:
    nodes = [store_structs.Node(node=f"n{number}", meta={"a": "b"}) for number in range(size)]
    pairs = [(node, store_structs.NodeService(id="w", service="web")) for node in nodes]
    values: dict[str, Any] = {
        "Catalog.ListNodes": nodes,
        "Catalog.ServiceNodes": pairs,
        "Health.ServiceNodes": [store_structs.CheckServiceNode(*pair) for pair in pairs],
        "KVS.List": [store_structs.DirEntry(b"k%d" % number) for number in range(size)],
        "KVS.ListKeys": [b"k%d" % number for number in range(size)],
        "Internal.NodeDump": [(node, [service], []) for node, service in pairs],
    }
    for method, value in values.items():
        remote: Any = REMOTES[method]
        answer = Answer(7, value, last_contact=5)
        whole = b"".join(remote.pieces(answer))
        assert msgpack.decode(whole) == msgpack.decode(msgpack.encode(remote.reply(answer)))


def _fields(cls: type[msgspec.Struct]) -> list[str]:
    """The names on the wire but for those that only later versions know."""
    later = {"extra", *getattr(cls, "OPTIONAL", ())}
    return sorted(field.encode_name for field in msgspec.structs.fields(cls) if field.name not in later)


def _structs(*rooms: Any) -> list[type[msgspec.Struct]]:
    return [
        one
        for room in rooms
        for name, one in sorted(vars(room).items())
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and name in STRUCTS
    ]


@pytest.mark.parametrize("cls", _structs(remote_structs, store_structs), ids=lambda cls: cls.__name__)
def test_structs_have_all_fields(cls: type[msgspec.Struct]) -> None:
    known = STRUCTS[cls.__name__]
    assert _fields(cls) == [field["name"] for field in known["fields"]]


PACKED = {"ConfigEntry.Apply", "ConfigEntry.Delete"}  # maps after their kind; see test_config_entries.py


@pytest.mark.parametrize("method", sorted(REMOTES.keys() & METHODS.keys() - PACKED))
def test_methods_have_the_struct_of_their_name(method: str) -> None:
    known, remote = METHODS[method], REMOTES[method]
    name = known["request"]
    fields = [] if name == "struct{}" else [field["name"] for field in STRUCTS[name]["fields"]]
    assert _fields(body_type(method)) == fields
    reply: Any = getattr(remote, "reply_type", None)
    if reply is not None:
        assert _fields(reply) == [field["name"] for field in STRUCTS[known["response"]]["fields"]]


def test_services() -> None:
    insecure = {name for name, one in METHODS.items() if one["insecure_server_only"]}
    assert {name.partition(".")[0] for name in METHODS.keys() - insecure} == SERVICES
    assert not insecure & REMOTES.keys()


def test_zero_values() -> None:
    """Replies that say nothing are those of the reference."""
    reply = REMOTES["ConfigEntry.ResolveServiceConfig"].reply(Answer(0, ServiceConfig(), known_leader=False))
    expected = bytes.fromhex(STRUCTS["ServiceConfigResponse"]["zero_hex"]).replace(b"Index\0", b"Index\1")
    assert msgpack.encode(reply) == expected


@pytest.mark.parametrize("method", sorted(REMOTES))
@pytest.mark.parametrize(
    "body", [None, 1, b"x", [], [1], {b"Datacenter": 5}, {b"Datacenter": b"", b"Token": []}]
)
def test_nonsense_is_told_from_defects(method: str, body: Any) -> None:
    remote = REMOTES[method]
    with contextlib.suppress(DecodeError, Unavailable, Invalid):
        remote.accept(body)
    with contextlib.suppress(Unavailable):
        remote.answer(body)


def test_a_read_names_its_datacenter() -> None:
    with pytest.raises(Unavailable, match="No path to datacenter"):
        REMOTES["KVS.Get"].accept({b"Key": b"x"})
    REMOTES["Status.Leader"].accept({})


def test_keys_are_asked_of_whoever_is_called() -> None:
    """A server of Consul's leaves the datacenter empty when it asks those of other datacenters."""
    remote = REMOTES["Internal.KeyringOperation"]
    for datacenter in (b"", b"dc1"):
        body = {b"Datacenter": datacenter, b"Operation": b"list", b"Forwarded": True, b"Token": b"t"}
        errand: Any = remote.accept(body)
        assert (errand.datacenter, errand.args.operation, errand.args.forwarded) == ("", "list", True)


def test_services_of_nodes_have_tags_and_meta() -> None:
    """Consul's agents show `{}` for what an empty map is, `null` for none; its servers send the map."""
    pair = (store_structs.Node(node="n"), store_structs.NodeService(id="a", service="a"))
    reply: Any = REMOTES["Catalog.ServiceNodes"].reply(Answer(7, [pair]))
    (row,) = reply["ServiceNodes"]
    assert (row["ServiceTags"], row["ServiceMeta"], row["NodeMeta"]) == ([], {}, None)
