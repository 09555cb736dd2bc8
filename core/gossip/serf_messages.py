"""What Serf nodes say to each other inside memberlist's user messages (protocols/gossip.md section 7).

A message is a type byte and a msgpack map. Encoding gives the reference's bytes; decoding accepts any
bytes and raises DecodeError for what has no meaning. Texts that are not UTF-8 keep their bytes."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct, field

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError

LEAVE, JOIN, PUSH_PULL, USER_EVENT, QUERY = range(5)
QUERY_RESPONSE, CONFLICT, KEY_REQUEST, KEY_RESPONSE, RELAY = range(5, 10)

# Flags of queries and their responses.
FLAG_ACK = 1  # of a query: acknowledge; of a response: this is the acknowledgement
FLAG_NO_BROADCAST = 2  # of a query: do not pass on

FILTER_NODE, FILTER_TAG = 0, 1

_U16, _U32, _U64 = 2**16, 2**32, 2**64
T = TypeVar("T", bound=Struct)


class LeaveIntent(Struct, frozen=True):
    """A node wants to leave, or an operator says so of a failed one; `prune` erases it."""

    ltime: int = field(name="LTime")
    node: str = field(name="Node")
    prune: bool = field(name="Prune", default=False)


class JoinIntent(Struct, frozen=True):
    """A node says that it is here."""

    ltime: int = field(name="LTime")
    node: str = field(name="Node")


class EventBody(Struct, frozen=True):
    """One of the events of a Lamport time."""

    name: str = field(name="Name", default="")
    payload: bytes | None = field(name="Payload", default=None)


class EventSlot(Struct, frozen=True):
    """The events of one Lamport time, as push/pull carries them."""

    ltime: int = field(name="LTime", default=0)
    events: list[EventBody | None] = field(name="Events", default_factory=list)


class PushPull(Struct, frozen=True):
    """The user state of a push/pull (protocols/gossip.md 7.1)."""

    ltime: int = field(name="LTime", default=0)
    status_ltimes: dict[str, int] = field(name="StatusLTimes", default_factory=dict)
    left_members: list[str] = field(name="LeftMembers", default_factory=list)
    event_ltime: int = field(name="EventLTime", default=0)
    events: list[EventSlot | None] = field(name="Events", default_factory=list)
    query_ltime: int = field(name="QueryLTime", default=0)


class SharedState(PushPull, frozen=True):
    """A push/pull of ours. The reference skips the field it does not know; None: a peer is such a one.
    `pruned` has the tombstones, with their Lamport times."""

    pruned: dict[str, int] | None = field(name="Pruned", default=None)


class UserEventMessage(Struct, frozen=True):
    """A user event; `coalesce` lets its receivers drop all but the last of a name."""

    ltime: int = field(name="LTime")
    name: str = field(name="Name")
    payload: bytes | None = field(name="Payload", default=None)
    coalesce: bool = field(name="CC", default=False)


class QueryMessage(Struct, frozen=True):
    """A question to all nodes that pass the filters. `timeout` is in nanoseconds."""

    ltime: int = field(name="LTime")
    id: int = field(name="ID")
    address: bytes = field(name="Addr", default=b"")
    port: int = field(name="Port", default=0)
    source: str = field(name="SourceNode", default="")
    filters: list[bytes] | None = field(name="Filters", default=None)
    flags: int = field(name="Flags", default=0)
    relay_factor: int = field(name="RelayFactor", default=0)
    timeout: int = field(name="Timeout", default=0)
    name: str = field(name="Name", default="")
    payload: bytes | None = field(name="Payload", default=None)


class QueryResponseMessage(Struct, frozen=True):
    """An answer to a query, or its acknowledgement."""

    ltime: int = field(name="LTime")
    id: int = field(name="ID")
    source: str = field(name="From")
    flags: int = field(name="Flags", default=0)
    payload: bytes | None = field(name="Payload", default=None)


class MemberRecord(Struct, frozen=True):
    """What a node knows of a disputed name."""

    name: str = field(name="Name")
    address: bytes = field(name="Addr")
    port: int = field(name="Port")
    tags: dict[str, str] = field(name="Tags", default_factory=dict)
    status: int = field(name="Status", default=0)
    protocol_min: int = field(name="ProtocolMin", default=0)
    protocol_max: int = field(name="ProtocolMax", default=0)
    protocol: int = field(name="ProtocolCur", default=0)
    delegate_min: int = field(name="DelegateMin", default=0)
    delegate_max: int = field(name="DelegateMax", default=0)
    delegate: int = field(name="DelegateCur", default=0)


class KeyRequest(Struct, frozen=True):
    """The payload of a key operation."""

    key: bytes | None = field(name="Key", default=None)


class KeyResponse(Struct, frozen=True):
    """What a node answers to a key operation."""

    result: bool = field(name="Result", default=False)
    message: str = field(name="Message", default="")
    keys: list[str] | None = field(name="Keys", default=None)
    primary_key: str = field(name="PrimaryKey", default="")


class RelayAddress(Struct, frozen=True):
    """Where a relayed message goes."""

    ip: bytes = field(name="IP", default=b"")
    port: int = field(name="Port", default=0)
    zone: str = field(name="Zone", default="")


class RelayHeader(Struct, frozen=True):
    """Precedes a message that its receiver passes on."""

    address: RelayAddress = field(name="DestAddr", default=RelayAddress())
    name: str = field(name="DestName", default="")


class TagFilter(Struct, frozen=True):
    """A query's filter: `expression` must be found in the value of `tag`."""

    tag: str = field(name="Tag", default="")
    expression: str = field(name="Expr", default="")


TYPES: dict[int, type[Struct]] = {
    LEAVE: LeaveIntent,
    JOIN: JoinIntent,
    PUSH_PULL: PushPull,
    USER_EVENT: UserEventMessage,
    QUERY: QueryMessage,
    QUERY_RESPONSE: QueryResponseMessage,
    CONFLICT: MemberRecord,
    KEY_REQUEST: KeyRequest,
    KEY_RESPONSE: KeyResponse,
}
_BYTES: dict[type[Struct], bytes] = {cls: bytes((kind,)) for kind, cls in TYPES.items()} | {
    SharedState: bytes((PUSH_PULL,))
}
# Unsigned fields and what they must stay below; others are judged where they are used.
_LIMITS = {
    "ltime": _U64,
    "event_ltime": _U64,
    "query_ltime": _U64,
    "id": _U32,
    "flags": _U32,
    "port": _U16,
    "relay_factor": 256,
    "status": _U32,
}
_CHECKED = {
    cls: tuple((name, _LIMITS[name]) for name in cls.__struct_fields__ if name in _LIMITS) for cls in _BYTES
}


def encode(message: Struct) -> bytes:
    """Type byte and body."""
    return _BYTES[type(message)] + wire.pack(message)


def decode_as(cls: type[T], body: bytes | memoryview) -> T:
    """The body of a message that is a `cls`. DecodeError."""
    message = wire.unpack(cls, body)
    for name, limit in _CHECKED[cls]:
        if not 0 <= getattr(message, name) < limit:
            raise DecodeError(f"{cls.__name__}.{name}: {getattr(message, name)} is out of range")
    if isinstance(message, PushPull):
        _check_push_pull(message)
    return message


def decode(data: bytes) -> Struct:
    """The message in `data`, of any type but RELAY. DecodeError."""
    cls = TYPES.get(data[0]) if data else None
    if cls is None:
        raise DecodeError(f"no message of type {data[:1].hex() or 'nothing'}")
    return decode_as(cls, memoryview(data)[1:])


def _check_push_pull(state: PushPull) -> None:
    times = [*state.status_ltimes.values(), *(slot.ltime for slot in state.events if slot is not None)]
    if isinstance(state, SharedState) and state.pruned:
        times += state.pruned.values()
    if any(not 0 <= time < _U64 for time in times):
        raise DecodeError("PushPull: a Lamport time is out of range")


def encode_relay(address: bytes, port: int, name: str, message: bytes) -> bytes:
    """`message` with the order to pass it on (protocols/gossip.md 7.6)."""
    header = RelayHeader(RelayAddress(address, port), name)
    return bytes((RELAY,)) + wire.pack(header) + message


def decode_relay(data: bytes) -> tuple[RelayHeader, bytes]:
    """The order and the message to pass on, from a whole RELAY message. DecodeError."""
    reader = msgpack.Reader(data[1:])
    header = wire.from_wire(RelayHeader, reader.value())
    if len(header.address.ip) not in (4, 16) or not 0 < header.address.port < _U16:
        raise DecodeError("RelayHeader.DestAddr: not an address")
    rest = []
    while not reader.at_end:
        rest.append(reader.byte())
    return header, bytes(rest)


def encode_node_filter(names: list[str]) -> bytes:
    """A filter that the named nodes pass."""
    return bytes((FILTER_NODE,)) + msgpack.encode(names)


def encode_tag_filter(tag: str, expression: str) -> bytes:
    """A filter that nodes pass whose tag's value has the expression."""
    return bytes((FILTER_TAG,)) + wire.pack(TagFilter(tag, expression))


def decode_filter(data: bytes) -> list[str] | TagFilter:
    """The names of a node filter, or a tag filter. DecodeError."""
    if data[:1] == bytes((FILTER_NODE,)):
        names = msgpack.decode(memoryview(data)[1:])
        if type(names) is not list:
            raise DecodeError("a node filter is a list of names")
        return [wire.text(name) for name in names]
    if data[:1] == bytes((FILTER_TAG,)):
        return wire.unpack(TagFilter, memoryview(data)[1:])
    raise DecodeError(f"no filter of type {data[:1].hex() or 'nothing'}")
