"""Where the agent is, what is sent, and what is said when it fails."""

import contextlib
import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.client import Client, Place, ServerError, TransportError, _closed, socket_paths
from cli.command import Failure, Usage
from cli.wire import BadReply, Closed, Connection, decode_json, escape_path, query_text

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Pieces:
    """A stream that gives what it was told, in the pieces it was told."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.sent = b""

    def sendall(self, data):
        self.sent += data

    def recv(self, size):
        return self.pieces.pop(0) if self.pieces else b""

    def settimeout(self, value):
        pass

    def close(self):
        pass


def reply(*pieces):
    connection = Connection(Pieces(*pieces))
    status, headers = connection.read_head()
    return status, connection.read_body(headers), connection.reusable


@pytest.mark.parametrize(
    ("raw", "body", "reusable"),
    [
        (OK, b"hi", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hi", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
            b"hi!",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 0\r\n\r\n", b"", False),
    ],
)
def test_replies_in_any_pieces(raw, body, reusable):
    for cut in range(1, len(raw)):
        assert reply(raw[:cut], raw[cut:]) == (200, body, reusable)
    assert reply(*[bytes([byte]) for byte in raw]) == (200, body, reusable)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", Closed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", Closed),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Closed),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadReply),
        (b"SSH-2.0-OpenSSH\r\n\r\n", BadReply),
        (b"HTTP/1.1 abc\r\n\r\n", BadReply),
    ],
)
def test_broken_replies(raw, error):
    with pytest.raises(error):
        reply(raw)


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader(raw):
    with contextlib.suppress(OSError):
        reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    with contextlib.suppress(OSError):
        reply(raw)


def test_escapes():
    assert escape_path("/v1/kv/a b/%?#\udcff") == "/v1/kv/a%20b/%25%3F%23%FF"
    assert query_text([("a", "b&c"), ("stale", ""), ("d", "/é")]) == "?a=b%26c&stale&d=%2F%C3%A9"
    assert query_text([]) == ""


def test_json():
    assert decode_json(b' [1, {"a": "\\u00fc"}, null, 1.5e3]\n') == [1, {"a": "ü"}, None, 1500.0]
    for bad in (b"", b"{", b"1 2", b"nul", b"[1,]"):
        with pytest.raises(ValueError):
            decode_json(bad)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8500", "http://127.0.0.1:8500"),
        ("http://h:1", "http://h:1"),
        ("https://h", "https://h:443"),
        ("h", "http://h:80"),
        ("[::1]:8500", "http://[::1]:8500"),
        (":8500", "http://127.0.0.1:8500"),
        ("http://h:1/prefix/", "http://h:1/prefix"),
    ],
)
def test_addresses(text, url):
    assert Place(text).url == url


@pytest.mark.parametrize("text", ["ftp://h", "h:port", "http://h:70000"])
def test_bad_addresses(text):
    with pytest.raises(Usage):
        Place(text)


def ask(environment, flags=None):
    return Client(flags or {}, environment)


def test_order_of_settings(agent, tmp_path):
    environment = {"CONSUL_HTTP_ADDR": "127.0.0.1:1"}
    with pytest.raises(TransportError):
        ask(environment).get("/v1/status/leader")
    environment["CTL_HTTP_ADDR"] = agent.address
    assert ask(environment).get("/v1/status/leader").status == 200
    flags = {"http-addr": agent.address, "token": "of-flag"}
    assert ask({"CTL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_TOKEN": "x"}, flags).get("/").status == 404
    assert agent.requests[-1][3]["X-Consul-Token"] == "of-flag"
    secret = tmp_path / "token"
    secret.write_text("of-file\n")
    ask({**environment, "CTL_HTTP_TOKEN_FILE": str(secret), "CONSUL_HTTP_AUTH": "u:p"}).get("/")
    headers = agent.requests[-1][3]
    assert headers["X-Consul-Token"] == "of-file"
    assert headers["Authorization"] == "Basic dTpw"
    assert headers["Host"] == agent.address


def test_bad_settings():
    with pytest.raises(Failure, match="token file"):
        ask({"CTL_HTTP_ADDR": "h:1", "CTL_HTTP_TOKEN_FILE": "/no/such"})
    with pytest.raises(Usage, match="cannot be sent"):
        ask({"CTL_HTTP_ADDR": "h:1", "CTL_HTTP_TOKEN": "a\r\nb"})
    with pytest.raises(Usage, match="HTTP_SSL"):
        ask({"CTL_HTTP_SSL": "maybe"})


def serve(listener, answer):
    """Answer every connection with the same bytes."""

    def run():
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            with stream:
                stream.recv(65536)
                stream.sendall(answer)

    threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def unix_agent(tmp_path):
    path = tmp_path / "run" / "ctl" / "ctl.sock"
    path.parent.mkdir(parents=True, mode=0o700)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    serve(listener, OK)
    yield path
    listener.close()


def test_the_socket_is_tried_first(unix_agent, tmp_path):
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    client = ask(environment)
    assert client.place.unix == str(unix_agent)
    assert client.peer_pid() == os.getpid()
    assert client.get("/x").body == b"hi"
    assert ask({"CTL_SOCKET": str(unix_agent)}).get("/x").body == b"hi"
    assert ask({"CONSUL_HTTP_ADDR": f"unix://{unix_agent}"}).get("/x").body == b"hi"


def test_a_stale_socket_is_passed_over(tmp_path):
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    assert path.exists()
    assert ask({"CTL_SOCKET": str(path)}).place.url == "http://127.0.0.1:8500"
    assert ask({"CTL_SOCKET": str(path), "CTL_HTTP_SSL": "true"}).place.url == "https://127.0.0.1:8500"


def test_socket_paths_are_those_of_platformdirs(monkeypatch, tmp_path):
    import platformdirs

    runtime = tmp_path / "runtime"
    (runtime / "ctl").mkdir(parents=True, mode=0o700)
    runtime.chmod(0o700)
    (runtime / "ctl" / "ctl.sock").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path = str(platformdirs.user_runtime_path("ctl") / "ctl.sock")
    assert path in socket_paths(os.environ)


def test_go_s_words_for_failures(tmp_path, agent):
    with pytest.raises(TransportError) as caught:
        ask({"CTL_HTTP_ADDR": "127.0.0.1:1"}).put("/v1/kv/a b")
    text = 'Put "http://127.0.0.1:1/v1/kv/a%20b": dial tcp 127.0.0.1:1: connect: connection refused'
    assert str(caught.value) == text
    assert caught.value.kind == "unreachable"
    with pytest.raises(TransportError, match="dial unix /no/sock: connect: no such file or directory"):
        ask({"CTL_HTTP_ADDR": "unix:///no/sock"}).get("/")
    with pytest.raises(TransportError, match=r"dial tcp: lookup no\.such\.invalid: no such host"):
        ask({"CTL_HTTP_ADDR": "no.such.invalid:1"}).get("/")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(listener, b"")
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TransportError, match=f'^Get "http://{address}/": EOF$'):
            ask({"CTL_HTTP_ADDR": address}).get("/")
    agent.answers["/v1/x"] = b"{"
    with pytest.raises(TransportError, match="not JSON"):
        ask({"CTL_HTTP_ADDR": agent.address}).get("/v1/x").json()


def test_statuses(agent):
    agent.failures["/v1/x"] = (500, "No cluster leader")
    response = ask({"CTL_HTTP_ADDR": agent.address}).get("/v1/x")
    with pytest.raises(ServerError, match=r"^Unexpected response code: 500 \(No cluster leader\)$"):
        response.checked()


def test_a_closed_connection_is_replaced(eventually):
    """The next request of a series must not fail because the agent closed an idle connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(listener, OK)
        client = ask({"CTL_HTTP_ADDR": f"127.0.0.1:{listener.getsockname()[1]}"})
        for _ in range(5):
            assert client.get("/x").body == b"hi"
        for _ in range(5):
            eventually(lambda: client._connection is None or _closed(client._connection))
            assert client.put("/x", body=b"v").body == b"hi"


def test_an_early_refusal_is_read(agent):
    """An agent that refuses a body before it has read it is still heard."""
    refusal = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(listener, refusal)
        client = ask({"CTL_HTTP_ADDR": f"127.0.0.1:{listener.getsockname()[1]}"})
        try:
            assert client.put("/x", body=b"v" * 100).status == 413
        finally:
            client.close()


def test_deadline(agent):
    import time

    client = ask({"CTL_HTTP_ADDR": agent.address})
    client.deadline = time.monotonic() + 0.1
    with pytest.raises(TransportError, match="i/o timeout"):
        client.get("/v1/kv/a", [("index", str(agent.index))])
