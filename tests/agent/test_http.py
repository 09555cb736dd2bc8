"""The HTTP listener without a socket: bytes in, bytes out, time pretended (RFC 9112)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import front
from agent.front import Front, FrontSettings
from agent.http import Connection, HttpServer
from agent.lobby import Lobby
from agent.wire import Wire, accepts_gzip, date_line
from core.api.blocking import query_options
from core.api.endpoint import OPEN, Answer, Question, Read, Reply, Request, Route
from core.api.router import Router
from core.errors import BadRequest
from core.metrics import Metrics
from core.store.watch import Watch

SECOND = 1_000_000_000


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4242)})
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.closed
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Loop:
    """A loop that runs what is due when told to."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.timers: list[Any] = []

    def call_soon(self, function: Any, *args: Any) -> None:
        self.soon.append((function, args))

    def call_later(self, seconds: float, function: Any, *args: Any) -> Any:
        timer = Timer(seconds, function, args)
        self.timers.append(timer)
        return timer

    def run(self) -> None:
        while self.soon:
            function, args = self.soon.pop(0)
            function(*args)


class Timer:
    def __init__(self, seconds: float, function: Any, args: Any) -> None:
        self.seconds, self.function, self.args, self.cancelled = seconds, function, args, False

    def cancel(self) -> None:
        self.cancelled = True


class Log:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def wants(self, level: int) -> bool:
        return False

    def error(self, text: str, **fields: Any) -> None:
        self.errors.append(text)


class Calls:
    """A state with one value, its index, and watches on it."""

    permissions = None

    def __init__(self, loop: Any) -> None:
        self.index, self.value = 5, "v"
        self.cells: dict[Any, set[Watch]] = {}
        self.runs = 0
        self.is_leader = self.holds_lease = self.is_fresh = True
        self.lobby = Lobby(loop, self.ask)

    def here(self, question: Question) -> bool:
        return True

    def ask(self, question: Question, watch: Watch | None) -> Answer:
        return question.read.run(self, question.args, watch)

    def change(self, value: str) -> None:
        self.index += 1
        self.value = value
        for watch in list(self.cells.get("v", ())):
            watch.fire()


def _run(calls: Calls, args: str, watch: Watch | None) -> Answer:
    calls.runs += 1
    if watch is not None:
        watch.enter(calls.cells, "v")
    return Answer(calls.index, calls.value)


READ = Read("Test.Value", _run, OPEN)


def value(agent: Any, request: Request) -> Any:
    return Question(
        READ,
        "v",
        query_options(request),
        lambda answer: Reply(body=answer.value.encode(), content_type="text/plain"),
    )


def echo(agent: Any, request: Request) -> Any:
    return Reply(body=request.body, content_type="text/plain", headers={"X-Rest": request.rest})


def refuse(agent: Any, request: Request) -> Any:
    raise BadRequest("no")


def broken(agent: Any, request: Request) -> Any:
    raise RuntimeError("defect")


ROUTES = (
    Route("/v", ("GET",), value),
    Route("/echo/", ("GET", "PUT"), echo),
    Route("/refuse", ("GET",), refuse),
    Route("/broken", ("GET",), broken),
)


class Harness:
    def __init__(self) -> None:
        self.loop, self.log = Loop(), Log()
        self.calls = Calls(self.loop)
        settings_ = FrontSettings(
            block_endpoints=("/blocked",),
            default_query_time=300 * SECOND,
            max_query_time=600 * SECOND,
            max_body=1000,
        )
        wire = Wire("allow", {"X-Extra": "1"}, False)
        agent: Any = None
        self.front = Front(
            agent,
            self.calls,
            wire,
            settings_,
            random.Random(1),
            self.log,
            self.loop,
            Router(ROUTES),
            Metrics(0.0),
        )
        self.server = HttpServer(self.front, self.loop, 3, 0, 1 << 20)  # type: ignore[arg-type]

    def connect(self) -> tuple[Connection, Transport]:
        connection, transport = Connection(self.server), Transport()
        connection.connection_made(transport)
        return connection, transport

    def ask(self, data: bytes) -> bytes:
        connection, transport = self.connect()
        connection.data_received(data)
        self.loop.run()
        sent = transport.sent
        connection.connection_lost(None)
        return sent


@pytest.fixture
def harness() -> Harness:
    return Harness()


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def test_reply_has_consuls_headers(harness: Harness) -> None:
    head, _, body = harness.ask(get("/v")).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK" and body == b"v"
    for line in (
        b"Vary: Accept-Encoding",
        b"X-Consul-Index: 5",
        b"X-Consul-KnownLeader: true",
        b"X-Extra: 1",
    ):
        assert line in lines


def test_same_bytes_are_answered_from_memory_until_the_state_changes(harness: Harness) -> None:
    connection, transport = harness.connect()
    for _ in range(3):
        connection.data_received(get("/v"))
        harness.loop.run()
    assert harness.calls.runs == 1 and transport.sent.count(b"200 OK") == 3
    harness.calls.change("w")
    connection.data_received(get("/v"))
    assert harness.calls.runs == 2 and transport.sent.endswith(b"\r\n\r\nw")


def test_memory_is_per_header_bytes(harness: Harness) -> None:
    harness.ask(get("/v", "X-Consul-Token: a"))
    harness.ask(get("/v", "X-Consul-Token: b"))
    assert harness.calls.runs == 2


def test_memory_is_bounded_and_closes_what_it_drops(harness: Harness) -> None:
    front.MAX_ANSWERS, before = 10, front.MAX_ANSWERS
    try:
        for number in range(30):
            harness.ask(get("/v", f"X-Number: {number}"))
        assert len(harness.calls.cells["v"]) == 10
    finally:
        front.MAX_ANSWERS = before
    harness.front.forget_answers()
    assert not harness.calls.cells
    harness.calls.value = "x" * (front.MAX_ANSWER_SIZE + 1)
    harness.ask(get("/v"))
    assert not harness.calls.cells


def test_pipelined_requests_are_answered_in_order(harness: Harness) -> None:
    data = b"".join(
        f"PUT /echo/{i} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{i:02d}".encode() for i in range(80)
    )
    connection, transport = harness.connect()
    connection.data_received(data)
    harness.loop.run()
    bodies = [part[:2] for part in transport.sent.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"%02d" % i for i in range(80)] and transport.reading


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_bytes_may_come_in_any_pieces(harness: Harness, step: int) -> None:
    data = (
        b"PUT /echo/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        + get("/echo/b")
    )
    connection, transport = harness.connect()
    for start in range(0, len(data), step):
        connection.data_received(data[start : start + step])
    harness.loop.run()
    assert transport.sent.count(b"200 OK") == 2 and b"hello" in transport.sent


def test_expect_continue(harness: Harness) -> None:
    connection, transport = harness.connect()
    connection.data_received(
        b"PUT /echo/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.data_received(b"abc")
    assert transport.sent.endswith(b"abc")


def test_errors(harness: Harness) -> None:
    assert harness.ask(get("/refuse")).startswith(b"HTTP/1.1 400 Bad Request") and harness.ask(
        get("/nope")
    ).startswith(b"HTTP/1.1 404")
    assert b"403" in harness.ask(get("/blocked")) or b"404" in harness.ask(get("/blocked"))
    reply = harness.ask(get("/broken"))
    assert reply.startswith(b"HTTP/1.1 500") and b"RuntimeError" in reply and harness.log.errors
    assert harness.ask(b"PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert harness.ask(b"FOO /v HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert b"413" in harness.ask(
        b"PUT /echo/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001
    )
    assert harness.ask(get("/v?a=%zz")).startswith(b"HTTP/1.1 500")
    assert harness.ask(get("/v%00")).startswith(b"HTTP/1.1 400")


def test_redirects_to_the_clean_path(harness: Harness) -> None:
    reply = harness.ask(get("/echo//a/../b?x=1"))
    assert b"HTTP/1.1 301" in reply and b"Location: /echo/b?x=1\r\n" in reply
    assert b"Location: /echo/\r\n" in harness.ask(get("/echo"))


def test_http_10_and_close_hang_up(harness: Harness) -> None:
    for data in (b"GET /v HTTP/1.0\r\n\r\n", get("/v", "Connection: close")):
        connection, transport = harness.connect()
        connection.data_received(data)
        assert transport.closed and b"Connection: close" in transport.sent
        connection.connection_lost(None)


def test_blocked_clients_share_one_run_and_leave_nothing_behind(harness: Harness) -> None:
    harness.server.max_conns_per_client = 0
    clients = [harness.connect() for _ in range(50)]
    for connection, _ in clients:
        connection.data_received(get("/v?index=5&wait=10s"))
    assert len(harness.calls.lobby) == 50 and harness.calls.runs == 1
    clients[0][0].connection_lost(None)
    assert len(harness.calls.lobby) == 49
    harness.calls.change("w")
    harness.loop.run()
    assert harness.calls.runs == 2 and len(harness.calls.lobby) == 0 and not harness.calls.cells
    assert all(transport.sent.endswith(b"w") for _, transport in clients[1:]) and not clients[0][1].sent
    assert all(timer.cancelled for timer in harness.loop.timers)


def test_blocking_read_times_out_with_the_same_answer(harness: Harness) -> None:
    connection, transport = harness.connect()
    connection.data_received(get("/v?index=5&wait=2s"))
    timer = harness.loop.timers[0]
    assert 2 <= timer.seconds <= 2.126 and not transport.sent
    timer.function(*timer.args)
    assert transport.sent.endswith(b"v") and not harness.calls.cells


def test_index_below_the_state_answers_at_once(harness: Harness) -> None:
    assert harness.ask(get("/v?index=4&wait=2s")).endswith(b"v")
    assert harness.ask(get("/v?index=0&wait=2s")).endswith(b"v")


def test_too_many_connections_are_told_so(harness: Harness) -> None:
    kept = [harness.connect() for _ in range(3)]
    _, transport = harness.connect()
    assert transport.sent.startswith(b"HTTP/1.1 429") and transport.closed
    kept[0][0].connection_lost(None)


def test_slow_request_is_cut(harness: Harness) -> None:
    connection, transport = harness.connect()
    connection.data_received(b"GET /v HT")
    timer = harness.loop.timers[-1]
    timer.function(*timer.args)
    assert transport.sent.startswith(b"HTTP/1.1 408") and transport.closed
    del connection


def test_headers_beyond_the_limit(harness: Harness) -> None:
    harness.server.max_header_bytes = 100
    assert harness.ask(get("/v", "X: " + "y" * 200)).startswith(b"HTTP/1.1 431")


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([get("/v"), b"GET /v?index=9 HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n"]),
        ),
        max_size=6,
    )
)
def test_any_bytes_never_raise(pieces: list[bytes]) -> None:
    harness = Harness()
    connection, transport = harness.connect()
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
            harness.loop.run()
    connection.connection_lost(None)
    assert len(harness.calls.lobby) == 0 and not harness.log.errors


def test_small_parts() -> None:
    assert date_line(784111777) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert accepts_gzip("gzip, br") and not accepts_gzip("gzip;q=0") and not accepts_gzip("deflate")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("", ": missing required Host header"),
        ("Host: a\r\nhost: a\r\n", ""),
        ("Host: a b\r\n", ": malformed Host header"),
        ("Host: a/b\r\n", ": malformed Host header"),
        ("Host: a\r\nA(b: c\r\n", ": invalid header name"),
        ("Host: a\r\nAb: \x01\r\n", ": invalid header value"),
    ],
)
def test_heads_are_refused_in_the_words_of_go(harness: Harness, head: str, why: str) -> None:
    for _ in range(2):  # the second time the block would be known
        reply = harness.ask(f"GET /v HTTP/1.1\r\n{head}\r\n".encode())
        assert reply.startswith(b"HTTP/1.1 400") and b"Vary" not in reply
        assert reply.partition(b"\r\n\r\n")[2].decode() == f"400 Bad Request{why}"


def test_a_host_may_be_empty_or_missing_where_http_is_old(harness: Harness) -> None:
    for head in (b"GET /v HTTP/1.0\r\n\r\n", b"GET /v HTTP/1.1\r\nHost:\r\n\r\n"):
        assert harness.ask(head).startswith(b"HTTP/1.1 200")
    assert harness.ask(b"GET /v HTTP/1.1\r\nHost: [fe80::1%eth0]:8500\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("cut", [None, 21, 27, 44, 45])
def test_lines_may_end_with_a_bare_lf(harness: Harness, cut: int | None) -> None:
    data = b"PUT /echo/a HTTP/1.1\nHost: x\nContent-Length: 3\n\na\nb"
    connection, transport = harness.connect()
    for piece in (data,) if cut is None else (data[:cut], data[cut:]):
        connection.data_received(piece)
    harness.loop.run()
    assert transport.sent.startswith(b"HTTP/1.1 200") and transport.sent.endswith(b"a\nb")
