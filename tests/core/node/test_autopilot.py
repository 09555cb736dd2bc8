"""Autopilot on pretend time: who is healthy, who gets a vote and when, which dead servers go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.codec.duration import MILLISECOND, SECOND
from core.gossip.member import ALIVE, FAILED, LEFT, Member
from core.node.autopilot import (
    DEFAULTS,
    HEALTH_INTERVAL,
    Autopilot,
    AutopilotStep,
    ForceLeave,
    Health,
    Promote,
    RaftStats,
    RemoveStale,
)
from core.raft.configuration import NONVOTER, VOTER, Configuration, Server
from core.store.structs import AutopilotConfig
from tests.core.node.cluster_kit import server

WALL = 1_700_000_000.0


class World:
    """Some servers, their Raft, and an autopilot that looks every two seconds."""

    def __init__(self, voters: int, config: AutopilotConfig = DEFAULTS) -> None:
        self.now = 1000.0
        self.config = config
        self.members: dict[str, Member] = {}
        self.stats: dict[str, RaftStats] = {}
        self.raft = Configuration()
        for number in range(1, voters + 1):
            self.join(f"s{number}", VOTER)
        self.stats["id-s1"] = RaftStats("0", 3, 1000)
        self.autopilot = Autopilot("id-s1", self.now, 0.2)
        self.did: list[AutopilotStep] = []

    def join(self, name: str, suffrage: int | None = NONVOTER, **tags: str) -> None:
        address = f"10.0.0.{name.lstrip('s')}"
        self.members[name] = server(name, ALIVE, address, self.now, **tags)
        self.stats[f"id-{name}"] = RaftStats("50ms", 3, 1000)
        if suffrage is not None:
            one = Server(f"id-{name}", f"{address}:8300", suffrage)
            self.raft = Configuration((*self.raft.servers, one))

    def fail(self, *names: str, status: int = FAILED) -> None:
        for name in names:
            self.members[name] = replace(self.members[name], status=status, since=self.now)
            self.stats.pop(f"id-{name}", None)

    def forget(self, name: str) -> None:
        del self.members[name]
        self.stats.pop(f"id-{name}", None)

    def look(self) -> Health:
        members = list(self.members.values())
        return self.autopilot.observe(self.now, WALL + self.now, self.config, members, self.raft, self.stats)

    def step(self) -> list[AutopilotStep]:
        """One round, its steps carried out."""
        self.look()
        steps = self.autopilot.decide(self.now, self.config, list(self.members.values()), self.raft)
        for step in steps:
            if isinstance(step, Promote):
                known = self.raft.get(step.id)
                assert known is not None
                self.raft = self.raft.with_voter(step.id, known.address)
            elif isinstance(step, RemoveStale):
                self.raft = self.raft.without(step.id)
            else:
                self.fail(step.name, status=LEFT)
                self.raft = self.raft.without(f"id-{step.name}")  # as the leader does when a server left
        self.did += steps
        return steps

    def run(self, seconds: float) -> list[str]:
        """Look for so long. What was done, with the seconds that it took."""
        start, out = self.now, []
        while self.now < start + seconds:
            out += [f"{self.now - start:.0f} {shown(step)}" for step in self.step()]
            self.now += HEALTH_INTERVAL
        return out


def shown(step: AutopilotStep) -> str:
    if isinstance(step, ForceLeave):
        return f"leave {step.name}"
    return f"{'promote' if isinstance(step, Promote) else 'remove'} {step.id.removeprefix('id-')}"


# Health


def test_three_healthy_servers() -> None:
    world = World(3)
    health = world.look()
    assert health.healthy and health.failure_tolerance == 1
    assert health.leader == "id-s1" and health.voters == ("id-s1", "id-s2", "id-s3")
    assert [(row.name, row.leader, row.voter, row.last_contact) for row in health.servers] == [
        ("s1", True, True, 0),
        ("s2", False, True, 50 * MILLISECOND),
        ("s3", False, True, 50 * MILLISECOND),
    ]
    row = health.servers[1]
    assert (row.address, row.version, row.last_term, row.last_index, row.status) == (
        *("10.0.0.2:8300", "1.9.8", 3, 1000, ALIVE),
    )
    assert row.stable_since == WALL + 1000.0


@pytest.mark.parametrize(
    ("stats", "healthy"),
    [
        (RaftStats("0", 3, 1000), True),
        (RaftStats("399ms", 3, 1000), True),  # the threshold, from the last heartbeat that is due on
        (RaftStats("401ms", 3, 1000), False),
        (RaftStats("2m3s", 3, 1000), False),
        (RaftStats("never", 3, 1000), False),
        (RaftStats("", 3, 1000), False),
        (RaftStats("nonsense", 3, 1000), False),
        (RaftStats("1ms", 2, 1000), False),
        (RaftStats("1ms", 3, 750), True),
        (RaftStats("1ms", 3, 749), False),
        (RaftStats("1ms", 3, 2000), True),  # it was asked a moment later than the leader
    ],
)
def test_what_makes_a_server_unhealthy(stats: RaftStats, healthy: bool) -> None:
    world = World(3)
    world.stats["id-s2"] = stats
    health = world.look()
    assert health.healthy is healthy
    assert [row.healthy for row in health.servers] == [True, healthy, True]
    assert health.failure_tolerance == (1 if healthy else 0)


def test_a_server_that_does_not_answer_or_is_no_member_is_unhealthy() -> None:
    world = World(3)
    del world.stats["id-s2"]
    assert not world.look().healthy
    world = World(3)
    world.forget("s3")
    health = world.look()
    assert not health.healthy
    assert (health.servers[2].id, health.servers[2].name, health.servers[2].status) == ("id-s3", "", 0)


def test_the_limits_are_those_of_the_configuration() -> None:
    world = World(3, replace(DEFAULTS, last_contact_threshold=2 * SECOND, max_trailing_logs=10))
    world.stats["id-s2"] = RaftStats("2.1s", 3, 990)
    assert world.look().healthy
    world.stats["id-s2"] = RaftStats("2.1s", 3, 989)
    assert not world.look().healthy


def test_stable_since_moves_with_every_change() -> None:
    world = World(3)
    world.run(10)
    assert world.look().servers[1].stable_since == WALL + 1000.0
    world.fail("s2")
    assert world.look().servers[1].stable_since == WALL + 1010.0
    world.now += 2
    assert world.look().servers[1].stable_since == WALL + 1010.0
    world.join("s2", None)
    assert world.look().servers[1].stable_since == WALL + 1012.0


def test_without_a_quorum_to_spare_nothing_is_tolerated() -> None:
    world = World(4)
    assert world.look().failure_tolerance == 1
    world.fail("s4")
    assert world.look().failure_tolerance == 0
    world.fail("s3")
    assert world.look().failure_tolerance == 0


# Votes


def test_a_new_leader_gives_votes_at_once() -> None:
    world = World(1)
    world.join("s2")
    assert world.run(4) == ["0 promote s2"]


def test_later_a_server_must_have_been_stable() -> None:
    world = World(3)
    world.run(20)
    world.join("s4")
    assert world.run(30) == ["10 promote s4"]
    assert world.raft.votes("id-s4")


def test_a_server_that_falters_waits_again() -> None:
    world = World(3)
    world.run(20)
    world.join("s4")
    world.run(8)
    world.stats["id-s4"] = RaftStats("3s", 3, 1000)
    assert world.run(4) == []
    world.stats["id-s4"] = RaftStats("3ms", 3, 1000)
    assert world.run(30) == ["10 promote s4"]


def test_read_replicas_get_no_vote() -> None:
    world = World(3)
    world.join("s4", read_replica="1")
    world.join("s5", nonvoter="1")
    world.join("s6", None)  # not in Raft yet
    assert world.run(60) == []
    assert [row.read_replica for row in world.look().servers] == [False, False, False, True, True, False]


# Dead servers


def test_a_failed_server_is_removed_once_it_had_time_to_come_back() -> None:
    world = World(3)
    world.run(20)
    world.fail("s3")
    done = world.run(60)
    assert len(done) == 1 and done[0].endswith(" leave s3")
    assert 10 <= float(done[0].split()[0]) <= 20
    assert world.look().healthy


def test_a_server_that_restarts_in_time_stays() -> None:
    world = World(3)
    world.run(20)
    for _ in range(20):
        world.fail("s3")
        assert world.run(8) == []
        world.join("s3", None)
        assert world.run(8) == []


def test_a_server_that_gossip_does_not_know_is_removed_later() -> None:
    """A new leader may see its gossip members a moment after its Raft followers."""
    world = World(3)
    world.forget("s3")
    assert world.run(8) == []
    world.join("s3", None)
    assert world.run(30) == []
    world.forget("s3")
    (done,) = world.run(60)
    assert done.endswith("remove s3") and 10 <= float(done.split()[0]) <= 20


def test_never_a_majority_in_one_round_and_never_the_last_quorum() -> None:
    world = World(5)
    world.run(20)
    world.fail("s3", "s4", "s5")
    assert world.run(120) == []  # two of five: nothing could be written now
    world = World(5)
    world.run(20)
    world.fail("s4", "s5")
    assert [line.split(maxsplit=1)[1] for line in world.run(120)] == ["leave s4", "leave s5"]
    world.fail("s3")
    world.run(4)
    assert len(world.raft.voters) == 3


def test_min_quorum_is_a_floor() -> None:
    world = World(5, replace(DEFAULTS, min_quorum=4))
    world.run(20)
    world.fail("s4", "s5")
    assert [line.split(maxsplit=1)[1] for line in world.run(120)] == ["leave s4"]
    world = World(3, replace(DEFAULTS, min_quorum=3))
    world.run(20)
    world.fail("s3")
    assert world.run(120) == []
    world.join("s4")
    world.run(120)
    assert sorted(world.raft.voters) == ["id-s1", "id-s2", "id-s4"]


def test_cleanup_can_be_switched_off() -> None:
    world = World(3, replace(DEFAULTS, cleanup_dead_servers=False))
    world.run(20)
    world.fail("s3")
    assert world.run(120) == []


def test_dead_servers_without_a_vote_count_for_nothing() -> None:
    world = World(3)
    for name in ("s4", "s5", "s6"):
        world.join(name, read_replica="1")
    world.run(20)
    world.fail("s4", "s5", "s6")
    assert sorted(line.split()[2] for line in world.run(60)) == ["s4", "s5", "s6"]


def test_the_leader_does_not_remove_itself() -> None:
    world = World(3)
    world.run(20)
    world.fail("s1")
    world.stats["id-s1"] = RaftStats("0", 3, 1000)
    assert world.run(120) == []
    world.forget("s1")
    assert world.run(120) == []


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("fail", "return", "forget", "join", "lag", "wait")),
        st.sampled_from(("s2", "s3", "s4", "s5", "s6", "s7")),
        st.integers(1, 20),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(st.integers(1, 5), st.integers(0, 4), EVENTS)
def test_a_quorum_that_is_there_is_never_given_away(
    voters: int, floor: int, events: Iterable[tuple[str, str, int]]
) -> None:
    """After a removal those left are healthy enough to go on, whatever happens to the servers; and the
    healthy ones are never removed."""
    world = World(voters, replace(DEFAULTS, min_quorum=floor))
    for kind, name, rounds in events:
        known = world.members.get(name)
        if kind == "fail" and known is not None and known.status == ALIVE:
            world.fail(name)
        elif kind == "return" and known is not None:
            world.join(name, None if world.raft.get(f"id-{name}") else NONVOTER)
        elif kind == "forget" and known is not None:
            world.forget(name)
        elif kind == "join" and known is None:
            world.join(name, None if world.raft.get(f"id-{name}") else NONVOTER)
        elif kind == "lag" and known is not None and known.status == ALIVE:
            world.stats[f"id-{name}"] = RaftStats("9s", 3, 1000)
        for _ in range(rounds):
            before = world.raft
            steps = world.step()
            removed = set(before.voters) - set(world.raft.voters)
            healthy = {row.id for row in world.autopilot.health.servers if row.healthy}
            assert not removed & healthy
            if removed:
                assert len(removed) <= (len(before.voters) - 1) // 2
                assert len(world.raft.voters) >= floor
                assert len(healthy & set(world.raft.voters)) >= world.raft.quorum
            assert all(not isinstance(step, Promote) or step.id in healthy for step in steps)
            world.now += HEALTH_INTERVAL
