"""What a leader knows about one follower, and which message that follower needs next."""

from __future__ import annotations

from enum import Enum

from core.raft.configuration import VOTER, Server


class Mode(Enum):
    """PROBE: one message at a time until the logs are known to agree. REPLICATE: a pipeline.
    SNAPSHOT: what it needs is no longer in the log."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """A follower in its leader's eyes. `match` only grows; `next` is optimistic in REPLICATE."""

    __slots__ = (
        "commit_sent",
        "contact",
        "failures",
        "heartbeat_at",
        "inflight",
        "match",
        "mode",
        "needs_snapshot",
        "next",
        "round",
        "sending",
        "server",
        "since",
        "told_at",
        "waiting",
        "waiting_until",
    )

    def __init__(self, server: Server, next_index: int, now: float) -> None:
        self.server = server
        self.match = 0
        self.next = next_index
        self.mode = Mode.PROBE
        self.waiting = 0  # PROBE, SNAPSHOT: sequence of the message whose answer counts, 0 = may send
        self.waiting_until = 0.0  # then it is taken for lost (or, after a failure, the pause is over)
        self.since = 0  # REPLICATE: sequence of the message that began it; older ones tell nothing new
        self.inflight = 0
        self.commit_sent = 0
        self.contact = now  # when the newest answered message had been sent
        self.told_at = now  # when it was last sent anything but a heartbeat
        self.heartbeat_at = now
        self.round = 0  # newest verify round confirmed
        self.failures = 0
        self.needs_snapshot = False  # one of this term: no entries will do
        self.sending = 0  # SNAPSHOT: index of the one on its way

    @property
    def votes(self) -> bool:
        return self.server.suffrage == VOTER

    def sendable(self, now: float, max_inflight: int) -> bool:
        """Whether a message with entries may leave now."""
        if self.mode is Mode.REPLICATE:
            return self.inflight < max_inflight
        return now >= self.waiting_until if self.waiting or self.failures else True

    def heard(self, sent_at: float, round_: int) -> None:
        """An answer to a message sent at `sent_at` arrived."""
        self.contact = max(self.contact, sent_at)
        self.round = max(self.round, round_)

    def counts(self, sequence: int) -> bool:
        """Whether an answer to this message says something about the present mode.

        Without this, an old answer could start the pipeline anew while its messages still travel,
        and each of their answers again: a storm."""
        return sequence > self.since if self.mode is Mode.REPLICATE else sequence == self.waiting

    def accepted(self, match: int, sequence: int) -> None:
        """The follower has everything up to `match`, durably."""
        self.match = max(self.match, match)
        self.next = max(self.next, self.match + 1)
        if not self.counts(sequence):
            return
        self.failures = 0
        self.needs_snapshot = False
        if self.mode is Mode.REPLICATE:
            self.inflight = max(0, self.inflight - 1)
        else:
            self.mode, self.waiting, self.inflight, self.since = Mode.REPLICATE, 0, 0, sequence

    def refused(self, previous: int, last_log: int) -> None:
        """The follower does not have the entry `previous`; its log ended at `last_log`.

        A follower that lost its disk is behind what it had confirmed: believe the newer word."""
        if self.mode is Mode.REPLICATE:
            self.next = max(1, self.match + 1, min(previous, last_log + 1))
        else:
            self.match = min(self.match, last_log)
            self.next = max(1, min(previous, last_log + 1))
        self._probe()
        self.failures = 0

    def lost(self, now: float, pause: float) -> None:
        """A message failed: send one at a time again, after a pause."""
        self.failures += 1
        self.next = self.match + 1 if self.match else self.next
        self._probe()
        self.waiting_until = now + pause

    def restart(self, next_index: int) -> None:
        """The leader's log was replaced: what the follower has is of no use any more."""
        self.next = next_index
        self._probe()
        self.failures = 0

    def _probe(self) -> None:
        self.mode, self.waiting, self.waiting_until, self.inflight = Mode.PROBE, 0, 0.0, 0
