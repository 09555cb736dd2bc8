"""Connections to other servers' RPC port: what `agent/rpc.py` takes in, seen from the other side."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from agent.rpc import TLS, Peer, prepare
from agent.world import errno_text
from core.errors import Unsent

if TYPE_CHECKING:
    from agent.tls import RpcTls

DIAL_SECONDS = 10.0
# To another datacenter: what one of its servers does not take in so many seconds goes to the next one, and
# the call is over within the hold time and one more try. A slow server takes it in, the kernel does.
FAR_DIAL_SECONDS = 4.0
FAR_SILENCE_SECONDS = 5.0

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer:
    """Connects to the RPC port of servers, from the address that the agent is bound to."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: RpcTls | None,
        source_address: str = "",
        datacenter: str = "",
    ) -> None:
        """`source_address` empty or unspecified (`0.0.0.0`) leaves the choice to the system. `datacenter`
        is our own."""
        self._loop = loop
        self._datacenter = datacenter
        self._tls = tls
        self._source = "" if source_address in ("0.0.0.0", "::") else source_address

    async def connect(
        self,
        address: str,
        port: int,
        first_byte: int,
        make: Callable[[], P],
        datacenter: str,
        timeout: float = DIAL_SECONDS,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a server of `datacenter` for what `first_byte` stands for, within TLS if the agent
        verifies outgoing connections. Raises Unsent."""
        peer = Peer(address, port)
        if self.is_far(datacenter):
            timeout = min(timeout, FAR_DIAL_SECONDS)
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(address, port, first_byte, make, datacenter)
        except TimeoutError:
            raise Unsent(f"dial tcp {peer}: i/o timeout") from None
        except OSError as error:  # TLS' errors are among them
            words = _words(error)
            raise Unsent(f"dial tcp {peer}: {words}") from None

    def is_far(self, datacenter: str) -> bool:
        """Whether this is another datacenter than our own."""
        return bool(self._datacenter) and datacenter != self._datacenter

    async def _connect(
        self, address: str, port: int, first_byte: int, make: Callable[[], P], datacenter: str
    ) -> tuple[asyncio.Transport, P]:
        encryption = self._tls.outgoing(datacenter) if self._tls is not None else None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            prepare(sock)
            if self.is_far(datacenter) and hasattr(socket, "TCP_USER_TIMEOUT"):
                silence = int(FAR_SILENCE_SECONDS * 1000)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence)
            if self._source and (":" in self._source) == (":" in address):
                sock.bind((self._source, 0))
            await self._loop.sock_connect(sock, (address, port))
            # The first bytes of a connection always find room.
            sock.send(bytes([first_byte if encryption is None else TLS]))
            if encryption is None:
                transport, protocol = await self._loop.create_connection(make, sock=sock)
                return transport, protocol
            context, name = encryption
            starter = _Starter(first_byte, make)
            await self._loop.create_connection(lambda: starter, sock=sock, ssl=context, server_hostname=name)
            return starter.transport, starter.protocol
        except BaseException:
            sock.close()
            raise


class _Starter(asyncio.Protocol, Generic[P]):
    """The beginning within TLS: says the inner first byte and hands over."""

    transport: asyncio.Transport
    protocol: P

    def __init__(self, first_byte: int, make: Callable[[], P]) -> None:
        self._first_byte = first_byte
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(bytes([self._first_byte]))
        self.protocol = self._make()
        self.transport.set_protocol(self.protocol)
        self.protocol.connection_made(transport)


def _words(error: OSError) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    return errno_text(error) or "connection reset by peer"
