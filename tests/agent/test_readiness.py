"""What a service manager hears: systemd's READY=1, once the agent serves and has joined."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent import readiness
from tests.harness import DEADLINE, Agent


def manager(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(path)
    listening.settimeout(DEADLINE)
    return listening


def test_said_to_the_socket_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(str(tmp_path / "s")) as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
        readiness.ready()
        assert listening.recv(100) == b"READY=1"


def test_a_name_outside_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ctl-test{tmp_path}"
    with manager("\0" + name) as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        readiness.ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "/no/such"])
def test_nobody_listens(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    readiness.ready()


def test_an_agent_says_it_when_it_can_be_asked(tmp_path: Path) -> None:
    with manager(str(tmp_path / "s")) as listening:
        agent = Agent(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "s")})
        try:
            agent.start(wait=False)
            assert listening.recv(100) == b"READY=1"
            assert agent.http("GET", "/v1/agent/self").status == 200
        finally:
            agent.end()
