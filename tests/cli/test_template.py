"""`ctl template` against a real agent: files, commands, safety, exec mode, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, until

HOSTS = (
    '{{range services}}# {{.Name}}{{range service .Name "any"}}\n{{.Address}}    {{.Node}}{{end}}\n\n{{end}}'
)
WEB = '{{range service "web"}}{{.Address}}:{{.Port}}\n{{end}}'


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, agent: Agent) -> Path:
    """An empty folder, and an agent without keys and services of other tests."""
    agent.http("DELETE", "/v1/kv/?recurse")
    for name in agent.http("GET", "/v1/agent/services").json():
        agent.http("PUT", f"/v1/agent/service/deregister/{name}")
    return tmp_path


def _environment(agent: Agent) -> dict[str, str]:
    return {**ENVIRONMENT, "CTL_HTTP_ADDR": agent.base, "PYTHONPATH": str(ROOT)}


def _run(agent: Agent, folder: Path, *flags: str, program: tuple[str, ...] = (*CTL, "template")) -> Any:
    return subprocess.run(
        [*program, *flags],
        cwd=folder,
        env=_environment(agent),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Running:
    """A runner in the background, ended with the test."""

    def __init__(self, agent: Agent, folder: Path, *flags: str) -> None:
        self.log = folder / "runner.log"
        with self.log.open("wb") as log:
            words = [*CTL, "template", *flags, "-log-level", "DEBUG"]
            self.process = subprocess.Popen(
                words, cwd=folder, env=_environment(agent), stdout=log, stderr=log, process_group=0
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def _service(agent: Agent, name: str, number: int, port: int = 80) -> None:
    body = {"ID": f"{name}{number}", "Name": name, "Address": f"10.0.0.{number}", "Port": port}
    assert agent.http("PUT", "/v1/agent/service/register", json.dumps(body)).status == 200


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_hosts_example_as_typed(agent: Agent, folder: Path) -> None:
    (folder / "template").mkdir()
    (folder / "template" / "hosts.ctmpl").write_text(HOSTS)
    _service(agent, "web", 1)
    with Running(agent, folder, "--template", "template/hosts.ctmpl:hosts.out:echo x >> runs") as runner:
        until("the file", lambda: "10.0.0.1" in _text(folder / "hosts.out"))
        until("the command", lambda: _text(folder / "runs") == "x\n")
        start = time.monotonic()
        _service(agent, "web", 2)
        until("the change", lambda: "10.0.0.2" in _text(folder / "hosts.out"))
        assert time.monotonic() - start < 2  # a second, and what a busy machine adds
        until("the second run", lambda: _text(folder / "runs") == "x\nx\n")
        until("its end", lambda: not list(folder.glob(".hosts*")))
        assert runner.end() == 12
        assert "Cleaning up..." in _text(runner.log)
    assert _text(folder / "runs") == "x\nx\n"
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_once_and_unchanged(agent: Agent, folder: Path) -> None:
    (folder / "a.ctmpl").write_text('{{ key "a" }} {{ keyOrDefault "b" "d" }}')
    agent.http("PUT", "/v1/kv/a", b"1")
    flags = ("-template", "a.ctmpl:out/deep/a:echo ran", "-once")
    first = _run(agent, folder, *flags)
    assert (first.returncode, first.stdout) == (0, "ran\n")
    assert _text(folder / "out/deep/a") == "1 d"
    second = _run(agent, folder, *flags)
    assert (second.returncode, second.stdout) == (0, "")


def test_once_waits_for_a_key(agent: Agent, folder: Path) -> None:
    (folder / "a.ctmpl").write_text('{{ key "late" }}')
    with Running(agent, folder, "-template", "a.ctmpl:a", "-once") as runner:
        until("the wait", lambda: "waits for key(late)" in _text(runner.log))
        assert not (folder / "a").exists()
        agent.http("PUT", "/v1/kv/late", b"here")
        assert runner.process.wait(20) == 0
    assert _text(folder / "a") == "here"


def test_one_command_of_two_templates_runs_once(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    done = _run(agent, folder, "-template", "a.ctmpl:x:echo ran", "-template", "a.ctmpl:y:echo ran", "-once")
    assert done.stdout == "ran\n" and _text(folder / "x") == _text(folder / "y") == "1"


def test_owner_mode_backup_and_links(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"new")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    (folder / "real").write_text("old")
    (folder / "real").chmod(0o640)
    (folder / "link").symlink_to("real")
    assert _run(agent, folder, "-template", "a.ctmpl:link", "-once", "-backup").returncode == 0
    assert (folder / "link").is_symlink() and _text(folder / "real") == "new"
    assert (folder / "real").stat().st_mode & 0o777 == 0o640
    assert _text(folder / "real.bak") == "old"


def test_check_command_keeps_the_old_file(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"bad")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    (folder / "a").write_text("good")
    flags = ("-template", "a.ctmpl:a:echo ran", "-once", "-check", "grep -q good {tmp}")
    done = _run(agent, folder, *flags)
    assert done.returncode == 14 and done.stdout == ""
    assert "the check `grep -q good {tmp}` failed (exit status 1)" in done.stderr
    assert _text(folder / "a") == "good"
    agent.http("PUT", "/v1/kv/a", b"good too")
    assert _run(agent, folder, *flags).returncode == 0
    assert _text(folder / "a") == "good too"
    assert not list(folder.glob(".a*"))


def test_a_failing_command_brings_the_old_file_back(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"new")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    (folder / "a").write_text("old")
    done = _run(agent, folder, "-template", "a.ctmpl:a:exit 3", "-once")
    assert done.returncode == 14
    assert "the command `exit 3` failed (exit status 3)" in done.stderr and "as it was before" in done.stderr
    assert _text(folder / "a") == "old" and not list(folder.glob(".a*"))


def test_min_instances_and_lost_data(agent: Agent, folder: Path) -> None:
    (folder / "web.ctmpl").write_text(WEB)
    for number in (1, 2):
        _service(agent, "web", number)
    flags = ("-template", "web.ctmpl:web", "-min-instances", "2")
    with Running(agent, folder, *flags) as runner:
        until("both", lambda: _text(folder / "web").count("\n") == 2)
        agent.http("PUT", "/v1/agent/service/deregister/web1")
        until("the objection", lambda: "fewer than min_instances = 2" in _text(runner.log))
        assert _text(folder / "web").count("\n") == 2
        _service(agent, "web", 3)
        until("the new one", lambda: "10.0.0.3" in _text(folder / "web"))
        assert runner.end(signal.SIGTERM) == 12


def test_dry_shows_a_diff(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"new\n")
    (folder / "a.ctmpl").write_text('same\n{{ key "a" }}')
    (folder / "a").write_text("same\nold\n")
    done = _run(agent, folder, "-template", "a.ctmpl:a:echo ran", "-once", "-dry")
    assert done.returncode == 0
    assert done.stdout == "--- a\n+++ a\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n"
    assert _text(folder / "a") == "same\nold\n"


def test_the_name_consul_template(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"new\n")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    program = (sys.executable, "-c", "from cli.template import main; main()")
    done = _run(agent, folder, "-template", "a.ctmpl:a", "-once", "-dry", program=program)
    assert (done.returncode, done.stdout) == (0, "> a\nnew\n\n") or done.stdout == "> a\nnew\n"
    assert _run(agent, folder, "-v", program=program).stdout.startswith("consul-template v")


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (("-nosuch",), 13, "flag provided but not defined: -nosuch"),
        ((), 13, "there is nothing to do"),
        (("-template", ":x"), 13, "IN:OUT[:COMMAND]"),
        (("-wait", "x", "-template", "a:b"), 13, "wait"),
        (("-config", "nosuch.hcl"), 15, "cannot read nosuch.hcl: no such file or directory"),
        (("-template", "ok.ctmpl:x", "-pid-file", "no/pid"), 14, "could not open pid file: open no/pid: no"),
        (("-config", "bad.hcl"), 15, "there is no key temlate"),
        (("-template", "nosuch.ctmpl:x", "-once"), 14, "open nosuch.ctmpl: no such file or directory"),
        (("-template", "parse.ctmpl:x", "-parse-only"), 14, "template: parse.ctmpl:2: unexpected EOF"),
        (("-template", "exec.ctmpl:x", "-once"), 14, "template: exec.ctmpl:1:3: executing "),
        (("-template", "ok.ctmpl:x", "-parse-only"), 0, ""),
    ],
)  # fmt: skip
def test_exit_codes(agent: Agent, folder: Path, flags: tuple[str, ...], code: int, text: str) -> None:
    (folder / "bad.hcl").write_text("temlate {}")
    (folder / "parse.ctmpl").write_text("\n{{ if 1 }}")
    (folder / "exec.ctmpl").write_text('{{ secret "x" }}')
    (folder / "ok.ctmpl").write_text("{{ 1 }}")
    done = _run(agent, folder, *flags)
    assert done.returncode == code, done.stderr
    assert text in done.stderr


def test_no_agent_ends_after_the_attempts(agent: Agent, folder: Path) -> None:
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    flags = ("-consul-addr", "127.0.0.1:1", "-consul-retry-attempts", "2", "-consul-retry-backoff", "10ms")
    done = _run(agent, folder, "-template", "a.ctmpl:a", "-once", *flags)
    assert done.returncode == 14
    assert "key(a): " in done.stderr and "connection refused" in done.stderr and "none left" in done.stderr


def test_configuration_file_reload_and_jinja(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.j2").write_text("{{ key('a') }}-{{ env('CTL_HTTP_ADDR') }}")
    (folder / "b.ctmpl").write_text('[[ key "a" ]]')
    config = folder / "conf.d"
    config.mkdir()
    (config / "1.hcl").write_text('template { source = "a.j2" destination = "a" }')
    with Running(agent, folder, "-config", "conf.d") as runner:
        until("the file", lambda: _text(folder / "a") == f"1-{agent.base}")
        block = {"source": "b.ctmpl", "destination": "b", "left_delimiter": "[[", "right_delimiter": "]]"}
        (config / "2.json").write_text(json.dumps({"template": block}))
        runner.process.send_signal(signal.SIGHUP)
        until("the second file", lambda: _text(folder / "b") == "1")
        assert runner.process.poll() is None
        (config / "2.json").write_text("{")
        runner.process.send_signal(signal.SIGHUP)
        until("the complaint", lambda: "the configuration stays as it was" in _text(runner.log))
        agent.http("PUT", "/v1/kv/a", b"2")
        until("it goes on", lambda: _text(folder / "b") == "2")


def test_a_reload_with_a_broken_template_changes_nothing(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    flags = ("-template", "a.ctmpl:a", "-exec", "echo $$ >> pids; exec sleep 1000")
    with Running(agent, folder, *flags) as runner:
        until("the child", lambda: _text(folder / "pids").count("\n") == 1)
        (folder / "a.ctmpl").write_text('{{ key "a" ')
        runner.process.send_signal(signal.SIGHUP)
        until("the complaint", lambda: "the configuration stays as it was" in _text(runner.log))
        os.kill(int(_text(folder / "pids")), 0)
        agent.http("PUT", "/v1/kv/a", b"2")
        until("it goes on", lambda: _text(folder / "a") == "2")
        assert runner.end() == 12


def test_a_check_that_says_no_is_not_the_end(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"good 1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    with Running(agent, folder, "-template", "a.ctmpl:a", "-check", "grep -q good {tmp}") as runner:
        until("the file", lambda: _text(folder / "a") == "good 1")
        agent.http("PUT", "/v1/kv/a", b"bad")
        until("the complaint", lambda: "the check `grep -q good {tmp}` failed" in _text(runner.log))
        assert _text(folder / "a") == "good 1"
        agent.http("PUT", "/v1/kv/a", b"good 2")
        until("it goes on", lambda: _text(folder / "a") == "good 2")
        assert runner.end() == 12


@pytest.mark.parametrize(
    ("number", "before"), [(signal.SIGKILL, "0"), (signal.SIGKILL, None), (signal.SIGINT, None)]
)
def test_a_command_that_was_cut_short_runs_again(
    agent: Agent, folder: Path, number: int, before: str | None
) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    if before is not None:
        (folder / "a").write_text(before)
    slow = ("-template", "a.ctmpl:a:echo begin >> runs; [ -e fast ] || sleep 1000; echo end >> runs")
    with Running(agent, folder, *slow) as runner:
        until("the command", lambda: _text(folder / "runs") == "begin\n")
        runner.end(number)
    (folder / "fast").touch()
    assert _run(agent, folder, *slow, "-once").returncode == 0
    assert _text(folder / "runs") == "begin\nbegin\nend\n"
    assert _run(agent, folder, *slow, "-once").returncode == 0
    assert _text(folder / "runs") == "begin\nbegin\nend\n" and not list(folder.glob(".a*"))


def test_commands_run_though_another_template_fails(agent: Agent, folder: Path) -> None:
    (folder / "good.ctmpl").write_text("good")
    (folder / "bad.ctmpl").write_text('{{ parseInt "x" }}')
    flags = ("-template", "good.ctmpl:good:echo ran", "-template", "bad.ctmpl:bad", "-once")
    done = _run(agent, folder, *flags)
    assert (done.returncode, done.stdout) == (14, "ran\n") and _text(folder / "good") == "good"


def test_a_signal_to_read_again_waits_for_the_command(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    flags = (
        "-template",
        "a.ctmpl:a:echo begin >> runs; while [ ! -e on ]; do sleep 0.05; done; echo end >> runs",
    )
    with Running(agent, folder, *flags) as runner:
        until("the command", lambda: _text(folder / "runs") == "begin\n")
        runner.process.send_signal(signal.SIGHUP)
        runner.process.send_signal(signal.SIGUSR1)
        (folder / "on").touch()
        until("it was read again", lambda: "Reloading configuration..." in _text(runner.log))
        agent.http("PUT", "/v1/kv/a", b"2")
        until("it goes on", lambda: _text(folder / "runs") == "begin\nend\nbegin\nend\n")
        assert runner.end() == 12


CHILD = (
    "trap 'echo hup >> told' HUP; trap 'echo int >> told; exit 7' INT; echo start >> told; "
    "while :; do sleep 0.05; done"
)


def test_exec_mode(agent: Agent, folder: Path) -> None:
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    flags = ("-template", "a.ctmpl:a", "-exec", CHILD, "-exec-reload-signal", "SIGHUP")
    with Running(agent, folder, *flags) as runner:
        until("the wait", lambda: "waits for key(a)" in _text(runner.log))
        assert not (folder / "told").exists()  # not before all is rendered
        agent.http("PUT", "/v1/kv/a", b"1")
        until("the start", lambda: _text(folder / "told") == "start\n")
        agent.http("PUT", "/v1/kv/a", b"2")
        until("the reload", lambda: _text(folder / "told") == "start\nhup\n")
        assert runner.end() == 12
    assert _text(folder / "told") == "start\nhup\nint\n"


def test_exec_mode_ends_with_the_child(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    assert _run(agent, folder, "-template", "a.ctmpl:a", "-exec", "exit 5").returncode == 5
    env = ("-exec-env-pristine", "-exec-env-custom", "X=1")
    _run(agent, folder, "-template", "a.ctmpl:a", "-exec", "echo $X-$CTL_HTTP_ADDR- > seen", *env)
    assert _text(folder / "seen") == "1--\n"


def test_the_environment_of_a_command(agent: Agent, folder: Path) -> None:
    """What its block says holds; of the agent it is told whatever it may have of ours."""
    address = agent.base.removeprefix("http://")
    (folder / "c.hcl").write_text(
        f"""consul {{ address = "{address}"  token = "secret" }}
        template {{ contents = "x"  destination = "a"
          exec {{ command = "/usr/bin/env > seen"  env {{ allowlist = ["CTL_*", "XDG_*"]
            denylist = ["XDG_*"]  custom = ["X=1=2"] }} }} }}"""
    )
    assert _run(agent, folder, "-config", "c.hcl", "-once").returncode == 0
    shell = ("PWD=", "SHLVL=", "_=", "OLDPWD=")
    assert sorted(line for line in _text(folder / "seen").splitlines() if not line.startswith(shell)) == [
        f"CONSUL_HTTP_ADDR={address}",
        "CONSUL_HTTP_TOKEN=secret",
        f"CTL_HTTP_ADDR={agent.base}",
        "X=1=2",
    ]


def test_all_files_of_a_folder_are_configuration(agent: Agent, folder: Path) -> None:
    (folder / "conf.d" / "more").mkdir(parents=True)
    (folder / "conf.d" / "first").write_text('template { contents = "1" destination = "a" }')
    (folder / "conf.d" / "more" / "x.conf").write_text('template { contents = "2" destination = "b" }')
    (folder / "conf.d" / ".first.swp").write_text("{{{")
    assert _run(agent, folder, "-config", "conf.d", "-once", "-retry", "1s").returncode == 0
    assert (_text(folder / "a"), _text(folder / "b")) == ("1", "2")
    (folder / "empty").mkdir()
    done = _run(agent, folder, "-config", "empty", "-once")
    assert (done.returncode, done.stderr) == (0, "")


def test_quiescence(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"0")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    with Running(agent, folder, "-template", "a.ctmpl:a:echo x >> runs", "-wait", "300ms:5s"):
        until("the file", lambda: _text(folder / "runs") == "x\n")
        for number in range(1, 6):
            agent.http("PUT", "/v1/kv/a", b"%d" % number)
        until("the last value", lambda: _text(folder / "a") == "5")
        until("one more run", lambda: _text(folder / "runs") == "x\nx\n")


def test_files_and_side_files(agent: Agent, folder: Path) -> None:
    (folder / "in").write_text("one")
    (folder / "a.ctmpl").write_text(
        '{{ file "in" }}{{ file "in" | writeToFile "side" "" "" "0600" "newline" }}{{ plugin "echo" "p" }}'
    )
    done = _run(agent, folder, "-template", "a.ctmpl:a", "-once")
    assert done.returncode == 0, done.stderr
    assert _text(folder / "a") == "onep" and _text(folder / "side") == "one\n"
    assert (folder / "side").stat().st_mode & 0o777 == 0o600


def test_an_agent_that_starts_anew(tmp_path: Path) -> None:
    home = tmp_path / "agent"
    home.mkdir()
    with Agent(home, dev=False) as agent:
        agent.http("PUT", "/v1/kv/a", b"1")
        folder = tmp_path / "work"
        folder.mkdir()
        (folder / "a.ctmpl").write_text('{{ key "a" }}')
        with Running(agent, folder, "-template", "a.ctmpl:a:cat a >> seen; echo >> seen") as runner:
            until("the file", lambda: _text(folder / "seen") == "1\n")
            agent.end()
            agent.start()
            until("a write", lambda: agent.http("PUT", "/v1/kv/a", b"2").status == 200)
            until("the change", lambda: _text(folder / "seen") == "1\n2\n")
            assert runner.end() == 12


def test_a_killed_runner_leaves_a_whole_file(agent: Agent, folder: Path) -> None:
    """Whatever moment it is killed at, the file is one of those that were rendered, whole."""
    body = "x" * 200_000
    agent.http("PUT", "/v1/kv/n", b"0")
    (folder / "a.ctmpl").write_text('{{ key "n" }} ' + body + ' {{ key "n" }}')

    def whole() -> bool:
        words = _text(folder / "a").split(" ")
        return len(words) == 3 and words[0] == words[2] and words[1] == body

    for turn in range(4):
        with Running(agent, folder, "-template", "a.ctmpl:a") as runner:
            until("the first", lambda turn=turn: _text(folder / "a")[:2].strip() == str(turn * 10))
            for number in range(10):
                agent.http("PUT", "/v1/kv/n", b"%d" % (turn * 10 + number + 1))
                assert whole()
            os.kill(runner.process.pid, signal.SIGKILL)
            runner.process.wait()
        assert whole()


def test_a_signal_during_a_restart_of_the_child_is_heeded(agent: Agent, folder: Path) -> None:
    agent.http("PUT", "/v1/kv/a", b"1")
    (folder / "a.ctmpl").write_text('{{ key "a" }}')
    slow = "trap 'echo end >> ends; while [ ! -e go ]; do sleep 0.02; done; exit' TERM; echo $$ >> pids; "
    flags = (
        "-template",
        "a.ctmpl:a",
        "-exec",
        slow + "while :; do sleep 0.02; done",
        "-exec-kill-timeout",
        "20s",
    )
    with Running(agent, folder, *flags, "-exec-kill-signal", "SIGTERM") as runner:
        until("the child", lambda: _text(folder / "pids").count("\n") == 1)
        agent.http("PUT", "/v1/kv/a", b"2")
        until("it is told to end", lambda: _text(folder / "ends") == "end\n")
        runner.process.send_signal(signal.SIGINT)
        (folder / "go").touch()
        assert runner.process.wait(20) == 12
