"""Elections, and one test per sentence of protocols/raft.md section 5 and of its timing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from core.errors import CtlError, Invalid, NoLeader, Unavailable
from core.raft.messages import (
    BARRIER,
    NOOP,
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    Unreachable,
    VoteReply,
)
from core.raft.ready import HardState
from tests.core.raft.raft_fixture import SETTINGS, Machine, configuration_entry, servers

ABC = servers("abc")


def elected(machine: Machine, voters: str = "bc") -> Machine:
    """Let the machine win an election with the votes of `voters`."""
    machine.wait(2.1)
    if machine.node.settings.prevote:
        for to, request in machine.take(RequestPreVote):
            if to in voters:
                machine.told(to, PreVoteReply(request.term - 1, True, request=request))
    for to, request in machine.take(RequestVote):
        if to in voters:
            machine.told(to, VoteReply(request.term, True, request=request))
    assert machine.node.leader is not None
    return machine


def entries_sent(machine: Machine) -> list[tuple[str, AppendEntries]]:
    return [(to, m) for to, m in machine.take(AppendEntries) if m.sequence]


def confirm(machine: Machine, names: str = "bc") -> None:
    """The followers take everything that they are sent."""
    while sent := [out for out in machine.sent if out.to in names and isinstance(out.message, AppendEntries)]:
        machine.sent = [out for out in machine.sent if out not in sent]
        for out in sent:
            request = out.message
            assert isinstance(request, AppendEntries)
            machine.told(out.to, AppendReply(request.term, 0, True, request=request))


def leader(conf: Any = ABC, terms: list[int] | None = None) -> Machine:
    machine = elected(Machine(conf, terms or [1]))
    confirm(machine)
    return machine


# Elections


def test_the_pre_vote_asks_with_the_next_term_and_stores_nothing() -> None:
    machine = Machine(ABC, [1, 3])
    machine.wait(2.1)
    asked = machine.take(RequestPreVote)
    assert {(to, m.term, m.last_index, m.last_term) for to, m in asked} >= {("b", 4, 2, 3), ("c", 4, 2, 3)}
    assert (machine.node.term, machine.disk.hard) == (3, HardState(3, ""))


def test_without_a_majority_of_pre_votes_the_term_stays() -> None:
    machine = Machine(servers("abcde"), [1])
    machine.wait(2.1)
    for to, request in machine.take(RequestPreVote):
        machine.told(to, PreVoteReply(1, to == "b", request=request))
    assert machine.take(RequestVote) == []
    machine.wait(30)
    assert machine.node.term == 1


def test_a_higher_term_in_an_answer_is_adopted() -> None:
    machine = Machine(ABC, [1])
    machine.wait(2.1)
    to, request = machine.take(RequestPreVote)[0]
    machine.told(to, PreVoteReply(8, False, request=request))
    assert (machine.node.role, machine.node.term) == ("Follower", 8)


def test_the_own_vote_is_durable_before_votes_are_asked_for() -> None:
    machine = Machine(ABC, [1], settings=structs.replace(SETTINGS, prevote=False))
    machine.writing = False
    machine.wait(2.1)
    assert machine.take(RequestVote) == []
    assert machine.writes[0].hard_state == HardState(2, "a")
    machine.finish()
    assert {to for to, _ in machine.take(RequestVote)} == {"b", "c"}


def test_a_majority_wins_and_the_first_entry_is_a_noop() -> None:
    machine = elected(Machine(ABC, [1]), "b")
    assert machine.node.role == "Leader"
    sent = dict(entries_sent(machine))
    assert [(e.index, e.term, e.type) for e in sent["c"].entries or []] == [(2, 2, NOOP)]
    assert (sent["c"].prev_index, sent["c"].prev_term, sent["c"].leader) == (1, 1, "a:1")


def test_a_split_vote_is_tried_again_after_1x_to_2x_the_time_out() -> None:
    machine = Machine(ABC, [1], settings=structs.replace(SETTINGS, prevote=False))
    machine.wait(2.1)
    machine.take(RequestVote)
    terms: list[float] = []
    for _ in range(20):
        start = machine.now
        while machine.node.term == len(terms) + 2:
            machine.wait(0.05)
        terms.append(machine.now - start)
    terms = terms[1:]  # the first attempt began before the clock was read
    assert min(terms) > 0.5 and max(terms) < 1.3 and max(terms) - min(terms) > 0.2


def test_answers_of_an_older_attempt_do_not_count() -> None:
    machine = Machine(ABC, [1], settings=structs.replace(SETTINGS, prevote=False))
    machine.wait(2.1)
    old = machine.take(RequestVote)
    machine.wait(2.1)
    for to, request in old:
        machine.told(to, VoteReply(request.term, True, request=request))
    assert machine.node.leader is None


def test_nonvoters_do_not_count() -> None:
    machine = Machine(servers("abc", "de"), [1])
    machine.wait(2.1)
    assert {to for to, _ in machine.take(RequestPreVote)} == {"b", "c"}


def test_a_sole_voter_campaigns_at_once_in_one_write() -> None:
    machine = Machine(servers("a"), [1])
    assert machine.node.deadline() == machine.now
    machine.node.tick(machine.now)
    machine.settle()
    assert machine.node.role == "Leader" and machine.node.deadline() is None
    (ready,) = [ready for ready in machine.readies if ready.mark]
    assert ready.hard_state == HardState(2, "a") and [e.type for e in ready.entries] == [NOOP]
    assert machine.node.applied == 2


def test_a_sole_voter_whose_write_fails_tries_again_soon() -> None:
    machine = Machine(servers("a"), [1])
    machine.writing = False
    machine.wait(0)
    machine.fail()
    assert (machine.node.role, machine.node.term, machine.log) == ("Follower", 1, [(1, 1)])
    machine.writing = True
    machine.wait(0.3)
    assert machine.node.role == "Leader"


# Replication and commit


def test_own_entries_count_only_when_durable() -> None:
    machine = leader()
    machine.writing = False
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    sent = entries_sent(machine)
    assert {to for to, _ in sent} == {"b", "c"}  # they travel while the own write runs
    to, request = sent[0]
    machine.told(to, AppendReply(2, 0, True, request=request))
    assert machine.node.commit == 2
    machine.finish()
    assert machine.node.commit == 3
    assert machine.committed[-1].data == b"x"


def test_a_majority_of_followers_commits_and_the_leader_applies_when_durable() -> None:
    machine = leader()
    machine.writing = False
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    for to, request in entries_sent(machine):
        machine.told(to, AppendReply(2, 0, True, request=request))
    assert (machine.node.commit, machine.committed[-1].index) == (3, 2)
    machine.finish()
    assert machine.committed[-1].data == b"x"


def test_entries_of_old_terms_are_not_committed_by_count() -> None:
    """Figure 8 of the paper: entry 2 of term 2 is on a majority, but no entry of term 4 is."""
    machine = elected(Machine(ABC, [1, 2], settings=structs.replace(SETTINGS, max_entries=1)), "b")
    (request,) = [m for to, m in entries_sent(machine) if to == "b"]
    machine.told("b", AppendReply(3, 1, False, True, request=structs.replace(request)))
    (request,) = [m for to, m in entries_sent(machine) if to == "b"]
    assert [e.index for e in request.entries or []] == [2]
    machine.told("b", AppendReply(3, 1, True, request=request))
    assert machine.node.commit == 0
    (request,) = [m for to, m in entries_sent(machine) if to == "b"]
    assert [(e.index, e.type) for e in request.entries or []] == [(3, NOOP)]
    machine.told("b", AppendReply(3, 2, True, request=request))
    assert machine.node.commit == 3
    assert [entry.index for entry in machine.committed] == [1, 2, 3]


def test_one_turns_proposals_travel_together() -> None:
    machine = leader()
    for number in range(5):
        machine.node.propose(Entry(data=b"%d" % number))
    machine.settle()
    assert [len(m.entries or []) for _, m in entries_sent(machine)] == [5, 5]


def test_at_most_64_entries_per_message() -> None:
    machine = leader()
    for number in range(150):
        machine.node.propose(Entry(data=b"%d" % number))
    machine.settle()
    assert [len(m.entries or []) for to, m in entries_sent(machine) if to == "b"] == [64, 64, 22]


def test_a_refusal_steps_back_to_what_the_follower_has() -> None:
    machine = elected(Machine(ABC, [1] * 10))
    (request,) = [m for to, m in entries_sent(machine) if to == "b"]
    assert request.prev_index == 10
    for last_log, expected in ((4, 4), (9, 3), (0, 0)):
        machine.told("b", AppendReply(2, last_log, False, True, request=request))
        (request,) = entries_sent(machine)[0][1:]
        assert request.prev_index == expected


def test_a_refusal_that_was_overtaken_is_ignored() -> None:
    machine = elected(Machine(ABC, [1] * 10))
    (old,) = [m for to, m in entries_sent(machine) if to == "b"]
    machine.told("b", AppendReply(2, 4, False, True, request=old))
    (probe,) = [m for to, m in entries_sent(machine) if to == "b"]
    machine.told("b", AppendReply(2, 4, True, request=probe))
    entries_sent(machine)
    machine.told("b", AppendReply(2, 2, False, True, request=old))
    assert entries_sent(machine) == []


def test_a_follower_that_lost_its_disk_is_filled_again() -> None:
    machine = leader()
    machine.told("b", Unreachable(last_request(machine, "b")))
    machine.wait(0.1)
    probe = [m for to, m in entries_sent(machine) if to == "b"][-1]
    assert probe.prev_index == 2
    machine.told("b", AppendReply(2, 0, False, True, request=probe))
    sent = [m for to, m in entries_sent(machine) if to == "b"]
    assert sent[-1].prev_index == 0


def last_request(machine: Machine, name: str) -> AppendEntries:
    """Something new for everyone; gives the message to `name`."""
    machine.node.propose(Entry(data=b"new"))
    machine.settle()
    return [m for to, m in entries_sent(machine) if to == name][-1]


def test_failed_calls_back_off_doubling() -> None:
    machine = leader()
    request = last_request(machine, "b")
    pauses = []
    for _ in range(5):
        machine.told("b", Unreachable(request))
        start = machine.now
        sent: list[AppendEntries] = []
        while not sent:
            machine.wait(0.001)
            sent = [m for to, m in entries_sent(machine) if to == "b"]
        request = sent[-1]
        pauses.append(machine.now - start)
    assert pauses == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16], abs=0.003)


def test_idle_followers_hear_of_a_commit_within_twice_the_commit_time_out() -> None:
    machine = leader()
    request = last_request(machine, "b")
    machine.told("b", AppendReply(2, 0, True, request=request))
    assert machine.node.commit == 3
    machine.wait(0.1)
    (news,) = [m for to, m in entries_sent(machine) if to == "b"]
    assert (news.commit, news.entries, news.prev_index) == (3, [], 3)
    machine.told("b", AppendReply(2, 3, True, request=news))
    machine.wait(0.2)
    assert [m for to, m in entries_sent(machine) if to == "b"] == []


def test_heartbeats_come_every_1x_to_2x_the_interval_and_say_nothing_else() -> None:
    machine = leader()
    seen = []
    for _ in range(400):
        machine.wait(0.005)
        for to, m in machine.take(AppendEntries):
            if to == "b" and not m.sequence:
                assert (m.entries, m.prev_index, m.prev_term, m.commit) == (None, 0, 0, 0)
                seen.append(machine.now)
            machine.told(to, AppendReply(2, 2, True, request=m))
    gaps = [b - a for a, b in pairwise(seen)]
    assert min(gaps) > 0.09 and max(gaps) < 0.21


def test_a_follower_behind_the_log_gets_the_snapshot() -> None:
    machine = elected(Machine(ABC, [2, 2], base=(7, 2)))
    machine.node.snapshot_handle = "state"
    (request,) = [m for to, m in entries_sent(machine) if to == "b"]
    machine.told("b", AppendReply(3, 3, False, True, request=request))
    ((to, snapshot),) = machine.take(InstallSnapshot)
    assert (to, snapshot.last_index, snapshot.last_term, snapshot.handle) == ("b", 7, 2, "state")
    assert snapshot.configuration == ABC.encode() and snapshot.peers == ABC.encode_peers()
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    assert [to for to, _ in entries_sent(machine)] == []  # c is being probed, b installs
    machine.told("b", InstallReply(3, True, request=snapshot))
    (follow,) = [m for to, m in entries_sent(machine) if to == "b"]
    assert (follow.prev_index, len(follow.entries or [])) == (7, 4)


def test_a_snapshot_without_answer_is_sent_again() -> None:
    machine = elected(Machine(servers("abcd"), [2, 2], base=(7, 2)))
    (request,) = [m for to, m in entries_sent(machine) if to == "d"]
    machine.told("d", AppendReply(3, 3, False, True, request=request))
    assert len(machine.take(InstallSnapshot)) == 1
    for _ in range(110):
        machine.wait(0.1)
        confirm(machine)
    assert [to for to, _ in machine.take(InstallSnapshot)] == ["d"]


# Lease and stepping down


def test_without_a_quorum_within_the_lease_the_leader_steps_down() -> None:
    machine = leader()
    machine.wait(0.85)
    assert machine.node.role == "Leader"
    machine.wait(0.1)
    assert (machine.node.role, machine.node.leader_id, machine.node.term) == ("Follower", "", 2)


def test_one_follower_of_two_is_enough_for_the_lease() -> None:
    machine = leader()
    for _ in range(100):
        machine.wait(0.05)
        confirm(machine, "b")
    assert machine.node.role == "Leader"


def test_a_newer_term_in_an_answer_ends_the_leadership() -> None:
    machine = leader()
    request = last_request(machine, "b")
    machine.told("b", AppendReply(9, 0, False, request=request))
    assert (machine.node.role, machine.node.term) == ("Follower", 9)


def test_a_leader_whose_disk_stalls_steps_down() -> None:
    machine = leader()
    machine.writing = False
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    for _ in range(45):
        machine.wait(0.05)
        confirm(machine)
    assert [to for to, _ in machine.take(TimeoutNow)] in (["b"], ["c"])  # it need not wait for a time-out
    assert machine.node.gave_up
    assert machine.node.role == "Follower"


def test_a_leader_that_cannot_write_steps_down_and_forgets_it() -> None:
    machine = leader()
    machine.writing = False
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    machine.fail()
    assert (machine.node.role, machine.log[-1]) == ("Follower", (2, 2))


def test_a_server_alone_that_cannot_write_stays_leader() -> None:
    machine = Machine(servers("a"), [1])
    machine.wait(0)
    machine.writing = False
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    machine.fail()
    assert (machine.node.role, machine.log[-1]) == ("Leader", (2, 2))
    machine.writing = True
    assert machine.node.propose(Entry(data=b"y")) == 3
    machine.settle()
    assert machine.committed[-1].data == b"y"
    assert machine.readies[-2].truncate == 3


# Verified reads


def test_a_read_is_verified_by_a_majority_that_answers_later_heartbeats() -> None:
    machine = leader()
    machine.wait(0.3)
    earlier = machine.take(AppendEntries)
    machine.node.verify("r1", machine.now)
    machine.node.verify("r2", machine.now)
    machine.settle()
    later = machine.take(AppendEntries)
    assert sorted(to for to, _ in later) == ["b", "c"]  # one round for both
    for to, request in earlier:
        machine.told(to, AppendReply(2, 2, True, request=request))
    assert machine.verified == []
    machine.told("b", AppendReply(2, 2, True, request=later[0][1]))
    assert machine.verified == [("r1", True), ("r2", True)]


def test_a_read_is_refused_when_the_leadership_ends_or_never_was() -> None:
    machine = leader()
    machine.node.verify("r", machine.now)
    machine.wait(1)
    assert machine.verified == [("r", False)]
    machine.node.verify("s", machine.now)
    machine.settle()
    assert machine.verified[-1] == ("s", False)


def test_nonvoters_verify_nothing() -> None:
    machine = leader(servers("abc", "d"))
    machine.node.verify("r", machine.now)
    machine.settle()
    confirm(machine, "d")
    assert machine.verified == []


def test_alone_a_read_is_verified_at_once() -> None:
    machine = Machine(servers("a"), [1])
    machine.wait(0)
    machine.node.verify("r", machine.now)
    machine.settle()
    assert machine.verified == [("r", True)]


# Proposals, barriers, transfer


def test_followers_take_no_proposals() -> None:
    machine = Machine(ABC, [1])
    with pytest.raises(NoLeader):
        machine.node.propose(Entry(data=b"x"))
    with pytest.raises(NoLeader):
        machine.node.change(servers("abcd"), machine.now)
    with pytest.raises(NoLeader):
        machine.node.transfer("b", machine.now)


def test_a_barrier_is_an_entry_that_is_handed_out_when_committed() -> None:
    machine = leader()
    index = machine.node.propose(Entry(type=BARRIER))
    machine.settle()
    confirm(machine)
    assert (machine.committed[-1].index, machine.committed[-1].type) == (index, BARRIER)


def test_a_transfer_brings_the_target_up_to_date_first_and_takes_no_proposals() -> None:
    machine = leader()
    request = last_request(machine, "c")
    assert machine.node.transfer("c", machine.now) == "c"
    machine.settle()
    assert machine.take(TimeoutNow) == []
    with pytest.raises(NoLeader, match="No cluster leader: leadership transfer in progress"):
        machine.node.propose(Entry(data=b"y"))  # what agents of Consul's kind try again
    machine.told("c", AppendReply(2, 2, True, request=request))
    assert [to for to, _ in machine.take(TimeoutNow)] == ["c"]
    machine.told("c", RequestVote(3, "c:1", 3, 2, transfer=True))
    assert machine.node.role == "Follower"


def test_a_transfer_that_leads_nowhere_is_given_up() -> None:
    machine = leader()
    machine.node.transfer("", machine.now)
    machine.settle()
    for _ in range(25):
        machine.wait(0.05)
        confirm(machine)
    assert machine.node.propose(Entry(data=b"x")) == 3


@pytest.mark.parametrize("target, error", [("a", Invalid), ("d", Invalid), ("zz", Invalid)])
def test_a_transfer_needs_another_voter(target: str, error: type[CtlError]) -> None:
    machine = leader(servers("abc", "d"))
    with pytest.raises(error):
        machine.node.transfer(target, machine.now)


# Configuration changes


def test_one_change_at_a_time() -> None:
    machine = leader()
    machine.node.change(servers("abcd"), machine.now)
    machine.settle()
    with pytest.raises(Unavailable, match="already under way"):
        machine.node.change(servers("abcde"), machine.now)
    confirm(machine, "bcd")
    machine.node.change(servers("abcde"), machine.now)


def test_no_change_before_the_first_entry_of_the_term_is_committed() -> None:
    machine = elected(Machine(ABC, [1]))
    with pytest.raises(Unavailable, match="has not committed"):
        machine.node.change(servers("abcd"), machine.now)


def test_a_change_counts_at_once_for_the_majority() -> None:
    machine = leader()
    machine.node.change(servers("abcd"), machine.now)
    machine.settle()
    confirm(machine, "b")
    assert machine.node.commit == 2  # a and b are no majority of four
    confirm(machine, "b")
    machine.node.propose(Entry(data=b"x"))
    machine.settle()
    confirm(machine, "bd")
    assert machine.node.commit == 4


def test_a_promoted_nonvoter_counts() -> None:
    machine = leader(servers("ab", "c"))
    machine.node.change(servers("abc"), machine.now)
    machine.settle()
    confirm(machine, "c")
    assert machine.node.commit == 3


def test_a_leader_that_removed_itself_steps_down_once_committed() -> None:
    machine = leader()
    machine.node.change(ABC.without("a"), machine.now)
    machine.settle()
    assert machine.node.role == "Leader"
    confirm(machine, "b")
    assert machine.node.role == "Leader"  # its own copy does not count: b alone is no majority of b, c
    for _ in range(3):
        machine.wait(0.3)
        for to, request in machine.take(AppendEntries):
            machine.told(to, AppendReply(2, 0, True, request=request))
    assert machine.node.role == "Follower"
    machine.wait(30)
    assert machine.node.role == "Follower"


def test_an_inherited_change_is_committed_by_the_new_leader() -> None:
    machine = Machine(ABC, [1])
    machine.append((1, 1), [configuration_entry(2, 1, servers("abcd"))])
    assert not machine.node.configurations.is_stable
    elected(machine, "bc")
    confirm(machine, "bcd")
    assert machine.node.configurations.is_stable
    assert machine.node.configurations.committed == servers("abcd")


def test_commit_agrees_with_a_naive_count() -> None:
    """The quick way to find the majority's index against the definition, for all small cases."""
    for size in range(1, 6):
        names = "abcde"[:size]
        for number in range(3 ** (size - 1)):
            machine = Machine(servers(names), [1])
            if size == 1:
                machine.wait(0)
            else:
                elected(machine, names[1:])
            node = machine.node
            assert node.leader is not None
            for _ in range(2):
                node.propose(Entry(data=b"x"))
            machine.settle()
            matches, rest = [node.log.last], number
            for name in names[1:]:
                matches.append(1 + rest % 3 + (rest % 3 == 2))
                node.leader.peers[name].match = matches[-1]
                rest //= 3
            node.commit = 0
            node.leader.advance_commit(machine.now)
            agreed = [i for i in range(5) if sum(m >= i for m in matches) > size / 2]
            assert node.commit == (max(agreed) if max(agreed) >= 2 else 0)


def test_committed_entries_are_handed_out_in_slices() -> None:
    settings = structs.replace(SETTINGS, max_apply=10)
    machine = Machine(servers("a"), [1] * 35, settings=settings)
    machine.wait(0)
    assert [len(r.committed) for r in machine.readies if r.committed] == [10, 10, 10, 6]
    assert [entry.index for entry in machine.committed] == list(range(1, 37))


def test_an_idle_follower_hears_the_commit_index_again_and_again() -> None:
    """One that was restarted forgot it, and nothing else would tell it before the next write."""
    machine = leader()
    confirm(machine)
    for _ in range(20):
        machine.wait(0.05)
        sent = entries_sent(machine)
        if sent:
            break
        confirm(machine)
    assert all((m.commit, m.entries, m.prev_index) == (machine.node.commit, [], 2) for _, m in sent)
    assert {to for to, _ in sent} <= {"b", "c"} and sent


def test_nothing_is_proposed_while_the_state_is_replaced_from_outside() -> None:
    machine = leader()
    request = machine.node.hold(50, machine.now)
    assert (request.last_index, request.last_term) == (51, 2)
    for attempt in (
        lambda: machine.node.propose(Entry(data=b"x")),
        lambda: machine.node.change(ABC, machine.now),
        lambda: machine.node.hold(0, machine.now),
    ):
        with pytest.raises(Unavailable, match="restored"):
            attempt()
    machine.node.installed(True, machine.now, "handle")
    machine.settle()
    assert (machine.node.log.base, machine.node.commit, machine.node.log.last) == (51, 51, 51)
    confirm_refusals(machine)
    sent = machine.take(InstallSnapshot)
    assert {(to, m.last_index, m.handle) for to, m in sent} == {("b", 51, "handle"), ("c", 51, "handle")}
    for to, message in sent:
        machine.told(to, InstallReply(2, True, request=message))
    assert machine.node.propose(Entry(data=b"y")) == 52
    machine.settle()
    confirm(machine)
    assert machine.committed[-1].data == b"y"


def confirm_refusals(machine: Machine) -> None:
    """The followers lack what they are asked for: their logs end at entry 2."""
    for to, request in entries_sent(machine):
        machine.told(to, AppendReply(request.term, 2, False, True, request=request))


def test_a_restore_that_failed_leaves_the_leader_as_it_was() -> None:
    machine = leader()
    machine.node.hold(0, machine.now)
    machine.node.installed(False, machine.now)
    machine.settle()
    assert machine.node.propose(Entry(data=b"x")) == 3
