"""`ctl template` with many dependencies, real programs and signals: nobody stays behind."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.resolver
import pytest

from cli import templatefetch
from core.template import deps
from core.template.render import MISSING
from core.template.settings import Retry, Settings
from tests.cli.test_template import Running
from tests.harness import ENVIRONMENT, Agent, lives, own_address, until


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


def test_more_dependencies_than_connections(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no connection of its own is asked for in turns, and not much later."""
    monkeypatch.setattr(templatefetch, "WATCHERS_TCP", 2)
    monkeypatch.setattr(templatefetch, "ROUNDERS", 1)
    brain = templatefetch.Brain(Settings(agent={"http-addr": agent.base}), lambda level, text: None)
    wanted = {deps.KeyDep(f"many/{number}") for number in range(12)}
    seen: dict[deps.Dependency, Any] = {}

    def all_are(value: str | None) -> bool:
        for each in brain.changes():
            found = brain.lookup(each)
            seen[each] = found.Value if found else None
        return len(seen) == 12 and set(seen.values()) == {value}

    threads = threading.active_count()
    brain.want(wanted)
    until("the first answers", lambda: all_are(None))
    assert threading.active_count() <= threads + 3
    for number in range(12):
        agent.http("PUT", f"/v1/kv/many/{number}", b"new")
    until("all changes", lambda: all_are("new"))
    brain.want(set())
    assert brain.lookup(deps.KeyDep("many/1")) is MISSING
    brain.close()


@pytest.mark.parametrize(
    ("limit_set", "rendered", "gives_up"), [(False, False, True), (False, True, False), (True, True, True)]
)
def test_attempts_are_counted_until_all_was_rendered_once(
    limit_set: bool, rendered: bool, gives_up: bool
) -> None:
    lines: list[str] = []
    retry = Retry(attempts=2, backoff=0.001, most=0.001, limit_set=limit_set)
    settings = Settings(agent={"http-addr": f"{own_address()}:1"}, retry=retry)
    brain = templatefetch.Brain(settings, lambda level, text: lines.append(text))
    brain.rendered = rendered

    def outcome() -> str:
        try:
            brain.changes()
        except templatefetch.Broken as broken:
            return str(broken)
        return "goes on" if len(lines) > 4 else ""

    brain.want({deps.KeyDep("a")})
    found = until("an outcome", outcome)
    brain.close()
    assert ("none left" in found) == gives_up


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq")
def test_dnsmasq_serves_what_was_rendered(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "t.ctmpl").write_text(
        '{{ range service "db" "any" }}{{ .Address }} {{ .ID }}.test\n{{ end }}'
    )
    address, port = own_address(), 5353
    server = (
        f"exec dnsmasq -k -p {port} -a {address} --bind-interfaces --no-resolv --no-hosts --local=/test/ "
        f"--user=root --pid-file= --addn-hosts={tmp_path}/hosts"
    )

    def lookup(name: str) -> list[str]:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = [address], port, 1.0
        try:
            return sorted(record.to_text() for record in resolver.resolve(name, "A"))
        except dns.exception.DNSException:
            return []

    def register(number: int) -> None:
        body = {"ID": f"db{number}", "Name": "db", "Address": f"10.9.0.{number}"}
        agent.http("PUT", "/v1/agent/service/register", json.dumps(body))

    register(1)
    flags = (
        "-template",
        "t.ctmpl:hosts",
        "-exec",
        server,
        "-exec-reload-signal",
        "HUP",
        "-exec-kill-signal",
        "TERM",
    )
    with Running(agent, tmp_path, *flags) as runner:
        until("the first answer", lambda: lookup("db1.test") == ["10.9.0.1"])
        register(2)
        until("the second service", lambda: lookup("db2.test") == ["10.9.0.2"])
        agent.http("PUT", "/v1/agent/service/deregister/db1")
        until("the first is gone", lambda: lookup("db1.test") == [])
        assert runner.end() == 12
    assert lookup("db2.test") == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 12),  # the kill signal
        (signal.SIGTERM, 128 + signal.SIGTERM),  # passed on; we end as the child ends
        (signal.SIGQUIT, 128 + signal.SIGQUIT),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_signals_with_a_child(agent: Agent, tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "a.ctmpl").write_text("{{ 1 }}")
    with Running(
        agent, tmp_path, "-template", "a.ctmpl:a", "-exec", "echo $$ > pid; exec sleep 1000"
    ) as runner:
        pid = int(until("the child", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        assert runner.end(number) == code
        until("the end of the child", lambda: not lives(pid))


def test_hup_starts_the_child_anew(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "a.ctmpl").write_text("{{ 1 }}")
    with Running(
        agent, tmp_path, "-template", "a.ctmpl:a", "-exec", "echo $$ >> pid; exec sleep 1000"
    ) as runner:
        until("the child", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        runner.process.send_signal(signal.SIGHUP)
        until("the next", lambda: (tmp_path / "pid").read_text().count("\n") == 2)
        first, second = map(int, (tmp_path / "pid").read_text().split())
        assert not lives(first) and lives(second)
        assert runner.end() == 12
        until("the end of the child", lambda: not lives(second))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_signals_while_waiting(agent: Agent, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "a.ctmpl").write_text('{{ key "never" }}')
    with Running(agent, tmp_path, "-template", "a.ctmpl:a") as runner:
        until("the wait", lambda: "waits for key(never)" in runner.log.read_text())
        assert runner.end(number) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_while_a_command_runs(agent: Agent, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "a.ctmpl").write_text("{{ 1 }}")
    with Running(agent, tmp_path, "-template", "a.ctmpl:a:echo $$ > pid; exec sleep 1000") as runner:
        pid = int(
            until("the command", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        )
        assert runner.end(number) == (12 if number != signal.SIGKILL else -signal.SIGKILL)
        until("the end of the command", lambda: not lives(pid))


def test_systemd_is_told_when_all_files_are_there(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.ctmpl").write_text('{{ key "ready" }}')
    monkeypatch.setitem(ENVIRONMENT, "NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        with Running(agent, tmp_path, "-template", "t.ctmpl:t") as runner:
            until("it waits", lambda: "waits for key(ready)" in runner.log.read_text())
            with pytest.raises(BlockingIOError):
                manager.recv(100)
            agent.http("PUT", "/v1/kv/ready", b"1")
            manager.settimeout(20)
            assert manager.recv(100) == b"READY=1" and (tmp_path / "t").read_text() == "1"
