"""A leader's term: replication, commit, lease, verified reads, transfer (protocols/raft.md, section 5).

A Leader object lives from winning an election to stepping down and holds all that is only true in
between, so nothing of an old term can leak into the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import Invalid, Unavailable
from core.raft.messages import (
    NOOP,
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    TimeoutNow,
    Unreachable,
)
from core.raft.replication import Mode, Progress

if TYPE_CHECKING:
    from core.raft.roles import Roles

# Why a leader gives up by itself
NO_QUORUM = "no quorum answered within the lease"
REMOVED = "this server is no longer in the configuration"


class Leader:
    """The duties of one term."""

    def __init__(self, node: Roles, now: float) -> None:
        self.node = node
        self.peers: dict[str, Progress] = {}
        self.noop_index = node.log.last + 1
        self.transfer_to = ""
        self._transfer_until = 0.0
        self._transfer_told = False
        self.hands_over = False  # a voter may stand though it hears this leader: there is no lease
        self._hands_over_until = 0.0
        self._commit_due: float | None = None
        self._round = 0
        self._round_open = False
        self._verifying: list[tuple[int, Any]] = []
        self._sequence = 0
        self.reconfigure(now)
        node.append_own(Entry(type=NOOP))

    # Membership

    def reconfigure(self, now: float) -> None:
        """Follow the latest configuration: new servers get a Progress, removed ones are forgotten."""
        node = self.node
        servers = {s.id: s for s in node.configurations.latest.servers if s.id != node.id}
        for server_id in [known for known in self.peers if known not in servers]:
            del self.peers[server_id]
        for server_id, server in servers.items():
            peer = self.peers.get(server_id)
            if peer is None:
                self.peers[server_id] = Progress(server, node.log.last + 1, now)
            else:
                peer.server = server

    @property
    def is_alone(self) -> bool:
        """No other server needs anything from this leader."""
        return not self.peers

    def restarted(self, now: float) -> None:
        """The log was replaced by a snapshot: everyone needs that first."""
        for peer in self.peers.values():
            peer.restart(self.node.log.last + 1)
            self.replicate(peer, now)

    # Time

    def deadline(self) -> float | None:
        """When a heartbeat, a retry, the lease or a transfer is due; None without other servers."""
        if not self.peers:
            return None
        due = self._lease_end()
        if self._commit_due is not None:
            due = min(due, self._commit_due)
        if self.transfer_to:
            due = min(due, self._transfer_until)
        for peer in self.peers.values():
            due = min(due, peer.heartbeat_at)
            if peer.waiting or peer.inflight or peer.failures:
                due = min(due, peer.waiting_until)
        return due

    def tick(self, now: float) -> None:
        """Step down without a quorum, give up a transfer, send what is due."""
        if not self.peers:
            return
        if now >= self._lease_end():
            self.node.step_down(now, NO_QUORUM)
            return
        if self.transfer_to and now >= self._transfer_until:
            self.transfer_to = ""
        self.hands_over = self.hands_over and now < self._hands_over_until
        for peer in self.peers.values():
            if now >= peer.heartbeat_at:
                self._heartbeat(peer, now)
            overdue = (peer.waiting or peer.inflight) and now >= peer.waiting_until
            if overdue:
                peer.lost(now, 0.0)
        spread_commit = self._commit_due is not None and now >= self._commit_due
        if spread_commit:
            self._commit_due = None
        for peer in self.peers.values():
            news = spread_commit and peer.commit_sent < self.node.commit
            # A follower that was restarted knows no commit index, and may have lost more than that.
            quiet = now - peer.told_at >= self.node.settings.heartbeat_timeout / 2
            self.replicate(peer, now, even_if_empty=news or quiet)

    def _lease_end(self) -> float:
        """When the contact of the latest quorum runs out; a leader outside the configuration is not in it."""
        node = self.node
        contacts = sorted((peer.contact for peer in self.peers.values() if peer.votes), reverse=True)
        others = node.configurations.latest.quorum - (1 if node.configurations.latest.votes(node.id) else 0)
        if others <= 0:
            return float("inf")
        heard = contacts[others - 1] if others <= len(contacts) else float("-inf")
        return heard + node.settings.lease_timeout

    def lease_until(self) -> float:
        """Until then no other server can have been elected, if clocks run at the same speed."""
        return float("-inf") if self.hands_over else self._lease_end()

    # Sending

    def _heartbeat(self, peer: Progress, now: float) -> None:
        node = self.node
        node.send(peer.server.id, AppendEntries(node.term, node.address, sent_at=now, round=self._round))
        peer.heartbeat_at = now + node.settings.heartbeat_interval * (1 + node.random.random())

    def replicate_all(self, now: float) -> None:
        """Send new entries to everyone who can take them."""
        for peer in self.peers.values():
            self.replicate(peer, now)

    def replicate(self, peer: Progress, now: float, even_if_empty: bool = False) -> None:
        """Send what `peer` lacks; with `even_if_empty` at least the commit index."""
        node, settings = self.node, self.node.settings
        while peer.sendable(now, settings.max_inflight):
            probing = peer.mode is not Mode.REPLICATE
            idle = not probing and peer.next > node.log.last
            if idle and not even_if_empty:
                return
            previous_term = node.log.term(peer.next - 1) if peer.next > node.log.base else None
            if previous_term is None or peer.needs_snapshot:
                self._install(peer, now)
                return
            last = min(node.log.last, peer.next + settings.max_entries - 1)
            entries = node.log.slice(peer.next, last, settings.max_bytes) if last >= peer.next else []
            self._append(peer, previous_term, entries, now)
            if probing or not entries:
                return

    def _append(self, peer: Progress, previous_term: int, entries: list[Entry], now: float) -> None:
        node = self.node
        self._sequence += 1
        previous = peer.next - 1
        request = AppendEntries(
            node.term,
            node.address,
            previous,
            previous_term,
            entries,
            node.commit,
            sent_at=now,
            sequence=self._sequence,
            round=self._round,
        )
        node.send(peer.server.id, request)
        peer.told_at = now
        peer.commit_sent = max(peer.commit_sent, min(node.commit, previous + len(entries)))
        if peer.mode is Mode.REPLICATE:
            peer.next += len(entries)
            if not peer.inflight:
                peer.waiting_until = now + node.settings.heartbeat_timeout
            peer.inflight += 1
        else:
            peer.waiting = self._sequence
            peer.waiting_until = now + node.settings.heartbeat_timeout

    def _install(self, peer: Progress, now: float) -> None:
        node = self.node
        reaches = 0 < node.snapshot_index >= node.log.base
        if not reaches or (peer.needs_snapshot and node.snapshot_term < node.term):
            node.wants_snapshot = True
            peer.lost(now, node.settings.retry_limit)
            return
        self._sequence += 1
        peer.mode, peer.waiting, peer.sending = Mode.SNAPSHOT, self._sequence, node.snapshot_index
        peer.waiting_until = now + node.settings.snapshot_timeout
        position, configuration = node.snapshot_configuration
        node.send(
            peer.server.id,
            InstallSnapshot(
                node.term,
                node.address,
                node.snapshot_index,
                node.snapshot_term,
                configuration.encode(),
                position,
                peers=configuration.encode_peers(),
                handle=node.snapshot_handle,
                sent_at=now,
                sequence=self._sequence,
            ),
        )

    def floor(self) -> int:
        """Entries behind this one will be wanted by followers that are just being sent a snapshot."""
        sending = (peer.sending for peer in self.peers.values() if peer.mode is Mode.SNAPSHOT)
        return min(sending, default=self.node.log.last)

    # Answers

    def on_append(self, source: str, reply: AppendReply, now: float) -> None:
        """An answer to entries or a heartbeat."""
        peer, request = self.peers.get(source), reply.request
        if peer is None or request is None or request.term != self.node.term:
            return
        if request.is_heartbeat and not request.sequence:
            if reply.success:
                peer.heard(request.sent_at, request.round)
                self._settle_verified(now)
                if peer.failures and not peer.waiting:
                    peer.waiting_until = now
                    self.replicate(peer, now)
            return
        if reply.success:
            peer.heard(request.sent_at, request.round)
            peer.accepted(request.prev_index + len(request.entries or ()), request.sequence)
            if peer.mode is Mode.REPLICATE:
                peer.waiting_until = now + self.node.settings.heartbeat_timeout
            self.advance_commit(now)
            self._settle_verified(now)
            if self.node.leader is not self:
                return
            self._continue_transfer(peer, now)
        elif not peer.counts(request.sequence):
            return  # an old refusal
        else:
            peer.heard(request.sent_at, request.round)
            peer.refused(request.prev_index, reply.last_log)
            peer.needs_snapshot = reply.last_log == 0 and not reply.no_retry_backoff
        self.replicate(peer, now)

    def on_install(self, source: str, reply: InstallReply, now: float) -> None:
        """A snapshot was installed, or not."""
        peer, request = self.peers.get(source), reply.request
        if peer is None or request is None or request.term != self.node.term:
            return
        peer.heard(request.sent_at, 0)
        if reply.success:
            peer.accepted(request.last_index, request.sequence)
            self.advance_commit(now)
        elif peer.counts(request.sequence):
            self._pause(peer, now)
        self.replicate(peer, now)

    def on_unreachable(self, source: str, report: Unreachable, now: float) -> None:
        """A message could not be delivered: back off, doubling."""
        peer, request = self.peers.get(source), report.request
        if peer is None or isinstance(request, TimeoutNow):
            return
        if not isinstance(request, AppendEntries | InstallSnapshot) or request.term != self.node.term:
            return
        if not request.sequence or not peer.counts(request.sequence):
            return  # heartbeats are on their own schedule; an old message tells nothing
        self._pause(peer, now)

    def _pause(self, peer: Progress, now: float) -> None:
        settings = self.node.settings
        peer.lost(now, min(settings.retry_base * 2 ** min(peer.failures, 10), settings.retry_limit))

    # Commit

    def advance_commit(self, now: float) -> None:
        """Commit what a majority of voters has; entries of earlier terms only below one of this term."""
        node = self.node
        configuration = node.configurations.latest
        matches = [peer.match for peer in self.peers.values() if peer.votes]
        if configuration.votes(node.id):
            matches.append(node.durable)
        if not matches:
            return
        matches.sort()
        agreed = matches[(len(matches) - 1) // 2]
        if agreed > node.commit and node.may_commit(agreed):
            node.advance_commit(agreed)
            if self.peers:
                if self._commit_due is None:
                    self._commit_due = now + node.settings.commit_timeout * (1 + node.random.random())
                self._after_commit(now)

    def _after_commit(self, now: float) -> None:
        node = self.node
        if node.configurations.is_stable and not node.configurations.latest.votes(node.id):
            for peer in self.peers.values():
                self.replicate(peer, now, even_if_empty=True)
            node.step_down(now, REMOVED)

    # Verified reads

    def verify(self, token: Any, now: float) -> None:
        """Answer in Ready.verified whether this server is still the leader, after a quorum said so."""
        if not self._round_open:
            self._round += 1
            self._round_open = True
            for peer in self.peers.values():
                if peer.votes:
                    self._heartbeat(peer, now)
        self._verifying.append((self._round, token))
        self._settle_verified(now)

    def close_round(self) -> None:
        """The heartbeats of the open round have left: later questions need a new one."""
        self._round_open = False

    def _settle_verified(self, now: float) -> None:
        if not self._verifying:
            return
        node = self.node
        rounds = sorted((peer.round for peer in self.peers.values() if peer.votes), reverse=True)
        others = node.configurations.latest.quorum - (1 if node.configurations.latest.votes(node.id) else 0)
        confirmed = self._round if others <= 0 else rounds[others - 1] if others <= len(rounds) else 0
        while self._verifying and self._verifying[0][0] <= confirmed:
            node.tell_verified(self._verifying.pop(0)[1], True)

    # Leadership transfer

    def transfer(self, target: str, now: float) -> str:
        """Hand leadership to `target`, or to the most advanced voter if ""; gives the id chosen."""
        node = self.node
        voters = [peer for peer in self.peers.values() if peer.votes]
        if not target:
            if not voters:
                raise Unavailable("cannot find peer")
            target = max(voters, key=lambda peer: peer.match).server.id
        if target == node.id:
            raise Invalid("cannot transfer leadership to itself")
        peer = self.peers.get(target)
        if peer is None or not peer.votes:
            raise Invalid(f"cannot transfer leadership to {target}: not a voter of the configuration")
        if self.transfer_to:
            raise Unavailable("leadership transfer already in progress")
        self.transfer_to, self._transfer_told = target, False
        self._transfer_until = self._hands_over_until = now + node.settings.election_timeout
        self.hands_over = True
        self.replicate(peer, now)
        self._continue_transfer(peer, now)
        return target

    def _continue_transfer(self, peer: Progress, now: float) -> None:
        if self.transfer_to != peer.server.id or self._transfer_told:
            return
        if peer.match == self.node.log.last:
            self._transfer_told = True
            self._hands_over_until = self._transfer_until + self.node.settings.heartbeat_timeout  # or later
            self.node.send(peer.server.id, TimeoutNow())

    def hand_over(self) -> None:
        """Tell the most advanced voter that was heard last to stand for election; nobody waits for it."""
        voters = [peer for peer in self.peers.values() if peer.votes and not peer.failures]
        if voters:
            best = max(voters, key=lambda peer: (peer.match, peer.contact))
            self.node.send(best.server.id, TimeoutNow())

    def close(self) -> None:
        """Leadership is over: nothing can be verified any more."""
        for _, token in self._verifying:
            self.node.tell_verified(token, False)
        self._verifying = []
