"""Queries: a question to many nodes, and their answers straight to who asked (protocols/gossip.md 7.5).

Here is the bookkeeping of both sides: who passes the filters, what was asked and who has answered, what
we were asked and may still answer. Sending is `serf`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field

from core.codec.msgpack import DecodeError
from core.gossip.serf_messages import (
    FLAG_ACK,
    QueryMessage,
    QueryResponseMessage,
    TagFilter,
    decode_filter,
    encode_node_filter,
    encode_tag_filter,
)

# Compiles a regular expression (RE2) to a test of whether it is found; ValueError when it is none.
Compile = Callable[[str], Callable[[str], bool]]

MAX_RECEIVED = 4096


class QueryParams(Struct, frozen=True):
    """How a query is asked. `nodes` and `tags` filter: by name, and by expressions on tags. `timeout` in
    seconds, None for the default of the cluster's size."""

    nodes: Sequence[str] = ()
    tags: Mapping[str, str] = {}
    ack: bool = False
    relay_factor: int = 0
    timeout: float | None = None

    def filters(self) -> list[bytes] | None:
        """The filters as they travel."""
        encoded = [encode_node_filter(list(self.nodes))] if self.nodes else []
        encoded += [encode_tag_filter(tag, expression) for tag, expression in self.tags.items()]
        return encoded or None


def default_timeout(gossip_interval: float, multiplier: int, alive: int) -> float:
    """Seconds in which a query reaches everybody and the answers are back."""
    return gossip_interval * multiplier * math.ceil(math.log10(alive + 1))


def passes(filters: Iterable[bytes], name: str, tags: Mapping[str, str], compile: Compile) -> bool:
    """Whether a node passes all filters. DecodeError for a filter that cannot be understood."""
    for encoded in filters:
        filter = decode_filter(encoded)
        if isinstance(filter, TagFilter):
            try:
                found = compile(filter.expression)
            except ValueError as error:
                raise DecodeError(str(error)) from error
            if not found(tags.get(filter.tag, "")):
                return False
        elif name not in filter:
            return False
    return True


class OpenQuery(Struct):
    """A query of ours that still takes answers."""

    id: int
    ltime: int
    deadline: float
    room: int  # answers that it takes: as many as there were members
    acks: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)

    def accepts(self, response: QueryResponseMessage) -> bool:
        """Whether the response is this query's, and its sender's first."""
        if response.id != self.id:
            return False
        heard = self.acks if response.flags & FLAG_ACK else self.answers
        if response.source in heard or len(heard) >= self.room:
            return False
        heard.add(response.source)
        return True


class ReceivedQuery(Struct, frozen=True):
    """A query of somebody, that we may answer once before `deadline`."""

    message: QueryMessage
    deadline: float


class Queries:
    """Both sides' open queries. Ours are found by their Lamport time, others' by time and id."""

    def __init__(self) -> None:
        self._open: dict[int, OpenQuery] = {}
        self._received: dict[tuple[int, int], ReceivedQuery] = {}

    def ask(self, query: OpenQuery) -> None:
        self._open[query.ltime] = query

    def asked(self, ltime: int) -> OpenQuery | None:
        """Our query of that time."""
        return self._open.get(ltime)

    def close(self, query: OpenQuery) -> None:
        """It has all it wants."""
        self._open.pop(query.ltime, None)

    def receive(self, message: QueryMessage, now: float) -> ReceivedQuery:
        """A query that this node is asked."""
        if len(self._received) >= MAX_RECEIVED:
            self._received.pop(next(iter(self._received)))
        received = ReceivedQuery(message, now + message.timeout / 1e9)
        self._received[message.ltime, message.id] = received
        return received

    def take_received(self, ltime: int, id: int) -> ReceivedQuery | None:
        """The query to answer: it can be had once."""
        return self._received.pop((ltime, id), None)

    def deadline(self) -> float | None:
        """When the next of ours ends."""
        return min((query.deadline for query in self._open.values()), default=None)

    def ended(self, now: float) -> list[OpenQuery]:
        """Ours that have ended; forgets them, and others' that are past answering."""
        over = [query for query in self._open.values() if query.deadline <= now]
        for query in over:
            del self._open[query.ltime]
        return over

    def expire(self, now: float) -> None:
        """Forget others' queries that are past answering."""
        late = [key for key, received in self._received.items() if received.deadline <= now]
        for key in late:
            del self._received[key]
