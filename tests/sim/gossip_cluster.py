"""Clusters of Serf machines on pretend time, from one seed: a network with delay and loss, nodes that are
killed, restarted, cut off or slow to hear.

`World` runs real machines on real packets, each with its own view of all others. `crowd` makes a large
cluster whose nodes have known each other for long, without the hours that this takes to grow."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from core.codec.regex import compile as compile_regex
from core.gossip.keyring import Keyring
from core.gossip.keys import KeyResult
from core.gossip.member import GossipEvent, Member, MemberEvent, QueryResponse, UserEvent
from core.gossip.memberlist import Address, StreamRequest
from core.gossip.serf import Ready, Serf
from core.gossip.settings import LAN, GossipSettings
from core.gossip.streams import StreamError
from tests.sim.pretend import Time

PORT = 7946


class Host:
    """One node: its machine and what it told."""

    def __init__(self, world: World, serf: Serf) -> None:
        self.world, self.serf = world, serf
        self.name = serf.name
        self.endpoint = serf.memberlist.local_node.endpoint
        self.running = True
        self.busy_until = 0.0  # packets wait until then
        self.armed = math.inf  # the tick that is on the heap
        self.events: list[GossipEvent] = []
        self.answers: list[tuple[int, QueryResponse]] = []
        self.ended: list[int] = []
        self.key_results: dict[int, KeyResult] = {}
        self.joins: list[str] = []
        self.lines: list[str] = []
        self.log: list[tuple[str, str]] = []
        self.left = self.name_lost = False

    def status(self, name: str) -> str:
        """How this node sees another: its status, or `` for a stranger."""
        member = self.serf.roster.get(name)
        return member.status_name if member is not None else ""

    def statuses(self) -> dict[str, str]:
        return {member.name: member.status_name for member in self.serf.members()}

    def of_kind(self, kind: str) -> list[str]:
        """The names in member events of that kind."""
        return [
            m.name for e in self.events if isinstance(e, MemberEvent) and e.kind == kind for m in e.members
        ]

    def user_events(self) -> list[tuple[str, bytes]]:
        return [(event.name, event.payload) for event in self.events if isinstance(event, UserEvent)]

    def take(self, ready: Ready) -> None:
        self.events += ready.events
        self.answers += ready.answers
        self.ended += ready.ended
        self.key_results.update(ready.key_results)
        self.joins += [result.error for result in ready.joins]
        self.lines += ready.snapshot
        self.log += ready.log
        self.left |= ready.left
        self.name_lost |= ready.name_lost


class World:
    """All nodes, what is on its way between them, and the time."""

    def __init__(
        self, seed: int, settings: GossipSettings = LAN, loss: float = 0.0, time: Time | None = None
    ) -> None:
        self.time = Time(1000.0) if time is None else time
        self.rng = random.Random(seed)
        self.settings = settings
        self.loss = loss
        self.delay = (0.0005, 0.002)
        self.way: Callable[[str, str], tuple[float, float]] | None = None  # delay from one node to another
        self.hosts: dict[str, Host] = {}
        self.packets = self.bytes = 0
        self.cut: Callable[[str, str], bool] | None = None
        self._at: dict[Address, Host] = {}

    # --- nodes

    def add(self, name: str, tags: Mapping[str, str] | None = None, **options: Any) -> Host:
        """A new node, or a new life of one that was killed. Options: `address`, `keys`, `settings`, and
        what Serf takes."""
        address = options.pop("address", "") or _address(len(self._at))
        if name in self.hosts and not self.hosts[name].running:
            address = self.hosts[name].endpoint[0]
        keys: Iterable[bytes] = options.pop("keys", ())
        keyring = Keyring(list(keys)) if keys else None
        settings = options.pop("settings", self.settings)
        rng = random.Random(self.rng.getrandbits(64))
        options.setdefault("compile", compile_regex)
        serf = Serf(name, address, PORT, tags or {}, settings, keyring, rng, self.now, **options)
        host = self.hosts[name] = self._at[address, PORT] = Host(self, serf)
        self.settle(host)
        return host

    def build(self, count: int, **options: Any) -> list[Host]:
        """`n0` to `n<count-1>`, all of which know each other."""
        hosts = [self.add(f"n{number}", **options) for number in range(count)]
        for host in hosts[1:]:
            self.join(host, hosts[0])
        names = {host.name: "alive" for host in hosts}
        self.until(lambda: all(host.statuses() == names for host in hosts), 60)
        return hosts

    def join(self, host: Host, to: Host, ignore_old: bool = False) -> None:
        self.do(host, host.serf.join, [to.endpoint], ignore_old)

    def do(self, host: Host, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the machine, and do what follows."""
        result = call(*arguments, self.now)
        self.settle(host)
        return result

    def kill(self, host: Host) -> None:
        host.running = False

    def thaw(self, host: Host) -> None:
        """One that was killed was only stopped: it goes on with what it knew."""
        host.running, host.armed = True, math.inf
        self.settle(host)

    def members(self, host: Host) -> tuple[Member, ...]:
        return host.serf.members()

    # --- time

    @property
    def now(self) -> float:
        return self.time.now

    def later(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        self.time.later(when, call, *arguments)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(seconds)

    def until(self, condition: Callable[[], bool], seconds: float, step: float = 0.05) -> float:
        """Let time pass until `condition`; how much it was."""
        return self.time.until(condition, seconds, step)

    # --- what machines want

    def settle(self, host: Host) -> None:
        """Do what the machine wants done, and tick it in time."""
        while (ready := host.serf.drain()) is not None:
            for to, packet in ready.packets:
                self._send(host, to, packet)
            for request in ready.streams:
                self.later(self.now + self._round_trip(host, request.to), self._stream, host, request)
            host.take(ready)
        due = host.serf.deadline()
        if due is not None and due < host.armed:
            host.armed = max(due, self.now)
            self.later(host.armed, self._tick, host, host.armed)

    def _tick(self, host: Host, armed: float) -> None:
        if not host.running or host.armed != armed:
            return
        host.armed = math.inf
        host.serf.tick(self.now)
        self.settle(host)

    def _latency(self, source: Host, target: Host) -> float:
        low, high = self.delay if self.way is None else self.way(source.name, target.name)
        return low + (high - low) * self.rng.random()

    def _round_trip(self, host: Host, to: Address) -> float:
        """A stream's: there and back."""
        target = self._at.get(to, host)
        if self.way is None:
            return 2 * self._latency(host, target)
        return self._latency(host, target) + self._latency(target, host)

    def _apart(self, source: Host, target: Host) -> bool:
        return self.cut is not None and self.cut(source.name, target.name)

    def _send(self, host: Host, to: Address, packet: bytes) -> None:
        self.packets += 1
        self.bytes += len(packet)
        target = self._at.get(to)
        if target is not None and self.rng.random() >= self.loss and not self._apart(host, target):
            self.later(self.now + self._latency(host, target), self._deliver, host, target, packet)

    def _deliver(self, source: Host, target: Host, packet: bytes) -> None:
        if not target.running:
            return
        if self.now < target.busy_until:
            self.later(target.busy_until, self._deliver, source, target, packet)
            return
        target.serf.receive(source.endpoint, packet, self.now)
        self.settle(target)

    def _stream(self, host: Host, request: StreamRequest) -> None:
        target = self._at.get(request.to)
        # A stream needs the way back, too.
        if target is None or not target.running or self._apart(host, target) or self._apart(target, host):
            self._answered(host, request, None, "connection refused")
        elif self.now < target.busy_until < self.now + request.timeout:
            self.later(target.busy_until, self._stream, host, request)
        elif self.now < target.busy_until:
            self.later(self.now + request.timeout, self._answered, host, request, None, "timed out")
        else:
            try:
                message = target.serf.inbound().feed(request.data)
                assert message is not None
                reply = target.serf.answer_stream(message, self.now)
            except StreamError as error:
                reply = error.reply
            self.settle(target)
            self._answered(host, request, reply, "")

    def _answered(self, host: Host, request: StreamRequest, reply: bytes | None, error: str) -> None:
        if not host.running:
            return
        if self.now < host.busy_until:
            self.later(host.busy_until, self._answered, host, request, reply, error)
            return
        if reply is None:
            host.serf.stream_failed(request.id, error, self.now)
        else:
            host.serf.stream_answered(request.id, reply, self.now)
        self.settle(host)


def _address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


# --- large clusters


def crowd(seed: int, count: int, settings: GossipSettings = LAN, loss: float = 0.0) -> World:
    """`count` nodes that have known each other for long. They look into one list of nodes and members,
    which is right as long as nobody comes, goes or is suspected."""
    world = World(seed, replace(settings, push_pull_interval=0.0), loss)
    hosts = [world.add(f"n{number}") for number in range(count)]
    nodes = [host.serf.memberlist.local_node for host in hosts]
    shared, roster = hosts[0].serf.memberlist._nodes, hosts[0].serf.roster
    for node in nodes[1:]:
        shared.add(node)
        roster.joined(node, world.now)
    for host in hosts:
        memberlist = host.serf.memberlist
        memberlist._nodes = memberlist._membership.nodes = memberlist._outbox._nodes = shared
        memberlist._queue.prune(0)  # what they said of themselves was heard long ago
        host.serf.roster._entries = roster._entries
        host.serf.roster._counts = roster._counts
        host.events.clear()
    hosts[0].serf.drain()
    return world


def predicted_rounds(nodes: int, fanout: int, loss: float) -> int:
    """The first gossip round by which Serf's convergence simulator sees 99.99 % of the nodes told:
    share(x) = 1 / (1 + (n + 1) e^(-fanout (1 - loss) x)), a logistic epidemic."""
    rounds = 0
    while 1 / (1 + (nodes + 1) * math.exp(-fanout * (1 - loss) * rounds)) < 0.9999:
        rounds += 1
    return rounds


class Spread:
    """How one event went through a cluster, in seconds since it was fired."""

    def __init__(self, times: list[float], nodes: int, packets: int, settings: GossipSettings, loss: float):
        self.times = sorted(times)
        self.nodes, self.packets = nodes, packets
        self.predicted = predicted_rounds(nodes, settings.gossip_nodes, loss) * settings.gossip_interval

    @property
    def complete(self) -> bool:
        return len(self.times) == self.nodes

    def by(self, share: float) -> float:
        """When that share of the nodes had it."""
        return self.times[math.ceil(share * self.nodes) - 1]


def spread(seed: int, nodes: int, loss: float, settings: GossipSettings = LAN, limit: float = 30.0) -> Spread:
    """Fire one event in a crowd, and note when each node hears of it."""
    world = crowd(seed, nodes, settings, loss)
    world.run(2.0)  # all timers are out of step
    began, times = world.now, []
    remaining = set(world.hosts)
    for host in world.hosts.values():
        host.take = _noting(world, host, remaining, times, began)  # type: ignore[method-assign]
    packets = world.packets
    world.do(world.hosts["n0"], world.hosts["n0"].serf.user_event, "deploy", b"v42", False)
    while remaining and world.now - began < limit:
        world.run(0.02)
    return Spread(times, nodes, world.packets - packets, settings, loss)


def _noting(
    world: World, host: Host, remaining: set[str], times: list[float], began: float
) -> Callable[[Ready], None]:
    def take(ready: Ready) -> None:
        if any(isinstance(event, UserEvent) for event in ready.events):
            assert host.name in remaining, "delivered twice"
            remaining.discard(host.name)
            times.append(world.now - began)

    return take


# --- false alarms


class Alarms:
    """How often members were said to have failed though nobody died: healthy ones, by all nodes and by the
    healthy alone; and the slow ones."""

    def __init__(self, hosts: list[Host], slow: list[Host]) -> None:
        names = {host.name for host in slow}
        failed = [(host.name, name) for host in hosts for name in host.of_kind("failed")]
        self.of_healthy = sum(of not in names for _, of in failed)
        self.by_healthy = sum(of not in names and by not in names for by, of in failed)
        self.of_slow = sum(of in names for _, of in failed)


WITHOUT_LIFEGUARD = replace(LAN, awareness_max_multiplier=1, suspicion_max_timeout_mult=1)


def false_alarms(
    seed: int, nodes: int, slow: int, seconds: float, settings: GossipSettings, busy: float, idle: float
) -> Alarms:
    """`slow` nodes take no packets for `busy` seconds, then work normally for `idle`, again and again."""
    world = World(seed, settings)
    hosts = world.build(nodes)
    for host in hosts[:slow]:
        world.later(world.now + world.rng.random() * (busy + idle), _blocked, world, host, busy, idle)
    for host in hosts:
        host.events.clear()
    world.run(seconds)
    return Alarms(hosts, hosts[:slow])


def _blocked(world: World, host: Host, busy: float, idle: float) -> None:
    host.busy_until = world.now + busy
    world.later(world.now + busy + idle, _blocked, world, host, busy, idle)
