from __future__ import annotations

import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import snapshots
from agent.snapshots import DamagedSnapshot, DiskSnapshots, MemorySnapshots, SnapshotMeta
from core.errors import StorageFull
from core.raft.configuration import Configuration, Server

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "snapshot" / "on_disk.json").read_text())
CONFIGURATION = Configuration((Server("n1", "127.0.0.1:8300"), Server("n2", "127.0.0.2:8300", 1)))


def meta(index: int, term: int = 2) -> SnapshotMeta:
    return SnapshotMeta(f"{term}-{index}-{index}000", index, term, CONFIGURATION, 1)


def take(store: DiskSnapshots, index: int, data: bytes = b"state", term: int = 2) -> SnapshotMeta:
    writer = store.create(meta(index, term))
    writer.write(data[:2])
    writer.write(data[2:])
    return writer.finish()


@pytest.mark.parametrize("kind", [snapshots._LibraryCrc, snapshots._StreamCrc])
@given(parts=st.lists(st.binary(max_size=400), max_size=5))
def test_crc64_in_pieces(kind: Any, parts: list[bytes]) -> None:
    """Both ways agree with the definition, bit by bit."""
    crc, value = kind(), (1 << 64) - 1
    for part in parts:
        crc.update(part)
        for byte in part:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0xC96C5795D7870F42 if value & 1 else 0)
    assert crc.digest() == (value ^ (1 << 64) - 1).to_bytes(8, "big")


@pytest.mark.parametrize("kind", [snapshots._LibraryCrc, snapshots._StreamCrc])
def test_crc64_of_large_data_that_cannot_be_compressed(kind: Any) -> None:
    data = b"".join(zlib.crc32(b"%d" % i).to_bytes(4, "big") for i in range(100_000))
    whole, pieces = kind(), kind()
    whole.update(data)
    for start in range(0, len(data), 65_536):
        pieces.update(data[start : start + 65_536])
    assert whole.digest() == pieces.digest()


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["directory"])
def test_real_snapshots_are_read_and_written_alike(vector: dict[str, Any], tmp_path: Path) -> None:
    state = bytes.fromhex(vector["state_bin_hex"])
    folder = tmp_path / "real" / vector["directory"]
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(vector["meta_json"])
    (folder / "state.bin").write_bytes(state)
    store = DiskSnapshots(tmp_path / "real")
    (found,) = store.list()
    if len(state) == vector["state_length"]:
        assert store.load(found) == state
        ours = DiskSnapshots(tmp_path / "ours")
        writer = ours.create(msgspec.structs.replace(found, size=0))
        writer.write(state)
        writer.finish()
        written = tmp_path / "ours" / vector["directory"]
        assert (written / "meta.json").read_text() == vector["meta_json"]
        assert (written / "state.bin").read_bytes() == state


def test_the_newest_is_first_and_two_are_kept(tmp_path: Path) -> None:
    store = DiskSnapshots(tmp_path)
    assert store.list() == [] and store.spare_index() == 0
    for index in (5, 9, 100):
        take(store, index)
    take(store, 7, term=3)
    assert [(m.term, m.index) for m in store.list()] == [(3, 7), (2, 100)]
    assert store.spare_index() == 100
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_taken_is_loaded(tmp_path: Path) -> None:
    store = DiskSnapshots(tmp_path)
    written = take(store, 5, b"the state")
    (found,) = store.list()
    assert found == written and found.size == 9
    assert store.load(found) == b"the state"


@pytest.mark.parametrize("change", [b"the statE", b"the stat", b"the state!", b""])
def test_a_damaged_state_is_found(tmp_path: Path, change: bytes) -> None:
    store = DiskSnapshots(tmp_path)
    found = take(store, 5, b"the state")
    (tmp_path / found.id / "state.bin").write_bytes(change)
    with pytest.raises(DamagedSnapshot):
        store.load(found)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Version": 9}', '{"Version": 1, "Index": []}'])
def test_an_unreadable_description_is_passed_over(tmp_path: Path, text: str) -> None:
    store = DiskSnapshots(tmp_path)
    take(store, 5)
    broken = take(store, 6)
    (tmp_path / broken.id / "meta.json").write_text(text)
    assert [m.index for m in store.list()] == [5]


def test_an_unfinished_one_is_ignored_and_removed_later(tmp_path: Path) -> None:
    store = DiskSnapshots(tmp_path)
    store.create(meta(5)).write(b"half")
    assert store.list() == []
    take(store, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["2-6-6000"]


def test_one_that_was_given_up_leaves_nothing(tmp_path: Path) -> None:
    store = DiskSnapshots(tmp_path)
    writer = store.create(meta(5))
    writer.write(b"half")
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store = DiskSnapshots(tmp_path)
    take(store, 5)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageFull, match="the snapshot cannot be written: No space left"):
            take(store, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["2-5-5000"]
    take(store, 7)
    assert [m.index for m in store.list()] == [7, 5]


def test_memory_keeps_the_newest_snapshot() -> None:
    store = MemorySnapshots()
    writer = store.create(meta(9))
    writer.write(b"abc")
    taken = writer.finish()
    assert (taken.size, store.list(), store.spare_index()) == (3, [], 9)
    assert store.load(taken) == b"abc"
    reader = store.open(taken)
    newer = store.create(meta(12))
    newer.finish()
    assert (reader.read(2), reader.read(9), reader.read(9)) == (b"ab", b"c", b"")
    with pytest.raises(DamagedSnapshot):
        store.load(taken)
