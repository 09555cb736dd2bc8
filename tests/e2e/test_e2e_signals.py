"""Whatever ends a parent, KILL included: its children go with it, and its exit code says what happened.

Locks and `ctl env` have their own matrix in tests/cli."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import Program, ctl, read
from tests.e2e.programs import MARK, marked
from tests.harness import Agent, until

# Each leaves its number, and has children of its own, one of them in the background.
CHILD = "echo $$ >> {}; sleep 1000 & exec sleep 1000"

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
WATCH = {signal.SIGTERM: 0, signal.SIGINT: 0, signal.SIGHUP: 129, signal.SIGQUIT: 131, signal.SIGKILL: -9}
TEMPLATE = {signal.SIGTERM: 143, signal.SIGINT: 12, signal.SIGQUIT: 131, signal.SIGKILL: -9}
AGENT = {signal.SIGTERM: 1, signal.SIGINT: 1, signal.SIGQUIT: -3, signal.SIGKILL: -9}


def begun(path: Path, times: int = 1) -> None:
    until(f"{path.name} has begun", lambda: read(path).count("\n") >= times)


def none_left(mark: str) -> None:
    until(f"nobody is left of {mark}", lambda: not marked(mark))


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_commands(dev_agent: Agent, tmp_path: Path, number: signal.Signals) -> None:
    """A handler of `ctl watch`, and the child of `ctl template`."""
    (tmp_path / "a.ctmpl").write_text("{{ 1 }}")
    mark = uuid.uuid4().hex
    with ExitStack() as stack:

        def start(name: str, *words: str) -> Program:
            known = {MARK: f"{mark}-{name}"}
            return stack.enter_context(ctl(dev_agent, tmp_path, *words, log=f"{name}.log", **known))

        watch = start("watch", "watch", "services", "--exec", CHILD.format("watch"))
        template = start("template", "template", "-template", "a.ctmpl:a", "-exec", CHILD.format("template"))
        begun(tmp_path / "watch")
        begun(tmp_path / "template")
        assert len(marked(f"{mark}-watch")) >= 4 and len(marked(f"{mark}-template")) >= 4
        watch.send(number)
        template.send(number)
        assert watch.wait() == WATCH[number]
        none_left(f"{mark}-watch")
        if number == signal.SIGHUP:  # the configuration is read again, and the child begins anew
            begun(tmp_path / "template", 2)
            assert template.process.poll() is None
            assert template.end() == TEMPLATE[signal.SIGINT]
        else:
            assert template.wait() == TEMPLATE[number]
        none_left(f"{mark}-template")


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_agents(make_agent: Callable[..., Agent], tmp_path: Path, number: signal.Signals) -> None:
    """A script check, and the handler of a watch."""
    mark = uuid.uuid4().hex
    check, handler = tmp_path / "check", tmp_path / "handler"
    words = {path: ["/bin/sh", "-c", CHILD.format(path)] for path in (check, handler)}
    config = {
        "enable_local_script_checks": True,
        "check": {"id": "c", "name": "c", "args": words[check], "interval": "1s", "timeout": "1h"},
        "watches": [{"type": "services", "args": words[handler]}],
    }
    agent = make_agent(config=config, environment={MARK: mark}).start()
    begun(check)
    begun(handler)
    assert len(marked(mark)) >= 6
    if number == signal.SIGHUP:  # the configuration is read again; who runs may go on
        agent.send_signal(number)
        until("it was reloaded", lambda: "Caught: signal=hangup" in agent.log_text())
        time.sleep(0.2)
        assert agent.get("/v1/agent/self")
        assert read(handler).count("\n") == 1
        assert agent.stop() == AGENT[signal.SIGTERM]
    else:
        assert agent.stop(number) == AGENT[number]
    none_left(mark)


def test_a_child_that_will_not_listen(
    dev_agent: Agent, make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    """Who ignores TERM gets KILL, seconds later."""
    mark = uuid.uuid4().hex
    stubborn = "trap '' TERM INT HUP QUIT; " + CHILD
    watches = [{"type": "services", "args": ["/bin/sh", "-c", stubborn.format(tmp_path / "handler")]}]
    agent = make_agent(config={"watches": watches}, environment={MARK: mark}).start()
    with ctl(
        dev_agent,
        tmp_path,
        "watch",
        "services",
        "--exec",
        stubborn.format("watch"),
        log="watch.log",
        **{MARK: mark},
    ) as watch:
        begun(tmp_path / "watch")
        begun(tmp_path / "handler")
        watch.send(signal.SIGKILL)
        agent.kill9()
        assert watch.wait() == -signal.SIGKILL
        assert marked(mark)
        none_left(mark)
