"""The DNS server with real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import uvloop

from agent.dns import DnsServer
from agent.world import World
from core.dns.settings import DnsSettings
from core.metrics import Metrics
from tests.core.dns.maker import Maker

DEADLINE = 5.0
HOST = "127.0.0.1"


class PretendWorld(World):
    """Time that stands still until it is moved, and chance from a seed."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.time = 1_700_000_000.0

    def wall(self) -> float:
        return self.time


class Running:
    """A server that answers from `maker`'s store, and a client of it."""

    def __init__(self, maker: Maker, server: DnsServer, world: PretendWorld) -> None:
        self.maker = maker
        self.server = server
        self.world = world
        self.address = server.addresses[0]

    async def raw(self, data: bytes) -> bytes:
        """Send a datagram, wait for one."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, self.address)
            await loop.sock_sendall(sock, data)
            return await asyncio.wait_for(loop.sock_recv(sock, 65535), DEADLINE)

    async def ask(self, name: str, type: str = "A", tcp: bool = False, **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, type, **options)
        if not tcp:
            message = dns.message.from_wire(await self.raw(query.to_wire()), one_rr_per_rrset=True)
        else:
            reader, writer = await asyncio.open_connection(*self.address)
            writer.write(framed(query.to_wire()))
            message = await read_message(reader)
            writer.close()
        assert query.is_response(message)
        return message

    async def data(self, name: str, type: str = "A", **options: Any) -> list[str]:
        return sorted(rrset[0].to_text() for rrset in (await self.ask(name, type, **options)).answer)


def framed(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


async def read_message(reader: asyncio.StreamReader) -> dns.message.Message:
    size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), DEADLINE), "big")
    wire = await asyncio.wait_for(reader.readexactly(size), DEADLINE)
    return dns.message.from_wire(wire, one_rr_per_rrset=True)


@asynccontextmanager
async def running(metrics: Metrics | None = None, host: str = HOST, **options: Any) -> AsyncIterator[Running]:
    maker, world = Maker(), PretendWorld()
    server = DnsServer(maker.store, DnsSettings(**options), world, metrics)
    await server.start([(host, 0)])
    try:
        yield Running(maker, server, world)
    finally:
        await server.stop()


def test_udp_and_tcp() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 5)
            assert len(await at.data("web.service.consul")) == 3
            assert len(await at.data("web.service.consul", use_edns=0, payload=1232)) == 5
            assert len(await at.data("web.service.consul", tcp=True)) == 5
            assert (await at.ask("web.service.consul", "SRV", tcp=True)).flags & dns.flags.AA
            assert (await at.ask("example.com")).rcode() == dns.rcode.REFUSED
            unknown = await at.ask("9.9.9.10.in-addr.arpa", "PTR")
            assert unknown.rcode() == dns.rcode.SERVFAIL and unknown.flags & dns.flags.RA

    uvloop.run(main())


@pytest.mark.parametrize("tcp", [False, True])
def test_remembered_answers_follow_the_state(tcp: bool) -> None:
    async def main() -> None:
        async with running() as at:
            for name, type in (("web.service.consul", "A"), ("n1.node.consul", "A"), ("consul", "NS")):
                await at.ask(name, type, tcp=tcp)
                await at.ask(name, type, tcp=tcp)
            assert (await at.ask("web.service.consul", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
            at.maker.node("n1", "10.0.0.1")
            at.maker.add("n1", "web", "passing")
            at.maker.add("n1", "consul")
            for _ in range(3):
                assert await at.data("web.service.consul", tcp=tcp) == ["10.0.0.1"]
                assert await at.data("n1.node.consul", tcp=tcp) == ["10.0.0.1"]
                assert await at.data("consul", "NS", tcp=tcp) == ["n1.node.dc1.consul."]
                assert await at.data("1.0.0.10.in-addr.arpa", "PTR", tcp=tcp) == ["n1.node.dc1.consul."]
            at.maker.node("n1", "10.0.0.2")
            for _ in range(3):
                assert await at.data("web.service.consul", tcp=tcp) == ["10.0.0.2"]
                assert await at.data("n1.node.consul", tcp=tcp) == ["10.0.0.2"]
                assert (await at.ask("1.0.0.10.in-addr.arpa", "PTR", tcp=tcp)).rcode() == dns.rcode.SERVFAIL
            at.maker.add("n1", "web", "critical")
            for _ in range(3):
                assert (await at.ask("web.service.consul", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
            at.maker.deregister("n1")
            assert (await at.ask("n1.node.consul", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN

    uvloop.run(main())


def test_reload_forgets() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 4)
            before = await at.ask("web.service.consul", "SRV", tcp=True)
            assert {rrset.ttl for rrset in before.answer} == {0}
            at.server.reload(DnsSettings(service_ttl={"*": 9}, domain="other"))
            after = await at.ask("web.service.other", "SRV", tcp=True)
            assert {rrset.ttl for rrset in after.answer} == {9}
            assert (await at.ask("web.service.consul", "SRV", tcp=True)).rcode() == dns.rcode.REFUSED

    uvloop.run(main())


def test_the_serial_is_the_second() -> None:
    async def main() -> None:
        async with running() as at:
            for moved in (0, 0, 1, 0):
                at.world.time += moved
                for message in (await at.ask("none.service.consul"), await at.ask("consul", "SOA")):
                    [soa] = message.authority or message.answer
                    assert soa[0].serial == int(at.world.time)

    uvloop.run(main())


def test_all_instances_get_their_share() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 8)
            counts: dict[str, int] = {}
            for _ in range(600):
                first = (await at.ask("web.service.consul")).answer[0][0].to_text()
                counts[first] = counts.get(first, 0) + 1
            assert len(counts) == 8 and min(counts.values()) > 600 / 8 / 3

    uvloop.run(main())


def test_a_crowd_gets_different_orders_too() -> None:
    """Questions that arrive together are answered from memory; still no instance is left out."""

    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 8)
            query = dns.message.make_query("web.service.consul", "A").to_wire()
            loop = asyncio.get_running_loop()
            firsts: dict[str, int] = {}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, at.address)
                for _ in range(40):
                    for _ in range(50):
                        sock.send(query)
                    for _ in range(50):
                        wire = await asyncio.wait_for(loop.sock_recv(sock, 4096), DEADLINE)
                        first = dns.message.from_wire(wire, one_rr_per_rrset=True).answer[0][0].to_text()
                        firsts[first] = firsts.get(first, 0) + 1
            assert len(firsts) == 8 and sum(firsts.values()) == 2000

    uvloop.run(main())


def test_many_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dns_memory._CAPACITY", 256)

    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 2)
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, at.address)
                for n in range(1000):  # other letter case, other question
                    letters = "".join(
                        letter.upper() if n >> bit & 1 else letter
                        for bit, letter in enumerate("consulservice")
                    )
                    for name in (f"web.{letters[6:]}.{letters[:6]}", f"no.{letters[6:]}.{letters[:6]}"):
                        sock.send(dns.message.make_query(name, "A").to_wire())
                        await asyncio.wait_for(loop.sock_recv(sock, 4096), DEADLINE)
            packets, replies = at.server.udp_packets, at.server._replies
            kept = len(packets.young) + len(packets._old)
            assert 256 < kept <= 2 * 256 and len(packets._dated) <= 256
            # however a name is written, there is one reply and one watch
            assert len(replies._young) == 2
            assert sum(len(group) for group in at.maker.store._cells.values()) == 2
            for n in range(1000):
                await at.ask(f"n{n}.node.consul")
            assert 256 < len(replies._young) + len(replies._old) <= 2 * 256
            watches = set().union(*at.maker.store._cells.values())
            assert len(watches) == len(replies._young) + len(replies._old)
        assert not at.maker.store._cells

    uvloop.run(main())


def test_noise_is_survived() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 2)
            chance = random.Random(7)
            seed = dns.message.make_query("web.service.consul", "SRV", use_edns=0).to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for n in range(3000):
                    data = bytearray(seed if n % 2 else chance.randbytes(chance.randrange(120)))
                    for _ in range(3):
                        if data:
                            data[chance.randrange(len(data))] = chance.randrange(256)
                    sock.sendto(bytes(data), at.address)
                    if n % 200 == 0:
                        assert len(await at.data("web.service.consul")) == 2
            assert len(await at.data("web.service.consul")) == 2

    uvloop.run(main())


def test_answers_are_not_answered() -> None:
    async def main() -> None:
        async with running() as at:
            data = bytearray(dns.message.make_query("web.service.consul", "A").to_wire())
            data[2] |= 0x80
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, at.address)
                sock.send(bytes(data))
                sock.send(dns.message.make_query("web.service.consul", "A", id=77).to_wire())
                wire = await asyncio.wait_for(loop.sock_recv(sock, 4096), DEADLINE)
            assert dns.message.from_wire(wire).id == 77

    uvloop.run(main())


def test_wildcard_addresses_answer_from_where_they_were_asked() -> None:
    async def main() -> None:
        async with running(host="0.0.0.0") as at:
            at.maker.many("web", 2)
            for host in ("127.0.0.1", "127.0.0.99"):
                at.address = (host, at.address[1])
                for _ in range(3):  # connected sockets take answers from that address only
                    assert len(await at.data("web.service.consul")) == 2
                assert len(await at.data("web.service.consul", tcp=True)) == 2

    uvloop.run(main())


def test_ipv6() -> None:
    async def main() -> None:
        async with running(host="::1") as at:
            at.maker.many("web", 2)
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, at.address)
                sock.send(dns.message.make_query("web.service.consul", "A").to_wire())
                wire = await asyncio.wait_for(loop.sock_recv(sock, 4096), DEADLINE)
            assert len(dns.message.from_wire(wire, one_rr_per_rrset=True).answer) == 2

    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    uvloop.run(main())


def test_an_address_in_use_is_named_and_nothing_stays_open() -> None:
    async def main() -> None:
        async with running() as at:
            port = at.address[1]
            second = DnsServer(at.maker.store, DnsSettings(), PretendWorld())
            with pytest.raises(OSError, match=f"DNS cannot listen on {HOST}:{port}/udp: Addr"):
                await second.start([("127.0.0.98", port), (HOST, port)])
            assert second.addresses == []
            await second.start([("127.0.0.98", port)])
            await second.stop()

    uvloop.run(main())


def test_times_are_measured() -> None:
    async def main() -> None:
        metrics = Metrics(0.0)
        async with running(metrics, node_name="n1") as at:
            for _ in range(3):
                await at.ask("none.service.consul")
        assert 'consul_dns_domain_query_count{node="n1"} 3' in metrics.prometheus(1.0)

    uvloop.run(main())


@pytest.mark.skipif(shutil.which("dig") is None, reason="no dig")
def test_dig_understands_us() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.node("n1", "10.0.0.1", node_meta={"os": "linux"})
            at.maker.add("n1", "web", port=8080)
            for options in ((), ("+tcp",), ("+noedns",), ("+nocookie", "+bufsize=4096")):
                process = await asyncio.create_subprocess_exec(
                    *("dig", f"@{HOST}", "-p", str(at.address[1]), "+time=2"),
                    *("web.service.consul", "SRV", *options),
                    stdout=asyncio.subprocess.PIPE,
                )
                out = (await asyncio.wait_for(process.communicate(), 10))[0].decode()
                assert "status: NOERROR" in out
                assert "1 1 8080 n1.node.dc1.consul." in out
                assert '"os=linux"' in out
                assert "WARNING: Message" not in out and "FORMERR" not in out

    uvloop.run(main())


# -- TCP


def queries(count: int) -> list[bytes]:
    return [dns.message.make_query("web.service.consul", "SRV", id=n + 1).to_wire() for n in range(count)]


def test_pipelined_questions_on_one_connection() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 3)
            reader, writer = await asyncio.open_connection(*at.address)
            wire = b"".join(map(framed, queries(500)))
            for start in range(0, len(wire), 701):  # in pieces that fit nothing
                writer.write(wire[start : start + 701])
                await writer.drain()
            ids = [(await read_message(reader)).id for _ in range(500)]
            assert ids == list(range(1, 501))
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            writer.close()

    uvloop.run(main())


def test_a_client_that_ends_its_side_still_gets_its_answers() -> None:
    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 3)
            reader, writer = await asyncio.open_connection(*at.address)
            writer.write(b"".join(map(framed, queries(100))))
            writer.write_eof()
            ids = [(await read_message(reader)).id for _ in range(100)]
            assert ids == list(range(1, 101))
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            writer.close()

    uvloop.run(main())


@pytest.mark.parametrize("junk", [b"\0\0", b"\0\1x", b"\0\x0b" + bytes(11)])
def test_what_is_not_dns_is_hung_up_on(junk: bytes) -> None:
    async def main() -> None:
        async with running() as at:
            reader, writer = await asyncio.open_connection(*at.address)
            writer.write(junk)
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            writer.close()

    uvloop.run(main())


def test_a_slow_client_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dns_tcp._IDLE", 0.2)

    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 200)
            # one byte at a time never makes a question
            reader, writer = await asyncio.open_connection(*at.address)

            async def dribble() -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(b"\x7f")
                        await writer.drain()
                        await asyncio.sleep(0.05)

            task = asyncio.create_task(dribble())
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            task.cancel()
            writer.close()
            # many questions, no answer taken
            loop = asyncio.get_running_loop()
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, at.address)
                with contextlib.suppress(ConnectionError):
                    wire = b"".join(map(framed, queries(900)))
                    await asyncio.wait_for(loop.sock_sendall(sock, wire), DEADLINE)

                async def alone() -> bool:
                    connections = at.server._connections
                    return connections is not None and not connections._open

                await until(alone)
            assert len(await at.data("web.service.consul", tcp=True)) == 200

    uvloop.run(main())


def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dns_tcp._PER_ADDRESS", 3)

    async def main() -> None:
        async with running() as at:
            at.maker.many("web", 1)
            open_ones = [await asyncio.open_connection(*at.address) for _ in range(3)]
            for reader, writer in open_ones:
                writer.write(framed(queries(1)[0]))
                await read_message(reader)
            reader, writer = await asyncio.open_connection(*at.address)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            writer.close()
            for _, writer in open_ones:
                writer.close()
                await writer.wait_closed()

            async def again() -> bool:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    return await at.data("web.service.consul", tcp=True) == ["10.0.0.2"]
                return False

            await until(again)

    uvloop.run(main())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.01)
