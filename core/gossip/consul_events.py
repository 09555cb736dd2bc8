"""Consul's own user events: what servers and `ctl event fire` say to all agents (protocols/gossip.md 9.5).

Other than the rest of gossip, their payload is msgpack of the new specification: text and bytes differ."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from core.codec.msgpack import DecodeError

NEW_LEADER = "consul:new-leader"  # payload: the leader's node name
PREFIX = "consul:"
EVENT_PREFIX = "consul:event:"
REMOTE_EXEC = "_rexec"  # reserved: never run, never listed
VERSION = 1


class ConsulEvent(Struct, frozen=True, omit_defaults=True):
    """A user event of the HTTP API. Filters are regular expressions, empty for all."""

    id: str = field(name="ID")
    name: str = field(name="n")
    node_filter: str = field(name="nf", default="")
    payload: bytes = field(name="p", default=b"")
    service_filter: str = field(name="sf", default="")
    tag_filter: str = field(name="tf", default="")
    version: int = field(name="v", default_factory=lambda: VERSION)  # a factory's default is written

    @property
    def serf_name(self) -> str:
        """The name of the Serf event that carries it."""
        return EVENT_PREFIX + self.name


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ConsulEvent).decode


def encode(event: ConsulEvent) -> bytes:
    """The payload of the Serf event."""
    return _encode(event)


def decode(payload: bytes) -> ConsulEvent:
    """The event in a Serf event's payload. DecodeError."""
    try:
        return _decode(payload)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"consul event: {error}") from error
