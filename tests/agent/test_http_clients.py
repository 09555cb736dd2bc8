"""Slow, broken and greedy HTTP clients against a running agent: each gets what it asked for or is cut
off, and nobody else notices."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.harness import Agent, until


@pytest.fixture
def client(dev_agent: Agent) -> Iterator[socket.socket]:
    with dev_agent.connect() as connection:
        yield connection


def _answer(connection: socket.socket, got: bytes = b"") -> tuple[int, dict[str, str], bytes, bytes]:
    """One response: status, headers, body, and what came after it."""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        assert piece, f"closed after {got!r}"
        got += piece
    head, _, rest = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(lines[0].split()[1])
    if status == 100:
        return status, headers, b"", rest
    length = int(headers.get("content-length", "0"))
    while len(rest) < length:
        piece = connection.recv(65536)
        assert piece, "closed within a body"
        rest += piece
    return status, headers, rest[:length], rest[length:]


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(10)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_bytes_one_by_one(dev_agent: Agent, client: socket.socket) -> None:
    request = b"PUT /v1/kv/slowly HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nslow"
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(len(request)):
        client.sendall(request[number : number + 1])
        if number % 20 == 0:
            assert dev_agent.http("GET", "/v1/status/leader", timeout=5).status == 200, "others do not wait"
    assert _answer(client)[:3:2] == (200, b"true\n")
    assert dev_agent.http("GET", "/v1/kv/slowly?raw").body == b"slow"


def test_many_unfinished_requests_bother_nobody(dev_agent: Agent) -> None:
    began = [dev_agent.connect() for _ in range(100)]
    try:
        for connection in began:
            connection.sendall(b"GET /v1/kv/a HTTP/1.1\r\nHost: a\r\nX-Never: end")
        started = time.monotonic()
        assert dev_agent.http("GET", "/v1/status/leader").status == 200
        assert time.monotonic() - started < 2
    finally:
        for connection in began:
            connection.close()


def test_pipelined_requests_are_answered_in_order(dev_agent: Agent, client: socket.socket) -> None:
    for number in range(5):
        dev_agent.put(f"/v1/kv/pipe/{number}", f"value {number}")
    requests = b"".join(b"GET /v1/kv/pipe/%d?raw HTTP/1.1\r\nHost: a\r\n\r\n" % (n % 5) for n in range(200))
    client.sendall(requests)
    rest = b""
    for number in range(200):
        status, _, body, rest = _answer(client, rest)
        assert (status, body) == (200, b"value %d" % (number % 5))


def test_writes_and_reads_in_one_pipeline(client: socket.socket) -> None:
    client.sendall(
        b"PUT /v1/kv/mixed HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
        b"GET /v1/kv/mixed?raw HTTP/1.1\r\nHost: a\r\n\r\n"
        b"DELETE /v1/kv/mixed HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /v1/kv/mixed?raw HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    rest = b""
    seen = []
    for _ in range(4):
        status, _, body, rest = _answer(client, rest)
        seen.append((status, body.strip()))
    assert seen == [(200, b"true"), (200, b"one"), (200, b"true"), (404, b"")]


def test_chunked_body(dev_agent: Agent, client: socket.socket) -> None:
    client.sendall(b"PUT /v1/kv/chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"one ", b"two ", b"three"):
        client.sendall(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
    client.sendall(b"0\r\nTrailer: x\r\n\r\n")
    assert _answer(client)[0] == 200
    assert dev_agent.http("GET", "/v1/kv/chunks?raw").body == b"one two three"


def test_expect_continue(dev_agent: Agent, client: socket.socket) -> None:
    client.sendall(
        b"PUT /v1/kv/expect HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    status, _, _, rest = _answer(client)
    assert status == 100
    client.sendall(b"ok")
    assert _answer(client, rest)[0] == 200
    assert dev_agent.http("GET", "/v1/kv/expect?raw").body == b"ok"


def test_half_closed_client_gets_its_answer(client: socket.socket) -> None:
    client.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    assert _answer(client)[0] == 200
    assert _is_closed(client)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/status/leader HTTP/1.0\r\n\r\n",
        b"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
def test_connection_ends_when_the_client_wants(client: socket.socket, request_bytes: bytes) -> None:
    client.sendall(request_bytes)
    assert _answer(client)[0] == 200
    assert _is_closed(client)


def test_connection_stays_for_the_next_request(client: socket.socket) -> None:
    for _ in range(3):
        client.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _answer(client)[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\0" * 1000,
    ],
)
def test_garbage_is_refused_and_cut(dev_agent: Agent, client: socket.socket, garbage: bytes) -> None:
    client.sendall(garbage)
    client.settimeout(10)
    got = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            got += piece
    assert re.match(rb"(HTTP/1\.1 4\d\d .*)?$", got.split(b"\r\n")[0]), got
    assert dev_agent.http("GET", "/v1/status/leader").status == 200


def test_endless_headers_are_cut(client: socket.socket) -> None:
    client.settimeout(10)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    with suppress(ConnectionError):
        for number in range(100_000):
            client.sendall(b"X-Header-%d: %s\r\n" % (number, b"x" * 1000))
    assert _is_closed(client)


def test_endless_url_is_cut(client: socket.socket) -> None:
    client.settimeout(10)
    with suppress(ConnectionError):
        client.sendall(b"GET /")
        for _ in range(10_000):
            client.sendall(b"a" * 10_000)
    assert _is_closed(client)


def test_body_beyond_any_limit_is_refused(dev_agent: Agent) -> None:
    """Read or not, it is not kept: 413 at once or after the last byte."""
    before = dev_agent.resident()
    size = 120_000_000
    with dev_agent.connect() as client:
        with suppress(ConnectionError):
            client.sendall(b"PUT /v1/kv/huge HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(60):
                client.sendall(b"x" * (size // 60))
        with suppress(ConnectionError):
            assert _answer(client)[0] == 413
    assert dev_agent.resident() - before < 30e6
    assert dev_agent.http("GET", "/v1/kv/huge").status == 404


def test_reader_that_does_not_read_costs_little(dev_agent: Agent) -> None:
    """Requests wait while the answers before them are not taken: else a client could fill the memory."""
    for number in range(4):
        dev_agent.put(f"/v1/kv/large/{number}", b"x" * 100_000)
    size = len(dev_agent.http("GET", "/v1/kv/large?recurse").body)
    before = dev_agent.resident()
    with dev_agent.connect() as client:
        client.settimeout(0.5)
        with suppress(TimeoutError):
            for _ in range(30):  # 150 megabytes, should all be answered at once
                client.sendall(b"GET /v1/kv/large?recurse HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        started = time.monotonic()
        assert dev_agent.http("GET", "/v1/status/leader").status == 200
        assert time.monotonic() - started < 5
        assert dev_agent.resident() - before < 40e6 + 4 * size
    dev_agent.http("DELETE", "/v1/kv/large?recurse")


def test_hanging_up_while_blocked_leaves_nothing(dev_agent: Agent) -> None:
    dev_agent.put("/v1/kv/hang", "up")
    index = dev_agent.http("GET", "/v1/kv/hang").consul_index
    before = dev_agent.descriptors()
    connections = [dev_agent.connect() for _ in range(50)]
    for connection in connections:
        connection.sendall(b"GET /v1/kv/hang?index=%d&wait=5m HTTP/1.1\r\nHost: a\r\n\r\n" % index)
    until("all are held", lambda: dev_agent.descriptors() >= before + 45)
    for connection in connections:
        connection.close()
    until("all are gone", lambda: dev_agent.descriptors() <= before + 1)


def test_monitor_streams_lines_until_the_client_leaves(dev_agent: Agent) -> None:
    before = dev_agent.descriptors()
    with dev_agent.connect() as client:
        client.sendall(b"GET /v1/agent/monitor?loglevel=trace&logjson HTTP/1.1\r\nHost: a\r\n\r\n")
        got = b""

        def talked() -> bool:
            nonlocal got
            dev_agent.http("PUT", "/v1/agent/check/pass/nothing-of-that-name")
            dev_agent.http("PUT", "/v1/agent/reload")
            client.settimeout(0.2)
            with suppress(TimeoutError):
                got += client.recv(65536)
            return b"@message" in got

        until("a line of the log arrives", talked)
    lines = [line for line in got.split(b"\n") if line.startswith(b'{"@level"')]
    assert json.loads(lines[0])["@module"].startswith("agent")
    until("the stream is let go", lambda: dev_agent.descriptors() <= before + 1)


def test_nothing_of_this_was_a_defect(dev_agent: Agent) -> None:
    """Last in this file: whatever went wrong above was a client's fault, not a bug that was caught."""
    assert "request failed" not in dev_agent.log_text()
    assert "unexpected error" not in dev_agent.log_text()
