"""The RPC port: every kind of connection between agents comes in here, told apart by its first byte
(protocols/rpc.md section 1).

    accept -> first byte -> protocols[byte](peer)
                    3    -> TLS -> byte inside -> protocols[byte](peer)
                  > 8    -> TLS by the client's own greeting -> ALPN -> protocols[byte](peer)

Whoever is slow to say what it wants, or wants what is not offered, is closed without an answer."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from agent.logs import get_logger
from agent.world import errno_text
from core.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from agent.tls import RpcTls

SINGLE, RAFT, TLS, MULTIPLEX, SNAPSHOT, GRPC = 0, 1, 3, 4, 5, 8

_BY_ALPN = {
    "consul/rpc-single": SINGLE,
    "consul/raft": RAFT,
    "consul/rpc-multi": MULTIPLEX,
    "consul/rpc-snapshot": SNAPSHOT,
}
ALPN_NAMES = list(_BY_ALPN)

_BACKLOG = 1024
_ACCEPTS = 64  # connections taken in one turn of the loop
_FULL_SECONDS = 0.5  # pause when the process has no file descriptor left
_SWEEP_SECONDS = 30.0
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = get_logger("agent.rpc")


class RpcLimits(Struct, frozen=True):
    """`limits.rpc_handshake_timeout` (seconds) and `limits.rpc_max_conns_per_client`; 0 is no limit."""

    handshake_timeout: float = 5.0
    max_conns_per_client: int = 100


class Peer(Struct, frozen=True):
    """Who is at the other end of a connection."""

    address: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


Protocols = Mapping[int, Callable[[Peer], asyncio.Protocol]]


class RpcListener:
    """Listens on the RPC port. `protocols` makes the protocol that a connection goes on with; it gets
    `connection_made`, and all bytes after the first."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        protocols: Protocols,
        tls: RpcTls | None,
        limits: RpcLimits,
    ) -> None:
        self.loop = loop
        self.protocols = protocols
        self.tls = tls
        self.limits = limits
        self._host, self._port = host, port
        self._sock: socket.socket | None = None
        self._connections: dict[str, set[_Connection]] = {}
        self._warned: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        return self._sock.getsockname()[1] if self._sock is not None else self._port

    def open(self) -> None:
        """Listen. ConfigError names address and port that cannot be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            words = errno_text(error)
            raise ConfigError(f"cannot listen for RPC on {Peer(self._host, self._port)}: {words}") from None
        self._sock = sock
        self.loop.add_reader(sock, self._accept)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def configure(self, limits: RpcLimits) -> None:
        """Take over new limits for connections that come from now on."""
        self.limits = limits

    def close(self) -> None:
        """Listen no more, and end all connections that came in here."""
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        if self._sock is not None:
            self.loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        for connections in self._connections.values():
            for connection in connections:
                connection.end()
        self._connections.clear()

    def _accept(self) -> None:
        assert self._sock is not None
        for _ in range(_ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                _log.error("cannot take RPC connections", error=os.strerror(error.errno))
                self.loop.remove_reader(self._sock)
                self._timer = self.loop.call_later(_FULL_SECONDS, self._resume)
                return
            self._take(sock, Peer(address[0], address[1]))

    def _resume(self) -> None:
        if self._sock is not None:
            self.loop.add_reader(self._sock, self._accept)

    def _take(self, sock: socket.socket, peer: Peer) -> None:
        known = self._connections.setdefault(peer.address, set())
        _forget_closed(known)
        most = self.limits.max_conns_per_client
        if 0 < most <= len(known):
            if self.may_warn_of(peer.address):
                _log.warn("too many RPC connections from one address", address=peer.address)
            sock.close()
            return
        prepare(sock)
        known.add(_Connection(self, sock, peer))

    def may_warn_of(self, address: str) -> bool:
        """Whether the log has not just had a warning about this address: some come again all the time."""
        if address in self._warned:
            return False
        self._warned.add(address)
        return True

    def _sweep(self) -> None:
        """Forget closed connections of addresses that do not come again, and old warnings."""
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        self._warned.clear()
        for address, known in list(self._connections.items()):
            _forget_closed(known)
            if not known:
                del self._connections[address]


def prepare(sock: socket.socket) -> None:
    """What holds for every RPC connection: never blocks, keep-alive, no delay."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _forget_closed(known: set[_Connection]) -> None:
    known.difference_update([connection for connection in known if connection.closed])


class _Connection:
    """One accepted connection: until it has said what it wants, and then as something to count."""

    def __init__(self, listener: RpcListener, sock: socket.socket, peer: Peer) -> None:
        self._listener = listener
        self._loop = listener.loop
        self._peer = peer
        self._sock: socket.socket | None = sock
        self._transport: asyncio.BaseTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._until = self._loop.time() + listener.limits.handshake_timeout
        self._timer = (
            self._loop.call_at(self._until, self._late) if listener.limits.handshake_timeout > 0 else None
        )
        self._loop.add_reader(sock, self._greeted)

    @property
    def closed(self) -> bool:
        """Whether it is over. What protocols do with their transport cannot be seen but there."""
        if self._transport is not None:
            return self._transport.is_closing()
        return self._sock is None and self._task is None

    def end(self) -> None:
        """Close it at once."""
        self._settled()
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            cast(asyncio.Transport, self._transport).abort()

    def _late(self) -> None:
        _log.debug("RPC connection did not say in time what it wants", peer=str(self._peer))
        self.end()

    def _settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, why: str) -> None:
        self._complain("RPC connection refused", why)
        self.end()

    def _complain(self, what: str, why: str) -> None:
        say = _log.warn if self._listener.may_warn_of(self._peer.address) else _log.debug
        say(what, peer=str(self._peer), reason=why)

    def _greeted(self) -> None:
        """The first byte is there. It is only looked at, because it may be the first one of TLS."""
        sock = self._sock
        assert sock is not None
        try:
            first = sock.recv(1, socket.MSG_PEEK)
            if first and first[0] <= GRPC:
                sock.recv(1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self.end()
            return
        self._loop.remove_reader(sock)
        self._choose(sock, first[0])

    def _choose(self, sock: socket.socket, byte: int) -> None:
        tls = self._listener.tls
        if byte > GRPC:
            context = tls.native if tls is not None else None
        elif byte == TLS:
            context = tls.incoming if tls is not None else None
        elif tls is not None and tls.verify_incoming:
            self._refuse("not encrypted, and verify_incoming is set")
            return
        elif byte in self._listener.protocols:
            self._task = self._loop.create_task(self._plain(sock, byte))
            return
        else:
            self._refuse(f"connections of type {byte} are not served")
            return
        if context is None:
            self._refuse(
                "TLS, but this server has no certificate" if byte == TLS else "not an RPC connection"
            )
            return
        self._task = self._loop.create_task(self._encrypted(sock, context, byte == TLS))

    async def _plain(self, sock: socket.socket, byte: int) -> None:
        self._settled()
        self._sock = None  # the transport's from here on
        make = self._listener.protocols[byte]
        try:
            self._transport, _ = await self._loop.connect_accepted_socket(lambda: make(self._peer), sock)
        except OSError as error:
            _log.debug("RPC connection failed", peer=str(self._peer), error=str(error))
        finally:
            self._task = None

    async def _encrypted(self, sock: socket.socket, context: ssl.SSLContext, has_byte: bool) -> None:
        self._sock = None
        inside = _Inside(self, has_byte)
        try:
            self._transport, _ = await self._loop.connect_accepted_socket(lambda: inside, sock, ssl=context)
        except OSError as error:  # all that TLS can find is one
            self._settled()
            self._complain("RPC connection failed in TLS", str(error) or "the other side closed it")
        finally:
            self._task = None

    def chosen(self, byte: int | None) -> asyncio.Protocol | None:
        """Within TLS: the protocol that the other side wants, None (and the end) if there is none."""
        make = self._listener.protocols.get(byte) if byte is not None and byte != TLS else None
        if make is None:
            self._refuse(
                "no ALPN that is served" if byte is None else f"type {byte} is not served within TLS"
            )
            return None
        self._settled()
        return make(Peer(self._peer.address, self._peer.port, True))


class _Inside(asyncio.Protocol):
    """Within TLS until it is known what goes on: by the byte that follows, or by ALPN."""

    def __init__(self, connection: _Connection, has_byte: bool) -> None:
        self._connection = connection
        self._has_byte = has_byte
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._has_byte:
            name = transport.get_extra_info("ssl_object").selected_alpn_protocol()
            self._go_on(_BY_ALPN.get(name), b"")

    def data_received(self, data: bytes) -> None:
        self._go_on(data[0], data[1:])

    def _go_on(self, byte: int | None, rest: bytes) -> None:
        transport = self._transport
        protocol = self._connection.chosen(byte)
        if protocol is None:
            transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)
