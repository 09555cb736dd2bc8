"""Forms of requests that Go's server takes and a parser of HTTP may not, and replies of no endpoint."""

from __future__ import annotations

import pytest

from agent.wire import accepts_gzip
from core.api.endpoint import Route
from tests.agent.test_http import Harness, get


@pytest.fixture
def harness() -> Harness:
    return Harness()


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_who_offers_another_protocol_is_answered_in_this_one(harness: Harness, protocol: str) -> None:
    # Java's client offers h2c with its first request.
    reply = harness.ask(get("/v", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}"))
    assert status(reply) == 200 and reply.endswith(b"\r\n\r\nv")


def test_what_follows_such_a_request_is_answered_too(harness: Harness) -> None:
    offer = b"PUT /echo/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nupgrade: h2c\r\n"
    connection, transport = harness.connect()
    connection.data_received(offer + b"Content-Length: 5\r\n\r\nhello" + get("/v"))
    harness.loop.run()
    assert transport.sent.count(b"HTTP/1.1 200 OK") == 2 and transport.sent.count(b"\r\n\r\nhello") == 1
    connection.data_received(get("/v"))
    harness.loop.run()
    assert transport.sent.count(b"HTTP/1.1 200 OK") == 3 and not transport.closed


def test_no_tunnels(harness: Harness) -> None:
    reply = harness.ask(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nwhatever")
    assert status(reply) == 400 and reply.endswith(b"Upgrade is not supported")


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("/echo/\u00fc".encode(), b"\xc3\xbc"),
        (b"/echo/a\xe9", b"a\xe9"),
        (b"http://any:8500/echo/a", b"a"),
        (b"HTTPS://any/echo/a?x=/y", b"a"),
    ],
)
def test_targets_as_go_takes_them(harness: Harness, target: bytes, rest: bytes) -> None:
    reply = harness.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(reply) == 200
    shown = next(line for line in reply.split(b"\r\n") if line.startswith(b"X-Rest: "))
    assert shown == b"X-Rest: " + rest.decode("utf-8", "surrogateescape").encode("utf-8", "replace")


def test_a_target_that_is_only_a_host_means_the_root(harness: Harness) -> None:
    for target in (b"http://any", b"http://any?x=1"):
        reply = harness.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(reply) == 404 and b"X-Extra" not in reply


def test_the_body_of_a_request_is_left_as_it_is(harness: Harness) -> None:
    body = "\u00fc".encode() + b"\xff\r\n"
    head = f"PUT /echo/\u00fc HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert harness.ask(head + body).endswith(body)


@pytest.mark.parametrize(
    ("target", "code", "location"),
    [
        ("/nope", 404, b""),
        ("/echo", 301, b"/echo/"),
        ("/echo/..", 301, b"/"),
        ("/echo/a/..", 301, b"/echo"),
        ("/echo/a/../", 301, b"/echo/"),
        ("/v%", 400, b""),
    ],
)
def test_what_no_endpoint_answers_has_no_endpoints_headers(
    harness: Harness, target: str, code: int, location: bytes
) -> None:
    for method in (b"GET", b"PUT", b"HEAD"):
        reply = harness.ask(method + get(target)[3:])
        assert status(reply) == code
        assert b"X-Extra" not in reply and b"Vary" not in reply
        assert (b"Location: " + location + b"\r\n" in reply) == bool(location)
        assert (b"text/html" in reply) == (code == 301 and method != b"PUT")
    assert code != 400 or harness.ask(get(target)).endswith(b"\r\n\r\n400 Bad Request")


def test_the_place_to_go_to_is_written_as_html(harness: Harness) -> None:
    assert harness.ask(get("/echo//a?b&c")).endswith(b'<a href="/echo/a?b&amp;c">Moved Permanently</a>.\n\n')


def test_a_broken_query_is_told_before_a_wrong_method(harness: Harness) -> None:
    for method in (b"GET", b"POST", b"OPTIONS"):
        assert status(harness.ask(method + get("/v?a;b")[3:])) == 500


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP, br", True),
        ("gzip;q=0.5", True),
        ("gzip; q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=x", False),
        ("*", False),
        ("", False),
        ("deflate", False),
    ],
)
def test_only_who_names_gzip_gets_it(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("path", "namespaced"),
    [
        ("/v1/kv/", True),
        ("/v1/session/create", True),
        ("/v1/catalog/services", True),
        ("/v1/catalog/nodes", False),
        ("/v1/catalog/datacenters", False),
        ("/v1/health/state/", True),
        ("/v1/agent/services", True),
        ("/v1/agent/self", False),
        ("/v1/txn", False),
    ],
)
def test_which_endpoints_know_namespaces(path: str, namespaced: bool) -> None:
    assert Route(path, ("GET",), lambda agent, request: None).namespaced is namespaced  # type: ignore[arg-type,return-value]


def test_a_namespace_is_refused_where_it_would_count(harness: Harness) -> None:
    harness.front.router.find("/v")[0].namespaced = True  # type: ignore[index]
    words = b"- Namespaces are a Consul Enterprise feature"
    reply = harness.ask(get("/v?ns=x"))
    assert status(reply) == 400
    assert reply.endswith(b'\r\n\r\nBad request: Invalid query parameter: "ns" ' + words)
    reply = harness.ask(get("/v?ns=x", "X-Consul-Namespace: default"))
    assert reply.endswith(b'\r\n\r\nBad request: Invalid header: "X-Consul-Namespace" ' + words)
    assert status(harness.ask(get("/v?ns="))) == 200
    assert status(harness.ask(get("/echo/a?ns=x", "X-Consul-Namespace: x"))) == 200
