"""Starting and ending: in time, as test harnesses written for Consul do it, with its exit codes."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from core.version import CONSUL_VERSION
from tests.harness import CTL, ROOT, Agent, own_address, until

TOGETHER = 1.0  # seconds from exec to HTTP, two agents at once, on a quiet machine
LEADER = 0.5  # seconds more until there is a leader in dev mode
# What two interpreters that import an event loop need on the quiet machine that the limits are for.
YARDSTICK = 0.17


def _slowness() -> float:
    """How much slower than that machine this one is right now (1 at least)."""
    began = time.monotonic()
    both = [subprocess.Popen([sys.executable, "-c", "import asyncio, uvloop"]) for _ in range(2)]
    for process in both:
        process.wait()
    return max(1.0, (time.monotonic() - began) / YARDSTICK)


def _seconds_until(began: float, what: str, found: Callable[[], object]) -> float:
    until(what, found, pause=0.005)
    return time.monotonic() - began


def _answers(agent: Agent) -> bool:
    try:
        return agent.http("GET", "/v1/agent/self", timeout=5).status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_two_at_once_answer_in_time(make_agent: Callable[..., Agent]) -> None:
    """The best of three: others work on this machine too."""
    seen = []
    for _ in range(3):
        slowness = _slowness()
        agents = [make_agent(), make_agent()]
        began = time.monotonic()
        for agent in agents:
            agent.start(wait=False)
        answered = max(_seconds_until(began, "HTTP answers", partial(_answers, agent)) for agent in agents)
        led = max(
            _seconds_until(began, "a leader", partial(agent.get, "/v1/status/leader")) for agent in agents
        )
        for agent in agents:
            agent.end()
        seen.append(f"HTTP {answered:.2f} s, leader {led:.2f} s, machine {slowness:.1f} times slower")
        if answered <= TOGETHER * slowness and led <= (TOGETHER + LEADER) * slowness:
            return
    pytest.fail("; ".join(seen))


@pytest.mark.parametrize("dash", ["-", "--"])
@pytest.mark.parametrize("joint", ["=", " "])
def test_as_harnesses_start_it(tmp_path: Path, dash: str, joint: str) -> None:
    address = own_address()
    flags = [("node", "n1"), ("bind", address), ("client", address), ("log-level", "debug")]
    words = [f"{dash}dev"]
    for name, value in flags:
        words += [f"{dash}{name}={value}"] if joint == "=" else [f"{dash}{name}", value]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*CTL, "agent", *words], cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
    try:
        agent = Agent(tmp_path, address=address)
        agent.process = process
        until("it answers", lambda: _answers(agent))
        config = agent.get("/v1/agent/self")["Config"]
        assert config["NodeName"] == "n1"
        assert config["Version"] == CONSUL_VERSION == "1.9.8"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 1)
        assert "[INFO]  agent: " in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_empty_second_file_is_filled_before_a_reload(
    make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    second = tmp_path / "second.json"
    second.write_text("")
    agent = make_agent(config={"segments": None, "addresses": {}}, flags=["-config-file", str(second)])
    agent.start()
    assert agent.get("/v1/agent/services") == {}
    second.write_text('{"service": {"name": "web", "port": 80}}')
    agent.put("/v1/agent/reload")
    assert set(agent.get("/v1/agent/services")) == {"web"}


def test_https_port_without_a_certificate_does_not_stop_it(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent(config={"ports": {"https": 8501}, "connect": {"enabled": True}, "ui": True})
    agent.start()
    assert agent.http("GET", "/v1/status/leader").status == 200


@pytest.mark.parametrize(
    ("number", "config", "code"),
    [
        (signal.SIGTERM, {}, 1),  # servers do not leave on SIGTERM
        (signal.SIGINT, {}, 1),  # nor on SIGINT
        (signal.SIGTERM, {"leave_on_terminate": True}, 0),
        (signal.SIGINT, {"skip_leave_on_interrupt": False}, 0),
    ],
)
def test_signals_end_it(
    make_agent: Callable[..., Agent], number: int, config: dict[str, bool], code: int
) -> None:
    agent = make_agent(dev=False, config=config)
    agent.start()
    assert agent.stop(number, deadline=15) == code


def test_pid_file_lives_as_long_as_the_agent(make_agent: Callable[..., Agent], tmp_path: Path) -> None:
    path = tmp_path / "pid"
    agent = make_agent(dev=False, flags=["-pid-file", str(path)])
    agent.start()
    assert int(path.read_text()) == agent.pid
    agent.stop()
    assert not path.exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["-log-level", "zork"],
            "Invalid log level: zork. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]",
        ),
        (["-bogus"], "flag provided but not defined: -bogus"),
        (["-config-file", "/nonexistent.json"], "nonexistent.json"),
    ],
)
def test_what_it_cannot_start_with_is_said(tmp_path: Path, flags: list[str], text: str) -> None:
    address = own_address()
    command = [*CTL, "agent", "start", "-dev", "-bind", address, "-client", address, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_taken_port_is_said(make_agent: Callable[..., Agent]) -> None:
    first = make_agent()
    first.start()
    command = [*CTL, "agent", "start", "-dev", "-bind", first.address, "-client", first.address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "address already in use" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stdout + done.stderr
    assert first.http("GET", "/v1/status/leader").status == 200


def test_log_goes_where_it_is_told(make_agent: Callable[..., Agent], tmp_path: Path) -> None:
    agent = make_agent(flags=["-log-file", f"{tmp_path}/logs/", "-log-json"])
    agent.start()
    (path,) = (tmp_path / "logs").iterdir()
    assert '"@level":"info"' in path.read_text()


def test_idle_agent_sleeps(dev_agent: Agent) -> None:
    """0.3 % of a core is what Consul needs; a wake-up a second would cost more here."""
    dev_agent.wait_leader()
    time.sleep(1)
    before = dev_agent.cpu()
    time.sleep(4)
    assert dev_agent.cpu() - before <= 0.03, "more than 0.75 % of a core for nothing"
