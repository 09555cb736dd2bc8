"""The one process supervisor: script checks, watch handlers and whatever else runs a command.

    child = spawn(["/bin/check", "-v"], output_limit=4096)
    if not await child.wait(30.0):          # False: still running
        await child.terminate()             # TERM to the group, KILL after a grace time, reaped
    child.code, child.output.report()

Every child leads a session and so a process group of its own, and a signal goes to the group. The exit
of the leader is seen through a pidfd on the event loop (no thread per child, no SIGCHLD handler; a short
poll where the system has no pidfd), and it stays a zombie until its group has been dealt with, so that
its process id cannot come to mean somebody else meanwhile. If this process is killed, a guard ends them
all (`agent/guard.py`). Works on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, Any

from agent.guard import GRACE, Guard
from core.node.checks import OUTPUT_MAX_SIZE, Tail

__all__ = ["GRACE", "Child", "SpawnError", "reap_orphans", "reap_orphans_as_init", "spawn"]

LINGER = 1.0
"""Seconds that background children of a leader that has ended may keep the output open."""

ORPHANS_EVERY = 5.0
"""Seconds between looks for orphans, as process 1."""

_POLL = 0.02
_CHUNK = 65536
_LOST = 255

_living: set[int] = set()
"""Process ids of the children that have not been reaped."""

_guard = Guard()


class SpawnError(Exception):
    """A command could not be started; the text says why, as Go's os/exec says it."""


class Child:
    """A running command. All methods belong to the event loop that was running when it was made."""

    def __init__(self, popen: subprocess.Popen[bytes], output: Tail) -> None:
        self.pid = popen.pid
        self.output = output
        self.code: int | None = None
        """Exit code once ended, negative the signal that killed it."""
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._leader_gone = False
        self._killed = False
        self._kill: asyncio.TimerHandle | None = None
        self._last: asyncio.TimerHandle | None = None
        self._pipe: int | None = None
        if popen.stdout is not None:
            self._pipe = popen.stdout.fileno()
            os.set_blocking(self._pipe, False)
            self._loop.add_reader(self._pipe, self._readable)
        self._pidfd: int | None = None
        _living.add(self.pid)
        _guard.begins(self.pid, _living)
        self._watch_leader()

    @property
    def ended(self) -> bool:
        """The leader has ended, was reaped, and its output is complete or given up."""
        return self._ended.done()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if it has not after `timeout` seconds. Cancelling the wait leaves
        the child running."""
        if not self._ended.done():
            await asyncio.wait([self._ended], timeout=timeout)
        return self._ended.done()

    def signal(self, number: int) -> None:
        """Send a signal to the whole group. Nothing happens if it has ended."""
        if self.code is None:
            # PermissionError: every member has changed its user; then there is nothing that we can do
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def end(self, grace: float = GRACE) -> None:
        """Begin to end it: TERM to the group now, KILL after `grace` seconds to what is left."""
        if self._ended.done() or self._kill is not None:
            return
        self.signal(signal.SIGTERM)
        self._kill = self._loop.call_later(grace, self._kill_group)

    async def terminate(self, grace: float = GRACE) -> None:
        """End it and wait until it has. A cancellation is passed on, but only then: whoever ends commands
        on the way out must not leave before they are gone."""
        self.end(grace)
        cancelled: asyncio.CancelledError | None = None
        while not self._ended.done():
            try:
                await self.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _kill_group(self) -> None:
        self._killed = True
        self.signal(signal.SIGKILL)
        if self._leader_gone:
            self._finish()

    def _watch_leader(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:  # an old kernel, a sandbox, no descriptor left: poll instead
                self._pidfd = None
        if self._pidfd is None:
            self._poll()
        else:
            self._loop.add_reader(self._pidfd, self._look)

    def _poll(self) -> None:
        self._look()
        if not self._leader_gone:
            self._loop.call_later(_POLL, self._poll)

    def _look(self) -> None:
        """Has the leader ended? It is not reaped yet."""
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
        except ChildProcessError:
            # whoever started us ignores SIGCHLD, so the kernel reaps for us and the exit code is lost
            self._popen.returncode = _LOST
        self._leader_gone = True
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._pipe is None:
            self._finish()
        elif self._kill is None or self._killed:  # else the kill comes first
            self._last = self._loop.call_later(LINGER, self._give_up)

    def _readable(self) -> None:
        assert self._pipe is not None
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self.output.write(data)
            return
        self._close_pipe()
        if self._leader_gone:
            self._finish()

    def _give_up(self) -> None:
        """The leader is gone but something in its group holds the output open: it goes, too, or scripts
        that leave children behind would fill the process table."""
        self.signal(signal.SIGKILL)
        self._finish()

    def _finish(self) -> None:
        if self._ended.done():
            return
        if self._kill is not None:
            # it was to be ended: members of the group that let go of the output may still be there
            self._kill.cancel()
            self.signal(signal.SIGKILL)
        if self._last is not None:
            self._last.cancel()
        if self._pipe is not None:
            self._drain()
            self._close_pipe()
        _guard.gone(self.pid)
        self.code = self._popen.wait()  # returns at once: the leader has ended
        _living.discard(self.pid)
        self._ended.set_result(None)

    def _drain(self) -> None:
        """Take what is in the pipe now, without waiting for more (at most a pipe's capacity)."""
        assert self._pipe is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):
                data = os.read(self._pipe, _CHUNK)
                if not data:
                    return
                self.output.write(data)

    def _close_pipe(self) -> None:
        assert self._pipe is not None and self._popen.stdout is not None
        self._loop.remove_reader(self._pipe)
        self._popen.stdout.close()
        self._pipe = None


def spawn(
    command: Sequence[str] | str,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    output_limit: int = OUTPUT_MAX_SIZE,
    capture: bool = True,
    cwd: str | None = None,
    user: str = "",
) -> Child:
    """Start a command: a list is a program and its arguments, a string a line for the shell ($SHELL or
    /bin/sh). `env` is added to our environment. stdout and stderr go together into `Child.output`, which
    keeps the last `output_limit` bytes, or to our own with `capture=False`. `user`: whom to run it as, with
    all groups of that user. SpawnError if it cannot start."""
    identity, home = _identity(user)
    environment = {**os.environ, **home, **(env or {})} if env or home else None
    argv = (
        [os.environ.get("SHELL") or "/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    )
    if not argv or not argv[0]:
        raise SpawnError("exec: no command")
    program = _look_up(argv[0], environment)
    source = _as_file(stdin)
    try:
        popen = subprocess.Popen(
            argv,
            executable=program,
            env=environment,
            cwd=cwd,
            stdin=source if source is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
            bufsize=0,
            start_new_session=True,
            **identity,
        )
    except (OSError, ValueError) as error:
        if user and isinstance(error, PermissionError) and os.geteuid():
            raise SpawnError(f"only root can run it as the user {user}") from error
        raise SpawnError(_go_text(argv[0], cwd, error)) from error
    finally:
        if source is not None:
            source.close()
    return Child(popen, Tail(output_limit))


def _identity(user: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What makes a child run as a user, and the variables that this user would have."""
    if not user:
        return {}, {}
    import pwd

    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise SpawnError(f"there is no user {user}") from None
    groups = os.getgrouplist(user, found.pw_gid)
    identity = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": groups}
    return identity, {"HOME": found.pw_dir, "USER": user, "LOGNAME": user}


def reap_orphans() -> int:
    """Reap the processes that others left to us and that have ended. Returns how many."""
    reaped = 0
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        if found is None or found.si_pid in _living:  # our own are reaped by their Child, soon
            return reaped
        os.waitpid(found.si_pid, os.WNOHANG)
        reaped += 1


def reap_orphans_as_init() -> None:
    """Call once on the running loop: process 1 (a container's only process) inherits the orphans of
    everybody and has to reap them; as any other process there is nothing to do."""
    if os.getpid() == 1:
        _reap_and_rearm(asyncio.get_running_loop())


def _reap_and_rearm(loop: asyncio.AbstractEventLoop) -> None:
    reap_orphans()
    loop.call_later(ORPHANS_EVERY, _reap_and_rearm, loop)


def _as_file(data: bytes) -> IO[bytes] | None:
    """Data for a child's stdin as an open file: no writer to feed and no child that waits for us."""
    if not data:
        return None
    file: IO[bytes]
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("stdin"), "w+b", buffering=0)
    else:
        import tempfile

        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


def _look_up(name: str, environment: Mapping[str, str] | None) -> str:
    if "/" in name:
        return name
    import shutil

    path = (environment or os.environ).get("PATH")
    found = shutil.which(name, path=path)
    if found is None:
        raise SpawnError(f'exec: "{name}": executable file not found in $PATH')
    return found


def _go_text(program: str, cwd: str | None, error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        if cwd is not None and error.filename == cwd:
            return f"chdir {cwd}: {os.strerror(error.errno).lower()}"
        return f"fork/exec {program}: {os.strerror(error.errno).lower()}"
    return f"fork/exec {program}: {error}"  # an argument with a zero byte
