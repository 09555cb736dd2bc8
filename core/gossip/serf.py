"""Serf: what a cluster is to its agents, on top of memberlist (protocols/gossip.md sections 5 to 8).

The machine that `agent/gossip.py` drives. Memberlist says who can be reached and carries messages; Serf
knows who left on purpose, delivers events and queries once, and spreads keys. What comes from others is
`listener`'s to hear; here is what this node does on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

from msgspec import Struct, field

from core.errors import Invalid
from core.gossip.admission import Admission
from core.gossip.broadcasts import Broadcast
from core.gossip.coordinates import Coordinate
from core.gossip.keyring import Keyring
from core.gossip.keys import KeyResult
from core.gossip.listener import Listener
from core.gossip.member import ALIVE, FAILED, LEFT, GossipEvent, Member, QueryEvent, QueryResponse
from core.gossip.memberlist import Address, JoinResult, StreamRequest
from core.gossip.queries import Compile, QueryParams
from core.gossip.serf_messages import LeaveIntent, UserEventMessage, encode
from core.gossip.settings import GossipSettings
from core.gossip.snapshot import CLOCK_INTERVAL, SnapshotState
from core.gossip.streams import Inbound, StreamMessage
from core.gossip.suspicion import push_pull_interval
from core.gossip.tags import encode_tags

USER_EVENT_MAX = 9216  # whatever is configured

# How far a leave has come.
STAYING, TELLING, LEAVING, SPREADING, GONE = range(5)


class Ready(Struct):
    """What Serf wants done: memberlist's part, then Serf's own."""

    packets: list[tuple[Address, bytes]] = field(default_factory=list)
    streams: list[StreamRequest] = field(default_factory=list)
    joins: list[JoinResult] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)  # (debug, info or warn; text)
    events: list[GossipEvent] = field(default_factory=list)
    snapshot: list[str] = field(default_factory=list)  # lines to append, without their ends
    answers: list[tuple[int, QueryResponse]] = field(default_factory=list)  # by id of the query
    ended: list[int] = field(default_factory=list)  # queries that take no more answers
    key_results: list[tuple[int, KeyResult]] = field(default_factory=list)
    keyring_changed: bool = False  # write the keyring's file
    left: bool = False  # the leave that was asked for is done
    name_lost: bool = False  # somebody else owns our name: stop


_NOTHING = Ready()


class Serf:
    """One pool as one node takes part in it."""

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        tags: Mapping[str, str],
        settings: GossipSettings,
        keyring: Keyring | None,
        rng: Random,
        now: float,
        admission: Admission | None = None,
        *,
        compile: Compile,
        previous: SnapshotState | None = None,
        rejoin_after_leave: bool = False,
    ) -> None:
        """`address` and `port` are what others reach. `admission` tells why a member may not come in.
        `compile` makes matchers of queries' tag filters. `previous` is what the snapshot file says.
        Invalid when the tags are too large."""
        self.name, self.settings = name, settings
        self._rng = rng
        self._ready = Ready()
        self._joining: set[int] = set()
        self._leave = STAYING
        self._leave_deadline = math.inf
        self._leave_told: Broadcast | None = None
        self._next_reap = now + settings.reap_interval
        self._next_reconnect = now + settings.reconnect_interval
        self._next_trim = now + settings.queue_check_interval
        self._next_clock = now + CLOCK_INTERVAL
        self._listener = listener = Listener(
            name, address, port, encode_tags(tags), settings, keyring, rng, admission, compile
        )
        listener.remember(previous or SnapshotState(), rejoin_after_leave)
        self.memberlist, self.roster = listener.memberlist, listener.roster
        self._asking, self._snapshot = listener.asking, listener.snapshot
        self.memberlist.start(now)

    # --- the machine

    def receive(self, source: Address, packet: bytes, now: float) -> None:
        """A packet arrived."""
        self._listener.now = now
        self.memberlist.receive(source, packet, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._listener.now = now
        self.memberlist.tick(now)
        self._asking.tick(now)
        self.roster.prune_due(now)
        settings = self.settings
        if now >= self._next_reap:
            self._next_reap = now + settings.reap_interval
            self.roster.reap(now, self._push_pull_round())
        if now >= self._next_reconnect:
            self._next_reconnect = now + settings.reconnect_interval
            self._reconnect(now)
        if now >= self._next_trim:
            self._next_trim = now + settings.queue_check_interval
            self._trim_queues()
        if now >= self._next_clock:
            self._next_clock = now + CLOCK_INTERVAL
            self._snapshot.clock(self._listener.clock.time)
        self._go_on_leaving(now)

    def deadline(self) -> float | None:
        """When to tick next. For the clock's line nobody need wake."""
        times = [self._next_reap, self._next_reconnect, self._next_trim, self._leave_deadline]
        for other in (self.memberlist.deadline(), self._asking.deadline(), self.roster.due_prunes()):
            if other is not None:
                times.append(other)
        return min(times)

    def drain(self) -> Ready | None:
        """What is to be done now."""
        below = self.memberlist.drain()
        ready, asking = self._ready, self._asking
        if below is not None:
            ready.packets, ready.streams, ready.log = below.packets, below.streams, list(below.log)
            ready.joins = self._joined(below.joins) if below.joins else []
        ready.log += self._listener.take_log()
        ready.events = self._listener.take_told()
        ready.snapshot = self._snapshot.take_lines()
        ready.answers, ready.ended, ready.key_results = asking.take()
        ready.keyring_changed, asking.keyring_changed = asking.keyring_changed, False
        ready.name_lost, asking.name_lost = asking.name_lost, False
        if ready == _NOTHING:
            return None
        self._ready = Ready()
        return ready

    # --- streams, as memberlist has them

    def stream_answered(self, id: int, answer: bytes | StreamMessage, now: float) -> None:
        """A stream that we asked for brought this answer."""
        self._listener.now = now
        self.memberlist.stream_answered(id, answer, now)

    def stream_failed(self, id: int, error: str, now: float, refused: bool = False) -> None:
        """A stream that we asked for brought none."""
        self.memberlist.stream_failed(id, error, now, refused)

    def look_at(self, ip: str, now: float) -> None:
        """A connection to this address broke: probe the member there out of turn."""
        self.memberlist.look_at(ip, now)

    def packet_refused(self, to: Address, now: float) -> None:
        """A packet of ours went where nobody listens, as the host there said."""
        self.memberlist.packet_refused(to, now)

    def inbound(self) -> Inbound:
        """A parser for one stream."""
        return self.memberlist.inbound()

    def answer_stream(self, request: StreamMessage, now: float) -> bytes:
        """What to send back before closing a stream that somebody opened."""
        self._listener.now = now
        return self.memberlist.answer_stream(request, now)

    # --- membership

    def members(self) -> tuple[Member, ...]:
        """All members; the same tuple until something changes."""
        return self.roster.members()

    def join(self, addresses: list[Address], ignore_old: bool, now: float) -> list[int]:
        """Join the clusters at these addresses; Ready.joins has the outcomes by id. `ignore_old`: events of
        the time before are not delivered."""
        ids = self.memberlist.join(addresses, now)
        self._joining.update(ids)
        if ignore_old:
            self._listener.ignoring.update(ids)
        return ids

    def _joined(self, results: list[JoinResult]) -> list[JoinResult]:
        """Tell the cluster that we are here; the results of joins that somebody asked for."""
        asked = [result for result in results if result.id in self._joining]
        ids = {result.id for result in asked}
        self._joining -= ids
        self._listener.ignoring -= ids
        if any(not result.error for result in asked):
            self._listener.announce(self._listener.now)
        return asked

    def set_tags(self, tags: Mapping[str, str], now: float) -> None:
        """Announce other tags. Invalid when they are too large."""
        self._listener.meta = encode_tags(tags)
        self.memberlist.update_meta(now)

    def force_leave(self, name: str, prune: bool, now: float) -> None:
        """Take a failed member for left; with `prune` erase it everywhere."""
        intent = LeaveIntent(self._listener.clock.increment(), name, prune)
        if self._listener.leave_intent(intent, now) and self._others_alive():
            self._listener.intents.add(encode(intent))

    def leave(self, now: float) -> None:
        """Leave in peace: say so, then go; Ready.left tells when it is done."""
        if self._leave != STAYING:
            return
        self._leave, self._leave_deadline = TELLING, now + self.settings.broadcast_timeout
        self._listener.staying = False
        self._snapshot.leave()
        intent = LeaveIntent(self._listener.clock.increment(), self.name)
        self._listener.leave_intent(intent, now)
        if self._others_alive():
            self._leave_told = self._listener.intents.add(encode(intent))
        self._go_on_leaving(now)

    def _go_on_leaving(self, now: float) -> None:
        """Each step waits until it was told often enough, but not for ever."""
        settings = self.settings
        told = self._leave_told is None or self._leave_told.done
        if self._leave == TELLING and (told or now >= self._leave_deadline):
            self._leave, self._leave_deadline = LEAVING, now + settings.broadcast_timeout
            self.memberlist.leave(now)
        if self._leave == LEAVING and (self.memberlist.leave_sent or now >= self._leave_deadline):
            alone = not self._others_alive()
            self._leave = SPREADING
            self._leave_deadline = now if alone else now + settings.leave_propagate_delay
        if self._leave == SPREADING and now >= self._leave_deadline:
            self._leave, self._leave_deadline = GONE, math.inf
            self._ready.left = True

    def _others_alive(self) -> bool:
        return any(node.name != self.name for node in self.memberlist.alive_nodes)

    def _reconnect(self, now: float) -> None:
        """Now and then ask a failed member whether it is back; the more fail, the more often."""
        failed = self.roster.failed()
        if failed and self._leave == STAYING:
            alive = max(self.roster.count(ALIVE), 1)
            if self._rng.random() <= len(failed) / alive:
                member = self._rng.choice(failed)
                self.memberlist.join([(member.address, member.port)], now)

    def _push_pull_round(self) -> float:
        return push_pull_interval(self.settings.push_pull_interval, len(self.roster))

    def _trim_queues(self) -> None:
        """A flood must not fill the memory: what was told most often goes first."""
        keep = max(self.settings.min_queue_depth, 2 * len(self.roster))
        listener = self._listener
        for what, queue in (("intent", listener.intents), ("event", listener.events)):
            if dropped := queue.prune(keep):
                listener.log("warn", f"{what} queue is too long, {dropped} dropped")
        if dropped := self._asking.queue.prune(keep):
            listener.log("warn", f"query queue is too long, {dropped} dropped")

    # --- events, queries, keys

    def user_event(self, name: str, payload: bytes, coalesce: bool, now: float) -> None:
        """Tell everyone, ourselves too. Invalid when it is too large."""
        limit = self.settings.user_event_size_limit
        size = len(name.encode("utf-8", "surrogateescape")) + len(payload)
        if size > limit:
            raise Invalid(f"user event exceeds configured limit of {limit} bytes before encoding")
        if size > USER_EVENT_MAX:
            raise Invalid(f"user event exceeds sane limit of {USER_EVENT_MAX} bytes before encoding")
        event = UserEventMessage(self._listener.event_clock.time, name, payload, coalesce)
        raw = encode(event)
        if len(raw) > limit:
            raise Invalid(f"encoded user event exceeds configured limit of {limit} bytes after encoding")
        self._listener.event_clock.increment()
        self._listener.user_event(event)
        self._listener.events.add(raw)

    def query(self, name: str, payload: bytes, params: QueryParams, now: float) -> int:
        """Ask; Ready.answers and Ready.ended have what follows under the id. Invalid when it is too large."""
        return self._asking.ask(name, payload, params, now)

    def respond(self, query: QueryEvent, payload: bytes, now: float) -> None:
        """Answer a query that was delivered. Invalid when it is late, large or answered."""
        self._asking.respond(query, payload, now)

    def operate_keys(self, operation: str, key: str, relay_factor: int, now: float) -> int:
        """A key operation (`core.gossip.keys`) on all members; Ready.key_results has the outcome. Invalid."""
        return self._asking.operate_keys(operation, key, relay_factor, now)

    # --- looking

    @property
    def coordinate(self) -> Coordinate:
        """Where we are in the network."""
        return self._listener.coordinates.coordinate

    def coordinate_of(self, name: str) -> Coordinate | None:
        """Where a member said it is; ours by our name."""
        return self.coordinate if name == self.name else self._listener.coordinates.of(name)

    def snapshot_text(self) -> str:
        """The snapshot file, rewritten without what is past."""
        return self._snapshot.compacted()

    @property
    def snapshot_limit(self) -> int:
        """The size in bytes from which the file should be rewritten."""
        return self._snapshot.limit

    def stats(self) -> dict[str, str]:
        """The figures that `info` shows for a pool."""
        return {
            "coordinate_resets": str(self._listener.coordinates.resets),
            "encrypted": "true" if self.memberlist.keyring is not None else "false",
            "event_queue": str(len(self._listener.events)),
            "event_time": str(self._listener.event_clock.time),
            "failed": str(self.roster.count(FAILED)),
            "health_score": str(self.memberlist.health_score),
            "intent_queue": str(len(self._listener.intents)),
            "left": str(self.roster.count(LEFT)),
            "member_time": str(self._listener.clock.time),
            "members": str(len(self.roster)),
            "query_queue": str(len(self._asking.queue)),
            "query_time": str(self._asking.clock.time),
        }
