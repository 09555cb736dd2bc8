"""Sessions and locks on three servers in pretend time: what clients rely on, whatever happens.

Every server has its own state and its own `Sessions`; commands reach all of them in one order. Leaders
change, the leading process pauses, snapshots are restored. The model knows only what clients did and when."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from agent.sessions import Sessions
from agent.world import World
from core.api import kv as kv_api
from core.api import session as session_api
from core.api.endpoint import Settled
from core.errors import CtlError
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import (
    CRITICAL,
    PASSING,
    DeregisterRequest,
    HealthCheck,
    RegisterRequest,
    Session,
    SessionRequest,
)

SECOND = 1_000_000_000
SERVERS = 3
TTLS = (0, 10, 15)
SLACK = 1.5  # seconds that the wheel may be late, and that nobody notices as a pause
KEYS = st.sampled_from([b"a", b"b"])
NODES = st.sampled_from(["n1", "n2"])
SERVER = st.integers(0, SERVERS - 1)


class Clock(World):
    """Pretend time, and the part of an event loop that `Sessions` uses."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.time = 1000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._cancelled: set[int] = set()

    def now(self) -> float:
        return self.time

    def uuid(self) -> str:
        return f"{next(self._numbers):08}-0000-4000-8000-000000000000"

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        number = next(self._numbers)
        heapq.heappush(self._due, (self.time + delay, number, call))

        class Handle:
            cancel = staticmethod(lambda: self._cancelled.add(number))

        return Handle()

    def get_debug(self) -> bool:
        return False

    def run_until(self, end: float, late: float = 0.0) -> None:
        """What is due by `end` happens, `late` seconds late if so."""
        while self._due and self._due[0][0] <= end:
            due, number, call = heapq.heappop(self._due)
            self.time = max(self.time, due + late)
            if number not in self._cancelled:
                call()
        self.time = max(self.time, end)

    @contextmanager
    def running(self) -> Iterator[None]:
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


class Quiet:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words, **fields: None


class Server:
    """One server's state and what it knows beside it. It proposes to the cluster."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        raft: Any = cluster
        log: Any = Quiet()
        self.sessions = Sessions(self.store, raft, "dc1", clock, log)


class Cluster:
    """Commands in one order on all servers; at most one leads."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.index = 10
        self.servers = [Server(self, clock) for _ in range(SERVERS)]
        self.leader: Server | None = None
        self.expired: dict[str, float] = {}  # when sessions were ended by their TTL

    def propose(self, data: bytes, done: Callable[[object], None]) -> None:
        """Only expiring sessions are proposed without a client."""
        before = set(self.servers[0].store.sessions.rows)
        done(self.apply(data))
        for session_id in before - set(self.servers[0].store.sessions.rows):
            self.expired[session_id] = self.clock.now()

    def apply(self, data: bytes) -> Any:
        self.index += 1
        results = [server.fsm.apply(self.index, data) for server in self.servers]
        return results[0]

    def write(self, write: Any, args: Any) -> Any:
        """As a client's write goes: prepared by the leader, then applied everywhere."""
        assert self.leader is not None
        try:
            data = write.prepare(self.leader.store, args)
        except CtlError as error:
            return error
        return data.result if isinstance(data, Settled) else self.apply(data)

    def elect(self, number: int) -> None:
        self.depose()
        self.leader = self.servers[number]
        self.leader.sessions.leading(True)

    def depose(self) -> None:
        if self.leader is not None:
            self.leader.sessions.leading(False)
        self.leader = None


class Known:
    """What a client knows of its session, and until when it may count on it at least."""

    def __init__(self, session: Session, now: float) -> None:
        self.session = session
        self.ttl = int(session.ttl.removesuffix("s") or "0")
        self.begins_anew(now)

    def begins_anew(self, now: float) -> None:
        """It was made or renewed, there is another leader, or an archive was restored."""
        self.since = now
        self.until = now + 2 * self.ttl


class SessionsAndLocks(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cluster = Cluster(self.clock)
        self.known: dict[str, Known] = {}
        self.holders: dict[bytes, str] = {}
        self.lock_indexes: dict[bytes, int] = {}
        self.free_at: dict[bytes, float] = {}  # keys whose holder was ended, until when nobody may have them
        self.critical: set[str] = set()
        self.saved: tuple[bytes, Any] | None = None

    @initialize()
    def begin(self) -> None:
        with self.clock.running():
            self.cluster.elect(0)
            for node in ("n1", "n2"):
                self.register(node)
        self.make("n1", 10, 15, "release", False)
        self.make("n2", 15, 5, "delete", True)
        self.make("n1", 0, 15, "", True)
        first, second, _ = self.known
        self.take(b"a", first)
        self.take(b"b", second)
        self.save()

    def register(self, node: str, status: str = PASSING) -> None:
        check = HealthCheck(node=node, check_id="serfHealth", status=status)
        request = RegisterRequest(datacenter="dc1", node=node, address="10.0.0.1", check=check)
        assert self.cluster.apply(commands.register(request)) is None

    @property
    def store(self) -> Any:
        return self.cluster.servers[0].store

    def session_ended(self, session_id: str, at: float | None = None) -> None:
        """The model's side of an end, by whatever hand, now or at a time that has passed."""
        ended = self.clock.now() if at is None else at
        gone = self.known.pop(session_id).session
        delay = min(gone.lock_delay, 60 * SECOND) / SECOND
        for key in [key for key, holder in self.holders.items() if holder == session_id]:
            del self.holders[key]
            if gone.behavior == "delete":
                self.lock_indexes.pop(key)
            if delay:
                self.free_at[key] = ended + delay

    # Sessions

    @precondition(lambda self: len(self.known) < 6)
    @rule(
        node=NODES,
        ttl=st.sampled_from(TTLS),
        delay=st.sampled_from([0, 5, 15, 90]),
        behavior=st.sampled_from(["", "release", "delete"]),
        checked=st.booleans(),
    )
    def make(self, node: str, ttl: int, delay: int, behavior: str, checked: bool) -> None:
        checks = ["serfHealth"] if checked else []
        text = f"{ttl}s" if ttl else ""
        asked = Session(node=node, ttl=text, lock_delay=delay * SECOND, behavior=behavior, node_checks=checks)
        with self.clock.running():
            made = self.cluster.write(session_api.APPLY, SessionRequest("dc1", "create", asked))
        refused = node not in self.store.node_rows or (checked and node in self.critical)
        if refused:
            assert isinstance(made, CtlError)
            return
        session = replace(asked, id=made, behavior=behavior or "release")
        self.known[made] = Known(session, self.clock.now())

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.known)))
        assert self.cluster.leader is not None
        found = self.cluster.leader.store.session_get(session_id)[1]
        assert found is not None, "a session that its client knows to live is gone"
        with self.clock.running():
            self.cluster.leader.sessions.renew(found)
        self.known[session_id].begins_anew(self.clock.now())

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.known)))
        request = SessionRequest("dc1", "destroy", Session(id=session_id))
        with self.clock.running():
            assert self.cluster.write(session_api.APPLY, request) is None
        self.session_ended(session_id)

    # Locks

    @precondition(lambda self: self.known)
    @rule(key=KEYS, data=st.data())
    def lock(self, key: bytes, data: st.DataObject) -> None:
        self.take(key, data.draw(st.sampled_from(sorted(self.known))))

    def take(self, key: bytes, session_id: str) -> None:
        change = kv_api.KVChange("lock", key, b"x", session=session_id)
        taken = self.cluster.write(kv_api.APPLY, change)
        holder = self.holders.get(key)
        if self.free_at.get(key, 0.0) > self.clock.now():
            assert taken is False or holder == session_id, "the lock delay was not kept"
        else:
            assert taken is (holder in (None, session_id)), "two holders"
        if taken:
            if holder is None:
                self.lock_indexes[key] = self.lock_indexes.get(key, 0) + 1
            self.holders[key] = session_id

    @precondition(lambda self: self.known)
    @rule(key=KEYS, data=st.data())
    def unlock(self, key: bytes, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.known)))
        change = kv_api.KVChange("unlock", key, b"y", session=session_id)
        given = self.cluster.write(kv_api.APPLY, change)
        assert given is (self.holders.get(key) == session_id)
        if given:
            del self.holders[key]

    @rule(key=KEYS, what=st.sampled_from(["set", "delete", "lock"]))
    def without_a_session(self, key: bytes, what: str) -> None:
        """A plain write leaves the holder, a deletion ends the lock, a session that is gone gets none."""
        gone = "00000000-0000-0000-0000-00000000dead" if what == "lock" else ""
        done = self.cluster.write(kv_api.APPLY, kv_api.KVChange(what, key, b"z", session=gone))
        if what == "lock":
            assert (
                done is False if self.free_at.get(key, 0.0) > self.clock.now() else isinstance(done, CtlError)
            )
        elif what == "set":
            self.lock_indexes[key] = 0  # a write that gives no lock index sets it back
        else:
            self.holders.pop(key, None)
            self.lock_indexes.pop(key, None)

    # What ends sessions from outside

    @rule(node=NODES, status=st.sampled_from([PASSING, PASSING, CRITICAL]))
    def check(self, node: str, status: str) -> None:
        with self.clock.running():
            self.register(node, status)
        if status == PASSING:
            self.critical.discard(node)
            return
        self.critical.add(node)
        for session_id, known in list(self.known.items()):
            if known.session.node == node and known.session.node_checks:
                self.session_ended(session_id)

    @rule(node=NODES, check_only=st.booleans())
    def deregister(self, node: str, check_only: bool) -> None:
        request = DeregisterRequest("dc1", node, check_id="serfHealth" if check_only else "")
        with self.clock.running():
            assert self.cluster.apply(commands.deregister(request)) is None
        for session_id, known in list(self.known.items()):
            if known.session.node == node and (known.session.node_checks or not check_only):
                self.session_ended(session_id)
        self.critical.add(node)  # or has no check, which is refused all the same

    # Time and leaders

    @rule(seconds=st.floats(0.1, 25.0))
    def wait(self, seconds: float) -> None:
        with self.clock.running():
            self.clock.run_until(self.clock.now() + seconds)
        self.expire()

    @rule(seconds=st.floats(2.0, 120.0))
    def stand_still(self, seconds: float) -> None:
        """The leading process is stopped, or the machine sleeps: nobody could renew."""
        self.clock.time += seconds
        for known in self.known.values():
            known.since += seconds
            known.until += seconds - SLACK / 2
        with self.clock.running():
            self.clock.run_until(self.clock.now())
        self.expire()

    @rule(number=SERVER, seconds=st.floats(0.0, 30.0))
    def elect(self, number: int, seconds: float) -> None:
        """Some time passes without a leader, then there is another one."""
        with self.clock.running():
            self.cluster.depose()
            self.clock.run_until(self.clock.now() + seconds)
            self.cluster.elect(number)
        for known in self.known.values():
            known.begins_anew(self.clock.now())

    @rule()
    def save(self) -> None:
        state = b"".join(self.cluster.servers[0].fsm.snapshot())
        sessions = [known.session for known in self.known.values()]
        self.saved = (state, (sessions, dict(self.holders), dict(self.lock_indexes), set(self.critical)))

    @rule()
    def restore(self) -> None:
        """Sessions of the past come back, and have their whole time; lock delays are not in archives."""
        assert self.saved is not None
        state, (sessions, holders, lock_indexes, critical) = self.saved
        with self.clock.running():
            for server in self.cluster.servers:
                server.fsm.restore(state)
        self.known = {session.id: Known(session, self.clock.now()) for session in sessions}
        self.holders, self.lock_indexes = dict(holders), dict(lock_indexes)
        self.critical = set(critical)

    def expire(self) -> None:
        """What ended by its TTL must have had its whole time."""
        for session_id, at in self.cluster.expired.items():
            known = self.known[session_id]
            assert known.ttl, "a session without a TTL has ended by itself"
            assert at >= known.until, f"ended {known.until - at} s too soon"
            self.session_ended(session_id, at)
        self.cluster.expired.clear()

    # Laws

    @invariant()
    def what_clients_know_to_live_lives(self) -> None:
        living = {session.id for session in self.store.session_list()[1]}
        assert living == set(self.known)

    @invariant()
    def a_session_that_nobody_renews_ends(self) -> None:
        for session_id, known in self.known.items():
            age = self.clock.now() - known.since
            assert not known.ttl or age <= 2 * known.ttl + SLACK, f"{session_id} lives on and on"

    @invariant()
    def every_server_knows_the_same_holders(self) -> None:
        for server in self.cluster.servers:
            rows = server.store.kv.rows
            assert {key: row.session for key, row in rows.items() if row.session} == self.holders
            found = {key: row.lock_index for key, row in rows.items()}
            assert found == self.lock_indexes


TestSessionsAndLocks = SessionsAndLocks.TestCase
TestSessionsAndLocks.settings = settings(max_examples=60, stateful_step_count=50)


def test_sessions_of_an_archive_end_like_others() -> None:
    """They come back when nobody is there to renew them."""
    machine = SessionsAndLocks()
    machine.begin()
    first = next(iter(machine.known))
    with machine.clock.running():
        request = SessionRequest("dc1", "destroy", Session(id=first))
        assert machine.cluster.write(session_api.APPLY, request) is None
    machine.session_ended(first)
    machine.restore()
    machine.every_server_knows_the_same_holders()
    with machine.clock.running():
        machine.clock.run_until(machine.clock.now() + 19.0)
        assert first in machine.store.sessions
        machine.clock.run_until(machine.clock.now() + 1.0 + SLACK)
    assert first not in machine.store.sessions
