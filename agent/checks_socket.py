"""TCP and UDP checks."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from agent.checks_net import Dialer, NetError, TlsOptions, host_port, split_address
from agent.world import errno_text
from core.node.checks import Result
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL, PASSING


class TcpProbe:
    """Passes when a connection (with `tcp_use_tls`, and the handshake) can be made."""

    def __init__(self, definition: CheckDefinition, dialer: Dialer, timeout: float) -> None:
        self._address = definition.tcp
        self._tls = (
            TlsOptions(definition.tls_skip_verify, definition.tls_server_name)
            if definition.tcp_use_tls
            else None
        )
        self._dialer = dialer
        self._timeout = timeout

    async def run(self) -> Result:
        """Connect and hang up."""
        try:
            async with asyncio.timeout(self._timeout):
                host, port = split_address(self._address)
                transport, _ = await self._dialer.connect(host, port, asyncio.Protocol, self._tls)
                transport.abort()
        except NetError as error:
            return Result(CRITICAL, str(error))
        except TimeoutError:
            return Result(CRITICAL, f"dial tcp {self._address}: i/o timeout")
        return Result(PASSING, f"TCP{'+TLS' if self._tls else ''} connect {self._address}: Success")


class UdpProbe:
    """Sends an empty datagram. An answer passes and so does silence, which is what most UDP services have
    for it; ICMP unreachable is critical."""

    def __init__(self, definition: CheckDefinition, dialer: Dialer, timeout: float) -> None:
        self._address = definition.udp
        self._dialer = dialer
        self._timeout = timeout

    async def run(self) -> Result:
        """Send, and listen until the timeout."""
        try:
            host, port = split_address(self._address)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    addresses = await self._dialer.resolve(host, socket.SOCK_DGRAM)
                    await _ask(addresses[0], port)
        except NetError as error:
            return Result(CRITICAL, str(error).replace("dial tcp:", "dial udp:"))
        return Result(PASSING, f"UDP connect {self._address}: Success")


async def _ask(ip: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    # a plain socket, since asyncio's datagram transport does not send empty datagrams
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((ip, port))
            sock.send(b"")
            await asyncio.get_running_loop().sock_recv(sock, 1)
    except OSError as error:
        raise NetError(f"read udp {host_port(ip, port)}: read: {errno_text(error)}") from error
