"""Raft's times and limits (protocols/raft.md, section 4), and why they are not Consul's.

Consul's default raft_multiplier 5 means time-outs of 5 s, and 17 s without a leader were measured after
one was killed. Here the same default means 1 s, and most failures do not even wait for that:

- A leader whose process dies closes its connections, and its port refuses new ones. A follower that
  sees both asks for a pre-vote, after `succession_pause` times its place among the voters
  (`Node.leader_gone`).
- A leader that finds out by itself that it cannot go on (its disk fails or stalls) hands over before it
  steps down (TimeoutNow).
- Only a leader that falls silent (power, network, a stopped process) costs the time-out.

Short time-outs must not mean elections when nothing is wrong. Heartbeats leave ten times as often as
they must arrive, on connections of their own, and are answered without the disk; a late timer lets the
network be read before it is believed (`agent/driver.py`); and pre-votes are refused by whoever hears the
leader, so a follower that was asleep disturbs nobody. Real Consul leaders at multiplier 5 send a heartbeat
only every 0.5 to 1 s, but news of the commit index every 50 to 100 ms, which count as well.

The lease is a little shorter than the heartbeat time-out: nobody else is elected while it holds, and a
leader that was busy for less long than that stays."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

_SCALED = (
    "heartbeat_timeout",
    "election_timeout",
    "lease_timeout",
    "heartbeat_interval",
    "write_timeout",
)


class Settings(Struct, frozen=True, kw_only=True):
    """Times in seconds for Consul's default raft_multiplier, 5. Time-outs that say so are 1x to 2x,
    chosen anew each time."""

    heartbeat_timeout: float = 1.0  # 1x to 2x: a follower that hears nothing for so long asks for votes
    election_timeout: float = 0.6  # 1x to 2x: a candidate gives up and tries again
    lease_timeout: float = 0.9  # a leader that reaches no quorum for so long steps down
    heartbeat_interval: float = 0.1  # 1x to 2x between two heartbeats to a follower
    write_timeout: float = 2.0  # a leader whose log write takes so long lets another one lead
    commit_timeout: float = 0.05  # 1x to 2x until followers hear of a commit without new entries
    succession_pause: float = 0.05  # between the voters' attempts when the leader is known to be gone
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
        """The time-outs for a raft_multiplier (1 to 10). Below half of the default's they do not go: an
        interpreter and a disk that are busy for a moment would look dead."""
        factor = max(multiplier / 5, 0.5)
        return replace(self, **{name: getattr(self, name) * factor for name in _SCALED})
