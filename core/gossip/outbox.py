"""What goes out: packets filled up with gossip, streams to open, words for the log."""

from __future__ import annotations

from collections.abc import Sized

from msgspec import Struct, field

from core.gossip.broadcasts import BroadcastQueue
from core.gossip.delegate import Delegate
from core.gossip.messages import USER
from core.gossip.nodes import Node
from core.gossip.packet import COMPOUND_OVERHEAD, Envelope, compounds

Address = tuple[str, int]  # IP as text, port

_CRC_PROTOCOL = 5  # the protocol version from which on checksums are understood
_COMPLAINT_PAUSE = 1.0  # seconds between two complaints about what others sent


class StreamRequest(Struct):
    """Open a stream to `to`, send `data`, read the answer (an `Inbound` knows when it is complete), close;
    all within `timeout` seconds. Then call `stream_answered(id, ...)` or `stream_failed(id, ...)`."""

    id: int
    to: Address
    kind: str  # "push_pull" or "ping"
    data: bytes
    timeout: float


class JoinResult(Struct):
    """What became of one address of `join`."""

    id: int
    to: Address
    error: str  # "": joined


class Ready(Struct):
    """What the memberlist wants done, in any order."""

    packets: list[tuple[Address, bytes]] = field(default_factory=list)
    streams: list[StreamRequest] = field(default_factory=list)
    joins: list[JoinResult] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)  # (level, text): "warn", "info", "debug"


class Outbox:
    """Collects a Ready. Packets are sealed here, and leave no room unused while gossip is waiting."""

    def __init__(self, envelope: Envelope, queue: BroadcastQueue, delegate: Delegate, nodes: Sized) -> None:
        self._envelope, self._queue, self._delegate, self._nodes = envelope, queue, delegate, nodes
        self._ready: Ready | None = None
        self._streams = 0
        self._complained = float("-inf")
        self._swallowed = 0

    def drain(self) -> Ready | None:
        """What has come together since the last time."""
        ready, self._ready = self._ready, None
        return ready

    @property
    def ready(self) -> Ready:
        """To be added to."""
        if self._ready is None:
            self._ready = Ready()
        return self._ready

    def send(self, to: Address, message: bytes) -> None:
        """A packet with `message`, and with gossip in the room that it leaves."""
        room = self._envelope.room - COMPOUND_OVERHEAD - COMPOUND_OVERHEAD - len(message)
        for whole in compounds([message, *self._gossip(room)]):
            self.ready.packets.append((to, self._envelope.seal_packet(whole)))

    def send_alone(self, to: Node, messages: list[bytes]) -> None:
        """A packet with these messages only."""
        self._seal(to, compounds(messages))

    def gossip_to(self, node: Node) -> bool:
        """A packet of gossip; False when there is none."""
        messages = self._gossip(self._envelope.room - COMPOUND_OVERHEAD)
        if messages:
            self._seal(node, compounds(messages))
        return bool(messages)

    def _seal(self, to: Node, messages: list[bytes]) -> None:
        checksum = to.protocol[1] >= _CRC_PROTOCOL
        for message in messages:
            self.ready.packets.append((to.endpoint, self._envelope.seal_packet(message, checksum)))

    def _gossip(self, room: int) -> list[bytes]:
        """Waiting messages for `room` bytes of a compound: first ours, then the delegate's (4.8)."""
        messages = self._queue.take(COMPOUND_OVERHEAD, room, len(self._nodes))
        for message in messages:
            room -= len(message) + COMPOUND_OVERHEAD
        if room > COMPOUND_OVERHEAD + 1:
            users = self._delegate.get_broadcasts(COMPOUND_OVERHEAD + 1, room)
            messages.extend(_user_message(user) for user in users)
        return messages

    def open_stream(self, to: Address, kind: str, message: bytes, timeout: float) -> int:
        """Asks for a stream with `message`; the id under which its end is told."""
        self._streams += 1
        data = self._envelope.seal_stream(message)
        self.ready.streams.append(StreamRequest(self._streams, to, kind, data, timeout))
        return self._streams

    def log(self, level: str, text: str) -> None:
        """A word for the log, about what we did or found ourselves."""
        self.ready.log.append((level, text))

    def complain(self, text: str, now: float) -> None:
        """A word about what others sent, who could send it a thousand times a second."""
        if now < self._complained + _COMPLAINT_PAUSE:
            self._swallowed += 1
            return
        if self._swallowed:
            text = f"{text} ({self._swallowed} other complaints not shown)"
        self._complained, self._swallowed = now, 0
        self.log("warn", text)

    def send_user(self, to: Address, message: bytes) -> None:
        """A user message, once."""
        self.send(to, _user_message(message))


def _user_message(message: bytes) -> bytes:
    return bytes((USER,)) + message
