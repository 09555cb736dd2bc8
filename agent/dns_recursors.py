"""Asking the recursors: for names outside the domain, word by word, and for what a CNAME points to.

Each question goes out from a socket and with an id of its own, to one upstream after the other; only
a message from that upstream with that id and that question counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.logs import get_logger
from agent.world import World
from core.dns import packet
from core.dns import record as rr
from core.dns.record import Record
from core.dns.settings import DnsSettings
from core.errors import ConfigError

_log = get_logger("agent.dns")
_OPEN = 512  # questions under way; each has a socket
_LARGEST = 1232  # announced for own questions (what passes everywhere unfragmented)


class Recursors:
    """The upstream servers of one configuration."""

    def __init__(self, settings: DnsSettings, world: World) -> None:
        self._servers = [server_address(text) for text in settings.recursors]
        self._random_order = settings.recursor_strategy == "random"
        self._timeout = settings.recursor_timeout
        self._world = world
        self._open = 0

    async def forward(self, query: bytes, tcp: bool) -> bytes | None:
        """The answer to a client's message, with the client's id; None if no upstream has a good one.
        A cut answer is fetched whole by TCP only for a client that uses TCP itself."""
        asked = packet.question_of(query)
        if asked is None or self._open >= _OPEN:
            return None
        self._open += 1
        try:
            for server in self._order():
                id = self._world.random.getrandbits(16).to_bytes(2, "big")
                answer = await self._ask(server, id + query[2:], tcp)
                if answer is not None:
                    return query[:2] + answer[2:3] + bytes((answer[3] | packet.RA,)) + answer[4:]
        finally:
            self._open -= 1
        return None

    async def look_up(self, name: bytes, type: int) -> Sequence[Record]:
        """The answer records for a name, none if it cannot be found out."""
        answer = await self.forward(packet.question(name, type, _LARGEST), tcp=True)
        return packet.answers_of(answer) if answer is not None else ()

    def _order(self) -> list[tuple[str, int]]:
        if self._random_order:
            return self._world.random.sample(self._servers, len(self._servers))
        return self._servers

    async def _ask(self, server: tuple[str, int], query: bytes, tcp: bool) -> bytes | None:
        """One upstream's answer if it is one to be passed on: found, or known not to exist."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await _by_udp(server, query)
                if tcp and answer[2] & packet.TC >> 8:
                    answer = await _by_tcp(server, query)
        except (OSError, EOFError, TimeoutError) as error:
            _log.warn("recursor did not answer", recursor=f"{server[0]}:{server[1]}", error=repr(error))
            return None
        return answer if answer[3] & 0xF in (rr.NOERROR, rr.NXDOMAIN) else None


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the answer to one query; all else that arrives is ignored."""

    def __init__(self, query: bytes, answer: asyncio.Future[bytes]) -> None:
        self._query = query
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:
        if packet.answers_to(self._query, data) and not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed"))


async def _by_udp(server: tuple[str, int], query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    # A connected socket: the kernel drops what does not come from that address and port.
    transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(query, answer), remote_addr=server)
    try:
        transport.sendto(query)
        return await answer
    finally:
        answer.cancel()
        transport.close()


async def _by_tcp(server: tuple[str, int], query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not packet.answers_to(query, answer):
        raise ConnectionError("the answer belongs to another question")
    return answer


def server_address(text: str) -> tuple[str, int]:
    """`8.8.8.8`, `8.8.8.8:53`, `::1`, `[::1]:53` as host and port. ConfigError if it is none of these."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, "53"
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f'recursors: "{text}" is not an address, or address and port')
    return host, int(port)
