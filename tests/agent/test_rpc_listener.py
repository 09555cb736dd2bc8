"""The RPC port and who connects to it, over loopback, plain and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent.dial import Dialer
from agent.rpc import ALPN_NAMES, MULTIPLEX, RAFT, Peer, RpcLimits, RpcListener
from agent.tls import RpcTls, TlsFiles
from core.errors import ConfigError, Unsent
from tests.agent.rpc_certs import Authority

HOST = "127.83.0.1"
DOMAIN = "consul."


class Echo(asyncio.Protocol):
    """Sends back what comes, with the name of its kind in front."""

    def __init__(self, kind: bytes, peer: Peer) -> None:
        self.kind, self.peer = kind, peer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.kind + data)


class Collect(asyncio.Protocol):
    """A client that says hello at once and keeps what it gets."""

    def __init__(self, hello: bytes = b"hello") -> None:
        self.got = bytearray()
        self.ended = asyncio.Event()
        self.came = asyncio.Event()
        self._hello = hello

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self.came.set()


class Port:
    """A listener with two kinds of connections, and all peers that it saw."""

    def __init__(self, tls: RpcTls | None = None, **limits: Any) -> None:
        self.peers: list[Peer] = []
        self.tls = tls
        self.listener = RpcListener(
            asyncio.get_running_loop(),
            HOST,
            0,
            {RAFT: self._maker(b"raft:"), MULTIPLEX: self._maker(b"rpc:")},
            tls,
            RpcLimits(**limits),
        )

    def _maker(self, kind: bytes) -> Callable[[Peer], asyncio.Protocol]:
        def make(peer: Peer) -> asyncio.Protocol:
            self.peers.append(peer)
            return Echo(kind, peer)

        return make

    async def __aenter__(self) -> Port:
        self.listener.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()

    async def says(self, tls: RpcTls | None, byte: int = RAFT, datacenter: str = "dc1") -> bytes:
        """What the port answers to a dialer with `tls`; empty when it closes instead."""
        dialer = Dialer(asyncio.get_running_loop(), tls, HOST)
        _, protocol = await dialer.connect(HOST, self.listener.port, byte, Collect, datacenter)
        await asyncio.wait_for(protocol.came.wait(), 10)
        protocol.transport.abort()
        return bytes(protocol.got)

    def raw(self) -> socket.socket:
        sock = socket.create_connection((HOST, self.listener.port), 5)
        sock.settimeout(5)
        return sock


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def make_tls(
    authority: Authority | None,
    pair: tuple[str, str] = ("", ""),
    *,
    incoming: bool = False,
    outgoing: bool = False,
    hostname: bool = False,
) -> RpcTls:
    return RpcTls(
        make_files(authority, pair, incoming),
        verify_outgoing=outgoing,
        verify_server_hostname=hostname,
        domain=DOMAIN,
        alpn=ALPN_NAMES,
    )


def make_files(authority: Authority | None, pair: tuple[str, str], incoming: bool = False) -> TlsFiles:
    return TlsFiles(
        cert_file=pair[0],
        key_file=pair[1],
        ca_file=authority.ca_file if authority else "",
        verify_incoming=incoming,
    )


def closed(sock: socket.socket) -> bool:
    """Whether the other side ends the connection (within the socket's timeout)."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_the_first_byte_tells_what_goes_on(run: Any) -> None:
    async def main() -> None:
        async with Port() as port:
            assert await port.says(None, RAFT) == b"raft:hello"
            assert await port.says(None, MULTIPLEX) == b"rpc:hello"
            assert [peer.address for peer in port.peers] == [HOST, HOST]
            assert not port.peers[0].tls

    run(main())


@pytest.mark.parametrize("byte", [2, 3, 5, 6, 7, 8, 9, 0x16, 255])
def test_what_is_not_served_is_closed(run: Any, byte: int) -> None:
    async def main() -> None:
        async with Port() as port:
            sock = port.raw()
            sock.send(bytes([byte]) + b"more")
            assert await asyncio.to_thread(closed, sock)
            assert await port.says(None) == b"raft:hello"

    run(main())


def test_silent_clients_are_closed(run: Any) -> None:
    async def main() -> None:
        async with Port(handshake_timeout=0.2) as port:
            assert await asyncio.to_thread(closed, port.raw())

    run(main())


def test_an_unfinished_handshake_is_closed(run: Any, authority: Authority) -> None:
    async def main() -> None:
        tls = make_tls(authority, authority.issue("server", "server.dc1.consul"))
        async with Port(tls, handshake_timeout=0.3) as port:
            silent = port.raw()
            silent.send(b"\x03\x16\x03")
            assert await asyncio.to_thread(closed, silent)
            context = ssl._create_unverified_context()
            sock = port.raw()
            sock.send(b"\x03")
            inside = await asyncio.to_thread(context.wrap_socket, sock)  # and then no inner byte
            assert await asyncio.to_thread(closed, inside)

    run(main())


def test_connections_of_one_address_are_limited_and_forgotten(run: Any) -> None:
    async def main() -> None:
        async with Port(max_conns_per_client=3) as port:
            socks = [port.raw() for _ in range(3)]
            for sock in socks:
                sock.send(b"\x01x")
                assert await asyncio.to_thread(sock.recv, 100) == b"raft:x"
            assert await asyncio.to_thread(closed, port.raw())
            socks[0].close()
            for _ in range(100):  # until the server has noticed
                try:
                    assert await port.says(None) == b"raft:hello"
                    break
                except (Unsent, AssertionError):
                    await asyncio.sleep(0.02)
            else:
                pytest.fail("a closed connection still counts")
            port.listener.configure(RpcLimits(max_conns_per_client=0))
            more = [port.raw() for _ in range(10)]
            more[-1].send(b"\x01x")
            assert await asyncio.to_thread(more[-1].recv, 100) == b"raft:x"
            for sock in (*socks, *more):
                sock.close()

    run(main())


def test_an_address_that_cannot_be_had_is_named(run: Any) -> None:
    async def main() -> None:
        async with Port() as port:
            number = port.listener.port
            other = RpcListener(asyncio.get_running_loop(), HOST, number, {}, None, RpcLimits())
            with pytest.raises(ConfigError, match=f"RPC on {HOST}:{number}: address already in use"):
                other.open()

    run(main())


def test_closing_ends_all_connections(run: Any) -> None:
    async def main() -> None:
        async with Port() as port:
            waiting, talking = port.raw(), port.raw()
            talking.send(b"\x01x")
            assert await asyncio.to_thread(talking.recv, 100) == b"raft:x"
            number = port.listener.port
        assert await asyncio.to_thread(closed, waiting)
        assert await asyncio.to_thread(closed, talking)
        with pytest.raises(Unsent, match=f"dial tcp {HOST}:{number}: connection refused"):
            await Dialer(asyncio.get_running_loop(), None).connect(HOST, number, RAFT, Collect, "dc1")

    run(main())


def test_encrypted_with_names(run: Any, authority: Authority) -> None:
    async def main() -> None:
        pair = authority.issue("both", "server.dc1.consul", "localhost")
        tls = make_tls(authority, pair, incoming=True, outgoing=True, hostname=True)
        async with Port(tls) as port:
            assert await port.says(tls) == b"raft:hello"
            assert await port.says(tls, MULTIPLEX) == b"rpc:hello"
            assert port.peers[0].tls
            with pytest.raises(Unsent, match="x509: Hostname mismatch"):
                await port.says(tls, datacenter="dc2")
            # Without verify_server_hostname any name will do.
            assert await port.says(make_tls(authority, pair, outgoing=True), datacenter="dc2")

    run(main())


def test_verify_incoming(run: Any, authority: Authority) -> None:
    async def main() -> None:
        pair = authority.issue("server2", "server.dc1.consul")
        tls = make_tls(authority, pair, incoming=True)
        async with Port(tls) as port:
            assert await port.says(None) == b"", "plain"
            with contextlib.suppress(Unsent):
                assert await port.says(make_tls(authority, outgoing=True)) == b"", "without certificate"
            assert not port.peers
            assert await port.says(make_tls(authority, pair, outgoing=True)) == b"raft:hello"

    run(main())


def test_without_verify_incoming_all_are_welcome(run: Any, authority: Authority) -> None:
    async def main() -> None:
        pair = authority.issue("server3", "server.dc1.consul")
        async with Port(make_tls(authority, pair)) as port:
            assert await port.says(None) == b"raft:hello"
            assert await port.says(make_tls(authority, outgoing=True)) == b"raft:hello"

    run(main())


def test_strangers(run: Any, authority: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        other = Authority(tmp_path, "other")
        theirs = other.issue("theirs", "server.dc1.consul")
        pair = authority.issue("server4", "server.dc1.consul")
        async with Port(make_tls(authority, pair, incoming=True)) as port:
            with pytest.raises(Unsent, match=r"x509: .*certificate"):
                await port.says(make_tls(other, theirs, outgoing=True))
            # It trusts the server, but the server does not trust it.
            stranger = make_tls(authority, theirs, outgoing=True)
            with contextlib.suppress(Unsent):
                assert await port.says(stranger) == b""
            assert not port.peers

    run(main())


def test_tls_against_a_plain_server(run: Any, authority: Authority) -> None:
    async def main() -> None:
        async with Port() as port:
            with pytest.raises(Unsent):
                await port.says(make_tls(authority, outgoing=True))

    run(main())


def test_within_tls_the_same_rules(run: Any, authority: Authority) -> None:
    async def main() -> None:
        tls = make_tls(authority, authority.issue("server5", "server.dc1.consul"), outgoing=True)
        async with Port(tls) as port:
            for byte in (3, 2, 7, 99):
                assert await port.says(tls, byte) == b""
            assert not port.peers

    run(main())


@pytest.mark.parametrize(
    ("alpn", "answer"), [("consul/raft", b"raft:hi"), ("consul/rpc-multi", b"rpc:hi"), ("", b""), ("h2", b"")]
)
def test_native_tls(run: Any, authority: Authority, alpn: str, answer: bytes) -> None:
    async def main() -> None:
        pair = authority.issue("server6", "server.dc1.consul")
        async with Port(make_tls(authority, pair)) as port:
            context = ssl.create_default_context(cafile=authority.ca_file)
            context.load_cert_chain(*pair)
            if alpn:
                context.set_alpn_protocols([alpn])

            def talk() -> bytes:
                try:
                    with context.wrap_socket(port.raw(), server_hostname="server.dc1.consul") as sock:
                        sock.send(b"hi")
                        return sock.recv(100)
                except OSError:
                    return b""

            assert await asyncio.to_thread(talk) == answer

    run(main())


def test_native_tls_needs_a_certificate(run: Any, authority: Authority) -> None:
    async def main() -> None:
        pair = authority.issue("server7", "server.dc1.consul")
        async with Port(make_tls(authority, pair)) as port:
            context = ssl.create_default_context(cafile=authority.ca_file)
            context.set_alpn_protocols(["consul/raft"])

            def talk() -> bytes:
                try:
                    with context.wrap_socket(port.raw(), server_hostname="server.dc1.consul") as sock:
                        sock.send(b"hi")
                        return sock.recv(100)
                except OSError:
                    return b""

            assert await asyncio.to_thread(talk) == b""

    run(main())


def test_new_certificates_count_for_new_connections(run: Any, authority: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        tls = make_tls(authority, authority.issue("server8", "server.dc1.consul"), outgoing=True)
        async with Port(tls) as port:
            dialer = Dialer(asyncio.get_running_loop(), tls, HOST)
            _, old = await dialer.connect(HOST, port.listener.port, RAFT, Collect, "dc1")
            other = Authority(tmp_path, "new")
            theirs = make_files(other, other.issue("server9", "server.dc1.consul"))
            with pytest.raises(ConfigError, match="cannot use certificate"):
                tls.reload(make_files(other, ("/nowhere", "/nowhere")))
            assert await port.says(tls) == b"raft:hello"
            tls.reload(theirs)
            assert await port.says(tls) == b"raft:hello"
            with pytest.raises(Unsent):
                await port.says(make_tls(authority, outgoing=True))
            old.came.clear()
            old.transport.write(b"again")
            await asyncio.wait_for(old.came.wait(), 10)
            assert old.got.endswith(b"raft:again")
            old.transport.abort()

    run(main())


def test_what_tls_needs(authority: Authority) -> None:
    with pytest.raises(ConfigError, match="VerifyOutgoing set, and no CA certificate provided!"):
        make_tls(None, outgoing=True)
    with pytest.raises(ConfigError, match="VerifyIncoming set, and no Cert/Key pair provided!"):
        make_tls(authority, incoming=True)
    with pytest.raises(ConfigError, match="VerifyIncoming set, and no CA certificate provided!"):
        make_tls(None, authority.issue("server10"), incoming=True)
    # A hostname to verify is reason enough to encrypt.
    assert make_tls(authority, hostname=True).outgoing("dc2") is not None
    assert make_tls(authority, authority.issue("server11")).outgoing("dc1") is None


def test_a_folder_of_authorities(authority: Authority) -> None:
    folder = str(Path(authority.ca_file).parent)
    pair = authority.issue("server12", "server.dc1.consul")
    files = TlsFiles(cert_file=pair[0], key_file=pair[1], ca_path=folder, verify_incoming=True)
    with pytest.raises(ConfigError, match="cannot use CA"):  # the keys in it are no certificates
        RpcTls(files, verify_outgoing=True, verify_server_hostname=False, domain=DOMAIN, alpn=[])


def test_dialing_gives_up(run: Any) -> None:
    async def main() -> None:
        dialer = Dialer(asyncio.get_running_loop(), None)
        full = socket.socket()
        full.bind((HOST, 0))
        full.listen(0)
        number = full.getsockname()[1]
        clients = []
        for _ in range(4):  # its queue is full then, and further greetings are not answered
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((HOST, number))
            clients.append(client)
        with pytest.raises(Unsent, match="i/o timeout"):
            await dialer.connect(HOST, number, RAFT, Collect, "dc1", timeout=0.3)
        for sock in (full, *clients):
            sock.close()

    run(main())
