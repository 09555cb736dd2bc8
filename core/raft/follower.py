"""What a server answers to the requests of others, whatever its role (protocols/raft.md, section 3)."""

from __future__ import annotations

from core.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    TimeoutReply,
    VoteReply,
)
from core.raft.roles import Roles


class Follower(Roles):
    """The part of a Raft machine that answers."""

    def _on_append(self, source: str, request: AppendEntries, now: float) -> None:
        last = self.log.last
        if request.term < self.term:
            self.answer(source, request, AppendReply(self.term, last, False, request=request))
            return
        if request.term > self.term or self.leader is not None or self.candidate is not None:
            self._adopt(request.term, now)
        self._follow(source, request.leader, now)
        if request.is_heartbeat:
            self.answer_soon(source, request, AppendReply(self.term, last, True, request=request), 0)
            return
        if self.installing is not None or not _is_sequence(request):
            # The log is about to be replaced, or the sender is out of its mind.
            self.answer_soon(source, request, AppendReply(self.term, last, False, request=request), 0)
            return
        if request.prev_index > self.log.base and self.log.term(request.prev_index) != request.prev_term:
            reply = AppendReply(self.term, last, False, True, request=request)
            self.answer_soon(source, request, reply, 0)
            return
        if not self._agrees_at_base(request):  # last_log 0 without the other flag asks for a snapshot
            self.answer_soon(source, request, AppendReply(self.term, 0, False, request=request), 0)
            return
        match = request.prev_index
        if request.entries:
            self._store(request.entries)
            match += len(request.entries)
        if request.commit > self.commit:
            self.advance_commit(max(self.commit, min(request.commit, match)))
        self.answer_soon(source, request, AppendReply(self.term, last, True, request=request), match)

    def _agrees_at_base(self, request: AppendEntries) -> bool:
        """Whether the leader's log has the entry that ours begins behind.

        It has, if that was committed. But a snapshot that an operator restored counts only when a quorum has
        it: when its leader is lost before, others go on without it. Then only a snapshot of theirs helps."""
        log, position = self.log, self.log.base - request.prev_index
        entries = request.entries or ()
        if position <= len(entries):
            if position > 0:
                agrees = entries[position - 1].term == log.base_term
            else:  # or the previous entry, which is ours, is behind it
                agrees = position < 0 or request.prev_term == log.base_term
            self._agreed_in = self.term if agrees else 0
            self.forked = not agrees
        elif self._agreed_in != self.term and request.commit < log.base:
            # A leader begins with its last entry, and goes back to where ours ends: it has less than that.
            # (What it says of entries that are committed does no harm.)
            self.forked = True
        return not self.forked

    def _store(self, entries: list[Entry]) -> None:
        """Keep what agrees, drop from the first entry that does not, append what is new."""
        log = self.log
        for position, entry in enumerate(entries):
            if entry.index <= log.base:
                continue
            known = log.term(entry.index)
            if known == entry.term:
                continue
            if known is not None:
                self.truncate(entry.index)
            self.append(entries[position:])
            return

    def _on_vote(self, source: str, request: RequestVote, now: float) -> None:
        if not self._may_vote_for(source, request, now):
            self.answer(source, request, VoteReply(self.term, False, request=request))
            return
        if request.term > self.term:
            self._adopt(request.term, now)
            self.leader_id = self.leader_address = ""
        granted = self.vote in ("", source) and self._is_current(request.last_index, request.last_term)
        if granted:
            self.vote = source
            self._election_at = self._random_election(now)
        self.answer(source, request, VoteReply(self.term, granted, request=request))

    def _may_vote_for(self, source: str, request: RequestVote, now: float) -> bool:
        if self._is_bound(source, now) and not request.transfer:
            return False
        if request.term < self.term:
            return False
        return self.leader is None or request.term > self.term

    def _on_pre_vote(self, source: str, request: RequestPreVote, now: float) -> None:
        latest, log = self.configurations.latest, self.log
        # Whose log is longer may know a later configuration, in which it votes and without this server's vote
        # nobody can lead (Raft thesis 4.2.2: it need not be a member of the latest one here).
        knows_more = (request.last_term, request.last_index) > (log.last_term, log.last)
        granted = (
            (not latest.servers or latest.votes(source) or knows_more)
            and not self._is_bound(source, now)
            and request.term >= self.term
            and self._is_current(request.last_index, request.last_term)
        )
        self.answer(source, request, PreVoteReply(self.term, granted, request=request))

    def _is_bound(self, source: str, now: float) -> bool:
        """Whether a leader counts on it that nobody but itself gets a vote from here (its lease)."""
        return self.leader_id != source if self.leader_id else now < self._no_votes_until

    def _is_current(self, last_index: int, last_term: int) -> bool:
        return (last_term, last_index) >= (self.log.last_term, self.log.last)

    def _on_timeout_now(self, source: str, request: TimeoutNow, now: float) -> None:
        self.answer(source, request, TimeoutReply(request=request))
        if self.leader is None and self.installing is None and self.configurations.latest.votes(self.id):
            self.leader_id = self.leader_address = ""
            self._become_candidate(now, prevote=False, transfer=True)

    def _on_install(self, source: str, request: InstallSnapshot, now: float) -> None:
        if request.term < self.term or request.snapshot_version not in (0, 1):
            self.answer(source, request, InstallReply(self.term, False, request=request))
            return
        if request.term > self.term or self.leader is not None or self.candidate is not None:
            self._adopt(request.term, now)
        self._follow(source, request.leader, now)
        if self.installing is not None:
            self.answer_soon(source, request, InstallReply(self.term, False, request=request), 0)
            return
        if self._has_passed(request):
            # It has all that already, and what follows it may have been confirmed: keep it.
            if request.last_index > self.commit:
                self.advance_commit(request.last_index)
            self.answer(source, request, InstallReply(self.term, True, request=request))
            return
        self.installing, self._installing_from, self._install_ready = request, source, True

    def _has_passed(self, request: InstallSnapshot) -> bool:
        """Whether all that is in a snapshot is here already. What was committed in a later term than that of
        our base, and ends before it, says that the base is not what was committed."""
        index, log = request.last_index, self.log
        if index < log.base:
            return request.last_term <= log.base_term
        return log.term(index) == request.last_term


def _is_sequence(request: AppendEntries) -> bool:
    """Whether the entries follow the previous one without a gap."""
    index = request.prev_index
    for entry in request.entries or ():
        index += 1
        if entry.index != index:
            return False
    return True
