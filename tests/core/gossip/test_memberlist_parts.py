"""Memberlist's parts by themselves, and hostile bytes: readers raise DecodeError or nothing."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.codec import lzw, msgpack
from core.codec.msgpack import DecodeError
from core.gossip import messages as m
from core.gossip.awareness import Awareness
from core.gossip.broadcasts import BroadcastQueue
from core.gossip.keyring import Keyring, KeyringError
from core.gossip.nodes import ALIVE, DEAD, LEFT, SUSPECT, Node, NodeList
from core.gossip.packet import (
    STREAM_LIMIT,
    Envelope,
    compounds,
    compress,
    open_message,
    split_compound,
)
from core.gossip.settings import LAN, META_LIMIT, NAME_LIMIT
from core.gossip.streams import Inbound, PushPull, StreamError, UserMessage
from core.gossip.suspicion import Suspicion, patience, retransmit_limit, suspicion_timeout
from core.gossip.timers import Timers
from tests.core.gossip.memberlist_fixture import PORT, Cluster

FOLDER = Path(__file__).parents[2] / "vectors" / "gossip"
SEEDS = [
    bytes.fromhex(vector["hex"])
    for path in sorted(FOLDER.glob("*.json"))
    if "hex" in (vector := json.loads(path.read_text()))
]
SOURCE = ("10.0.0.9", PORT)
KEYS = [bytes([i]) * 16 for i in range(3)]

names = st.text(min_size=1, max_size=20)
u32 = st.integers(0, 0xFFFFFFFF)
port = st.integers(0, 0xFFFF)
addresses = st.ip_addresses().map(lambda ip: str(getattr(ip, "ipv4_mapped", None) or ip))
vsns = st.binary(min_size=6, max_size=6)
alives = st.builds(m.Alive, u32, names, addresses, port, st.binary(max_size=600), vsns)
suspects, deads = st.builds(m.Suspect, u32, names, names), st.builds(m.Dead, u32, names, names)
pings = st.builds(m.Ping, u32, names, addresses, st.integers(1, 0xFFFF), names)

# Anything that msgpack can say, and what our maps are made of.
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40)
keys = st.sampled_from(
    [
        *(b"Node", b"SeqNo", b"SourceAddr", b"SourcePort", b"SourceNode", b"Target", b"Nack", b"Port"),
        *(b"Payload", b"Incarnation", b"From", b"Addr", b"Meta", b"Vsn", b"Error", b"Algo", b"Buf"),
        *(b"Join", b"Nodes", b"UserStateLen", b"Name", b"State", b"UserMsgLen"),
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)
odd_bodies = st.dictionaries(keys, values, max_size=8).map(msgpack.encode) | values.map(msgpack.encode)
odd_messages = st.builds(lambda kind, body: bytes((kind,)) + body, st.integers(0, 255), odd_bodies)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recorded packet or stream with some bytes changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.integers(0, 2))
        if how == 0:
            del data[place : place + draw(st.integers(1, 40))]
        elif how == 1:
            data[place:place] = draw(st.binary(max_size=8))
        elif data:
            data[place] = draw(st.integers(0, 255))
    return bytes(data)


hostile = st.binary(max_size=300) | damaged() | odd_messages


# --- hostile bytes


@settings(max_examples=250)
@given(st.lists(hostile, max_size=4), st.booleans())
@example([b""], False)
@example([b"\x07\x01\x00\x00"], False)  # an empty message in a compound
@example([b"\x00" + b"\xdd\x00\x00\xff\xff" * 3000], False)  # lists in lists, as deep as a packet allows
@example([b"\x09" + msgpack.encode({"Algo": 0, "Buf": lzw.encode(bytes(70_000))})], False)
def test_no_packet_breaks_a_node(packets: list[bytes], encrypted: bool) -> None:
    cluster = Cluster(keys=[KEYS[0]] if encrypted else [])
    node = cluster.add("n0")
    seal = Envelope(cluster.settings, node.keyring, random.Random(1)).seal_packet
    for packet in packets:
        node.receive(SOURCE, packet, cluster.now)
        node.receive(SOURCE, seal(packet), cluster.now)
    cluster.run(2)
    assert node.local_node.state == ALIVE
    assert all(len(other.facts.vsn) == 6 for other in node.nodes)
    # And it still does what it is there for.
    cluster.packets.clear()
    node.receive(SOURCE, seal(m.encode_ping(m.Ping(77, "n0"))), cluster.now)
    cluster.settle("n0")
    (_, _, to, packet), *_ = cluster.packets
    opened, _ = open_message(Envelope(cluster.settings, node.keyring, random.Random(1)).open_packet(packet))
    assert (to, opened[0]) == (SOURCE, m.encode_ack(m.Ack(77, b"payload")))


@settings(max_examples=250)
@given(hostile, st.integers(1, 400), st.booleans())
def test_no_stream_breaks_a_node(data: bytes, step: int, encrypted: bool) -> None:
    cluster = Cluster()
    node = cluster.add("n0", keys=[KEYS[0]] if encrypted else [])
    parser = node.inbound()
    for start in range(0, len(data), step):
        try:
            request = parser.feed(data[start : start + step])
        except StreamError:
            break
        if request is not None:
            node.answer_stream(request, cluster.now)
            break
    assert node.local_node.state == ALIVE


@given(hostile)
def test_answers_to_our_streams_may_be_anything(data: bytes) -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    (id,) = node.join([SOURCE], cluster.now)
    node.stream_answered(id, data, cluster.now)
    ready = node.drain()
    assert ready is not None
    (result,) = ready.joins
    assert result.id == id


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 5000))
def test_lzw_decoder_is_total(data: bytes, limit: int) -> None:
    with contextlib.suppress(DecodeError):
        assert len(lzw.decode(data, limit)) <= limit


def test_a_packet_may_not_grow_without_bound() -> None:
    """Compressed parts within compressed parts: all together stay below the limit."""
    bomb = compress(bytes((m.USER,)) + bytes(40_000))
    for _ in range(2):
        bomb = compounds([bomb] * 12)[0]
    found, problems = open_message(bomb)
    assert sum(map(len, found)) <= 64 << 10
    assert problems
    deep = bytes((m.USER,))
    for _ in range(9):
        deep = compress(deep)
    assert open_message(deep) == ([], ["messages nested too deeply"])


def test_streams_have_limits() -> None:
    envelope = Envelope(LAN, Keyring(KEYS), random.Random(1))
    plain = Envelope(LAN, None, random.Random(1))
    with pytest.raises(StreamError, match="larger than limit"):
        Inbound(envelope).feed(b"\x0a\xff\xff\xff\xff")
    too_long = STREAM_LIMIT + 1
    for body in (
        bytes((m.USER,)) + msgpack.encode({"UserMsgLen": too_long}),
        bytes((m.PUSH_PULL,)) + msgpack.encode({"Join": True, "Nodes": 0, "UserStateLen": too_long}),
        bytes((m.PUSH_PULL,)) + msgpack.encode({"Join": True, "Nodes": 1 << 21, "UserStateLen": 0}),
        bytes((m.PING,)) + b"\xdd\xff\xff\xff\xff",
    ):
        with pytest.raises(StreamError):
            Inbound(plain).feed(body)
    parser = Inbound(plain)
    parser.feed(bytes((m.USER,)) + msgpack.encode({"UserMsgLen": STREAM_LIMIT}))
    with pytest.raises(StreamError, match="more than"):
        for _ in range(22):
            parser.feed(bytes(1 << 20))


def test_too_long_names_and_meta_are_ignored() -> None:
    node = Cluster().add("n0")
    for name, meta, known in (
        ("x" * NAME_LIMIT, bytes(META_LIMIT), True),
        ("y" * (NAME_LIMIT + 1), b"", False),
        ("z", bytes(META_LIMIT + 1), False),
    ):
        alive = m.Alive(1, name, "10.0.0.9", PORT, meta, bytes(LAN.vsn))
        node.receive(SOURCE, m.encode_alive(alive), 1000.0)
        assert (node.get(name) is not None) == known


def test_a_flood_of_indirect_pings_is_bounded() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    for seq in range(3000):
        request = m.IndirectPing(seq, "10.0.0.8", PORT, "x", True)
        node.receive(SOURCE, m.encode_indirect_ping(request), cluster.now)
    ready = node.drain()
    assert ready is not None
    assert len(ready.packets) == 1024
    cluster.run(1)
    node.receive(SOURCE, m.encode_indirect_ping(m.IndirectPing(1, "10.0.0.8", PORT, "x")), cluster.now)
    assert node.drain() is not None


def test_complaints_about_others_are_few() -> None:
    node = Cluster().add("n0")
    for _ in range(500):
        node.receive(SOURCE, b"\xff", 1000.0)
    node.receive(SOURCE, b"\xff", 1002.0)
    ready = node.drain()
    assert ready is not None
    assert len(ready.log) == 2
    assert "499 other complaints" in ready.log[1][1]


# --- round trips


@given(alives | suspects | deads)
def test_gossip_round_trip(message: m.Gossip) -> None:
    writers: dict[type, Any] = {m.Alive: m.encode_alive, m.Suspect: m.encode_suspect, m.Dead: m.encode_dead}
    data = writers[type(message)](message)
    assert m.decode_gossip(data) == message


@given(pings, st.none() | st.binary(max_size=200), st.booleans())
def test_probe_round_trip(ping: m.Ping, payload: bytes | None, nack: bool) -> None:
    assert m.ping_of(m.fields_of(m.encode_ping(ping))) == ping
    request = m.IndirectPing(ping.seq, ping.source_address, 5, ping.node, nack)
    assert m.indirect_ping_of(m.fields_of(m.encode_indirect_ping(request))) == request
    assert m.ack_of(m.fields_of(m.encode_ack(m.Ack(ping.seq, payload)))) == m.Ack(ping.seq, payload)
    assert m.nack_of(m.fields_of(m.encode_nack(m.Nack(ping.seq)))) == m.Nack(ping.seq)


@given(
    st.booleans(),
    st.lists(st.tuples(alives, st.integers(0, 3)), max_size=6),
    st.binary(max_size=300),
    st.sampled_from([b"", b"label"]),
    st.booleans(),
    st.lists(st.integers(1, 60), min_size=1),
)
def test_push_pull_round_trip(
    join: bool,
    nodes: list[tuple[m.Alive, int]],
    user_state: bytes,
    label: bytes,
    encrypted: bool,
    steps: list[int],
) -> None:
    """In whatever pieces it arrives."""
    envelope = Envelope(replace(LAN, label=label), Keyring(KEYS) if encrypted else None, random.Random(1))
    written = m.encode_push_pull(join, [(a, a.incarnation, state) for a, state in nodes], user_state)
    data, parser, message = envelope.seal_stream(written), Inbound(envelope), None
    for step in steps * len(data):
        if data:
            assert message is None
            message, data = parser.feed(data[:step]), data[step:]
    assert message == PushPull(join, nodes, user_state)


@given(st.binary(max_size=6000))
def test_lzw_round_trip(data: bytes) -> None:
    assert lzw.decode(lzw.encode(data), len(data)) == data


@given(st.integers(0, 2**32), st.integers(1, 255), st.integers(3000, 30_000))
@settings(max_examples=20)
def test_lzw_round_trip_across_clears(seed: int, variety: int, size: int) -> None:
    chance = random.Random(seed)
    data = bytes(chance.randrange(variety) for _ in range(size))
    assert lzw.decode(lzw.encode(data), size) == data


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=2, max_size=600))
def test_compounds_hold_everything_in_order(parts: list[bytes]) -> None:
    wholes = compounds(parts)
    assert len(wholes) == -(-len(parts) // 255)
    assert [part for whole in wholes for part in split_compound(whole)[0]] == parts


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=2, max_size=20), st.integers(1, 30))
def test_a_cut_compound_keeps_its_whole_messages(parts: list[bytes], cut: int) -> None:
    (whole,) = compounds(parts)
    cut = min(cut, sum(map(len, parts)))
    found, missing = split_compound(whole[: len(whole) - cut])
    assert found == parts[: len(found)]
    assert missing == len(parts) - len(found) > 0


@given(st.binary(max_size=100), st.binary(max_size=20), st.sampled_from([0, 1]), st.integers(0, 2))
def test_any_key_of_the_ring_decrypts(plain: bytes, associated: bytes, version: int, sender: int) -> None:
    sealed = Keyring([KEYS[sender]]).encrypt(plain, bytes(12), associated, version)
    assert Keyring(KEYS).decrypt(sealed, associated) == plain
    assert len(sealed) == 29 + len(plain) + (16 - len(plain) % 16 if version == 0 else 0)
    with pytest.raises(DecodeError):
        Keyring(KEYS).decrypt(sealed, associated + b"x")
    with pytest.raises(DecodeError):
        Keyring(KEYS).decrypt(b"\x02" + sealed[1:], associated)


# --- the keyring


def test_keyring_operations_and_their_texts() -> None:
    ring = Keyring([KEYS[0]])
    ring.add(KEYS[1])
    ring.add(KEYS[1])
    assert ring.keys == [KEYS[0], KEYS[1]]
    ring.use(KEYS[1])
    assert (ring.primary, ring.keys) == (KEYS[1], [KEYS[1], KEYS[0]])
    with pytest.raises(KeyringError, match=r"^Removing the primary key is not allowed$"):
        ring.remove(KEYS[1])
    with pytest.raises(KeyringError, match=r"^Requested key is not in the keyring$"):
        ring.use(KEYS[2])
    with pytest.raises(KeyringError, match=r"^key size must be 16, 24 or 32 bytes$"):
        ring.add(b"short")
    ring.remove(KEYS[2])
    ring.remove(KEYS[0])
    assert ring.keys == [KEYS[1]]
    with pytest.raises(KeyringError):
        Keyring([])


# --- the broadcast queue


class QueueModel:
    """The queue by its definition: sort everything, take greedily (4.8)."""

    def __init__(self, mult: int) -> None:
        self.mult, self.count = mult, 0
        self.waiting: list[tuple[int, int, int, bytes, str | None]] = []

    def add(self, message: bytes, key: str | None) -> None:
        self.count += 1
        self.waiting = [one for one in self.waiting if key is None or one[4] != key]
        self.waiting.append((0, -len(message), -self.count, message, key))

    def take(self, overhead: int, limit: int, nodes: int) -> list[bytes]:
        taken = []
        for one in sorted(self.waiting):
            if len(one[3]) + overhead <= limit:
                limit -= len(one[3]) + overhead
                taken.append(one)
                self.waiting.remove(one)
                if one[0] + 1 < retransmit_limit(self.mult, nodes):
                    self.waiting.append((one[0] + 1, *one[1:]))
        return [one[3] for one in taken]


adds = st.tuples(st.just("add"), st.binary(min_size=1, max_size=60), st.none() | st.sampled_from("abcd"))
takes = st.tuples(st.just("take"), st.integers(0, 150), st.integers(0, 40))


@settings(max_examples=300)
@given(st.lists(adds | takes, max_size=40), st.integers(1, 4))
def test_the_queue_serves_as_its_model(steps: list[tuple[str, Any, Any]], mult: int) -> None:
    queue, model = BroadcastQueue(mult), QueueModel(mult)
    for what, first, second in steps:
        if what == "add":
            queue.add(first, second)
            model.add(first, second)
        else:
            assert queue.take(3, first, second) == model.take(3, first, second)
        assert len(queue) == len(model.waiting)


def test_broadcasts_tell_when_they_are_done() -> None:
    queue = BroadcastQueue(4)
    other, replaced = queue.add(b"a"), queue.add(b"b", "key")
    newer = queue.add(b"newer", "key")
    assert (other.done, replaced.done, newer.done) == (False, True, False)
    queue = BroadcastQueue(4)
    one = queue.add(b"x")
    for _ in range(4):
        assert not one.done
        assert queue.take(2, 100, 3) == [b"x"]
    assert one.done
    assert queue.take(2, 100, 3) == []
    kept, dropped = queue.add(b"k"), queue.add(b"longer")
    queue.take(2, 8, 3)
    assert dropped.sent == 1
    assert queue.prune(1) == 1
    assert (kept.done, dropped.done, len(queue)) == (False, True, 1)


# --- suspicion, awareness, nodes, timers


@given(st.integers(1, 6), st.integers(1, 5000), st.floats(0.05, 10), st.integers(1, 6))
def test_suspicion_shrinks_from_longest_to_shortest(mult: int, nodes: int, interval: float, k: int) -> None:
    shortest = suspicion_timeout(mult, nodes, interval)
    assert shortest >= mult * interval - 1e-9
    assert suspicion_timeout(mult, nodes * 2, interval) >= shortest
    longest = 6 * shortest
    suspicion = Suspicion("first", k, shortest, longest, 0.0)
    assert suspicion.deadline == longest
    assert not suspicion.confirm("first")
    deadlines = [suspicion.deadline]
    for accuser in range(k):
        assert suspicion.confirm(str(accuser))
        assert not suspicion.confirm(str(accuser))
        deadlines.append(suspicion.deadline)
    assert deadlines == sorted(deadlines, reverse=True)
    assert deadlines[-1] == pytest.approx(shortest, abs=0.002)
    assert not suspicion.confirm("one more")
    assert all(shortest <= patience(c, k, shortest, longest) <= longest + 0.001 for c in range(k + 1))


@given(st.lists(st.integers(-3, 3)))
def test_awareness_stays_in_bounds(deltas: list[int]) -> None:
    awareness = Awareness(8)
    for delta in deltas:
        awareness.add(delta)
        assert 0 <= awareness.score <= 7
    assert awareness.scale(0.5) == 0.5 * (awareness.score + 1)


@given(st.lists(st.sampled_from([ALIVE, SUSPECT, DEAD, LEFT]), max_size=30), st.integers(0, 2**32))
def test_each_living_node_is_probed_once_a_round(states: list[int], seed: int) -> None:
    nodes = NodeList(random.Random(seed))
    for index, state in enumerate(states):
        facts = m.Alive(1, f"n{index}", "10.0.0.1", 1, b"", bytes(6))
        nodes.add(Node(facts, 1, state, 100.0))
    living = {node.name for node in nodes if node.state < DEAD}
    others = living - {"n0"}
    for _ in range(3):
        probed = [nodes.next_to_probe("n0", 50.0) for _ in others]
        assert {node.name for node in probed if node is not None} == others
    assert (nodes.next_to_probe("n0", 150.0) is None) == (not others)
    for _ in range(len(others)):
        nodes.next_to_probe("n0", 150.0)
    assert {node.name for node in nodes} == living
    found = list(nodes.random(3, lambda node: node.name != "n0"))
    assert len(found) == len({node.name for node in found}) == min(3, len(others))


def test_timers_run_in_order() -> None:
    timers, ran = Timers(), []
    assert timers.deadline() is None
    for when in (3.0, 1.0, 2.0, 9.0):
        timers.at(when, lambda now, when=when: ran.append((when, now)))  # type: ignore[misc]
    assert timers.deadline() == 1.0
    timers.run(5.0)
    assert ran == [(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)]
    assert timers.deadline() == 9.0


def test_a_user_message_by_stream() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    request = node.inbound().feed(m.encode_user_stream(b"hello"))
    assert request == UserMessage(b"hello")
    assert node.answer_stream(request, cluster.now) == b""
    assert cluster.delegates["n0"].messages == [b"hello"]


def test_ping_by_stream() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    for name, answer in (("n0", m.encode_ack(m.Ack(5))), ("other", b"")):
        request = node.inbound().feed(m.encode_ping(m.Ping(5, name)))
        assert request is not None
        assert node.answer_stream(request, cluster.now) == answer
