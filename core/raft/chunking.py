"""Splitting of large KV commands into log entries (protocols/fsm.md, section 7)."""

from __future__ import annotations

from random import Random

from core.raft.messages import Entry

CHUNK = 524288
KV = 2  # command byte: the only command that is split


def chunk(data: bytes, random: Random) -> list[Entry] | None:
    """The entries of a KV command above 512 KiB, to be proposed in a row; None if one entry will do."""
    if len(data) <= CHUNK or data[0] != KV:
        return None
    number = random.getrandbits(64) or 1
    count = -(-len(data) // CHUNK)
    return [
        Entry(
            data=data[position * CHUNK : (position + 1) * CHUNK],
            extensions=_field(1, number) + _field(2, position) + _field(3, count),
        )
        for position in range(count)
    ]


def _field(tag: int, value: int) -> bytes:
    """A protobuf varint field; zero is left out."""
    return bytes([tag << 3]) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
