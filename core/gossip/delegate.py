"""What memberlist tells the layer above it (Serf) and asks of it. All calls are synchronous."""

from __future__ import annotations

from typing import Protocol

from core.errors import CtlError
from core.gossip.nodes import Node


class Refused(CtlError):
    """A member may not come in; the text says why."""


class Delegate(Protocol):
    """Serf, as memberlist sees it. A `Node` handed over belongs to memberlist: read it, don't change it.

    Only `notify_alive` and `notify_merge` may raise, and only `Refused`; hostile bytes are the delegate's to
    survive. Calls back into the memberlist are allowed from all but these two."""

    def node_meta(self) -> bytes:
        """The own node's meta (encoded tags), at most META_LIMIT bytes."""

    def notify_message(self, message: bytes, now: float) -> None:
        """A user message arrived."""

    def get_broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        """User messages to send along: the sum of (length + overhead) must stay within `limit`."""

    def local_state(self, join: bool) -> bytes:
        """The user state of a push/pull to send."""

    def merge_remote_state(self, state: bytes, join: bool, now: float) -> None:
        """The user state of a peer, after its nodes were merged."""

    def notify_join(self, node: Node, now: float) -> None:
        """A node is alive that was unknown, dead or left; the own node at the start too."""

    def notify_leave(self, node: Node, now: float) -> None:
        """A node is dead or has left: `node.state` tells."""

    def notify_update(self, node: Node, now: float) -> None:
        """The meta of a node that was alive or suspect changed."""

    def notify_alive(self, node: Node) -> None:
        """May this node be let in (or change)? Raises Refused."""

    def notify_merge(self, nodes: list[Node]) -> None:
        """May we join with all these (push/pull with join set)? Raises Refused."""

    def notify_conflict(self, known: Node, other: Node) -> None:
        """`other` claims the name of the living `known` from another address."""

    def is_same(self, known: Node, other: Node) -> bool:
        """Is `other`, of another address, the agent that `known` was, and not one with a stolen name?"""

    def ack_payload(self) -> bytes:
        """What to put into acks of direct pings (the coordinate)."""

    def ping_complete(self, node: Node, rtt: float, payload: bytes, now: float) -> None:
        """A direct ping of `node` was answered within the probe time-out."""
