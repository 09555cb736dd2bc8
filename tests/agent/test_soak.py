"""What happens a thousand times must not add up: descriptors, tasks and memory stay flat."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import NamedTuple

from tests.bench.load import wake
from tests.harness import Agent, until

RELOADS = 1000
BLOCKED, WAVE = 5000, 500
SLACK_BYTES = 6_000_000  # an allocator's arenas; a leak of 6 kB a reload would show
CONFIG = {
    "limits": {"http_max_conns_per_client": 2 * WAVE},
    "services": [
        {"name": "web", "port": 80, "check": {"id": "web-ttl", "name": "ttl", "ttl": "10m"}},
        {"name": "db", "port": 5432, "tags": ["a", "b"]},
    ],
    "recursors": ["127.0.0.1"],
}


class Footprint(NamedTuple):
    """What an agent holds."""

    descriptors: int
    tasks: int
    memory: int


def _footprint(agent: Agent) -> Footprint:
    gauges = {
        row["Name"].rpartition("runtime.")[2]: row["Value"]
        for row in agent.get("/v1/agent/metrics")["Gauges"]
    }
    return Footprint(agent.descriptors(), int(gauges["num_goroutines"]), agent.resident())


def _is_flat(agent: Agent, before: Footprint) -> None:
    """Back to what it was, within what one request under way may hold."""
    last = before

    def settled() -> bool:
        nonlocal last
        last = _footprint(agent)
        return last.descriptors <= before.descriptors + 1 and last.tasks <= before.tasks + 1

    until(f"descriptors and tasks are as before ({before}, now {last})", settled)
    assert last.memory <= before.memory + SLACK_BYTES, f"{last.memory - before.memory} bytes more than before"


def _reload(agent: Agent, number: int) -> None:
    """Each reload changes something: a service comes and goes, a tag and the log level alternate."""
    config = json.loads(json.dumps(CONFIG))
    config["services"][1]["tags"] = [f"tag{number % 2}"]
    config["log_level"] = ("INFO", "WARN")[number % 2]
    if number % 3 == 0:
        del config["services"][0]
    agent.write_config(config)
    agent.put("/v1/agent/reload")


def test_reloads_leave_nothing_behind(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(config=CONFIG)
    agent.start()
    for number in range(100):
        _reload(agent, number)
    before = _footprint(agent)
    for number in range(RELOADS):
        _reload(agent, number)
    _is_flat(agent, before)
    _reload(agent, 4)
    assert set(agent.get("/v1/agent/services")) == {"web", "db"}
    assert agent.get("/v1/agent/services")["db"]["Tags"] == ["tag0"]


def test_sighup_in_a_burst_is_survived(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(config=CONFIG)
    agent.start()
    for number in range(200):
        if number == 100:
            agent.write_config({**CONFIG, "services": [{"name": "late", "port": 1}]})
        agent.send_signal(signal.SIGHUP)
    agent.send_signal(signal.SIGHUP)
    until("the last configuration counts", lambda: set(agent.get("/v1/agent/services")) == {"late"})


def test_broken_file_changes_nothing(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(config=CONFIG)
    agent.start()
    services = agent.get("/v1/agent/services")
    agent.config_file.write_text('{"services": [{"name": "web", "port": "eighty"}]}')
    answer = agent.http("PUT", "/v1/agent/reload")
    assert answer.status == 500
    assert agent.get("/v1/agent/services") == services


def _wave(agent: Agent, path: str) -> float:
    """500 clients wait on `path`, one write wakes them all."""
    agent.put("/v1/kv/soak/woken", "x")
    index = agent.http("GET", f"{path}").consul_index
    join = "&" if "?" in path else "?"
    return wake(
        (agent.address, agent.http_port), f"{path}{join}index={index}&wait=60s", "/v1/kv/soak/woken", WAVE
    )


def _abandon(agent: Agent) -> None:
    """100 clients wait for what never comes, and leave without a word."""
    connections = [agent.connect() for _ in range(100)]
    for number, connection in enumerate(connections):
        # Different questions: each has a watch of its own.
        target = f"/v1/kv/soak/never{number}?index=1000000&wait=9m"
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    for connection in connections:
        connection.close()


def test_blocking_queries_leave_nothing_behind(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(config=CONFIG)
    agent.start()
    paths = ("/v1/kv/soak/woken", "/v1/kv/soak?recurse")
    quiet = agent.descriptors()
    for path in paths:  # buffers and caches find their size
        _wave(agent, path)
        _abandon(agent)
    # a connection of the server to itself, with two ends, may have come since
    until("those who left are gone", lambda: agent.descriptors() <= quiet + 3)
    before = _footprint(agent)
    for number in range(BLOCKED // WAVE):
        _wave(agent, paths[number % 2])
        _abandon(agent)
    _is_flat(agent, before)
