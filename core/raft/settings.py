"""How long Raft waits, and how much it sends at once (protocols/raft.md, section 4). Times in seconds."""

from __future__ import annotations

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Times for raft_multiplier 1. Followers wait 1x to 2x a time-out, chosen anew each time."""

    heartbeat_timeout: float = 1.0  # a follower that hears nothing for so long looks for a new leader
    election_timeout: float = 1.0  # a candidate gives up and tries again
    lease_timeout: float = 0.5  # a leader that reaches no quorum for so long steps down
    heartbeat_interval: float = 0.1  # 1x to 2x between two heartbeats to a follower
    commit_timeout: float = 0.05  # 1x to 2x until followers hear of a commit without new entries
    retry_base: float = 0.01  # first pause after a failed call, doubled up to retry_limit
    retry_limit: float = 1.0
    snapshot_timeout: float = 10.0  # an unanswered InstallSnapshot is sent again
    campaign_pause: float = 0.25  # a sole voter whose log could not be written tries again
    max_entries: int = 64  # per message
    max_bytes: int = 1 << 20  # of payload per message; one entry may exceed it
    max_inflight: int = 128  # messages on the way to one follower
    max_apply: int = 512  # committed entries per Ready
    prevote: bool = True

    def scaled(self, multiplier: int) -> Settings:
        """The same with every time-out multiplied (performance.raft_multiplier); commit_timeout is not."""
        return Settings(
            heartbeat_timeout=self.heartbeat_timeout * multiplier,
            election_timeout=self.election_timeout * multiplier,
            lease_timeout=self.lease_timeout * multiplier,
            heartbeat_interval=self.heartbeat_interval * multiplier,
            commit_timeout=self.commit_timeout,
            retry_base=self.retry_base,
            retry_limit=self.retry_limit,
            snapshot_timeout=self.snapshot_timeout,
            campaign_pause=self.campaign_pause,
            max_entries=self.max_entries,
            max_bytes=self.max_bytes,
            max_inflight=self.max_inflight,
            max_apply=self.max_apply,
            prevote=self.prevote,
        )
