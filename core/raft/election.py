"""A candidate's attempt: the question whether it would win (pre-vote), then the votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.raft.messages import PreVoteReply, RequestPreVote, RequestVote, VoteReply

if TYPE_CHECKING:
    from core.raft.roles import Roles


class Candidate:
    """One attempt; a time-out makes a new one. The own vote counts when it is durable."""

    def __init__(self, node: Roles, now: float, prevote: bool, transfer: bool) -> None:
        self.node = node
        self.asking = False  # in the pre-vote, no term of its own yet
        self._transfer = transfer
        self._votes: set[str] = set()
        node.candidate = self
        others = [voter for voter in node.configurations.latest.voters if voter != node.id]
        node.wait_for_votes(now, quick=prevote)
        if not others:
            node.begin_term()
            # Alone, term, vote and first entry may share one write: nobody hears of any before it is done.
            node.become_leader(now)
        elif prevote:
            self.asking = True
            if node.configurations.latest.votes(node.id):
                self._votes.add(node.id)
            log = node.log
            for voter in others:
                node.send(voter, RequestPreVote(node.term + 1, node.address, log.last, log.last_term))
        else:
            self._stand(others, now)

    def _stand(self, others: list[str], now: float) -> None:
        node = self.node
        node.wait_for_votes(now)
        self.asking = False
        self._votes.clear()
        node.begin_term()
        for voter in others:
            request = RequestVote(node.term, node.address, node.log.last, node.log.last_term, self._transfer)
            node.send(voter, request)

    def on_pre_vote(self, source: str, reply: PreVoteReply, now: float) -> None:
        """Enough of these, and a real election begins."""
        request = reply.request
        if not self.asking or request is None or request.term != self.node.term + 1 or not reply.granted:
            return
        self._votes.add(source)
        if self._is_majority():
            latest = self.node.configurations.latest
            self._stand([voter for voter in latest.voters if voter != self.node.id], now)

    def on_vote(self, source: str, reply: VoteReply, now: float) -> None:
        """Enough of these, and the election is won."""
        request = reply.request
        if self.asking or request is None or request.term != self.node.term or not reply.granted:
            return
        self._votes.add(source)
        self._count(now)

    def own_vote(self, now: float) -> None:
        """The vote for oneself is durable."""
        if not self.asking:
            self._votes.add(self.node.id)
            self._count(now)

    def _count(self, now: float) -> None:
        if self._is_majority():
            self.node.become_leader(now)

    def _is_majority(self) -> bool:
        latest = self.node.configurations.latest
        return sum(voter in self._votes for voter in latest.voters) >= latest.quorum
