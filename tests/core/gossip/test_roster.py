"""The table of members against the rules of protocols/gossip.md 7.2, written down a second time."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.gossip import member as kinds
from core.gossip.intents import MAX_INTENTS, RecentIntents
from core.gossip.member import ALIVE, FAILED, LEAVING, LEFT, STATUS_NAMES, MemberEvent
from core.gossip.messages import Alive
from core.gossip.nodes import Node
from core.gossip.roster import TOMBSTONE_LEAST, Roster
from core.gossip.settings import LAN

OWN = "own"


class Bench:
    """A roster and the nodes that memberlist would have."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.events: list[tuple[str, str]] = []
        self.now = 0.0
        self.roster = Roster(OWN, LAN, self.nodes.get, self.tell)
        self.join(OWN)

    def tell(self, event: MemberEvent) -> None:
        self.events += [(event.kind, member.name) for member in event.members]

    def join(self, name: str, incarnation: int = 1, meta: bytes = b"") -> None:
        facts = Alive(incarnation, name, "10.0.0.1", 7946, meta, bytes((1, 5, 2, 2, 5, 4)))
        node = self.nodes.setdefault(name, Node(facts, incarnation, 0, self.now))
        node.facts, node.incarnation, node.state = facts, incarnation, 0
        self.roster.joined(node, self.now)

    def leave(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and not node.gone:
            node.state = 2
            self.roster.left(node, self.now)

    def status(self, name: str) -> str:
        member = self.roster.get(name)
        return member.status_name if member is not None else ""


class Model:
    """7.2 as a table."""

    def __init__(self) -> None:
        self.members: dict[str, list[int]] = {OWN: [ALIVE, 0]}
        self.buffered: dict[str, tuple[int, bool]] = {}
        self.events: list[tuple[str, str]] = [(kinds.JOIN, OWN)]
        self.reachable = {OWN}

    def join(self, name: str) -> None:
        if name in self.reachable:
            return
        self.reachable.add(name)
        if name in self.members:
            self.members[name][0] = ALIVE
        else:
            ltime, joins = self.buffered.get(name, (0, True))
            self.members[name] = [ALIVE if joins else LEAVING, ltime]
        self.events.append((kinds.JOIN, name))

    def leave(self, name: str) -> None:
        if name in self.reachable:
            self.reachable.discard(name)
            left = self.members[name][0] == LEAVING
            self.members[name][0] = LEFT if left else FAILED
            self.events.append((kinds.LEAVE if left else kinds.FAIL, name))

    def intent(self, name: str, ltime: int, joins: bool) -> bool:
        if name not in self.members:
            newer = ltime > self.buffered.get(name, (-1, True))[0]
            if newer:
                self.buffered[name] = ltime, joins
            return newer
        entry = self.members[name]
        if ltime <= entry[1]:
            return False
        entry[1] = ltime
        if joins:
            entry[0] = ALIVE if entry[0] == LEAVING and name != OWN else entry[0]
        elif entry[0] == ALIVE:
            entry[0] = LEAVING
        elif entry[0] == FAILED:
            entry[0] = LEFT
            self.events.append((kinds.LEAVE, name))
        return True


names = st.sampled_from(["a", "b", OWN])
ltimes = st.integers(0, 12)
steps = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("leave"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("intent"), names, ltimes, st.booleans()),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=300)
def test_roster_follows_the_table(moves: list[tuple[Any, ...]]) -> None:
    bench, model = Bench(), Model()
    for kind, name, *rest in moves:
        if kind == "join":
            node = bench.nodes.get(name)
            if node is None or node.gone:
                bench.join(name)
            model.join(name)
        elif kind == "leave":
            bench.leave(name)
            model.leave(name)
        else:
            ltime, joins = rest
            if joins:
                relayed = bench.roster.join_intent(name, ltime, bench.now)
            else:
                relayed = bench.roster.leave_intent(name, ltime, False, bench.now)
            assert relayed == model.intent(name, ltime, joins)
        times, left = bench.roster.status_times()
        assert times == {known: entry[1] for known, entry in model.members.items()}
        assert left == [known for known, entry in model.members.items() if entry[0] == LEFT]
        found = {member.name: member.status for member in bench.roster.members()}
        assert found == {known: entry[0] for known, entry in model.members.items()}
        assert bench.events == model.events


more_steps = st.one_of(
    steps,
    st.tuples(st.just("prune"), names, ltimes),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 10.0, 1000.0, 90_000.0])),
    st.tuples(st.just("answered"), names),
)


@given(st.lists(more_steps, max_size=60))
@settings(max_examples=300)
def test_counts_and_events_agree_whatever_happens(moves: list[tuple[Any, ...]]) -> None:
    """Each member's events tell one story, and it ends as the table has it."""
    bench = Bench()
    roster = bench.roster
    for kind, what, *rest in moves:
        if kind == "join":
            if what not in bench.nodes or bench.nodes[what].gone:
                bench.join(what)
        elif kind == "leave":
            bench.leave(what)
        elif kind == "intent":
            (roster.join_intent if rest[1] else _leave(roster))(what, rest[0], bench.now)
        elif kind == "prune":
            roster.leave_intent(what, rest[0], True, bench.now)
        elif kind == "answered":
            roster.answered(what, bench.now)
        else:
            bench.now += what
            roster.prune_due(bench.now)
            roster.reap(bench.now, 30.0)
        members = {member.name: member.status for member in roster.members()}
        assert len(roster) == len(members)
        for status in range(len(STATUS_NAMES)):
            assert roster.count(status) == list(members.values()).count(status)
        assert OWN in members
        assert _told(bench.events) == {name: status in (ALIVE, LEAVING) for name, status in members.items()}


def _leave(roster: Roster) -> Any:
    return lambda name, ltime, now: roster.leave_intent(name, ltime, False, now)


def _told(events: list[tuple[str, str]]) -> dict[str, bool]:
    """Who is a member and who of them is there, from the events alone."""
    told: dict[str, bool] = {}
    for kind, name in events:
        if kind == kinds.REAP:
            del told[name]
        elif kind == kinds.JOIN:
            assert not told.get(name, False), f"{name} joined twice"
            told[name] = True
        else:
            assert name in told
            told[name] = False
    return told


def pruned() -> Bench:
    bench = Bench()
    bench.join("a", incarnation=3)
    bench.roster.join_intent("a", 5, bench.now)
    bench.leave("a")
    assert bench.roster.leave_intent("a", 9, True, bench.now)
    assert bench.status("a") == ""
    return bench


def test_tombstone_holds_against_what_is_old() -> None:
    bench = pruned()
    assert not bench.roster.join_intent("a", 9, bench.now)
    bench.roster.merge({"a": 7}, [], bench.now)
    bench.roster.merge({"a": 30}, ["a"], bench.now)
    bench.join("a", incarnation=3)
    assert bench.status("a") == ""
    bench.leave("a")
    assert bench.events[-1] == (kinds.REAP, "a")


def test_tombstone_yields_to_what_is_new() -> None:
    for proof in ("intent first", "intent later", "incarnation", "answer"):
        bench = pruned()
        if proof == "intent first":
            assert bench.roster.join_intent("a", 10, bench.now)
        bench.join("a", incarnation=4 if proof == "incarnation" else 1)
        if proof == "intent later":
            assert bench.status("a") == ""
            assert bench.roster.join_intent("a", 10, bench.now)
        if proof == "answer":
            bench.roster.answered("a", bench.now)
        assert bench.status("a") == "alive", proof
        assert bench.events[-1] == (kinds.JOIN, "a")


def test_tombstone_ends_when_nobody_tells_of_the_dead() -> None:
    bench = pruned()
    bench.now = TOMBSTONE_LEAST - 1
    bench.roster.unheard_prunes({"a": 7}, [], bench.now)
    bench.now += TOMBSTONE_LEAST - 1
    bench.roster.reap(bench.now, 30.0)
    assert bench.roster.pruned() == {"a": 9}
    bench.now += 2
    bench.roster.reap(bench.now, 30.0)
    assert bench.roster.pruned() == {}


def test_a_reference_peer_is_reminded_but_not_all_the_time() -> None:
    bench = pruned()
    assert bench.roster.unheard_prunes({"a": 7}, [], bench.now) == []  # it was told a moment ago
    bench.now += 31
    assert bench.roster.unheard_prunes({"a": 7}, [], bench.now) == [("a", 9)]
    assert bench.roster.unheard_prunes({"a": 7}, [], bench.now) == []
    bench.now += 31
    assert bench.roster.unheard_prunes({"a": 20}, ["a"], bench.now) == [("a", 21)]


def test_few_ghosts_at_a_time() -> None:
    bench = Bench()
    for number in range(20):
        bench.join(f"x{number}")
        bench.leave(f"x{number}")
        bench.roster.leave_intent(f"x{number}", 5, True, bench.now)
    admitted = []
    for number in range(20):
        facts = replace(bench.nodes[f"x{number}"].facts)
        if not bench.roster.is_unwanted_echo(Node(facts, 1, 0, 0.0), bench.now):
            bench.join(f"x{number}")
            admitted.append(number)
    assert admitted == [0, 1, 2, 3]
    assert not bench.roster.is_unwanted_echo(Node(replace(facts, incarnation=2), 2, 0, 0.0), bench.now)
    bench.leave("x0")
    assert not bench.roster.is_unwanted_echo(Node(facts, 1, 0, 0.0), bench.now)


def test_intents_of_strangers_are_bounded_and_expire() -> None:
    intents = RecentIntents(300.0)
    for number in range(2 * MAX_INTENTS):
        assert intents.note(f"n{number}", 1, True, 0.0)
    assert len(intents) == MAX_INTENTS
    assert not intents.note(f"n{2 * MAX_INTENTS - 1}", 1, True, 0.0)
    intents.expire(300.0)
    assert len(intents) == MAX_INTENTS
    intents.expire(300.1)
    assert len(intents) == 0


def test_own_limit_of_a_member() -> None:
    bench = Bench()
    for name, value in (("short", b"90s"), ("odd", b"soon"), ("none", b"")):
        tag = b"\xa5rc_tm" + bytes((0xA0 + len(value),)) + value
        bench.join(name, meta=b"\xff\x81" + tag if value else b"")
        bench.leave(name)
    bench.now = 91.0
    bench.roster.reap(bench.now, 30.0)
    assert [member.name for member in bench.roster.members()] == [OWN, "odd", "none"]
    bench.now = LAN.reconnect_timeout + 1
    bench.roster.reap(bench.now, 30.0)
    assert [member.name for member in bench.roster.members()] == [OWN]
    assert bench.roster.pruned() == {}  # nobody asked for it
