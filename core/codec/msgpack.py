"""Go's old msgpack dialect on top of the `msgpack` package (protocols/rpc.md section 3).

Strings and byte slices are both "raw": written with the old spec's headers only, read as bytes. The
caller sorts struct keys (`core/codec/wire.py` does). Times are raw strings of 15 bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]

UNIX_EPOCH = 62_135_596_800  # seconds from year 1 to 1970, the origin of Go's binary time
ZERO_TIME = b"\x01" + bytes(12) + b"\xff\xff"


# One packer for all: making one costs more than packing a KV command with it. It holds no state between
# calls, and a call does not give up the interpreter lock.
_pack = msgpack.Packer(use_bin_type=False, unicode_errors="surrogateescape").pack


class DecodeError(ValueError):
    """Bytes that are not what they should be."""


def encode(value: Any) -> bytes:
    """The bytes of a value of None, bool, int, float, bytes, str, list, tuple and dict."""
    return cast(bytes, _pack(value))


def map_header(size: int) -> bytes:
    """What stands before the keys and values of a map."""
    return bytes([0x80 | size]) if size < 16 else b"\xdf" + size.to_bytes(4, "big")


def list_header(size: int) -> bytes:
    """What stands before the items of a list."""
    return bytes([0x90 | size]) if size < 16 else b"\xdd" + size.to_bytes(4, "big")


def decode(data: bytes | memoryview) -> Any:
    """The one value in `data`; raw strings and map keys become bytes. DecodeError."""
    try:
        return msgpack.unpackb(data, raw=True, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(f"msgpack: {error or type(error).__name__}") from error


class Reader:
    """Values, and single bytes between them, from the front of `data`. DecodeError at broken bytes."""

    def __init__(self, data: bytes) -> None:
        self._unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=max(len(data), 1))
        self._unpacker.feed(data)
        self._size = len(data)

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return cast(int, self._unpacker.tell())

    @property
    def at_end(self) -> bool:
        return self.position >= self._size

    def byte(self) -> int:
        """The next byte as it is."""
        raw = self._unpacker.read_bytes(1)
        if not raw:
            raise DecodeError("msgpack: unexpected end")
        return cast(int, raw[0])

    def value(self) -> Any:
        """The next value."""
        try:
            return self._unpacker.unpack()
        except msgpack.OutOfData as error:
            raise DecodeError("msgpack: unexpected end") from error
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DecodeError(f"msgpack: {error or type(error).__name__}") from error

    def __iter__(self) -> Iterator[Any]:
        """All values that are left."""
        while not self.at_end:
            yield self.value()


def encode_time(seconds: int, nanoseconds: int = 0, offset: int | None = None) -> bytes:
    """A time from Unix seconds; `offset` is the zone in minutes east, None means UTC (time.MarshalBinary)."""
    zone = -1 if offset is None else offset
    return (
        b"\x01"
        + (seconds + UNIX_EPOCH).to_bytes(8, "big", signed=True)
        + nanoseconds.to_bytes(4, "big", signed=True)
        + zone.to_bytes(2, "big", signed=True)
    )


def decode_time(raw: bytes) -> tuple[int, int, int | None]:
    """(Unix seconds, nanoseconds, zone in minutes or None for UTC) of a time's 15 bytes. DecodeError."""
    if len(raw) != 15 or raw[0] != 1:
        raise DecodeError("msgpack: not a time")
    seconds = int.from_bytes(raw[1:9], "big", signed=True) - UNIX_EPOCH
    zone = int.from_bytes(raw[13:15], "big", signed=True)
    return seconds, int.from_bytes(raw[9:13], "big", signed=True), None if zone == -1 else zone
