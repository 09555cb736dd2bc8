"""Where calls go: here, to the leader, to the next server; the cache and the sharing of blocking calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent.cache import Cache
from agent.calls import Calls, CallSettings
from agent.relay import Bucket, Relay
from agent.world import World
from core.api import kv
from core.api.endpoint import OPEN, Action, Answer, Command, Errand, QueryOptions, Question, Reply
from core.api.kv import KeyRequest, KVChange
from core.codec.duration import MILLISECOND, SECOND
from core.errors import CtlError, Denied, Lost, NoLeader, TooManyRequests, Unavailable, Unsent
from core.gossip.member import ALIVE
from core.node.servers import ServerFacts
from core.node.wan import Router
from core.store.state import Store

GET = KeyRequest(b"k")


class Raft:
    """A server's Raft, whose role the test sets."""

    def __init__(self) -> None:
        self.node_id, self.leader_id = "me", ""
        self.has_heard_of_leader = False
        self.age = 0
        self.lease = True
        self.verified = 0

    @property
    def is_leader(self) -> bool:
        return self.leader_id == "me"

    @property
    def holds_lease(self) -> bool:
        return self.is_leader and self.lease

    def contact_age(self) -> int:
        return self.age

    async def verify_leader(self) -> None:
        self.verified += 1

    def propose(self, data: bytes, done: Callable[[object], None]) -> None:
        done("proposed")

    async def apply(self, data: bytes) -> object:
        return "applied"


class FarServers:
    """A relay that notes what it is given and answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: list[Any] = []

    def _next(self) -> Any:
        answer = self.answers.pop(0) if self.answers else "far"
        if isinstance(answer, CtlError):
            raise answer
        return answer

    async def send(self, server: ServerFacts, rpc: str, work: Any) -> Any:
        self.asked.append((server.id, rpc))
        return self._next()

    def tell(self, server: ServerFacts, rpc: str, work: Any, done: Callable[[object], None]) -> bool:
        self.asked.append((server.id, rpc))
        try:
            done(self._next())
        except CtlError as error:
            done(error)
        return True

    async def ask(self, server: ServerFacts, question: Question, seconds: float) -> Answer:
        self.asked.append((server.id, question.options.allow_stale))
        found = self._next()
        return found if isinstance(found, Answer) else Answer(9, found)


def server(name: str) -> ServerFacts:
    return ServerFacts(name, name, "dc1", "127.0.0.9", 8300, ALIVE)


def calls(raft: Raft | None, hold: float = 0.0) -> tuple[Calls, FarServers]:
    made = Calls(
        Store(),
        raft,
        "dc1",
        World(seed=1),
        asyncio.get_running_loop(),
        CallSettings(hold=hold),  # type: ignore[arg-type]
    )
    far = FarServers()
    made.relay = far  # type: ignore[assignment]
    return made, far


def question(**options: Any) -> Question:
    return Question(kv.GET, GET, QueryOptions(**options), lambda answer: Reply())


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_the_leader_answers_itself_and_confirms_when_asked_to() -> None:
    async def scene() -> None:
        raft = Raft()
        raft.leader_id = "me"
        here, far = calls(raft)
        assert here.here(question()) and (await here.read(question())).value is None
        assert raft.verified == 0
        await here.read(question(require_consistent=True))
        assert raft.verified == 1 and not far.asked
        command = Command(kv.APPLY, KVChange("set", b"k", b"v"), lambda _: Reply())
        assert await here.apply(command) == "applied"
        with pytest.raises(Unavailable, match="No path to datacenter"):
            await here.read(question(datacenter="elsewhere"))

    run(scene())


def test_a_leader_without_lease_waits_for_it_and_answers_what_needs_none() -> None:
    async def scene() -> None:
        raft = Raft()
        raft.leader_id, raft.lease = "me", False
        here, far = calls(raft)
        assert not here.here(question()) and not here.holds_lease
        with pytest.raises(NoLeader):
            await here.read(question())
        assert (await here.read(question(require_consistent=True))).value is None
        assert raft.verified == 1
        held, _ = calls(raft, hold=5)
        asked = asyncio.create_task(held.read(question()))
        await asyncio.sleep(0)
        assert not asked.done()
        raft.lease = True
        assert (await asked).value is None and not far.asked

    run(scene())


def test_a_follower_asks_the_leader_but_answers_stale_reads() -> None:
    async def scene() -> None:
        raft = Raft()
        here, far = calls(raft)
        here.servers.update([server("a"), server("b")])
        with pytest.raises(NoLeader):
            await here.read(question())
        with pytest.raises(NoLeader):  # never heard of a leader: a stale answer would mean nothing
            await here.read(question(allow_stale=True))
        raft.leader_id, raft.has_heard_of_leader, raft.age = "b", True, 40 * MILLISECOND
        assert (await here.read(question())).value == "far" and far.asked == [("b", False)]
        stale = await here.read(question(allow_stale=True))
        assert (stale.last_contact, stale.known_leader) == (40 * MILLISECOND, True) and len(far.asked) == 1
        await here.read(question(allow_stale=True, max_stale_duration=10 * MILLISECOND))
        assert far.asked[-1] == ("b", False)  # too old: the leader was asked
        raft.leader_id = "c"
        with pytest.raises(NoLeader, match="server lookup mapping"):
            await here.apply(Command(kv.APPLY, KVChange("set", b"k"), lambda _: Reply()))

    run(scene())


def test_a_client_agent_goes_on_to_the_next_server() -> None:
    async def scene() -> None:
        here, far = calls(None, hold=1.0)
        with pytest.raises(Unavailable, match="No known Consul servers"):
            await here.read(question())
        here.servers.update([server("a"), server("b")])

        far.answers = [Lost("gone"), "v"]
        assert (await here.read(question())).value == "v"
        far.answers = [Unsent("refused"), True]
        assert await here.apply(Command(kv.APPLY, KVChange("set", b"k"), lambda _: Reply())) is True
        far.answers = [Lost("gone")]  # a write that may have been done is not repeated
        with pytest.raises(Lost):
            await here.apply(Command(kv.APPLY, KVChange("set", b"k"), lambda _: Reply()))
        far.answers = [Denied("Permission denied")]
        with pytest.raises(Denied):
            await here.read(question())

    run(scene())


def test_all_servers_of_another_datacenter_are_asked_before_it_counts_as_lost() -> None:
    """Also when the first took longer to fail than a call is held."""

    async def main() -> None:
        made, far = calls(Raft(), hold=0.0)
        found = [ServerFacts(name, name, "dc2", "127.0.0.9", 8300, ALIVE) for name in ("a", "b", "c")]
        router = made.router = Router("dc1", World(seed=1).random, 0.0)
        router.update(found)
        order = [one.id for one in router.servers("dc2") or ()]

        class Failing(FarServers):
            async def ask(self, server: ServerFacts, question: Question, seconds: float) -> Answer:
                self.waits.append(seconds)
                try:
                    return await super().ask(server, question, seconds)
                except CtlError:
                    router.failed(server)
                    raise

            waits: list[float] = []

        far = made.relay = Failing()  # type: ignore[assignment]
        far.answers = [Lost("keepalive timeout"), Unsent("refused")]
        answer = await made.read(question(datacenter="dc2", min_query_index=5, max_query_time=SECOND))
        assert answer.value == "far"
        assert [name for name, _ in far.asked] == order
        assert far.waits == sorted(far.waits, reverse=True)  # who waited for one waits less for the next
        far.asked.clear()
        far.answers = [Lost("1"), Lost("2"), Lost("3"), Lost("4")]
        with pytest.raises(Lost, match="3"):
            await made.read(question(datacenter="dc2"))
        assert sorted(name for name, _ in far.asked) == ["a", "b", "c"]

    run(main())


def test_a_write_that_was_told_is_told_again_when_that_is_safe() -> None:
    async def scene() -> None:
        here, far = calls(None, hold=1.0)
        here.servers.update([server("a"), server("b")])
        command = Command(kv.APPLY, KVChange("set", b"k"), lambda _: Reply())
        heard: list[Any] = []
        for answers in ([True], [NoLeader(), True], [Unsent("refused"), True], [Lost("gone")]):
            far.answers = list(answers)
            here.tell(command, heard.append)
            await until(lambda: not far.answers and not here._tasks)
        assert heard[:3] == [True, True, True] and isinstance(heard[3], Lost) and len(heard) == 4

    run(scene())


def test_an_election_is_a_pause() -> None:
    async def scene() -> None:
        raft = Raft()
        here, _ = calls(raft, hold=5.0)
        reading = asyncio.ensure_future(here.read(question()))
        await asyncio.sleep(0)
        assert not reading.done()
        raft.leader_id = "me"
        assert (await asyncio.wait_for(reading, 5)).value is None
        raft.leader_id, here.leaving = "", True
        with pytest.raises(NoLeader):
            await asyncio.wait_for(here.read(question()), 1)

    run(scene())


def test_errands_are_run_where_they_can_be() -> None:
    async def act(server: Any, args: Any) -> Any:
        return server, args

    async def scene() -> None:
        raft = Raft()
        here, far = calls(raft)
        here.servers.update([server("b")])
        here.server = "door"  # type: ignore[assignment]
        anywhere = Errand(Action("Any.Where", act, OPEN, leader=False), 1, lambda _: Reply())
        assert await here.run(anywhere) == ("door", 1)
        raft.leader_id = "b"
        assert await here.run(Errand(Action("The.Leader", act, OPEN), 2, lambda _: Reply())) == "far"
        assert far.asked == [("b", "The.Leader")]

    run(scene())


class Upstream:
    """Servers with one value; a blocking call waits for the next one."""

    def __init__(self) -> None:
        self.answer = Answer(1, "one")
        self.changed = asyncio.Event()
        self.reads = 0
        self.error: CtlError | None = None

    async def read(self, question: Question) -> Answer:
        self.reads += 1
        if self.error is not None:
            raise self.error
        while question.options.min_query_index >= self.answer.index:
            await self.changed.wait()
            if self.error is not None:
                raise self.error
        return self.answer

    def change(self, index: int, value: str) -> None:
        self.answer = Answer(index, value)
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_the_cache_keeps_answers_current_and_says_their_age() -> None:
    async def scene() -> None:
        from core.store.watch import Watch

        upstream, world = Upstream(), World(seed=1)
        cache = Cache(upstream.read, world)
        asked = question(allow_stale=True)
        assert cache.peek(asked) is None
        both = await asyncio.gather(cache.get(asked), cache.get(asked))
        assert [answer.value for answer, _ in both] == ["one", "one"]
        watch = Watch()
        assert cache.peek(asked, watch) is not None and not watch.fired
        await until(lambda: upstream.reads == 2)  # the blocking call that waits for news
        upstream.change(2, "two")
        await until(lambda: watch.fired)
        assert (await cache.get(asked))[0].value == "two" and (await cache.get(asked))[1] is True
        upstream.error = Unavailable("No known Consul servers")
        upstream.wake()
        start = world.now
        await until(lambda: next(iter(cache._entries.values())).failed_at is not None)
        world.now = lambda: start() + 7.5  # type: ignore[method-assign]
        assert (await cache.get(asked))[0].value == "two" and cache.age(asked) == 7
        upstream.error = None
        await until(lambda: cache.age(asked) == 0)
        cache.stop()

    run(scene())


def test_what_cannot_be_had_is_not_kept() -> None:
    async def scene() -> None:
        upstream = Upstream()
        cache = Cache(upstream.read, World(seed=1))
        upstream.error = Denied("Permission denied")
        with pytest.raises(Denied):
            await cache.get(question())
        assert len(cache) == 0
        upstream.error = None
        assert (await cache.get(question()))[0].value == "one"
        cache.stop()

    run(scene())


class Wire:
    """A pool that answers with what it was asked, when the test lets it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.error: CtlError | None = None

    async def call(self, server: ServerFacts, method: str, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        if body.get("MinQueryIndex"):
            await self.go.wait()
        if self.error is not None:
            raise self.error
        return {b"Entries": None, b"Index": 7, b"KnownLeader": True, b"LastContact": 0}


def relay(wire: Wire, bucket: Bucket | None = None) -> tuple[Relay, list[ServerFacts]]:
    failed: list[ServerFacts] = []
    return Relay(
        wire, "dc1", World(seed=1), bucket or Bucket(-1.0, 1, 0.0), lambda one, _: failed.append(one)
    ), failed


def test_those_who_wait_for_the_same_share_one_call() -> None:
    async def scene() -> None:
        wire = Wire()
        far, _ = relay(wire)
        blocked = question(min_query_index=5, max_query_time=60 * SECOND)
        waiting = [asyncio.ensure_future(far.ask(server("a"), blocked, 60)) for _ in range(50)]
        await until(lambda: len(wire.bodies) == 1)
        impatient = await far.ask(server("a"), blocked, 0.0)  # its time is up: it asks for itself
        assert impatient.index == 7 and len(wire.bodies) == 2
        wire.go.set()
        assert {answer.index for answer in await asyncio.gather(*waiting)} == {7} and len(wire.bodies) == 2

    run(scene())


def test_a_call_that_nobody_waits_for_ends() -> None:
    async def scene() -> None:
        wire = Wire()
        far, _ = relay(wire)
        waiting = asyncio.ensure_future(far.ask(server("a"), question(min_query_index=5), 60))
        await until(lambda: len(wire.bodies) == 1)
        waiting.cancel()
        await until(lambda: not far._shared)
        again = asyncio.ensure_future(far.ask(server("a"), question(min_query_index=5), 60))
        await until(lambda: len(wire.bodies) == 2)
        wire.go.set()
        assert (await again).index == 7

    run(scene())


def test_servers_that_fail_and_limits_are_told() -> None:
    async def scene() -> None:
        wire = Wire()
        far, failed = relay(wire)
        wire.error = Unsent("refused")
        with pytest.raises(Unsent):
            await far.ask(server("a"), question(), 1)
        assert [one.id for one in failed] == ["a"]
        limited, _ = relay(Wire(), Bucket(0.0, 2, 0.0))
        for _ in range(2):
            await limited.ask(server("a"), question(), 1)
        with pytest.raises(TooManyRequests, match="RPC rate limit exceeded"):
            await limited.ask(server("a"), question(), 1)

    run(scene())


def test_a_bucket_fills_again() -> None:
    bucket = Bucket(2.0, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5) and not bucket.take(0.6)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
