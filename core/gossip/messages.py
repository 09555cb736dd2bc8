"""Memberlist's messages: a type byte and a msgpack map (protocols/gossip.md 2.2, 3.2 to 3.5).

Reading matches fields by name, skips unknown ones and gives missing ones their zero value; whatever is wrong
raises DecodeError and nothing else. Addresses are text here; IPv4 within IPv6 becomes IPv4."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from msgspec import Struct

from core.codec import msgpack
from core.codec.msgpack import DecodeError
from core.codec.wire import integer, raw, text

PING, INDIRECT_PING, ACK, SUSPECT, ALIVE, DEAD, PUSH_PULL, COMPOUND = range(8)
USER, COMPRESS, ENCRYPT, NACK, CRC, ERROR = range(8, 14)
LABEL = 244

VSN_LENGTH = 6
_U32 = 0xFFFFFFFF
_KNOWN_LIMIT = 1024  # bytes of a gossip message that is worth remembering decoded


class Ping(Struct, frozen=True):
    """Are you there? Answered with an Ack to the source address, or to where the packet came from."""

    seq: int
    node: str = ""  # the receiver meant
    source_address: str = ""
    source_port: int = 0
    source_node: str = ""


class IndirectPing(Struct, frozen=True):
    """Ping `node` for me; `nack` asks for word when it does not answer."""

    seq: int
    target: str
    port: int
    node: str
    nack: bool = False
    source_address: str = ""
    source_port: int = 0
    source_node: str = ""


class Ack(Struct, frozen=True):
    """The answer to a ping. None: relayed or by stream."""

    seq: int
    payload: bytes | None = None


class Nack(Struct, frozen=True):
    """The node that I was asked to ping has not answered."""

    seq: int


class Suspect(Struct, frozen=True):
    """`source` could not reach `node`."""

    incarnation: int
    node: str
    source: str


class Alive(Struct, frozen=True, gc=False):
    """What a node says of itself."""

    incarnation: int
    node: str
    address: str
    port: int
    meta: bytes
    vsn: bytes  # protocol min, max, current; delegate min, max, current


class Dead(Struct, frozen=True):
    """`node` is dead; it left on its own when `source` is the same."""

    incarnation: int
    node: str
    source: str


class PushPullHeader(Struct, frozen=True):
    """What follows: so many nodes, and so many bytes of user state."""

    join: bool
    nodes: int
    user_state_length: int


Gossip = Suspect | Alive | Dead


@lru_cache(4096)
def ip_text(address: bytes) -> str:
    """An address of 4 or 16 bytes as text; DecodeError for other lengths."""
    if len(address) == 4:
        return str(IPv4Address(address))
    if len(address) == 16:
        whole = IPv6Address(address)
        return str(whole.ipv4_mapped or whole)
    raise DecodeError(f"an IP address of {len(address)} bytes")


@lru_cache(4096)
def ip_bytes(address: str) -> bytes:
    """The 4 or 16 bytes of an address in text. ValueError when it is none."""
    return ip_address(address).packed


# --- writing: keys in bytewise order, as the dicts below have them


def _message(kind: int, body: dict[str, Any]) -> bytes:
    return bytes((kind,)) + msgpack.encode(body)


def _source(body: dict[str, Any], message: Ping | IndirectPing) -> dict[str, Any]:
    """Adds where the answer goes; zero values are left out."""
    if message.source_address:
        body["SourceAddr"] = ip_bytes(message.source_address)
    if message.source_node:
        body["SourceNode"] = message.source_node
    if message.source_port:
        body["SourcePort"] = message.source_port
    return body


def encode_ping(ping: Ping) -> bytes:
    """A ping as a message."""
    return _message(PING, _source({"Node": ping.node, "SeqNo": ping.seq}, ping))


def encode_indirect_ping(ping: IndirectPing) -> bytes:
    """An indirect ping as a message."""
    body = {"Nack": ping.nack, "Node": ping.node, "Port": ping.port, "SeqNo": ping.seq}
    body = _source(body, ping)
    body["Target"] = ip_bytes(ping.target)
    return _message(INDIRECT_PING, body)


def encode_ack(ack: Ack) -> bytes:
    """An ack as a message."""
    return _message(ACK, {"Payload": ack.payload, "SeqNo": ack.seq})


def encode_nack(nack: Nack) -> bytes:
    """A nack as a message."""
    return _message(NACK, {"SeqNo": nack.seq})


def encode_suspect(suspect: Suspect) -> bytes:
    """A suspicion as a message."""
    body = {"From": suspect.source, "Incarnation": suspect.incarnation, "Node": suspect.node}
    return _message(SUSPECT, body)


def encode_dead(dead: Dead) -> bytes:
    """A death as a message."""
    return _message(DEAD, {"From": dead.source, "Incarnation": dead.incarnation, "Node": dead.node})


def encode_alive(alive: Alive) -> bytes:
    """Being alive as a message."""
    return _message(
        ALIVE,
        {
            "Addr": ip_bytes(alive.address),
            "Incarnation": alive.incarnation,
            "Meta": alive.meta,
            "Node": alive.node,
            "Port": alive.port,
            "Vsn": alive.vsn,
        },
    )


def encode_error(problem: str) -> bytes:
    """What was wrong with a stream, as a message."""
    return _message(ERROR, {"Error": problem})


def encode_user_stream(message: bytes) -> bytes:
    """A user message as streams carry it, with its length."""
    return _message(USER, {"UserMsgLen": len(message)}) + message


def encode_push_pull(join: bool, nodes: list[tuple[Alive, int, int]], user_state: bytes) -> bytes:
    """A whole state: (facts, incarnation, state) of each node, then the user state."""
    header = {"Join": join, "Nodes": len(nodes), "UserStateLen": len(user_state)}
    parts = [_message(PUSH_PULL, header)]
    pack = msgpack.encode
    for facts, incarnation, state in nodes:
        node = {
            "Addr": ip_bytes(facts.address),
            "Incarnation": incarnation,
            "Meta": facts.meta,
            "Name": facts.node,
            "Port": facts.port,
            "State": state,
            "Vsn": facts.vsn,
        }
        parts.append(pack(node))
    parts.append(user_state)
    return b"".join(parts)


# --- reading


def _map(fields: Any) -> dict[bytes, Any]:
    if type(fields) is not dict:
        raise DecodeError(f"a map was expected, not {type(fields).__name__}")
    return fields


def fields_of(message: bytes) -> Any:
    """The decoded body of a message: what follows its type byte."""
    return msgpack.decode(memoryview(message)[1:])


def _unsigned(value: Any, limit: int = _U32) -> int:
    number = integer(value)
    if not 0 <= number <= limit:
        raise DecodeError(f"{number} is out of range")
    return number


def _flag(value: Any) -> bool:
    if value is None or value is False or value is True or value in (0, 1):
        return bool(value)
    raise DecodeError(f"a bool was expected, not {type(value).__name__}")


def _name(value: Any) -> str:
    """The name of a node that is spoken of; nobody is called nothing."""
    name = text(value)
    if not name:
        raise DecodeError("a node without a name")
    return name


def _source_address(value: Any) -> str:
    address = raw(value)
    return ip_text(address) if address else ""


def ping_of(fields: Any) -> Ping:
    """A ping from its decoded body."""
    get = _map(fields).get
    return Ping(
        _unsigned(get(b"SeqNo")),
        text(get(b"Node")),
        _source_address(get(b"SourceAddr")),
        _unsigned(get(b"SourcePort"), 0xFFFF),
        text(get(b"SourceNode")),
    )


def indirect_ping_of(fields: Any) -> IndirectPing:
    """An indirect ping from its decoded body."""
    get = _map(fields).get
    return IndirectPing(
        _unsigned(get(b"SeqNo")),
        ip_text(raw(get(b"Target"))),
        _unsigned(get(b"Port"), 0xFFFF),
        text(get(b"Node")),
        _flag(get(b"Nack")),
        _source_address(get(b"SourceAddr")),
        _unsigned(get(b"SourcePort"), 0xFFFF),
        text(get(b"SourceNode")),
    )


def ack_of(fields: Any) -> Ack:
    """An ack from its decoded body."""
    get = _map(fields).get
    payload = get(b"Payload")
    return Ack(_unsigned(get(b"SeqNo")), None if payload is None else raw(payload))


def nack_of(fields: Any) -> Nack:
    """A nack from its decoded body."""
    return Nack(_unsigned(_map(fields).get(b"SeqNo")))


def error_of(fields: Any) -> str:
    """An error's text from its decoded body."""
    return text(_map(fields).get(b"Error"))


def decode_gossip(message: bytes) -> Gossip:
    """A suspect, alive or dead message, type byte included. The same bytes arrive many times, so recent ones
    are remembered decoded; the answer is shared."""
    return _decode_known(message) if len(message) <= _KNOWN_LIMIT else _decode_gossip(message)


def _decode_gossip(message: bytes) -> Gossip:
    get = _map(fields_of(message)).get
    incarnation, node = _unsigned(get(b"Incarnation")), _name(get(b"Node"))
    if message[0] == ALIVE:
        return Alive(
            incarnation,
            node,
            ip_text(raw(get(b"Addr"))),
            _unsigned(get(b"Port"), 0xFFFF),
            raw(get(b"Meta")),
            raw(get(b"Vsn")),
        )
    kind = Suspect if message[0] == SUSPECT else Dead
    return kind(incarnation, node, text(get(b"From")))


_decode_known = lru_cache(8192)(_decode_gossip)


def push_pull_header_of(fields: Any) -> PushPullHeader:
    """A push/pull's header from its decoded map."""
    get = _map(fields).get
    return PushPullHeader(
        _flag(get(b"Join")), _unsigned(get(b"Nodes")), _unsigned(get(b"UserStateLen"), 1 << 62)
    )


def node_state_of(fields: Any) -> tuple[Alive, int]:
    """A node of a push/pull from its decoded map: what it is, and its state."""
    get = _map(fields).get
    facts = Alive(
        _unsigned(get(b"Incarnation")),
        _name(get(b"Name")),
        ip_text(raw(get(b"Addr"))),
        _unsigned(get(b"Port"), 0xFFFF),
        raw(get(b"Meta")),
        raw(get(b"Vsn")),
    )
    return facts, _unsigned(get(b"State"), 3)


def user_length_of(fields: Any) -> int:
    """The length of a user message in a stream, from its decoded map."""
    return _unsigned(_map(fields).get(b"UserMsgLen"), 1 << 62)
