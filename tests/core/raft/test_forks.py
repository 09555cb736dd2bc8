"""A restored state whose leader was lost before a quorum had it: it is not taken for what was committed."""

from __future__ import annotations

from typing import Any

import pytest

from core.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    VoteReply,
)
from tests.core.raft.raft_fixture import Machine, commands, servers

ABC = servers("abc")


def forked() -> Machine:
    """Entry 7 of term 2 is a restored state, which the leader of term 3 does not know."""
    return Machine(ABC, [], base=(7, 2))


def asks_for_snapshot(reply: Any) -> bool:
    return (reply.success, reply.last_log, reply.no_retry_backoff) == (False, 0, False)


def install(index: int, last_term: int, term: int = 3) -> InstallSnapshot:
    return InstallSnapshot(term, "b:1", index, last_term, ABC.encode(), 1)


@pytest.mark.parametrize(
    ("previous", "terms", "commit"),
    [
        ((7, 3), [3], 0),  # the entry itself has another term
        ((5, 1), [1, 3, 3], 9),  # it is among these entries, and has another term
        ((4, 1), [1, 1], 4),  # a log that ends before it
    ],
)
def test_entries_that_do_not_lead_to_ours_are_refused(
    previous: tuple[int, int], terms: list[int], commit: int
) -> None:
    machine = forked()
    reply = machine.append(previous, commands(previous[0] + 1, terms), commit, term=3)
    assert asks_for_snapshot(reply)
    assert machine.log == [] and machine.node.forked
    assert asks_for_snapshot(machine.append((0, 0), commands(1, [1, 1]), commit=99))


def test_a_fork_is_over_when_the_leader_turns_out_to_have_the_entry() -> None:
    machine = forked()
    assert asks_for_snapshot(machine.append((4, 1), commands(5, [1, 1]), term=3))
    assert machine.append((7, 2), commands(8, [3])).success
    assert not machine.node.forked and machine.log == [(8, 3)]
    assert machine.append((4, 1), commands(5, [1, 1])).success  # an old message


def test_what_is_committed_below_the_base_is_confirmed_to_a_leader_that_was_not_heard_before() -> None:
    machine = forked()
    assert machine.append((4, 1), commands(5, [1, 1]), commit=8, term=3).success
    assert not machine.node.forked


def test_a_later_state_replaces_the_fork_though_it_ends_before_it() -> None:
    machine = forked()
    assert asks_for_snapshot(machine.append((4, 1), commands(5, [3]), commit=4, term=3))
    request = install(5, 3)
    assert machine.told("b", request) is None
    machine.node.installed(True, machine.now)
    machine.settle()
    node = machine.node
    assert machine.sent[-1].message == InstallReply(3, True, request=request)
    assert (node.log.last, node.log.last_term, node.applied, node.commit, node.forked) == (5, 3, 5, 5, False)


def test_a_state_of_the_same_term_need_not_have_all_that_was_confirmed_before_the_fork() -> None:
    machine = forked()
    assert machine.told("b", install(5, 2)).success
    assert machine.node.installing is None and machine.node.log.base == 7


# The leader


def leader(terms: list[int], base: tuple[int, int] = (0, 0)) -> Machine:
    machine = Machine(ABC, terms, base=base)
    machine.wait(2.1)
    for reply, kind in ((PreVoteReply, RequestPreVote), (VoteReply, RequestVote)):
        for to, request in machine.take(kind):
            term = machine.node.term
            machine.told(to, reply(term, True, request=request))  # type: ignore[operator]
    assert machine.node.leader is not None
    return machine


def answered(machine: Machine) -> list[InstallSnapshot]:
    """A second in which c takes everything, and b no entries; the snapshots that b was sent."""
    found = []
    for _ in range(10):
        for to, request in machine.take(AppendEntries):
            takes = to == "c" or not request.sequence
            machine.told(to, AppendReply(request.term, 0, takes, request=request))
        found += [snapshot for to, snapshot in machine.take(InstallSnapshot) if to == "b"]
        machine.wait(0.1)
    return found


@pytest.mark.parametrize("base", [(0, 0), (7, 2)])
def test_who_asks_for_a_snapshot_gets_one_of_this_term(base: tuple[int, int]) -> None:
    machine = leader([2, 2], base)
    node = machine.node
    assert answered(machine) == []
    assert node.wants_snapshot and node.commit == node.log.last
    node.snapshot_taken(node.commit, node.term, (1, ABC), "state")
    assert not node.wants_snapshot
    (snapshot,) = answered(machine)
    assert (snapshot.last_index, snapshot.last_term, snapshot.handle) == (node.commit, node.term, "state")
    machine.told("b", InstallReply(node.term, True, request=snapshot))
    node.propose(Entry(data=b"x"))
    machine.settle()
    assert ("b", snapshot.last_index) in [(to, m.prev_index) for to, m in machine.take(AppendEntries)]
