"""The process between a command and its children: it starts them, and ends them when the command is gone.

    python -I -S cli/guard.py FD          # FD: a stream socket whose other end `cli/supervise.py` has

A command that is killed with KILL can end nothing, and one that is stopped cannot watch its clock. So
neither is asked to: this process sees the socket close, or the lease run out, and ends the child's whole
group. It loads the standard library only and serves one child at a time.

Messages both ways are a length (4 bytes) and a marshalled tuple, the first item being its name:

    start words environment stdin own_stdin terminal whole
                                                          -> started pid | failed errno text
    signal number                                         to the child's group
    end grace                                             TERM, and KILL to what is left after the grace
    lease until grace                                     the same by itself at this time of `clock`
                                                          -> ended code, with `whole` after all others"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from socket import socket
from typing import IO, Any

GRACE = 5.0
"""Seconds between TERM and KILL."""

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""What a command takes for its child."""

KEPT_FROM_US = (*PASSED_ON, signal.SIGTSTP)
_LOOK = 0.02  # seconds between looks at a group that is to go
_TICK = 1.0  # the longest wait with a lease: `select` does not count time that the machine slept
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def clock() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def send(stream: socket, *message: Any) -> None:
    """Send a message. OSError when the other end is gone."""
    data = marshal.dumps(message)
    stream.sendall(len(data).to_bytes(4, "big") + data)


def receive(stream: socket) -> tuple[Any, ...] | None:
    """The next message; None when the other end is gone."""
    head = _exactly(stream, 4)
    body = _exactly(stream, int.from_bytes(head, "big")) if head else b""
    return tuple(marshal.loads(body)) if body else None


def _exactly(stream: socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            piece = stream.recv(count - len(data))
        except ConnectionResetError:
            return b""
        if not piece:
            return b""
        data += piece
    return data


class Guard:
    """One child at a time, in a process group of its own, always reaped."""

    def __init__(self, stream: socket) -> None:
        self._stream = stream
        self._command_lives = True
        self._pid = 0  # of the child, which is also its group
        self._code: int | None = None  # how the child ended; others of its group may still be there
        self._kill_at: float | None = None
        self._lease: tuple[float, float] | None = None
        self._terminal = 0  # the group to give the terminal back to
        self._whole = True  # what a child leaves behind in its group ends with it
        self._parent_death = _parent_death_signal()
        self._wakeup, writing = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for number in KEPT_FROM_US:
            # with a handler, so that children have the default again; what was ignored (nohup) stays so
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))  # or we could not hand the terminal on

    def run(self) -> None:
        """Until the command and its child are gone."""
        while self._command_lives or self._pid:
            watched: list[Any] = [self._wakeup, self._stream] if self._command_lives else [self._wakeup]
            ready = select.select(watched, [], [], self._patience())[0]
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
            if self._stream in ready:
                self._obey(receive(self._stream))
            self._reap()
            if self._pid:
                self._look()

    def _patience(self) -> float | None:
        """Seconds until something is due."""
        if not self._pid:
            return None
        if self._code is not None:
            return _LOOK
        due = [at for at in (self._kill_at, self._lease and self._lease[0]) if at is not None]
        return min(max(0.0, min(due) - clock()), _TICK) if due else None

    def _obey(self, message: tuple[Any, ...] | None) -> None:
        if message is None:
            self._command_lives = False
            self._end(GRACE)
        elif message[0] == "start":
            self._start(*message[1:])
        elif message[0] == "signal":
            self._signal(message[1])
        elif message[0] == "end":
            self._end(message[1])
        elif message[0] == "lease":
            self._lease = message[1:3]

    def _start(
        self,
        words: list[str],
        environment: dict[str, str],
        stdin: bytes,
        own_stdin: bool,
        terminal: int,
        whole: bool,
    ) -> None:
        source = _as_file(stdin)
        try:
            child = subprocess.Popen(
                words,
                env=environment,
                stdin=None if own_stdin else source if source is not None else subprocess.DEVNULL,
                process_group=0,
                preexec_fn=self._preparation(bool(terminal)),
            )
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            return self._tell("failed", number or 0, str(error))
        finally:
            if source is not None:
                source.close()
        child.returncode = 0  # it is reaped in `_reap`
        self._pid, self._code, self._kill_at, self._lease = child.pid, None, None, None
        self._terminal, self._whole = terminal, whole
        return self._tell("started", child.pid)

    def _preparation(self, terminal: bool) -> Callable[[], None]:
        """What the child does before it becomes the program. Safe, since this process has one thread."""
        guard, parent_death = os.getpid(), self._parent_death

        def prepare() -> None:
            if parent_death is not None:
                parent_death()
                if os.getppid() != guard:
                    os._exit(255)
            if terminal:
                with contextlib.suppress(OSError):  # it was taken away meanwhile
                    os.tcsetpgrp(0, os.getpid())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTTOU,))

        return prepare

    def _look(self) -> None:
        """What has become of the child, and what is due."""
        now = clock()
        if self._lease is not None and now >= self._lease[0]:
            until, grace = self._lease
            self._lease = None
            self._end(until + grace - now)
        if self._code is None:
            if self._kill_at is not None and now >= self._kill_at:
                self._signal(signal.SIGKILL)
                self._kill_at = None
            return None
        if self._kill_at is None:
            if not self._whole:
                return self._ended()
            self._end(GRACE)
        if not self._signal(0):
            return self._ended()
        if self._kill_at is not None and now >= self._kill_at:
            self._signal(signal.SIGKILL)
            return self._ended()
        return None

    def _reap(self) -> None:
        """The child, and the orphans of its making, which are ours on Linux: where nobody reaped them their
        group would never seem to be gone."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid != self._pid:
                continue
            if not os.WIFSTOPPED(status):
                self._code = os.waitstatus_to_exitcode(status)
            elif self._terminal and os.WSTOPSIG(status) == signal.SIGTSTP:
                self._signal(signal.SIGCONT)  # the terminal is the child's: nobody could wake it again

    def _ended(self) -> None:
        code, self._pid, self._kill_at, self._lease = self._code, 0, None, None
        if self._terminal:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(0, self._terminal)
        self._tell("ended", code)

    def _end(self, grace: float) -> None:
        if not self._pid:
            return
        kill_at = clock() + grace
        if self._kill_at is not None:
            self._kill_at = min(self._kill_at, kill_at)
            return
        self._kill_at = kill_at
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> bool:
        """Whether anybody of the group was there."""
        if not self._pid:
            return False
        try:
            os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):  # the latter: all of them have changed their user
            return False
        return True

    def _tell(self, *message: Any) -> None:
        if self._command_lives:
            try:
                send(self._stream, *message)
            except OSError:
                self._command_lives = False
                self._end(GRACE)


def _nothing(number: int, frame: object) -> None:
    pass


def _parent_death_signal() -> Callable[[], None] | None:
    """On Linux: a call after which the caller is killed when its parent ends, even by KILL. We ourselves
    become the parent of all orphans below us."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    return ask


def _as_file(data: bytes) -> IO[bytes] | None:
    """Data for a child's stdin as an open file: nobody has to feed it, and no reader waits."""
    if not data:
        return None
    import tempfile

    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file


def main() -> None:
    """Serve the command at the other end of the descriptor that is named."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    with socket(fileno=descriptor) as stream:
        Guard(stream).run()


if __name__ == "__main__":
    main()
