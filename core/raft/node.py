"""The Raft machine: told of messages, proposals and time, it says in Ready what must be done.

It is built in layers, each a file: what is written and how far (durable.py), which role it has
(roles.py), what it answers to others (follower.py), and here its doors. What only a candidate or a
leader knows is in election.py and leader.py."""

from __future__ import annotations

from typing import Any

from core.errors import Invalid, NoLeader, Unavailable
from core.raft.configuration import Configuration
from core.raft.follower import Follower
from core.raft.leader import Leader
from core.raft.messages import (
    CONFIGURATION,
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Request,
    RequestPreVote,
    RequestVote,
    Response,
    TimeoutNow,
    TimeoutReply,
    Unreachable,
    VoteReply,
)
from core.raft.ready import Ready

# Why a leader gives up by itself; core/raft/leader.py knows more reasons
STALLED = "the log could not be written in time"
UNWRITABLE = "the log cannot be written"


class Node(Follower):
    """One server's Raft. All times are the caller's monotonic seconds."""

    # The machine's four doors

    def receive(self, source: str, message: Request | Response | Unreachable, now: float) -> None:
        """A request or a response from server `source`, or the news that a request failed."""
        self._now = now
        _HANDLERS[type(message)](self, source, message, now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._now = now
        limit = self._write_limit()
        if limit is not None and now >= limit:
            self.step_down(now, STALLED, hand_over=True)
        elif self.leader is not None:
            self.leader.tick(now)
        elif now >= self._election_at:
            self._election_due(now)

    def deadline(self) -> float | None:
        """When `tick` is needed next; None: never, as far as one can see."""
        if self.leader is not None:
            due, limit = self.leader.deadline(), self._write_limit()
            return due if limit is None or due is None else min(due, limit)
        if self.candidate is None and not self._may_campaign() and self.leader_id == "":
            return None
        if self.installing is not None:
            return None
        return self._election_at

    def drain(self) -> Ready | None:
        """Everything that must be done now, or None. Call again until None."""
        if self._unsent:
            self._unsent = False
            if self.leader is not None:
                self.leader.replicate_all(self._now)
        ready = self.next_ready()
        if ready is not None and ready.messages and self.leader is not None:
            self.leader.close_round()
        return ready

    def leader_gone(self, leader: str, now: float) -> None:
        """The shell saw the leader's process die: followers need not wait for the time-out.

        Voters stand in the order of their ids, a pause apart, so that they do not split the vote. A
        shell that is wrong does no harm: whoever still hears the leader refuses the pre-vote."""
        if self.leader is not None or self.candidate is not None or self.leader_id != leader:
            return
        self.leader_id = self.leader_address = ""
        voters = sorted(voter for voter in self.configurations.latest.voters if voter != leader)
        rank = voters.index(self.id) if self.id in voters else len(voters)
        pause = self.settings.succession_pause * (rank + 0.2 * self.random.random())
        self._election_at = min(self._election_at, now + pause)

    def bootstrap(self, configuration: Configuration, now: float) -> None:
        """Begin a cluster: the first entry of an empty log says who the servers are. Raises Invalid.

        Every first server writes the same entry by itself; the first election comes soon."""
        if self.log.last or self.term:
            raise Invalid("bootstrap only works on new clusters")
        self._now = now
        self.term = 1
        self.append([Entry(1, 1, CONFIGURATION, configuration.encode())])
        pause = self.settings.heartbeat_timeout * 0.3 * self.random.random()
        self._election_at = now if configuration.is_sole(self.id) else now + pause

    # Writes

    def persisted(self, mark: int, now: float) -> None:
        """Everything up to the Ready with this mark is durable."""
        self._now = now
        self.confirm(mark)
        if self.leader is not None:
            self.leader.advance_commit(now)
        elif self.candidate is not None and self.has_voted_for(self.id):
            self.candidate.own_vote(now)

    def write_failed(self, now: float) -> None:
        """Nothing since the last `persisted` was written: take it back, as a crash would have.

        A leader whom others may already have heard steps down. A server alone stays leader: nobody
        else knows of the entries that are taken back."""
        self._now = now
        # Alone before and after: a server that is just being removed may have been sent entries.
        alone = self.leader is not None and self.leader.is_alone and self.durable >= self.leader.noop_index
        self.take_back()
        if alone and self.configurations.latest.is_sole(self.id):
            return
        self._messages.clear()
        if self.leader is not None:
            self.step_down(now, UNWRITABLE, hand_over=True)
        else:
            self._become_follower(now)
        if self.configurations.latest.is_sole(self.id):
            self._election_at = now + self.settings.campaign_pause
        else:
            self._election_at = self._random_election(now)

    def _write_limit(self) -> float | None:
        """When a leader whose disk stalls gives way to servers whose disks do not."""
        since = self.oldest_write()
        if since is None or self.leader is None or self.leader.is_alone:
            return None
        return since + self.settings.write_timeout

    # Proposals and questions (leader)

    def propose(self, entry: Entry) -> int:
        """Append a command or barrier; gives its index. Raises NoLeader, Unavailable.

        What is proposed between two calls of `drain` is written and sent together."""
        leader = self.leader
        if leader is None:
            raise NoLeader("node is not the leader")
        self._check_open(leader)
        return self.append_own(entry)

    def change(self, configuration: Configuration, now: float) -> int:
        """Propose the next configuration (one server different from the latest); gives its index.

        Only one change at a time, and none before this term has committed its first entry."""
        leader = self._leading()
        self._check_open(leader)
        if not self.configurations.is_stable:
            raise Unavailable("a configuration change is already under way")
        if self.commit < leader.noop_index:
            raise Unavailable("the leader has not committed an entry of its term yet")
        self._now = now
        index = self.append_own(Entry(type=CONFIGURATION, data=configuration.encode()))
        leader.reconfigure(now)
        return index

    def verify(self, token: Any, now: float) -> None:
        """Find out whether this server still leads; the answer comes in Ready.verified with `token`."""
        self._now = now
        if self.leader is None:
            self.tell_verified(token, False)
        else:
            self.leader.verify(token, now)

    def transfer(self, target: str, now: float) -> str:
        """Hand leadership to voter `target` ("": the most advanced); gives its id."""
        self._now = now
        return self._leading().transfer(target, now)

    def _check_open(self, leader: Leader) -> None:
        if leader.transfer_to:
            # In Consul's words for what its agents try again: nothing was appended.
            raise NoLeader("No cluster leader: leadership transfer in progress")
        if self.installing is not None:
            raise Unavailable("a snapshot is being restored")

    def _leading(self) -> Leader:
        if self.leader is None:
            raise NoLeader("node is not the leader")
        return self.leader

    # Snapshots

    def hold(self, floor: int, now: float) -> InstallSnapshot:
        """A leader's state is about to be replaced from outside: nothing is appended or applied until
        `installed`. Gives where the log will go on, behind all that is there and behind `floor`.

        Raises NoLeader, Unavailable."""
        leader = self._leading()
        self._check_open(leader)
        if not self.configurations.is_stable:
            raise Unavailable("a configuration change is already under way")
        self._now = now
        index = max(self.log.last, floor) + 1
        position, configuration = self.configurations.at(index)
        self._installing_from = ""
        self.installing = InstallSnapshot(
            self.term, self.address, index, self.term, configuration.encode(), position
        )
        return self.installing

    def installed(self, success: bool, now: float, handle: Any = None) -> None:
        """The snapshot of Ready.install, or of `hold`, was stored and restored, or could not be."""
        self._now = now
        request, source = self.installing, self._installing_from
        assert request is not None
        self.installing = None
        self._election_at = self._random_election(now)
        if success:
            self.restart_behind(request, handle)
            if self.leader is not None:
                self.leader.restarted(now)
        if source:
            self.answer(source, request, InstallReply(self.term, success, request=request))

    # Responses

    def _on_append_reply(self, source: str, reply: AppendReply, now: float) -> None:
        if not self._outdone(reply.term, now) and self.leader is not None:
            self.leader.on_append(source, reply, now)

    def _on_install_reply(self, source: str, reply: InstallReply, now: float) -> None:
        if not self._outdone(reply.term, now) and self.leader is not None:
            self.leader.on_install(source, reply, now)

    def _on_vote_reply(self, source: str, reply: VoteReply, now: float) -> None:
        if not self._outdone(reply.term, now) and self.candidate is not None:
            self.candidate.on_vote(source, reply, now)

    def _on_pre_vote_reply(self, source: str, reply: PreVoteReply, now: float) -> None:
        if not self._outdone(reply.term, now) and self.candidate is not None:
            self.candidate.on_pre_vote(source, reply, now)

    def _on_timeout_reply(self, source: str, reply: TimeoutReply, now: float) -> None:
        pass  # the votes that follow say more

    def _on_unreachable(self, source: str, report: Unreachable, now: float) -> None:
        if self.leader is not None:
            self.leader.on_unreachable(source, report, now)

    def _outdone(self, term: int, now: float) -> bool:
        if term <= self.term:
            return False
        self._adopt(term, now)
        self.leader_id = self.leader_address = ""
        return True


_HANDLERS: dict[type, Any] = {
    AppendEntries: Node._on_append,
    AppendReply: Node._on_append_reply,
    RequestVote: Node._on_vote,
    VoteReply: Node._on_vote_reply,
    RequestPreVote: Node._on_pre_vote,
    PreVoteReply: Node._on_pre_vote_reply,
    InstallSnapshot: Node._on_install,
    InstallReply: Node._on_install_reply,
    TimeoutNow: Node._on_timeout_now,
    TimeoutReply: Node._on_timeout_reply,
    Unreachable: Node._on_unreachable,
}
