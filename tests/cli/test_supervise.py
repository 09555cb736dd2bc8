"""Children in the foreground: exit codes, signals, and that none outlives its command, whatever happens."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from cli.supervise import ending, exit_status
from tests.cli.conftest import ROOT
from tests.harness import lives

# A command that runs one child as `ctl lock` does; settings come as keyword arguments of `start`.
PROGRAM = """
import sys
from cli.supervise import Signals, StartError, Supervisor, clock, exit_status
with Signals() as signals, Supervisor(signals) as supervisor:
    try:
        supervisor.start(sys.argv[2:], {"GIVEN": "value"}, **eval(sys.argv[1]))
    except StartError as error:
        sys.exit(f"cannot start: {error}")
    {then}
    while supervisor.code is None:
        for number in supervisor.wait():
            supervisor.signal(number)
    sys.exit(exit_status(supervisor.code))
"""


@pytest.fixture
def command():
    """Start PROGRAM on some words."""
    started = []

    def start(*words, then="pass", prefix=(), **settings):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options.update(settings.pop("options", {}))
        program = [*prefix, sys.executable, "-c", PROGRAM.replace("{then}", then), repr(settings), *words]
        process = subprocess.Popen(program, cwd=ROOT, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def group_of(process, path, eventually):
    """Process ids that the child wrote: its own and that of what it started."""
    eventually(path.exists)
    pids = [int(pid) for pid in path.read_text().split()]
    assert all(os.getpgid(pid) == pids[0] != os.getpgid(process.pid) for pid in pids)
    return pids


def guard_of(pid):
    """The parent of a child."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def family(path, before=""):
    """A script that writes its own id and that of a process it started, and waits."""
    return ("sh", "-c", f"{before} sleep 60 & echo $$ $! > {path}.new; mv {path}.new {path}; wait")


def once_there(path):
    """Code that waits for a file."""
    return f"import os, time; [time.sleep(0.01) for _ in iter(lambda: os.path.exists('{path}'), True)]"


def test_words_and_codes():
    assert [exit_status(code) for code in (0, 7, -2, -15)] == [0, 7, 130, 143]
    assert [ending(code) for code in (7, -2, -15, -9)] == [
        "exit status 7",
        "signal: interrupt",
        "signal: terminated",
        "signal: killed",
    ]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_exit_codes(command, script, code):
    assert command("sh", "-c", script).wait(10) == code


def test_what_a_child_gets(command):
    script = "echo $GIVEN; cat; echo err >&2"
    out, err = command("sh", "-c", script, stdin=b"x" * 100_000).communicate(timeout=10)
    assert (out, err) == (b"value\n" + b"x" * 100_000, b"err\n")
    out, err = command("sh", "-c", script).communicate(timeout=10)
    assert out == b"value\n"
    reading = command("cat", own_stdin=True, options={"stdin": subprocess.PIPE})
    assert reading.communicate(b"ours", timeout=10)[0] == b"ours"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nosuch-program"], 'exec: "nosuch-program": executable file not found in $PATH'),
        (["/no/such"], "fork/exec /no/such: no such file or directory"),
        (["/etc"], "fork/exec /etc: permission denied"),
        (["a\0b"], "fork/exec a\0b: embedded null byte"),
    ],
)
def test_what_cannot_start(words, text):
    from cli.supervise import Signals, StartError, Supervisor

    with Signals() as signals, Supervisor(signals) as supervisor:
        with pytest.raises(StartError) as raised:
            supervisor.start(words, {})
        assert str(raised.value) == text
        assert supervisor.run(["sh", "-c", "exit 3"], {}) == 3  # and the next one can


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_reach_the_whole_group(command, tmp_path, eventually, name):
    number = getattr(signal, f"SIG{name}")
    process = command(*family(tmp_path / "pids"))
    pids = group_of(process, tmp_path / "pids", eventually)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert not any(lives(pid) for pid in pids)


def test_a_signal_that_the_child_heeds_and_survives(command, tmp_path, eventually):
    log = tmp_path / "log"
    script = (
        f"trap 'echo hup >> {log}' HUP; trap 'exit 5' USR1; echo up > {log}; while :; do sleep 0.02; done"
    )
    process = command("sh", "-c", script)
    eventually(log.exists)
    process.send_signal(signal.SIGHUP)
    eventually(lambda: "hup" in log.read_text())
    assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 5


def test_what_was_ignored_stays_ignored(command, tmp_path, eventually):
    path = tmp_path / "pids"
    process = command(*family(path), prefix=["nohup"])
    pids = group_of(process, path, eventually)
    process.send_signal(signal.SIGHUP)
    os.killpg(pids[0], signal.SIGHUP)
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM


def test_killed_with_kill_it_leaves_no_orphan(command, tmp_path, eventually):
    process = command(*family(tmp_path / "pids"))
    pids = group_of(process, tmp_path / "pids", eventually)
    guard = guard_of(pids[0])
    process.kill()
    eventually(lambda: not any(lives(pid) for pid in [*pids, guard]))


def test_a_child_that_ignores_term_is_killed_after_a_grace(command, tmp_path, eventually):
    path = tmp_path / "pids"
    process = command(*family(path, before="trap '' TERM;"), then=f"{once_there(path)}; supervisor.end(0.3)")
    pids = group_of(process, path, eventually)
    began = time.monotonic()
    assert process.wait(10) == 137
    assert time.monotonic() - began < 5
    assert not any(lives(pid) for pid in pids)


def test_without_its_guard_the_child_ends(command, tmp_path, eventually):
    """The guard is killed, too: the kernel kills the child, the command its group."""
    process = command(*family(tmp_path / "pids"))
    pids = group_of(process, tmp_path / "pids", eventually)
    os.kill(guard_of(pids[0]), signal.SIGKILL)
    assert process.wait(10) == 137
    eventually(lambda: not any(lives(pid) for pid in pids))


def test_both_killed_at_once(command, tmp_path, eventually):
    process = command(
        "sh", "-c", f"echo $$ $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; exec sleep 60"
    )
    pids = group_of(process, tmp_path / "pids", eventually)
    process.send_signal(signal.SIGSTOP)
    os.kill(guard_of(pids[0]), signal.SIGKILL)
    process.kill()
    eventually(lambda: not lives(pids[0]))


def test_a_lease_ends_the_child_of_a_command_that_stands_still(command, tmp_path, eventually):
    process = command(*family(tmp_path / "pids"), then="supervisor.lease(clock() + 0.8)")
    pids = group_of(process, tmp_path / "pids", eventually)
    process.send_signal(signal.SIGSTOP)
    assert all(lives(pid) for pid in pids)
    eventually(lambda: not any(lives(pid) for pid in pids))
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 128 + signal.SIGTERM


def test_a_lease_that_is_renewed_ends_nothing(command):
    then = "[supervisor.lease(clock() + 0.4) or supervisor.wait(0.1) for _ in range(10)]"
    assert command("sleep", "0.9", then=then).wait(10) == 0


def test_a_lease_that_lapsed_long_ago_kills_at_once(command, tmp_path, eventually):
    """As after the machine slept: there is no time for a grace."""
    path = tmp_path / "pids"
    then = f"{once_there(path)}; supervisor.lease(clock() - 60)"
    process = command(*family(path, before="trap '' TERM;"), then=then)
    began = time.monotonic()
    assert process.wait(10) == 137
    assert time.monotonic() - began < 4
    assert not any(lives(int(pid)) for pid in path.read_text().split())


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_child_leaves_behind(command, tmp_path, whole):
    path = tmp_path / "left"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = command("sh", "-c", f"sleep 60 & echo $! > {path}; exit 3", whole=whole, options=quiet)
    assert process.wait(10) == 3
    left = int(path.read_text())
    assert lives(left) is not whole
    if not whole:
        os.kill(left, signal.SIGKILL)


def test_what_moves_out_of_the_group_is_left(command, tmp_path, eventually):
    """A daemon that a child starts on purpose is its own master."""
    path = tmp_path / "pid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    script = (
        "import os, time\nif os.fork() == 0:\n"
        f" os.setsid(); open('{path}', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    assert command(sys.executable, "-c", script, options=quiet).wait(10) == 0
    daemon = int(eventually(lambda: path.exists() and path.read_text()))
    assert lives(daemon)
    os.kill(daemon, signal.SIGKILL)


@pytest.fixture
def session():
    """A command as the leader of a session on a pseudo-terminal."""
    made = []

    def start(*words, **settings):
        leader, follower = pty.openpty()

        def prepare():
            os.setsid()
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

        program = [sys.executable, "-c", PROGRAM.replace("{then}", "pass"), repr(settings), *words]
        process = subprocess.Popen(
            program, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower, preexec_fn=prepare
        )
        os.close(follower)
        made.append((process, leader))
        return process, leader

    yield start
    for process, leader in made:
        process.kill()
        process.wait()
        os.close(leader)


def until_shown(leader, text):
    shown = b""
    end = time.monotonic() + 10
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([leader], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                shown += os.read(leader, 4096)
    return shown


def test_the_child_gets_the_terminal(session):
    """It can read it, Ctrl-C is its own, and Ctrl-Z does not leave the terminal to nobody."""
    process, leader = session("sh", "-c", "trap 'echo interrupted' INT; cat; cat; exit 4", own_stdin=True)
    os.write(leader, b"hello\n")
    until_shown(leader, b"hello\r\nhello\r\n")
    os.write(leader, b"\x1a")
    os.write(leader, b"awake\n")
    until_shown(leader, b"awake\r\nawake\r\n")
    os.write(leader, b"\x03")
    until_shown(leader, b"interrupted")
    os.write(leader, b"\x04")
    assert process.wait(10) == 4


def test_without_the_terminal_ctrl_c_is_passed_on(session):
    process, leader = session("sh", "-c", "echo begun; exec sleep 60")
    until_shown(leader, b"begun")
    os.write(leader, b"\x03")
    assert process.wait(10) == 130
