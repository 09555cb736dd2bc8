"""A cluster of Raft machines on pretend time, from one seed: a network that loses, delays, repeats
and reorders; partitions, also one-way; disks that take time, fill up and lose what was not synced;
servers that crash, stall, come and go; clocks that drift and jump.

While it runs the safety properties of the Raft paper (figure 3) are checked, after it the clients'
histories; a violation raises `Unsafe` with what was seen. `python -m tests sim --seed N` replays one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from core.raft.configuration import VOTER, Configuration, Server
from core.raft.messages import (
    CONFIGURATION,
    AppendEntries,
    Entry,
    InstallSnapshot,
    TimeoutNow,
    Unreachable,
)
from core.raft.node import Node
from core.raft.ready import HardState, Outgoing, Ready
from core.raft.settings import Settings
from tests.sim.linearizable import GET, PUT, Operation, violation
from tests.sim.pretend import Time
from tests.sim.raft_clients import Client
from tests.sim.raft_member import Disk, Link, Member
from tests.sim.raft_weather import CALM, Faults, Storm

# The defaults' proportions, but for a lease that bears the drift of clocks.
TIMING = Settings(
    heartbeat_timeout=0.15,
    election_timeout=0.09,
    lease_timeout=0.13,
    heartbeat_interval=0.015,
    write_timeout=0.3,
    succession_pause=0.0075,
    commit_timeout=0.01,
    snapshot_timeout=0.5,
)
SPARE = 2  # servers that may be added
CLIENTS = 6


class Unsafe(AssertionError):
    """Raft promised that this cannot happen."""


class Cluster:
    """`size` voters, and a few more servers that may be added."""

    def __init__(
        self,
        seed: str,
        size: int,
        faults: Faults,
        node_class: type[Node] = Node,
        timing: Settings = TIMING,
        trace: Callable[[str], None] | None = None,
        pace: float = 0.03,
        patience: float = 0.2,
        spare: int = SPARE,
        time: Time | None = None,
    ) -> None:
        """A client asks every `pace` seconds, and waits for an answer `patience` seconds."""
        self.random = random.Random(seed)
        self.timing = timing
        self.node_class = node_class
        self.faults = faults
        self.clocks_jump = faults.jump > 0
        self.time = Time() if time is None else time
        self.trace: Callable[[str], None] | None = None
        if trace is not None:
            self.trace = lambda text: trace(f"{self.now:9.4f} {text}")
        self.write_times = (0.004, 0.3)  # the longest, and that of a slow disk
        self.cut: Counter[tuple[str, str]] = Counter()
        self.leaders: dict[int, str] = {}
        self.entries: dict[tuple[int, int], list[Any]] = {}
        self.committed: dict[int, tuple[int, int, bytes | None]] = {}
        self.pace, self.patience = pace, patience
        self.keys = ["a", "b"]
        self.values = 0
        self.answered = 0
        self.clients_run = False
        self.asked = 0
        self.history: dict[int, Operation] = {}
        # Servers
        self.names = 0
        self.members: dict[str, Member] = {}
        for _ in range(size + spare):
            self.new_member()
        self.bootstrap(list(self.members)[:size])

    def new_member(self) -> Member:
        member = Member(self, f"n{self.names}")
        self.names += 1
        member.rate = self.random.uniform(1 - self.faults.drift, 1 + self.faults.drift)
        member.ahead = self.random.uniform(0, 1000)
        self.members[member.name] = member
        return member

    def bootstrap(self, names: list[str]) -> None:
        data = Configuration(tuple(Server(n, f"{n}:8300", VOTER) for n in names)).encode()
        self.entries[1, 1] = [0, CONFIGURATION, data]
        for name, member in self.members.items():
            if name in names:
                first = Entry(1, 1, CONFIGURATION, data)
                member.disk.store(Ready(hard_state=HardState(1, ""), entries=[first]))
            member.start()

    # Time

    @property
    def now(self) -> float:
        return self.time.now

    def at(
        self, when: float, action: Callable[[Any], None], member: Member | None = None, argument: Any = None
    ) -> None:
        """Call `action(argument)` then; if of a `member`, then only in its present life."""
        if member is None:
            self.time.later(when, action, argument)
        else:
            self.time.later(when, self._act, action, member, member.life, argument)

    def _act(self, action: Callable[[Any], None], member: Member, life: int, argument: Any) -> None:
        if member.life != life or member.node is None:
            return
        if self.time.now < member.busy_until:
            self.at(member.busy_until, action, member, argument)
        else:
            action(argument)

    def later(
        self, delay: float, action: Callable[[Any], None], member: Member | None = None, argument: Any = None
    ) -> None:
        self.at(self.now + delay, action, member, argument)

    def run(self, seconds: float) -> None:
        """Let `seconds` of pretend time pass."""
        self.time.run(seconds)

    # Network

    def send(self, source: str, outgoing: Outgoing) -> None:
        chance, faults = self.random, self.faults
        message: Any = outgoing.message
        if outgoing.answers is not None:
            message.request = outgoing.answers
        if type(message) is AppendEntries and message.entries:
            term, links = message.prev_term, []
            for entry in message.entries:
                links.append((entry.index, entry.term, term, entry.type, entry.data))
                term = entry.term
            self.check_entries(source, links)
        if self.trace is not None:
            self.trace(f"{source} -> {outgoing.to}: {_brief(message)}")
        if faults.loss and chance.random() < faults.loss:
            if chance.random() < 0.5:  # the connection broke, before the request came there or after
                if outgoing.answers is None:
                    self.deliver(outgoing.to, source, Unreachable(message))
                else:
                    self.deliver(source, outgoing.to, Unreachable(outgoing.answers))
            return
        self.deliver(source, outgoing.to, message)
        if faults.duplicate and chance.random() < faults.duplicate:
            self.deliver(source, outgoing.to, message)

    def deliver(self, source: str, target: str, message: Any) -> None:
        chance, faults = self.random, self.faults
        delay = chance.uniform(0.0002, faults.delay)
        if faults.slow and chance.random() < faults.slow:
            delay = chance.uniform(0, 0.5)
            if type(message) is TimeoutNow:  # a leader does not wait longer with its lease
                delay = min(delay, self.timing.heartbeat_timeout)
        life = 0  # what is sent to one life may arrive in the next, but for snapshots: they are streams
        if type(message) is InstallSnapshot and target in self.members:
            life = self.members[target].life
        self.later(delay, self.arrive, argument=(source, target, message, life))

    def arrive(self, letter: tuple[str, str, Any, int]) -> None:
        source, target, message, life = letter
        if self.cut and self.cut.get((source, target), 0) > 0 and type(message) is not Unreachable:
            return
        member = self.members.get(target)
        if member is None or member.node is None or (life and member.life != life):
            return
        if self.now < member.busy_until:
            awake = member.busy_until + self.random.uniform(0, 0.002)  # there is much to read then
            self.at(awake, member.receive, member, (source, message))
        else:
            member.receive((source, message))

    # What must hold

    def store(self, disk: Disk, ready: Ready) -> None:
        disk.store(ready)

    def may_read(self, leader: Member) -> bool:
        """Whether a leader may answer a default read."""
        return bool(leader.clock() < leader.node.leader.lease_until())

    def check_entries(self, name: str, links: list[Link]) -> None:
        """Log matching, by induction: index and term decide the entry and the term before it. Asked
        of what was sent and of what became durable; what a failed write took back is neither."""
        for index, term, *link in links:
            known = self.entries.setdefault((index, term), link)
            if known != link:
                raise Unsafe(f"log matching: {name} {index}/{term}: {link} and {known}")

    def check_leader(self, member: Member) -> None:
        """Election safety and leader completeness."""
        node = member.node
        if self.leaders.get(node.term) == member.name:
            return
        if node.term in self.leaders:
            raise Unsafe(f"two leaders of term {node.term}: {self.leaders[node.term]}, {member.name}")
        self.leaders[node.term] = member.name
        if self.trace is not None:
            self.trace(f"{member.name}: LEADER of term {node.term}")
        for index, (term, _, _) in self.committed.items():
            if index > node.log.base and term < node.term and node.log.term(index) != term:
                raise Unsafe(f"leader {member.name} of term {node.term} lacks committed {index}/{term}")

    def check_applied(self, member: Member, entry: Entry) -> None:
        """State machine safety."""
        if entry.index != member.applied + 1:
            raise Unsafe(f"{member.name} applied {entry.index} after {member.applied}")
        what = (entry.term, entry.type, entry.data)
        known = self.committed.setdefault(entry.index, what)
        if known != what:
            raise Unsafe(f"{member.name} applied {what} at {entry.index}, another server {known}")

    def check_history(self) -> None:
        wrong = violation(self.history.values())
        if wrong:
            raise Unsafe(wrong)

    # Servers

    def leading(self) -> Iterator[Member]:
        """Everyone who believes to be leader."""
        return (m for m in self.members.values() if m.node is not None and m.node.leader is not None)

    def replace_retired(self) -> None:
        """A server that no one counts as a member is gone for good; a new one takes its place."""
        running = [member.node for member in self.members.values()]
        if None in running:
            return  # who knows what that one counts
        for name, member in list(self.members.items()):
            if not any(
                node.configurations.latest.get(name) or node.configurations.committed.get(name)
                for node in running
            ):
                member.crash()
                del self.members[name]
                new = self.new_member()
                new.start()
                if self.trace is not None:
                    self.trace(f"{new.name} replaces {name}")
                return

    # A run

    def storm(self, seconds: float) -> None:
        """Clients and trouble together, then the clients' histories."""
        self.clients_run = True
        for number in range(CLIENTS):
            Client(self, f"c{number}", self.pace)
        storm = Storm(self, self.faults)
        self.run(seconds)
        self.clients_run = False
        storm.over = True

    def calm(self) -> None:
        """All is well again: the cluster must agree, keep what it acknowledged, and take new writes."""
        if self.trace is not None:
            self.trace("calm")
        self.faults = CALM
        self.cut.clear()
        for member in self.members.values():
            member.disk.full = member.disk.slow = False
            if member.node is None:
                member.start()
        self.run(max(0.0, max(member.busy_until for member in self.members.values()) - self.now))
        try:
            self.check_progress()
        except Unsafe:
            if not self.too_many_forks():
                raise
        self.check_history()

    def too_many_forks(self) -> bool:
        """Whether so many servers have a restored state that their leader does not know, that it cannot
        commit what they wait for. Then only an operator can decide (peers.json)."""
        for leader in self.leading():
            latest = leader.node.configurations.latest
            voters = [self.members.get(name) for name in latest.voters]
            intact = sum(m is not None and m.node is not None and not m.node.forked for m in voters)
            if intact < latest.quorum:
                return True
        return False

    def wait_leader(self) -> Member:
        """The leader that all agree on, after at most 40 election time-outs."""
        end = self.now + 40 * self.timing.heartbeat_timeout
        while self.now < end:
            self.run(0.05)
            leaders = list(self.leading())
            if len(leaders) == 1 and leaders[0].is_leader:
                return leaders[0]
        raise Unsafe(f"{len(list(self.leading()))} leaders at the end of a calm")

    def check_progress(self) -> None:
        """Every key can be read, and written; then all servers have the same state, byte for byte."""
        client = Client(self, "last", 1.0)
        for key in self.keys:
            for kind in (GET, PUT, GET):
                self.insist(client, kind, key)
        leader = self.wait_leader()
        patience, behind = 4 * self.timing.snapshot_timeout / 3, [1]
        end = self.now + patience
        while self.now < end and any(behind):
            self.run(0.05)
            before, behind = behind, [leader.applied - m.applied for m in self.servers_of(leader)]
            if behind != before:
                end = self.now + patience  # it goes on, with what small limits allow
        state = b"".join(leader.fsm.snapshot())
        for member in self.servers_of(leader):
            if member.applied != leader.applied:
                raise Unsafe(f"{member.name} stands at {member.applied}, the leader at {leader.applied}")
            if b"".join(member.fsm.snapshot()) != state:
                raise Unsafe(f"the state of {member.name} is not that of the leader")

    def servers_of(self, leader: Member) -> list[Member]:
        """The members of its configuration. Some may have been replaced, when a leader came back that knew
        them as members."""
        servers = leader.node.configurations.latest.servers
        return [self.members[server.id] for server in servers if server.id in self.members]

    def insist(self, client: Client, kind: str, key: str) -> None:
        """Ask until there is an answer; a transfer or a slow write that was under way may take its time."""
        for _ in range(10):
            leader = self.wait_leader()
            self.values += 1
            operation = Operation(kind, key, self.now, value=b"%d" % self.values, client=client.name)
            client.send(leader, operation, 0, False)
            self.run(0.05)
            if operation.is_certain:
                return
        raise Unsafe(f"no progress after a calm: {operation}")


def _brief(message: Any) -> str:
    """A message for the trace, without what is long."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    entries = fields.pop("entries", None)
    for name in ("handle", "peers", "request", "configuration", "leader", "candidate", "version"):
        fields.pop(name, None)
    shown = " ".join(f"{name}={value}" for name, value in fields.items() if value)
    if entries:
        shown += f" entries {entries[0].index}..{entries[-1].index}"
    return f"{type(message).__name__} {shown}"
