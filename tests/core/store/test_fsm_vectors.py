"""The recorded log of a real leader and the recorded edge cases replay to the same results and indexes."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from core.codec import msgpack, wire
from core.errors import Invalid
from core.store import commands, persist
from core.store.apply import COMMANDS
from core.store.fsm import FSM, ChunkingSuccess
from core.store.structs import TxnResponse

VECTORS = Path(__file__).parents[2] / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["vectors"]
    return found


INITIAL = bytes.fromhex(vectors("fsm/initial_snapshot.json")[0]["state_bin_hex"])
LOG = [entry for entry in vectors("fsm/log_sequence.json") if entry["log_type"] == 0]
EDGES = vectors("fsm/edge_cases.json")


def data_of(entry: dict[str, Any]) -> bytes:
    """The entry's bytes; the first chunk of the large value was recorded by its hash."""
    if "data_length" not in entry:
        return bytes.fromhex(entry["data_hex"])
    whole = commands.kvs("set", b"big", b"Z" * 524288, datacenter="dc1")
    data = whole[: entry["data_length"]]
    assert data.startswith(bytes.fromhex(entry["data_head_hex"]))
    assert hashlib.sha256(data).hexdigest() == entry["data_sha256"]
    return data


def slim(value: Any) -> Any:
    """Without the fields that Go leaves out of JSON or that are zero."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := slim(item))}
    return [slim(item) for item in value] if isinstance(value, list) else value


def as_json(response: TxnResponse) -> Any:
    found = wire.plain(msgpack.decode(msgpack.encode(wire.to_wire(response))))
    for result in found["Results"] or ():
        if result["KV"] and result["KV"]["Value"]:
            result["KV"]["Value"] = base64.b64encode(result["KV"]["Value"].encode()).decode()
    return slim(found)


def check_result(expected: str, result: object) -> None:
    kind, _, rest = expected.partition(" ")
    if kind == "nil":
        assert result is None
    elif kind == "bool":
        assert result is (rest == "true")
    elif kind == "uint64":
        assert result == int(rest)
    elif kind == "string":
        assert result == json.loads(rest)
    elif kind == "error:":
        assert isinstance(result, Invalid)
        assert str(result) == rest
    elif kind == "raftchunking.ChunkingSuccess":
        assert result == ChunkingSuccess(None)
    else:
        assert kind == "structs.TxnResponse"
        assert isinstance(result, TxnResponse)
        assert as_json(result) == slim(json.loads(rest))


def replay(fsm: FSM, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        before = dict(fsm.store.indexes)
        if "omitted" in entry:
            fsm.store.indexes.update(entry["index_changes"])
            continue
        extensions = bytes.fromhex(entry.get("extensions_hex", ""))
        result = fsm.apply(entry["index"], data_of(entry), extensions, entry.get("term", 3))
        check_result(entry["result"], result)
        after = fsm.store.indexes
        changes = {name: value for name, value in after.items() if before.get(name) != value}
        assert changes == entry["index_changes"], entry["index"]
        assert sorted(before.keys() - after.keys()) == sorted(entry["index_deleted"]), entry["index"]
        assert fsm.store.applied == entry["index"]


def started() -> FSM:
    fsm = FSM()
    fsm.restore(INITIAL)
    return fsm


def test_the_log_replays() -> None:
    fsm = started()
    replay(fsm, LOG)
    assert len(LOG) > 70
    replay(fsm, EDGES)


@pytest.mark.parametrize("cut", range(0, len(LOG), 5))
def test_a_snapshot_anywhere_in_the_log_changes_nothing(cut: int) -> None:
    """Also between the two chunks of the large value: entry 38 is the first one."""
    first = started()
    replay(first, LOG[:cut])
    state = b"".join(first.snapshot())
    second = FSM()
    second.restore(state)
    assert b"".join(second.snapshot()) == state
    replay(second, LOG[cut:])
    replay(second, EDGES)


def test_a_snapshot_between_chunks() -> None:
    first = started()
    chunk = next(at for at, entry in enumerate(LOG) if entry["index"] == 38)
    replay(first, LOG[: chunk + 1])
    assert first.store.chunks
    second = FSM()
    second.restore(b"".join(first.snapshot()))
    assert second.store.chunks == first.store.chunks
    replay(second, LOG[chunk + 1 :])
    entry = second.store.kv_get(b"big")[1]
    assert entry is not None
    assert entry.value == b"Z" * 524288


def records(state: bytes) -> list[bytes]:
    """The records of state.bin, each with its type byte, encoded anew from what was read."""
    reader = msgpack.Reader(state)
    assert reader.value().keys() == {b"LastIndex"}
    found = []
    while not reader.at_end:
        kind = reader.byte()
        found.append(bytes([kind]) + msgpack.encode(reader.value()))
    return found


def test_the_state_after_the_log_has_the_recorded_records() -> None:
    """Same records in the same order; maps that Go walks in random order may differ in order only."""
    fsm = started()
    replay(fsm, LOG)
    ours = [one for one in records(b"".join(fsm.snapshot())) if one[0] != commands.CA_PROVIDER_STATE]
    recorded = [entry for entry in vectors("snapshot/records.json") if "omitted" not in entry]
    assert len(ours) == len(recorded)
    for mine, entry in zip(ours, recorded, strict=True):
        assert mine[0] == entry["type"]
        if "hex" not in entry:
            assert mine.startswith(bytes.fromhex(entry["head_hex"]))
            assert len(mine) == entry["length"]
            continue
        theirs = bytes.fromhex(entry["hex"])
        if mine[0] == commands.CONFIG_ENTRY:
            assert sorted(mine) == sorted(theirs)
        else:
            assert msgpack.decode(mine[1:]) == msgpack.decode(theirs[1:])


@pytest.mark.parametrize(
    "state",
    [INITIAL, bytes.fromhex(vectors("snapshot/on_disk.json")[0]["state_bin_hex"])],
    ids=["initial", "on-disk"],
)
def test_recorded_state_loads_and_has_the_same_records_again(state: bytes) -> None:
    again = b"".join(persist.dump(persist.load(state)))
    assert len(again) == len(state)
    assert [msgpack.decode(record[1:]) for record in records(again)] == [
        msgpack.decode(record[1:]) for record in records(state)
    ]


def test_recorded_records_come_back_byte_for_byte() -> None:
    """Each record alone: what was read is written with the same bytes, also maps in odd order."""
    for entry in vectors("snapshot/records.json"):
        if "hex" not in entry or entry["type"] == commands.CHUNKING_STATE:
            continue
        record = bytes.fromhex(entry["hex"])
        state = msgpack.encode({"LastIndex": 99}) + record
        again = b"".join(persist.dump(persist.load(state)))
        assert record in again, entry


def test_every_command_of_the_protocol_has_a_handler() -> None:
    snapshots_only = {10, 14, 15, 16, 29}  # and the enterprise's network areas
    assert set(COMMANDS) == set(range(32)) - snapshots_only
