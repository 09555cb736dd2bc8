"""Queries at work: asked, passed on, answered, relayed (protocols/gossip.md 7.5 to 7.7).

Serf's own queries (their names begin with `_serf_`) are answered here and never shown: pings, disputes
over a name, operations on the keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.gossip import keys
from core.gossip.broadcasts import BroadcastQueue
from core.gossip.clocks import LamportClock
from core.gossip.events import Ring
from core.gossip.keys import KeyResult
from core.gossip.member import QueryEvent, QueryResponse
from core.gossip.memberlist import Address, Memberlist
from core.gossip.messages import ip_bytes, ip_text
from core.gossip.queries import Compile, OpenQuery, Queries, QueryParams, default_timeout, passes
from core.gossip.roster import Roster
from core.gossip.serf_messages import (
    CONFLICT,
    FLAG_ACK,
    FLAG_NO_BROADCAST,
    KeyRequest,
    KeyResponse,
    MemberRecord,
    QueryMessage,
    QueryResponseMessage,
    decode_as,
    decode_relay,
    encode,
    encode_relay,
)
from core.gossip.settings import GossipSettings

INTERNAL = "_serf_"
CONFLICT_QUERY = "_serf_conflict"
PING = "_serf_ping"
_RELAY_PROTOCOL = 5  # relaying nodes must understand it
_NOBODY = bytes((CONFLICT, 0xC0))  # "I know no such member"


class Collector(Protocol):
    """Takes the answers to a query of Serf's own."""

    @property
    def complete(self) -> bool: ...

    def add(self, source: str, payload: bytes) -> None: ...


class Vote:
    """Who, to the others, is the owner of our name?"""

    complete = False  # everyone gets the whole time

    def __init__(self, address: str, port: int) -> None:
        self._own = ip_bytes(address), port
        self.answers = 0
        self.ours = 0

    @property
    def won(self) -> bool:
        """More than half know our address under our name."""
        return self.ours >= self.answers // 2 + 1

    def add(self, source: str, payload: bytes) -> None:
        """One node's answer."""
        if payload == _NOBODY:
            self.answers += 1
        if payload[:1] != _NOBODY[:1] or payload == _NOBODY:
            return
        try:
            record = decode_as(MemberRecord, memoryview(payload)[1:])
            claimed = ip_text(record.address)
        except DecodeError:
            return
        self.answers += 1
        self.ours += (ip_bytes(claimed), record.port) == self._own


class Asking:
    """Both sides of queries. `take` gives what came of ours; `keyring_changed` and `name_lost` are to be
    looked at, and the first to be cleared."""

    def __init__(
        self,
        name: str,
        settings: GossipSettings,
        memberlist: Memberlist,
        roster: Roster,
        rng: Random,
        compile: Compile,
        tell: Callable[[QueryEvent], None],
        log: Callable[[str, str], None],
    ) -> None:
        self.clock = LamportClock()
        self.ring: Ring[int] = Ring(settings.query_buffer)
        self.queue = BroadcastQueue(settings.retransmit_mult)
        self._answers: list[tuple[int, QueryResponse]] = []
        self._ended: list[int] = []
        self._key_results: list[tuple[int, KeyResult]] = []
        self.keyring_changed = False
        self.name_lost = False
        self._name, self._settings, self._memberlist, self._roster = name, settings, memberlist, roster
        self._rng, self._compile, self._tell, self._log = rng, compile, tell, log
        self._queries = Queries()
        self._collectors: dict[int, Collector] = {}

    def take(self) -> tuple[list[tuple[int, QueryResponse]], list[int], list[tuple[int, KeyResult]]]:
        """Answers by the query's id, ids of queries that ended, outcomes of key operations by id."""
        taken = self._answers, self._ended, self._key_results
        self._answers, self._ended, self._key_results = [], [], []
        return taken

    # --- asking

    def ask(self, name: str, payload: bytes, params: QueryParams, now: float) -> int:
        """Ask everyone who passes the filters; the id of the query. Invalid when it is too large, or one of
        Serf's own but for the ping, which wants acks only."""
        if name.startswith(INTERNAL) and (name != PING or payload):
            raise Invalid(f"queries cannot start with the '{INTERNAL}' prefix")
        return self._ask(name, payload, params, now).id

    def operate_keys(self, operation: str, key: str, relay_factor: int, now: float) -> int:
        """A key operation (`core.gossip.keys`) on all members; `key` in base64. Its query's id. Invalid."""
        request = encode(KeyRequest(keys.key_from_text(key)))
        params = QueryParams(relay_factor=relay_factor)
        result = KeyResult(len(self._memberlist.alive_nodes))
        return self._ask(keys.QUERY_NAMES[operation], request, params, now, result).id

    def dispute(self, now: float) -> None:
        """Somebody else has our name: let the others say whose it is."""
        if not any(isinstance(collector, Vote) for collector in self._collectors.values()):
            own = self._memberlist.local_node
            vote = Vote(own.address, own.port)
            self._ask(CONFLICT_QUERY, _raw(self._name), QueryParams(), now, vote)

    def _ask(
        self,
        name: str,
        payload: bytes,
        params: QueryParams,
        now: float,
        collector: Collector | None = None,
    ) -> OpenQuery:
        settings, own = self._settings, self._memberlist.local_node
        timeout = params.timeout
        if timeout is None:
            alive = len(self._memberlist.alive_nodes)
            timeout = default_timeout(settings.gossip_interval, settings.query_timeout_mult, alive)
        message = QueryMessage(
            ltime=self.clock.time,
            id=self._rng.randrange(2**31),
            address=ip_bytes(own.address),
            port=own.port,
            source=self._name,
            filters=params.filters(),
            flags=FLAG_ACK if params.ack else 0,
            relay_factor=params.relay_factor,
            timeout=int(timeout * 1e9),
            name=name,
            payload=payload or None,
        )
        raw = encode(message)
        if len(raw) > settings.query_size_limit:
            raise Invalid(f"query exceeds limit of {settings.query_size_limit} bytes")
        self.clock.increment()
        query = OpenQuery(message.id, message.ltime, now + timeout, len(self._roster))
        self._queries.ask(query)
        if collector is not None:
            self._collectors[query.id] = collector
        self.queue.add(raw)
        self.receive_query(message, now)
        return query

    def receive_response(self, response: QueryResponseMessage) -> None:
        """Somebody answers a query of ours."""
        query = self._queries.asked(response.ltime)
        if query is None or not query.accepts(response):
            return
        if response.flags & FLAG_ACK:
            self._answers.append((query.id, QueryResponse(response.source, None)))
            return
        collector = self._collectors.get(query.id)
        if collector is None:
            self._answers.append((query.id, QueryResponse(response.source, response.payload or b"")))
            return
        collector.add(response.source, response.payload or b"")
        if collector.complete:
            self._end(query)

    def _end(self, query: OpenQuery) -> None:
        self._queries.close(query)
        collector = self._collectors.pop(query.id, None)
        if isinstance(collector, KeyResult):
            self._key_results.append((query.id, collector))
        elif isinstance(collector, Vote):
            self._decide(collector)
        else:
            self._ended.append(query.id)

    def _decide(self, vote: Vote) -> None:
        tally = f"name conflict resolution [{vote.ours} / {vote.answers}]"
        if vote.won:
            self._log("info", f"majority in {tally}")
        else:
            self._log("warn", f"minority in {tally}, quitting")
            self.name_lost = True

    # --- being asked

    def receive_query(self, message: QueryMessage, now: float) -> bool:
        """A query came. True: pass it on."""
        self.clock.witness(message.ltime)
        if not self.ring.is_new(message.ltime, message.id, self.clock.time):
            return False
        relay = not message.flags & FLAG_NO_BROADCAST
        try:
            passed = passes(message.filters or (), self._name, self._tags(), self._compile)
            target = ip_text(message.address), message.port
        except DecodeError as error:
            self._log("warn", f"query '{message.name}' from {message.source} cannot be judged: {error}")
            return relay
        if passed:
            if message.flags & FLAG_ACK:
                self._answer_quietly(message, target, None, FLAG_ACK)
            if message.name.startswith(INTERNAL):
                self._answer_internal(message, target)
            else:
                self._deliver(message, now)
        return relay

    def _tags(self) -> Mapping[str, str]:
        own = self._roster.get(self._name)
        return own.tags if own is not None else {}

    def _deliver(self, message: QueryMessage, now: float) -> None:
        received = self._queries.receive(message, now)
        payload, deadline = message.payload or b"", received.deadline
        self._tell(QueryEvent(message.ltime, message.id, message.name, payload, message.source, deadline))

    def respond(self, query: QueryEvent, payload: bytes, now: float) -> None:
        """The application's answer, once and in time. Invalid."""
        if now > query.deadline:
            raise Invalid("response is past the deadline")
        limit = self._settings.query_response_size_limit
        if len(payload) > limit:
            raise Invalid(f"response exceeds limit of {limit} bytes")
        received = self._queries.take_received(query.ltime, query.id)
        if received is None:
            raise Invalid("response already sent")
        message = received.message
        self._answer(message, (ip_text(message.address), message.port), payload)

    def _answer(self, query: QueryMessage, target: Address, payload: bytes | None, flags: int = 0) -> None:
        """Straight to who asked, and round by others if that was wanted. Invalid when too large."""
        response = QueryResponseMessage(query.ltime, query.id, self._name, flags, payload)
        raw, limit = encode(response), self._settings.query_response_size_limit
        if len(raw) > limit:
            raise Invalid(f"response exceeds limit of {limit} bytes")
        if target == self._memberlist.local_node.endpoint:
            self.receive_response(response)
        elif target[1] > 0:
            self._memberlist.send_to(target, raw)
            self._relay(query, raw)

    def _answer_quietly(
        self, query: QueryMessage, target: Address, payload: bytes | None, flags: int = 0
    ) -> None:
        """Where nobody waits for the error."""
        try:
            self._answer(query, target, payload, flags)
        except Invalid as error:
            self._log("warn", f"cannot answer query '{query.name}' of {query.source}: {error}")

    def _relay(self, query: QueryMessage, raw: bytes) -> None:
        if not 0 < query.relay_factor < len(self._roster):
            return
        relayed = encode_relay(query.address, query.port, query.source, raw)
        limit = self._settings.query_response_size_limit
        if len(relayed) > limit:
            self._log("warn", f"relayed response exceeds limit of {limit} bytes")
            return
        able = [
            node
            for node in self._memberlist.alive_nodes
            if node.name != self._name and node.protocol[1] >= _RELAY_PROTOCOL
        ]
        for node in self._rng.sample(able, min(query.relay_factor, len(able))):
            self._memberlist.send_to(node, relayed)

    def pass_on(self, data: bytes) -> None:
        """A response that we shall carry to who asked. DecodeError."""
        header, message = decode_relay(data)
        self._memberlist.send_to((ip_text(header.address.ip), header.address.port), message)

    # --- Serf's own

    def _answer_internal(self, query: QueryMessage, target: Address) -> None:
        if query.name == CONFLICT_QUERY:
            self._testify(query, target)
            return
        operation = next((known for known, name in keys.QUERY_NAMES.items() if name == query.name), None)
        if operation is None:
            return  # a ping wants its ack only; others are of some newer Serf
        keyring = self._memberlist.keyring
        response = keys.operate(keyring, operation, query.payload or b"")
        if response.result and operation != keys.LIST:
            self.keyring_changed = True

        def fits(response: KeyResponse) -> bool:
            whole = QueryResponseMessage(query.ltime, query.id, self._name, 0, encode(response))
            return len(encode(whole)) <= self._settings.query_response_size_limit

        self._answer_quietly(query, target, encode(keys.shortened(response, fits)))

    def _testify(self, query: QueryMessage, target: Address) -> None:
        """Who has the disputed name? The two who dispute it don't say."""
        disputed = str(query.payload or b"", "utf-8", "surrogateescape")
        if disputed == self._name:
            return
        member = self._roster.get(disputed)
        payload = _NOBODY
        if member is not None:
            payload = encode(
                MemberRecord(
                    member.name,
                    ip_bytes(member.address),
                    member.port,
                    member.tags,
                    member.status,
                    *member.protocol,
                    *member.delegate,
                )
            )
        self._answer_quietly(query, target, payload)

    # --- time

    def deadline(self) -> float | None:
        """When a query of ours ends."""
        return self._queries.deadline()

    def tick(self, now: float) -> None:
        """End the queries whose time is over."""
        for query in self._queries.ended(now):
            self._end(query)
        self._queries.expire(now)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
