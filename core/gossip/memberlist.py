"""Memberlist: who is in the cluster, told by gossip (protocols/gossip.md sections 2 to 4)."""

from __future__ import annotations

from random import Random

from msgspec import Struct, field

from core.gossip.delegate import Delegate
from core.gossip.keyring import Keyring
from core.gossip.nodes import Node
from core.gossip.settings import GossipSettings
from core.gossip.streams import Inbound, StreamMessage

Address = tuple[str, int]  # IP as text, port


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
    """What the memberlist wants done."""

    packets: list[tuple[Address, bytes]] = field(default_factory=list)
    streams: list[StreamRequest] = field(default_factory=list)
    joins: list[JoinResult] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)  # (level, text): "warn", "info", "debug"


class Memberlist:
    """The machine. Construct, then `start(now)`; Serf (the delegate) may be told of joins from there on."""

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        settings: GossipSettings,
        delegate: Delegate,
        keyring: Keyring | None,
        rng: Random,
    ) -> None: ...

    # --- the machine
    def start(self, now: float) -> None:
        """Announce ourselves and arm the timers. Before anything else."""

    def receive(self, source: Address, packet: bytes, now: float) -> None:
        """A packet arrived."""

    def tick(self, now: float) -> None: ...

    def deadline(self) -> float | None: ...

    def drain(self) -> Ready | None: ...

    # --- streams that we opened
    def stream_answered(self, id: int, answer: bytes | StreamMessage, now: float) -> None:
        """The answer as bytes, or as an `Inbound` has read it."""

    def stream_failed(self, id: int, error: str, now: float) -> None:
        """No connection, no answer, or a broken one."""

    # --- streams that others opened
    def inbound(self) -> Inbound:
        """A parser for one stream: `feed(data)` gives None until the message is complete, raises StreamError
        (whose `.reply`, if any, is to be sent before closing)."""
        raise NotImplementedError

    def answer_stream(self, request: StreamMessage, now: float) -> bytes:
        """What to send back before closing; may be empty."""
        raise NotImplementedError

    # --- what Serf wants
    def join(self, addresses: list[Address], now: float) -> list[int]:
        """Push/pull with each; the outcomes come as Ready.joins under these ids."""
        raise NotImplementedError

    def leave(self, now: float) -> None:
        """Tell all that we leave. `leave_sent` becomes true when it was told often enough."""

    leave_sent: bool
    leaving: bool

    def update_meta(self, now: float) -> None:
        """Announce the delegate's new node_meta()."""

    def send_to(self, to: Node | Address, message: bytes) -> None:
        """A user message by packet, once."""

    def get(self, name: str) -> Node | None:
        """A known node."""

    @property
    def nodes(self) -> list[Node]:
        """All known nodes, gone ones too until they are forgotten."""
        return []

    @property
    def alive_nodes(self) -> list[Node]:
        """Alive and suspect nodes, ourselves included."""
        return []

    @property
    def local_node(self) -> Node:
        raise NotImplementedError

    num_nodes: int  # all known: the `n` of the formulas
    health_score: int  # 0 is healthy
    keyring: Keyring | None
