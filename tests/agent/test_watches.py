"""The watches of the configuration, in a real agent: each change is told once, whatever else happens."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Agent, until


class Told:
    """A file to which a handler writes what it was told, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.args = ["/bin/sh", "-c", f"cat >> {path}"]

    @property
    def payloads(self) -> list[Any]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def until(self, count: int) -> list[Any]:
        until(f"told {count} times", lambda: len(self.payloads) >= count)
        return self.payloads


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "told")


def started(folder: Path, *watches: dict[str, Any]) -> Agent:
    return Agent(folder, dev=False, config={"watches": list(watches)})


def values(payloads: list[Any]) -> list[str | None]:
    return [payload and payload["Value"] for payload in payloads]


def test_a_change_is_told_once_over_reloads_and_restarts(tmp_path: Path, told: Told) -> None:
    with started(tmp_path, {"type": "key", "key": "a", "args": told.args}) as agent:
        assert told.until(1) == [None]
        agent.put("/v1/kv/a", "1")
        told.until(2)
        agent.put("/v1/kv/a", "1")  # nothing new
        for _ in range(3):
            agent.put("/v1/agent/reload")
        agent.put("/v1/kv/a", "2")
        assert values(told.until(3)) == [None, "MQ==", "Mg=="]
        state = tmp_path / "data" / "watches"
        until("it is kept", lambda: state.is_dir() and len(list(state.iterdir())) == 1)
        agent.restart()
        agent.put("/v1/kv/b", "x")
        agent.put("/v1/kv/a", "3")
        assert values(told.until(4)) == [None, "MQ==", "Mg==", "Mw=="]


def test_initial_asks_for_a_run_at_every_start(tmp_path: Path, told: Told) -> None:
    with started(tmp_path, {"type": "key", "key": "a", "args": told.args, "initial": True}) as agent:
        told.until(1)
        agent.restart()
        assert told.until(2) == [None, None]


def test_events_are_told_once(tmp_path: Path, told: Told) -> None:
    with started(tmp_path, {"type": "event", "name": "deploy", "args": told.args}) as agent:
        for number in range(3):
            agent.put("/v1/event/fire/deploy", str(number))
            told.until(number + 1)
        agent.put("/v1/event/fire/other")
        agent.put("/v1/agent/reload")
        agent.put("/v1/event/fire/deploy", "last")
        payloads = told.until(4)
    assert [len(events) for events in payloads] == [1, 1, 1, 1]
    assert len({events[0]["ID"] for events in payloads}) == 4


def test_what_changed(tmp_path: Path, told: Told) -> None:
    with started(tmp_path, {"type": "keyprefix", "prefix": "a/", "args": told.args, "diff": True}) as agent:
        assert told.until(1)[0] == {"Current": None, "Added": [], "Removed": [], "Changed": []}
        agent.put("/v1/kv/a/x", "1")
        assert [item["Key"] for item in told.until(2)[1]["Added"]] == ["a/x"]
        agent.restart()  # what was told last is known after a restart too
        agent.put("/v1/kv/a/x", "2")
        change = told.until(3)[2]
        assert not change["Added"] and not change["Removed"]
        assert [(item["From"]["Value"], item["To"]["Value"]) for item in change["Changed"]] == [
            ("MQ==", "Mg==")
        ]
        agent.http("DELETE", "/v1/kv/a/x")
        assert [item["Key"] for item in told.until(4)[3]["Removed"]] == ["a/x"]


def test_handlers_never_run_twice_at_a_time(tmp_path: Path, told: Told) -> None:
    marks = tmp_path / "marks"
    script = f"echo begin >> {marks}; cat >> {told.path}; sleep 0.1; echo end >> {marks}"
    with started(tmp_path, {"type": "key", "key": "a", "args": ["/bin/sh", "-c", script]}) as agent:
        for number in range(10, 50):
            agent.put("/v1/kv/a", str(number))
            if number % 10 == 0:
                agent.put("/v1/agent/reload")
        until("it is told the last value", lambda: told.payloads and values(told.payloads)[-1] == "NDk=")
        until("all have ended", lambda: marks.read_text().count("end") == len(told.payloads))
    lines = marks.read_text().splitlines()
    assert set(lines[::2]) == {"begin"} and set(lines[1::2]) == {"end"}


def test_a_reload_ends_what_is_gone_and_starts_what_is_new(tmp_path: Path, told: Told) -> None:
    other = Told(tmp_path / "other")
    with started(tmp_path, {"type": "key", "key": "a", "args": told.args}) as agent:
        told.until(1)
        agent.write_config({"watches": [{"type": "key", "key": "b", "args": other.args}]})
        agent.put("/v1/agent/reload")
        other.until(1)
        agent.put("/v1/kv/a", "1")
        agent.put("/v1/kv/b", "1")
        assert len(other.until(2)) == 2
        assert told.payloads == [None]


def test_a_failing_handler_is_logged_and_the_watch_goes_on(tmp_path: Path) -> None:
    watches = (
        {"type": "key", "key": "a", "args": ["/bin/sh", "-c", "exit 5"]},
        {"type": "nodes", "args": ["/no/such/program"]},
        {"type": "connect_roots", "args": ["true"]},
    )
    with started(tmp_path, *watches) as agent:
        until("it failed", lambda: agent.log_text().count("exit status 5") == 1)
        agent.put("/v1/kv/a", "1")
        until("it failed again", lambda: agent.log_text().count("exit status 5") == 2)
        until("none to run", lambda: "no such file" in agent.log_text())
        assert "no mesh to watch" in agent.log_text()


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An HTTP server that notes what it is told, and answers 500 to the first."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers.items()), body))
            self.send_response(500 if len(got) == 1 else 200)
            self.end_headers()
            self.wfile.write(b"not now")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/watch", got
    server.shutdown()
    server.server_close()


def test_handlers_by_http(tmp_path: Path, receiver: tuple[str, list[tuple[dict[str, str], bytes]]]) -> None:
    url, got = receiver
    config = {"path": url, "method": "PUT", "header": {"X-Foo": ["bar"]}, "timeout": "5s"}
    watch = {"type": "key", "key": "a", "handler_type": "http", "http_handler_config": config}
    with started(tmp_path, watch) as agent:
        until("it was told", lambda: len(got) == 1)
        agent.put("/v1/kv/a", "1")
        until("it was told again", lambda: len(got) == 2)
        assert "http watch handler failed" in agent.log_text() and "not now" in agent.log_text()
    headers, body = got[1]
    assert got[0][1] == b"null" and json.loads(body)["Value"] == "MQ=="
    assert headers["X-Foo"] == "bar" and headers["Content-Type"] == "application/json"
    assert int(headers["X-Consul-Index"]) > 1


def test_a_handler_that_ends_well_when_the_agent_stops_has_been_told(tmp_path: Path, told: Told) -> None:
    script = f"trap 'echo; exit 0' TERM; cat >> {told.path}; while :; do sleep 0.05; done"
    with started(tmp_path, {"type": "key", "key": "a", "args": ["/bin/sh", "-c", script]}) as agent:
        told.until(1)
        agent.restart()
        agent.put("/v1/kv/a", "1")
        assert values(told.until(2)) == [None, "MQ=="]


def test_a_service_that_is_restored_is_no_change(tmp_path: Path, told: Told) -> None:
    with started(tmp_path, {"type": "service", "service": "web", "args": told.args}) as agent:
        told.until(1)
        agent.put("/v1/agent/service/register", {"Name": "web", "Port": 80})
        told.until(2)
        before = agent.get("/v1/catalog/service/web")
        agent.restart()
        agent.put("/v1/agent/service/register", {"Name": "other", "Port": 80})
        until("it syncs", lambda: agent.get("/v1/catalog/service/other"))
        assert agent.get("/v1/catalog/service/web") == before
        assert len(told.payloads) == 2
