"""One server of a simulated cluster: its disk for life, its clock, its machine between two crashes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import CtlError
from core.raft import configuration as membership
from core.raft.configuration import Configuration, Configurations
from core.raft.log import Log
from core.raft.messages import BARRIER, COMMAND, CONFIGURATION, Entry
from core.raft.ready import HardState, Outgoing, Ready
from core.store.fsm import FSM

if TYPE_CHECKING:
    from tests.sim.raft_cluster import Cluster

Link = tuple[int, int, int, int, bytes | None]  # index, term, term before, type, data
Snapshot = tuple[int, int, tuple[int, Configuration], bytes]  # index, term, configuration, state
Answer = Callable[[str, Any], None]  # OK with the result, REFUSED (it did not take place), UNKNOWN

OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"
LATE, WAKE = 0.1, 0.001  # seconds, as in agent/driver.py


@dataclass
class Disk:
    """What survives a crash."""

    hard: HardState = field(default_factory=HardState)
    base: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    snapshot: Snapshot | None = None
    full: bool = False
    slow: bool = False

    def read(self, first: int, last: int) -> list[Entry]:
        return self.entries[first - self.base - 1 : last - self.base]

    def store(self, ready: Ready) -> None:
        self.hard = ready.hard_state or self.hard
        if ready.truncate:
            del self.entries[max(0, ready.truncate - self.base - 1) :]
        self.entries += ready.entries

    def compact(self, index: int, term: int) -> None:
        if index > self.base:
            del self.entries[: index - self.base]
            self.base, self.base_term = index, term


class Member:
    """One server. `life` counts its crashes: what was begun in another life never ends."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.address = f"{name}:8300"
        self.disk = Disk()
        self.node: Any = None
        self.fsm = FSM()
        self.applied, self.applied_term = 0, 0
        self.life = 1
        self.rate, self.ahead = 1.0, 0.0  # of its clock
        self.busy_until = 0.0
        self.writes: list[tuple[Ready, list[Link]]] = []  # being written, in order
        self.after: dict[int, list[Outgoing]] = {}  # by number of the write: what may leave then
        self.written = 0
        self.rings_at = float("inf")  # the earliest timer under way
        self.waiting: dict[int, tuple[int, Answer]] = {}
        self.was_ready = self.woken = False

    # Its clock

    def clock(self) -> float:
        return self.cluster.now * self.rate + self.ahead

    def jump(self, seconds: float) -> None:
        """The clock jumps forward."""
        self.ahead += seconds
        self.rings_at = float("inf")
        if self.node is not None:
            self.arm()

    # Life

    def start(self) -> None:
        cluster, disk = self.cluster, self.disk
        index, term, conf, state = disk.snapshot or (0, 0, (0, Configuration()), b"")
        self.fsm = FSM()
        if state:
            self.fsm.restore(state)
        self.applied, self.applied_term = index, term
        runs: list[tuple[int, int]] = []
        for entry in disk.entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        log = Log(disk, disk.base, disk.base_term, disk.base + len(disk.entries), runs)
        configurations = Configurations(conf[1], conf[0])
        for entry in disk.entries:
            if entry.type == CONFIGURATION and entry.index > max(conf[0], index):
                configurations.append(entry.index, membership.decode(entry.data or b""))
        self.node = cluster.node_class(
            self.name,
            self.address,
            log,
            disk.hard,
            configurations,
            cluster.timing,
            random.Random(cluster.random.random()),
            self.clock(),
            index,
            term,
        )
        self.node.snapshot_handle = disk.snapshot
        self.settle()

    def crash(self) -> None:
        """All that was not synced is lost; of what was just being written, some was synced."""
        for ready, links in self.writes[: self.cluster.random.randrange(0, 3)]:
            if not self.disk.full:
                self.cluster.check_entries(self.name, links)
                self.cluster.store(self.disk, ready)
        waiting = list(self.waiting.values())
        self.node = None
        self.was_ready = False
        self.life += 1
        self.forget_writes()
        self.waiting.clear()
        self.rings_at = float("inf")
        self.busy_until = 0.0
        for _, answer in waiting:
            answer(UNKNOWN, None)

    def forget_writes(self) -> None:
        self.writes.clear()
        self.after.clear()
        self.written = 0

    def receive(self, letter: tuple[str, Any]) -> None:
        self.node.receive(letter[0], letter[1], self.clock())
        self.settle()

    # Doing what the machine asks for

    def settle(self) -> None:
        node, cluster = self.node, self.cluster
        while (ready := node.drain()) is not None:
            for outgoing in ready.messages:
                cluster.send(self.name, outgoing)
            if ready.mark:
                self.writes.append((ready, self.links(ready.entries)))
                if len(self.writes) == 1:
                    self.begin_write()
            if ready.held:
                if self.writes:
                    number = self.written + len(self.writes)
                    self.after.setdefault(number, []).extend(ready.held)
                else:
                    for outgoing in ready.held:
                        cluster.send(self.name, outgoing)
            if ready.install is not None:
                cluster.later(cluster.random.uniform(0, 0.05), self.finish_install, self)
            for entry in ready.committed:
                self.apply(entry)
            for token, leading in ready.verified:
                self.verified(token, leading)
        if node.leader is not None:
            cluster.check_leader(self)
        if node.wants_snapshot:
            self.take_snapshot()
        ready = self.is_leader
        if ready is not self.was_ready:
            self.was_ready = ready
            if ready:
                self.tell_new_address()
        self.arm()

    def tell_new_address(self) -> None:
        """A leader that came back with another address enters it into the configuration (agent/raft.py)."""
        latest = self.node.configurations.latest
        known = latest.get(self.name)
        if known is not None and known.address != self.address:
            with contextlib.suppress(CtlError):
                self.node.change(latest.with_voter(self.name, self.address), self.clock())
                self.settle()

    def links(self, entries: list[Entry]) -> list[Link]:
        """Each entry with the term of the one before it, where that is known."""
        found: list[Link] = []
        for entry in entries:
            previous = self.node.log.term(entry.index - 1)
            if previous is not None:
                found.append((entry.index, entry.term, previous, entry.type, entry.data))
        return found

    def begin_write(self) -> None:
        slowest = self.cluster.write_times[1] if self.disk.slow else self.cluster.write_times[0]
        self.cluster.later(self.cluster.random.uniform(0.0001, slowest), self.end_write, self)

    def end_write(self, _: object = None) -> None:
        node = self.node
        if self.disk.full:
            self.forget_writes()
            node.write_failed(self.clock())
            lost = [index for index in self.waiting if index > node.log.last]
            for index in lost:  # others may have got them
                self.waiting.pop(index)[1](UNKNOWN, None)
        else:
            ready, links = self.writes.pop(0)
            self.written += 1
            self.cluster.check_entries(self.name, links)
            self.cluster.store(self.disk, ready)
            node.persisted(ready.mark, self.clock())
            for outgoing in self.after.pop(self.written, ()):
                self.cluster.send(self.name, outgoing)
            if self.writes:
                self.begin_write()
        self.settle()

    def finish_install(self, _: object = None) -> None:
        node = self.node
        if self.writes:  # the log's writer finishes first
            self.cluster.later(0.001, self.finish_install, self)
            return
        request = node.installing
        if self.disk.full:
            node.installed(False, self.clock())
        else:
            index, term, _conf, state = request.handle
            assert (index, term) == (request.last_index, request.last_term)
            self.disk.snapshot = request.handle
            self.disk.entries, self.disk.base, self.disk.base_term = [], index, term
            self.fsm.restore(state)
            self.applied, self.applied_term = index, term
            node.installed(True, self.clock(), request.handle)
            passed = [known for known in self.waiting if known <= index]
            for known in passed:
                self.waiting.pop(known)[1](UNKNOWN, None)
        self.settle()

    def begin_restore(self, floor: int) -> bool:
        """The leader replaces its state by an archive (agent/raft_snapshots.py); whether it may. Here it is
        the state that there is: what was answered stays true, what was not may be lost."""
        node = self.node
        try:
            node.hold(floor, self.clock())
        except CtlError:
            return False
        for index in [index for index in self.waiting if index > self.applied]:
            self.waiting.pop(index)[1](UNKNOWN, None)
        self.cluster.later(self.cluster.random.uniform(0, 0.05), self.finish_restore, self)
        self.settle()
        return True

    def finish_restore(self, _: object = None) -> None:
        node = self.node
        if self.writes:
            self.cluster.later(0.001, self.finish_restore, self)
            return
        request = node.installing
        index, term = request.last_index, request.last_term
        if self.disk.full or node.leader is None or node.term != term:
            node.installed(False, self.clock())
        else:
            handle = (
                index,
                term,
                (request.configuration_index, node.configurations.at(index)[1]),
                self.state(),
            )
            self.disk.snapshot = handle
            self.disk.entries, self.disk.base, self.disk.base_term = [], index, term
            self.applied, self.applied_term = index, term
            node.installed(True, self.clock(), handle)
        self.settle()

    def state(self) -> bytes:
        return b"".join(self.fsm.snapshot())

    def apply(self, entry: Entry) -> None:
        self.cluster.check_applied(self, entry)
        result = None
        if entry.type == COMMAND:
            result = self.fsm.apply(entry.index, entry.data or b"", entry.extensions or b"", entry.term)
        self.applied, self.applied_term = entry.index, entry.term
        waiting = self.waiting.pop(entry.index, None)
        if waiting is not None:
            term, answer = waiting
            answer(OK, result) if term == entry.term else answer(REFUSED, None)

    def take_snapshot(self) -> None:
        node = self.node
        index, term = self.applied, self.applied_term
        if index <= node.snapshot_index or self.disk.full:
            return
        handle = (index, term, node.configurations.at(index), self.state())
        self.disk.snapshot = handle
        node.snapshot_taken(index, term, handle[2], handle)
        floor = index - self.cluster.random.randrange(0, 20)
        kept = node.log.term(floor)
        if kept is not None:
            node.compact(floor)
            self.disk.compact(floor, kept)

    def arm(self) -> None:
        """One timer under way is enough: one that rings early looks at the clock again."""
        if self.rings_at - self.cluster.now < 0.001:
            return
        due = self.node.deadline()
        if due is None:
            return
        when = max((due - self.ahead) / self.rate, self.cluster.now) + 1e-6
        if when < self.rings_at:
            self.rings_at = when
            self.cluster.at(when, self.ring, self, when)

    def ring(self, when: float) -> None:
        if when != self.rings_at:
            return  # moved
        self.rings_at = float("inf")
        due, now = self.node.deadline(), self.clock()
        if due is not None and now - due > LATE and not self.woken:
            # Who was asleep hears the others before it believes in their silence.
            self.woken = True
            self.rings_at = self.cluster.now + WAKE
            self.cluster.at(self.rings_at, self.ring, self, self.rings_at)
            return
        self.woken = False
        if due is not None and now >= due:
            self.node.tick(now)
            self.settle()
        else:
            self.arm()

    # What clients ask, as agent/raft.py answers

    @property
    def is_leader(self) -> bool:
        leader = self.node.leader
        return leader is not None and self.applied >= leader.noop_index

    def write(self, data: bytes, answer: Answer, kind: int = COMMAND) -> None:
        try:
            index = self.node.propose(Entry(type=kind, data=data))
        except CtlError:
            answer(REFUSED, None)
            return
        self.waiting[index] = (self.node.term, answer)
        self.settle()

    def read_verified(self, read: Callable[[], Any], answer: Answer) -> None:
        """A consistent read: a quorum confirms the leadership, then all that was committed is applied."""
        if self.node.leader is None:
            answer(REFUSED, None)
            return
        self.node.verify((self.node.commit, read, answer), self.clock())
        self.settle()

    def verified(self, token: tuple[int, Callable[[], Any], Answer], leading: bool) -> None:
        commit, read, answer = token
        if not leading:
            answer(REFUSED, None)
        elif self.is_leader and self.applied >= commit:
            answer(OK, read())
        else:

            def applied(outcome: str, _: Any) -> None:
                answer(OK, read()) if outcome == OK else answer(REFUSED, None)

            self.cluster.later(0, lambda _: self.write(b"", applied, BARRIER), self)

    def read_leased(self, read: Callable[[], Any], answer: Answer) -> None:
        """A default read: the leader answers at once while no other can have been elected."""
        if self.is_leader and self.cluster.may_read(self):
            answer(OK, read())
        else:
            answer(REFUSED, None)
