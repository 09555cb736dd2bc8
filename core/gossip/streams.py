"""One exchange over TCP (protocols/gossip.md section 3): frames, read bit by bit as they arrive."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar, cast

import msgpack  # type: ignore[import-untyped]
from msgspec import Struct

from core.codec.msgpack import DecodeError
from core.gossip.messages import (
    ACK,
    COMPRESS,
    ENCRYPT,
    ERROR,
    PING,
    PUSH_PULL,
    USER,
    Ack,
    Alive,
    Ping,
    ack_of,
    encode_error,
    error_of,
    node_state_of,
    ping_of,
    push_pull_header_of,
    user_length_of,
)
from core.gossip.packet import FRAME_HEADER, STREAM_LIMIT, Envelope, split_label, unpack_compressed

NODES_LIMIT = 1 << 20
_ITEMS_LIMIT = 1024  # of a map or list in a stream; our messages have a handful

T = TypeVar("T")
_Steps = Generator[None, None, T]  # a reader that pauses whenever it needs more bytes


class StreamError(DecodeError):
    """A stream that cannot be read. `reply` is what the peer is told before it is closed, if anything."""

    def __init__(self, problem: str, reply: bytes = b"") -> None:
        super().__init__(problem)
        self.reply = reply


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

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._buffer = bytearray()  # what the frames did not consume yet
        self._body: _Body | None = None  # once a message in clear has begun
        self._size = 0
        self._steps = self._frame()

    def feed(self, data: bytes) -> StreamMessage | None:
        """More bytes; the message once it is complete, None before. To be called until then only.
        StreamError: nothing can be read from this stream any more."""
        self._size += len(data)
        if self._size > STREAM_LIMIT:
            raise StreamError(f"more than {STREAM_LIMIT} bytes")
        if self._body is not None:
            return self._body.feed(data)
        self._buffer += data
        try:
            next(self._steps)
        except StopIteration as done:
            return cast("StreamMessage | None", done.value)
        return None

    def _frame(self) -> _Steps[StreamMessage | None]:
        """Label and encryption. An encrypted message is complete at the end, one in clear has begun."""
        label = yield from self._label()
        while not self._buffer:
            yield
        encrypted = self._buffer[0] == ENCRYPT
        if not encrypted:
            if self._envelope.keyring is not None and self._envelope.settings.verify_incoming:
                raise self._refusal("Encryption is configured but remote state is not encrypted")
            self._body = _Body()
            return self._body.feed(bytes(self._buffer))
        if self._envelope.keyring is None:
            raise self._refusal("Remote state is encrypted and encryption is not configured")
        while len(self._buffer) < FRAME_HEADER:
            yield
        header = bytes(self._buffer[:FRAME_HEADER])
        end = FRAME_HEADER + int.from_bytes(header[1:], "big")
        if end > STREAM_LIMIT:
            raise self._refusal(f"Remote node state is larger than limit ({end})")
        while len(self._buffer) < end:
            yield
        try:
            plain = self._envelope.keyring.decrypt(bytes(self._buffer[FRAME_HEADER:end]), header + label)
        except DecodeError as error:
            raise self._refusal(str(error)) from error
        return _whole(plain, _Body())

    def _label(self) -> _Steps[bytes]:
        try:
            while (found := split_label(self._buffer)) is None:
                yield
        except DecodeError as error:
            raise StreamError(str(error)) from error
        label, end = found
        if label != self._envelope.label:
            raise StreamError(f"stream with the label {label!r}")
        del self._buffer[:end]
        return label

    def _refusal(self, problem: str) -> StreamError:
        """An error that the peer hears of too (3.5)."""
        return StreamError(problem, self._envelope.seal_stream(encode_error(problem)))


def _whole(plain: bytes, body: _Body) -> StreamMessage:
    """The message in bytes that are complete."""
    message = body.feed(plain)
    if message is None:
        raise StreamError("unexpected end")
    return message


class _Body:
    """The parser of a message in clear."""

    def __init__(self, unpacked: bool = False) -> None:
        self._unpacked = unpacked  # within a compressed message, where no other may be
        self._unpacker = msgpack.Unpacker(
            raw=True,
            strict_map_key=False,
            max_buffer_size=2 * STREAM_LIMIT,
            max_array_len=_ITEMS_LIMIT,
            max_map_len=_ITEMS_LIMIT,
        )
        self._steps = self._message()

    def feed(self, data: bytes) -> StreamMessage | None:
        try:
            self._unpacker.feed(data)
            next(self._steps)
        except StopIteration as done:
            return cast(StreamMessage, done.value)
        except StreamError:
            raise
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise StreamError(str(error) or type(error).__name__) from error
        return None

    def _message(self) -> _Steps[StreamMessage]:
        kind = (yield from self._bytes(1))[0]
        if kind == PUSH_PULL:
            return (yield from self._push_pull())
        if kind == COMPRESS and not self._unpacked:
            fields = yield from self._value()
            return _whole(unpack_compressed(fields, STREAM_LIMIT), _Body(unpacked=True))
        if kind == PING:
            return ping_of((yield from self._value()))
        if kind == ACK:
            return ack_of((yield from self._value()))
        if kind == ERROR:
            return RemoteError(error_of((yield from self._value())))
        if kind == USER:
            length = user_length_of((yield from self._value()))
            return UserMessage((yield from self._bytes(length)))
        raise StreamError(f"message of type {kind} in a stream")

    def _push_pull(self) -> _Steps[PushPull]:
        header = push_pull_header_of((yield from self._value()))
        if header.nodes > NODES_LIMIT:
            raise StreamError(f"push/pull of {header.nodes} nodes")
        nodes: list[tuple[Alive, int]] = []
        unpack = self._unpacker.unpack
        while len(nodes) < header.nodes:
            try:
                nodes.append(node_state_of(unpack()))
            except msgpack.OutOfData:
                yield
        return PushPull(header.join, nodes, (yield from self._bytes(header.user_state_length)))

    def _value(self) -> _Steps[Any]:
        """The next msgpack value."""
        while True:
            try:
                return self._unpacker.unpack()
            except msgpack.OutOfData:
                yield

    def _bytes(self, count: int) -> _Steps[bytes]:
        """The next bytes as they are."""
        if count > STREAM_LIMIT:
            raise StreamError(f"{count} bytes announced")
        found: bytes = self._unpacker.read_bytes(count)
        if len(found) == count:
            return found
        parts = bytearray(found)
        while len(parts) < count:
            yield
            parts += self._unpacker.read_bytes(count - len(parts))
        return bytes(parts)
