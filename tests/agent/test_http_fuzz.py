"""A fuzz corpus for HTTP against a running agent: no crash, no hang, no defect that was merely caught."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.api.table import ROUTES
from tests.harness import Agent

SETTINGS = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# What would end the agent, or make it wait for strangers.
SPARED = (
    "/v1/agent/leave",
    "/v1/agent/join",
    "/v1/agent/force-leave",
    "/v1/agent/monitor",
    "/v1/agent/maintenance",
    "/v1/agent/metrics/stream",
    "/v1/agent/debug/profile",  # these take as long as they are told, and have tests of their own
    "/v1/ctl/changes",
    "/v1/internal/query/",
    "/debug/pprof/",
)
PATHS = sorted({route.path for route in ROUTES if not route.path.startswith(SPARED)})
METHODS = st.sampled_from(["GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS", "PATCH", "TRACE", "get"])

REQUEST = (
    b"PUT /v1/kv/fuzz?flags=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Consul-Token: t\r\n\r\nhello"
)
TOKENS = [
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b" ",
        b"\0",
        b":",
        b";",
        b"%",
        b"%zz",
        b"?",
        b"#",
        b"\xff",
        b"\x80",
    ),
    *(
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Upgrade: websocket\r\n",
        b"GET ",
        b"index=5",
        b"wait=1ms",
        b"-1",
        b"9" * 30,
    ),
]

NAMES = st.sampled_from(
    [
        *("ID", "Name", "Node", "Address", "Service", "Check", "Checks", "Tags", "Meta", "Port"),
        *("Weights", "TTL", "HTTP", "TCP", "Interval", "Timeout", "Status", "Notes", "Definition"),
        *("TaggedAddresses", "EnableTagOverride", "Kind", "Proxy", "Connect", "SkipNodeUpdate"),
        *(
            "Datacenter",
            "NodeMeta",
            "ServiceID",
            "CheckID",
            "Output",
            "Args",
            "DeregisterCriticalServiceAfter",
        ),
        *("Header", "AliasNode"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["10s", "passing", "critical", "127.0.0.1:1", "", "web"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)
PARAMETERS = st.sampled_from(
    [
        *("index", "wait", "stale", "consistent", "cached", "dc", "near", "node-meta", "tag"),
        *("passing", "filter", "raw", "recurse", "keys", "separator", "cas", "flags", "acquire"),
        *("release", "token", "pretty", "format", "enable", "reason", "note", "ns", "max_stale"),
        *("replace-existing-checks",),
    ]
)
PARAMETER_VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "0", "-1", "1ms", "5", "true", "dc1", "a:b", 'Node == "x"', "Meta.a in b", "((", "%"]
    ),
)


def _talk(agent: Agent, data: bytes) -> bytes:
    """Send bytes, end the sending half, read to the end."""
    with agent.connect(timeout=15) as connection:
        got = b""
        with suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                got += piece
        return got


def _is_sane(agent: Agent, got: bytes) -> None:
    assert not got or got.startswith(b"HTTP/1.1 "), got[:100]
    assert b"internal error" not in got, got[-500:]


@SETTINGS
@given(data=st.binary(max_size=400))
def test_any_bytes(dev_agent: Agent, data: bytes) -> None:
    _is_sane(dev_agent, _talk(dev_agent, data))


@SETTINGS
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, len(REQUEST)), st.sampled_from(TOKENS), st.integers(0, 9)), max_size=5
    )
)
def test_almost_requests(dev_agent: Agent, cuts: list[tuple[int, bytes, int]]) -> None:
    data = REQUEST
    for place, token, removed in cuts:
        data = data[:place] + token + data[place + removed :]
    _is_sane(dev_agent, _talk(dev_agent, data))


@SETTINGS
@given(
    path=st.sampled_from(PATHS),
    rest=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
    method=METHODS,
    parameters=st.lists(st.tuples(PARAMETERS, PARAMETER_VALUES), max_size=4),
    body=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())),
)
def test_every_endpoint(
    dev_agent: Agent, path: str, rest: str, method: str, parameters: list[tuple[str, str]], body: bytes
) -> None:
    from urllib.parse import urlencode

    # Waits are kept short: a blocking read is not a hang.
    query = urlencode([(k, v) for k, v in parameters if k != "wait"] + [("wait", "1ms")], errors="replace")
    connection = http.client.HTTPConnection(dev_agent.address, dev_agent.http_port, timeout=20)
    try:
        target = path + (rest.replace("?", "").replace("#", "") if path.endswith("/") else "")
        connection.putrequest(method, f"{target}?{query}", skip_accept_encoding=True)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    assert b"internal error" not in text, (method, path, query, body, text)


@SETTINGS
@given(
    path=st.sampled_from(
        [
            "/v1/agent/service/register",
            "/v1/agent/check/register",
            "/v1/catalog/register",
            "/v1/catalog/deregister",
            "/v1/agent/check/update/x",
        ]
    ),
    value=st.dictionaries(NAMES, VALUES, max_size=6),
)
def test_bodies_of_registrations(dev_agent: Agent, path: str, value: dict[str, object]) -> None:
    answer = dev_agent.http("PUT", path, json.dumps(value))
    assert b"internal error" not in answer.body, answer.text
    assert answer.status in (200, 400, 404, 500)


FILTER_WORDS = [
    *("Node", "Meta", "Service", "Tags", ".", "==", "!=", "in", "not", "and", "or", "(", ")"),
    *('"x"', "`y`", "is empty", "matches", "contains", "[", '"', "/a(/", "1"),
]


@SETTINGS
@given(text=st.text(max_size=40) | st.lists(st.sampled_from(FILTER_WORDS), max_size=10).map(" ".join))
def test_filters(dev_agent: Agent, text: str) -> None:
    from urllib.parse import quote

    answer = dev_agent.http("GET", "/v1/catalog/nodes?filter=" + quote(text, errors="replace"))
    assert answer.status in (200, 400, 500)
    assert b"internal error" not in answer.body, answer.text


@SETTINGS
@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    value=st.binary(max_size=50),
)
def test_any_key_comes_back(dev_agent: Agent, key: str, value: bytes) -> None:
    """What was escaped on the way in is the key that is listed."""
    from urllib.parse import quote

    if "/" in key or not key.isprintable():
        return  # Go's router cleans paths and refuses what cannot be printed
    target = "/v1/kv/fuzz/" + quote(key, safe="")
    if key in (".", ".."):
        return
    assert dev_agent.http("PUT", target, value).json() is True
    assert dev_agent.http("GET", target + "?raw").body == value
    assert dev_agent.get(target + "?keys") == [f"fuzz/{key}"] or f"fuzz/{key}" in dev_agent.get(
        target + "?keys"
    )
    assert dev_agent.http("DELETE", "/v1/kv/fuzz/?recurse").json() is True


def test_nothing_of_this_was_a_defect(dev_agent: Agent) -> None:
    """Last in this file: the agent lives, answers, and has no defect in its log."""
    assert dev_agent.http("GET", "/v1/status/leader").status == 200
    log = dev_agent.log_text()
    for sign in ("request failed", "unexpected error", "Traceback"):
        where = log.find(sign)
        assert where < 0, log[where - 200 : where + 3000]
