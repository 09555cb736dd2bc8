"""`ctl env`: variables from keys, restarts on change, signals and exit codes, and outages waited out."""

import signal
import subprocess
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.env import COMMANDS, Plan, folder, variable, variables
from cli.parse import Parsed, parse
from tests.cli.test_supervise import family
from tests.cli.test_top import Screen
from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, lives, until


class FakeCall:
    """What `Plan.of` looks at."""

    def __init__(self, *words):
        parsed = parse(COMMANDS[0], list(words), Parsed())
        self.values, self.arguments = parsed.values, parsed.arguments

    def many(self, flag):
        return self.values.get(flag, [])

    def yes(self, flag, default=False):
        return self.values.get(flag, default)

    def number(self, flag):
        return self.values[flag]

    text = yes


def plan(*words):
    return Plan.of(FakeCall(*words))


# Names and values


@pytest.mark.parametrize(
    ("name", "upcase", "sanitize", "variable_name"),
    [
        ("host", True, False, "HOST"),
        ("db/max-conns", True, False, "DB_MAX_CONNS"),
        ("db/max-conns", False, False, "db_max_conns"),
        ("db.user", True, False, "DB.USER"),
        ("db.user@é", True, True, "DB_USER__"),
    ],
)
def test_names(name, upcase, sanitize, variable_name):
    assert variable(name, upcase, sanitize) == variable_name


@given(st.text(min_size=1))
def test_sanitized_names_are_names_for_every_shell(name):
    made = variable(name, upcase=False, sanitize=True)
    assert made.isascii() and made.replace("_", "a").isalnum()


@pytest.mark.parametrize(("prefix", "below"), [("a", "a/"), ("/a/b/", "a/b/"), ("", ""), ("/", "")])
def test_folders(prefix, below):
    assert folder(prefix) == below


def test_which_keys_count():
    entries = [
        ("all/", [("all/", b""), ("all/a", b"1"), ("all/b/", b""), ("all/b/c", b"2"), ("all/nul", b"x\0")]),
        ("web/", [("web/a", b"3"), ("web/x=y", b"4"), ("web/raw", b"\xff")]),
    ]
    made, wrong = variables(plan("--prefix=all", "--prefix=web", "true"), entries)
    assert made == {"A": "3", "B_C": "2", "RAW": "\udcff"}
    assert [text.split(":")[0] for text in wrong] == ["all/nul", "web/x=y"]


def test_plans():
    assert plan("a/b", "run", "--now", "-x").words == ["run", "--now", "-x"]
    assert plan("--prefix", "a", "--prefix", "b", "run", "it").prefixes == ["a/", "b/"]
    assert plan("--kill-signal=int", "a", "run").kill_signal == signal.SIGINT
    assert plan("--kill-signal=9", "a", "run").kill_signal == signal.SIGKILL


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a"],
        ["--prefix=a"],
        ["--kill-signal=NOSUCH", "a", "true"],
        ["--splay=-1s", "a", "true"],
        ["--kill-timeout=soon", "a", "true"],
    ],
)
def test_bad_use(ctl, agent, words):
    result = ctl("env", *words)
    assert (result.code, result.out) == (1, "") and result.err
    assert agent.requests == []


# With a real agent


class Runner:
    """Starts `ctl env` against an agent."""

    def __init__(self, agent, folder):
        self.agent, self.folder = agent, folder
        self.prefix = f"env-{uuid.uuid4()}"
        self.started = []

    def put(self, key, value):
        self.agent.put(f"/v1/kv/{self.prefix}/{key}", value)

    def spawn(self, *words, **options):
        process = subprocess.Popen(
            [*CTL, "env", *words],
            cwd=ROOT,
            env=ENVIRONMENT | {"CONSUL_HTTP_ADDR": self.agent.base, "OURS": "1"},
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        self.started.append(process)
        return process

    def run(self, *words, **options):
        process = self.spawn(*words, **options)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.decode(), err.decode()

    def telling(self, *flags, script="sleep 60"):
        """A child that notes the value of A in a log, and then waits."""
        self.log = self.folder / "log"
        line = f"echo $A >> {self.log}; {script}"
        return self.spawn(*flags, self.prefix, "sh", "-c", line)

    def told(self, *values):
        until(f"it was started with {values}", lambda: self.lines() == list(values))

    def lines(self):
        return self.log.read_text().split() if self.log.exists() else []

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def runner(dev_agent, tmp_path):
    runner = Runner(dev_agent, tmp_path)
    yield runner
    runner.end()


def test_the_environment(runner):
    runner.put("db/max-conns", "10")
    runner.put("name", "zwölf".encode())
    runner.put("empty", "")
    script = 'echo "$DB_MAX_CONNS|$NAME|${EMPTY-none}|$OURS"'
    assert runner.run(runner.prefix, "sh", "-c", script) == (0, "10|zwölf||1\n", "")
    out = runner.run("--pristine", "--once", runner.prefix, "env")[1]
    assert sorted(out.splitlines()) == ["DB_MAX_CONNS=10", "EMPTY=", "NAME=zwölf"]
    assert runner.run("--upcase=false", runner.prefix, "sh", "-c", "echo $name")[1] == "zwölf\n"
    assert runner.run("--prefix", runner.prefix, "sh", "-c", "echo $NAME")[1] == "zwölf\n"


def test_nothing_below_the_prefix(runner):
    assert runner.run(runner.prefix, "sh", "-c", "echo ${A-none}")[:2] == (0, "none\n")


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)])
@pytest.mark.parametrize("flags", [[], ["--once"]])
def test_codes(runner, flags, script, code):
    assert runner.run(*flags, runner.prefix, "sh", "-c", script)[0] == code


def test_what_cannot_start(runner):
    code, _, err = runner.run(runner.prefix, "nosuch-program")
    assert code == 1 and "nosuch-program" in err
    assert runner.run("--pristine", runner.prefix, "nosuch-program")[0] == 1


def test_standard_input_is_the_child_s(runner):
    process = runner.spawn(runner.prefix, "tr", "a", "b", stdin=subprocess.PIPE)
    assert process.communicate(b"aha", timeout=10)[0] == b"bhb"


def test_a_change_restarts_it(runner):
    runner.put("a", "1")
    process = runner.telling()
    runner.told("1")
    runner.put("a", "2")
    runner.told("1", "2")
    runner.put("a", "2")  # no change
    runner.agent.put(f"/v1/kv/{runner.prefix}x/a", "9")  # not below
    runner.put("b", "3")
    runner.told("1", "2", "2")
    runner.agent.http("DELETE", f"/v1/kv/{runner.prefix}?recurse")
    runner.put("a", "4")
    runner.told("1", "2", "2", "4")
    process.terminate()
    assert process.wait(10) == 143


def test_many_changes_at_once_make_one_restart(runner):
    runner.put("a", "0")
    runner.telling()
    runner.told("0")
    for number in range(1, 21):
        runner.put("a", str(number))
        runner.put(f"more/{number}", "x")
    runner.told("0", "20")


@pytest.mark.parametrize("flag", ["--once", "--restart=false"])
def test_no_restart_when_none_is_wanted(runner, flag):
    runner.put("a", "1")
    process = runner.telling(flag, script=f"while [ ! -e {runner.folder}/go ]; do sleep 0.05; done; exit 5")
    runner.told("1")
    runner.put("a", "2")
    if flag != "--once":
        assert b"changed, without a restart: A" in process.stderr.readline()
    else:
        time.sleep(0.5)
    (runner.folder / "go").touch()
    assert process.wait(10) == 5
    assert runner.lines() == ["1"]


def test_the_kill_signal_and_the_kill_timeout(runner):
    runner.put("a", "1")
    stubborn = f"trap 'echo int >> {runner.folder}/int' INT; while :; do sleep 0.05; done"
    runner.telling("--kill-signal=SIGINT", "--kill-timeout=300ms", script=stubborn)
    runner.told("1")
    runner.put("a", "2")
    runner.told("1", "2")
    assert (runner.folder / "int").read_text() == "int\n"


def test_a_child_that_ends_during_its_restart_is_started_anew(runner):
    """It ends of the kill signal with a code of its own: that is no end of ours."""
    runner.put("a", "1")
    process = runner.telling(script="trap 'exit 9' TERM; while :; do sleep 0.05; done")
    runner.told("1")
    runner.put("a", "2")
    runner.told("1", "2")
    assert process.poll() is None


def test_the_terminal_is_the_child_s_also_after_a_restart(runner):
    runner.put("a", "1")
    words = ("env", runner.prefix, "sh", "-c", 'echo "value $A"; while read -r line; do echo "<$line>"; done')
    screen = Screen(runner.agent.base, 80, 24, command=words)
    try:
        screen.until("value 1")
        screen.type(b"one\n")
        screen.until("<one>")
        runner.put("a", "2")
        screen.until("value 2")
        screen.type(b"two\n")
        screen.until("<two>")
        screen.type(b"\x03")
        assert screen.process.wait(10) == 130
    finally:
        screen.close()


# Signals


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "KILL"])
def test_signals(runner, name):
    number = getattr(signal, f"SIG{name}")
    path = runner.folder / "pids"
    process = runner.spawn(runner.prefix, *family(path))
    until("the child runs", path.exists)
    pids = [int(pid) for pid in path.read_text().split()]
    process.send_signal(number)
    assert process.wait(10) == (-number if name == "KILL" else 128 + number)
    until("no orphan is left", lambda: not any(lives(pid) for pid in pids))


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "KILL"])
def test_signals_after_a_restart(runner, name):
    number = getattr(signal, f"SIG{name}")
    path = runner.folder / "pids"
    runner.put("a", "1")
    process = runner.spawn(runner.prefix, *family(path, before=f"echo $A >> {runner.folder}/log;"))
    until("the child runs", path.exists)
    first = path.read_text()
    runner.put("a", "2")
    until("it runs anew", lambda: path.read_text() != first)
    process.send_signal(number)
    assert process.wait(10) == (-number if name == "KILL" else 128 + number)
    pids = [int(pid) for pid in (first + path.read_text()).split()]
    until("no orphan is left", lambda: not any(lives(pid) for pid in pids))


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_signal_while_it_is_restarted_ends_all(runner, name):
    """The child takes its time to end for the restart; whoever asks us to end means it."""
    runner.put("a", "1")
    mark = runner.folder / "ending"
    process = runner.telling(
        script=f"trap '' INT QUIT; trap 'touch {mark}; sleep 0.6; exit 3' TERM; while :; do sleep 0.05; done"
    )
    runner.told("1")
    runner.put("a", "2")
    until("it is being restarted", mark.exists)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.wait(10) == 3
    assert runner.lines() == ["1"]


def test_a_change_does_not_restart_what_was_told_to_end(runner):
    runner.put("a", "1")
    mark = runner.folder / "ending"
    process = runner.telling(
        script=f"trap 'touch {mark}; sleep 1.2; exit 3' TERM; while :; do sleep 0.05; done"
    )
    runner.told("1")
    process.terminate()
    until("it is ending", mark.exists)
    runner.put("a", "2")
    assert process.wait(10) == 3
    assert runner.lines() == ["1"]


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_a_signal_while_the_values_are_waited_for(runner, name):
    number = getattr(signal, f"SIG{name}")
    process = runner.spawn("-http-addr=127.0.0.1:1", runner.prefix, "echo", "never")
    assert b"it is waited for" in process.stderr.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (128 + number, b"")


# Outages


def test_the_last_values_stay_while_nobody_answers(tmp_path):
    (tmp_path / "agent").mkdir()
    with Agent(tmp_path / "agent", dev=False) as agent:
        runner = Runner(agent, tmp_path)
        try:
            runner.put("a", "1")
            process = runner.telling()
            runner.told("1")
            agent.kill9()
            assert b"the command keeps the last values" in process.stderr.readline()
            agent.start()
            assert (process.poll(), runner.lines()) == (None, ["1"])
            runner.put("a", "2")
            runner.told("1", "2")
        finally:
            runner.end()


def test_a_prefix_that_may_not_be_read(ctl, agent):
    agent.failures["/v1/kv/secret/"] = (403, "Permission denied")
    result = ctl("env", "secret", "true")
    assert result.code == 1 and "403 (Permission denied)" in result.err
