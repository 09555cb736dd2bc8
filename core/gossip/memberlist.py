"""Memberlist: who is in the cluster, told by gossip (protocols/gossip.md sections 2 to 4).

Memberlist       packets and streams in, the gossip and push/pull clocks; the door
  Membership     the rules of alive, suspect, dead, refutation and merging
  Prober         probes, indirect probes, answers to them
  Outbox         what goes out, with gossip piggybacked
all on one Timers, one NodeList, one BroadcastQueue"""

from __future__ import annotations

from random import Random

from core.codec.msgpack import DecodeError
from core.gossip import messages
from core.gossip.awareness import Awareness
from core.gossip.broadcasts import BroadcastQueue
from core.gossip.delegate import Delegate, Refused
from core.gossip.keyring import Keyring
from core.gossip.membership import Membership
from core.gossip.messages import Ack, Alive, Dead, Ping, Suspect
from core.gossip.nodes import ALIVE, DEAD, SUSPECT, Node, NodeList
from core.gossip.outbox import Address, JoinResult, Outbox, Ready, StreamRequest
from core.gossip.packet import Envelope, open_message
from core.gossip.probe import Prober
from core.gossip.settings import ALONE, GossipSettings
from core.gossip.streams import Inbound, PushPull, RemoteError, StreamError, StreamMessage, UserMessage
from core.gossip.suspicion import push_pull_interval
from core.gossip.timers import Timers

__all__ = ["Address", "JoinResult", "Memberlist", "Ready", "StreamRequest"]


class Memberlist:
    """The machine. Construct it, then `start(now)`; the delegate hears of joins from there on. `address` and
    `port` are what others are told; a peer that does not tell its port has the same. `drain()` after every
    call: sending, too, only asks for it."""

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        settings: GossipSettings,
        delegate: Delegate,
        keyring: Keyring | None,
        rng: Random,
    ) -> None:
        self.keyring = keyring
        self._settings, self._delegate, self._rng = settings, delegate, rng
        self._envelope = Envelope(settings, keyring, rng)
        self._nodes = NodeList(rng)
        self._queue = BroadcastQueue(settings.retransmit_mult)
        self._timers = Timers()
        self._awareness = Awareness(settings.awareness_max_multiplier)
        self._outbox = Outbox(self._envelope, self._queue, delegate, self._nodes)
        own = Alive(0, name, messages.ip_text(messages.ip_bytes(address)), port, b"", bytes(settings.vsn))
        self._membership = Membership(
            own, settings, delegate, self._nodes, self._queue, self._awareness, self._timers, self._outbox
        )
        self._prober = Prober(
            self._membership, settings, delegate, self._awareness, self._timers, self._outbox, rng
        )
        self._push_pulls: dict[int, tuple[Address, bool]] = {}  # streams of ours: to whom, join?

    # --- the machine

    def start(self, now: float) -> None:
        """Announce ourselves and arm the timers: before anything else."""
        self._membership.announce(self._delegate.node_meta(), now)
        settings, chance = self._settings, self._rng.random
        self._prober.start(now)
        if settings.gossip_interval > 0:
            self._timers.at(now + chance() * settings.gossip_interval, self._gossip)
        if settings.push_pull_interval > 0:
            self._timers.at(now + chance() * settings.push_pull_interval, self._push_pull)

    def receive(self, source: Address, packet: bytes, now: float) -> None:
        """A packet arrived. Whatever it holds, nothing is raised."""
        try:
            found, problems = open_message(self._envelope.open_packet(packet))
        except DecodeError as error:
            self._outbox.complain(f"dropped a packet from {source[0]}: {error}", now)
            return
        for message in found:
            try:
                self._handle(source, message, now)
            except DecodeError as error:
                problems.append(str(error))
        if problems:
            self._outbox.complain(f"broken message from {source[0]}: {problems[0]}", now)

    def _handle(self, source: Address, message: bytes, now: float) -> None:
        kind = message[0] if message else -1
        if messages.SUSPECT <= kind <= messages.DEAD:
            gossip = messages.decode_gossip(message)
            if type(gossip) is Alive:
                self._membership.alive(gossip, now)
            elif type(gossip) is Suspect:
                self._membership.suspect(gossip, now)
            elif type(gossip) is Dead:
                self._membership.dead(gossip, now)
        elif kind == messages.USER:
            self._delegate.notify_message(message[1:], now)
        elif kind == messages.PING:
            self._prober.ping(messages.ping_of(messages.fields_of(message)), source, now)
        elif kind == messages.ACK:
            self._prober.ack(messages.ack_of(messages.fields_of(message)), now)
        elif kind == messages.INDIRECT_PING:
            request = messages.indirect_ping_of(messages.fields_of(message))
            self._prober.indirect_ping(request, source, now)
        elif kind == messages.NACK:
            self._prober.nack(messages.nack_of(messages.fields_of(message)), now)
        else:
            raise DecodeError(f"message of type {kind}")

    def tick(self, now: float) -> None:
        """Time has passed. When it comes much later than it should, we are the slow one: nobody is judged for
        what we could not hear meanwhile (design/pains.md 9)."""
        due = self._timers.deadline()
        if due is None or now < due:
            return
        lag = now - due
        if lag > self._settings.probe_timeout / 2:
            self._outbox.log("warn", f"stood still for {lag:.1f} s, not judging other nodes by it")
            self._prober.stalled()
            self._membership.stalled(lag)
        self._timers.run(now)

    def deadline(self) -> float | None:
        """When to tick next."""
        return self._timers.deadline()

    def drain(self) -> Ready | None:
        """What is to be done: packets, streams, results of joins, words for the log."""
        return self._outbox.drain()

    # --- clocks

    def _gossip(self, now: float) -> None:
        pace = 1 if len(self._nodes) > 1 else ALONE
        self._timers.at(now + pace * self._settings.gossip_interval, self._gossip)
        own, since = self._membership.local, now - self._settings.gossip_to_the_dead

        def listens(node: Node) -> bool:
            dying = node.state == DEAD and node.since >= since
            return (node.state <= SUSPECT or dying) and node is not own

        if len(self._nodes) > 1:
            for node in self._nodes.random(self._settings.gossip_nodes, listens):
                if not self._outbox.gossip_to(node):
                    break

    def _push_pull(self, now: float) -> None:
        interval = push_pull_interval(self._settings.push_pull_interval, len(self._nodes))
        self._timers.at(now + interval, self._push_pull)
        own = self._membership.local
        for node in self._nodes.random(1, lambda node: node.state == ALIVE and node is not own):
            self._exchange([node.endpoint], join=False)

    # --- streams that we opened

    def _exchange(self, addresses: list[Address], join: bool) -> list[int]:
        state = self._state(join)
        ids = []
        for to in addresses:
            id = self._outbox.open_stream(to, "push_pull", state, self._settings.stream_timeout)
            self._push_pulls[id] = (to, join)
            ids.append(id)
        return ids

    def _state(self, join: bool) -> bytes:
        """All that we know, for a push/pull."""
        nodes = [(node.facts, node.incarnation, node.state) for node in self._nodes]
        return messages.encode_push_pull(join, nodes, self._delegate.local_state(join))

    def stream_answered(self, id: int, answer: bytes | StreamMessage, now: float) -> None:
        """The answer to a StreamRequest: as an `Inbound` has read it, or its bytes."""
        if isinstance(answer, bytes):
            try:
                read = self.inbound().feed(answer)
            except StreamError as error:
                return self.stream_failed(id, str(error), now)
            if read is None:
                return self.stream_failed(id, "unexpected end", now)
            answer = read
        if id not in self._push_pulls:
            if isinstance(answer, Ack):
                self._prober.stream_answered(id, answer)
        elif isinstance(answer, PushPull):
            try:
                self._merge(answer, self._push_pulls[id][1], now)
            except Refused as refusal:
                self.stream_failed(id, str(refusal), now)
            else:
                self._exchanged(id, "")
        elif isinstance(answer, RemoteError):
            self.stream_failed(id, f"remote error: {answer.text}", now)
        else:
            self.stream_failed(id, "an answer of another kind", now)
        return None

    def stream_failed(self, id: int, error: str, now: float, refused: bool = False) -> None:
        """A StreamRequest met no connection, no answer, or a broken one. `refused`: the host said that
        nobody listens there."""
        if refused:
            self._prober.stream_refused(id, now)
        if id in self._push_pulls:
            (address, port), join = self._push_pulls[id]
            if not join:
                self._outbox.log("warn", f"push/pull with {address}:{port} failed: {error}")
            self._exchanged(id, error)

    def look_at(self, ip: str, now: float) -> None:
        """A connection to this address broke: is the member there gone?"""
        self._prober.look_at(ip, now)

    def packet_refused(self, to: Address, now: float) -> None:
        """The host said that nobody listens where a packet of ours went (ICMP port unreachable)."""
        self._prober.packet_refused(to, now)

    def _exchanged(self, id: int, error: str) -> None:
        to, join = self._push_pulls.pop(id)
        if join:
            self._outbox.ready.joins.append(JoinResult(id, to, error))

    def _merge(self, state: PushPull, join: bool, now: float) -> None:
        self._membership.merge(state.nodes, join, now)
        if state.user_state:
            self._delegate.merge_remote_state(state.user_state, join, now)

    # --- streams that others opened

    def inbound(self) -> Inbound:
        """A parser for one stream: `feed(data)` gives None until the message is complete, raises StreamError
        (whose `.reply`, if any, is to be sent before closing a stream that others opened)."""
        return Inbound(self._envelope)

    def answer_stream(self, request: StreamMessage, now: float) -> bytes:
        """What to send back before closing; may be empty."""
        if isinstance(request, PushPull):
            # Our state from before the merge goes out even when theirs is refused (3.2).
            reply = self._envelope.seal_stream(self._state(request.join))
            try:
                self._merge(request, request.join, now)
            except Refused as refusal:
                self._outbox.complain(f"failed to merge a remote state: {refusal}", now)
            return reply
        if isinstance(request, Ping):
            if request.node and request.node != self._membership.name:
                self._outbox.complain(f"got ping for unexpected node '{request.node}' by stream", now)
                return b""
            return self._envelope.seal_stream(messages.encode_ack(Ack(request.seq)))
        if isinstance(request, UserMessage):
            self._delegate.notify_message(request.data, now)
        return b""

    # --- what Serf wants

    def join(self, addresses: list[Address], now: float) -> list[int]:
        """Push/pull with each. What becomes of it comes as Ready.joins, under these ids."""
        return self._exchange(addresses, join=True)

    def leave(self, now: float) -> None:
        """Tell all that we leave; go on until `leave_sent`, and a little longer."""
        self._membership.leave(now)

    @property
    def leaving(self) -> bool:
        """Was `leave` called?"""
        return self._membership.leaving

    @property
    def leave_sent(self) -> bool:
        """Was our leaving told often enough, or is nobody there to be told?"""
        return self._membership.leave_sent

    def update_meta(self, now: float) -> None:
        """Announce the delegate's new node_meta(). ValueError when it is too long."""
        self._membership.announce(self._delegate.node_meta(), now)

    def send_to(self, to: Node | Address, message: bytes) -> None:
        """A user message by packet, once."""
        self._outbox.send_user(to.endpoint if isinstance(to, Node) else to, message)

    def get(self, name: str) -> Node | None:
        """A known node."""
        return self._nodes.get(name)

    @property
    def nodes(self) -> list[Node]:
        """All known nodes, those that are gone too until they are forgotten."""
        return list(self._nodes)

    @property
    def alive_nodes(self) -> list[Node]:
        """Alive and suspect nodes, ourselves included."""
        return [node for node in self._nodes if not node.gone]

    @property
    def local_node(self) -> Node:
        """Ourselves."""
        return self._membership.local

    @property
    def num_nodes(self) -> int:
        """All known nodes: the `n` of the formulas."""
        return len(self._nodes)

    @property
    def health_score(self) -> int:
        """How ill we think we are ourselves: 0 is healthy, 7 the worst."""
        return self._awareness.score
