"""The network as checks see it: names, connections, TLS, with errors in the words of Go's net package,
which users and their tools know from Consul."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from agent.world import errno_text

if TYPE_CHECKING:
    import ssl

_LOOKUPS = 16
"""Names that are looked up at the same time. Lookups have threads of their own, since a resolver that
does not answer would otherwise hold up whoever else needs the loop's few."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class NetError(Exception):
    """A connection could not be made; the text is Go's."""


class TlsOptions(Struct, frozen=True):
    """How a check speaks TLS."""

    skip_verify: bool = False
    server_name: str = ""


class AgentTls(Struct, frozen=True):
    """The agent's own TLS files, which checks use with `enable_agent_tls_for_checks`."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""


class Dialer:
    """Opens connections. One for all checks of an agent; `close` ends its lookup threads."""

    def __init__(self, agent_tls: AgentTls | None = None) -> None:
        self._agent_tls = agent_tls
        self._pool: ThreadPoolExecutor | None = None
        self._lookups: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._contexts: dict[tuple[bool, bool], asyncio.Future[ssl.SSLContext]] = {}

    def close(self) -> None:
        """Let go of the lookup threads, without waiting for lookups under way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def use(self, agent_tls: AgentTls | None) -> None:
        """Take other TLS files, or the same ones anew, from the next connection on."""
        self._agent_tls = agent_tls
        self._contexts.clear()

    async def connect(
        self,
        host: str,
        port: int,
        factory: Callable[[], P],
        tls: TlsOptions | None = None,
        http2: bool = False,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a port of a host (with TLS if asked, offering only HTTP/2 if `http2`), trying each
        address of the host. NetError says why the first address failed."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if tls is not None:
            options["ssl"] = await self._context(tls.skip_verify, http2)
            options["server_hostname"] = tls.server_name or host or "localhost"
        first: NetError | None = None
        for ip in await self.resolve(host, socket.SOCK_STREAM):
            try:
                transport, protocol = await loop.create_connection(factory, ip, port, **options)
                return transport, protocol
            except OSError as error:
                first = first or NetError(_connect_text(error, ip, port, options.get("server_hostname", "")))
        assert first is not None  # resolve gives at least one address
        raise first

    async def connect_unix(self, path: str, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect to a Unix socket."""
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.create_unix_connection(factory, path)
        except OSError as error:
            raise NetError(f"dial unix {path}: connect: {errno_text(error)}") from error
        return transport, protocol

    async def resolve(self, host: str, kind: int) -> list[str]:
        """The addresses of a host, at least one."""
        if host in ("", "localhost"):  # RFC 6761 6.3; by far the most frequent target
            return ["127.0.0.1", "::1"]
        if is_numeric(host):
            return [host]
        key = (host, kind)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._in_thread(_look_up, host, kind)
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(key))
        return await asyncio.shield(lookup)

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_LOOKUPS, "check-lookup")
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        # nobody may be waiting any more when it fails
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def _context(self, skip_verify: bool, http2: bool) -> ssl.SSLContext:
        key = skip_verify, http2
        context = self._contexts.get(key)
        if context is None:
            # in a thread: reading the system's certificates takes tens of milliseconds
            context = self._in_thread(_make_context, self._agent_tls, skip_verify, http2)
            self._contexts[key] = context
            context.add_done_callback(lambda done: self._forget_failed(key, done))
        return await asyncio.shield(context)

    def _forget_failed(self, key: tuple[bool, bool], done: asyncio.Future[ssl.SSLContext]) -> None:
        if (done.cancelled() or done.exception()) and self._contexts.get(key) is done:
            del self._contexts[key]


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`, the port a number or a service name; NetError with Go's text."""
    host, colon, port = address.rpartition(":")
    if not colon or (host.startswith("[") and not host.endswith("]")):
        raise NetError(f"dial tcp: address {address}: missing port in address")
    if host.startswith("["):
        host = host[1:-1]
    elif ":" in host:
        raise NetError(f"dial tcp: address {address}: too many colons in address")
    if port.isascii() and port.removeprefix("-").isdigit():
        number = int(port)
        if not 0 <= number <= 65535:
            raise NetError(f"dial tcp: address {port}: invalid port")
        return host, number
    try:
        return host, socket.getservbyname(port)
    except (OSError, ValueError):
        raise NetError(f"dial tcp: address tcp/{port}: unknown port") from None


def host_port(ip: str, port: int) -> str:
    """`1.2.3.4:80` or `[::1]:80`."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def is_numeric(host: str) -> bool:
    """Whether a host is an address, so that no name has to be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
            return True
        except (OSError, ValueError):
            continue
    return False


def _look_up(host: str, kind: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=kind)
    except (OSError, UnicodeError) as error:
        temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        why = "Temporary failure in name resolution" if temporary else "no such host"
        raise NetError(f"dial {_network(kind)}: lookup {host}: {why}") from error
    return [str(entry[4][0]) for entry in found]


def _network(kind: int) -> str:
    return "tcp" if kind == socket.SOCK_STREAM else "udp"


def _make_context(agent_tls: AgentTls | None, skip_verify: bool, http2: bool) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if agent_tls is not None and (agent_tls.ca_file or agent_tls.ca_path):
            context.load_verify_locations(agent_tls.ca_file or None, agent_tls.ca_path or None)
        elif not skip_verify:
            context.load_default_certs()
        if agent_tls is not None and agent_tls.cert_file:
            context.load_cert_chain(agent_tls.cert_file, agent_tls.key_file)
    except OSError as error:
        raise NetError(f"tls: {error}") from error
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if http2:
        context.set_alpn_protocols(["h2"])
    return context


def _connect_text(error: OSError, ip: str, port: int, name: str) -> str:
    if name:
        text = _tls_text(error, name)
        if text:
            return text
    return f"dial tcp {host_port(ip, port)}: connect: {errno_text(error)}"


# X509_V_ERR_*: self-signed, unknown issuer (here or in the chain), no leaf signature to verify
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))
_EXPIRED = 10
_NAME_MISMATCH = frozenset((62, 64))


def _tls_text(error: OSError, name: str) -> str:
    """Go's words for a failed handshake; empty if the handshake was not reached."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNKNOWN_AUTHORITY:
            return "x509: certificate signed by unknown authority"
        if error.verify_code == _EXPIRED:
            return "x509: certificate has expired or is not yet valid"
        if error.verify_code in _NAME_MISMATCH:
            return f"x509: certificate is not valid for {name}"
        return f"x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
            return "tls: first record does not look like a TLS handshake"
        return f"tls: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if error.errno == errno.ECONNRESET:
        return "read: connection reset by peer"
    if isinstance(error, ConnectionError) and error.errno is None:
        return "EOF"
    return ""
