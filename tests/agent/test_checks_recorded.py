"""What checks of Consul 1.9.8 were seen to make of odd answers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent.checks_http import HttpProbe
from agent.checks_http2 import GrpcProbe
from agent.checks_net import Dialer
from agent.checks_socket import TcpProbe
from core.node.checks import Result
from core.node.definitions import CheckDefinition
from tests.agent.check_servers import fixed, http_server


async def ask(url: str, timeout: float = 5.0, **fields: object) -> tuple[str, str]:
    dialer = Dialer()
    try:
        definition = CheckDefinition(http=url, **fields)  # type: ignore[arg-type]
        result = await HttpProbe(definition, dialer, timeout, 4096).run()
    finally:
        dialer.close()
    return result.status, result.output


@pytest.mark.parametrize(
    ("answer", "status", "output"),
    [
        # a body where there may be none does not count as another answer
        (
            b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody",
            "passing",
            "HTTP GET {}: 204 No Content Output: ",
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody",
            "critical",
            "HTTP GET {}: 304 Not Modified Output: ",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 500 Next\r\nContent-Length: 0\r\n\r\n",
            "passing",
            "HTTP GET {}: 200 OK Output: hi",
        ),
        (b"HTTP/1.1 299 \r\nContent-Length: 2\r\n\r\nhi", "passing", "HTTP GET {}: 299  Output: hi"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", "passing", "HTTP GET {}: 200 Output: hi"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "passing",
            "HTTP GET {}: 200 OK Output: hi",
        ),
        (
            b"220 smtp ready\r\n",
            "critical",
            'Get "{}": net/http: HTTP/1.x transport connection broken: malformed HTTP status code "smtp"',
        ),
        (
            b"SSH-2.0\r\n",
            "critical",
            'Get "{}": net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0"',
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
            "critical",
            'Get "{}": failed to parse Location header "http://[::1": '
            "parse \"http://[::1\": missing ']' in host",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ftp://x/y\r\nContent-Length: 0\r\n\r\n",
            "critical",
            'Get "ftp://x/y": unsupported protocol scheme "ftp"',
        ),
    ],
)
def test_odd_answers(answer: bytes, status: str, output: str) -> None:
    async def main() -> None:
        async with http_server(fixed(answer)) as server:
            url = f"http://127.0.0.1:{server.port}/x"
            assert await ask(url) == (status, output.format(url))

    asyncio.run(main())


def test_headers_that_are_empty_give_way_to_the_usual_ones() -> None:
    async def main() -> None:
        async with http_server(fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as server:
            header = {"User-Agent": [""], "Accept": [""], "X-Empty": [""]}
            await ask(f"http://127.0.0.1:{server.port}/", header=header)
            lines = server.requests[0].decode().split("\r\n")
        assert "User-Agent: Consul Health Check" in lines and "Accept: text/plain, text/*, */*" in lines
        assert "X-Empty: " in lines and "Accept: " not in lines and "User-Agent: " not in lines

    asyncio.run(main())


def test_a_connection_that_is_not_taken() -> None:
    """A queue of connections that is full: the kernel drops what comes."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            url = f"http://127.0.0.1:{port}/"
            assert await ask(url, 0.2) == (
                "critical",
                f'Get "{url}": dial tcp 127.0.0.1:{port}: i/o timeout '
                "(Client.Timeout exceeded while awaiting headers)",
            )
            for one in waiting:
                one.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "output"),
    [
        ("127.0.0.1:x", "dial tcp: address tcp/x: unknown port"),
        ("127.0.0.1:-1", "dial tcp: address -1: invalid port"),
        ("127.0.0.1:99999", "dial tcp: address 99999: invalid port"),
        ("127.0.0.1", "dial tcp: address 127.0.0.1: missing port in address"),
        ("::1:80", "dial tcp: address ::1:80: too many colons in address"),
    ],
)
def test_addresses_that_cannot_be(address: str, output: str) -> None:
    result = asyncio.run(TcpProbe(CheckDefinition(tcp=address), Dialer(), 1.0).run())
    assert result == Result("critical", output)


def test_grpc_with_what_does_not_speak_it() -> None:
    unavailable = (
        "rpc error: code = Unavailable desc = all SubConns are in TransientFailure, latest connection error: "
    )

    async def main() -> None:
        async with http_server(fixed(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            probe = GrpcProbe(CheckDefinition(grpc=f"127.0.0.1:{server.port}"), Dialer(), 5.0)
            assert await probe.run() == Result("critical", f"{unavailable}connection closed")

    asyncio.run(main())
