"""What anybody may ask a Raft service at any time, also before it has started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.wal import MemoryLog
from core.codec import duration
from core.raft.configuration import Configuration, Configurations
from core.raft.log import Log
from core.raft.node import Node
from core.raft.ready import HardState
from core.raft.settings import Settings

if TYPE_CHECKING:
    from agent.world import World


class RaftView:
    """Read-only. Until the service starts there is a follower that knows nobody."""

    def __init__(self, node_id: str, address: str, timing: Settings, world: World) -> None:
        self.node_id, self.address = node_id, address
        self._world = world
        self._applied = 0
        self._lease_until = 0.0  # as far as it was looked at
        self._stopped = False
        self.failure: Exception | None = None  # why it stopped by itself
        self.node = Node(
            node_id,
            address,
            Log(MemoryLog()),
            HardState(),
            Configurations(Configuration(), 0),
            timing,
            world.random,
            world.now(),
        )

    @property
    def is_leader(self) -> bool:
        """Leader, and the state has everything that earlier leaders committed."""
        leader = self.node.leader
        return leader is not None and self._applied >= leader.noop_index and not self._stopped

    @property
    def holds_lease(self) -> bool:
        """Leader, and no other can have been elected by now: a leader that was asleep, or cut off, does not
        know of others before it hears of them."""
        leader = self.node.leader
        if leader is None or leader.hands_over or self._applied < leader.noop_index or self._stopped:
            return False
        now = self._world.now()
        if now < self._lease_until:
            return True
        self._lease_until = leader.lease_until()
        return now < self._lease_until

    @property
    def leader_id(self) -> str:
        return self.node.leader_id if self.node.leader is None or self.is_leader else ""

    @property
    def leader_address(self) -> str:
        """`ip:port` of the leader, "" if none is known."""
        return self.node.leader_address if self.node.leader is None or self.is_leader else ""

    @property
    def term(self) -> int:
        return self.node.term

    @property
    def last_index(self) -> int:
        return self.node.log.last

    @property
    def commit_index(self) -> int:
        return self.node.commit

    @property
    def applied_index(self) -> int:
        return self._applied

    @property
    def state(self) -> str:
        """Leader, Follower or Candidate."""
        return self.node.role

    @property
    def configuration(self) -> Configuration:
        return self.node.configurations.latest

    @property
    def has_heard_of_leader(self) -> bool:
        """Whether there ever was a leader since the start: before that even a stale answer says nothing."""
        return self.node.contact is not None or self.node.leader is not None

    def contact_age(self) -> int:
        """Nanoseconds since a leader was heard, 0 on the leader."""
        if self.node.leader is not None or self.node.contact is None:
            return 0
        return max(0, int((self._world.now() - self.node.contact) * duration.SECOND))

    def last_contact(self) -> str:
        """Go duration since a leader was heard: "0" on the leader, "never"."""
        if self.node.leader is not None:
            return "0"
        if self.node.contact is None:
            return "never"
        return duration.show(int((self._world.now() - self.node.contact) * duration.SECOND))

    def stats(self) -> dict[str, str]:
        """The raft section of /v1/agent/self."""
        node = self.node
        peers = [voter for voter in self.configuration.voters if voter != self.node_id]
        return {
            "applied_index": str(self._applied),
            "commit_index": str(node.commit),
            "fsm_pending": str(node.applied - self._applied),
            "last_contact": self.last_contact(),
            "last_log_index": str(node.log.last),
            "last_log_term": str(node.log.last_term),
            "last_snapshot_index": str(node.snapshot_index),
            "last_snapshot_term": str(node.snapshot_term),
            "latest_configuration": str(self.configuration),
            "latest_configuration_index": "0",  # Consul 1.9.8 never shows another number
            "num_peers": str(len(peers) if self.configuration.votes(self.node_id) else 0),
            "protocol_version": "3",
            "protocol_version_max": "3",
            "protocol_version_min": "0",
            "snapshot_version_max": "1",
            "snapshot_version_min": "0",
            "state": node.role,
            "term": str(node.term),
        }
