"""Whatever peers send, the node lives, stays what it is, and can still be understood."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.gossip import serf_messages as serf
from core.gossip.streams import PushPull
from tests.sim.gossip_cluster import World

INTERNAL = [
    f"_serf_{what}" for what in ("ping", "conflict", "install-key", "use-key", "remove-key", "list-keys")
]
LTIMES = st.sampled_from([0, 1, 2, 5, 511, 512, 2**32, 2**63, 2**64 - 1])
NAMES = st.sampled_from(["n0", "n1", "n2", "", "\udcff\n", "_serf_new", *INTERNAL])
PAYLOADS = [b"", b"n0", b"n1", b"\x07\x81\xa3Key\xa0", b"\x07\x81\xa3Key\xc0", b"\x06\xc0"]
BYTES = st.none() | st.sampled_from(PAYLOADS) | st.binary(max_size=40)
FILTERS = [b"\x00\x91\xa2n0", b"\x01\x82\xa4Expr\xa1(\xa3Tag\xa1x", b"\x00\xc0", b"\x07"]
ADDRESSES = st.sampled_from([b"\x0a\0\0\0", b"\x0a\0\0\1", b"", b"\0" * 16, b"abc"])
PORTS = st.sampled_from([0, 7946, 65535])
NUMBERS = st.integers(0, 3)
TIMES_BY_NAME = st.dictionaries(NAMES, LTIMES, max_size=4)
SLOTS = st.builds(serf.EventSlot, LTIMES, st.lists(st.none() | st.builds(serf.EventBody, NAMES, BYTES)))

queries = st.builds(
    serf.QueryMessage,
    ltime=LTIMES,
    id=NUMBERS,
    address=ADDRESSES,
    port=PORTS,
    source=NAMES,
    filters=st.none() | st.lists(st.sampled_from(FILTERS) | st.binary(max_size=9), max_size=2),
    flags=NUMBERS,
    relay_factor=st.sampled_from([0, 1, 255]),
    timeout=st.sampled_from([-(2**63), 0, 10**9, 2**63 - 1]),
    name=NAMES,
    payload=BYTES,
)
states = st.builds(
    serf.SharedState,
    ltime=LTIMES,
    status_ltimes=TIMES_BY_NAME,
    left_members=st.lists(NAMES, max_size=3),
    event_ltime=LTIMES,
    events=st.lists(st.none() | SLOTS, max_size=3),
    query_ltime=LTIMES,
    pruned=st.none() | TIMES_BY_NAME,
)
messages = st.one_of(
    st.builds(serf.LeaveIntent, LTIMES, NAMES, st.booleans()),
    st.builds(serf.JoinIntent, LTIMES, NAMES),
    st.builds(serf.UserEventMessage, LTIMES, NAMES, BYTES, st.booleans()),
    queries,
    st.builds(serf.QueryResponseMessage, LTIMES, NUMBERS, NAMES, NUMBERS, BYTES),
    states,
).map(serf.encode)
relays = st.builds(serf.encode_relay, ADDRESSES, PORTS, NAMES, messages)
torn = st.builds(
    lambda raw, at, byte: raw[:at] + bytes((byte,)) + raw[at + 1 :],
    messages,
    st.integers(0, 40),
    st.integers(0, 255),
)
hostile = messages | relays | torn | st.binary(max_size=30)


@given(st.lists(st.tuples(hostile, st.booleans()), max_size=25), st.booleans())
@settings(max_examples=100)
def test_a_node_survives_what_is_said_to_it(said: list[tuple[bytes, bool]], encrypted: bool) -> None:
    world = World(1)
    a, b = world.build(2, keys=[bytes(16)] if encrypted else ())
    listener: Any = a.serf.memberlist._delegate
    for message, as_state in said:
        if as_state:
            world.do(a, a.serf.answer_stream, PushPull(True, [], message))
        else:
            world.do(a, listener.notify_message, message)
    world.run(20)
    assert a.status("n0") == "alive"
    state = serf.decode(listener.local_state(False))
    assert isinstance(state, serf.PushPull) and set(state.status_ltimes) <= {"n0", "n1"}
    assert b.status("n1") == "alive"
    world.do(a, a.serf.user_event, "still", b"here", False)
    assert ("still", b"here") in a.user_events()
