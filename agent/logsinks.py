"""Where log lines go: stdout, files that rotate, syslog. None of them ever raises in `write`."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from core.errors import ConfigError

_HELD = 512  # lines kept for a stdout that takes none for now
_CHUNK = 4096  # a pipe that polls as writable takes this much without blocking (PIPE_BUF)
_RETRY = 1.0  # seconds between attempts to open a log file again

_FACILITIES = {"KERN": 0, "USER": 1, "MAIL": 2, "DAEMON": 3, "AUTH": 4, "SYSLOG": 5, "LPR": 6, "NEWS": 7}
_FACILITIES |= {"UUCP": 8, "CRON": 9, "AUTHPRIV": 10, "FTP": 11}
_FACILITIES |= {f"LOCAL{number}": 16 + number for number in range(8)}
_SEVERITIES = (7, 7, 7, 6, 4, 3)  # by level: unused, TRACE, DEBUG, INFO, WARN, ERROR
_SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")


class Sink(Protocol):
    """A place for lines."""

    def write(self, line: bytes, level: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class StreamSink:
    """Standard output. It is asked before each write whether it would block; if so lines are held
    until it takes them, the oldest lost first. A closed one is left alone from then on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held: deque[bytes] = deque(maxlen=_HELD)
        self._gone = False
        self._poll: select.poll | None = None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLOUT)
        except OSError:
            self._gone = True

    def write(self, line: bytes, level: int) -> None:
        if self._gone:
            return
        self._held.append(line)
        self.flush()

    def flush(self) -> None:
        while self._held and not self._gone:
            piece = self._held[0][:_CHUNK]
            try:
                if self._poll is not None:
                    ready = self._poll.poll(0)
                    if not ready:
                        return
                    if not ready[0][1] & select.POLLOUT:
                        self._gone = True  # the reader hung up
                        return
                written = os.write(self._descriptor, piece)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                return
            line = self._held.popleft()
            if written < len(line):
                self._held.appendleft(line[written:])

    def close(self) -> None:
        self.flush()

    def _failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError) or self._poll is not None:
            self._gone = True
        self._held.clear()  # a file on a full disk: the next line may fit again


class FileSink:
    """A log file with a time in its name (`agent-1790000000000000000.log`), followed by the next one
    after so many bytes or seconds. Of the older ones `max_files` stay: all for 0, none for less."""

    def __init__(
        self, path: str, rotate_bytes: int, rotate_seconds: float, max_files: int, mode: int = 0o640
    ) -> None:
        folder, _, name = path.rpartition("/")
        stem, dot, suffix = (name or "ctl").rpartition(".")
        self._folder = Path(folder or ("/" if path.startswith("/") else "."))
        self._stem, self._suffix = (stem, dot + suffix) if stem else (suffix, ".log")
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._max_files = max_files
        self._mode = mode
        self.lost = 0  # lines that did not get onto the disk
        self.failing = False  # the last one did not
        self._torn = False
        self._descriptor = -1
        self._size = 0
        self._opened = self._tried = 0.0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise ConfigError(f"Failed to setup logging: {error}") from error

    def write(self, line: bytes, level: int) -> None:
        try:
            self.failing = not self._written(b"\n" + line if self._torn else line)
        except OSError:
            self.failing = True  # a full disk costs the line, not the agent
        self.lost += self.failing

    def _written(self, line: bytes) -> bool:
        if self._descriptor < 0:
            if time.monotonic() < self._tried + _RETRY:
                return False
            self._open()
        elif self._due():
            self._rotate()
        written = os.write(self._descriptor, line)
        self._size += written
        self._torn = written < len(line)  # which the next line must not be joined to
        return not self._torn

    def flush(self) -> None:
        """Every line is written at once."""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _due(self) -> bool:
        full = 0 < self._rotate_bytes <= self._size
        return full or 0 < self._rotate_seconds <= time.monotonic() - self._opened

    def _rotate(self) -> None:
        self.close()
        self._open()

    def _open(self) -> None:
        self._tried = time.monotonic()
        self._prune()
        path = self._folder / f"{self._stem}-{time.time_ns()}{self._suffix}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, self._mode)
        self._size = 0
        self._torn = False
        self._opened = self._tried

    def _prune(self) -> None:
        if not self._max_files:
            return
        start, end = self._stem + "-", self._suffix
        old = [
            path
            for path in self._folder.iterdir()
            if path.name.startswith(start)
            and path.name.endswith(end)
            and path.name[len(start) : len(path.name) - len(end)].isdigit()
        ]
        old.sort()
        for path in old[: max(0, len(old) - max(0, self._max_files))]:
            with contextlib.suppress(OSError):
                path.unlink()


class SyslogSink:
    """The local syslog socket. Lines that it does not take at once are lost."""

    def __init__(self, facility: str) -> None:
        number = _FACILITIES.get(facility.upper())
        if number is None:
            raise ConfigError(f"Syslog setup error: invalid syslog facility: {facility}")
        self._facility = number << 3
        self._socket: socket.socket | None = None
        self._tried = time.monotonic()
        if not self._connect():
            raise ConfigError("Syslog setup error: Unix syslog delivery error")

    def write(self, line: bytes, level: int) -> None:
        if self._socket is None and not (time.monotonic() >= self._tried + _RETRY and self._connect()):
            return
        head = f"<{self._facility | _SEVERITIES[level]}>ctl[{os.getpid()}]: ".encode()
        try:
            assert self._socket is not None
            self._socket.send(head + line.rstrip(b"\n"))
        except BlockingIOError:
            pass
        except OSError:
            self.close()  # the syslog daemon was restarted

    def flush(self) -> None:
        """Every line is sent at once."""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> bool:
        self._tried = time.monotonic()
        for path in _SYSLOG_SOCKETS:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                connection = socket.socket(socket.AF_UNIX, kind)
                connection.setblocking(False)
                try:
                    connection.connect(path)
                except OSError:
                    connection.close()
                    continue
                self._socket = connection
                return True
        return False
