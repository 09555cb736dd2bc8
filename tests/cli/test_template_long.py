"""`ctl template` through many changes, kills and signals: the file stays whole, nobody stays behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
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
from core.template.settings import Settings
from tests.cli.test_template import Running, _environment
from tests.harness import CTL, Agent, own_address, until

TEMPLATE = """begin
{{ range services }}{{ .Name }}: {{ range service .Name "any" }}{{ .ID }}={{ .Address }} {{ end }}
{{ end }}{{ range tree "app" }}{{ .Key }}={{ .Value }}
{{ end }}{{ keyOrDefault "top" "none" }}
end
"""
CHANGES = 1000


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


def _change(agent: Agent, chance: random.Random) -> None:
    name, number = chance.choice(["web", "db", "cache"]), chance.randint(1, 4)
    key = f"app/{chance.choice('abc')}/{number}"
    kind = chance.randrange(5)
    if kind == 0:
        body = {"ID": f"{name}{number}", "Name": name, "Address": f"10.0.0.{chance.randint(1, 99)}"}
        agent.http("PUT", "/v1/agent/service/register", json.dumps(body))
    elif kind == 1:
        agent.http("PUT", f"/v1/agent/service/deregister/{name}{number}")
    elif kind == 2:
        agent.http("DELETE", f"/v1/kv/{chance.choice([key, 'top', 'app/a?recurse'])}")
    else:
        agent.http("PUT", f"/v1/kv/{chance.choice([key, 'top'])}", str(chance.random()))


def test_a_thousand_changes_end_in_a_fresh_render(agent: Agent, tmp_path: Path) -> None:
    """The file is never torn or empty, kills of the runner included, and true in the end."""
    (tmp_path / "t.ctmpl").write_text(TEMPLATE)
    target, torn, stopping = tmp_path / "out", [], threading.Event()

    def look() -> None:
        while not stopping.wait(0.002):
            text = target.read_text()
            if not (text.startswith("begin\n") and text.endswith("\nend\n")):
                torn.append(text)

    chance = random.Random(7)
    runner = Running(agent, tmp_path, "-template", "t.ctmpl:out")
    until("the first file", target.exists)
    watching = threading.Thread(target=look)
    watching.start()
    try:
        for number in range(CHANGES):
            _change(agent, chance)
            if number % 250 == 125:
                os.kill(runner.process.pid, signal.SIGKILL)
                runner.process.wait()
                runner = Running(agent, tmp_path, "-template", "t.ctmpl:out")
        fresh = tmp_path / "fresh"
        words = [*CTL, "template", "-template", "t.ctmpl:fresh", "-once"]
        subprocess.run(words, cwd=tmp_path, env=_environment(agent), check=True, timeout=30)
        until("the same text", lambda: target.read_text() == fresh.read_text())
        assert not torn
        assert runner.end() == 12
    finally:
        stopping.set()
        watching.join()
        runner.__exit__()


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


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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
        until("the end of the child", lambda: not _alive(pid))


def test_hup_starts_the_child_anew(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "a.ctmpl").write_text("{{ 1 }}")
    with Running(
        agent, tmp_path, "-template", "a.ctmpl:a", "-exec", "echo $$ >> pid; exec sleep 1000"
    ) as runner:
        until("the child", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        runner.process.send_signal(signal.SIGHUP)
        until("the next", lambda: (tmp_path / "pid").read_text().count("\n") == 2)
        first, second = map(int, (tmp_path / "pid").read_text().split())
        assert not _alive(first) and _alive(second)
        assert runner.end() == 12
        until("the end of the child", lambda: not _alive(second))


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
        until("the end of the command", lambda: not _alive(pid))
