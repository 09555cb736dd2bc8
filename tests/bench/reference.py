"""The yardstick: what this machine does when nothing is asked of the server but to answer.

`python -m tests.bench.reference ADDRESS PORT` answers every request with a canned reply over uvloop and
httptools. `GET /wait` is held until the next PUT, as a blocking query is. UDP packets to the same port
are answered with the bytes remembered for them."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httptools
import uvloop

_BODY = (
    b'[{"LockIndex":0,"Key":"bench/key","Flags":0,"Value":"SGVsbG8gV29ybGQ=",'
    b'"CreateIndex":12,"ModifyIndex":12}]'
)
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\nX-Consul-Index: 12\r\n"
    b"X-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_BODY), _BODY)
)
_ADDRESS_RECORD = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 0, 4, 127, 0, 0, 1)
_waiting: list[Any] = []


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio's
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        if self._url == b"/wait":
            _waiting.append(self._transport)
            return
        self._transport.write(_REPLY)
        if _waiting and self._parser.get_method() == b"PUT":
            for transport in _waiting:
                transport.write(_REPLY)
            _waiting.clear()


class _Names(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._remembered: dict[bytes, bytes] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: object) -> None:
        question = data[2:]
        answer = self._remembered.get(question)
        if answer is None:
            end = data.index(b"\0", 12) + 5
            head = struct.pack("!HHHHH", 0x8580, 1, 1, 0, 0)
            answer = self._remembered[question] = head + data[12:end] + _ADDRESS_RECORD
        self._transport.sendto(data[:2] + answer, source)


async def serve(address: str, port: int) -> None:
    """Answer until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, address, port, backlog=1024)
    await loop.create_datagram_endpoint(_Names, local_addr=(address, port))
    await server.serve_forever()


def appends_per_second(folder: Path, seconds: float, size: int = 256) -> float:
    """Bare appends, each with its own fdatasync: what a disk allows one writer at a time."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        descriptor, data = file.fileno(), b"x" * size
        count = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            os.pwrite(descriptor, data, count * size)
            os.fdatasync(descriptor)
            count += 1
    return count / took


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2])))
