"""Snapshots: the archive, and state.bin with odd, broken and huge content."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codec import msgpack
from core.store import archive, commands, persist
from core.store.archive import SnapshotConfiguration, SnapshotMeta, SnapshotServer
from core.store.persist import SnapshotError
from core.store.state import Store
from tests.core.store.maker import Bench

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "snapshot" / "archive.json").read_text()
)["vectors"][0]
SERVERS = [SnapshotServer(0, "id-1", "127.0.12.2:8300"), SnapshotServer(1, "id-2", "127.0.12.5:8300")]
META = SnapshotMeta(
    id="3-83-1",
    index=83,
    term=3,
    peers=archive.peers_of(SERVERS),
    configuration=SnapshotConfiguration(SERVERS),
    configuration_index=1,
)


def packed(state: bytes = b"state") -> bytes:
    return b"".join(archive.write(META, state, written=1_700_000_000))


def test_meta_json_has_the_recorded_bytes() -> None:
    recorded = VECTOR["meta_json"].encode()
    meta = archive.decode_meta(recorded)
    assert archive.encode_meta(meta) == recorded
    assert meta.peers == archive.peers_of(meta.configuration.servers)


@given(st.binary(max_size=3000) | st.integers(0, 3).map(lambda n: b"x" * (n * 512)))
def test_an_archive_comes_back(state: bytes) -> None:
    meta, again = archive.read(packed(state))
    assert again == state
    assert meta.size == len(state)
    assert meta.configuration.servers == SERVERS


def test_others_can_read_it() -> None:
    data = packed(b"x" * 1000)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [(m.name, oct(m.mode)) for m in members] == [
            (m["name"], m["mode"]) for m in VECTOR["tar_members"]
        ]
        sums = tar.extractfile("SHA256SUMS")
        assert sums is not None
        lines = sums.read().decode().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["meta.json", "state.bin"]
    assert lines[1].startswith(hashlib.sha256(b"x" * 1000).hexdigest())
    raw = gzip.decompress(data)
    assert raw.endswith(bytes(1024))
    assert not raw.endswith(bytes(1024 + 512))


def repack(change: dict[str, bytes | None], padded: bool = False, garbage: bytes = b"") -> bytes:
    """An archive as Python's tarfile makes it, with some members replaced or left out."""
    with tarfile.open(fileobj=io.BytesIO(packed())) as tar:
        content: dict[str, bytes | None] = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            content[member.name] = file.read() if file else b""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in reversed((content | change).items()):  # any order is fine
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    raw = out.getvalue()
    return gzip.compress((raw if padded else raw.rstrip(b"\0") + bytes(2048)) + garbage)


def test_archives_of_others_can_be_read_in_any_order_and_padded() -> None:
    assert archive.read(repack({}, padded=True))[1] == b"state"


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (b"", "unexpected EOF"),
        (b"not gzip", "failed to decompress"),
        (packed()[:-20], "failed to decompress|unexpected EOF"),
        (packed()[:60], "unexpected EOF"),
        (gzip.compress(b""), "unexpected EOF"),
        (gzip.compress(b"x" * 512), "invalid tar header"),
        (repack({"state.bin": b"other"}), "hash check failed for 'state.bin'"),
        (repack({"state.bin": None}), "missing file 'state.bin'"),
        (repack({"SHA256SUMS": None}), "missing file 'SHA256SUMS'"),
        (repack({"SHA256SUMS": b""}), "missing hash for 'meta.json'"),
        (repack({"SHA256SUMS": b"00  ../evil\n"}), "unexpected hash"),
        (repack({"evil": b"x"}), "unexpected file 'evil'"),
        (repack({}, padded=True, garbage=b"x" * 2048), "unread uncompressed bytes remain"),
    ],
)
def test_broken_archives_are_refused(broken: bytes, problem: str) -> None:
    with pytest.raises(SnapshotError, match=problem):
        archive.read(broken)


@given(st.data())
@settings(max_examples=150)
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    """Either it is refused, or the content is the same (a bit of the headers' free fields)."""
    raw = bytearray(gzip.decompress(packed()))
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << position % 8
    with contextlib.suppress(SnapshotError):
        assert archive.read(gzip.compress(bytes(raw)))[1] == b"state"


def test_a_gzip_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_SIZE", 100_000)
    with pytest.raises(SnapshotError, match="larger than 100000 bytes"):
        archive.read(gzip.compress(bytes(1_000_000)))


@pytest.mark.parametrize("meta", [b"", b"{}{", b"[]", b'{"Version":2}', b'{"Index":"x"}', b"\xff"])
def test_bad_metadata_is_refused(meta: bytes) -> None:
    with pytest.raises(SnapshotError):
        archive.decode_meta(meta)


def filled() -> Bench:
    bench = Bench()
    bench.register(
        "n1", node_meta={"b": "1", "a": "2"}, tagged_addresses={"wan": "1.1.1.1", "lan": "2.2.2.2"}
    )
    bench.service("n1", "web1", tags=["t"], meta={"z": "1", "a": "2"})
    bench.check("n1", "c", service_id="web1")
    bench.session("s", node_checks=["c"])
    bench.put(b"\xff\x00key", b"\xfe")
    bench.put(b"gone")
    bench.delete(b"gone")
    bench.apply(commands.kvs("lock", b"held", b"x", session="s"))
    return bench


def dumped(store: Store) -> bytes:
    return b"".join(persist.dump(store))


def test_a_dump_is_of_the_moment_when_it_was_asked_for() -> None:
    bench = filled()
    before = dumped(bench.store)
    slices = persist.dump(bench.store)
    bench.put(b"later")
    bench.deregister("n1")
    assert b"".join(slices) == before


def test_a_restored_store_works_on() -> None:
    bench = filled()
    bench.fsm.restore(dumped(bench.store))
    assert bench.store.applied == bench.index
    assert bench.store.kv_list(b"gone")[0] == bench.index - 1
    bench.check("n1", "c", "critical", service_id="web1")
    assert bench.store.session_list()[1] == []  # the check bindings came back, too
    assert bench.store.kv_get(b"held")[1].session == ""  # type: ignore[union-attr]


def test_unknown_records_are_refused_with_their_number() -> None:
    bench = filled()
    before = dumped(bench.store)
    with pytest.raises(SnapshotError, match="unknown record type 42"):
        bench.fsm.restore(before + b"\x2a\x80")
    assert dumped(bench.store) == before


@given(st.data())
@settings(max_examples=100)
def test_damaged_state_never_crashes(data: st.DataObject) -> None:
    state = bytearray(STATE)
    cut = data.draw(st.integers(0, len(state)))
    if data.draw(st.booleans()):
        del state[cut:]
    else:
        state[cut : cut + 1] = data.draw(st.binary(max_size=4))
    try:
        persist.load(bytes(state))
    except SnapshotError as error:
        assert str(error)


STATE = dumped(filled().store)


@pytest.mark.parametrize("byte", [b"", b"\x01", b"\x80", b"\xa1x", b"\xc0", b"\xff"])
def test_no_damaged_byte_crashes(byte: bytes) -> None:
    for position in range(len(STATE)):
        with contextlib.suppress(SnapshotError):
            persist.load(STATE[:position] + byte + STATE[position + 1 :])


def test_old_records_can_be_read() -> None:
    """Nodes without index, tokens of the old ACL system and its bootstrap marker."""
    node = {"Node": "old", "Address": "10.0.0.1"}
    legacy = {
        "ID": "secret",
        "Name": "ops",
        "Type": "client",
        "Rules": "",
        "CreateIndex": 3,
        "ModifyIndex": 4,
    }
    state = msgpack.encode({"LastIndex": 77})
    for kind, value in ((0, node), (4, legacy), (11, {"AllowBootstrap": False, "ModifyIndex": 9})):
        state += bytes([kind]) + msgpack.encode(value)
    store = persist.load(state)
    assert store.nodes() == (77, [store.get_node("old")])
    assert store.get_node("old").create_index == 77  # type: ignore[union-attr]
    token = store.token_by_secret("secret")
    assert token is not None
    assert (token.description, token.modify_index) == ("ops", 4)
    assert not store.bootstrap_allowed()


def test_no_step_of_a_large_dump_takes_long() -> None:
    bench = Bench()
    for number in range(20_000):
        bench.put(b"key/%d" % number, b"v" * 40)
    for number in range(300):
        bench.register(f"n{number}", node_meta={"k": "v"})
        bench.service(f"n{number}", "web", tags=["a", "b"])
    steps = []
    begin = time.perf_counter()
    for piece in persist.dump(bench.store):
        now = time.perf_counter()
        steps.append(now - begin)
        assert len(piece) < 2 * persist.SLICE
        begin = time.perf_counter()
    steps.sort()
    assert len(steps) > 40
    assert steps[len(steps) // 2] < 0.03
