"""The duties of a leader at work: on a real log of one server, with members and servers only pretended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from msgspec.structs import replace

from agent.leader import NEW_LEADER, LeaderSettings, Leadership
from agent.raft import RaftService, RaftSettings
from agent.world import World
from core.acl.settings import AclSettings
from core.errors import CtlError, StorageFull, Unavailable
from core.gossip.member import FAIL, FAILED, JOIN, LEAVE, LEFT, REAP, Member, MemberEvent, UserEvent
from core.metrics import Metrics
from core.node import tombstones
from core.node.autopilot import DEFAULTS, RaftStats
from core.node.cluster import Me
from core.node.servers import ServerFacts
from core.raft.configuration import Configuration
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import RegisterRequest
from tests.core.node.cluster_kit import client, server

ADDRESS = "10.0.0.1"
FAST = LeaderSettings(reconcile=30.0, retry=0.05, gather=0.01, forget_after=0.0)


class Clock(World):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _keep(self, message: str, **fields: Any) -> None:
        self.lines.append(" ".join((message, *(f"{name}={value}" for name, value in fields.items()))))

    debug = info = warn = error = _keep

    def count(self, part: str) -> int:
        return sum(part in line for line in self.lines)


class Lan:
    """A pool that says what it is told to."""

    def __init__(self) -> None:
        self.known: dict[str, Member] = {}
        self.events: list[tuple[str, bytes]] = []
        self.left: list[str] = []
        self.error: CtlError | None = None

    def members(self) -> Sequence[Member]:
        return tuple(self.known.values())

    async def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None:
        if self.error is not None:
            raise self.error
        self.events.append((name, payload))

    async def force_leave(self, name: str, prune: bool) -> None:
        self.left.append(name)


class Log:
    """The real log of a cluster of one. Changes of the configuration are only remembered: the servers that
    they name do not exist. `error` is what proposals end with while it is set."""

    def __init__(self, raft: RaftService) -> None:
        self.raft = raft
        self.configuration: Configuration = raft.configuration
        self.error: CtlError | None = None
        self.proposals: list[bytes] = []
        self.busy = 0  # turns of changes that are refused

    def propose(self, data: bytes, done: Callable[[object], None]) -> None:
        self.proposals.append(data)
        if self.error is not None:
            done(self.error)
        else:
            self.raft.propose(data, done)

    async def barrier(self) -> None:
        await self.raft.barrier()

    async def change(self, configuration: Configuration) -> None:
        await asyncio.sleep(0)
        if self.busy:
            self.busy -= 1
            raise Unavailable("a configuration change is already under way")
        before, after = set(self.configuration.servers), set(configuration.servers)
        assert len({one.id for one in before ^ after}) == 1, "one server at a time"
        self.configuration = configuration


class Office:
    """A leader and all that it has to do with."""

    def __init__(self, settings: LeaderSettings = FAST, acl: AclSettings | None = None) -> None:
        self.acl = acl or AclSettings()
        self.world = Clock()
        self.fsm = FSM()
        self.store = self.fsm.store
        self.raft = RaftService("id-s1", f"{ADDRESS}:8300", None, self.fsm, RaftSettings(), self.world)
        self.lan = Lan()
        self.metrics = Metrics(0.0)
        self.lines = Lines()
        self.settings = settings
        self.asked: list[str] = []
        self.silent: set[str] = set()

    async def __aenter__(self) -> Office:
        await self.raft.start(True)
        await until(lambda: self.raft.is_leader)
        self.log = Log(self.raft)
        self.duties = Leadership(
            Me("id-s1", "s1", "dc1"),
            self.store,
            self.log,
            self.lan,
            self.fetch,
            self.world,
            cast(Any, self.lines),
            self.metrics,
            self.settings,
            self.acl,
        )
        self.tell(JOIN, server("s1", address=ADDRESS))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.duties.stop()
        await self.raft.stop()

    async def fetch(self, facts: ServerFacts) -> RaftStats:
        self.asked.append(facts.name)
        if facts.name in self.silent:
            raise Unavailable("connection refused")
        return RaftStats("0", self.raft.term, self.raft.last_index)

    def tell(self, kind: str, *members: Member) -> None:
        """Gossip has changed, and says so."""
        for member in members:
            self.lan.known[member.name] = member
            if kind == REAP:
                del self.lan.known[member.name]
        self.duties.on_gossip(MemberEvent(kind, members))

    def status(self, node: str) -> str:
        check = self.store.get_check(node, "serfHealth")
        return "" if check is None else check.status


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this should have happened long ago"
        await asyncio.sleep(0.002)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def test_a_new_leader_takes_office() -> None:
    async def test() -> None:
        async with Office() as office:
            office.duties.leading(True)
            await until(lambda: office.status("s1") == "passing")
            assert office.store.autopilot_config() == replace(
                DEFAULTS, create_index=4, modify_index=4
            )  # after configuration, first entry of the term, barrier
            assert office.lan.events == [(NEW_LEADER, b"s1")]
            await until(lambda: office.duties.health().healthy)
            assert office.duties.health().voters == ("id-s1",)
            # Again: nothing is left to write.
            written = office.raft.last_index
            office.duties.leading(False)
            assert not office.duties.health().healthy
            office.duties.leading(True)
            await until(lambda: len(office.lan.events) == 2 and office.duties.health().healthy)
            await asyncio.sleep(0.05)
            assert office.raft.last_index == written + 1  # the barrier

    run(test)


def test_what_an_operator_set_stays() -> None:
    async def test() -> None:
        async with Office() as office:
            office.duties.leading(True)
            await until(lambda: office.store.autopilot_config() is not None)
            office.duties.leading(False)
            office.duties._settings = replace(FAST, autopilot=replace(DEFAULTS, min_quorum=9))
            office.duties.leading(True)
            await until(lambda: len(office.lan.events) == 2 and office.status("s1") == "passing")
            known = office.store.autopilot_config()
            assert known is not None and known.min_quorum == 0

    run(test)


def test_the_catalog_follows_gossip() -> None:
    async def test() -> None:
        async with Office() as office:
            office.duties.leading(True)
            await until(lambda: office.status("s1") == "passing")
            office.tell(JOIN, client("a"), client("b"))
            await until(lambda: office.status("a") == office.status("b") == "passing")
            office.tell(FAIL, client("a", FAILED))
            await until(lambda: office.status("a") == "critical")
            office.tell(LEAVE, client("b", LEFT))
            await until(lambda: office.store.get_node("b") is None)
            office.tell(REAP, client("a", FAILED))
            await until(lambda: office.store.get_node("a") is None)
            office.duties.on_gossip(UserEvent(1, "deploy", b""))  # is for others

    run(test)


def test_who_does_not_lead_does_nothing() -> None:
    async def test() -> None:
        async with Office() as office:
            office.tell(JOIN, client("a"))
            office.duties.leading(False)
            await asyncio.sleep(0.03)
            assert office.log.proposals == [] and office.asked == []
            office.duties.leading(True)
            await until(lambda: office.status("a") == "passing")
            office.duties.leading(False)
            office.tell(FAIL, client("a", FAILED))
            await asyncio.sleep(0.05)
            assert office.status("a") == "passing"

    run(test)


def test_forgotten_nodes_wait_until_the_list_of_members_is_complete() -> None:
    async def test() -> None:
        settings = replace(FAST, forget_after=20.0, reconcile=0.05)
        async with Office(settings) as office:
            office.tell(JOIN, client("a"))
            office.duties.leading(True)
            await until(lambda: office.status("a") == "passing")
            del office.lan.known["a"]  # nobody says so: as if this agent had just come back
            await asyncio.sleep(0.2)
            assert office.status("a") == "passing"
            office.world.ahead = 30.0
            await until(lambda: office.store.get_node("a") is None)

    run(test)


def test_a_log_that_fails_is_tried_again() -> None:
    async def test() -> None:
        async with Office() as office:
            office.log.error = StorageFull("no space left on device")
            office.lan.error = Unavailable("too large")
            office.duties.leading(True)
            await until(lambda: office.lines.count("failed to reconcile members") >= 2)
            assert office.lines.count("no space left on device") >= 2
            assert office.lines.count("could not tell who leads now") >= 1
            office.log.error = None
            await until(lambda: office.status("s1") == "passing")

    run(test)


def test_a_duty_that_breaks_is_told_and_begins_anew() -> None:
    async def test() -> None:
        async with Office() as office:
            broken = True
            members = office.lan.members

            def odd() -> Sequence[Member]:
                if broken:
                    raise KeyError("a defect")
                return members()

            office.lan.members = odd  # type: ignore[method-assign]
            office.duties.leading(True)
            await until(lambda: office.lines.count("a duty of the leader has failed error=KeyError") >= 2)
            broken = False
            await until(lambda: office.status("s1") == "passing")

    run(test)


def test_conflicts_are_told_once() -> None:
    async def test() -> None:
        async with Office(replace(FAST, reconcile=0.02)) as office:
            office.tell(JOIN, client("a", address="10.0.0.2"), client("b", address="10.0.0.3", id="id-a"))
            office.duties.leading(True)
            await until(lambda: office.status("a") == "passing")
            await asyncio.sleep(0.2)
            assert office.lines.count('node "b" (10.0.0.3) has the node id id-a of node "a" (10.0.0.2)') == 1
            assert office.store.get_node("b") is None
            office.tell(FAIL, client("b", FAILED, address="10.0.0.3", id="id-a"))
            await asyncio.sleep(0.1)
            office.tell(JOIN, client("b", address="10.0.0.3", id="id-a"))
            await until(lambda: office.lines.count("has the node id") == 2)

    run(test)


# Servers


def test_servers_join_raft_get_a_vote_and_go() -> None:
    async def test() -> None:
        async with Office() as office:
            office.log.busy = 1  # somebody changes the configuration at the same time
            office.duties.leading(True)
            office.tell(JOIN, server("s2", address="10.0.0.2"), server("s3", address="10.0.0.3"))
            await until(lambda: len(office.log.configuration.servers) == 3)
            assert office.lines.count("failed to reconcile members") == 1
            # The votes come with autopilot's next look, at once from a leader that is young.
            await until(lambda: len(office.log.configuration.voters) == 3)
            assert {"s1", "s2", "s3"} <= set(office.asked)
            office.tell(JOIN, server("s3", address="10.0.0.4"))
            await until(lambda: office.log.configuration.by_address("10.0.0.4:8300") is not None)
            assert office.log.configuration.votes("id-s3")
            office.tell(LEAVE, server("s2", LEFT, "10.0.0.2"))
            await until(lambda: office.log.configuration.get("id-s2") is None)
            assert office.store.get_service("s3", "consul") is not None

    run(test)


def test_autopilot_removes_the_dead() -> None:
    async def test() -> None:
        async with Office() as office:
            office.tell(JOIN, *(server(f"s{n}", address=f"10.0.0.{n}") for n in (2, 3, 4, 5)))
            office.duties.leading(True)
            await until(lambda: len(office.log.configuration.voters) == 5)
            autopilot = office.duties._autopilot
            assert autopilot is not None
            await autopilot.round()
            assert office.duties.health().failure_tolerance == 2
            since = office.world.now()
            office.silent = {"s4"}
            office.tell(FAIL, server("s4", FAILED, "10.0.0.4", since))
            del office.lan.known["s5"]
            await autopilot.round()
            assert not office.duties.health().healthy
            assert office.lan.left == []
            office.world.ahead += 15
            await autopilot.round()
            assert office.lan.left == ["s4"]  # gossip tells the leader when it has left
            assert office.log.configuration.get("id-s5") is None
            gauges = {one["Name"]: one["Value"] for one in office.metrics.snapshot(time.time())["Gauges"]}
            assert any(name.endswith("autopilot.healthy") and value == 0 for name, value in gauges.items())

    run(test)


def test_a_server_that_hangs_does_not_hold_up_the_others() -> None:
    async def test() -> None:
        async with Office() as office:
            office.tell(JOIN, server("s2", address="10.0.0.2"))
            office.duties.leading(True)
            await until(lambda: len(office.log.configuration.voters) == 2)
            autopilot = office.duties._autopilot
            assert autopilot is not None

            async def hang(facts: ServerFacts) -> RaftStats:
                if facts.name == "s2":
                    await asyncio.sleep(60)
                return RaftStats("0", office.raft.term, office.raft.last_index)

            autopilot._fetch = hang
            begun = time.monotonic()
            await autopilot.round()
            assert time.monotonic() - begun < 2.0
            assert [row.healthy for row in office.duties.health().servers] == [True, False]

    run(test)


# Tombstones


def test_tombstones_are_reaped_when_their_time_is_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(tombstones, "GRANULARITY", 0.02)

    async def test() -> None:
        async with Office() as office:
            await office.raft.apply(commands.kvs("set", b"a"))
            await office.raft.apply(commands.kvs("delete", b"a"))
            assert len(office.store.tombstones) == 1
            office.duties.leading(True)
            await until(lambda: office.status("s1") == "passing")
            await asyncio.sleep(0.05)
            assert len(office.store.tombstones) == 1
            office.log.error = StorageFull("no space left on device")
            office.world.ahead = tombstones.TTL + 1
            await until(lambda: office.lines.count("failed to reap tombstones") >= 1)
            office.log.error = None
            await until(lambda: len(office.store.tombstones) == 0)
            reaps = sum(data[:1] == b"\x05" for data in office.log.proposals)
            await asyncio.sleep(0.1)
            assert sum(data[:1] == b"\x05" for data in office.log.proposals) == reaps

    run(test)


# Many at once (design: pains row 10)


def test_five_hundred_members_fail_and_go_at_once() -> None:
    """They are written in batches: no write waits for the one before, and other work has its turn."""

    async def test() -> None:
        async with Office() as office:
            names = [f"n{number}" for number in range(500)]
            office.duties.leading(True)
            office.tell(JOIN, *map(client, names))
            await until(lambda: all(office.status(name) == "passing" for name in names))
            longest, watching = 0.0, True

            async def watch() -> None:
                nonlocal longest
                while watching:
                    begun = time.perf_counter()
                    await asyncio.sleep(0)
                    longest = max(longest, time.perf_counter() - begun)
                    await asyncio.sleep(0.0005)

            watcher = asyncio.create_task(watch())
            begun = time.perf_counter()
            for name in names:  # each by an event of its own
                office.tell(FAIL, client(name, FAILED))
            await until(lambda: all(office.status(name) == "critical" for name in names))
            failed = time.perf_counter() - begun
            begun = time.perf_counter()
            for name in names:
                office.tell(REAP, client(name, FAILED))
            await until(lambda: len(office.store.node_rows) == 1)
            reaped = time.perf_counter() - begun
            watching = False
            await watcher
            print(
                f"500 failed in {failed * 1000:.0f} ms, reaped in {reaped * 1000:.0f} ms, "
                f"longest step {longest * 1000:.1f} ms"
            )
            assert failed < 3.0 and reaped < 3.0

    run(test)


def test_a_large_catalog_is_looked_through_in_slices() -> None:
    async def test() -> None:
        async with Office() as office:
            for number in range(3000):
                name = f"n{number}"
                office.lan.known[name] = client(name)
                office.fsm.apply(
                    2, commands.register(RegisterRequest(id=f"id-{name}", node=name, address="10.0.0.9"))
                )
            office.duties.leading(True)
            await until(lambda: office.status("n2999") == "passing")
            assert office.lines.count("member joined") == 3001

    run(test)


def test_a_leader_alone_that_came_back_elsewhere() -> None:
    """Its own address is told to Raft like any other's."""

    async def test() -> None:
        async with Office() as office:
            office.tell(JOIN, server("s1", address="10.0.0.9"))
            office.duties.leading(True)
            await until(lambda: office.log.configuration.by_address("10.0.0.9:8300") is not None)
            assert office.log.configuration.is_sole("id-s1")

    run(test)
