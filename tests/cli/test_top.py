"""`ctl top`: what is drawn fits every terminal, and the screen survives its agent."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cli.terminal import ago
from cli.topdata import Event, Frame, Server, rate, servers_of
from cli.topview import Scene, service_state, shares
from tests.cli.conftest import ROOT, FakeAgent, canned

HEALTH = {
    "FailureTolerance": 1,
    "Servers": [
        {"Name": name, "Leader": name == "n1", "Voter": True, "Healthy": True, "LastIndex": index}
        | {"LastContact": "16.029391ms"}
        for name, index in (("n1", 120), ("n3", 117))
    ],
}
UI = [
    {"Name": name, "InstanceCount": 2, "ChecksPassing": 1, "ChecksWarning": warn, "ChecksCritical": crit}
    for name, warn, crit in (("api", 0, 0), ("db", 0, 1), ("web", 1, 0))
]
METRICS = {
    "Timestamp": "2026-01-02 03:04:10 +0000 UTC",
    "Gauges": [{"Name": "consul.n1.http.blocked_queries", "Value": 7}],
    "Samples": [
        {"Name": "consul.api.http", "Count": 30, "Labels": {"path": "v1_kv_"}},
        {"Name": "consul.api.http", "Count": 12, "Labels": {"path": "v1_agent_self"}},
        {"Name": "consul.http.GET.v1.kv.", "Count": 30, "Labels": {}},
    ],
}


def answers():
    return {
        "/v1/operator/autopilot/health": HEALTH,
        "/v1/internal/ui/services": UI,
        "/v1/agent/metrics": METRICS,
    }


@pytest.fixture
def seen(agent):
    agent.answers |= answers()
    return agent


# Parts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (86400 * 4.5, "4d")],
)
def test_time_spans(seconds, text):
    assert ago(seconds) == text


def test_rates_leave_our_own_requests_out():
    began = 1767323050.0
    assert rate(METRICS, []) == 4.2
    assert rate(METRICS, [began - 0.1, began, began + 9.9, began + 10]) == 4.0
    assert rate(METRICS, [began] * 99) == 0.0
    assert rate({}, []) == rate({"Timestamp": "soon", "Samples": None}, []) == 0.0


def test_lag():
    found = servers_of(HEALTH)
    assert {name: one.lag for name, one in found.items()} == {"n1": 0, "n3": 3}
    assert servers_of({"Servers": None}) == {}
    headless = {"Servers": [{**one, "Leader": False} for one in HEALTH["Servers"]]}
    assert servers_of(headless)["n3"].lag == 3


@given(st.integers(0, 80), st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_shares(rows, wanted):
    given = shares(rows, wanted)
    assert sum(given) <= max(rows, len(wanted))
    assert all(
        got <= want or sum(given) == max(rows, len(wanted)) for got, want in zip(given, wanted, strict=True)
    )
    if sum(wanted) <= rows:
        assert given == wanted


def frame(members, services, servers=True):
    return Frame(
        node="n1",
        datacenter="dc1",
        catalog_index=9,
        members=[
            {
                "Name": f"node-{number}-\x1b[31m{'long' * (number % 7)}",
                "Addr": f"10.0.0.{number}",
                "Status": number % 5,
                "Tags": {"role": "consul" if number < 3 else "node"},
            }
            for number in range(members)
        ],
        servers={f"node-{n}-\x1b[31m": Server(n == 0, True, True, 10**n, n, "1ms") for n in range(3)}
        if servers
        else None,
        leader="node-0" if members else "",
        tolerance=1,
        services=[
            {**UI[number % 3], "Name": f"service-{number}" * (number % 4 + 1)} for number in range(services)
        ],
        rate=12.34,
        blocked=3,
        refused=["/v1/agent/metrics: Permission denied"] * (services % 2),
    )


@settings(max_examples=60)
@given(
    width=st.integers(60, 220),
    height=st.integers(14, 60),
    members=st.integers(0, 40),
    services=st.integers(0, 40),
    events=st.integers(0, 40),
    servers=st.booleans(),
    silent=st.booleans(),
)
def test_every_picture_fits(width, height, members, services, events, servers, silent):
    scene = Scene()
    scene.frame = frame(members, services, servers)
    scene.events = [
        Event(float(number), "check \x1b]0;" + "long " * number, "passing") for number in range(events)
    ]
    scene.silent = 'Get "http://127.0.0.1:8500/v1/agent/members": connection refused' if silent else ""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(scene.draw(width, height))
    lines = console.file.getvalue().split("\n")[:-1]
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith("q: quit")


@pytest.mark.parametrize("width", [80, 140])
def test_what_is_not_well_comes_first(width):
    scene = Scene()
    scene.frame = frame(12, 9)
    console = Console(file=io.StringIO(), width=width, height=30)
    console.print(scene.draw(width, 30))
    text = console.file.getvalue()
    assert re.search(r"Node .*\n *node-4-\S+ +10.0.0.4 +failed", text)
    states = re.findall(r"\b(critical|warning|passing)\b", text)
    assert states == sorted(states, key=("critical", "warning", "passing").index)
    assert service_state(UI[1]) == "critical"


# One frame


def test_one_frame_of_an_agent_that_has_no_stream_of_changes(ctl, seen):
    result = ctl("top", "--once")
    assert (result.code, result.err) == (0, "")
    assert "leader n1  servers healthy  1 may fail" in result.out
    assert re.search(r"n1 +127.0.0.1 +alive +leader +120 +0 +16ms", result.out)
    assert re.search(r"db +critical +2 +1 +0 +1", result.out)
    assert ctl("top", "--once", "--quiet").out == "n1\n"


def test_one_frame_of_a_real_agent(dev_agent):
    dev_agent.put("/v1/agent/service/register", {"Name": "top-service"})
    done = dev_agent.ctl("top", "--once")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert re.search(r"leader \S+  servers healthy", text)
    assert re.search(r"top-service +passing +1 ", text)
    assert "service top-service" in text
    document = json.loads(dev_agent.ctl("top", "--once", "-o", "json").stdout)
    assert document["Leader"] == document["Node"] == document["Servers"][0]["Name"]
    assert document["Members"][0]["Status"] == "alive"
    dev_agent.put("/v1/agent/service/deregister/top-service")


def test_nobody_there(ctl, clean_environment):
    result = ctl("top", "--once", "-http-addr=127.0.0.1:1")
    assert result.code == 1 and "connection refused" in result.err


def test_it_draws_on_terminals_only(ctl, seen):
    assert ctl("top").code == 1
    assert "--once" in ctl("top").err
    assert seen.requests == []


# The screen


class Screen:
    """A command on a pseudo-terminal."""

    def __init__(self, address, columns, lines, *words, command=("top",)):
        self.leader, self.follower = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.follower)
        self.text = ""

        def prepare():
            os.setsid()
            fcntl.ioctl(self.follower, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", *command, *words],
            preexec_fn=prepare,
            cwd=ROOT,
            env={**os.environ, "CTL_HTTP_ADDR": address, "TERM": "xterm-256color", "NO_COLOR": "1"},
            stdin=self.follower,
            stdout=self.follower,
            stderr=self.follower,
        )

    def resize(self, columns, lines):
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, *texts):
        """Until all of these were shown since the last call."""
        end = time.monotonic() + 15
        shown = ""
        while not all(text in shown for text in texts):
            assert time.monotonic() < end, (texts, shown[-3000:])
            if select.select([self.leader], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.text += os.read(self.leader, 65536).decode()
            shown = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", self.text)
        self.text = ""
        return shown

    def type(self, text):
        os.write(self.leader, text)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self.follower)


@pytest.fixture
def screen(seen):
    made = []

    def start(*words, columns=80, lines=24):
        made.append(Screen(seen.address, columns, lines, "--interval=200ms", *words))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (140, 40)])
@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03", b"\x04", b"\x1b"])
def test_the_screen_and_its_end(screen, columns, lines, key):
    shown = screen(columns=columns, lines=lines)
    drawn = shown.until("ctl top  dc1 via n1", "leader n1", "db ", "critical", "q: quit")
    last = drawn[drawn.rindex("ctl top") :].replace("\r", "")
    assert max(len(line) for line in last.split("\n")) <= columns
    shown.type(key)
    assert shown.process.wait(10) == 0
    os.set_blocking(shown.leader, False)
    rest = os.read(shown.leader, 65536)
    assert b"\x1b[?1049l" in rest and b"\x1b[?25h" in rest  # the screen and the cursor of before
    assert termios.tcgetattr(shown.follower) == shown.before


def test_a_signal_restores_the_terminal(screen):
    shown = screen()
    shown.until("q: quit")
    shown.process.send_signal(signal.SIGTERM)
    assert shown.process.wait(10) == 128 + signal.SIGTERM
    assert termios.tcgetattr(shown.follower) == shown.before


def test_a_stop_key_does_not_leave_it_half_drawn(screen):
    shown = screen()
    shown.until("q: quit")
    shown.type(b"\x1a")
    shown.until("q: quit")
    assert shown.process.poll() is None


def test_a_resized_terminal(screen):
    shown = screen(columns=140, lines=40)
    shown.until("Contact   Service")  # side by side
    shown.resize(80, 24)
    drawn = shown.until("Crit", "q: quit")
    drawn += shown.until("Crit", "q: quit")
    last = drawn[drawn.rindex("ctl top") :]
    assert "Contact   Service" not in last


def test_what_changes_is_shown(screen, seen):
    shown = screen()
    shown.until("leader n1")
    members = seen.answers["/v1/agent/members"]
    seen.change("/v1/agent/members", [*members, {**members[0], "Name": "n9", "Status": 4}])
    shown.until("n9", "failed", "3 members")


def test_a_restart_of_the_agent_is_told_and_waited_out(screen, seen):
    shown = screen()
    shown.until("leader n1")
    seen.close()
    shown.until("the agent does not answer", "connection refused")
    again = FakeAgent(port=seen.port)
    again.answers = {**canned(), **answers()}
    try:
        shown.until("leader n1  servers healthy")
    finally:
        shown.type(b"q")
        assert shown.process.wait(10) == 0
        again.close()


def test_what_the_token_may_not_see(screen, seen):
    seen.failures["/v1/operator/autopilot/health"] = (403, "Permission denied")
    seen.failures["/v1/agent/metrics"] = (403, "Permission denied")
    shown = screen()
    shown.until("leader n1", "Permission denied", "db ")


def test_without_a_leader(screen, seen):
    for path in ("/v1/operator/autopilot/health", "/v1/internal/ui/services"):
        seen.failures[path] = (500, "No cluster leader")
    seen.answers["/v1/status/leader"] = ""
    screen().until("no leader", "n1", "q: quit")
