"""Whatever a server sends, a check ends with a result: parsers fed with noise, cut anywhere."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.checks_client import Exchange, Target, build_request
from agent.checks_docker import Frames
from agent.checks_http2 import _Health, health_request, health_status
from agent.checks_net import NetError, split_address

START = b"HTTP/1.1 200 OK\r\n"
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from(
            [
                START,
                b"\r\n",
                b"Content-Length: 5\r\n",
                b"Content-Length: -1\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Connection: Upgrade\r\nUpgrade: x\r\n",
                b"Location: /\r\n",
                b"5\r\nhello\r\n",
                b"0\r\n\r\n",
                b"fffffffffffffffff\r\n",
                b"HTTP/1.1 101 Go\r\n",
                b"HTTP/1.1 100 Go\r\n\r\n",
            ]
        ),
    ),
    max_size=12,
)


class Wire:
    """A transport that only listens."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


@given(PIECES, st.booleans())
@example([START, b"\r\n", b"body"], False)
def test_http_noise(pieces: list[bytes], head_only: bool) -> None:
    async def main() -> None:
        body = bytearray()
        exchange = Exchange(b"GET", head_only, body.extend)
        exchange.connection_made(cast(Any, Wire()))
        for piece in pieces:
            exchange.data_received(piece)
        exchange.eof_received()
        exchange.connection_lost(None)
        assert exchange.done.done()
        assert exchange.error or exchange.response.code
        exchange.release()

    asyncio.run(main())


@given(st.binary(max_size=200), st.booleans())
def test_http2_noise(noise: bytes, after_preface: bool) -> None:
    async def main() -> None:
        call = _Health("a:1", "web", "http", 1.0)
        call.connection_made(cast(Any, Wire()))
        settings = b"\0\0\0\x04\0\0\0\0\0"
        call.data_received(settings + noise if after_preface else noise)
        call.connection_lost(None)
        assert call.done.done()

    asyncio.run(main())


@given(st.binary(max_size=40))
def test_health_status_noise(noise: bytes) -> None:
    try:
        assert health_status(noise)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", "UNKNOWN"),
        (b"\x08\x01", "SERVING"),
        (b"\x08\x03", "SERVICE_UNKNOWN"),
        (b"\x08\x09", "9"),
        (b"\x12\x03abc\x08\x01", "SERVING"),
        (b"\x19aaaaaaaa\x25aaaa\x10\x05\x08\x01", "SERVING"),
    ],
)
def test_health_status_fields(message: bytes, status: str) -> None:
    assert health_status(b"\0" + len(message).to_bytes(4, "big") + message) == status


def test_health_request() -> None:
    assert health_request("") == b""
    assert health_request("web") == b"\x0a\x03web"
    assert health_request("x" * 300) == b"\x0a\xac\x02" + b"x" * 300


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=20))), st.data())
def test_docker_frames_cut_anywhere(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(bytes([kind, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for kind, text in frames)
    found = bytearray()
    sink = Frames(found.extend)
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        sink.feed(stream[:cut])
        stream = stream[cut:]
    assert bytes(found) == b"".join(text for _, text in frames)


@given(st.text(max_size=30))
def test_addresses_noise(text: str) -> None:
    try:
        host, port = split_address(text)
        assert 0 <= port <= 65535
        assert text.startswith(("[" + host, host))
    except NetError as error:
        assert str(error).startswith("dial tcp: ")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://[127.0.0.1]:99/health", "127.0.0.1", 99),
        ("https://u:p@[web.example]", "web.example", 443),
        ("http://[::1]:5/[x]", "::1", 5),
        ("http://h/[127.0.0.1]:99", "h", 80),
    ],
)
def test_brackets_around_any_host(url: str, host: str, port: int) -> None:
    target = Target(url)
    assert (target.host, target.port) == (host, port)


@given(st.text(max_size=30), st.text(max_size=10))
def test_urls_and_headers_noise(rest: str, value: str) -> None:
    try:
        target = Target("http://h" + rest)
        request = build_request("GET", target, [("X", value)], "", b"")
    except NetError as error:
        assert str(error)
        return
    head, end, body = request.partition(b"\r\n\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")
    lines = head.split(b"\r\n")
    assert len(lines) == 4
    assert lines[0].startswith(b"GET /") and lines[0].endswith(b" HTTP/1.1") and lines[0].count(b" ") == 2
