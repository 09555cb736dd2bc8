"""One test per sentence of protocols/raft.md section 3."""

from __future__ import annotations

from typing import Any

import pytest

from core.raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
)
from core.raft.ready import HardState
from tests.core.raft.raft_fixture import SETTINGS, Machine, commands, configuration_entry, servers

ABC = servers("abc")


def heartbeat(term: int, leader: str = "b") -> AppendEntries:
    return AppendEntries(term, f"{leader}:1")


# AppendEntries


def test_an_older_term_is_refused() -> None:
    machine = Machine(ABC, [1, 3])
    reply = machine.append((2, 3), commands(3, [2]), term=2)
    assert (reply.success, reply.term, reply.last_log) == (False, 3, 2)
    assert machine.node.leader_id == ""


def test_a_newer_term_is_adopted_and_stored_before_the_answer() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    assert machine.told("b", heartbeat(5)) is None
    assert machine.writes[0].hard_state == HardState(5, "")
    machine.finish()
    assert machine.sent[-1].message == AppendReply(5, 1, True, request=machine.sent[-1].answers)  # type: ignore[arg-type]


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    machine = Machine(ABC, [1], settings=SETTINGS.__class__(prevote=False))
    machine.wait(3)
    assert machine.node.role == "Candidate"
    machine.told("b", heartbeat(machine.node.term))
    assert (machine.node.role, machine.node.leader_id) == ("Follower", "b")


def test_the_leaders_address_is_remembered() -> None:
    machine = Machine(ABC, [1])
    machine.told("c", AppendEntries(1, "10.1.1.3:8300"))
    assert (machine.node.leader_id, machine.node.leader_address) == ("c", "10.1.1.3:8300")


@pytest.mark.parametrize("previous", [(3, 1), (2, 2), (9, 9)])
def test_a_missing_previous_entry_is_refused_without_backoff(previous: tuple[int, int]) -> None:
    machine = Machine(ABC, [1, 1])
    reply = machine.append(previous, commands(previous[0] + 1, [9]), term=9)
    assert (reply.success, reply.no_retry_backoff, reply.last_log) == (False, True, 2)


def test_the_previous_entry_may_be_the_snapshots() -> None:
    machine = Machine(ABC, [], base=(7, 2))
    assert machine.append((7, 2), commands(8, [2])).success
    assert machine.log == [(8, 2)]


def test_a_previous_entry_inside_the_snapshot_agrees() -> None:
    machine = Machine(ABC, [2], base=(7, 2))
    assert machine.append((5, 1), commands(6, [2, 2, 2, 2])).success
    assert machine.log == [(8, 2), (9, 2)]


def test_entries_from_the_first_that_differs_are_dropped() -> None:
    machine = Machine(ABC, [1, 1, 2, 2])
    assert machine.append((1, 1), commands(2, [1, 3]), term=3).success
    assert machine.log == [(1, 1), (2, 1), (3, 3)]
    assert machine.readies[-1].truncate == 3 or any(r.truncate == 3 for r in machine.readies)
    assert sorted(machine.disk.entries) == [1, 2, 3]


def test_agreeing_entries_behind_the_message_are_kept() -> None:
    """A late short message must not drop what a later one appended."""
    machine = Machine(ABC, [1, 1, 1])
    assert machine.append((0, 0), commands(1, [1])).success
    assert len(machine.log) == 3


def test_a_configuration_counts_when_appended_and_not_after_truncation() -> None:
    machine = Machine(ABC, [1])
    machine.append((1, 1), [configuration_entry(2, 1, servers("abcd"))])
    assert machine.node.configurations.latest == servers("abcd")
    machine.append((1, 1), commands(2, [2]), term=2)
    assert machine.node.configurations.latest == ABC


def test_commit_is_the_leaders_but_not_beyond_what_agrees() -> None:
    machine = Machine(ABC, [1, 1, 1])
    machine.append((1, 1), commands(2, [1]), commit=9)
    assert machine.node.commit == 2
    assert [entry.index for entry in machine.committed] == [1, 2]


def test_the_last_log_is_that_before_appending() -> None:
    machine = Machine(ABC, [1, 1])
    assert machine.append((2, 1), commands(3, [1, 1, 1])).last_log == 2


def test_success_waits_for_the_entries_to_be_durable() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    assert machine.append((1, 1), commands(2, [1])) is None
    # not even a message without entries may promise them
    assert machine.append((2, 1), []) is None
    machine.finish()
    assert [out.message.success for out in machine.sent] == [True, True]  # type: ignore[union-attr]


def test_heartbeats_are_answered_while_entries_are_being_written() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    machine.append((1, 1), commands(2, [1]))
    assert machine.told("b", heartbeat(1)).success


def test_contact_renews_the_election_time() -> None:
    machine = Machine(ABC, [1])
    for _ in range(20):
        machine.told("b", heartbeat(1))
        machine.wait(0.9)
    assert (machine.node.role, machine.node.leader_id) == ("Follower", "b")
    machine.wait(2.1)
    assert (machine.node.role, machine.node.leader_id) == ("Candidate", "")


def test_entries_out_of_sequence_are_not_taken() -> None:
    machine = Machine(ABC, [1])
    assert not machine.append((1, 1), commands(3, [1])).success
    assert machine.log == [(1, 1)]


# RequestVote


def vote(term: int, last: tuple[int, int], name: str = "b", transfer: bool = False) -> RequestVote:
    return RequestVote(term, f"{name}:1", last[0], last[1], transfer)


def test_a_vote_is_refused_while_another_leader_is_known_and_the_term_is_not_adopted() -> None:
    machine = Machine(ABC, [1])
    machine.told("c", heartbeat(1))
    assert not machine.told("b", vote(9, (9, 9))).granted
    assert (machine.node.term, machine.node.leader_id) == (1, "c")


def test_the_known_leader_itself_may_ask() -> None:
    machine = Machine(ABC, [1])
    machine.told("b", heartbeat(1))
    assert machine.told("b", vote(2, (1, 1))).granted


def test_a_transfer_overrules_the_known_leader() -> None:
    machine = Machine(ABC, [1])
    machine.told("c", heartbeat(1))
    assert machine.told("b", vote(2, (1, 1), transfer=True)).granted


def test_who_was_restarted_may_have_promised_not_to_vote() -> None:
    """A leader may count on it for the time of its lease, and answer reads without asking."""
    machine = Machine(ABC, [1], restarted=True)
    for source in "bc":
        assert not machine.told(source, pre(2, (1, 1), source)).granted
        assert not machine.told(source, vote(2, (1, 1), source)).granted
    assert machine.node.term == 1
    machine.now += machine.node.settings.lease_timeout
    assert machine.told("b", pre(2, (1, 1))).granted
    assert machine.told("b", vote(2, (1, 1))).granted


def test_who_was_restarted_may_vote_in_a_transfer_and_for_the_leader_that_it_hears() -> None:
    machine = Machine(ABC, [1], restarted=True)
    assert machine.told("c", vote(2, (1, 1), "c", transfer=True)).granted
    machine = Machine(ABC, [1], restarted=True)
    machine.told("c", heartbeat(1))
    assert machine.told("c", vote(2, (1, 1), "c")).granted


def test_in_a_new_cluster_nobody_has_promised_anything() -> None:
    machine = Machine(ABC, [], HardState(), restarted=True)
    assert machine.told("b", vote(2, (1, 1))).granted


def test_an_older_term_gets_no_vote() -> None:
    machine = Machine(ABC, [5])
    reply = machine.told("b", vote(4, (9, 4)))
    assert (reply.granted, reply.term) == (False, 5)


def test_a_newer_term_is_adopted_even_if_refused() -> None:
    machine = Machine(ABC, [5, 5])
    reply = machine.told("b", vote(6, (1, 5)))
    assert (reply.granted, reply.term, machine.disk.hard) == (False, 6, HardState(6, ""))


def test_one_vote_per_term_and_again_for_the_same() -> None:
    machine = Machine(ABC, [1])
    assert machine.told("b", vote(2, (1, 1))).granted
    assert not machine.told("c", vote(2, (9, 2), "c")).granted
    assert machine.told("b", vote(2, (1, 1))).granted


def test_the_vote_survives_a_restart() -> None:
    machine = Machine(ABC, [1], HardState(2, "b"))
    assert not machine.told("c", vote(2, (9, 2), "c")).granted
    assert machine.told("b", vote(2, (1, 1))).granted


@pytest.mark.parametrize(
    "last, granted", [((3, 2), True), ((4, 2), True), ((1, 3), True), ((2, 2), False), ((9, 1), False)]
)
def test_the_log_must_not_be_behind(last: tuple[int, int], granted: bool) -> None:
    machine = Machine(ABC, [1, 2, 2])
    assert machine.told("b", vote(7, last)).granted is granted


def test_a_vote_is_durable_before_it_is_given() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    assert machine.told("b", vote(2, (1, 1))) is None
    assert machine.writes[0].hard_state == HardState(2, "b")
    machine.finish()
    assert machine.sent[-1].message.granted  # type: ignore[union-attr]


def test_a_vote_whose_write_failed_was_not_given() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    machine.told("b", vote(2, (1, 1)))
    machine.fail()
    assert (machine.node.term, machine.node.vote, machine.sent) == (1, "", [])
    machine.writing = True
    assert machine.told("c", vote(2, (1, 1), "c")).granted


def test_granting_renews_the_election_time() -> None:
    machine = Machine(ABC, [1])
    machine.wait(0.9)
    machine.told("b", vote(2, (1, 1)))
    machine.wait(0.95)
    assert machine.node.role == "Follower"


def test_the_candidate_need_not_be_in_the_configuration() -> None:
    assert Machine(ABC, [1]).told("zz", vote(2, (1, 1), "zz")).granted


# Pre-vote (section 9)


def pre(term: int, last: tuple[int, int], name: str = "b") -> RequestPreVote:
    return RequestPreVote(term, f"{name}:1", last[0], last[1])


def test_a_pre_vote_stores_nothing() -> None:
    machine = Machine(ABC, [1])
    assert machine.told("b", pre(2, (1, 1))).granted
    assert machine.told("c", pre(2, (1, 1), "c")).granted
    assert (machine.disk.hard, machine.readies[-1].mark) == (HardState(1, ""), 0)


@pytest.mark.parametrize(
    "asked, name", [(pre(2, (1, 1), "z"), "z"), (pre(0, (1, 1)), "b"), (pre(2, (0, 0)), "b")]
)
def test_a_pre_vote_is_refused(asked: RequestPreVote, name: str) -> None:
    """To one who is no voter, to an older term, to a log that is behind."""
    assert not Machine(ABC, [1]).told(name, asked).granted


def test_one_whose_log_is_longer_may_be_a_voter_by_a_later_configuration() -> None:
    """A follower that was left behind must not keep the rest of the servers from having a leader."""
    assert Machine(ABC, [1]).told("z", pre(2, (2, 1), "z")).granted


def test_a_pre_vote_is_refused_while_another_leader_is_known() -> None:
    machine = Machine(ABC, [1])
    machine.told("c", heartbeat(1))
    assert not machine.told("b", pre(2, (1, 1))).granted
    assert machine.told("c", pre(2, (1, 1), "c")).granted


# InstallSnapshot


def install(term: int, index: int, last_term: int, version: int = 1) -> InstallSnapshot:
    data = servers("abcd").encode()
    return InstallSnapshot(term, "b:1", index, last_term, data, 3, snapshot_version=version)


def test_an_older_leaders_snapshot_is_refused() -> None:
    machine = Machine(ABC, [3])
    reply = machine.told("b", install(2, 9, 2))
    assert (reply.success, reply.term) == (False, 3)


def test_an_unknown_snapshot_version_is_refused() -> None:
    assert not Machine(ABC, [1]).told("b", install(1, 9, 1, version=2)).success


def test_a_snapshot_is_restored_then_answered() -> None:
    machine = Machine(ABC, [1, 1])
    request = install(4, 9, 3)
    assert machine.told("b", request) is None
    assert machine.readies[0].install is request or any(r.install is request for r in machine.readies)
    assert not machine.append((9, 3), commands(10, [4]), term=4).success  # the log is about to be replaced
    again = install(4, 9, 3)
    assert not machine.told("b", again).success  # one at a time
    machine.wait(5)
    assert machine.node.role == "Follower"  # no election while the disk works
    machine.node.installed(True, machine.now)
    machine.settle()
    node = machine.node
    assert (node.applied, node.commit, node.log.last, node.log.last_term) == (9, 9, 9, 3)
    assert (node.configurations.latest, node.configurations.latest_index) == (servers("abcd"), 3)
    assert machine.sent[-1].message.success  # type: ignore[union-attr]
    assert machine.append((9, 3), commands(10, [4])).success


def test_a_snapshot_that_could_not_be_stored_is_refused() -> None:
    machine = Machine(ABC, [1, 1])
    machine.told("b", install(4, 9, 3))
    machine.node.installed(False, machine.now)
    machine.settle()
    assert not machine.sent[-1].message.success  # type: ignore[union-attr]
    assert machine.log == [(1, 1), (2, 1)]


def test_a_snapshot_of_what_the_log_has_keeps_the_log() -> None:
    """Entries behind it may have been confirmed to the leader, which counts on them."""
    machine = Machine(ABC, [1, 1, 1])
    assert machine.told("b", install(1, 2, 1)).success
    assert machine.log == [(1, 1), (2, 1), (3, 1)]
    assert machine.node.commit == 2


# TimeoutNow and elections


def test_timeout_now_starts_an_election_with_the_transfer_flag() -> None:
    machine = Machine(ABC, [1])
    machine.told("b", heartbeat(1))
    machine.told("b", TimeoutNow())
    asked = machine.take(RequestVote)
    assert [(to, m.term, m.transfer) for to, m in asked] == [("b", 2, True), ("c", 2, True)]
    assert machine.node.leader_id == ""


@pytest.mark.parametrize("conf", [servers("bc"), servers("bc", "a"), servers("")])
def test_who_has_no_vote_starts_no_elections(conf: Any) -> None:
    machine = Machine(conf, [1])
    machine.wait(60)
    assert (machine.node.role, machine.node.term, machine.sent) == ("Follower", 1, [])
    machine.told("b", TimeoutNow())
    assert machine.take(RequestVote) == []


def test_a_server_outside_needs_no_timer() -> None:
    assert Machine(servers("")).node.deadline() is None


def test_a_failed_write_of_entries_is_taken_back() -> None:
    machine = Machine(ABC, [1])
    machine.writing = False
    machine.append((1, 1), commands(2, [1]))
    machine.fail()
    assert machine.log == [(1, 1)]
    machine.writing = True
    assert machine.append((1, 1), commands(2, [1])).success


def test_a_write_that_was_overtaken_by_a_truncation_proves_nothing() -> None:
    """1. entry 2 of term 1 is being written; 2. a new leader drops it and sends its own; 3. that is
    dropped again and entry 2 of term 1 comes back; 4. the first write ends: entry 2 is not durable."""
    machine = Machine(ABC, [1])
    machine.writing = False
    machine.append((1, 1), commands(2, [1]))
    first = machine.writes[0].mark
    machine.append((1, 1), commands(2, [2]), term=2)
    machine.append((1, 1), commands(2, [1]), term=3)
    machine.node.persisted(first, machine.now)
    assert machine.node.durable == 1
    machine.finish()
    assert machine.node.durable == 2


def test_committed_entries_are_never_dropped() -> None:
    machine = Machine(ABC, [1, 1])
    machine.append((2, 1), [], commit=2)
    with pytest.raises(AssertionError, match="asked to drop committed entry 2"):
        machine.append((1, 1), commands(2, [2]), term=2)
