"""Ends the children of an agent that could not do it itself: one that was killed, or that fell.

    python -I -S agent/guard.py        # on stdin a line "+PID" when a group begins, "-PID" when it is gone

A small process beside the agent reads which process groups there are. When the agent is gone, whatever
ended it, its stdin ends; then the groups that are left get TERM, and KILL after a grace time. The agent
has one as soon as it has had a child. (Who is born in the millisecond before the agent is killed may
not have been told of.)"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

GRACE = 5.0
"""Seconds between TERM and KILL."""

_LOOK = 0.02


class Guard:
    """The agent's side."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def begins(self, pid: int, living: Iterable[int]) -> None:
        """A child leads a group now; `living` are all that do, for a guard that is new."""
        if self._process is None or not self._tell(b"+%d\n" % pid):
            try:
                self._start()
            except OSError:  # no process or descriptor to be had: the next child tries again
                self._process = None
                return
            self._tell(b"".join(b"+%d\n" % each for each in living))

    def gone(self, pid: int) -> None:
        """A group has ended. To be told before its leader is reaped and its number free."""
        if self._process is not None:
            self._tell(b"-%d\n" % pid)

    def _start(self) -> None:
        if self._process is not None:  # somebody has ended it, or stopped it until the pipe was full
            self._process.kill()
            self._process.wait()
        words = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            start_new_session=True,  # what is sent to our group must not end it
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def _tell(self, line: bytes) -> bool:
        assert self._process is not None and self._process.stdin is not None
        try:
            return os.write(self._process.stdin.fileno(), line) == len(line)
        except OSError:
            return False


def _groups(descriptor: int) -> set[int]:
    """Those that are left when there is no more to read."""
    found: set[int] = set()
    rest = b""
    while data := os.read(descriptor, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (found.add if line[:1] == b"+" else found.discard)(int(line[1:]))
    return found


def _send(groups: set[int], number: int) -> set[int]:
    """Signal the groups; those of which somebody was there."""
    there = set()
    for group in groups:
        # PermissionError: all of them have changed their user, and there is nothing that we can do
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
            there.add(group)
    return there


def main() -> None:
    """Wait for the end of the agent, then end its children."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    left = _send(_groups(0), signal.SIGTERM)
    _send(left, signal.SIGCONT)
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK)
        left = _send(left, 0)
    _send(left, signal.SIGKILL)


if __name__ == "__main__":
    main()
