"""`ctl lock` against a real agent: texts and codes as recorded, who excludes whom, and every way to end."""

import base64
import json
import signal
import subprocess
import sys
import uuid

import pytest

from cli.lockkeys import LOCK_FLAGS, SEMAPHORE_FLAGS
from tests.cli.test_supervise import family
from tests.harness import CTL, ENVIRONMENT, ROOT, lives, until

VERBOSE = [
    "Setting up lock at path: {prefix}/.lock",
    "Attempting lock acquisition",
    "Starting handler",
    "Child terminated, releasing lock",
    "Cleanup succeeded",
]
AS_CONSUL = "import sys; sys.argv[0] = 'consul'; from cli.main import main; main()"
# Time passes faster: the session is known to live for three seconds after a renewal.
HURRIED = (
    "import sys, cli.lease as lease; lease.MARGIN, lease.RENEW_EVERY, lease.RETRY_EVERY = 12.0, 0.5, 0.2;"
    "lease.PATIENCE = 0.5; from cli.main import main; main()"
)


@pytest.fixture
def prefix():
    return f"lock-{uuid.uuid4()}"


class Locker:
    """Starts `ctl lock` against an agent, and asks the agent what it sees."""

    def __init__(self, agent):
        self.agent = agent
        self.started = []

    def spawn(self, *words, program=(), **options):
        head = [sys.executable, "-c", *program] if program else list(CTL)
        process = subprocess.Popen(
            [*head, "lock", *words],
            cwd=ROOT,
            env=ENVIRONMENT | {"CONSUL_HTTP_ADDR": self.agent.base, "SHELL": "/bin/sh"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.started.append(process)
        return process

    def run(self, *words, **options):
        """Exit code, stdout, stderr."""
        process = self.spawn(*words, **options)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.decode(), err.decode()

    def entries(self, prefix):
        found = self.agent.http("GET", f"/v1/kv/{prefix}?recurse")
        return {entry["Key"]: entry for entry in found.json()} if found.status == 200 else {}

    def sessions(self, prefix):
        return [s for s in self.agent.get("/v1/session/list") if prefix in s["Name"]]

    def holder(self, prefix):
        return self.entries(prefix).get(f"{prefix}/.lock", {}).get("Session", "")

    def holders(self, prefix):
        """Of a semaphore."""
        entry = self.entries(prefix).get(f"{prefix}/.lock")
        return json.loads(base64.b64decode(entry["Value"]))["Holders"] if entry else {}

    def no_trace(self, prefix):
        assert self.entries(prefix) == {}
        assert self.sessions(prefix) == []

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ready(agent):
    """A session needs serfHealth, which an agent registers soon after its start."""
    until("sessions can be made", lambda: agent.http("PUT", "/v1/session/create", "{}").status == 200)
    return agent


@pytest.fixture
def locker(dev_agent):
    locker = Locker(ready(dev_agent))
    yield locker
    locker.end()


# Texts, codes, keys


def test_what_it_says(locker, prefix):
    code, out, err = locker.run("-verbose", prefix, "echo", "held")
    lines = [line.format(prefix=prefix) for line in VERBOSE]
    assert (code, out.splitlines(), err) == (0, [*lines[:3], "held", *lines[3:]], "")
    assert locker.run(prefix, "true") == (0, "", "")
    locker.no_trace(prefix)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Key prefix and child command must be specified\n"),
        (["a"], "Key prefix and child command must be specified\n"),
        (["-n=0", "a", "true"], "Lock holder limit must be positive\n"),
        (["-timeout=-1s", "a", "true"], "Timeout must be positive\n"),
        (["-monitor-retry=-1", "a", "true"], "Number of monitor retries must not be negative\n"),
        (["//", "true"], "Error: no key prefix: '//'\n"),
    ],
)
def test_bad_use(ctl, agent, words, text):
    result = ctl("lock", *words)
    assert (result.code, result.out, result.err.splitlines(keepends=True)[0]) == (1, "", text)
    assert agent.requests == []


@pytest.mark.parametrize(
    ("flags", "program", "script", "code", "text"),
    [
        ([], (), "exit 7", 7, "exit status 7"),
        ([], (), "kill -9 $$", 137, "signal: killed"),
        (["-child-exit-code"], (), "exit 7", 2, "exit status 7"),
        (["-child-exit-code=false"], (), "exit 7", 0, "exit status 7"),
        ([], (AS_CONSUL,), "exit 7", 0, "exit status 7"),
        (["-child-exit-code"], (AS_CONSUL,), "exit 7", 2, "exit status 7"),
        (["-shell=false"], (), "nosuch", 1, 'exec: "nosuch": executable file not found in $PATH'),
    ],
)
def test_codes(locker, prefix, flags, program, script, code, text):
    assert locker.run(*flags, prefix, script, program=program) == (
        code,
        "",
        f"Error running handler: {text}\n",
    )
    locker.no_trace(prefix)


def test_keys_of_a_lock(locker, prefix):
    held = locker.spawn(prefix, "sleep 60")
    until("it is held", lambda: locker.holder(prefix))
    (session,) = locker.sessions(prefix)
    entry = locker.entries(prefix)[f"{prefix}/.lock"]
    assert (entry["Flags"], entry["Value"], entry["LockIndex"]) == (LOCK_FLAGS, None, 1)
    assert entry["Session"] == session["ID"]
    assert session["Name"] == f"Consul lock for 'sleep 60' at '{prefix}'"
    assert (session["TTL"], session["LockDelay"], session["Behavior"]) == ("15s", 15_000_000_000, "release")
    assert session["NodeChecks"] == ["serfHealth"]
    held.terminate()
    assert held.wait(10) == 143
    locker.no_trace(prefix)


def test_keys_of_a_semaphore(locker, prefix):
    held = locker.spawn("-n=2", f"-name={prefix} import", prefix, "sleep 60")
    until("it is held", lambda: len(locker.entries(prefix)) == 2)
    (session,) = locker.sessions(prefix)
    assert session["Name"] == f"{prefix} import"
    lock = until("the document", lambda: locker.entries(prefix).get(f"{prefix}/.lock"))
    contender = locker.entries(prefix)[f"{prefix}/{session['ID']}"]
    document = b'{"Limit":2,"Holders":{"%s":true}}' % session["ID"].encode()
    assert (lock["Flags"], base64.b64decode(lock["Value"])) == (SEMAPHORE_FLAGS, document)
    assert "Session" not in lock
    assert (contender["Flags"], contender["Value"], contender["Session"]) == (
        SEMAPHORE_FLAGS,
        None,
        session["ID"],
    )
    conflict = "Lock acquisition failed: semaphore limit conflict (lock: 2, local: 3)\n"
    assert locker.run("-n=3", prefix, "true") == (1, "", conflict)
    held.terminate()
    assert held.wait(10) == 143
    locker.no_trace(prefix)


def test_environment_and_standard_input(locker, prefix):
    script = 'echo "$CONSUL_LOCK_HELD $CTL_LOCK_INDEX"; cat'
    tokens = []
    for flags in ([], [], ["-n=3"], ["-n=3"]):
        held, token = locker.run(*flags, f"{prefix}{len(flags)}", script)[1].split()
        assert held == "true"
        tokens.append(int(token))
    assert tokens == sorted(set(tokens)), "a later holder has a higher number, though the key was removed"
    locker.spawn("-pass-stdin", prefix, "cat")
    done = locker.agent.ctl("lock", "-pass-stdin", prefix, "tr", "a", "b", stdin=b"aha")
    assert (done.returncode, done.stdout) == (0, b"bhb")


def test_a_prefix_is_cleaned(locker, prefix):
    locker.spawn(f"/{prefix}//a/", "sleep 60")
    until("it is held", lambda: locker.holder(f"{prefix}/a"))


# Who excludes whom


def test_one_after_the_other(locker, prefix, tmp_path):
    first = locker.spawn(prefix, "sleep 60")
    until("it is held", lambda: locker.holder(prefix))
    second = locker.spawn(prefix, f"touch {tmp_path}/second")
    until("both contend", lambda: len(locker.sessions(prefix)) == 2)
    first.terminate()
    assert first.wait(10) == 143
    assert second.wait(10) == 0
    assert (tmp_path / "second").exists()
    locker.no_trace(prefix)


def consul_lock(agent, key, flags=LOCK_FLAGS):
    """As another client takes it."""
    session = agent.put("/v1/session/create", {"LockDelay": "1ms"}).json()["ID"]
    assert agent.put(f"/v1/kv/{key}?acquire={session}&flags={flags}").json() is True
    return session


def test_locks_of_other_clients_count(locker, prefix):
    agent = locker.agent
    session = consul_lock(agent, f"{prefix}/.lock")
    code, _, err = locker.run("-timeout=300ms", prefix, "true")
    assert (code, err) == (1, "Shutdown triggered or timeout during lock acquisition\n")
    assert locker.sessions(prefix) == []
    waiting = locker.spawn(prefix, "true")
    until("it waits", lambda: locker.sessions(prefix))
    agent.put(f"/v1/kv/{prefix}/.lock?release={session}&flags={LOCK_FLAGS}")
    assert waiting.wait(10) == 0


@pytest.mark.parametrize(("flags", "what"), [([], "lock"), (["-n=2"], "semaphore")])
def test_a_key_that_is_no_lock(locker, prefix, flags, what):
    locker.agent.put(f"/v1/kv/{prefix}/.lock?flags=7", "precious")
    text = f"Lock acquisition failed: Existing key does not match {what} use\n"
    assert locker.run(*flags, prefix, "true") == (1, "", text)
    assert locker.sessions(prefix) == []
    assert list(locker.entries(prefix)) == [f"{prefix}/.lock"]


@pytest.mark.parametrize("flag", ["-timeout=200ms", "-try=200ms"])
def test_timeout(locker, prefix, flag):
    assert locker.run(flag, prefix, "echo free") == (0, "free\n", "")
    locker.spawn(prefix, "sleep 60")
    until("it is held", lambda: locker.holder(prefix))
    assert locker.run(flag, prefix, "echo two")[:2] == (1, "")


def depth(log):
    """The most holders at once, by a log of `b` and `e`."""
    now = most = 0
    for line in log.read_text().split():
        now += 1 if line == "b" else -1
        most = max(most, now)
    assert now == 0
    return most


@pytest.mark.parametrize(("limit", "contenders"), [(1, 3), (2, 5)])
def test_never_more_holders_than_may_be(locker, prefix, tmp_path, limit, contenders):
    log = tmp_path / "log"
    script = f"echo b >> {log}; sleep 0.4; echo e >> {log}"
    started = [locker.spawn(f"-n={limit}", prefix, script) for _ in range(contenders)]
    assert [process.wait(30) for process in started] == [0] * contenders
    assert log.read_text().count("b") == contenders
    assert depth(log) == limit
    locker.no_trace(prefix)


def test_a_semaphore_left_by_the_dead(locker, prefix):
    """Holders whose sessions have ended do not count; with nobody left the limit is the next one's."""
    document = {"Limit": 2, "Holders": {str(uuid.uuid4()): True, str(uuid.uuid4()): True}}
    locker.agent.put(f"/v1/kv/{prefix}/.lock?flags={SEMAPHORE_FLAGS}", json.dumps(document))
    assert locker.run("-n=2", prefix, "true")[0] == 0
    locker.agent.put(f"/v1/kv/{prefix}/.lock?flags={SEMAPHORE_FLAGS}", json.dumps(document))
    assert locker.run("-n=3", prefix, "true")[0] == 0
    locker.no_trace(prefix)


# Signals


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_signal_while_waiting(locker, prefix, name, limit):
    number = getattr(signal, f"SIG{name}")
    for _ in range(limit):
        locker.spawn(f"-n={limit}", prefix, "sleep 60")
    until("it is held", lambda: len(locker.entries(prefix)) == (1 if limit == 1 else 3))
    if limit == 2:
        until("both hold it", lambda: len(locker.holders(prefix)) == 2)
    before = set(locker.entries(prefix))
    waiting = locker.spawn("-verbose", f"-n={limit}", prefix, "echo never")
    until("it contends", lambda: len(locker.sessions(prefix)) == limit + 1)
    assert waiting.stdout.readline() and waiting.stdout.readline()
    waiting.send_signal(number)
    out, err = waiting.communicate(timeout=10)
    assert (waiting.returncode, out) == (128 + number, b"")
    assert err == b"Shutdown triggered or timeout during lock acquisition\n"
    assert len(locker.sessions(prefix)) == limit
    assert set(locker.entries(prefix)) == before


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_signal_while_it_is_held(locker, prefix, tmp_path, name, limit):
    number = getattr(signal, f"SIG{name}")
    held = locker.spawn("-shell=false", f"-n={limit}", prefix, *family(tmp_path / "pids"))
    until("the child runs", (tmp_path / "pids").exists)
    held.send_signal(number)
    words = {"TERM": "terminated", "INT": "interrupt", "HUP": "hangup", "QUIT": "quit"}[name]
    assert held.communicate(timeout=10)[1].decode() == f"Error running handler: signal: {words}\n"
    assert held.returncode == 128 + number
    assert not any(lives(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    locker.no_trace(prefix)


def test_the_child_has_its_time_to_end(locker, prefix, tmp_path):
    """The lock is kept until it has."""
    script = f"trap 'echo ending; sleep 0.5; exit 3' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"
    held = locker.spawn(prefix, script)
    until("the child runs", (tmp_path / "up").exists)
    held.terminate()
    assert held.stdout.readline() == b"ending\n"
    assert locker.holder(prefix)
    assert held.wait(10) == 3
    locker.no_trace(prefix)


def test_killed_with_kill_while_waiting_and_while_it_is_held(locker, prefix, tmp_path):
    held = locker.spawn("-shell=false", prefix, *family(tmp_path / "pids"))
    until("the child runs", (tmp_path / "pids").exists)
    waiting = locker.spawn(prefix, "echo mine")
    until("another contends", lambda: len(locker.sessions(prefix)) == 2)
    session = locker.holder(prefix)
    held.kill()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until("no orphan is left", lambda: not any(lives(pid) for pid in pids))
    assert locker.holder(prefix) == session, "the session ends with its TTL, not sooner"
    locker.agent.put(f"/v1/session/destroy/{session}")
    assert locker.holder(prefix) == "" and waiting.poll() is None, "the lock delay is kept"
    waiting.kill()


# Losing it


def test_a_lost_lock_ends_the_child(locker, prefix, tmp_path):
    for limit in (1, 2):
        path = tmp_path / f"pids{limit}"
        held = locker.spawn("-shell=false", f"-n={limit}", f"{prefix}{limit}", *family(path))
        until("the child runs", path.exists)
        (session,) = locker.sessions(f"{prefix}{limit}")
        locker.agent.put(f"/v1/session/destroy/{session['ID']}")
        _, err = held.communicate(timeout=10)
        assert held.returncode == 143
        assert err.startswith(b"Lock lost: ")
        assert err.endswith(b"; ending the child\nError running handler: signal: terminated\n")
        assert not any(lives(int(pid)) for pid in path.read_text().split())


def test_a_lost_lock_is_a_failure_of_its_own(locker, prefix, tmp_path):
    script = f"trap 'exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"
    for program, code in (((), 1), ((AS_CONSUL,), 0)):
        held = locker.spawn(prefix, script, program=program)
        until("the child runs", (tmp_path / "up").exists)
        (tmp_path / "up").unlink()
        locker.agent.put(f"/v1/session/destroy/{locker.holder(prefix)}")
        assert held.wait(10) == code
        prefix += "x"


@pytest.fixture
def mortal(make_agent):
    """An agent that a test may stop, and a locker for it."""
    agent = make_agent(dev=False, config={"performance": {"raft_multiplier": 1}})
    agent.start()
    locker = Locker(ready(agent))
    yield locker
    locker.end()


def test_a_restart_of_the_agent_goes_unnoticed(mortal, prefix, tmp_path):
    held = mortal.spawn(prefix, f"while [ ! -e {tmp_path}/done ]; do sleep 0.05; done")
    until("it is held", lambda: mortal.holder(prefix))
    waiting = mortal.spawn(prefix, "echo next")
    until("another contends", lambda: len(mortal.sessions(prefix)) == 2)
    session = mortal.holder(prefix)
    mortal.agent.stop()
    mortal.agent.start()
    assert mortal.holder(prefix) == session
    assert held.poll() is None and waiting.poll() is None
    (tmp_path / "done").touch()
    assert held.communicate(timeout=20) == (b"", b"")
    assert (held.returncode, waiting.wait(20)) == (0, 0)
    mortal.no_trace(prefix)


@pytest.mark.parametrize("way", [signal.SIGSTOP, signal.SIGKILL])
def test_cut_off_the_child_ends_before_others_may_have_the_lock(mortal, prefix, tmp_path, way):
    path = tmp_path / "pids"
    held = mortal.spawn("-shell=false", prefix, *family(path), program=(HURRIED,))
    until("the child runs", path.exists)
    mortal.agent.send_signal(way)
    _, err = held.communicate(timeout=20)
    assert b"could not be renewed for too long" in err
    assert held.returncode == 143
    assert not any(lives(int(pid)) for pid in path.read_text().split())


def test_given_retries_are_counted(mortal, prefix):
    held = mortal.spawn("-monitor-retry=0", prefix, "sleep 60")
    until("it is held", lambda: mortal.holder(prefix))
    mortal.agent.kill9()
    _, err = held.communicate(timeout=20)
    assert err.startswith(b"Lock lost: the lock cannot be watched: ")


def test_without_an_agent(ctl, monkeypatch):
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    result = ctl("lock", "a", "true")
    assert result.code == 1
    assert result.err.startswith("Lock acquisition failed: failed to create session: Put ")


def test_sessions_by_hand(locker, prefix):
    agent = locker.agent

    def ok(*words):
        done = agent.ctl("session", *words)
        assert (done.returncode, done.stderr) == (0, b""), words
        return done.stdout.decode()

    made = ok(
        "create", "--name", prefix, "--ttl=30s", "--lock-delay", "5s", "--behavior=delete", "--check="
    ).strip()
    (found,) = json.loads(agent.http("GET", f"/v1/session/info/{made}").body)
    assert (found["TTL"], found["LockDelay"], found["Behavior"]) == ("30s", 5_000_000_000, "delete")
    assert found["NodeChecks"] == []
    header, *rows = ok("list").splitlines()
    assert header.split() == ["ID", "Node", "TTL", "LockDelay", "Behavior", "Checks", "Name"]
    (row,) = [row.split() for row in rows if made in row]
    assert row == [made, found["Node"], "30s", "5s", "delete", "-", prefix]
    assert json.loads(ok("show", made, "-o", "json")) == found
    assert f"Name           {prefix}\n" in ok("show", made)
    assert made in ok("list", "--node", found["Node"], "--quiet").split()
    assert ok("renew", made) == f"Renewed session: {made} for 30s\n"
    default = json.loads(ok("create", "-o", "json"))["ID"]
    (found,) = json.loads(agent.http("GET", f"/v1/session/info/{default}").body)
    assert (found["TTL"], found["NodeChecks"], found["LockDelay"]) == ("", ["serfHealth"], 15_000_000_000)
    for session in (made, made, default):
        assert ok("destroy", session) == f"Destroyed session: {session}\n"
    for command in ("show", "renew"):
        gone = agent.ctl("session", command, made)
        assert (gone.returncode, gone.stderr.decode()) == (1, f"Error: no such session: {made}\n")
    assert b"36 characters" in agent.ctl("session", "show", "abc").stderr
    refused = agent.ctl("session", "create", "--ttl", "1s")
    assert refused.returncode == 1 and b"Invalid Session TTL '1000000000'" in refused.stderr
