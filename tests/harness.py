"""Real agents for tests: processes of their own, on a loopback address of their own with default ports.

    with Agent(folder) as agent:                       # ctl agent start --dev
        assert agent.http("PUT", "/v1/kv/a", b"1").json() is True
    Agent(folder, dev=False)                           # durable: --server --bootstrap --data-dir

Waiting is polling with a deadline. Every agent is ended with its process group, whatever happens."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CTL = (sys.executable, "-m", "cli")
# As installed programs run: with compiled modules kept between starts.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# What `ctl watch` remembers is nobody else's business.
ENVIRONMENT["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="ctl-state-")
atexit.register(shutil.rmtree, ENVIRONMENT["XDG_STATE_HOME"], ignore_errors=True)
HTTP, DNS, SERVER, SERF_LAN, SERF_WAN = 8500, 8600, 8300, 8301, 8302
DEADLINE = 20.0  # seconds for what usually takes one: CI machines are slow and shared

alive: list[Agent] = []  # what tests/conftest.py shows the logs of when a test fails


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # also when it goes while it is read
        return False


class Response(NamedTuple):
    """What came back. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def consul_index(self) -> int:
        return int(self.headers["x-consul-index"])


def until(what: str, found: Callable[[], Any], deadline: float = DEADLINE, pause: float = 0.02) -> Any:
    """The first true value of `found()`; AssertionError naming `what` when it takes too long."""
    end = time.monotonic() + deadline
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(pause)


def own_address() -> str:
    """A loopback address on which nobody has an agent's ports."""
    chance = random.SystemRandom()
    while True:
        address = f"127.{chance.randint(1, 254)}.{chance.randint(1, 254)}.{chance.randint(1, 254)}"
        if all(_is_free(address, port) for port in (HTTP, DNS, SERVER, SERF_LAN, SERF_WAN)):
            return address


def _is_free(address: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class Agent:
    """One agent process. `config` goes into a file of its own, `flags` are added to the command line."""

    http_port = HTTP
    dns_port = DNS
    prefix: Sequence[str] = ()  # what runs the command, such as `ip netns exec NAME`
    command: Sequence[str] = (*CTL, "agent", "start")

    def __init__(
        self,
        folder: Path,
        *,
        dev: bool = True,
        config: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        address: str = "",
        environment: Mapping[str, str] | None = None,
        token: str = "",
    ) -> None:
        """`token` goes with all requests that have no X-Consul-Token of their own."""
        self.folder = folder
        self.token = token
        self.address = address or own_address()
        self.data_dir = folder / "data"
        self.config_file = folder / "agent.json"
        self.log_path = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._flags = ["--dev"] if dev else ["--server", "--bootstrap", "--data-dir", str(self.data_dir)]
        self._flags += ["--bind", self.address, "--client", self.address]
        if config is not None:
            self.write_config(config)
            self._flags += ["--config-file", str(self.config_file)]
        self._flags += flags
        self._environment = {
            "PYTHONUNBUFFERED": "1",
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            **(environment or {}),
        }

    def __enter__(self) -> Agent:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def base(self) -> str:
        return f"http://{self.address}:{self.http_port}"

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.config_file.write_text(json.dumps(config))

    def start(self, wait: bool = True) -> Agent:
        """Start the process; `wait` until HTTP answers and there is a leader."""
        assert self.process is None, "started already"
        self.folder.chmod(0o700)  # or it does not count as a runtime directory
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command, *self._flags],
                cwd=ROOT,
                env=ENVIRONMENT | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        alive.append(self)
        if wait:
            self.wait_http()
            self.wait_leader()
        return self

    def wait_http(self, deadline: float = DEADLINE) -> None:
        """Until HTTP answers anything."""
        until("HTTP answers", lambda: self._answers("/v1/status/leader"), deadline)

    def wait_leader(self, deadline: float = DEADLINE) -> None:
        """Until there is a leader that takes writes and the agent itself is in the catalog."""

        def ready() -> bool:
            found = self._answers("/v1/catalog/nodes")
            return bool(found and found.status == 200 and found.json())

        until("there is a leader", ready, deadline)

    def http(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """One request over a connection of its own. `path` is sent as it is."""
        connection = self.connection(timeout)
        try:
            token = {"X-Consul-Token": self.token} if self.token else {}
            connection.request(method, path, body, {**token, **(headers or {})})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, names, answer.read())
        finally:
            connection.close()

    def put(self, path: str, body: Any = b"") -> Response:
        """PUT of bytes or text as they are, of anything else as JSON; 200 is demanded."""
        raw = body if isinstance(body, (bytes, str)) else json.dumps(body)
        answer = self.http("PUT", path, raw)
        assert answer.status == 200, f"{path}: {answer.status} {answer.text}"
        return answer

    def get(self, path: str) -> Any:
        """GET of JSON; 200 is demanded."""
        answer = self.http("GET", path)
        assert answer.status == 200, f"{path}: {answer.status} {answer.text}"
        return answer.json()

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """A connection for any number of requests, not open yet."""
        return http.client.HTTPConnection(self.address, self.http_port, timeout=timeout)

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """A bare connection to the HTTP port."""
        return socket.create_connection((self.address, self.http_port), timeout)

    def ctl(
        self, *words: str, stdin: bytes = b"", timeout: float = 30.0, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `ctl` against this agent; `more` are variables of its environment."""
        environment = ENVIRONMENT | self._environment | {"CONSUL_HTTP_ADDR": self.base} | more
        command = [*self.prefix, *CTL, *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment, input=stdin, capture_output=True, timeout=timeout, check=False
        )

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill9(self) -> None:
        """End it as a power cut would; `start` begins again on the same data."""
        self.send_signal(signal.SIGKILL)
        self._reap(DEADLINE)

    def stop(self, number: int = signal.SIGTERM, deadline: float = DEADLINE) -> int:
        """Ask it to end; the exit code."""
        self.send_signal(number)
        return self._reap(deadline)

    def restart(self) -> Agent:
        self.stop()
        return self.start()

    def end(self) -> None:
        """End it and its children for good. No error if that has happened."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reap(DEADLINE)

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def descriptors(self) -> int:
        """How many files and sockets the process holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self) -> int:
        """Bytes of memory in use."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answers(self, path: str) -> Response | None:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the agent ended with {code}:\n{self.log_text()[-4000:]}"
        try:
            return self.http("GET", path, timeout=5)
        except (OSError, http.client.HTTPException):
            return None

    def _reap(self, deadline: float) -> int:
        assert self.process is not None
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(
                f"the agent did not end within {deadline:g} s:\n{self.log_text()[-4000:]}"
            ) from None
        self.process = None
        alive.remove(self)
        return code


@atexit.register
def _end_all() -> None:
    for agent in list(alive):
        agent.end()
