"""One exchange over TCP (protocols/gossip.md section 3): frames, read bit by bit as they arrive."""

from __future__ import annotations

from msgspec import Struct

from core.codec.msgpack import DecodeError
from core.gossip.messages import Ack, Alive, Ping


class StreamError(DecodeError):
    """A stream that cannot be read. `reply` is what the peer is told before it is closed, if anything."""

    reply: bytes = b""


class PushPull(Struct, frozen=True):
    """A peer's whole state: (facts, state) of each node, and the user state."""

    join: bool
    nodes: list[tuple[Alive, int]]
    user_state: bytes


class UserMessage(Struct, frozen=True):
    """A user message sent by stream."""

    data: bytes


class RemoteError(Struct, frozen=True):
    """The peer could not read our stream."""

    text: str


StreamMessage = PushPull | Ping | Ack | UserMessage | RemoteError


class Inbound:
    """The parser of one stream, ours or theirs."""

    def feed(self, data: bytes) -> StreamMessage | None:
        """More bytes; the message once it is complete. StreamError."""
        raise NotImplementedError
