"""Docker checks: run a command in a container, through the Docker Engine API on its Unix socket.

create exec -> start exec (the output comes as a stream of frames) -> inspect exec (exit code). The API
cannot end a command that was started, so one that outlives its timeout is waited for: no second one is
started beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlsplit

import msgspec

from agent.checks_client import Connecting, Exchange, Response, Target, build_request, fetch
from agent.checks_net import Dialer, NetError
from core.codec.duration import SECOND, quote, show
from core.node.checks import Result, Tail, status_of_exit
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL

DEFAULT_HOST = "unix:///var/run/docker.sock"

_ANSWER_MAX = 64 * 1024
_INSPECT_AGAIN = 0.05
_FRAME_HEAD = 8


class _Exec(msgspec.Struct):
    """What the API says of a command (it has many more fields)."""

    id: str = msgspec.field(name="Id", default="")
    running: bool = msgspec.field(name="Running", default=False)
    exit_code: int | None = msgspec.field(name="ExitCode", default=None)


class DockerProbe:
    """Runs the check's `args` in its container; the exit code is the status."""

    def __init__(
        self, definition: CheckDefinition, dialer: Dialer, timeout: int, output_size: int, docker_host: str
    ) -> None:
        self._container = definition.docker_container_id
        self._args = definition.args
        self._timeout = timeout
        self._output_size = output_size
        self._engine = _Engine(dialer, docker_host or os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST)
        self._started = ""

    async def run(self) -> Result:
        """Run the command once."""
        deadline = asyncio.get_running_loop().time() + self._timeout / SECOND
        tail = Tail(self._output_size)
        try:
            if self._started and (await self._inspect(self._started, deadline)).running:
                return self._timed_out(tail)
            self._started = await self._create(deadline)
            if not await self._start(self._started, tail, deadline):
                return self._timed_out(tail)
            code = await self._exit_code(self._started, deadline)
        except _DockerError as error:
            self._started = ""
            return Result(CRITICAL, str(error))
        if code is None:
            return self._timed_out(tail)
        self._started = ""
        return Result(status_of_exit(code), tail.report())

    def _timed_out(self, tail: Tail) -> Result:
        text = f"Timed out ({show(self._timeout)}) running check"
        return Result(CRITICAL, f"{text}\n\n{tail.report()}" if tail.total else text)

    async def _create(self, deadline: float) -> str:
        what = "create exec failed"
        body = {
            "AttachStdin": False,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Cmd": self._args,
        }
        path = f"/containers/{quote_plus(self._container)}/exec"
        response, answer = await self._ask(what, "POST", path, body, deadline)
        if response.code == 201:
            return self._decode(answer, "create exec").id
        if response.code == 404:
            raise _DockerError(f"{what} for unknown container {self._container}")
        if response.code == 409:
            raise _DockerError(f"{what} since container {self._container} is paused or stopped")
        raise self._unexpected(what, response, answer)

    async def _start(self, exec_id: str, tail: Tail, deadline: float) -> bool:
        """True when the output came to its end before the deadline."""
        what = "start exec failed"
        refusal = Tail(_ANSWER_MAX)
        frames = Frames(tail.write)

        def sink(data: bytes) -> None:
            (frames.feed if exchange.response.code == 200 else refusal.write)(data)

        path = f"/exec/{exec_id}/start"
        request = self._engine.request("POST", path, {"Detach": False, "Tty": False})
        exchange = Exchange(request, False, sink)
        response = await self._fetch(what, "POST", path, exchange, deadline)
        if response.code == 200:
            return response.complete
        if response.code == 404:
            raise _DockerError(f"{what} for container {self._container}: invalid exec id {exec_id}")
        if response.code == 409:
            raise _DockerError(f"{what} since container {self._container} is paused or stopped")
        raise self._unexpected(what, response, refusal.text())

    async def _exit_code(self, exec_id: str, deadline: float) -> int | None:
        """The exit code, None if there is none at the deadline. The output may end before the command is
        known to have ended."""
        while asyncio.get_running_loop().time() < deadline:
            answer = await self._inspect(exec_id, deadline)
            if not answer.running:
                return answer.exit_code or 0
            await asyncio.sleep(_INSPECT_AGAIN)
        return None

    async def _inspect(self, exec_id: str, deadline: float) -> _Exec:
        what = "inspect exec failed"
        response, answer = await self._ask(what, "GET", f"/exec/{exec_id}/json", None, deadline)
        if response.code == 200:
            return self._decode(answer, "inspect exec")
        if response.code == 404:
            raise _DockerError(f"{what} for container {self._container}: invalid exec id {exec_id}")
        raise self._unexpected(what, response, answer)

    async def _ask(
        self, what: str, method: str, path: str, body: Any, deadline: float
    ) -> tuple[Response, str]:
        tail = Tail(_ANSWER_MAX)
        exchange = Exchange(self._engine.request(method, path, body), False, tail.write)
        response = await self._fetch(what, method, path, exchange, deadline)
        return response, tail.text()

    async def _fetch(
        self, what: str, method: str, path: str, exchange: Exchange, deadline: float
    ) -> Response:
        try:
            return await fetch(exchange, self._engine.connect, deadline)
        except NetError as error:
            asked = self._engine.shown(method, path)
            raise _DockerError(f"{what} for container {self._container}: {asked}{error}") from error

    def _decode(self, answer: str, what: str) -> _Exec:
        try:
            return msgspec.json.decode(answer, type=_Exec)
        except msgspec.DecodeError as error:
            raise _DockerError(
                f"{what} response for container {self._container} cannot be parsed: {error}"
            ) from error

    def _unexpected(self, what: str, response: Response, answer: str) -> _DockerError:
        return _DockerError(f"{what} for container {self._container} with status {response.code}: {answer}")


class _DockerError(Exception):
    """The engine did not do what was asked; the text is for the check's output."""


class _Engine:
    """Where the Docker engine listens: `unix:///path` or `tcp://host:port/prefix`."""

    def __init__(self, dialer: Dialer, host: str) -> None:
        self._dialer = dialer
        self._host = host
        self._scheme, _, self._rest = host.partition("://")

    def request(self, method: str, path: str, body: Any) -> bytes:
        """The bytes of a request with a JSON body (none if None)."""
        if self._scheme == "tcp":
            target = Target(f"http://{self._rest.rstrip('/')}{path}")
        else:
            target = Target(f"http://docker{path}")
        if body is None:
            return build_request(method, target, [], "", b"")
        headers = [("Content-Type", "application/json")]
        return build_request(method, target, headers, "", msgspec.json.encode(body))

    def shown(self, method: str, path: str) -> str:
        """How an error about a request begins (in Go's words), "" if no engine can be asked."""
        if self._scheme not in ("unix", "tcp"):
            return ""
        rest = quote_plus(self._rest) if self._scheme == "unix" else self._rest.rstrip("/")
        return f"{method.capitalize()} {quote(f'http://{rest}{path}')}: "

    def connect(self, factory: Callable[[], Exchange]) -> Connecting:
        """A new connection."""
        if self._scheme == "unix":
            return self._dialer.connect_unix(self._rest, factory)
        if self._scheme == "tcp":
            parts = urlsplit(f"http://{self._rest}")
            return self._dialer.connect(parts.hostname or "", parts.port or 2375, factory)
        raise NetError(f"unable to parse docker host `{self._host}`")


class Frames:
    """Takes the frames of Docker's attach stream apart: a byte for the stream, three zero bytes, four
    for the length, then the data; stdout and stderr go to one sink."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take more of the stream, cut anywhere."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._sink(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            piece = data[at : at + _FRAME_HEAD - len(self._head)]
            self._head += piece
            at += len(piece)
            if len(self._head) == _FRAME_HEAD:
                self._left = int.from_bytes(self._head[4:], "big")
                self._head = b""
