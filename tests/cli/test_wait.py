"""`ctl wait` against a real agent: it ends when it is so, not before, and with 124 when it is late."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, until


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("wait"), dev=False) as found:
        yield found


def waiting(agent: Agent, *words: str) -> subprocess.Popen[bytes]:
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": agent.base}
    command = [*CTL, "wait", *words]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def asked(agent: Agent, path: str) -> None:
    """Until somebody's blocking query waits there."""

    def blocked() -> bool:
        gauges = agent.get("/v1/agent/metrics")["Gauges"]
        return any(one["Value"] for one in gauges if one["Name"].endswith("http.blocked_queries"))

    until(f"{path} is waited for", blocked)


def ends(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    out, _ = process.communicate(timeout=20)
    return process.returncode, out


def register(agent: Agent, name: str, count: int, status: str = "passing") -> None:
    for number in range(count):
        check = {"CheckID": f"{name}{number}", "TTL": "1h", "Status": status}
        service = {"ID": f"{name}{number}", "Name": name, "Port": 80, "Check": check}
        agent.put("/v1/agent/service/register", service)


@pytest.mark.parametrize(
    ("words", "before", "after", "said"),
    [
        (
            ("service", "web", "--passing", "3"),
            lambda agent: register(agent, "web", 2),
            lambda agent: register(agent, "web", 3),
            b"web: 3 passing\n",
        ),
        (
            ("kv", "done"),
            lambda agent: None,
            lambda agent: agent.put("/v1/kv/done", "yes"),
            b"yes\n",
        ),
        (
            ("kv", "version", "--value", "v2"),
            lambda agent: agent.put("/v1/kv/version", "v1"),
            lambda agent: agent.put("/v1/kv/version", "v2"),
            b"v2\n",
        ),
        (
            ("kv", "busy", "--absent"),
            lambda agent: agent.put("/v1/kv/busy", "x"),
            lambda agent: agent.http("DELETE", "/v1/kv/busy"),
            b"busy: absent\n",
        ),
        (
            ("check", "sick0"),
            lambda agent: register(agent, "sick", 1, "critical"),
            lambda agent: agent.put("/v1/agent/check/pass/sick0"),
            b"sick0: passing on ",
        ),
    ],
    ids=["service", "key", "value", "absent", "check"],
)
def test_it_ends_when_it_is_so(
    agent: Agent,
    words: tuple[str, ...],
    before: Callable[[Agent], None],
    after: Callable[[Agent], None],
    said: bytes,
) -> None:
    before(agent)
    process = waiting(agent, *words, "--timeout", "20s")
    asked(agent, words[0])
    assert process.poll() is None
    after(agent)
    code, out = ends(process)
    assert code == 0 and out.startswith(said)
    assert ends(waiting(agent, *words)) == (0, out)  # and at once when it is so already


def test_what_is_so_already(agent: Agent) -> None:
    assert ends(waiting(agent, "leader"))[0] == 0
    assert ends(waiting(agent, "members", "1")) == (0, b"1 members alive\n")


@pytest.mark.parametrize(
    "words", [("kv", "never"), ("service", "never"), ("members", "2"), ("check", "never")]
)
def test_the_time_is_up(agent: Agent, words: tuple[str, ...]) -> None:
    began = time.monotonic()
    process = waiting(agent, *words, "--timeout", "300ms")
    assert ends(process)[0] == 124
    assert time.monotonic() - began < 5


def test_a_restart_of_the_agent_is_waited_out(agent: Agent) -> None:
    process = waiting(agent, "kv", "later", "--timeout", "20s")
    asked(agent, "kv")
    agent.kill9()
    agent.start()
    agent.wait_leader()
    assert process.poll() is None
    agent.put("/v1/kv/later", "now")
    assert ends(process) == (0, b"now\n")


def test_nobody_there_in_time(agent: Agent) -> None:
    process = subprocess.run(
        [*CTL, "wait", "leader", "--timeout", "200ms", "-http-addr", "127.0.0.1:1"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert process.returncode == 124 and b"trying again" in process.stderr


@pytest.mark.parametrize("words", [("members", "many"), ("kv", "a", "--absent", "--value", "x"), ("kv",), ()])
def test_wrong_words(agent: Agent, words: tuple[str, ...]) -> None:
    assert ends(waiting(agent, *words))[0] == 1
