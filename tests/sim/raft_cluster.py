"""A cluster of Raft machines on pretend time, from one seed: a network that loses, delays, repeats
and reorders; partitions, also one-way; disks that take time, fill up and lose what was not synced.

After every step the safety properties of the Raft paper (figure 3) are checked; a violation raises
`Unsafe` with what was seen. `python -m pytest tests/sim -k "seed and 17"` replays one seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core.errors import CtlError
from core.raft import configuration as membership
from core.raft.configuration import VOTER, Configuration, Configurations, Server
from core.raft.log import Log
from core.raft.messages import CONFIGURATION, AppendEntries, Entry, Unreachable
from core.raft.node import Node
from core.raft.ready import HardState, Outgoing, Ready
from core.raft.settings import Settings

TIMING = Settings(heartbeat_timeout=0.3, election_timeout=0.3, lease_timeout=0.15, heartbeat_interval=0.03)


class Unsafe(AssertionError):
    """Raft promised that this cannot happen."""


@dataclass
class Faults:
    """How bad the weather is. Rates are per message or per second."""

    loss: float = 0.05
    duplicate: float = 0.05
    delay: float = 0.01
    slow: float = 0.02  # share of messages that take up to half a second
    crash: float = 0.1
    partition: float = 0.2
    disk_full: float = 0.05
    slow_disk: float = 0.05
    snapshot: float = 0.5
    membership: float = 0.1
    transfer: float = 0.05


CALM = Faults(0, 0, 0.002, 0, 0, 0, 0, 0, 0, 0, 0)

Applied = list[tuple[int, int, bytes | None]]
Link = tuple[int, int, int, int, bytes | None]  # index, term, term before, type, data


@dataclass
class Disk:
    """What survives a crash."""

    hard: HardState = field(default_factory=HardState)
    base: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    snapshot: tuple[int, int, tuple[int, Configuration], Applied] | None = None
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
    """One server: its disk for life, its machine between two crashes."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.disk = Disk()
        self.node: Node | None = None
        self.state: Applied = []
        self.life = 0
        self.writes: list[tuple[Ready, list[Link]]] = []  # being written, in order
        self.after: dict[int, list[Outgoing]] = {}  # by number of the write: what may leave then
        self.written = 0
        self.timer = 0
        self.waiting: dict[int, tuple[int, bytes]] = {}

    def start(self) -> None:
        cluster, disk = self.cluster, self.disk
        index, term, conf, state = disk.snapshot or (0, 0, (0, Configuration()), [])
        self.state = list(state)
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
            f"{self.name}:8300",
            log,
            disk.hard,
            configurations,
            cluster.timing,
            random.Random(cluster.random.random()),
            cluster.now,
            index,
            term,
        )
        self.node.snapshot_handle = (index, term, conf, list(self.state))
        self.settle()

    def crash(self) -> None:
        self.node = None
        self.life += 1
        self.writes.clear()
        self.after.clear()
        self.waiting.clear()
        self.written = 0

    def alive(self, action: Callable[[], None]) -> Callable[[], None]:
        """`action`, unless this server crashed meanwhile."""
        life = self.life
        return lambda: action() if self.life == life and self.node is not None else None

    def receive(self, source: str, message: Any) -> None:
        if self.node is not None:
            self.node.receive(source, message, self.cluster.now)
            self.settle()

    # Doing what the machine asks for

    def settle(self) -> None:
        node, cluster = self.node, self.cluster
        assert node is not None
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
                cluster.later(cluster.random.uniform(0, 0.05), self.alive(self.finish_install))
            for entry in ready.committed:
                self.apply(entry)
            for token, leading in ready.verified:
                cluster.verified(self, token, leading)
        cluster.check_leader(self)
        self.arm()

    def links(self, entries: list[Entry]) -> list[Link]:
        """Each entry with the term of the one before it, where that is known."""
        assert self.node is not None
        found: list[Link] = []
        for entry in entries:
            previous = self.node.log.term(entry.index - 1)
            if previous is not None:
                found.append((entry.index, entry.term, previous, entry.type, entry.data))
        return found

    def begin_write(self) -> None:
        cluster = self.cluster
        took = cluster.random.uniform(0.0001, 0.5 if self.disk.slow else 0.004)
        cluster.later(took, self.alive(self.end_write))

    def end_write(self) -> None:
        node = self.node
        assert node is not None
        if self.disk.full:
            self.writes.clear()
            self.after.clear()
            self.written = 0
            node.write_failed(self.cluster.now)
            self.waiting = {i: what for i, what in self.waiting.items() if i <= node.log.last}
        else:
            ready, links = self.writes.pop(0)
            self.written += 1
            self.cluster.check_entries(self.name, links)
            self.cluster.store(self.disk, ready)
            node.persisted(ready.mark, self.cluster.now)
            for outgoing in self.after.pop(self.written, []):
                self.cluster.send(self.name, outgoing)
            if self.writes:
                self.begin_write()
        self.settle()

    def finish_install(self) -> None:
        node = self.node
        assert node is not None and node.installing is not None
        if self.writes:  # the log's writer finishes first
            self.cluster.later(0.001, self.alive(self.finish_install))
            return
        request = node.installing
        if self.disk.full:
            node.installed(False, self.cluster.now)
        else:
            index, term, _, state = request.handle
            assert (index, term) == (request.last_index, request.last_term)
            self.disk.snapshot = request.handle
            self.disk.entries, self.disk.base, self.disk.base_term = [], index, term
            self.state = list(state)
            node.installed(True, self.cluster.now, request.handle)
        self.settle()

    def apply(self, entry: Entry) -> None:
        if self.state and entry.index != self.state[-1][0] + 1:
            raise Unsafe(f"{self.name} applied {entry.index} after {self.state[-1][0]}")
        self.state.append((entry.index, entry.term, entry.data))
        self.cluster.check_applied(self, entry)
        waiting = self.waiting.pop(entry.index, None)
        if waiting is not None and waiting[0] == entry.term:
            self.cluster.acknowledged[entry.index] = waiting[1]

    def take_snapshot(self) -> None:
        node = self.node
        assert node is not None
        if not self.state or self.state[-1][0] <= node.snapshot_index:
            return
        index, term, _ = self.state[-1]
        handle = (index, term, node.configurations.at(index), list(self.state))
        self.disk.snapshot = handle
        node.snapshot_taken(index, term, handle[2], handle)
        floor = index - self.cluster.random.randrange(0, 20)
        kept = node.log.term(floor)
        if kept is not None:
            node.compact(floor)
            self.disk.compact(floor, kept)

    def arm(self) -> None:
        assert self.node is not None
        due = self.node.deadline()
        self.timer += 1
        if due is None:
            return
        timer = self.timer

        def ring() -> None:
            if timer == self.timer:
                assert self.node is not None
                self.node.tick(self.cluster.now)
                self.settle()

        self.cluster.at(max(due, self.cluster.now + 1e-6), self.alive(ring))


class Cluster:
    """`size` voters out of a pool with two more servers that may be added."""

    def __init__(
        self,
        seed: int,
        size: int,
        faults: Faults,
        node_class: type[Node] = Node,
        timing: Settings = TIMING,
    ) -> None:
        self.random = random.Random(seed)
        self.timing = timing
        self.node_class = node_class
        self.faults = faults
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.cut: set[tuple[str, str]] = set()
        self.leaders: dict[int, str] = {}
        self.entries: dict[tuple[int, int], list[Any]] = {}
        self.applied: dict[int, tuple[int, int, bytes | None]] = {}
        self.acknowledged: dict[int, bytes] = {}
        self.proposals = 0
        self.reads = 0
        self.members = {f"n{i}": Member(self, f"n{i}") for i in range(size + 2)}
        names = list(self.members)[:size]
        data = Configuration(tuple(Server(n, f"{n}:8300", VOTER) for n in names)).encode()
        for name in names:
            self.members[name].disk.store(
                Ready(hard_state=HardState(1, ""), entries=[Entry(1, 1, CONFIGURATION, data)])
            )
        self.entries[1, 1] = [0, CONFIGURATION, data]
        for member in self.members.values():
            member.start()

    # Time

    def at(self, when: float, action: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, action))

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def run(self, seconds: float) -> None:
        """Let `seconds` of pretend time pass."""
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, action = heapq.heappop(self.events)
            action()
        self.now = end

    # Network

    def send(self, source: str, outgoing: Outgoing) -> None:
        chance, faults = self.random, self.faults
        message = outgoing.message
        if outgoing.answers is not None:
            message.request = outgoing.answers  # type: ignore[union-attr]
        if isinstance(message, AppendEntries) and message.entries:
            terms = [message.prev_term, *(entry.term for entry in message.entries)]
            chained = zip(message.entries, terms, strict=False)
            self.check_entries(source, [(e.index, e.term, t, e.type, e.data) for e, t in chained])
        if chance.random() < faults.loss:
            if outgoing.answers is None and chance.random() < 0.5:
                self.deliver(outgoing.to, source, Unreachable(message))  # type: ignore[arg-type]
            return
        self.deliver(source, outgoing.to, message)
        if chance.random() < faults.duplicate:
            self.deliver(source, outgoing.to, message)

    def deliver(self, source: str, target: str, message: Any) -> None:
        chance, faults = self.random, self.faults
        delay = chance.uniform(0.0002, faults.delay)
        if chance.random() < faults.slow:
            delay = chance.uniform(0, 0.5)

        def arrive() -> None:
            if (source, target) not in self.cut or isinstance(message, Unreachable):
                self.members[target].receive(source, message)

        self.later(delay, arrive)

    # What must hold

    def store(self, disk: Disk, ready: Ready) -> None:
        disk.store(ready)

    def check_entries(self, name: str, links: list[Link]) -> None:
        """Log matching, by induction: index and term decide the entry and the term before it. Asked
        of what was sent and of what became durable; what a failed write took back is neither."""
        for index, term, *link in links:
            known = self.entries.setdefault((index, term), link)
            if known != link:
                raise Unsafe(f"log matching: {name} {index}/{term}: {link} and {known}")

    def check_leader(self, member: Member) -> None:
        node = member.node
        if node is None or node.leader is None or self.leaders.get(node.term) == member.name:
            return
        if node.term in self.leaders:
            raise Unsafe(f"two leaders of term {node.term}: {self.leaders[node.term]}, {member.name}")
        self.leaders[node.term] = member.name
        for index, (term, _, _) in self.applied.items():
            if index > node.log.base and term < node.term and node.log.term(index) != term:
                raise Unsafe(f"leader {member.name} of term {node.term} lacks committed {index}/{term}")

    def check_applied(self, member: Member, entry: Entry) -> None:
        what = (entry.term, entry.type, entry.data)
        known = self.applied.setdefault(entry.index, what)
        if known != what:
            raise Unsafe(f"{member.name} applied {what} at {entry.index}, another server {known}")

    def verified(self, member: Member, token: Any, leading: bool) -> None:
        """A confirmed leader has everything that was acknowledged before the question."""
        node = member.node
        assert node is not None
        if leading and node.leader is not None and node.commit >= node.leader.noop_index:
            self.reads += 1
            if node.commit < token:
                raise Unsafe(f"stale read at {member.name}: commit {node.commit}, acknowledged {token}")

    # Clients and trouble

    def leading(self) -> Iterator[Member]:
        """Everyone who believes to be leader."""
        return (m for m in self.members.values() if m.node is not None and m.node.leader is not None)

    def propose(self) -> None:
        for member in self.leading():
            node = member.node
            assert node is not None
            self.proposals += 1
            data = b"%d" % self.proposals
            try:
                index = node.propose(Entry(data=data))
            except CtlError:
                continue
            member.waiting[index] = (node.term, data)
            self.settle(member)

    def read(self) -> None:
        for member in self.leading():
            assert member.node is not None
            member.node.verify(max(self.acknowledged, default=0), self.now)
            self.settle(member)

    def settle(self, member: Member) -> None:
        if member.node is not None:
            member.settle()

    def trouble(self, step: float) -> None:
        """What may happen in `step` seconds."""
        chance, faults = self.random, self.faults
        member = chance.choice(list(self.members.values()))
        if chance.random() < faults.crash * step:
            if member.node is not None:
                member.crash()
            self.later(chance.uniform(0.01, 2), lambda: member.start() if member.node is None else None)
        if chance.random() < faults.partition * step:
            self.partition()
        if chance.random() < faults.disk_full * step:
            member.disk.full = True
            self.later(chance.uniform(0.1, 3), lambda: setattr(member.disk, "full", False))
        if chance.random() < faults.slow_disk * step:
            member.disk.slow = True
            self.later(chance.uniform(0.1, 3), lambda: setattr(member.disk, "slow", False))
        if chance.random() < faults.snapshot * step and member.node is not None:
            member.take_snapshot()
        if chance.random() < faults.membership * step:
            self.change_membership()
        if chance.random() < faults.transfer * step:
            for leader in self.leading():
                assert leader.node is not None
                try:
                    leader.node.transfer("", self.now)
                except CtlError:
                    continue
                self.settle(leader)

    def partition(self) -> None:
        chance, names = self.random, list(self.members)
        chance.shuffle(names)
        half = names[: chance.randrange(1, len(names))]
        cut = {(a, b) for a in half for b in names if b not in half}
        if chance.random() < 0.6:
            cut |= {(b, a) for a, b in cut}
        self.cut |= cut
        self.later(chance.uniform(0.1, 3), lambda: self.cut.difference_update(cut))

    def change_membership(self) -> None:
        chance = self.random
        for member in self.leading():
            node = member.node
            assert node is not None
            latest = node.configurations.latest
            name = chance.choice(list(self.members))
            try:
                if latest.get(name) is None:
                    new = latest.with_nonvoter(name, f"{name}:8300")
                elif not latest.votes(name):
                    new = latest.with_voter(name, f"{name}:8300")
                elif len(latest.voters) > 2:
                    new = latest.without(name) if chance.random() < 0.5 else latest.demoted(name)
                else:
                    continue
                node.change(new, self.now)
            except CtlError:
                continue
            self.settle(member)

    def storm(self, seconds: float, step: float = 0.01) -> None:
        """Clients and trouble together."""
        end = self.now + seconds
        while self.now < end:
            self.run(step)
            self.trouble(step)
            if self.random.random() < 0.5:
                self.propose()
            if self.random.random() < 0.2:
                self.read()

    def calm(self, seconds: float = 10.0) -> None:
        """All is well again: the cluster must agree, keep what it acknowledged, and take a new write."""
        self.faults = CALM
        self.cut.clear()
        for member in self.members.values():
            member.disk.full = member.disk.slow = False
            if member.node is None:
                member.start()
        self.run(seconds)
        leaders = list(self.leading())
        if len(leaders) != 1:
            raise Unsafe(f"{len(leaders)} leaders after {seconds} s of calm")
        self.propose()
        self.run(1.0)
        if b"%d" % self.proposals not in self.acknowledged.values():
            raise Unsafe("no progress after a calm")
        leader = leaders[0].node
        assert leader is not None
        for server in leader.configurations.latest.servers:
            node = self.members[server.id].node
            assert node is not None
            if node.applied != leader.commit:
                raise Unsafe(f"{server.id} stands at {node.applied}, the leader at {leader.commit}")
        for index, data in self.acknowledged.items():
            if self.applied[index][2] != data:
                raise Unsafe(f"acknowledged entry {index} was lost")
