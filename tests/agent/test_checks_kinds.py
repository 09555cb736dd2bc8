"""Each kind of check against a small real server, run through the CheckRunner. On both event loops."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import h2.connection
import pytest
import uvloop

from agent import checks_client, checks_net
from agent.checks import CheckRunner, CheckSettings
from agent.checks_net import AgentTls
from agent.world import World
from core.codec.duration import MILLISECOND, SECOND
from core.node.definitions import CheckDefinition
from tests.agent.check_servers import certificate, docker_engine, fixed, h2_server, http_server

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run  # type: ignore[return-value]


class AtOnce(random.Random):
    """Chance that never delays a first run."""

    def random(self) -> float:
        return 0.0


def at_once() -> World:
    world = World()
    world.random = AtOnce()
    return world


async def once(settings: CheckSettings | None = None, **fields: Any) -> tuple[str, str]:
    """The first result of a check."""
    first: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()

    def on_result(check_id: str, status: str, output: str) -> None:
        assert check_id == "c"
        if not first.done():
            first.set_result((status, output))

    runner = CheckRunner(at_once(), on_result, settings)
    fields.setdefault("timeout", 5 * SECOND)
    runner.start("c", CheckDefinition(interval=10 * SECOND, **fields))
    try:
        async with asyncio.timeout(15):
            return await first
    finally:
        await runner.stop_all()


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# HTTP


def test_http_request_and_result(run: Run) -> None:
    async def main() -> None:
        async with http_server(fixed(OK)) as server:
            url = f"http://127.0.0.1:{server.port}/a b?q=1"
            assert await once(http=url) == ("passing", f"HTTP GET {url}: 200 OK Output: hello")
            assert (
                server.requests[0]
                == (
                    f"GET /a%20b?q=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                    "User-Agent: Consul Health Check\r\nAccept: text/plain, text/*, */*\r\n"
                    "Connection: close\r\n\r\n"
                ).encode()
            )

    run(main())


def test_http_method_headers_body_host(run: Run) -> None:
    async def main() -> None:
        async with http_server(fixed(OK)) as server:
            url = f"http://user:pa%20ss@localhost:{server.port}"
            header = {"Host": ["web.example"], "X-A": ["1", "2"], "user-agent": ["mine"]}
            status, output = await once(http=url, method="PUT", body="data", header=header)
            assert (status, output) == ("passing", f"HTTP PUT {url}: 200 OK Output: hello")
            lines = server.requests[0].decode().split("\r\n")
            assert lines[:2] == ["PUT / HTTP/1.1", "Host: web.example"]
            assert {"X-A: 1", "X-A: 2", "user-agent: mine", "Content-Length: 4"} < set(lines)
            assert "Authorization: Basic dXNlcjpwYSBzcw==" in lines
            assert lines[-1] == "data"
            assert not [line for line in lines if line.startswith("User-Agent")]
            await once(http=url, method="POST")
            assert b"Content-Length: 0" in server.requests[1]

    run(main())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow"
MOVED = b"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("response", "status", "shown"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "passing", "204 No Content Output: "),
        (TOO_MANY, "warning", "429 Too Many Requests Output: slow"),
        (b"HTTP/1.1 503 Out\r\nContent-Length: 0\r\n\r\n", "critical", "503 Out Output: "),
        (b"HTTP/1.0 200\r\n\r\nto the end", "passing", "200 Output: to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "passing", "200 OK Output: hello"),
        (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "passing", "200 OK Output: hello"),
        (CHUNKED + b"2\r\nhezz", "passing", "200 OK Output: he"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", "passing", "200 OK Output: cut"),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe", "passing", "200 OK Output: \ufffd\ufffd"),
        (MOVED, "critical", "301 Moved Permanently Output: "),
        (b"HTTP/1.1 304 Not Modified\r\nLocation: /x\r\n\r\n", "critical", "304 Not Modified Output: "),
    ],
)
def test_http_responses(run: Run, response: bytes, status: str, shown: str) -> None:
    async def main() -> None:
        async with http_server(fixed(response)) as server:
            url = f"http://127.0.0.1:{server.port}/"
            assert await once(http=url) == (status, f"HTTP GET {url}: {shown}")

    run(main())


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-", "unexpected EOF"),
        (
            b"SSH-2.0-OpenSSH_9\r\n",
            'net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-OpenSSH_9"',
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * (1 << 21),
            "net/http: server response headers exceeded 1048576 bytes; aborted",
        ),
    ],
)
def test_http_without_a_response(run: Run, response: bytes, why: str) -> None:
    async def main() -> None:
        async with http_server(fixed(response)) as server:
            url = f"http://127.0.0.1:{server.port}/"
            assert await once(http=url) == ("critical", f'Get "{url}": {why}')

    run(main())


def test_http_connection_refused(run: Run) -> None:
    port = closed_port()
    expected = (
        f'Get "http://localhost:{port}/index.html": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )
    assert run(once(http=f"http://localhost:{port}/index.html")) == ("critical", expected)
    expected = (
        f'Delete "http://u:***@127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )
    assert run(once(http=f"http://u:secret@127.0.0.1:{port}/", method="DELETE")) == ("critical", expected)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"http": "ftp://h/"}, 'Get "ftp://h/": unsupported protocol scheme "ftp"'),
        ({"http": "http:///x"}, 'Get "http:///x": http: no Host in request URL'),
        ({"http": "http://h:99999/"}, 'Get "http://h:99999/": dial tcp: address 99999: invalid port'),
        ({"http": "http://h:abc/"}, 'parse "http://h:abc/": invalid port ":abc" after host'),
        ({"http": "http://[::1:80/"}, "parse \"http://[::1:80/\": missing ']' in host"),
        ({"http": "://x"}, 'parse "://x": missing protocol scheme'),
        ({"http": "http://h/", "method": "G T"}, 'net/http: invalid method "G T"'),
        (
            {"http": "http://h/", "header": {"X": ["a\r\nY: b"]}},
            'Get "http://h/": net/http: invalid header field value for "X"',
        ),
        (
            {"http": "http://h/", "header": {"X Y": ["a"]}},
            'Get "http://h/": net/http: invalid header field name "X Y"',
        ),
    ],
)
def test_http_that_cannot_be_asked(fields: dict[str, Any], text: str) -> None:
    """In the words of Consul 1.9.8."""
    assert asyncio.run(once(**fields)) == ("critical", text)


def test_http_name_that_does_not_exist(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(checks_net.socket, "getaddrinfo", nothing)
    status, output = run(once(http="http://no-such.invalid/"))
    assert (status, output) == (
        "critical",
        'Get "http://no-such.invalid/": dial tcp: lookup no-such.invalid: no such host',
    )


def test_http_huge_body_keeps_the_end(run: Run) -> None:
    body = b"x" * 300_000 + b"the end"
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def main() -> None:
        async with http_server(fixed(response)) as server:
            url = f"http://127.0.0.1:{server.port}/"
            _, output = await once(http=url)
            assert output == f"HTTP GET {url}: 200 OK Output: " + "x" * 4089 + "the end"
            _, output = await once(http=url, output_max_size=10)
            assert output == f"HTTP GET {url}: 200 OK Output: xxxthe end"

    run(main())


def test_http_endless_body(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_client, "_BODY_MAX", 1 << 20)

    async def endless(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"y" * 65536)
            await writer.drain()

    async def main() -> None:
        async with http_server(endless) as server:
            status, output = await once(http=f"http://127.0.0.1:{server.port}/", timeout=60 * SECOND)
            assert (status, output[-5:]) == ("passing", "yyyyy")

    run(main())


def test_http_timeouts(run: Run) -> None:
    async def slow_head(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def slow_body(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
        await asyncio.sleep(30)

    async def main() -> None:
        async with http_server(slow_head) as server:
            url = f"http://127.0.0.1:{server.port}/"
            assert await once(http=url, timeout=100 * MILLISECOND) == (
                "critical",
                f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
            )
        async with http_server(slow_body) as server:  # the status was there: it counts
            url = f"http://127.0.0.1:{server.port}/"
            result = await once(http=url, timeout=100 * MILLISECOND)
            assert result == ("passing", f"HTTP GET {url}: 200 OK Output: part")

    run(main())


def test_http_redirects(run: Run) -> None:
    async def handler(request: bytes, writer: asyncio.StreamWriter) -> None:
        path = request.split(b" ")[1]
        code, where = {
            b"/1": (301, b"/2"),
            b"/2": (302, b"3"),
            b"/3": (307, b"http://localhost:%d/end" % server.port),
            b"/keep": (308, b"/end"),
            b"/loop": (303, b"/loop"),
            b"/bad": (302, b"gopher://x/"),
        }.get(path, (200, b""))
        writer.write(b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (code, where))

    async def main() -> None:
        nonlocal server
        async with http_server(handler) as server:
            base = f"http://127.0.0.1:{server.port}"
            header = {"Host": ["web.example"], "Cookie": ["secret"]}
            status, output = await once(http=base + "/1", method="POST", body="b", header=header)
            assert (status, output) == ("passing", f"HTTP POST {base}/1: 200 X Output: ")
            first, second, third, last = (request.decode() for request in server.requests)
            assert first.startswith("POST /1") and first.endswith("\r\nb")
            assert second.startswith("GET /2") and "web.example" in second and "secret" in second
            assert third.startswith("GET /3")
            assert last.startswith("GET /end") and f"Host: localhost:{server.port}" in last
            assert "secret" not in last  # another host
            server.requests.clear()
            await once(http=base + "/keep", method="POST", body="b")
            assert [request.split(b" ")[0] for request in server.requests] == [b"POST", b"POST"]
            server.requests.clear()
            status, output = await once(http=base + "/loop")
            assert (status, output) == ("critical", 'Get "/loop": stopped after 10 redirects')
            assert len(server.requests) == 10
            status, output = await once(http=base + "/1", disable_redirects=True)
            assert (status, output) == ("critical", f"HTTP GET {base}/1: 301 X Output: ")
            status, output = await once(http=base + "/bad")
            assert status == "critical"
            assert output.endswith('unsupported protocol scheme "gopher"')
            status, output = await once(http=base + "/end", method="HEAD")
            assert (status, output) == ("passing", f"HTTP HEAD {base}/end: 200 X Output: ")

    server: Any = None
    run(main())


def test_https(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        context, cert_file = certificate(tmp_path, "web.example")
        async with http_server(fixed(OK), context) as server:
            url = f"https://127.0.0.1:{server.port}/"
            status, output = await once(http=url)
            assert (status, output) == (
                "critical",
                f'Get "{url}": x509: certificate signed by unknown authority',
            )
            assert await once(http=url, tls_skip_verify=True) == (
                "passing",
                f"HTTP GET {url}: 200 OK Output: hello",
            )
            trusting = CheckSettings(agent_tls=AgentTls(ca_file=str(cert_file)))
            status, output = await once(trusting, http=url)
            assert (status, output) == (
                "critical",
                f'Get "{url}": x509: certificate is not valid for 127.0.0.1',
            )
            status, _ = await once(trusting, http=url, tls_server_name="web.example")
            assert status == "passing"
            # a reload brings other files
            seen: list[str] = []
            runner = CheckRunner(at_once(), lambda _, status, output: seen.append(status))
            definition = CheckDefinition(http=url, interval=SECOND, tls_server_name="web.example")
            runner.start("c", definition)
            async with asyncio.timeout(10):
                while not seen:
                    await asyncio.sleep(0.01)
                runner.configure(trusting)
                while seen[-1] != "passing":
                    await asyncio.sleep(0.01)
            assert seen[0] == "critical"
            await runner.stop_all()
            nowhere = CheckSettings(agent_tls=AgentTls(ca_file="/no/such"))
            status, output = await once(nowhere, http=url)
            assert (status, output) == ("critical", f'Get "{url}": tls: [Errno 2] No such file or directory')

    run(main())


def test_https_expired_and_not_tls(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        context, cert_file = certificate(tmp_path, "web.example", days=-1)
        trusting = CheckSettings(agent_tls=AgentTls(ca_file=str(cert_file)))
        async with http_server(fixed(OK), context) as server:
            url = f"https://127.0.0.1:{server.port}/"
            status, output = await once(trusting, http=url, tls_server_name="web.example")
            assert output == f'Get "{url}": x509: certificate has expired or is not yet valid'
        async with http_server(fixed(b"HTTP/1.1 400 Bad\r\n\r\n")) as server:
            server_url = f"https://127.0.0.1:{server.port}/"

            async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
                await writer.drain()

            plain = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
            server_url = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"
            status, output = await once(http=server_url)
            plain.close()
            assert (status, output) == (
                "critical",
                f'Get "{server_url}": tls: first record does not look like a TLS handshake',
            )

    run(main())


# TCP and UDP


def test_tcp(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with http_server(fixed(OK)) as server:
            assert await once(tcp=f"localhost:{server.port}") == (
                "passing",
                f"TCP connect localhost:{server.port}: Success",
            )
        port = closed_port()
        assert await once(tcp=f"127.0.0.1:{port}") == (
            "critical",
            f"dial tcp 127.0.0.1:{port}: connect: connection refused",
        )
        context, _ = certificate(tmp_path)
        async with http_server(fixed(OK), context) as server:
            address = f"127.0.0.1:{server.port}"
            assert await once(tcp=address, tcp_use_tls=True, tls_skip_verify=True) == (
                "passing",
                f"TCP+TLS connect {address}: Success",
            )
            status, output = await once(tcp=address, tcp_use_tls=True)
            assert (status, output) == ("critical", "x509: certificate signed by unknown authority")

    run(main())


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("localhost", "dial tcp: address localhost: missing port in address"),
        ("::1:80", "dial tcp: address ::1:80: too many colons in address"),
        ("h:99999", "dial tcp: address 99999: invalid port"),
        ("[::1:80", "dial tcp: address [::1:80: missing port in address"),
    ],
)
def test_tcp_addresses(address: str, text: str) -> None:
    assert asyncio.run(once(tcp=address)) == ("critical", text)


def test_tcp_timeout(run: Run) -> None:
    """A listener whose queue is full does not answer."""

    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            filling = [socket.socket() for _ in range(4)]
            for sock in filling:
                sock.setblocking(False)
                sock.connect_ex(address)
            result = await once(tcp=f"127.0.0.1:{address[1]}", timeout=200 * MILLISECOND)
            assert result == ("critical", f"dial tcp 127.0.0.1:{address[1]}: i/o timeout")
            for sock in filling:
                sock.close()

    run(main())


def test_udp(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.setblocking(False)
            port = server.getsockname()[1]
            success = ("passing", f"UDP connect 127.0.0.1:{port}: Success")
            answered: list[bytes] = []

            def echo() -> None:
                data, sender = server.recvfrom(100)
                answered.append(data)
                server.sendto(b"pong", sender)

            loop.add_reader(server, echo)
            started = time.monotonic()
            assert await once(udp=f"127.0.0.1:{port}") == success
            assert answered == [b""]
            assert time.monotonic() - started < 3
            loop.remove_reader(server)
            # silence passes
            assert await once(udp=f"127.0.0.1:{port}", timeout=100 * MILLISECOND) == success
        assert await once(udp=f"127.0.0.1:{port}") == (
            "critical",
            f"read udp 127.0.0.1:{port}: read: connection refused",
        )
        assert await once(udp="nowhere") == ("critical", "dial udp: address nowhere: missing port in address")

    run(main())


# gRPC and H2PING

SERVING, NOT_SERVING = b"\x00\x00\x00\x00\x02\x08\x01", b"\x00\x00\x00\x00\x02\x08\x02"


def health_answer(
    connection: h2.connection.H2Connection, stream: int, head: dict[str, str], body: bytes
) -> None:
    assert head[":path"] == "/grpc.health.v1.Health/Check"
    assert head["content-type"] == "application/grpc"
    assert head["te"] == "trailers"
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    service = body[7:].decode()
    if service == "unknown":
        trailers = [("grpc-status", "5"), ("grpc-message", "unknown service%21")]
        plain = [(":status", "200"), ("content-type", "application/grpc")]
        connection.send_headers(stream, plain + trailers, end_stream=True)
        return
    if service == "web-server":
        connection.send_headers(stream, [(":status", "404")], end_stream=True)
        return
    if service == "reset":
        connection.reset_stream(stream, 2)
        return
    if service == "silent":
        return
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    connection.send_data(stream, {"bad": NOT_SERVING, "garbage": b"\0\0\0\0\x01\xff"}.get(service, SERVING))
    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


@pytest.mark.parametrize(
    ("service", "status", "output"),
    [
        ("", "passing", "gRPC check {address}: success"),
        ("/web", "passing", "gRPC check {address}: success"),
        ("/bad", "critical", "gRPC {address} serving status: NOT_SERVING"),
        ("/unknown", "critical", "rpc error: code = NotFound desc = unknown service!"),
        (
            "/web-server",
            "critical",
            "rpc error: code = Unimplemented desc = unexpected HTTP status code received from server: "
            "404 (Not Found)",
        ),
        (
            "/reset",
            "critical",
            "rpc error: code = Unavailable desc = stream terminated by RST_STREAM with error code: 2",
        ),
        ("/silent", "critical", "rpc error: code = DeadlineExceeded desc = context deadline exceeded"),
        ("/garbage", "critical", "rpc error: code = Internal desc = the answer is not a health status"),
    ],
)
def test_grpc(run: Run, service: str, status: str, output: str) -> None:
    async def main() -> None:
        async with h2_server(health_answer) as port:
            address = f"127.0.0.1:{port}{service}"
            timeout = 200 * MILLISECOND if service == "/silent" else 5 * SECOND
            result = await once(grpc=address, timeout=timeout)
            assert result == (status, output.format(address=address))

    run(main())


def test_grpc_over_tls_and_refused(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        context, _ = certificate(tmp_path)
        context.set_alpn_protocols(["h2"])
        async with h2_server(health_answer, context) as port:
            address = f"127.0.0.1:{port}"
            result = await once(grpc=address, grpc_use_tls=True, tls_skip_verify=True)
            assert result == ("passing", f"gRPC check {address}: success")
        port = closed_port()
        assert await once(grpc=f"127.0.0.1:{port}") == (
            "critical",
            "rpc error: code = Unavailable desc = all SubConns are in TransientFailure, "
            'latest connection error: connection error: desc = "transport: Error while dialing '
            f'dial tcp 127.0.0.1:{port}: connect: connection refused"',
        )

    run(main())


def test_h2ping(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        context, _ = certificate(tmp_path)
        context.set_alpn_protocols(["h2"])
        success = ("passing", "HTTP2 ping was successful")
        async with h2_server(health_answer, context) as port:
            assert await once(h2ping=f"127.0.0.1:{port}", tls_skip_verify=True) == success
        async with h2_server(health_answer) as port:
            assert await once(h2ping=f"127.0.0.1:{port}", h2ping_use_tls=False) == success
        async with http_server(fixed(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            status, output = await once(h2ping=f"127.0.0.1:{server.port}", h2ping_use_tls=False)
            assert status == "critical"
            assert output.startswith("HTTP2 ping failed: ")
        port = closed_port()
        status, output = await once(h2ping=f"127.0.0.1:{port}")
        assert (status, output) == (
            "critical",
            f"Failed to dial to 127.0.0.1:{port}: dial tcp 127.0.0.1:{port}: connect: connection refused",
        )

    run(main())


# Docker


def docker(**fields: Any) -> dict[str, Any]:
    return {"docker_container_id": "web", "args": ["/check", "-v"], **fields}


def test_docker(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "docker.sock"
        settings = CheckSettings(docker_host=f"unix://{path}")
        async with docker_engine(path) as engine:
            assert await once(settings, **docker()) == ("passing", "fine\n")
            assert engine.execs["exec0"]["cmd"] == ["/check", "-v"]
            engine.exit_code, engine.output = 1, [(1, b"out\n"), (2, b"err\n"), (1, b"")]
            assert await once(settings, **docker()) == ("warning", "out\nerr\n")
            engine.exit_code, engine.output = 127, [(1, b"x" * 10_000), (2, b"end")]
            status, output = await once(settings, **docker())
            assert status == "critical"
            assert output == "Captured 4096 of 10003 bytes\n...\n" + "x" * 4093 + "end"
            # the exit code comes a little after the end of the output
            engine.exit_code, engine.output, engine.running_for = 1, [(1, b"ok")], 2
            assert await once(settings, **docker()) == ("warning", "ok")
            assert await once(settings, **docker(docker_container_id="gone")) == (
                "critical",
                "create exec failed for unknown container gone",
            )
            assert await once(settings, **docker(docker_container_id="paused")) == (
                "critical",
                "create exec failed since container paused is paused or stopped",
            )
            engine.broken = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n{]}"
            status, output = await once(settings, **docker())
            assert status == "critical"
            assert output.startswith("create exec response for container web cannot be parsed: ")
            engine.broken = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
            assert await once(settings, **docker()) == (
                "critical",
                "create exec failed for container web with status 500: oops",
            )

    run(main())


def test_docker_that_is_not_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    failed = "create exec failed for container web: "
    host = str(path).replace("/", "%2F")
    text = f'{failed}Post "http://{host}/containers/web/exec": dial unix {path}: connect: '
    text += "no such file or directory"
    assert run(once(**docker())) == ("critical", text)
    port = closed_port()
    text = f'{failed}Post "http://127.0.0.1:{port}/containers/web/exec": dial tcp 127.0.0.1:{port}: '
    text += "connect: connection refused"
    assert run(once(CheckSettings(docker_host=f"tcp://127.0.0.1:{port}"), **docker())) == ("critical", text)
    text = f"{failed}unable to parse docker host `pigeon`"
    assert run(once(CheckSettings(docker_host="pigeon"), **docker())) == ("critical", text)


def test_docker_command_that_hangs_is_not_started_again(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "docker.sock"
        async with docker_engine(path) as engine:
            engine.hang, engine.running_for = True, 1_000_000
            results: list[tuple[str, str]] = []
            settings = CheckSettings(docker_host=f"unix://{path}")
            runner = CheckRunner(
                at_once(), lambda _, status, output: results.append((status, output)), settings
            )
            runner.start("c", CheckDefinition(**docker(interval=SECOND, timeout=200 * MILLISECOND)))
            async with asyncio.timeout(10):
                while len(results) < 2:
                    await asyncio.sleep(0.01)
                assert len(engine.execs) == 1
                assert results == [
                    ("critical", "Timed out (200ms) running check\n\nfine\n"),
                    ("critical", "Timed out (200ms) running check"),
                ]
                engine.hang, engine.running_for = False, 0
                engine.execs["exec0"]["running"] = 0
                while results[-1] != ("passing", "fine\n"):
                    await asyncio.sleep(0.01)
            assert len(engine.execs) == 2
            await runner.stop_all()

    run(main())


# scripts and services of the operating system


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        ("echo ok", "passing", "ok\n"),
        ("echo hm; exit 1", "warning", "hm\n"),
        ("echo no >&2; exit 2", "critical", "no\n"),
        ("kill -9 $$", "critical", ""),
    ],
)
def test_script(run: Run, script: str, status: str, output: str) -> None:
    assert run(once(args=["/bin/sh", "-c", script])) == (status, output)


def test_script_that_cannot_start(run: Run) -> None:
    text = 'exec: "no-such-check": executable file not found in $PATH'
    assert run(once(args=["no-such-check"])) == ("critical", text)


def test_script_timeout(run: Run) -> None:
    started = time.monotonic()
    result = run(once(args=["/bin/sh", "-c", "echo before; sleep 60"], timeout=300 * MILLISECOND))
    assert result == ("critical", "Timed out (300ms) running check\n\nbefore\n")
    assert time.monotonic() - started < 5
    result = run(once(args=["sleep", "60"], timeout=100 * MILLISECOND))
    assert result == ("critical", "Timed out (100ms) running check")


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        ("echo active", "passing", 'Service "nginx" is healthy'),
        ("echo activating; exit 3", "warning", 'Service "nginx" is activating'),
        ("echo inactive; exit 3", "critical", 'Service "nginx" is not running: inactive'),
        ("exit 4", "critical", 'Service "nginx" is not running: exit code 4'),
        (None, "critical", 'exec: "systemctl": executable file not found in $PATH'),
    ],
)
def test_os_service(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, status: str, output: str
) -> None:
    if script is not None:
        fake = tmp_path / "systemctl"
        fake.write_text(f'#!/bin/sh\n[ "$*" = "is-active -- nginx" ] || exit 9\n{script}\n')
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert run(once(os_service="nginx")) == (status, output)
