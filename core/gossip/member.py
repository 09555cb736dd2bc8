"""What gossip tells about the cluster: members and what happens (protocols/gossip.md 7 and 9)."""

from __future__ import annotations

from msgspec import Struct

# Serf's member status (protocols/gossip.md 7.2), as /v1/agent/members shows it.
NONE, ALIVE, LEAVING, LEFT, FAILED = range(5)
STATUS_NAMES = ("none", "alive", "leaving", "left", "failed")

# Kinds of member events.
JOIN, LEAVE, FAIL, UPDATE, REAP = "join", "leave", "failed", "update", "reap"


class Member(Struct, frozen=True):
    """One member of a pool as this node knows it. `address` is an IP as text; `since` is the monotonic
    time (seconds) of the last change of status."""

    name: str
    address: str
    port: int
    tags: dict[str, str]
    status: int
    protocol: tuple[int, int, int] = (1, 5, 2)  # min, max, current
    delegate: tuple[int, int, int] = (2, 5, 4)
    since: float = 0.0

    @property
    def status_name(self) -> str:
        """`alive`, `leaving`, `left`, `failed`."""
        return STATUS_NAMES[self.status]


class MemberEvent(Struct, frozen=True):
    """Members changed, all in the same way: `kind` is JOIN, LEAVE, FAIL, UPDATE or REAP."""

    kind: str
    members: tuple[Member, ...]


class UserEvent(Struct, frozen=True):
    """A user event, delivered once per node. `ltime` is of the event clock."""

    ltime: int
    name: str
    payload: bytes
    coalesce: bool = False


class QueryEvent(Struct, frozen=True):
    """A query that wants an answer from the application until `deadline` (monotonic seconds)."""

    ltime: int
    id: int
    name: str
    payload: bytes
    source: str
    deadline: float


class QueryResponse(Struct, frozen=True):
    """What the originator of a query hears: an ack (`payload` None) or an answer of a node."""

    source: str
    payload: bytes | None


GossipEvent = MemberEvent | UserEvent | QueryEvent
