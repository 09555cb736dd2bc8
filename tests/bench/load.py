"""Load: wrk for throughput, dnsperf for names, and 500 sockets that wait for one write."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds until held answers are given up

PUT_SCRIPT = """
local base, n = nil, 0
wrk.method = "PUT"
wrk.body = string.rep("v", 100)
init = function() math.randomseed(os.time()); base = "{path}" .. math.random(1000000) .. "/" end
request = function() n = n + 1; return wrk.format(nil, base .. (n % 1000)) end
"""

RENEW_SCRIPT = """
local ids, n = {{ids}}, 0
wrk.method = "PUT"
request = function() n = n + 1; return wrk.format(nil, "/v1/session/renew/" .. ids[n % #ids + 1]) end
"""

TOKEN_SCRIPT = """
wrk.headers["X-Consul-Token"] = "{token}"
wrk.path = "{path}"
"""


class LoadError(Exception):
    """The load generator saw answers that it should not have seen."""


def has(tool: str) -> bool:
    return shutil.which(tool) is not None


def wrk(url: str, connections: int, seconds: float, script: str = "") -> float:
    """Requests a second."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        scripted = ["-s", file.name] if script else []
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", *scripted, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    wrong = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    if wrong or not found:
        raise LoadError(f"{url}: {wrong.group() if wrong else done.stdout}")
    return float(found.group(1))


def dnsperf(address: str, port: int, queries: Sequence[str], seconds: float) -> float:
    """Queries a second. `queries` are lines such as `web.service.consul A`."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(queries) + "\n")
        file.flush()
        limits = ["-l", str(max(1, round(seconds))), "-c", "8", "-q", "200"]
        command = ["dnsperf", "-s", address, "-p", str(port), "-d", file.name, *limits]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    codes = re.search(r"Response codes:\s+(.*)", done.stdout)
    if not found or not codes or codes.group(1).split()[0] != "NOERROR":
        raise LoadError(done.stdout)
    return float(found.group(1))


class _Waiter(asyncio.Protocol):
    """One request; `done` when its whole answer is there."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._got = b""
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio's
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, gap, body = self._got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if gap and length and len(body) >= int(length.group(1)):
            self._transport.close()
            if not self.done.done():
                self.done.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError("the connection was closed"))


async def _ask(address: tuple[str, int], method: str, path: str) -> _Waiter:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {1 if method == 'PUT' else 0}\r\n\r\n"
    request = head.encode() + (b"v" if method == "PUT" else b"")
    loop = asyncio.get_running_loop()
    _, waiter = await loop.create_connection(lambda: _Waiter(request), *address)
    return waiter


async def _wake(address: tuple[str, int], blocked: str, write: str, count: int) -> float:
    waiters = [await _ask(address, "GET", blocked) for _ in range(count)]
    await asyncio.sleep(0.5)  # all of them are being held
    if any(waiter.done.done() for waiter in waiters):
        raise LoadError(f"{blocked} does not block")
    began = time.perf_counter()
    writer = await _ask(address, "PUT", write)
    for waiter in [*waiters, writer]:
        if b" 200 " not in (await waiter.done)[:16]:
            raise LoadError(f"{blocked}: not 200")
    return time.perf_counter() - began


def wake(address: tuple[str, int], blocked: str, write: str, count: int = 500) -> float:
    """Seconds from one write to the last of `count` held answers."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_wake(address, blocked, write, count), PATIENCE))


def process_seconds(command: Sequence[str], environment: dict[str, str], folder: Path) -> float:
    """How long a process takes from start to end."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
