"""How long a leader may answer without asking: as long as no other server can have been elected."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from agent.raft_view import RaftView
from core.raft.messages import (
    AppendEntries,
    AppendReply,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    VoteReply,
)
from core.raft.settings import Settings
from tests.core.raft.raft_fixture import SETTINGS, Machine, servers


def leader() -> Machine:
    machine = Machine(servers("abc"), [1])
    machine.wait(2.1)
    for to, request in machine.take(RequestPreVote):
        machine.told(to, PreVoteReply(1, True, request=request))
    for to, request in machine.take(RequestVote):
        machine.told(to, VoteReply(2, True, request=request))
    heard(machine)
    return machine


def heard(machine: Machine) -> float:
    """Both followers answer what they were sent; when the last of it was sent."""
    sent = machine.take(AppendEntries)
    for to, request in sent:
        machine.told(to, AppendReply(2, 1, True, request=request))
    return max(request.sent_at for _, request in sent)


class View(RaftView):
    """What the agent sees of a machine."""

    def __init__(self, machine: Machine) -> None:
        clock: Any = SimpleNamespace(random=Random(1), now=lambda: machine.now)
        super().__init__("a", "a:1", Settings(), clock)
        self.machine, self.node, self._applied = machine, machine.node, 99


def test_the_lease_begins_with_what_was_answered_last() -> None:
    machine = leader()
    view = View(machine)
    assert view.holds_lease
    machine.now += 0.05
    machine.node.tick(machine.now)
    machine.wait(0.2)
    sent_at = heard(machine)
    lease = machine.node.leader
    assert lease is not None and lease.lease_until() == sent_at + SETTINGS.lease_timeout
    machine.now = lease.lease_until() - 0.01
    assert view.holds_lease
    machine.now += 0.02  # it was asleep, and has not looked at the clock since
    assert view.is_leader and not view.holds_lease


def test_a_follower_and_who_has_not_applied_all_that_is_committed_hold_none() -> None:
    assert not View(Machine(servers("abc"), [1])).holds_lease
    view = View(leader())
    view._applied = 1
    assert not view.holds_lease


def test_whom_a_voter_was_told_to_replace_has_no_lease() -> None:
    machine = leader()
    view = View(machine)
    assert view.holds_lease
    machine.node.transfer("b", machine.now)
    machine.settle()
    assert not view.holds_lease
    assert machine.node.leader is not None and machine.node.leader.lease_until() < 0
    end = machine.now + SETTINGS.election_timeout + SETTINGS.heartbeat_timeout
    while machine.now < end:  # b may still do it, if it is slow to hear
        assert not view.holds_lease
        machine.wait(0.1)
        heard(machine)
    machine.wait(0.2)
    heard(machine)
    assert view.holds_lease
