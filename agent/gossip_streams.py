"""Gossip's exchanges over TCP: push/pulls and pings, ours and others' (protocols/gossip.md section 3).

One exchange per connection. Whatever a peer does (says nothing, sends rubbish, sends without end, hangs up)
ends that connection alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.world import errno_text
from core.gossip.streams import Inbound, PushPull, StreamError, StreamMessage

if TYPE_CHECKING:
    from agent.gossip_log import GossipLog
    from core.gossip.memberlist import StreamRequest

MAX_PUSH_PULLS = 128  # at a time; more are closed without an answer (protocols/gossip.md 3.2)
MAX_STREAMS = 2 * MAX_PUSH_PULLS  # before it is known what they are
MAX_UNREAD = 64 << 20  # bytes of all unfinished messages together: a push/pull may have 20 MiB
_CHUNK = 1 << 16


class StreamFailed(Exception):
    """An exchange that we began and that came to nothing; the text is Go's, for the one who asked.
    `refused`: the host said that nobody listens there."""

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


async def exchange(request: StreamRequest, inbound: Inbound, source: str) -> StreamMessage:
    """Open, send, read the answer, close. `source` is the address to come from, empty for any: peers and
    firewalls know us by the one that our packets come from. StreamFailed."""
    ip, port = request.to
    place = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    connected = False
    try:
        async with asyncio.timeout(request.timeout):
            local = (source, 0) if source else None
            reader, writer = await asyncio.open_connection(ip, port, local_addr=local)
            connected = True
            try:
                writer.write(request.data)
                return await _answer(reader, inbound)
            finally:
                writer.close()
    except TimeoutError:
        raise StreamFailed(f"{'read' if connected else 'dial'} tcp {place}: i/o timeout") from None
    except OSError as error:
        words = errno_text(error)
        what = f"read tcp {place}: read" if connected else f"dial tcp {place}: connect"
        refused = not connected and isinstance(error, ConnectionRefusedError)
        raise StreamFailed(f"{what}: {words}", refused) from None


async def _answer(reader: asyncio.StreamReader, inbound: Inbound) -> StreamMessage:
    while data := await reader.read(_CHUNK):
        try:
            message = inbound.feed(data)
        except StreamError as error:
            raise StreamFailed(str(error)) from None
        if message is not None:
            return message
    raise StreamFailed("EOF")


class StreamServer:
    """Answers the streams that others open. `answer(message)` gives the bytes to send back."""

    def __init__(
        self,
        inbound: Callable[[], Inbound],
        answer: Callable[[StreamMessage], bytes | None],
        timeout: float,
        log: GossipLog,
    ) -> None:
        self._inbound, self._answer = inbound, answer
        self._timeout, self._log = timeout, log
        self._streams = self._push_pulls = self._unread = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        address = writer.get_extra_info("peername")
        peer = f"{address[0]}:{address[1]}" if address else "(gone)"
        if self._streams >= MAX_STREAMS:
            writer.transport.abort()
            return
        self._streams += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._converse(reader, writer)
        except TimeoutError:
            self._log.debug("stream timed out", peer=peer)
        except StreamError as error:
            self._log.warn("stream cannot be read", peer=peer, error=str(error))
        except OSError as error:
            self._log.debug("stream broke", peer=peer, error=str(error))
        finally:
            self._streams -= 1
            with contextlib.suppress(OSError):
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await self._read(reader, writer)
        if message is None:
            return
        heavy = isinstance(message, PushPull)
        if heavy and self._push_pulls >= MAX_PUSH_PULLS:
            self._log.warn("too many push/pulls at a time", limit=MAX_PUSH_PULLS)
            return
        self._push_pulls += heavy
        try:
            reply = self._answer(message)
            if reply:
                writer.write(reply)
                await writer.drain()
                writer.write_eof()
                await reader.read(1)  # until the peer closes: to close with data under way may cut it off
        finally:
            self._push_pulls -= heavy

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> StreamMessage | None:
        inbound, read = self._inbound(), 0
        try:
            while data := await reader.read(_CHUNK):
                read += len(data)
                self._unread += len(data)
                if self._unread > MAX_UNREAD:
                    self._log.warn("too much of unfinished streams is held", bytes=self._unread)
                    return None
                message = inbound.feed(data)
                if message is not None:
                    return message
        except StreamError as error:
            if error.reply:
                writer.write(error.reply)
                await writer.drain()
            raise
        finally:
            self._unread -= read
        return None
