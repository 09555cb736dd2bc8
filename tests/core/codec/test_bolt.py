"""BoltDB files: one of a real server, and what is none."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codec.bolt import Bolt
from core.codec.msgpack import DecodeError
from core.raft.messages import decode_entry

RECORDED = json.loads((Path(__file__).parents[2] / "vectors" / "raft" / "raft_folder.json").read_text())
FILE = gzip.decompress(base64.b64decode(RECORDED["files"]["raft.db"]))
META = slice(16, 80)  # within a meta page


def test_the_buckets_of_a_server() -> None:
    file = Bolt(FILE)
    assert {key: bytes(value) for key, value in file.bucket(b"conf")} == {
        b"CurrentTerm": (2).to_bytes(8, "big"),
        b"LastVoteTerm": (2).to_bytes(8, "big"),
        b"LastVoteCand": b"127.77.7.7:8300",
    }
    logs = [(int.from_bytes(key, "big"), decode_entry(bytes(value))) for key, value in file.bucket(b"logs")]
    assert [index for index, _ in logs] == list(range(49, 99))
    assert all(entry.index == index and entry.term == 2 for index, entry in logs)
    assert max(entry.size for _, entry in logs) > 10_000  # on a page with overflow
    assert list(file.bucket(b"nosuch")) == []


def test_the_newer_whole_meta_page_counts() -> None:
    broken = [bytearray(FILE), bytearray(FILE)]
    for number, data in enumerate(broken):
        data[number * 4096 + META.start + 48] ^= 1  # the transaction's number, so the sum is wrong
        Bolt(data)
    broken[0][4096 + META.start + 48] ^= 1
    with pytest.raises(DecodeError, match="meta pages"):
        Bolt(broken[0])


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(8192), FILE[:70], FILE[80:]])
def test_what_is_no_such_file(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a BoltDB file"):
        Bolt(data)


def test_a_file_that_is_cut_off() -> None:
    with pytest.raises(DecodeError):
        for name in (b"logs", b"conf"):
            list(Bolt(FILE[:8192]).bucket(name))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(8192, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=40))
def test_damage_is_an_error_or_other_values(changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for place, value in changes:
        data[place] = value
    try:
        for name in (b"conf", b"logs"):
            for key, part in Bolt(data).bucket(name):
                assert isinstance(key, bytes) and len(part) <= len(FILE)
    except DecodeError:
        pass
