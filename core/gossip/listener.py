"""What Serf hears from memberlist: the delegate of its callbacks (protocols/gossip.md section 7).

It holds what the messages of others change: clocks, the roster, what was seen already, the queues of what
is to be passed on. Nothing that a peer sends may raise: what makes no sense is logged and dropped."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from msgspec import Struct

from core.codec.msgpack import DecodeError
from core.gossip import coordinates as places
from core.gossip import member as kinds
from core.gossip.admission import Admission
from core.gossip.asking import Asking
from core.gossip.broadcasts import BroadcastQueue
from core.gossip.clocks import LamportClock
from core.gossip.coordinates import Coordinate, CoordinateClient
from core.gossip.delegate import Refused
from core.gossip.events import Ring
from core.gossip.keyring import Keyring
from core.gossip.member import ALIVE, LEFT, GossipEvent, MemberEvent, UserEvent
from core.gossip.memberlist import Memberlist
from core.gossip.nodes import LEFT as NODE_LEFT
from core.gossip.nodes import Node
from core.gossip.queries import Compile
from core.gossip.roster import Roster, describe
from core.gossip.serf_messages import PUSH_PULL as PUSH_PULL_TYPE
from core.gossip.serf_messages import (
    RELAY,
    EventBody,
    EventSlot,
    JoinIntent,
    LeaveIntent,
    QueryMessage,
    QueryResponseMessage,
    SharedState,
    UserEventMessage,
    decode,
    decode_as,
    encode,
)
from core.gossip.settings import META_LIMIT, GossipSettings
from core.gossip.snapshot import Snapshot, SnapshotState

_RELAY, _PUSH_PULL = bytes((RELAY,)), bytes((PUSH_PULL_TYPE,))
_KNOWN_LIMIT = 1400  # bytes of a message that is worth remembering decoded

# The same bytes arrive many times, and in a simulation at many nodes.
_decode_known = lru_cache(4096)(decode)


class Listener:
    """Serf's side of memberlist, with the state that messages change."""

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        meta: bytes,
        settings: GossipSettings,
        keyring: Keyring | None,
        rng: Random,
        admission: Admission | None,
        compile: Compile,
    ) -> None:
        self.meta = meta
        self.now = 0.0  # of the last call from the owner
        self.staying = True  # False from the start of our leave
        self.ignoring: set[int] = set()  # joins under way that do not want old events
        self.clock, self.event_clock = LamportClock(), LamportClock()
        self.intents = BroadcastQueue(settings.retransmit_mult)
        self.events = BroadcastQueue(settings.retransmit_mult)
        self.coordinates = CoordinateClient(rng)
        self.snapshot = Snapshot()
        self._name, self._settings, self._admission = name, settings, admission
        self._seen: Ring[tuple[str, bytes]] = Ring(settings.event_buffer)
        self._told: list[GossipEvent] = []
        self._log: list[tuple[str, str]] = []
        self._ack: tuple[Coordinate | None, bytes] = None, b""
        self.memberlist = Memberlist(name, address, port, settings, self, keyring, rng)
        self.roster = Roster(name, settings, self.memberlist.get, self._tell)
        self.asking = Asking(name, settings, self.memberlist, self.roster, rng, compile, self._tell, self.log)

    def remember(self, previous: SnapshotState, rejoin_after_leave: bool) -> None:
        """Go on after what was heard before a restart."""
        self.snapshot = Snapshot(previous, rejoin_after_leave)
        self.clock.witness(previous.clock)
        self.event_clock.witness(previous.event_clock)
        self.asking.clock.witness(previous.query_clock)
        self._seen.minimum = previous.event_clock + 1
        self.asking.ring.minimum = previous.query_clock + 1

    # --- what the owner takes

    def take_told(self) -> list[GossipEvent]:
        """What happened since the last call."""
        told, self._told = self._told, []
        return told

    def take_log(self) -> list[tuple[str, str]]:
        """The lines since the last call: level and text."""
        lines, self._log = self._log, []
        return lines

    def log(self, level: str, text: str) -> None:
        self._log.append((level, text))

    def _tell(self, event: GossipEvent) -> None:
        self._told.append(event)
        if isinstance(event, MemberEvent):
            for member in event.members:
                if event.kind in (kinds.JOIN, kinds.UPDATE):  # an update may be a move
                    self.snapshot.alive(member.name, join_host_port(member.address, member.port))
                else:
                    self.snapshot.not_alive(member.name)
                if event.kind == kinds.REAP:
                    self.coordinates.forget(member.name)
            self.snapshot.clock(self.clock.time)
        elif isinstance(event, UserEvent):
            self.snapshot.event(event.ltime)
        else:
            self.snapshot.query(event.ltime)

    # --- members (core.gossip.delegate)

    def node_meta(self) -> bytes:
        return self.meta

    def notify_join(self, node: Node, now: float) -> None:
        self.roster.joined(node, now)

    def notify_leave(self, node: Node, now: float) -> None:
        self.roster.left(node, now)

    def notify_update(self, node: Node, now: float) -> None:
        self.roster.updated(node)

    def notify_alive(self, node: Node) -> None:
        if self.roster.is_unwanted_echo(node, self.now):
            raise Refused("it was pruned, and nothing shows that it lives")
        self._admit([node])

    def notify_merge(self, nodes: list[Node]) -> None:
        self._admit(nodes)

    def _admit(self, nodes: list[Node]) -> None:
        for node in nodes:
            if len(node.meta) > META_LIMIT:
                raise Refused(f"Encoded length of tags exceeds limit of {META_LIMIT} bytes")
        if self._admission is None:
            return
        members = [describe(node, LEFT if node.state == NODE_LEFT else ALIVE, 0.0) for node in nodes]
        why = self._admission(members)
        if why:
            raise Refused(why)

    def notify_conflict(self, known: Node, other: Node) -> None:
        claims = [join_host_port(node.address, node.port) for node in (known, other)]
        self.log("warn", f"{' and '.join(claims)} both claim the name '{known.name}'")
        if known.name == self._name and self._settings.resolve_conflicts:
            self.asking.dispute(self.now)

    def is_same(self, known: Node, other: Node) -> bool:
        """Agents of Consul's kind carry their node id, which outlives a move."""
        ids = [describe(node, ALIVE, 0.0).tags.get("id", "") for node in (known, other)]
        return ids[0] == ids[1] != ""

    # --- probes

    def ack_payload(self) -> bytes:
        if not self._settings.coordinates:
            return b""
        coordinate = self.coordinates.coordinate
        if self._ack[0] is not coordinate:
            self._ack = coordinate, places.encode(coordinate)
        return self._ack[1]

    def ping_complete(self, node: Node, rtt: float, payload: bytes, now: float) -> None:
        self.roster.answered(node.name, now)
        if not payload or not self._settings.coordinates:
            return
        try:
            self.coordinates.observe(node.name, places.decode(payload), rtt)
        except DecodeError as error:
            self.log("debug", f"ack of {node.name}: {error}")

    # --- messages

    def get_broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        """Intents before queries before events (protocols/gossip.md 4.8)."""
        taken: list[bytes] = []
        for queue in (self.intents, self.asking.queue, self.events):
            if len(queue):
                found = queue.take(overhead, limit, len(self.roster))
                limit -= sum(map(len, found)) + overhead * len(found)
                taken += found
        return taken

    def notify_message(self, message: bytes, now: float) -> None:
        try:
            if message[:1] == _RELAY:
                self.asking.pass_on(message)
                return
            known = _decode_known if len(message) <= _KNOWN_LIMIT else decode
            self._hear(known(message), message, now)
        except DecodeError as error:
            self.log("debug", f"a message makes no sense: {error}")

    def _hear(self, message: Struct, raw: bytes, now: float) -> None:
        """Act on a message, and pass it on as it is if others may need it."""
        if isinstance(message, UserEventMessage):
            if self.user_event(message):
                self.events.add(raw)
        elif isinstance(message, QueryMessage):
            if self.asking.receive_query(message, now):
                self.asking.queue.add(raw)
        elif isinstance(message, QueryResponseMessage):
            self.asking.receive_response(message)
        elif isinstance(message, JoinIntent):
            self.clock.witness(message.ltime)
            if self.roster.join_intent(message.node, message.ltime, now):
                self.intents.add(raw)
        elif isinstance(message, LeaveIntent):
            if self.leave_intent(message, now):
                self.intents.add(raw)
        else:
            raise DecodeError(f"a {type(message).__name__} outside of its place")

    def leave_intent(self, intent: LeaveIntent, now: float) -> bool:
        """Somebody leaves, or is said to; we object if it is us. True: pass it on."""
        self.clock.witness(intent.ltime)
        if intent.node == self._name and self.staying:
            if intent.ltime > self.roster.time_of(self._name):
                self.announce(now)
            return False
        return self.roster.leave_intent(intent.node, intent.ltime, intent.prune, now)

    def announce(self, now: float) -> None:
        """Tell everyone that we are here."""
        ltime = self.clock.time
        self.clock.witness(ltime)
        self.roster.join_intent(self._name, ltime, now)
        self.intents.add(encode(JoinIntent(ltime, self._name)))

    def user_event(self, event: UserEventMessage) -> bool:
        """Deliver it if it is new. True: pass it on."""
        self.event_clock.witness(event.ltime)
        payload = event.payload or b""
        if not self._seen.is_new(event.ltime, (event.name, payload), self.event_clock.time):
            return False
        self._tell(UserEvent(event.ltime, event.name, payload, event.coalesce))
        return True

    # --- push/pull

    def local_state(self, join: bool) -> bytes:
        times, left = self.roster.status_times()
        slots: list[EventSlot | None] = [
            EventSlot(ltime, [EventBody(name, payload) for name, payload in keys])
            for ltime, keys in self._seen
        ]
        state = SharedState(
            self.clock.time,
            times,
            left,
            self.event_clock.time,
            slots,
            self.asking.clock.time,
            self.roster.pruned(),
        )
        return encode(state)

    def merge_remote_state(self, state: bytes, join: bool, now: float) -> None:
        if state[:1] != _PUSH_PULL:
            self.log("warn", f"remote state has bad type prefix: {state[:1].hex() or 'none'}")
            return
        try:
            pushed = decode_as(SharedState, memoryview(state)[1:])
        except DecodeError as error:
            self.log("warn", f"remote state makes no sense: {error}")
            return
        # Their clocks show what comes next: nothing has that time yet.
        self.clock.witness(pushed.ltime - 1)
        self.event_clock.witness(pushed.event_ltime - 1)
        self.asking.clock.witness(pushed.query_ltime - 1)
        self._merge_members(pushed, now)
        if join and self.ignoring:
            self._seen.minimum = max(self._seen.minimum, pushed.event_ltime)
        for slot in pushed.events:
            if slot is not None:
                self._merge_events(slot)

    def _merge_events(self, slot: EventSlot) -> None:
        for event in slot.events:
            if event is not None:
                self.user_event(UserEventMessage(slot.ltime, event.name, event.payload))

    def _merge_members(self, pushed: SharedState, now: float) -> None:
        times = dict(pushed.status_ltimes)
        ours = times.pop(self._name, None)
        if self._name in pushed.left_members and self.staying and ours is not None:
            self.leave_intent(LeaveIntent(ours + 1, self._name), now)
        self.roster.merge(times, pushed.left_members, now)
        unheard = self.roster.unheard_prunes(times, pushed.left_members, now)
        if pushed.pruned is None:  # the peer does not hear of prunes by push/pull
            for name, ltime in unheard:
                self.intents.add(encode(LeaveIntent(ltime, name, True)))
        for name, ltime in (pushed.pruned or {}).items():
            if name in self.roster:
                self.leave_intent(LeaveIntent(ltime, name, True), now)


def join_host_port(address: str, port: int) -> str:
    """`ip:port`, as Go joins them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
