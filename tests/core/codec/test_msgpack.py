"""Go's old msgpack dialect: no new-spec headers, raw strings, times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import msgpack

SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=300)
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=40), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_values_survive(value: object) -> None:
    assert msgpack.decode(msgpack.encode(value)) == value


@given(st.binary(max_size=70_000))
def test_strings_use_old_headers_only(data: bytes) -> None:
    head = msgpack.encode(data)[0]
    assert head == 0xA0 | len(data) if len(data) < 32 else head == (0xDA if len(data) < 65536 else 0xDB)


@given(st.binary(max_size=200))
def test_any_text_goes_back_to_its_bytes(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert msgpack.encode(text) == msgpack.encode(data)


@given(st.binary(max_size=200))
def test_broken_bytes_are_a_decode_error(data: bytes) -> None:
    try:
        msgpack.decode(data)
    except msgpack.DecodeError as error:
        assert str(error).startswith("msgpack: ")


@pytest.mark.parametrize("data", ["", "d9", "da0005aa", "91", "81a1", "8190c0", "c1", "9091"])
def test_incomplete_or_odd_bytes_are_refused(data: str) -> None:
    with pytest.raises(msgpack.DecodeError):
        msgpack.decode(bytes.fromhex(data))


def test_deep_nesting_is_refused_not_fatal() -> None:
    with pytest.raises(msgpack.DecodeError):
        msgpack.decode(b"\x91" * 100_000)


def test_new_spec_strings_can_be_read() -> None:
    assert msgpack.decode(bytes.fromhex("d903616263")) == b"abc"
    assert msgpack.decode(bytes.fromhex("c403616263")) == b"abc"


def test_reader_takes_bytes_and_values_in_turn() -> None:
    reader = msgpack.Reader(msgpack.encode({"a": 1}) + b"\x07" + msgpack.encode(b"x" * 100))
    assert reader.value() == {b"a": 1}
    assert reader.byte() == 7
    assert not reader.at_end
    assert list(reader) == [b"x" * 100]
    assert reader.at_end
    with pytest.raises(msgpack.DecodeError):
        reader.byte()


def test_reader_refuses_a_torn_value() -> None:
    with pytest.raises(msgpack.DecodeError):
        msgpack.Reader(msgpack.encode(b"x" * 100)[:50]).value()


@given(st.integers(-(10**10), 10**11), st.integers(0, 999_999_999), st.none() | st.integers(0, 840))
def test_times_survive(seconds: int, nanoseconds: int, zone: int | None) -> None:
    raw = msgpack.encode_time(seconds, nanoseconds, zone)
    assert len(raw) == 15
    assert msgpack.decode_time(raw) == (seconds, nanoseconds, zone)


def test_zero_time_is_year_one() -> None:
    assert msgpack.encode_time(-msgpack.UNIX_EPOCH) == msgpack.ZERO_TIME
    recorded = bytes.fromhex("010000000ee295bd0633839f350000")
    assert msgpack.encode_time(*msgpack.decode_time(recorded)) == recorded
    with pytest.raises(msgpack.DecodeError):
        msgpack.decode_time(b"\x02" + bytes(14))
