"""Is it still there? SWIM's probes with Lifeguard's care (protocols/gossip.md 4.2 and 4.3)."""

from __future__ import annotations

from functools import partial
from random import Random

from msgspec import Struct, field

from core.gossip.awareness import Awareness
from core.gossip.delegate import Delegate
from core.gossip.membership import Membership
from core.gossip.messages import (
    Ack,
    IndirectPing,
    Nack,
    Ping,
    Suspect,
    encode_ack,
    encode_indirect_ping,
    encode_nack,
    encode_ping,
    encode_suspect,
)
from core.gossip.nodes import ALIVE, Node
from core.gossip.outbox import Address, Outbox
from core.gossip.settings import ALONE, GossipSettings
from core.gossip.timers import Timers

_STREAM_PROTOCOL, _NACK_PROTOCOL = 3, 4  # the protocol versions from which on these are understood
_SOON_LIMIT = 64  # probes out of turn that wait
_RELAYS_LIMIT = 1024  # pings for others at a time; who asks for more is not a friend


class _Probe(Struct, eq=False):
    """A probe of ours under way."""

    seq: int
    node: Node
    incarnation: int
    sent: float
    deadline: float
    indirect: bool = False  # the direct ping was not answered in time
    stream: int = 0  # the id of the ping by stream
    reached: bool = False  # that one was answered
    refused: set[str] = field(default_factory=set)  # ways on which its host said that nobody listens
    nacks_wanted: int = 0
    nacks: int = 0


class _Relay(Struct, eq=False):
    """A ping for somebody else."""

    to: Address
    seq: int
    nack: bool
    target: Address


class Prober:
    """Probes one node after the other, and pings for others who ask for it."""

    def __init__(
        self,
        membership: Membership,
        settings: GossipSettings,
        delegate: Delegate,
        awareness: Awareness,
        timers: Timers,
        outbox: Outbox,
        rng: Random,
    ) -> None:
        self._membership, self._settings, self._delegate = membership, settings, delegate
        self._awareness, self._timers, self._outbox, self._rng = awareness, timers, outbox, rng
        self._seq = 0
        self._probe: _Probe | None = None
        self._overdue = False  # the next probe waits for this one to end
        self._soon: list[Node] = []  # to be probed out of turn
        self._relays: dict[int, _Relay] = {}

    def start(self, now: float) -> None:
        """Probe from now on."""
        interval = self._settings.probe_interval
        if interval > 0:
            self._timers.at(now + self._rng.random() * interval, self._tick)

    def _tick(self, now: float) -> None:
        pace = 1 if len(self._membership.nodes) > 1 else ALONE
        self._timers.at(now + pace * self._settings.probe_interval, self._tick)
        if self._probe is None:
            self._next(now)
        else:
            self._overdue = True

    def look_at(self, ip: str, now: float) -> None:
        """Something else says that whoever is at this address may be gone: probe it out of turn."""
        own, soon = self._membership.local, self._soon
        there = (node for node in self._membership.nodes if node.address == ip and node.state == ALIVE)
        soon += [node for node in there if node is not own and node not in soon][: _SOON_LIMIT - len(soon)]
        if self._probe is None and self._soon:
            self._next(now)

    def _next(self, now: float) -> None:
        node: Node | None
        if self._soon:
            node = self._soon.pop(0)
            if node.state != ALIVE:
                return
        else:
            forget = now - self._settings.gossip_to_the_dead
            node = self._membership.nodes.next_to_probe(self._membership.name, forget)
            if node is None:
                return
        deadline = now + self._awareness.scale(self._settings.probe_interval)
        probe = self._probe = _Probe(self._next_seq(), node, node.incarnation, now, deadline)
        message = encode_ping(self._ping(probe.seq, node.name))
        if node.state == ALIVE:
            self._outbox.send(node.endpoint, message)
        else:  # tell it what it is accused of, so that it can defend itself at once
            accusation = Suspect(node.incarnation, node.name, self._membership.name)
            self._outbox.send_alone(node, [message, encode_suspect(accusation)])
        self._timers.at(now + self._settings.probe_timeout, partial(self._ask_others, probe))

    def _next_seq(self) -> int:
        self._seq = self._seq + 1 & 0xFFFFFFFF
        return self._seq

    def _ping(self, seq: int, name: str) -> Ping:
        own = self._membership.local
        return Ping(seq, name, own.address, own.port, own.name)

    def _ask_others(self, probe: _Probe, now: float) -> None:
        """No answer so far: try by way of others, and by stream."""
        if self._probe is not probe or probe.indirect:
            return
        probe.indirect = True
        own, node, settings = self._membership.local, probe.node, self._settings

        def can_help(peer: Node) -> bool:
            return peer.state == ALIVE and peer is not own and peer is not node

        for peer in self._membership.nodes.random(settings.indirect_checks, can_help):
            nack = peer.protocol[1] >= _NACK_PROTOCOL
            probe.nacks_wanted += nack
            request = IndirectPing(
                probe.seq, node.address, node.port, node.name, nack, own.address, own.port, own.name
            )
            self._outbox.send(peer.endpoint, encode_indirect_ping(request))
        if settings.tcp_pings and node.protocol[1] >= _STREAM_PROTOCOL and probe.deadline > now:
            ping = encode_ping(self._ping(probe.seq, node.name))
            probe.stream = self._outbox.open_stream(node.endpoint, "ping", ping, probe.deadline - now)
        self._timers.at(probe.deadline, partial(self._judge, probe))

    def _judge(self, probe: _Probe, now: float) -> None:
        """Time is over."""
        if self._probe is not probe:
            return
        if probe.reached:
            self._outbox.log(
                "warn",
                f"was able to connect to {probe.node.name} over TCP but UDP probes failed, "
                "network may be misconfigured",
            )
            self._done(-1, now)
            return
        # Those who were asked and did not even say nack cannot hear us: it may be us.
        silent = max(probe.nacks_wanted - probe.nacks, 0) if probe.nacks_wanted else int(not probe.refused)
        name = self._membership.name
        self._outbox.log("info", f"suspect {probe.node.name} has failed, no acks received")
        self._membership.suspect(Suspect(probe.incarnation, probe.node.name, name), now)
        self._done(silent, now)

    def _done(self, delta: int, now: float) -> None:
        self._probe = None
        self._awareness.add(delta)
        if self._overdue or self._soon:
            self._overdue = False
            self._next(now)

    def stalled(self) -> None:
        """We stood still: what we did not hear meanwhile says nothing about the node probed."""
        self._probe = None
        self._overdue = False
        self._awareness.add(1)

    # --- answers

    def ack(self, ack: Ack, now: float) -> None:
        """A ping of ours was answered, or one for somebody else."""
        probe = self._probe
        if probe is not None and ack.seq == probe.seq:
            if not probe.indirect:
                self._delegate.ping_complete(probe.node, now - probe.sent, ack.payload or b"", now)
            self._done(-1, now)
            return
        relay = self._relays.pop(ack.seq, None)
        if relay is not None:
            self._outbox.send(relay.to, encode_ack(Ack(relay.seq)))

    def nack(self, nack: Nack, now: float) -> None:
        """Somebody pinged for us, in vain."""
        if self._probe is not None and nack.seq == self._probe.seq:
            self._probe.nacks += 1
            self._hasten(self._probe, now)

    # Where a process died and its host lives on, the host refuses packets and connections. Once it has
    # refused both, and all who were asked have pinged in vain, waiting longer tells nothing new.

    def packet_refused(self, to: Address, now: float) -> None:
        """The host said that nobody listens where a packet of ours went."""
        probe = self._probe
        if probe is not None and probe.node.endpoint == to:
            probe.refused.add("packet")
            self._ask_others(probe, now)
            self._hasten(probe, now)
        for seq in [seq for seq, relay in self._relays.items() if relay.target == to]:
            self._give_up(seq, now)

    def stream_refused(self, id: int, now: float) -> None:
        """The host said that nobody listens where a stream of ours went."""
        probe = self._probe
        if probe is not None and id and probe.stream == id:
            probe.refused.add("stream")
            self._hasten(probe, now)

    def _hasten(self, probe: _Probe, now: float) -> None:
        if len(probe.refused) == 2 and probe.nacks >= probe.nacks_wanted:
            self._judge(probe, now)

    def stream_answered(self, id: int, ack: Ack) -> None:
        """A ping by stream was answered."""
        if self._probe is not None and self._probe.stream == id and self._probe.seq == ack.seq:
            self._probe.reached = True

    # --- questions of others

    def ping(self, ping: Ping, source: Address, now: float) -> None:
        """Somebody wants to know whether we are there."""
        if ping.node and ping.node != self._membership.name:
            self._outbox.complain(f"got ping for unexpected node '{ping.node}' from {source[0]}", now)
            return
        self._outbox.send(_answer_to(ping, source), encode_ack(Ack(ping.seq, self._delegate.ack_payload())))

    def indirect_ping(self, request: IndirectPing, source: Address, now: float) -> None:
        """Somebody wants us to ping another node."""
        if len(self._relays) >= _RELAYS_LIMIT:
            return
        seq = self._next_seq()
        to = (request.target, request.port or self._membership.local.port)
        self._relays[seq] = _Relay(_answer_to(request, source), request.seq, request.nack, to)
        self._outbox.send(to, encode_ping(self._ping(seq, request.node)))
        self._timers.at(now + self._settings.probe_timeout, partial(self._give_up, seq))

    def _give_up(self, seq: int, now: float) -> None:
        relay = self._relays.pop(seq, None)
        if relay is not None and relay.nack:
            self._outbox.send(relay.to, encode_nack(Nack(relay.seq)))


def _answer_to(message: Ping | IndirectPing, source: Address) -> Address:
    if message.source_address and message.source_port:
        return message.source_address, message.source_port
    return source
