"""What a Raft server is at the moment: follower, candidate or leader, and the only doors in between.

A follower has neither `candidate` nor `leader`; a candidate has `candidate`; a leader has `leader`."""

from __future__ import annotations

import random

from core.raft.configuration import Configurations
from core.raft.durable import Durable
from core.raft.election import Candidate
from core.raft.leader import Leader
from core.raft.log import Log
from core.raft.messages import Entry, Request
from core.raft.ready import HardState, Outgoing
from core.raft.settings import Settings

FOLLOWER = "Follower"
CANDIDATE = "Candidate"
LEADER = "Leader"


class Roles(Durable):
    """The part of a Raft machine that knows its role."""

    def __init__(
        self,
        node_id: str,
        address: str,
        log: Log,
        hard_state: HardState,
        configurations: Configurations,
        settings: Settings,
        chance: random.Random,
        now: float,
        applied: int = 0,
        applied_term: int = 0,
    ) -> None:
        """State as recovered from disk: everything in `log` and `hard_state` is durable, the state
        machine stands at `applied` (the index of the snapshot it was restored from)."""
        super().__init__(log, hard_state, configurations, settings, chance, now, applied, applied_term)
        self.id, self.address = node_id, address
        self.leader_id = ""
        self.leader_address = ""
        self.candidate: Candidate | None = None
        self.leader: Leader | None = None
        self.contact: float | None = None  # when a leader was last heard
        self._agreed_in = 0  # the term whose leader's log is known to have what ours begins behind
        self._installing_from = ""
        self.gave_up = ""  # why the last leadership ended by itself
        self._unsent = False  # new entries that no follower was sent yet
        self._election_at = now if configurations.latest.is_sole(node_id) else self._random_election(now)
        # Before it was restarted it may have promised a leader not to vote for others for so long.
        self._no_votes_until = now + settings.lease_timeout if hard_state.term else now

    # What others may know

    @property
    def role(self) -> str:
        return LEADER if self.leader else CANDIDATE if self.candidate else FOLLOWER

    # From one role to another

    def _adopt(self, term: int, now: float) -> None:
        """Become a follower of `term`, which is at least the own one."""
        if term > self.term:
            self.term, self.vote = term, ""
        self._become_follower(now)

    def _follow(self, source: str, address: str, now: float) -> None:
        self.leader_id, self.leader_address = source, address
        self.contact = now
        self._election_at = self._random_election(now)

    def _become_follower(self, now: float) -> None:
        if self.leader is not None:
            leader, self.leader = self.leader, None
            leader.close()
            self.leader_id = self.leader_address = ""
            self.contact = now  # it knew everything until now
        elif self.candidate is None:
            return
        self.candidate = None
        self._election_at = self._random_election(now)

    def step_down(self, now: float, why: str, hand_over: bool = False) -> None:
        """A leader gives up its leadership, in the same term; with `hand_over` the most advanced voter
        is told to stand at once."""
        assert self.leader is not None
        if hand_over:
            self.leader.hand_over()
        self.gave_up = why
        self._become_follower(now)

    def _election_due(self, now: float) -> None:
        if self.installing is not None:
            return
        self.leader_id = self.leader_address = ""
        if not self._may_campaign():
            self.candidate = None
            self._election_at = self._random_election(now)
            return
        self._become_candidate(now, self.settings.prevote, transfer=False)

    def _may_campaign(self) -> bool:
        """Only voters start elections; one that an open change removes may still have to."""
        configurations = self.configurations
        return configurations.latest.votes(self.id) or configurations.committed.votes(self.id)

    def _become_candidate(self, now: float, prevote: bool, transfer: bool) -> None:
        self.candidate = Candidate(self, now, prevote, transfer)

    def wait_for_votes(self, now: float, quick: bool = False) -> None:
        """How long the candidate waits before it tries again. `quick`: a pre-vote disturbs nobody, and
        who refused it may only not have noticed yet that the leader is gone."""
        share = 0.25 if quick else 1.0
        self._election_at = now + self.settings.election_timeout * share * (1 + self.random.random())

    def become_leader(self, now: float) -> None:
        """The election is won. Called by the candidate."""
        self.candidate = None
        self.leader_id, self.leader_address = self.id, self.address
        self.gave_up = ""
        self.leader = Leader(self, now)

    def begin_term(self) -> None:
        """The candidate starts a term of its own and votes for itself."""
        self.term += 1
        self.vote = self.id

    # Shared with candidate and leader

    def send(self, to: str, request: Request) -> None:
        """A request that may leave at once (it speaks of a durable term only)."""
        if self.term_is_durable and (self.leader is not None or self.candidate is not None):
            self._messages.append(Outgoing(to, request))
        else:
            self._held.append(Outgoing(to, request))

    def append_own(self, entry: Entry) -> int:
        """Give the entry its place in the log; gives its index."""
        index = entry.index = self.log.last + 1
        entry.term = self.term
        self.append([entry])
        self._unsent = True
        return index

    def may_commit(self, index: int) -> bool:
        """A leader counts copies only of entries of its own term (the others follow with them)."""
        return self.log.term(index) == self.term

    def _random_election(self, now: float) -> float:
        return now + self.settings.heartbeat_timeout * (1 + self.random.random())
