from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.raft import configuration, messages

VECTORS = Path(__file__).parents[2] / "vectors" / "raft"


def vectors(name: str) -> list[Any]:
    found = json.loads((VECTORS / name).read_text())["vectors"]
    assert isinstance(found, list)
    return found


def plain(value: Any) -> Any:
    """What the vectors call a value: texts, and {"hex": ...} for bytes that are none."""
    if isinstance(value, dict) and set(value) == {"hex"}:
        return bytes.fromhex(value["hex"])
    return value


RPCS = vectors("rpcs.json")
REQUEST_FIELDS = {
    messages.AppendEntries: {
        "Leader": "leader",
        "LeaderCommitIndex": "commit",
        "PrevLogEntry": "prev_index",
        "PrevLogTerm": "prev_term",
        "Term": "term",
    },
    messages.RequestVote: {
        "Candidate": "candidate",
        "LastLogIndex": "last_index",
        "LastLogTerm": "last_term",
        "LeadershipTransfer": "transfer",
        "Term": "term",
    },
    messages.InstallSnapshot: {
        "Configuration": "configuration",
        "ConfigurationIndex": "configuration_index",
        "LastLogIndex": "last_index",
        "LastLogTerm": "last_term",
        "Leader": "leader",
        "Peers": "peers",
        "Size": "size",
        "SnapshotVersion": "snapshot_version",
        "Term": "term",
    },
    messages.TimeoutNow: {},
}


@pytest.mark.parametrize("vector", RPCS, ids=lambda v: v["rpc"])
def test_requests(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["request_hex"])
    request = messages.decode_request(raw[0], raw[1:])
    assert raw[0] == vector["type_byte"]
    assert request.version == vector["request"]["ProtocolVersion"]
    for wire, attribute in REQUEST_FIELDS[type(request)].items():
        assert getattr(request, attribute) == plain(vector["request"][wire]), wire
    if isinstance(request, messages.AppendEntries):
        wanted = vector["request"]["Entries"]
        assert (request.entries is None) == (wanted is None)
        for entry, fields in zip(request.entries or [], wanted or [], strict=True):
            assert entry.index == fields["Index"]
            assert entry.term == fields["Term"]
            assert entry.type == fields["Type"]
            assert entry.data == plain(fields["Data"])
            assert entry.extensions == plain(fields["Extensions"])
    encoded = messages.encode_request(request)
    if vector["direction"].startswith("Consul"):
        assert encoded == raw
    else:  # the probe's keys were not in order
        assert messages.decode_request(encoded[0], encoded[1:]) == request


@pytest.mark.parametrize("vector", RPCS, ids=lambda v: v["rpc"])
def test_responses(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["response_hex"])
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(raw)
    error, fields = list(unpacker)
    assert error.decode() == vector["response_error"]
    if fields is None:
        assert messages.encode_response(None, error.decode()) == raw
        return
    response = messages.decode_response(vector["type_byte"], fields)
    wanted = vector["response"]
    assert response.version == wanted["ProtocolVersion"]
    if isinstance(response, messages.AppendReply):
        assert (response.term, response.last_log) == (wanted["Term"], wanted["LastLog"])
        assert (response.success, response.no_retry_backoff) == (wanted["Success"], wanted["NoRetryBackoff"])
    if isinstance(response, messages.VoteReply):
        assert (response.term, response.granted) == (wanted["Term"], wanted["Granted"])
    if isinstance(response, messages.InstallReply):
        assert (response.term, response.success) == (wanted["Term"], wanted["Success"])
    encoded = messages.encode_response(response)
    if "by Consul" in vector["direction"]:
        assert encoded == raw
    assert encoded[:1] == b"\xa0"
    assert messages.decode_response(vector["type_byte"], msgpack.unpackb(encoded[1:], raw=True)) == response


def test_a_recorded_heartbeat_is_one() -> None:
    kinds = {
        vector["rpc"]: messages.decode_request(0, bytes.fromhex(vector["request_hex"])[1:]).is_heartbeat  # type: ignore[union-attr]
        for vector in RPCS
        if vector["rpc"].startswith("AppendEntries") and vector["direction"].startswith("Consul")
    }
    assert kinds == {"AppendEntries": False, "AppendEntries (heartbeat)": True}


@pytest.mark.parametrize("version, refused", [(9, True), (4, True), (3, False), (2, False), (1, True)])
def test_protocol_versions(version: int, refused: bool) -> None:
    assert messages.refused_version(version) is refused


@pytest.mark.parametrize("vector", [v for v in vectors("configuration.json") if "data_hex" in v])
def test_configurations(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["data_hex"])
    decoded = configuration.decode(raw)
    wanted = [(s["ID"], s["Address"], s["Suffrage"]) for s in vector["decoded"]["Servers"]]
    assert [(s.id, s.address, s.suffrage) for s in decoded.servers] == wanted
    assert decoded.encode() == raw


def test_legacy_peers() -> None:
    (vector,) = [v for v in vectors("configuration.json") if "peers_hex" in v]
    servers = [configuration.Server(str(i), a) for i, a in enumerate(vector["decoded"])]
    servers.append(configuration.Server("x", "nonvoter:1", configuration.NONVOTER))
    peers = configuration.Configuration(tuple(servers)).encode_peers()
    assert peers.hex() == vector["peers_hex"]


@pytest.mark.parametrize("vector", [v for v in vectors("boltdb.json") if v["bucket"] == "logs"])
def test_entries(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["value_hex"])
    entry = messages.decode_entry(raw)
    assert entry.index == vector["decoded"]["Index"] == int(vector["key_hex"], 16)
    assert entry.data == plain(vector["decoded"]["Data"])
    assert messages.encode_entry(entry) == raw


@given(st.integers(0, 5), st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(kind: int, data: bytes) -> None:
    try:
        request = messages.decode_request(kind, data)
    except ValueError:
        return
    encoded = messages.encode_request(request)
    assert messages.decode_request(encoded[0], encoded[1:]) == request


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1 << 64) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
NAMES = [b"Term", b"Entries", b"Leader", b"PrevLogEntry", b"Candidate", b"Configuration"]
NAMES += [b"LeadershipTransfer"]


@given(st.integers(0, 4), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_map_is_decoded_or_refused(kind: int, fields: dict[bytes, Any]) -> None:
    try:
        data = msgpack.packb(fields, use_bin_type=False)
    except (OverflowError, ValueError):
        return
    try:
        messages.decode_request(kind, data)
    except ValueError:
        return
