"""A few Memberlists on pretend time, a network that can be cut, and delegates that note what they hear."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from core.gossip.delegate import Refused
from core.gossip.keyring import Keyring
from core.gossip.memberlist import Memberlist
from core.gossip.nodes import Node
from core.gossip.outbox import Address, StreamRequest
from core.gossip.settings import LAN, GossipSettings
from core.gossip.streams import StreamError

PORT = 7946
# No cluster of a test does more than it is told to, unless the test wants it.
SETTINGS = replace(LAN, push_pull_interval=0)


class Recorder:
    """A delegate that remembers, and refuses what it is told to."""

    def __init__(self, meta: bytes = b"") -> None:
        self.meta = meta
        self.heard: list[tuple[float, str, str]] = []  # (when, what, of whom)
        self.messages: list[bytes] = []
        self.broadcasts: list[bytes] = []
        self.states: list[tuple[bytes, bool]] = []
        self.conflicts: list[tuple[str, str]] = []
        self.pings: list[tuple[str, float, bytes]] = []
        self.refuse: Callable[[Node], bool] = lambda node: False
        self.refuse_merge = False
        self.state = b""

    def node_meta(self) -> bytes:
        return self.meta

    def notify_message(self, message: bytes, now: float) -> None:
        self.messages.append(message)

    def get_broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        taken = []
        while self.broadcasts and len(self.broadcasts[0]) + overhead <= limit:
            limit -= len(self.broadcasts[0]) + overhead
            taken.append(self.broadcasts.pop(0))
        return taken

    def local_state(self, join: bool) -> bytes:
        return self.state

    def merge_remote_state(self, state: bytes, join: bool, now: float) -> None:
        self.states.append((state, join))

    def notify_join(self, node: Node, now: float) -> None:
        self.heard.append((now, "join", node.name))

    def notify_leave(self, node: Node, now: float) -> None:
        self.heard.append((now, ("dead", "left")[node.state - 2], node.name))

    def notify_update(self, node: Node, now: float) -> None:
        self.heard.append((now, "update", node.name))

    def notify_alive(self, node: Node) -> None:
        if self.refuse(node):
            raise Refused(f"{node.name} is not wanted")

    def notify_merge(self, nodes: list[Node]) -> None:
        if self.refuse_merge:
            raise Refused("no merging")

    def notify_conflict(self, known: Node, other: Node) -> None:
        self.conflicts.append((known.address, other.address))

    def is_same(self, known: Node, other: Node) -> bool:
        return b"id=" in known.meta and known.meta == other.meta

    def ack_payload(self) -> bytes:
        return b"payload"

    def ping_complete(self, node: Node, rtt: float, payload: bytes, now: float) -> None:
        self.pings.append((node.name, rtt, payload))

    def what(self, kind: str, name: str) -> list[float]:
        """When it was told of `kind` about `name`."""
        return [when for when, one, of in self.heard if (one, of) == (kind, name)]


class Cluster:
    """Machines by name, and what is on its way between them."""

    def __init__(
        self, seed: int = 1, settings: GossipSettings = SETTINGS, keys: Iterable[bytes] = ()
    ) -> None:
        self.rng = random.Random(seed)
        self.settings, self.keys = settings, list(keys)
        self.now = 1000.0
        self.nodes: dict[str, Memberlist] = {}
        self.delegates: dict[str, Recorder] = {}
        self.by_address: dict[Address, str] = {}
        self.joins: list[tuple[str, str]] = []  # (who, error)
        self.log: list[tuple[str, str]] = []
        self.packets: list[tuple[float, str, Address, bytes]] = []
        self.loss = 0.0
        self.delay = (0.0005, 0.002)
        self.down: set[str] = set()  # killed: neither hears nor speaks nor ticks
        self.frozen: set[str] = set()  # stands still: what is sent to it waits
        self.refuses: Callable[[str, str], bool] = lambda a, b: False  # who is told that nobody listens there
        self.cut: Callable[[str, str], bool] = lambda a, b: False
        self.udp_cut: Callable[[str, str], bool] = lambda a, b: False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, name: str, address: str | None = None, **changes: Any) -> Memberlist:
        """A new (or restarted) machine of this name."""
        address = address or f"10.0.0.{len(self.nodes) + 1}"
        delegate = self.delegates[name] = Recorder(changes.pop("meta", name.encode()))
        delegate.refuse = changes.pop("refuse", delegate.refuse)
        keys = changes.pop("keys", self.keys)
        settings = replace(self.settings, **changes)
        keyring = Keyring(keys) if keys else None
        rng = random.Random(self.rng.random())
        node = Memberlist(name, address, PORT, settings, delegate, keyring, rng)
        self.nodes[name] = node
        self.by_address[(address, PORT)] = name
        self.down.discard(name)
        node.start(self.now)
        self.settle(name)
        return node

    def build(self, count: int, **changes: Any) -> list[str]:
        """`n0` to `n<count-1>`, joined to the first and known to each other."""
        names = [f"n{i}" for i in range(count)]
        for name in names:
            self.add(name, **changes)
        for name in names[1:]:
            self.join(name, names[0])
        self.run(2)
        while missing := [name for name in names if len(self.alive(name)) < count]:
            self.join(missing[0], names[0])  # gossip misses one now and then; push/pulls are off
            self.run(1)
        return names

    def join(self, who: str, to: str) -> None:
        self.nodes[who].join([self.address(to)], self.now)
        self.settle(who)

    def address(self, name: str) -> Address:
        return self.nodes[name].local_node.endpoint

    def alive(self, name: str) -> set[str]:
        return {node.name for node in self.nodes[name].alive_nodes}

    def state(self, who: str, of: str) -> int:
        node = self.nodes[who].get(of)
        assert node is not None
        return node.state

    def kill(self, name: str) -> None:
        self.down.add(name)

    # --- time

    def run(self, seconds: float) -> None:
        self.until(lambda: False, seconds, must=False)

    def until(self, condition: Callable[[], bool], seconds: float, must: bool = True) -> float:
        """Time passes until `condition`; how much it was."""
        start, end = self.now, self.now + seconds
        while not condition():
            due = [
                (deadline, name)
                for name, node in self.nodes.items()
                if name not in self.down | self.frozen and (deadline := node.deadline()) is not None
            ]
            next_tick = min(due, default=(float("inf"), ""))
            next_event = self._events[0][0] if self._events else float("inf")
            if min(next_tick[0], next_event) > end:
                self.now = end
                assert not must, f"not within {seconds} s"
                break
            if next_event <= next_tick[0]:
                self.now, _, action = heapq.heappop(self._events)
                action()
            else:
                self.now = max(next_tick[0], self.now)
                self.nodes[next_tick[1]].tick(self.now)
                self.settle(next_tick[1])
        return self.now - start

    def thaw(self, name: str) -> None:
        """It goes on: late for its timers, which come before the packets that wait."""
        self.frozen.discard(name)
        self.nodes[name].tick(self.now)
        self.settle(name)

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    # --- the network

    def settle(self, name: str) -> None:
        """Does what the machine wants done."""
        while (ready := self.nodes[name].drain()) is not None:
            for to, packet in ready.packets:
                self.packets.append((self.now, name, to, packet))
                self._send(name, to, packet)
            for stream in ready.streams:
                self._stream(name, stream)
            self.joins += [(name, result.error) for result in ready.joins]
            self.log += ready.log

    def _latency(self) -> float:
        return self.rng.uniform(*self.delay)

    def _send(self, source: str, to: Address, packet: bytes) -> None:
        target = self.by_address.get(to, "")
        if source in self.down or self.cut(source, target) or self.udp_cut(source, target):
            return
        if self.refuses(source, target):
            self.at(self.now + self._latency(), lambda: self._refuse(source, to))
            return
        if self.rng.random() >= self.loss:
            self.at(self.now + self._latency(), lambda: self._deliver(self.nodes[source], target, packet))

    def _deliver(self, source: Memberlist, target: str, packet: bytes) -> None:
        if target in self.frozen:
            self.at(self.now + 0.01, lambda: self._deliver(source, target, packet))
        elif target in self.nodes and target not in self.down:
            self.nodes[target].receive(source.local_node.endpoint, packet, self.now)
            self.settle(target)

    def _refuse(self, source: str, to: Address) -> None:
        if source not in self.down:
            self.nodes[source].packet_refused(to, self.now)
            self.settle(source)

    def _stream(self, source: str, stream: StreamRequest) -> None:
        self.at(self.now + 2 * self._latency(), lambda: self._answer(source, stream))

    def _answer(self, source: str, stream: StreamRequest) -> None:
        if source in self.down:
            return
        client, target = self.nodes[source], self.by_address.get(stream.to, "")
        if not target or target in self.down | self.frozen or self.cut(source, target):
            refused = self.refuses(source, target)
            client.stream_failed(stream.id, "connection refused", self.now, refused)
        elif self.refuses(source, target):
            client.stream_failed(stream.id, "connection refused", self.now, True)
        else:
            server = self.nodes[target]
            try:
                request = server.inbound().feed(stream.data)
                assert request is not None
                reply = server.answer_stream(request, self.now)
            except StreamError as error:
                reply = error.reply
            self.settle(target)
            client.stream_answered(stream.id, reply, self.now)
        self.settle(source)
