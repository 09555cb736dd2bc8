"""A member's tags as the meta bytes that memberlist carries (protocols/gossip.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping

from core.codec import msgpack, wire
from core.errors import Invalid

META_MAX = 512
_MAGIC = b"\xff"


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """The meta bytes. Invalid when they are more than memberlist takes."""
    meta = _MAGIC + msgpack.encode(dict(tags))
    if len(meta) > META_MAX:
        raise Invalid(f"Encoded length of tags exceeds limit of {META_MAX} bytes")
    return meta


def decode_tags(meta: bytes) -> dict[str, str]:
    """The tags that others announce. Meta of the time before tags is the role; nonsense is no tags."""
    if meta[:1] != _MAGIC:
        return {"role": str(meta, "utf-8", "surrogateescape")}
    try:
        found = msgpack.decode(memoryview(meta)[1:])
        if type(found) is not dict:
            return {}
        return {wire.text(name): wire.text(value) for name, value in found.items()}
    except msgpack.DecodeError:
        return {}
