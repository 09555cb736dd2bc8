"""A small agent for the command line to talk to, and ways to run commands against it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli.main import run

ROOT = Path(__file__).resolve().parents[2]
N1 = "dab3cf9b-f050-279c-ae6c-f0d96bb72f1c"
N2 = "c4df1026-dcff-3e41-4791-f08891f9f3c7"


def member(name, address, role, **tags):
    base = {"role": role, "build": "1.9.8:", "dc": "dc1", "vsn": "2", "vsn_min": "2", "vsn_max": "3"}
    return {"Name": name, "Addr": address, "Port": 8301, "Tags": {**base, **tags}, "Status": 1}


def node(name, identity, address):
    tagged = {"lan": address, "lan_ipv4": address, "wan": address, "wan_ipv4": address}
    return {
        "ID": identity,
        "Node": name,
        "Address": address,
        "Datacenter": "dc1",
        "TaggedAddresses": tagged,
        "Meta": {"consul-network-segment": ""},
        "CreateIndex": 11,
        "ModifyIndex": 13,
    }


def check(node_name, identity, status, service="", output="", notes="", definition=None):
    return {
        "Node": node_name,
        "CheckID": identity,
        "Name": identity,
        "Status": status,
        "Notes": notes,
        "Output": output,
        "ServiceID": service,
        "ServiceName": service,
        "ServiceTags": [],
        "Type": "",
        "Definition": definition or {},
        "CreateIndex": 11,
        "ModifyIndex": 11,
    }


def service(identity, tags, port, address=""):
    return {
        "ID": identity,
        "Service": identity,
        "Tags": tags,
        "Address": address,
        "Meta": None,
        "Port": port,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
        "Connect": {},
        "CreateIndex": 180,
        "ModifyIndex": 182,
    }


NODES = [node("n1", N1, "127.0.0.1"), node("n2", N2, "127.0.0.2")]
SERF = check("n1", "serfHealth", "passing", output="Agent alive and reachable")
DB = [
    {"Node": NODES[0], "Service": service("db", ["a", "b"], 5432), "Checks": [SERF]},
    {
        "Node": NODES[1],
        "Service": service("db", ["b"], 5433, "10.0.0.9"),
        "Checks": [check("n2", "db-up", "critical", "db", "connect: refused\nafter 1 s")],
    },
]
CONSUL = [{"Node": NODES[0], "Service": service("consul", [], 8300), "Checks": [SERF]}]
NODE_FIELDS = ("ID", "Node", "Address", "Datacenter", "TaggedAddresses")


def canned():
    """The answers that do not depend on what was written, by path."""
    return {
        "/v1/agent/members": [
            member("n2", "127.0.0.2", "node"),
            member("n1", "127.0.0.1", "consul"),
        ],
        "/v1/agent/self": {
            "Config": {"NodeName": "n1", "Datacenter": "dc1", "Server": True, "Version": "1.9.8"},
            "DebugConfig": {},
            "Stats": {
                "build": {"prerelease": "", "revision": "", "version": "1.9.8"},
                "agent": {"checks": "0", "services": "1"},
            },
        },
        "/v1/agent/checks": {},
        "/v1/status/leader": "127.0.0.1:8300",
        "/v1/catalog/datacenters": ["dc1"],
        "/v1/catalog/nodes": NODES,
        "/v1/catalog/services": {"db": ["b", "a"], "consul": []},
        "/v1/catalog/service/db": [
            {**{name: entry["Node"][name] for name in NODE_FIELDS}, "NodeMeta": entry["Node"]["Meta"]}
            for entry in DB
        ],
        "/v1/catalog/service/zz": [],
        "/v1/catalog/node/n1": {"Node": NODES[0], "Services": {"db": DB[0]["Service"]}},
        "/v1/catalog/node/zz": None,
        "/v1/health/node/n1": [SERF],
        "/v1/health/service/db": DB,
        "/v1/health/service/consul": CONSUL,
        "/v1/health/service/zz": [],
        "/v1/health/checks/db": DB[1]["Checks"],
        "/v1/health/state/any": [SERF, DB[1]["Checks"][0]],
        "/v1/health/state/critical": DB[1]["Checks"],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer()

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        pass

    def answer(self):
        path, _, raw = self.path.partition("?")
        path = urllib.parse.unquote_to_bytes(path).decode("utf-8", "surrogateescape")
        query = dict(urllib.parse.parse_qsl(raw, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.agent.requests.append((self.command, self.path, body, dict(self.headers)))
        status, answer, index = self.server.agent.respond(self.command, path, query, body)
        self.send_response(status)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_header("Content-Length", str(len(data)))
        if index:
            self.send_header("X-Consul-Index", str(index))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self):
        stream, address = super().get_request()
        self.agent.streams.append(stream)
        return stream, address

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class FakeAgent:
    """KV with indexes and blocking reads; canned answers for the rest; every request is remembered."""

    def __init__(self, port=0, kv=None):
        self.requests = []
        self.streams = []
        self.answers = canned()
        self.failures = {}  # path -> (status, text)
        self.replies = {}  # "PUT /path" -> the answer of a write
        self.kv = kv or {}  # key -> entry
        self.index = 10
        self.changed = threading.Condition()
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.agent = self
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        """Stop as a process that dies does: every connection ends."""
        self.server.shutdown()
        self.server.server_close()
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        with self.changed:
            self.index += 1
            self.changed.notify_all()
        self.thread.join()

    def paths(self):
        return [f"{method} {path}" for method, path, _, _ in self.requests]

    def put(self, key, value, flags=0):
        with self.changed:
            self.index += 1
            before = self.kv.get(key)
            self.kv[key] = {
                "LockIndex": 0,
                "Key": key,
                "Flags": flags,
                "Value": base64.b64encode(value).decode() if value else None,
                "CreateIndex": before["CreateIndex"] if before else self.index,
                "ModifyIndex": self.index,
            }
            self.changed.notify_all()

    def delete(self, key):
        with self.changed:
            self.index += 1
            self.kv.pop(key, None)
            self.changed.notify_all()

    def change(self, path, answer):
        with self.changed:
            self.index += 1
            self.answers[path] = answer
            self.changed.notify_all()

    def respond(self, method, path, query, body):
        if path in self.failures:
            status, text = self.failures[path]
            return status, text.encode(), 0
        if path.startswith("/v1/kv/"):
            return self.respond_kv(method, path.removeprefix("/v1/kv/"), query, body)
        if method == "GET":
            self.wait(query)
            if path not in self.answers:
                return 404, b"", 0
            return 200, self.answers[path], self.index
        return 200, self.replies.get(f"{method} {path}", b""), 0

    def wait(self, query):
        wanted = int(query.get("index", 0))
        with self.changed:
            self.changed.wait_for(lambda: self.index > wanted or not wanted or self.index < wanted, 20)

    def respond_kv(self, method, key, query, body):
        if method == "PUT":
            return (
                200,
                self.conditional(key, query, lambda: self.put(key, body, int(query.get("flags", 0)))),
                0,
            )
        if method == "DELETE":
            doomed = [k for k in self.kv if k.startswith(key)] if "recurse" in query else [key]
            return 200, self.conditional(key, query, lambda: [self.delete(one) for one in doomed]), 0
        self.wait(query)
        if "keys" in query or "recurse" in query:
            found = [self.kv[name] for name in sorted(self.kv) if name.startswith(key)]
            if not found:
                return 404, b"", self.index
            if "recurse" in query:
                return 200, found, self.index
            return 200, self.names(found, key, query.get("separator", "")), self.index
        if key not in self.kv:
            return 404, b"", self.index
        if "raw" in query:
            return 200, base64.b64decode(self.kv[key]["Value"] or ""), self.index
        return 200, [self.kv[key]], self.kv[key]["ModifyIndex"]

    def conditional(self, key, query, act):
        current = self.kv[key]["ModifyIndex"] if key in self.kv else 0
        if "cas" in query and int(query["cas"]) != current:
            return False
        act()
        return True

    @staticmethod
    def names(found, prefix, separator):
        names = {}
        for entry in found:
            cut = entry["Key"].find(separator, len(prefix)) if separator else -1
            names[entry["Key"] if cut < 0 else entry["Key"][: cut + len(separator)]] = True
        return list(names)


class Result:
    def __init__(self, code, out, err):
        self.code, self.raw, self.err = code, out, err

    @property
    def out(self):
        return self.raw.decode("utf-8", "surrogateescape")


class Stream(io.TextIOWrapper):
    def isatty(self):
        return False


@pytest.fixture
def clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("CTL_", "CONSUL_")) or name in ("NO_COLOR", "COLUMNS", "TERM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def agent(clean_environment, monkeypatch):
    fake = FakeAgent()
    monkeypatch.setenv("CTL_HTTP_ADDR", fake.address)
    yield fake
    fake.close()


@pytest.fixture
def ctl(clean_environment, monkeypatch: pytest.MonkeyPatch):
    """Run a command in this process, piped: `ctl("kv", "get", "a").out`."""

    def call(*words, stdin=b"", name="ctl"):
        out, err = Stream(io.BytesIO(), "utf-8"), Stream(io.BytesIO(), "utf-8", errors="backslashreplace")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", Stream(io.BytesIO(stdin), "utf-8"))
            code = run(list(words), name)
        err.flush()
        return Result(code, out.buffer.getvalue(), err.buffer.getvalue().decode())

    return call


@pytest.fixture
def spawn(clean_environment):
    """Start a command as a process of its own."""
    started = []

    def start(*words, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen([sys.executable, "-m", "cli", *words], env=environment, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def terminal(clean_environment, monkeypatch: pytest.MonkeyPatch):
    """Run a command in this process, on a pseudo-terminal of a given width; its output as text."""

    def call(*words, columns=80, env=None):
        leader, follower = pty.openpty()
        pieces = []
        reader = threading.Thread(target=lambda: pieces.extend(everything(leader)))
        reader.start()
        with monkeypatch.context() as patch:
            for name, value in {"COLUMNS": str(columns), **(env or {})}.items():
                patch.setenv(name, value)
            with open(follower, "r+b", buffering=0) as raw:
                screen = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", write_through=True)
                for name in ("stdin", "stdout", "stderr"):
                    patch.setattr(sys, name, screen)
                code = run(list(words))
                screen.close()
        reader.join(20)
        os.close(leader)
        return Result(code, b"".join(pieces).replace(b"\r\n", b"\n"), "")

    return call


def everything(descriptor):
    """What can be read from a pseudo-terminal until its other side is closed."""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            return
        if not piece:
            return
        yield piece


def eventually(condition, seconds=10.0):
    """Wait until `condition()` holds and give what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually
