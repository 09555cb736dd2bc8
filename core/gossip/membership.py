"""The rules of alive, suspect and dead (protocols/gossip.md 4.4 to 4.7 and 4.10)."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address, ip_network
from typing import cast

from msgspec.structs import replace

from core.gossip.awareness import Awareness
from core.gossip.broadcasts import Broadcast, BroadcastQueue
from core.gossip.delegate import Delegate, Refused
from core.gossip.messages import (
    VSN_LENGTH,
    Alive,
    Dead,
    Suspect,
    decode_gossip,
    encode_alive,
    encode_dead,
    encode_suspect,
)
from core.gossip.nodes import ALIVE, DEAD, LEFT, SUSPECT, Node, NodeList
from core.gossip.outbox import Outbox
from core.gossip.settings import META_LIMIT, NAME_LIMIT, GossipSettings
from core.gossip.suspicion import Suspicion, suspicion_timeout
from core.gossip.timers import Timers

_U32 = 0xFFFFFFFF


class Membership:
    """Who is in the cluster. Tells the delegate and queues gossip; all else is done by its neighbours."""

    def __init__(
        self,
        own: Alive,
        settings: GossipSettings,
        delegate: Delegate,
        nodes: NodeList,
        queue: BroadcastQueue,
        awareness: Awareness,
        timers: Timers,
        outbox: Outbox,
    ) -> None:
        self.name = own.node
        self.nodes = nodes
        self.local = Node(own, 0, DEAD, 0.0)
        self.leaving = False
        self._farewell: Broadcast | None = None
        self._incarnation = 0
        self._settings, self._delegate, self._queue = settings, delegate, queue
        self._awareness, self._timers, self._outbox = awareness, timers, outbox
        self._suspicions: dict[str, Suspicion] = {}
        self._networks = [ip_network(text) for text in settings.allowed_networks]

    # --- about ourselves

    def announce(self, meta: bytes, now: float) -> None:
        """We are alive, with this meta."""
        if len(meta) > META_LIMIT:
            raise ValueError(f"node meta of {len(meta)} bytes is longer than {META_LIMIT}")
        self._incarnation = min(self._incarnation + 1, _U32)
        facts = replace(self.local.facts, incarnation=self._incarnation, meta=meta)
        first, changed = self.nodes.get(self.name) is None, self.local.facts.meta != meta
        self.local.facts, self.local.incarnation = facts, facts.incarnation
        self._queue.add(encode_alive(facts), self.name)
        if first:
            self.local.state, self.local.since = ALIVE, now
            self.nodes.add(self.local)
            self._delegate.notify_join(self.local, now)
        elif changed:
            self._delegate.notify_update(self.local, now)

    def leave(self, now: float) -> None:
        """Tell all that we leave."""
        if not self.leaving:
            self.leaving = True
            self.dead(Dead(self.local.incarnation, self.name, self.name), now)

    @property
    def leave_sent(self) -> bool:
        """Was our leaving told often enough, or is nobody there to be told?"""
        if self._farewell is None:
            return False
        others = (node for node in self.nodes if node is not self.local)
        return self._farewell.done or all(node.gone for node in others)

    def _refute(self, accused: int) -> None:
        """Somebody thinks worse of us than we are: outbid it (4.7)."""
        self._incarnation = min(max(self._incarnation, accused) + 1, _U32)
        self._awareness.add(1)
        self.local.facts = replace(self.local.facts, incarnation=self._incarnation)
        self.local.incarnation = self._incarnation
        self._queue.add(encode_alive(self.local.facts), self.name)

    # --- alive

    def alive(self, alive: Alive, now: float) -> None:
        """A node says that it is alive, or a peer says so in a push/pull (4.4)."""
        if not alive.port:
            alive = replace(alive, port=self.local.port)
        node = self.nodes.get(alive.node)
        if node is not None:
            old = node.facts
            moved = old.port != alive.port or old.address != alive.address
            if not moved and node is not self.local and alive.incarnation <= node.incarnation:
                return  # nothing new; by far the most frequent case
        if not self._admits(alive, now):
            return
        if node is None:
            node = Node(alive, 0, DEAD, now)
            if alive.incarnation <= 0 or not self._network_allowed(alive, now):
                return
            self.nodes.add(node)
        elif moved and not self._may_move(node, alive, now):
            return
        if node is self.local:
            self._alive_self(alive)
        else:
            self._accept(node, alive, now)

    def _admits(self, alive: Alive, now: float) -> bool:
        vsn = alive.vsn
        if alive.node == self.name:
            return not self.leaving
        if len(vsn) != VSN_LENGTH or not 0 < vsn[0] <= vsn[1]:
            self._outbox.complain(f"ignoring an alive message of '{alive.node}' with odd versions", now)
            return False
        if len(alive.meta) > META_LIMIT or len(alive.node) > NAME_LIMIT:
            self._outbox.complain(f"ignoring an alive message of '{alive.node[:80]}': it is too long", now)
            return False
        try:
            self._delegate.notify_alive(Node(alive, alive.incarnation, ALIVE, now))
        except Refused as refusal:
            self._outbox.complain(f"ignoring an alive message of '{alive.node}': {refusal}", now)
            return False
        return True

    def _network_allowed(self, alive: Alive, now: float) -> bool:
        if self._networks:
            address = ip_address(alive.address)
            if not any(address in network for network in self._networks):
                self._outbox.complain(f"rejected '{alive.node}': {alive.address} is not allowed", now)
                return False
        return True

    def _may_move(self, node: Node, alive: Alive, now: float) -> bool:
        """A known node with another address: a new life of one that is gone, a move, or a name conflict?

        That an agent which shows its id may move while others still believe in its old address is ours
        (in Consul all must first take it for dead, and then wait); the higher incarnation is the newer
        address, and who moved learns here that it must outbid its former self."""
        if not self._network_allowed(alive, now):
            return False
        other = Node(alive, alive.incarnation, ALIVE, now)
        if self._delegate.is_same(node, other):
            if node is not self.local:
                return alive.incarnation > node.incarnation
            if alive.incarnation >= self._incarnation:
                self._refute(alive.incarnation)
            return False
        reclaim = self._settings.dead_node_reclaim
        if node.state == LEFT or (node.state == DEAD and 0 < reclaim < now - node.since):
            return True
        self._outbox.complain(
            f"conflicting address for {node.name}: mine {node.address}:{node.port}, "
            f"theirs {alive.address}:{alive.port}, old state {node.state}",
            now,
        )
        self._delegate.notify_conflict(node, other)
        return False

    def _alive_self(self, alive: Alive) -> None:
        """Somebody remembers us: from an earlier life when it is not what we say now."""
        mine = self.local.facts
        if alive.incarnation < self._incarnation:
            return
        same = alive.meta == mine.meta and alive.vsn == mine.vsn
        if alive.incarnation > self._incarnation or not same:
            self._refute(alive.incarnation)

    def _accept(self, node: Node, alive: Alive, now: float) -> None:
        self._suspicions.pop(node.name, None)
        message = encode_alive(alive)
        self._queue.add(message, node.name)
        before, old = node.state, node.facts
        # The remembered copy: what arrives once by push/pull arrives by gossip too, and nodes that are
        # simulated in one process share it.
        node.facts = cast(Alive, decode_gossip(message))
        node.incarnation = alive.incarnation
        if before != ALIVE:
            node.state, node.since = ALIVE, now
        if before >= DEAD:
            self._delegate.notify_join(node, now)
        elif (alive.meta, alive.address, alive.port) != (old.meta, old.address, old.port):
            self._delegate.notify_update(node, now)

    # --- suspect

    def suspect(self, suspect: Suspect, now: float) -> None:
        """A node could not be reached by `suspect.source` (4.5)."""
        node = self.nodes.get(suspect.node)
        if node is None or suspect.incarnation < node.incarnation:
            return
        suspicion = self._suspicions.get(node.name)
        if suspicion is not None:
            if suspicion.confirm(suspect.source):
                self._queue.add(encode_suspect(suspect), node.name)
                self._await(node, suspicion, now)
            return
        if node.state != ALIVE:
            return
        if node is self.local:
            self._outbox.log("warn", f"refuting a suspect message (from: {suspect.source})")
            self._refute(suspect.incarnation)
            return
        self._queue.add(encode_suspect(suspect), node.name)
        node.incarnation = suspect.incarnation
        node.state, node.since = SUSPECT, now
        suspicion = self._suspicions[node.name] = self._suspicion(suspect.source, now)
        self._await(node, suspicion, now)

    def _suspicion(self, accuser: str, now: float) -> Suspicion:
        settings, count = self._settings, len(self.nodes)
        wanted = settings.suspicion_mult - 2
        if count - 2 < wanted:
            wanted = 0  # there are not enough others to confirm it
        shortest = suspicion_timeout(settings.suspicion_mult, count, settings.probe_interval)
        return Suspicion(accuser, wanted, shortest, settings.suspicion_max_timeout_mult * shortest, now)

    def _await(self, node: Node, suspicion: Suspicion, now: float) -> None:
        """Death at the suspicion's deadline, if it is still the same suspicion then."""
        if suspicion.deadline <= now:
            self._expire(node, suspicion, now)
        else:
            self._timers.at(suspicion.deadline, partial(self._expire, node, suspicion))

    def _expire(self, node: Node, suspicion: Suspicion, now: float) -> None:
        if self._suspicions.get(node.name) is not suspicion:
            return  # it came back, or died
        if now < suspicion.deadline:
            self._await(node, suspicion, now)  # postponed
            return
        self._outbox.log(
            "info",
            f"marking {node.name} as failed, suspect timeout reached "
            f"({suspicion.confirmations} peer confirmations)",
        )
        self.dead(Dead(node.incarnation, node.name, self.name), now)

    def stalled(self, lag: float) -> None:
        """We stood still for `lag` seconds: no suspect could be heard in its defence meanwhile."""
        for suspicion in self._suspicions.values():
            suspicion.postpone(min(lag, suspicion.shortest))

    # --- dead

    def dead(self, dead: Dead, now: float) -> None:
        """A node is said to be dead, or says that it leaves (4.6)."""
        node = self.nodes.get(dead.node)
        if node is None or dead.incarnation < node.incarnation:
            return
        self._suspicions.pop(node.name, None)
        if node.gone:
            return
        if node is self.local and not self.leaving:
            self._outbox.log("warn", f"refuting a dead message (from: {dead.source})")
            self._refute(dead.incarnation)
            return
        broadcast = self._queue.add(encode_dead(dead), node.name)
        if node is self.local:
            self._farewell = broadcast
        node.incarnation = dead.incarnation
        node.state, node.since = LEFT if dead.node == dead.source else DEAD, now
        self._delegate.notify_leave(node, now)

    # --- push/pull

    def merge(self, remote: list[tuple[Alive, int]], join: bool, now: float) -> None:
        """A peer's view of all nodes (4.10). Refused: nothing of it was taken."""
        remote = [one for one in remote if len(one[0].vsn) == VSN_LENGTH]  # 11.1: never trust a short one
        self._verify(remote)
        if join:
            nodes = [Node(facts, facts.incarnation, state, now) for facts, state in remote]
            self._delegate.notify_merge(nodes)
        for facts, state in remote:
            if state == ALIVE:
                self.alive(facts, now)
            elif state == LEFT:
                self.dead(Dead(facts.incarnation, facts.node, facts.node), now)
            else:  # dead nodes are suspected only: they may defend themselves
                self.suspect(Suspect(facts.incarnation, facts.node, self.name), now)

    def _verify(self, remote: list[tuple[Alive, int]]) -> None:
        """Do all living nodes understand what each node speaks? Refused."""
        every = {facts.vsn for facts, _ in remote}
        every.update(node.facts.vsn for node in self.nodes)
        living = {facts.vsn for facts, state in remote if state == ALIVE}
        living.update(node.facts.vsn for node in self.nodes if node.state == ALIVE)
        for offset, kind in ((0, "protocol"), (3, "delegate protocol")):
            low = max((vsn[offset] for vsn in living), default=0)
            high = min((vsn[offset + 1] for vsn in living), default=255)
            for vsn in every:
                if not low <= vsn[offset + 2] <= high:
                    name = self._who(vsn, remote)
                    text = f"{kind} version ({vsn[offset + 2]}) is incompatible: [{low}, {high}]"
                    raise Refused(f"Node '{name}' {text}")

    def _who(self, vsn: bytes, remote: list[tuple[Alive, int]]) -> str:
        everyone = [facts for facts, _ in remote] + [node.facts for node in self.nodes]
        return next(facts.node for facts in everyone if facts.vsn == vsn)
