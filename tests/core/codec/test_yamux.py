"""Yamux: Consul's own frames, what hostile ones lead to, and two sessions that talk in whatever pieces."""

from __future__ import annotations

import json
import random
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.codec import netrpc, yamux
from core.codec.yamux import (
    ACK,
    DATA,
    FIN,
    FINISHED,
    GO_AWAY,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RESET,
    RST,
    SYN,
    WINDOW_UPDATE,
    Session,
    Settings,
    Stream,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "rpc" / "yamux_session.json").read_text())[
    "vectors"
]
KINDS = {"data": DATA, "window_update": WINDOW_UPDATE, "ping": PING, "go_away": GO_AWAY}
FLAGS = {"SYN": SYN, "ACK": ACK, "FIN": FIN, "RST": RST}


def frame(kind: int, flags: int, stream: int, what: int | bytes = 0) -> bytes:
    """A frame with a body or, where there is none, a number."""
    body = what if isinstance(what, bytes) else b""
    length = len(body) if isinstance(what, bytes) else what
    return pack(">BBHII", 0, kind, flags, stream, length) + body


def frames(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """What is in bytes that a session wrote: kind, flags, stream, length, body."""
    found = []
    while data:
        version, kind, flags, stream, length = yamux._LAYOUT.unpack_from(data)
        assert version == 0
        size = 12 + (length if kind == DATA else 0)
        found.append((kind, flags, stream, length, data[12:size]))
        data = data[size:]
    return found


def recorded(who: str) -> bytes:
    return b"".join(bytes.fromhex(v["header_hex"] + v["body_hex"]) for v in VECTORS if v["from"] == who)


def test_recorded_frames_say_what_is_recorded() -> None:
    found = frames(recorded("client")) + frames(recorded("server"))
    vectors = [v for who in ("client", "server") for v in VECTORS if v["from"] == who]
    for one, vector in zip(found, vectors, strict=True):
        flags = sum(FLAGS[name] for name in vector["flags"])
        body = bytes.fromhex(vector["body_hex"])
        assert one == (KINDS[vector["type"]], flags, vector["stream"], vector["length"], body)


def test_a_recorded_client_is_understood_and_answered_with_the_recorded_bytes() -> None:
    server = Session(False, 0.0)
    streams: dict[int, Stream] = {}
    written = b""
    for vector in VECTORS:
        body, number = bytes.fromhex(vector["body_hex"]), vector["stream"]
        if vector["from"] == "client":
            raw = bytes.fromhex(vector["header_hex"]) + body
            events = server.receive(raw, 0.0)
            assert [data for _, _, data in events] == ([body] if body else [])
            streams.update({stream.id: stream for stream, _, _ in events})
        elif body:
            server.send(streams[number], body)
        elif "FIN" in vector["flags"]:
            server.finish(streams[number])
        written += server.drain()
    assert not server.closed
    assert written == recorded("server")


def test_a_recorded_server_is_understood() -> None:
    client = Session(True, 0.0)
    for _ in range(2):
        client.send(client.open(), b"x")
    bodies = [data for _, kind, data in client.receive(recorded("server"), 0.0) if kind == DATA]
    assert bodies == [
        bytes.fromhex(v["body_hex"]) for v in VECTORS if v["from"] == "server" and v["body_hex"]
    ]
    assert not client.closed


def test_small_requests_ride_on_the_greeting() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    client.send(client.open(), b"hello")
    client.send(client.open(), b"you")
    data = client.drain()
    assert frames(data) == [(DATA, SYN, 1, 5, b"hello"), (DATA, SYN, 3, 3, b"you")]
    (one, _, _), (other, _, _) = server.receive(data, 0.0)
    server.send(other, b"yes")
    # An answer that is ready at once carries the ACK, the other stream gets its own.
    assert sorted(frames(server.drain())) == [(DATA, ACK, 3, 3, b"yes"), (WINDOW_UPDATE, ACK, 1, 0, b"")]
    server.send(one, b"well")
    assert frames(server.drain()) == [(DATA, 0, 1, 4, b"well")]
    assert server.drain() == b""


def test_windows() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    stream = client.open()
    large = random.Random(1).randbytes(3 * INITIAL_WINDOW + 5)
    client.send(stream, large)
    client.finish(stream)
    got = b""
    data = client.drain()
    assert len(data) == INITIAL_WINDOW + 12
    rounds = 0
    ended = False
    while data:
        rounds += 1
        for one, kind, body in server.receive(data, 0.0):
            ended = ended or kind == FINISHED
            got += body
            server.consumed(one, len(body))
        assert client.receive(server.drain(), 0.0) == []
        data = client.drain()
    assert got == large and ended and rounds == 4


def test_nothing_is_announced_before_half_of_the_window_was_read() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    stream = client.open()
    client.send(stream, bytes(INITIAL_WINDOW // 2))
    ((one, _, _),) = server.receive(client.drain(), 0.0)
    server.drain()
    server.consumed(one, INITIAL_WINDOW // 2 - 1)
    assert server.drain() == b""
    server.consumed(one, 1)
    assert frames(server.drain()) == [(WINDOW_UPDATE, 0, 1, INITIAL_WINDOW // 2, b"")]


def test_a_reader_that_does_not_read_holds_the_sender() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    stream = client.open()
    client.send(stream, bytes(2 * INITIAL_WINDOW))
    server.receive(client.drain(), 0.0)
    client.receive(server.drain(), 0.0)
    assert client.drain() == b""
    assert stream.waiting == INITIAL_WINDOW


def test_streams_end_when_both_sides_have() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    stream = client.open()
    client.send(stream, b"x")
    ((there, _, _),) = server.receive(client.drain(), 0.0)
    client.finish(stream)
    client.finish(stream)
    client.send(stream, b"too late")
    assert server.receive(client.drain(), 0.0) == [(there, FINISHED, b"")]
    server.send(there, b"still")
    assert client.receive(server.drain(), 0.0) == [(stream, DATA, b"still")]
    assert (len(client), len(server)) == (1, 1)
    server.finish(there)
    assert client.receive(server.drain(), 0.0) == [(stream, FINISHED, b"")]
    assert (len(client), len(server)) == (0, 0)


def test_reset() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    unknown = client.open()
    client.reset(unknown)  # nobody has heard of it
    stream = client.open()
    client.send(stream, b"x")
    client.reset(stream)
    assert [kind for _, kind, _ in server.receive(client.drain(), 0.0)] == [DATA, RESET]
    assert (len(client), len(server)) == (0, 0)
    assert server.drain() == b"", "no ACK for what is gone"
    client.reset(stream)
    client.send(stream, b"x")
    client.finish(stream)
    client.consumed(stream, INITIAL_WINDOW)
    assert client.drain() == b""


def test_frames_of_unknown_streams_are_skipped() -> None:
    client = Session(True, 0.0)
    stream = client.open()
    client.send(stream, b"x")
    client.drain()
    body = bytes(100_000)
    data = frame(DATA, 0, 99, body) + frame(WINDOW_UPDATE, FIN, 99) + frame(DATA, ACK, 1, b"y")
    for size in (1, 7, 5000, len(data)):
        client = Session(True, 0.0)
        stream = client.open()
        client.send(stream, b"x")
        events = []
        for start in range(0, len(data), size):
            events += client.receive(data[start : start + size], 0.0)
            assert len(client._rest) < 13, "what nobody wants is not kept"
        assert events == [(stream, DATA, b"y")] and not client.closed


def test_pings_are_answered() -> None:
    session = Session(False, 0.0)
    session.receive(frame(PING, SYN, 0, 77), 0.0)
    assert frames(session.drain()) == [(PING, ACK, 0, 77, b"")]


def test_keep_alive() -> None:
    client, server = Session(True, 100.0), Session(False, 100.0)
    assert client.deadline() == 130.0
    client.tick(129.0)
    assert client.drain() == b""
    for number in range(3):
        now = client.deadline() or 0.0
        client.tick(now)
        data = client.drain()
        assert frames(data) == [(PING, SYN, 0, number, b"")]
        assert client.deadline() == now + 10.0
        client.receive(frame(PING, ACK, 0, 999), now)  # not the answer
        assert client.deadline() == now + 10.0
        server.receive(data, now)
        client.receive(server.drain(), now + 1.0)
        assert client.deadline() == now + 31.0
    client.tick(client.deadline() or 0.0)
    client.drain()
    client.tick((client.deadline() or 0.0) - 0.1)
    assert not client.closed
    client.tick(client.deadline() or 0.0)
    assert client.closed == "keepalive timeout" and client.deadline() is None
    client.tick(1000.0)


def test_leaving() -> None:
    client, server = Session(True, 0.0), Session(False, 0.0)
    stream = client.open()
    client.send(stream, b"x")
    ((there, _, _),) = server.receive(client.drain(), 0.0)
    server.go_away()
    server.send(there, b"the last one")
    events = client.receive(server.drain(), 0.0)
    assert events == [(stream, DATA, b"the last one")]
    assert client.leaving and not client.closed
    with pytest.raises(ValueError, match="no more streams"):
        client.open()


def test_more_streams_than_allowed_are_reset() -> None:
    server = Session(False, 0.0, Settings(streams=2))
    data = b"".join(frame(DATA, SYN, number, b"x") for number in (1, 3, 5, 7))
    events = server.receive(data, 0.0)
    assert [stream.id for stream, _, _ in events] == [1, 3]
    resets = [one[2] for one in frames(server.drain()) if one[1] & RST]
    assert resets == [5, 7] and not server.closed


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x01" + bytes(11), "version 1"),
        (frame(4, 0, 0), "type 4"),
        (frame(255, 0, 0), "type 255"),
        (frame(WINDOW_UPDATE, SYN, 2), "stream 2 cannot be opened"),
        (frame(WINDOW_UPDATE, SYN, 0), "stream 0 cannot be opened"),
        (frame(WINDOW_UPDATE, SYN, 1) * 2, "stream 1 cannot be opened"),
        (frame(DATA, SYN, 1, b"x") + frame(DATA, SYN, 1, b"x"), "stream 1 cannot be opened"),
        (pack(">BBHII", 0, DATA, SYN, 1, INITIAL_WINDOW + 1), "receive window exceeded"),
        (frame(DATA, SYN, 1, bytes(INITIAL_WINDOW)) + frame(DATA, 0, 1, b"x"), "receive window exceeded"),
        (frame(DATA, SYN | FIN, 1, b"x") + frame(DATA, 0, 1, b"x"), "data after the end of a stream"),
        (frame(DATA, SYN | FIN, 1, b"x") + frame(DATA, FIN, 1), "a stream ended twice"),
    ],
)
def test_violations_end_the_session(data: bytes, why: str) -> None:
    server = Session(False, 0.0)
    server.receive(data + frame(DATA, SYN, 99, b"more"), 0.0)
    assert server.closed == f"protocol error: {why}"
    assert frames(server.drain())[-1] == (GO_AWAY, 0, 0, PROTOCOL_ERROR, b"")
    assert len(server) == 0 and server.receive(b"more", 0.0) == [] and server.drain() == b""
    with pytest.raises(ValueError, match="protocol error"):
        server.open()


def test_the_other_side_ends_the_session() -> None:
    session = Session(True, 0.0)
    session.receive(frame(GO_AWAY, 0, 0, INTERNAL_ERROR), 0.0)
    assert session.closed and not session.drain()
    session = Session(True, 0.0)
    session.receive(frame(GO_AWAY, 0, 0, NORMAL), 0.0)
    assert not session.closed


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=20))
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    """Nothing raises, and how bytes are cut does not matter."""
    whole, pieces = Session(False, 0.0), Session(False, 0.0)
    expected = whole.receive(data, 0.0)
    events, position = [], 0
    for size in [*cuts, len(data)]:
        events += pieces.receive(data[position : position + size], 0.0)
        position += size
    assert [(s.id, kind, body) for s, kind, body in events] == [(s.id, k, b) for s, k, b in expected]
    assert whole.closed == pieces.closed


FRAMES = st.builds(
    lambda kind, flags, stream, body: frame(kind, flags, stream, body if kind == DATA else len(body)),
    st.sampled_from((DATA, WINDOW_UPDATE, PING, GO_AWAY)),
    st.sampled_from((0, SYN, ACK, FIN, RST, SYN | FIN, SYN | RST, ACK | FIN)),
    st.sampled_from((0, 1, 2, 3, 5)),
    st.binary(max_size=10),
)


@given(st.lists(FRAMES, max_size=12), st.randoms(use_true_random=False))
def test_any_frames(many: list[bytes], chance: random.Random) -> None:
    data = b"".join(many)
    whole, pieces = Session(False, 0.0), Session(False, 0.0)
    expected = whole.receive(data, 0.0)
    events: list[Any] = []
    position = 0
    while position < len(data):
        size = chance.randrange(1, 30)
        events += pieces.receive(data[position : position + size], 0.0)
        position += size
    assert [(s.id, kind, body) for s, kind, body in events] == [(s.id, k, b) for s, k, b in expected]
    assert whole.closed == pieces.closed
    assert (whole.drain() == b"") == (pieces.drain() == b"")


class _End:
    """One side of a talk, and what it has sent and got on each stream."""

    def __init__(self, client: bool) -> None:
        self.session = Session(client, 0.0)
        self.streams: dict[int, Stream] = {}
        self.sent: dict[int, bytearray] = {}
        self.got: dict[int, bytearray] = {}
        self.unread: dict[int, int] = {}
        self.finished: set[int] = set()
        self.ended: set[int] = set()
        self.wire = bytearray()  # on its way to the other side

    def knows(self, stream: Stream) -> int:
        if stream.id not in self.streams:
            self.streams[stream.id] = stream
            self.sent[stream.id], self.got[stream.id] = bytearray(), bytearray()
            self.unread[stream.id] = 0
        return stream.id


class Talk(RuleBasedStateMachine):
    """Two sessions, a wire that cuts as it likes: all that is sent arrives, once and in order, and nobody
    ever sends more than the other side has room for."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [_End(True), _End(False)]

    @rule(side=st.sampled_from((0, 1)))
    def open(self, side: int) -> None:
        end = self.ends[side]
        end.knows(end.session.open())

    @rule(
        side=st.sampled_from((0, 1)), pick=st.integers(0, 9), size=st.sampled_from((1, 50, 90_000, 300_000))
    )
    def send(self, side: int, pick: int, size: int) -> None:
        end = self.ends[side]
        if not end.streams:
            return
        number = sorted(end.streams)[pick % len(end.streams)]
        if number not in end.finished:
            data = bytes([len(end.sent[number]) % 251]) * size
            end.session.send(end.streams[number], data)
            end.sent[number] += data

    @rule(side=st.sampled_from((0, 1)), pick=st.integers(0, 9))
    def finish(self, side: int, pick: int) -> None:
        end = self.ends[side]
        if end.streams:
            number = sorted(end.streams)[pick % len(end.streams)]
            if end.sent[number] or end.got.get(number):
                end.session.finish(end.streams[number])
                end.finished.add(number)

    @rule(side=st.sampled_from((0, 1)), share=st.sampled_from((1, 11, 12, 13, 4096, 65536, 1 << 30)))
    def carry(self, side: int, share: int) -> None:
        end, other = self.ends[side], self.ends[1 - side]
        end.wire += end.session.drain()
        piece = bytes(end.wire[:share])
        del end.wire[:share]
        self.take(other, piece)

    def take(self, end: _End, piece: bytes) -> None:
        for stream, kind, data in end.session.receive(piece, 0.0):
            number = end.knows(stream)
            assert number not in end.ended
            assert kind in (DATA, FINISHED)
            if kind == DATA:
                end.got[number] += data
                end.unread[number] += len(data)
                assert end.unread[number] <= INITIAL_WINDOW
            else:
                end.ended.add(number)

    @precondition(lambda self: any(any(end.unread.values()) for end in self.ends))
    @rule(side=st.sampled_from((0, 1)), pick=st.integers(0, 9), share=st.floats(0.1, 1.0))
    def read(self, side: int, pick: int, share: float) -> None:
        end = self.ends[side]
        waiting = [number for number, size in sorted(end.unread.items()) if size]
        if waiting:
            number = waiting[pick % len(waiting)]
            size = max(1, int(end.unread[number] * share))
            end.unread[number] -= size
            end.session.consumed(end.streams[number], size)

    @invariant()
    def all_is_well(self) -> None:
        for end, other in (self.ends, reversed(self.ends)):
            assert not end.session.closed
            for number, got in end.got.items():
                assert other.sent.get(number, bytearray()).startswith(got)

    def teardown(self) -> None:
        """In the end, with all read, everything has arrived."""
        for _ in range(200):
            busy = False
            for side, end in enumerate(self.ends):
                end.wire += end.session.drain()
                busy = busy or bool(end.wire)
                piece, end.wire = bytes(end.wire), bytearray()
                other = self.ends[1 - side]
                self.take(other, piece)
                for number, size in other.unread.items():
                    other.session.consumed(other.streams[number], size)
                    other.unread[number] = 0
            if not busy:
                break
        for end, other in (self.ends, reversed(self.ends)):
            for number, sent in end.sent.items():
                assert other.got.get(number, bytearray()) == sent
                if number in end.finished:
                    assert number in other.ended
                if number in end.finished and number in other.finished:
                    assert number not in end.session._streams


Talk.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestTalk = Talk.TestCase


# --- net/rpc -----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.integers(0, (1 << 64) - 1), st.binary(max_size=60)), max_size=6
    ),
    st.randoms(use_true_random=False),
)
def test_messages_in_any_pieces(calls: list[tuple[str, int, bytes]], chance: random.Random) -> None:
    data = b"".join(netrpc.request(method, seq, {"Key": body}) for method, seq, body in calls)
    messages = netrpc.Messages()
    found, position = [], 0
    while position < len(data):
        size = chance.randrange(1, 50)
        messages.feed(data[position : position + size])
        position += size
        while message := messages.next():
            found.append((message[0][b"ServiceMethod"].decode(), message[0][b"Seq"], message[1][b"Key"]))
    assert found == calls


@given(st.binary(max_size=80))
def test_nonsense_is_a_decode_error(data: bytes) -> None:
    messages = netrpc.Messages()
    try:
        messages.feed(data)
        while messages.next():
            pass
    except netrpc.DecodeError:
        pass


@pytest.mark.parametrize("data", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 5000])
def test_bombs(data: bytes) -> None:
    messages = netrpc.Messages()
    with pytest.raises(netrpc.DecodeError):
        messages.feed(data)
        messages.next()
