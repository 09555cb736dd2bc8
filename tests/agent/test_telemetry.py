"""Sinks over real sockets, the process's gauges, and no wake-ups without a reason."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from agent.telemetry import Settings, Telemetry, collect_runtime, dogstatsd_line, split_address, statsd_line
from core.metrics import Metrics


def test_lines() -> None:
    assert statsd_line("c", "consul.raft.apply", 2, ()) == b"consul.raft.apply:2.000000|c\n"
    assert statsd_line("ms", "consul.http", 1.5, (("m", "G:T"),)) == b"consul.http.G_T:1.500000|ms\n"
    assert dogstatsd_line("c", "consul.a", 2, "m:GET,dc:dc1") == b"consul.a:2|c|#m:GET,dc:dc1\n"
    assert dogstatsd_line("g", "consul.a", 2.5, "") == b"consul.a:2.500000|g\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:99", ("127.0.0.1", 99)), ("[::1]:99", ("::1", 99)), ("host", ("host", 8125))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


async def _until_packet(server: socket.socket, wanted: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    seen = b""
    async with asyncio.timeout(10):
        while wanted not in seen:
            seen += await loop.sock_recv(server, 65536)
    return seen


def test_statsd_and_dogstatsd_over_udp() -> None:
    async def main() -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dog,
        ):
            for server in (plain, dog):
                server.bind(("127.0.0.1", 0))
                server.setblocking(False)
            settings = Settings(
                statsd_address=f"127.0.0.1:{plain.getsockname()[1]}",
                dogstatsd_addr=f"127.0.0.1:{dog.getsockname()[1]}",
                dogstatsd_tags=["dc:dc1"],
            )
            metrics = Metrics(time.time())
            telemetry = Telemetry(metrics, settings)
            telemetry.start(time.time())
            for _ in range(300):
                metrics.sample("api.http", 1.25, (("method", "GET"),))
            metrics.incr("raft.apply", 3)
            assert b"consul.api.http.GET:1.250000|ms" in await _until_packet(
                plain, b"consul.raft.apply:3.000000|c"
            )
            assert b"consul.api.http:1.250000|ms|#dc:dc1,method:GET" in await _until_packet(dog, b"api.http")
            await _until_packet(plain, b"runtime.num_goroutines")
            telemetry.stop()

    asyncio.run(main())


def test_statsite_over_tcp_comes_back() -> None:
    async def main() -> None:
        seen: asyncio.Queue[bytes] = asyncio.Queue()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                if b"raft.apply" in line:
                    await seen.put(line)
                    break
            writer.close()

        server = await asyncio.start_server(client, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        metrics = Metrics(time.time())
        telemetry = Telemetry(metrics, Settings(statsite_address=f"127.0.0.1:{port}"))
        telemetry.start(time.time())
        for _ in range(2):  # the second line travels over a new connection
            metrics.incr("raft.apply")
            async with asyncio.timeout(10):
                assert await seen.get() == b"consul.raft.apply:1.000000|c\n"
        telemetry.stop()
        server.close()

    asyncio.run(main())


def test_nobody_listening_is_survived() -> None:
    async def main() -> None:
        metrics = Metrics(time.time())
        telemetry = Telemetry(metrics, Settings(statsd_address="127.0.0.1:1", statsite_address="127.0.0.1:1"))
        telemetry.start(time.time())
        metrics.incr("a")
        await asyncio.sleep(0)
        telemetry._push()
        await asyncio.sleep(0.05)
        metrics.incr("a")
        telemetry._push()
        telemetry.stop()

    asyncio.run(main())


def test_without_sinks_an_idle_agent_has_no_timer() -> None:
    async def main() -> None:
        metrics = Metrics(time.time())
        telemetry = Telemetry(metrics, Settings())
        telemetry.start(time.time())
        assert telemetry._timer is None
        metrics.incr("a")
        assert telemetry._timer is not None, "one timer ends the interval that something happened in"
        telemetry.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "retention", "name"),
    [
        (Settings(), 0.0, "consul.a"),
        (Settings(), 60.0, "consul.web1.a"),
        (Settings(statsd_address="127.0.0.1:1"), 0.0, "consul.web1.a"),
    ],
)
def test_gauges_name_the_host_where_those_of_several_meet(
    settings: Settings, retention: float, name: str
) -> None:
    metrics = Metrics(0.0, host="web1", retention=retention)
    for sink in Telemetry(metrics, settings)._sinks:
        sink.close()
    metrics.gauge("a", 1)
    assert [one["Name"] for one in metrics.snapshot(1.0)["Gauges"]] == [name]


def test_runtime_gauges() -> None:
    async def main() -> dict[str, float]:
        metrics = Metrics(0.0)
        metrics.register_collector(collect_runtime)
        return {row["Name"]: row["Value"] for row in metrics.snapshot(1.0)["Gauges"]}

    gauges = asyncio.run(main())
    assert gauges["consul.runtime.alloc_bytes"] > 1 << 20
    assert gauges["consul.runtime.num_goroutines"] == 1
    assert gauges["consul.runtime.heap_objects"] > 1000
