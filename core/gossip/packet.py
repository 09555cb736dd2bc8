"""What is around a message on the wire: label, encryption, checksum, compression, compounds
(protocols/gossip.md 2.1 to 2.9)."""

from __future__ import annotations

from random import Random
from zlib import crc32

from core.codec import lzw, msgpack
from core.codec.msgpack import DecodeError
from core.codec.wire import raw
from core.gossip.keyring import NONCE_SIZE, Keyring
from core.gossip.messages import COMPOUND, COMPRESS, CRC, ENCRYPT, LABEL
from core.gossip.settings import GossipSettings

COMPOUND_OVERHEAD = 2  # bytes of a compound's header, and again per message in it
ENCRYPTION_OVERHEAD = 29  # version, nonce, tag
FRAME_HEADER = 5  # of an encrypted stream: type and length
STREAM_LIMIT = 20 << 20  # bytes of a stream, packed and unpacked
_UNPACKED_LIMIT = 64 << 10  # bytes that all compressed parts of one packet may hold
_DEPTH_LIMIT = 4  # compounds and compressed parts within each other
_COMPOUND_LIMIT = 255


class Envelope:
    """Seals and opens packets and streams as one pool's settings and keys want it."""

    def __init__(self, settings: GossipSettings, keyring: Keyring | None, rng: Random) -> None:
        self.settings, self.keyring = settings, keyring
        self.label = settings.label
        self._rng = rng
        self._prefix = bytes((LABEL, len(self.label))) + self.label if self.label else b""

    @property
    def encrypts(self) -> bool:
        """Is what we send encrypted?"""
        return self.keyring is not None and self.settings.verify_outgoing

    @property
    def room(self) -> int:
        """Bytes of messages that fit into one packet."""
        return self.settings.packet_size - len(self._prefix) - (ENCRYPTION_OVERHEAD if self.encrypts else 0)

    def seal_packet(self, message: bytes, checksum: bool = False) -> bytes:
        """The packet for `message`, which is compressed only when it would not fit otherwise."""
        if len(message) > self.room:
            message = min(message, compress(message), key=len)
        if checksum:
            message = bytes((CRC,)) + crc32(message).to_bytes(4, "big") + message
        if self.keyring is not None and self.settings.verify_outgoing:
            message = self.keyring.encrypt(message, self._rng.randbytes(NONCE_SIZE), self.label)
        return self._prefix + message

    def open_packet(self, packet: bytes) -> bytes:
        """The message in `packet`. DecodeError: not for us, or broken."""
        found = split_label(packet)
        if found is None:
            raise DecodeError("an incomplete packet")
        label, start = found
        if label != self.label:
            raise DecodeError(f"packet with the label {label!r}")
        message = packet[start:]
        if self.keyring is not None:
            try:
                message = self.keyring.decrypt(message, label)
            except DecodeError:
                if self.settings.verify_incoming:
                    raise
        if len(message) >= 5 and message[0] == CRC:
            if crc32(memoryview(message)[5:]) != int.from_bytes(message[1:5], "big"):
                raise DecodeError("checksum does not match")
            message = message[5:]
        return message

    def seal_stream(self, message: bytes) -> bytes:
        """The bytes of a stream that carries `message`."""
        if self.keyring is None or not self.settings.verify_outgoing:
            return self._prefix + message
        length = len(message) + ENCRYPTION_OVERHEAD
        header = bytes((ENCRYPT,)) + length.to_bytes(4, "big")
        nonce = self._rng.randbytes(NONCE_SIZE)
        return self._prefix + header + self.keyring.encrypt(message, nonce, header + self.label)


def split_label(data: bytes | bytearray) -> tuple[bytes, int] | None:
    """The label in front of `data` and where the rest begins; None when there is not enough of it yet.
    DecodeError for an empty label."""
    if not data:
        return None
    if data[0] != LABEL:
        return b"", 0
    if len(data) < 2:
        return None
    if data[1] == 0:
        raise DecodeError("an empty label")
    end = 2 + data[1]
    return (bytes(data[2:end]), end) if len(data) >= end else None


def compress(message: bytes) -> bytes:
    """`message` as a compressed message."""
    return bytes((COMPRESS,)) + msgpack.encode({"Algo": 0, "Buf": lzw.encode(message)})


def decompress(message: bytes | memoryview, limit: int) -> bytes:
    """The message within a compressed one, at most `limit` bytes. DecodeError."""
    return unpack_compressed(msgpack.decode(message[1:]), limit)


def unpack_compressed(fields: object, limit: int) -> bytes:
    """The message within the decoded map of a compressed one. DecodeError."""
    if type(fields) is not dict or fields.get(b"Algo", 0) != 0:
        raise DecodeError("an unknown compression")
    return lzw.decode(raw(fields.get(b"Buf")), limit)


def compounds(messages: list[bytes]) -> list[bytes]:
    """The messages as few as possible: one stays as it is, more become compounds."""
    if len(messages) == 1:
        return messages
    found = []
    for start in range(0, len(messages), _COMPOUND_LIMIT):
        group = messages[start : start + _COMPOUND_LIMIT]
        lengths = b"".join(len(message).to_bytes(2, "big") for message in group)
        found.append(bytes((COMPOUND, len(group))) + lengths + b"".join(group))
    return found


def split_compound(message: bytes) -> tuple[list[bytes], int]:
    """The complete messages in a compound, and how many are cut off. DecodeError without a whole header."""
    if len(message) < 2 or len(message) < 2 + 2 * message[1]:
        raise DecodeError("a compound without its lengths")
    count, start = message[1], 2 + 2 * message[1]
    parts: list[bytes] = []
    for index in range(count):
        end = start + int.from_bytes(message[2 + 2 * index : 4 + 2 * index], "big")
        if end > len(message):
            return parts, count - index
        parts.append(message[start:end])
        start = end
    return parts, 0


def open_message(message: bytes) -> tuple[list[bytes], list[str]]:
    """The simple messages in a packet's message, in order, and what was wrong with the others."""
    found: list[bytes] = []
    problems: list[str] = []
    waiting = [(message, 0)]
    left = _UNPACKED_LIMIT
    while waiting:
        message, depth = waiting.pop()
        kind = message[0] if message else -1
        if kind != COMPOUND and kind != COMPRESS:
            found.append(message)
            continue
        try:
            if depth == _DEPTH_LIMIT:
                raise DecodeError("messages nested too deeply")
            if kind == COMPRESS:
                parts, missing = [decompress(message, left)], 0
                left -= len(parts[0])
            else:
                parts, missing = split_compound(message)
        except DecodeError as error:
            problems.append(str(error))
            continue
        if missing:
            problems.append(f"a compound lacks {missing} messages")
        waiting.extend((part, depth + 1) for part in reversed(parts))
    return found, problems
