"""Resource records and names as they are on the wire (RFC 1035 section 3).

A name is its wire form without compression, `b"\\x03web\\x06consul\\x00"`: cheap to compare, to cut and
to write. `bytes.lower` is right for it, since a length byte (0..63) is never a letter."""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import ip_address

from msgspec import Struct

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
IN, CLASS_ANY = 1, 255

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

_MAX_NAME, _MAX_LABEL, _MAX_STRING = 255, 63, 255
_SRV = struct.Struct(">HHH")
_SOA = struct.Struct(">IIIII")


class Record(Struct, frozen=True):
    """One resource record of class IN. `names` are the names within its data, which for SRV follow
    `data` and stay uncompressed (RFC 2782), and for all other types come first and are compressed."""

    name: bytes
    type: int
    ttl: int
    data: bytes = b""
    names: tuple[bytes, ...] = ()


def octets(text: str) -> bytes:
    """Text of the catalog as bytes: UTF-8, and what came in as other bytes as those."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def wire_name(*parts: bytes) -> bytes | None:
    """The name made of labels, None if a label or the whole is too long or a label is empty."""
    out = bytearray()
    for label in parts:
        if not 0 < len(label) <= _MAX_LABEL:
            return None
        out.append(len(label))
        out += label
    out.append(0)
    return bytes(out) if len(out) <= _MAX_NAME else None


def name_below(text: str, tail: bytes) -> bytes | None:
    """The name `<text>.<tail>`, dots in the text being label ends; None if that cannot be one."""
    raw = octets(text)
    if b"." not in raw:
        fits = 0 < len(raw) <= _MAX_LABEL and len(raw) + len(tail) < _MAX_NAME
        return bytes((len(raw),)) + raw + tail if fits else None
    head = wire_name(*raw.split(b"."))
    return head[:-1] + tail if head is not None and len(head) - 1 + len(tail) <= _MAX_NAME else None


@lru_cache(maxsize=4096)
def name_from_text(text: str) -> bytes | None:
    """The name written as text, with or without a final dot; None if it cannot be one."""
    stripped = text[:-1] if text.endswith(".") else text
    if not stripped:
        return None
    return wire_name(*octets(stripped).split(b"."))


def labels(name: bytes) -> list[bytes]:
    """The labels of a name, first to last, without the root."""
    out = []
    at = 0
    while name[at]:
        out.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return out


@lru_cache(maxsize=8192)
def packed_address(text: str) -> bytes | None:
    """4 or 16 bytes for an IP address, None if `text` is not one. IPv4 inside IPv6 counts as IPv4."""
    try:
        packed = ip_address(text).packed
    except ValueError:
        return None
    return packed[12:] if packed[:12] == b"\0" * 10 + b"\xff\xff" else packed


def address(name: bytes, packed: bytes, ttl: int) -> Record:
    """An A or AAAA record, whichever the address is."""
    return Record(name, A if len(packed) == 4 else AAAA, ttl, packed)


def srv(name: bytes, weight: int, port: int, target: bytes, ttl: int) -> Record:
    """Priority is always 1. Weight and port are brought into 16 bits."""
    data = _SRV.pack(1, min(max(weight, 0), 65535), min(max(port, 0), 65535))
    return Record(name, SRV, ttl, data, (target,))


def pointing(name: bytes, type: int, target: bytes, ttl: int) -> Record:
    """A CNAME, NS or PTR record."""
    return Record(name, type, ttl, b"", (target,))


def txt(name: bytes, text: str, ttl: int) -> Record:
    """A TXT record; a text beyond 255 bytes goes into several strings."""
    raw = octets(text)
    pieces = [raw[at : at + _MAX_STRING] for at in range(0, len(raw), _MAX_STRING)] or [b""]
    return Record(name, TXT, ttl, b"".join(bytes((len(piece),)) + piece for piece in pieces))


def soa(zone: bytes, serial: int, numbers: tuple[int, int, int, int]) -> Record:
    """`numbers` are refresh, retry, expire and minimum; the TTL is the minimum (RFC 2308)."""
    names = (b"\x02ns" + zone, b"\x0ahostmaster" + zone)
    return Record(zone, SOA, numbers[3], _SOA.pack(serial & 0xFFFFFFFF, *numbers), names)
