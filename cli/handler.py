"""One child at a time, in a process group of its own, always reaped.

Signals to this process end the child first: TERM to its whole group, KILL to what is left after a
grace period. A signal is noticed only where `interruptible` says so, never between the start of a
child and the moment when we know its id."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

SLICE = 1.0
GRACE = 5.0
GRACE_OF_ORPHANS = 0.5  # for the rest of a group whose first process has ended
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Stop(Exception):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """While entered, the ending signals raise Stop inside `interruptible` and are kept outside of it.

    `wakeup` can be read once a signal has come. Whoever blocks in a system call must wait for it too:
    a signal that comes just before the call does not interrupt it."""

    def __init__(self) -> None:
        self.wakeup = self._writing = self._wakeup_before = -1
        self._got = 0
        self._armed = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self.wakeup, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _SIGNALS:
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
        self._armed = True
        try:
            if self._got:
                raise Stop(self._got)
            yield
        finally:
            self._armed = False

    def sleep(self, seconds: float) -> None:
        """Wait; Stop when a signal comes."""
        with self.interruptible():
            select.select([self.wakeup], [], [], seconds)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._got = self._got or number
        if self._armed:
            self._armed = False
            raise Stop(number)


def shell_words(line: str) -> list[str]:
    """The words that run `line` in the user's shell."""
    return [os.environ.get("SHELL") or "/bin/sh", "-c", line]


def run_child(
    words: Sequence[str],
    payload: bytes,
    environment: Mapping[str, str],
    signals: Signals,
    deadline: float | None = None,
) -> int:
    """Run a child with `payload` on its standard input and wait for its end.

    Its exit code, or minus the signal that ended it. OSError when it cannot start. When a signal or
    the deadline (monotonic; TimeoutError) comes first, the whole group is ended before that is raised."""
    child = subprocess.Popen(words, stdin=subprocess.PIPE, env={**os.environ, **environment}, process_group=0)
    try:
        with signals.interruptible():
            return _communicate(child, payload, deadline)
    except BaseException:
        end_group(child)
        raise


def _communicate(child: subprocess.Popen[bytes], payload: bytes, deadline: float | None) -> int:
    """Feed the child and wait for it, in slices: none of them may outwait a signal. TimeoutError."""
    rest: bytes | None = payload
    while True:
        left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
        if left <= 0:
            raise TimeoutError
        try:
            child.communicate(rest, timeout=left)
        except subprocess.TimeoutExpired:
            rest = None  # it goes on with what it was given
        else:
            return child.returncode


def end_group(child: subprocess.Popen[bytes]) -> None:
    """TERM to the child's group, then KILL to whoever is left, and reap the child."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        if child.returncode is None and child.poll() is not None:
            deadline = min(deadline, time.monotonic() + GRACE_OF_ORPHANS)
        if child.returncode is not None and not _signal_group(child.pid, 0):
            return
        time.sleep(0.02)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: int) -> bool:
    """Whether anybody was there to be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
