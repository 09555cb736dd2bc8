"""Children in the foreground: one at a time, with our own output, that never outlive us.

    with Signals() as signals, Supervisor(signals) as supervisor:
        supervisor.start(["/bin/job"], {"NAME": "value"})
        while supervisor.code is None:
            for number in supervisor.wait():
                supervisor.signal(number)          # to the child's whole group
        return exit_status(supervisor.code)

Every child leads a process group of its own. A small process beside us (`cli/guard.py`) is its parent:
whatever happens to us, even KILL, the group gets TERM, and KILL what is left after a grace time. Whoever
may not hold on to something longer than until a certain time tells it with `lease`, and the group is gone
in time even if we stand still."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from cli.guard import GRACE, PASSED_ON, clock, receive, send

if TYPE_CHECKING:
    from socket import socket

__all__ = [
    "GRACE",
    "Signals",
    "StartError",
    "Stop",
    "Supervisor",
    "clock",
    "ending",
    "exit_status",
    "shell_words",
]


class Stop(Exception):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StartError(Exception):
    """A child could not be started; the text is Go's."""


class Signals:
    """While entered, signals raise Stop inside `interruptible`, and are kept for `take` outside of it.

    `wakeup` can be read once a signal has come. Whoever blocks in a system call must wait for it too: a
    signal that comes just before the call does not interrupt it. What was ignored when we were started
    (`nohup`, the background jobs of a script) stays ignored, by the children too."""

    def __init__(self) -> None:
        self.wakeup = self._writing = self._wakeup_before = -1
        self._got: list[int] = []
        self._armed = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self.wakeup, self._writing = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writing)
        os.close(self.wakeup)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise Stop if a signal has come, or as soon as one comes."""
        self._armed = True
        try:
            if self._got:
                raise Stop(self._got[0])
            yield
        finally:
            self._armed = False

    def sleep(self, seconds: float) -> None:
        """Wait; Stop when a signal comes."""
        with self.interruptible():
            select.select([self.wakeup], [], [], seconds)

    def take(self) -> list[int]:
        """The signals that have come since; they count as dealt with."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, 4096)
        got, self._got = self._got, []
        return got

    def _note(self, number: int, _: FrameType | None) -> None:
        self._got.append(number)
        if self._armed:
            self._armed = False
            raise Stop(number)


class Supervisor:
    """Runs children, one at a time, through a guard that ends with this object."""

    def __init__(self, signals: Signals) -> None:
        self.code: int | None = None
        """Exit code of the last child once it and its group have ended, negative the signal that ended it."""
        self._signals = signals
        self._group = 0
        self._stream: socket
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        """A child that still runs is ended by the guard."""
        if self._guard is not None:
            self._stream.close()
            self._guard.wait()

    def prepare(self) -> None:
        """Start the guard. `start` does it, too; earlier it costs no time while one waits for others."""
        if self._guard is not None:
            return
        from socket import socketpair

        self._stream, theirs = socketpair()
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py")
        words = [sys.executable, "-I", "-S", program, str(theirs.fileno())]
        # a group of its own: what is sent to ours (Ctrl-C, a shell's kill %1) must not end the guard
        self._guard = subprocess.Popen(words, pass_fds=(theirs.fileno(),), process_group=0)
        theirs.close()

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: bytes = b"",
        own_stdin: bool = False,
        whole: bool = True,
        pristine: bool = False,
    ) -> None:
        """Start a child with `environment` added to ours. It reads `stdin`, or with `own_stdin` ours and
        gets the terminal if we have it. `whole`: what it leaves behind in its group ends with it.
        `pristine`: nothing of our environment. StartError when it cannot start."""
        self.prepare()
        everything = {**({} if pristine else os.environ), **environment}
        terminal = os.getpgrp() if own_stdin and _has_terminal() else 0
        self.code = None
        self._tell("start", list(words), everything, stdin, own_stdin, terminal, whole)
        answer = receive(self._stream)
        if answer is None:
            raise StartError("its guard has ended")
        if answer[0] == "failed":
            raise StartError(_go_text(words[0], *answer[1:]))
        self._group = answer[1]

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stdin: bytes = b"",
        deadline: float | None = None,
    ) -> int:
        """Run a child to its end and give its code; what it leaves behind is left. When a signal or the
        deadline (monotonic) comes first, it is ended, then Stop or TimeoutError raised."""
        self.start(words, environment, stdin=stdin, whole=False)
        why: Exception | None = None
        while self.code is None:
            left = None if deadline is None or why else max(0.0, deadline - time.monotonic())
            for number in self.wait(left):
                why = why or Stop(number)
            if why is None and deadline is not None and time.monotonic() >= deadline:
                why = TimeoutError()
            if why is not None:
                self.end()
        if why is not None:
            raise why
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the child's group. Nothing happens if it has ended."""
        self._tell("signal", number)

    def end(self, grace: float = GRACE) -> None:
        """Begin to end it: TERM to the group now, KILL after `grace` seconds to what is left."""
        self._tell("end", grace)

    def lease(self, until: float, grace: float = GRACE) -> None:
        """Unless told otherwise, it is ended at `until` (of `clock`), even if we hang by then."""
        self._tell("lease", until, grace)

    def wait(self, timeout: float | None = None, *readable: int) -> list[int]:
        """Until the child has ended, a signal has come, a descriptor can be read, or the time is up; gives
        the signals that have come."""
        watched: list[Any] = [self._stream, self._signals.wakeup, *readable]
        ready = select.select(watched, [], [], timeout)[0]
        if self._stream in ready:
            answer = receive(self._stream)
            if answer is None:
                self._guard_lost()
            else:
                self.code = answer[1]
        return self._signals.take()

    def _tell(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # the guard is gone: `wait` finds out
            send(self._stream, *message)

    def _guard_lost(self) -> None:
        """Somebody has killed the guard: nobody else looks after the child now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, signal.SIGKILL)
        self.code = -signal.SIGKILL


def _has_terminal() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def shell_words(line: str) -> list[str]:
    """The words that run `line` in the user's shell."""
    return [os.environ.get("SHELL") or "/bin/sh", "-c", line]


def exit_status(code: int) -> int:
    """What to exit with after a child that ended with `code`: the same, or 128 and its signal."""
    return code if code >= 0 else 128 - code


def ending(code: int) -> str:
    """Go's words for how a process ended."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def _go_text(program: str, number: int, text: str) -> str:
    import errno

    if number == errno.ENOENT and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    if not number:
        return f"fork/exec {program}: {text}"
    return f"fork/exec {program}: {os.strerror(number).lower()}"
