"""The process supervisor: every way to end, nothing left behind. On asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent import process
from agent.process import Child, SpawnError, reap_orphans, spawn
from tests.harness import lives

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run  # type: ignore[return-value]


@pytest.fixture(scope="module", autouse=True)
def warm_up() -> None:
    async def nothing() -> None:
        pass

    uvloop.run(nothing())  # keeps descriptors for its signal handling, once


@pytest.fixture(scope="module", autouse=True)
def guard() -> None:
    """The first child brings the guard, which stays."""

    async def first() -> None:
        await spawn("true").wait()

    asyncio.run(first())


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    gc.collect()  # event loops of other tests
    before = descriptors()
    yield
    deadline = time.monotonic() + 5
    while zombies() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert zombies() == []
    assert descriptors() <= before
    assert not process._living


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children(of: int) -> list[tuple[int, str]]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == of:
                found.append((int(entry), fields[0]))
    return found


def zombies() -> list[int]:
    return [pid for pid, state in children(os.getpid()) if state == "Z"]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.005)


async def finish(command: list[str] | str, **options: Any) -> Child:
    child = spawn(command, **options)
    assert await child.wait(20.0)
    return child


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("exit 0", 0, ""),
        ("echo out; echo err >&2", 0, "out\nerr\n"),
        ("exit 3", 3, ""),
        ("kill -9 $$", -9, ""),
        ("exec >&- 2>&-; exit 1", 1, ""),
        ("printf '\\377'", 0, "\ufffd"),
        ("cat", 0, ""),
    ],
)
def test_ends_by_itself(run: Run, script: str, code: int, output: str) -> None:
    child = run(finish(["/bin/sh", "-c", script]))
    assert (child.code, child.output.report()) == (code, output)


def test_closed_output_is_not_the_end(run: Run) -> None:
    async def main() -> None:
        child = spawn("exec >&- 2>&-; sleep 0.2; exit 4")
        assert not await child.wait(0.1)
        assert await child.wait(10)
        assert child.code == 4

    run(main())


def test_much_output_keeps_its_end(run: Run) -> None:
    child = run(finish([sys.executable, "-S", "-c", "print('x' * 1_000_000 + 'the end', end='')"]))
    assert child.code == 0
    head, dots, rest = child.output.report().split("\n", 2)
    assert (head, dots) == ("Captured 4096 of 1000007 bytes", "...")
    assert len(rest) == 4096
    assert rest.endswith("xthe end")


def test_leads_a_session_and_a_group(run: Run) -> None:
    child = run(
        finish([sys.executable, "-S", "-c", "import os; print(os.getpid(), os.getsid(0), os.getpgid(0))"])
    )
    pid, session, group = child.output.text().split()
    assert pid == session == group == str(child.pid)


def test_environment_directory_and_stdin(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        child = await finish('echo "$WORD $HOME"; pwd', env={"WORD": "hello"}, cwd=str(tmp_path))
        assert child.output.text() == f"hello {os.environ['HOME']}\n{tmp_path}\n"
        data = os.urandom(300_000)
        child = await finish(f"cat > {tmp_path}/copy", stdin=data)
        assert child.code == 0
        assert (tmp_path / "copy").read_bytes() == data
        child = await finish("true", stdin=data)  # not read at all
        assert child.code == 0

    run(main())


def test_does_not_inherit_what_we_ignore_or_have_open(run: Run) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            code = "import os, signal; print(sorted(os.listdir('/proc/self/fd'), key=int)[:4])"
            child = await finish([sys.executable, "-S", "-c", code])
            assert child.output.text() == "['0', '1', '2', '3']\n"
            child = await finish("grep SigIgn /proc/self/status")
            ignored = int(child.output.text().split()[1], 16)
            assert not ignored & (1 << (signal.SIGPIPE - 1))
        finally:
            signal.signal(signal.SIGPIPE, before)
            os.close(reader)
            os.close(writer)

    run(main())


def test_term_is_enough(run: Run) -> None:
    async def main() -> None:
        child = spawn(["sleep", "60"])
        assert not await child.wait(0.05)
        started = time.monotonic()
        await child.terminate(30)
        assert time.monotonic() - started < 5
        assert child.code == -signal.SIGTERM

    run(main())


def test_term_is_ignored(run: Run) -> None:
    async def main() -> None:
        child = spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        await until(lambda: child.output.total)
        await child.terminate(0.2)
        assert child.code == -signal.SIGKILL
        child.signal(signal.SIGTERM)  # no effect, no error
        await child.terminate()

    run(main())


def test_the_whole_group_goes(run: Run) -> None:
    """Grandchildren that ignore TERM and hold the pipe open, while the leader obeys TERM."""

    async def main() -> None:
        inner = 'trap "" TERM; echo $$; while :; do sleep 0.05; done'
        child = spawn(f"sh -c '{inner}' & sh -c '{inner}' & wait")
        await until(lambda: child.output.text().count("\n") == 2)
        pids = [int(word) for word in child.output.text().split()]
        assert all(lives(pid) for pid in pids)
        await child.terminate(0.2)
        await until(lambda: not any(lives(pid) for pid in pids))
        assert child.code == -signal.SIGTERM

    run(main())


def test_members_that_let_go_of_the_output_go_too(run: Run) -> None:
    async def main() -> None:
        child = spawn("trap 'exit 0' TERM; (trap '' TERM; exec >/dev/null 2>&1 sleep 60) & echo $!; wait")
        await until(lambda: child.output.total)
        grandchild = int(child.output.text())
        await child.terminate(30)
        await until(lambda: not lives(grandchild))

    run(main())


def test_leader_ends_and_a_child_keeps_the_output_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINGER", 0.2)

    async def main() -> None:
        started = time.monotonic()
        child = await finish("sleep 60 & echo $!; exit 1")
        assert time.monotonic() - started < 5
        assert child.code == 1
        await until(lambda: not lives(int(child.output.text())))

    run(main())


def test_leader_ends_and_a_child_writes_on_for_a_while(run: Run) -> None:
    child = run(finish("(sleep 0.2; echo late) & echo early"))
    assert (child.code, child.output.text()) == (0, "early\nlate\n")


def test_a_daemon_that_closed_its_output_is_left_alone(run: Run) -> None:
    async def main() -> None:
        child = await finish("sleep 60 >/dev/null 2>&1 & echo $!")
        daemon = int(child.output.text())
        assert child.code == 0
        assert lives(daemon)
        os.kill(daemon, signal.SIGKILL)

    run(main())


def test_double_fork_away_from_the_group(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon in a session of its own that keeps our pipe: not ours to kill, and it does not hold us up."""
    monkeypatch.setattr(process, "LINGER", 0.2)

    async def main() -> None:
        child = await finish("setsid sleep 60 & echo $!; exit 0")
        daemon = int(child.output.text())
        assert child.code == 0
        assert lives(daemon)
        os.kill(daemon, signal.SIGKILL)

    run(main())


def test_killed_while_a_daemon_keeps_the_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINGER", 0.2)

    async def main() -> None:
        child = spawn("trap '' TERM; setsid sleep 60 & echo $!; while :; do sleep 0.05; done")
        await until(lambda: child.output.total)
        async with asyncio.timeout(10):
            await child.terminate(0.1)
        assert child.code == -signal.SIGKILL
        os.kill(int(child.output.text()), signal.SIGKILL)

    run(main())


def test_cancelled_wait_leaves_the_child(run: Run) -> None:
    async def main() -> None:
        child = spawn(["sleep", "60"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await child.wait()
        assert not child.ended
        await child.terminate()

    run(main())


def test_cancelled_terminate_ends_it_first(run: Run) -> None:
    async def main() -> None:
        child = spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        await until(lambda: child.output.total)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await child.terminate(0.2)
        assert child.code == -signal.SIGKILL

    run(main())


def test_cannot_start(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    cases: list[tuple[list[str], dict[str, Any], str]] = [
        (["nosuch-program"], {}, 'exec: "nosuch-program": executable file not found in $PATH'),
        (["/no/such"], {}, "fork/exec /no/such: no such file or directory"),
        ([str(plain)], {}, f"fork/exec {plain}: permission denied"),
        (["true"], {"cwd": "/no/such"}, "chdir /no/such: no such file or directory"),
        ([], {}, "exec: no command"),
        (["echo", "a\0b"], {}, "fork/exec echo: embedded null byte"),
    ]

    async def main() -> None:
        for command, options, text in cases:
            with pytest.raises(SpawnError) as caught:
                spawn(command, stdin=b"data", **options)
            assert str(caught.value) == text

    run(main())


def test_without_pidfd(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def main() -> None:
        child = await finish("sleep 0.1; echo done; exit 1")
        assert (child.code, child.output.text()) == (1, "done\n")
        child = spawn(["sleep", "60"])
        await child.terminate()
        assert child.code == -signal.SIGTERM

    run(main())


def test_when_the_kernel_reaps_for_us(run: Run) -> None:
    async def main() -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            child = await finish("echo done")
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert (child.code, child.output.text()) == (255, "done\n")  # not 0: nobody knows

    run(main())


def test_three_hundred_runs_leave_nothing(run: Run) -> None:
    async def one(turn: int) -> None:
        kind = turn % 4
        if kind == 0:
            child = await finish("exit 1")
        elif kind == 1:
            child = await finish("sleep 60 >/dev/null 2>&1 & kill $!; echo x")
        elif kind == 2:
            child = spawn(["sleep", "60"])
            await child.terminate()
        else:
            child = await finish("cat", stdin=b"abc")
        assert child.ended

    async def main() -> None:
        await one(0)
        before = descriptors()
        for start in range(0, 300, 20):
            await asyncio.gather(*(one(turn) for turn in range(start, start + 20)))
        assert descriptors() <= before
        assert zombies() == []

    run(main())


ORPHANS = """
import ctypes, os, subprocess, sys, time
sys.path.insert(0, {root!r})
from agent.process import reap_orphans, _living
from tests.harness import lives
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us, as to process 1
own = subprocess.Popen(["true"])
_living.add(own.pid)
subprocess.run(["sh", "-c", "sleep 0.05 & sleep 0.05 &"])
deadline = time.monotonic() + 10
reaped = 0
os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
assert reap_orphans() == 0  # ours comes first, and is not taken
assert own.wait() == 0
while reaped < 2 and time.monotonic() < deadline:
    reaped += reap_orphans()
    time.sleep(0.01)
print(reaped, reap_orphans())
"""


def test_orphans_are_reaped(run: Run) -> None:
    root = str(Path(__file__).resolve().parents[2])
    child = run(finish([sys.executable, "-c", ORPHANS.format(root=root)]))
    assert (child.output.text(), child.code) == ("2 0\n", 0)


def test_process_1_looks_for_orphans_again_and_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(process, "reap_orphans", lambda: looks.append(1))
    monkeypatch.setattr(process, "ORPHANS_EVERY", 0.001)

    async def main() -> None:
        process.reap_orphans_as_init()
        assert not looks
        monkeypatch.setattr(os, "getpid", lambda: 1)
        process.reap_orphans_as_init()
        await until(lambda: len(looks) > 3)

    run(main())


def test_no_orphans_here() -> None:
    assert reap_orphans() == 0
