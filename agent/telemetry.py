"""Metrics on their way out: statsd, statsite and DogStatsD, and the gauges of the process itself.

Without a sink nothing here runs on its own but one timer per busy interval; an idle agent sleeps."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from agent.logs import get_logger
from core.metrics import Labels, Metrics

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PERIOD = 1.0  # seconds between reports to sinks
_DATAGRAM = 1400  # bytes: fits an Ethernet frame with room for tunnels
_RECONNECT = 5.0
_KEPT = 5000  # lines
_UNSAFE = str.maketrans({":": "_", " ": "_", "|": "_", "\n": "_"})

_log = get_logger("agent.telemetry")


class Settings(msgspec.Struct):
    """The `telemetry` block as far as sinks go (config.md 3.12). Addresses are `host:port`."""

    statsd_address: str = ""
    statsite_address: str = ""
    dogstatsd_addr: str = ""
    dogstatsd_tags: list[str] = []


class Sink(Protocol):
    """Takes what was measured, and sends it when told to."""

    def take(self, kind: str, name: str, values: Sequence[float], labels: Labels) -> None: ...

    def send(self) -> None: ...

    def close(self) -> None: ...


def collect_runtime(metrics: Metrics) -> None:
    """The gauges `runtime.*`, under the names that Consul's dashboards ask for.

    A goroutine is a task here, the heap is what the process holds in memory."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = file.read().split()
    except OSError:  # no /proc on this system
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        resident = system = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    else:
        system, resident = int(pages[0]) * _PAGE, int(pages[1]) * _PAGE
    metrics.gauge("runtime.alloc_bytes", resident)
    metrics.gauge("runtime.sys_bytes", system)
    metrics.gauge("runtime.heap_objects", sys.getallocatedblocks())
    metrics.gauge("runtime.num_goroutines", len(asyncio.all_tasks()))
    metrics.gauge("runtime.total_gc_runs", sum(row["collections"] for row in gc.get_stats()))


class Telemetry:
    """Ends the metrics' intervals while there is activity, and feeds the sinks."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._sinks: list[Sink] = []
        if settings.statsd_address:
            self._sinks.append(StatsdSink(settings.statsd_address))
        if settings.statsite_address:
            self._sinks.append(StatsiteSink(settings.statsite_address))
        if settings.dogstatsd_addr:
            self._sinks.append(StatsdSink(settings.dogstatsd_addr, tags=settings.dogstatsd_tags))
        if not self._sinks and not metrics.retention:
            metrics.leave_out_host()  # as in Consul: it tells hosts apart where those of several meet
        self._timer: asyncio.TimerHandle | None = None

    def start(self, wall: float) -> None:
        """Begin; call it on the event loop. `wall` is Unix seconds, as the metrics count them."""
        loop = asyncio.get_running_loop()
        self._offset = wall - loop.time()
        self._metrics.register_collector(collect_runtime)
        if self._sinks:
            self._metrics.listener = self._take
            self._timer = loop.call_later(_PERIOD, self._report)
        else:
            self._metrics.on_activity = self._arm

    def stop(self) -> None:
        """Send what is left and let go of sockets and timers."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sinks:
            self._push()
        self._metrics.listener = self._metrics.on_activity = None
        for sink in self._sinks:
            sink.close()

    def _wall(self) -> float:
        return self._offset + asyncio.get_running_loop().time()

    def _arm(self) -> None:
        delay = self._metrics.deadline() - self._wall()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._end_interval)

    def _end_interval(self) -> None:
        self._metrics.roll(self._wall())

    def _report(self) -> None:
        self._push()
        self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._report)

    def _push(self) -> None:
        self._metrics.roll(self._wall())
        self._metrics.tell_gauges()
        for sink in self._sinks:
            sink.send()

    def _take(self, kind: str, name: str, values: Sequence[float], labels: Labels) -> None:
        for sink in self._sinks:
            sink.take(kind, name, values, labels)


def statsd_line(kind: str, name: str, value: float, labels: Labels) -> bytes:
    """`consul.raft.apply:1|c`; label values become parts of the name, as go-metrics does."""
    full = ".".join([name, *(text for _, text in labels)]).translate(_UNSAFE)
    return f"{full}:{value:f}|{kind}\n".encode()


def dogstatsd_line(kind: str, name: str, value: float, tags: str) -> bytes:
    """The same with labels as tags: `consul.api.http:1.5|ms|#method:GET`."""
    shown = f"{value:f}" if kind != "c" else f"{value:.0f}"
    return f"{name.translate(_UNSAFE)}:{shown}|{kind}{'|#' + tags if tags else ''}\n".encode()


class _NetworkSink:
    """Lines on their way to an address. Connecting happens beside; nothing here blocks or raises: lines
    that find no connection, or a stuck one, are lost beyond the last `_KEPT`."""

    def __init__(self, address: str) -> None:
        self._address = split_address(address)
        self._lines: deque[bytes] = deque(maxlen=_KEPT)
        self._transport: Any = None  # an asyncio transport, of datagrams or a stream
        self._connecting: asyncio.Task[None] | None = None

    def send(self) -> None:
        if self._transport is not None and self._transport.is_closing():
            self._transport = None
        if self._transport is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
        elif self._lines:
            self._write(self._transport, list(self._lines))
            self._lines.clear()

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _connect(self) -> None:
        try:
            self._transport = await self._open()
        except OSError as error:
            address = ":".join(map(str, self._address))
            _log.warn("Failed to connect to the metrics sink", address=address, error=error)
            await asyncio.sleep(_RECONNECT)

    async def _open(self) -> asyncio.BaseTransport:
        raise NotImplementedError

    def _write(self, transport: Any, lines: list[bytes]) -> None:
        raise NotImplementedError


class StatsdSink(_NetworkSink):
    """statsd over UDP, or DogStatsD where `tags` are given (even none of them)."""

    def __init__(self, address: str, tags: list[str] | None = None) -> None:
        super().__init__(address)
        self._tags = tags

    def take(self, kind: str, name: str, values: Sequence[float], labels: Labels) -> None:
        values = (sum(values),) if kind == "c" else values
        if self._tags is None:
            self._lines.extend([statsd_line(kind, name, value, labels) for value in values])
        else:
            tags = ",".join([*self._tags, *(f"{key}:{text}" for key, text in labels)])
            self._lines.extend([dogstatsd_line(kind, name, value, tags) for value in values])

    async def _open(self) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=self._address
        )
        return transport

    def _write(self, transport: asyncio.DatagramTransport, lines: list[bytes]) -> None:
        packet = b""
        for line in lines:
            if len(packet) + len(line) > _DATAGRAM and packet:
                transport.sendto(packet)
                packet = b""
            packet += line
        transport.sendto(packet)


class StatsiteSink(_NetworkSink):
    """statsite speaks statsd's lines over TCP."""

    def take(self, kind: str, name: str, values: Sequence[float], labels: Labels) -> None:
        values = (sum(values),) if kind == "c" else values
        self._lines.extend([statsd_line(kind, name, value, labels) for value in values])

    async def _open(self) -> asyncio.BaseTransport:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *self._address)
        return transport

    def _write(self, transport: asyncio.WriteTransport, lines: list[bytes]) -> None:
        if transport.get_write_buffer_size() == 0:  # else the other end is stuck
            transport.write(b"".join(lines))


def split_address(text: str) -> tuple[str, int]:
    """`host:port` or `[host]:port`; the port is 8125 where none is given."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        host, port = text, "8125"
    return host.strip("[]"), int(port)
