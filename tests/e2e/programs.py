"""Programs in the background, small servers behind them, and who is still alive."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.harness import CTL, DEADLINE, ENVIRONMENT, ROOT, Agent

MARK = "CTL_TEST_MARK"


class Program:
    """A process with its output in a file, ended with its group."""

    def __init__(
        self, words: Sequence[str], folder: Path, log: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = folder / log
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                env={**ENVIRONMENT, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- {self.log.name}\n{self.log.read_text(errors='replace')[-4000:]}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Until it ends by itself; the exit code."""
        return self.process.wait(deadline)

    def end(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; the exit code."""
        self.send(number)
        return self.wait()


def ctl(agent: Agent, folder: Path, *words: str, log: str, **environment: str) -> Program:
    """`ctl ...` in the background, in `folder` and with this agent."""
    known = {"CONSUL_HTTP_ADDR": agent.base, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return Program([*CTL, *words], folder, log, known | environment)


class Backend:
    """A web server that answers with its name, on an address of its own."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name, self.address, self.port = name, address, port

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def get(address: str, port: int) -> str:
    """The body of `GET /`; `` when nobody answers it with 200."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read().decode()
        return body if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def register(agent: Agent, name: str, backend: Backend, status: str = "passing") -> None:
    """A service instance with a TTL check, which has `status`."""
    check = {"CheckID": f"{backend.name}-up", "TTL": "1h", "Status": status}
    service = {"ID": backend.name, "Name": name, "Address": backend.address, "Port": backend.port}
    agent.put("/v1/agent/service/register", {**service, "Check": check})


def read(path: Path) -> str:
    """What a file holds; nothing when it is not there."""
    return path.read_text() if path.exists() else ""


def marked(mark: str) -> list[int]:
    """The processes that run with CTL_TEST_MARK=mark in their environment, which children inherit."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
    return found
