"""Names that others answer: recursors, played by sockets of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
import uvloop

from agent.dns import _bind
from agent.dns_recursors import server_address
from core.dns import packet
from core.errors import ConfigError
from tests.agent.test_dns_server import DEADLINE, HOST, Running, framed, read_message, running

Answering = Callable[[dns.message.Message], list[bytes]]


class Upstream(asyncio.DatagramProtocol):
    """Answers by a function, notes what it was asked."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[dns.message.Message] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query)
        for wire in self.answering(query):
            self.transport.sendto(wire, addr)


@asynccontextmanager
async def upstream(answering: Answering, tcp: Answering | None = None) -> AsyncIterator[tuple[str, Upstream]]:
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await read_message(reader)
        for wire in tcp(query) if tcp else []:
            writer.write(framed(wire))
        writer.close()

    udp, listening = _bind(HOST, 0, [(HOST, 0)])
    port = udp.getsockname()[1]
    transport, protocol = await loop.create_datagram_endpoint(lambda: Upstream(answering), sock=udp)
    server = await asyncio.start_server(serve, sock=listening)
    try:
        yield f"{HOST}:{port}", protocol
    finally:
        transport.close()
        server.close()


def found(query: dns.message.Message, *rrsets: dns.rrset.RRset, flags: int = 0) -> bytes:
    message = dns.message.make_response(query)
    message.answer = list(rrsets)
    message.flags |= flags
    return message.to_wire()


def record(name: str, type: str, *data: str, ttl: int = 60) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, "IN", type, *data)


def one_address(query: dns.message.Message) -> list[bytes]:
    return [found(query, record(query.question[0].name.to_text(), "A", "192.0.2.1"))]


def silent(query: dns.message.Message) -> list[bytes]:
    return []


def servfail(query: dns.message.Message) -> list[bytes]:
    message = dns.message.make_response(query)
    message.set_rcode(dns.rcode.SERVFAIL)
    return [message.to_wire()]


def test_names_outside_are_passed_on_and_back() -> None:
    async def main() -> None:
        async with upstream(one_address, one_address) as (address, one), running(recursors=(address,)) as at:
            ids = set()
            for n in range(8):
                message = await at.ask("Example.com", use_edns=0, payload=1232, id=n)
                assert message.answer[0][0].to_text() == "192.0.2.1"
                assert message.flags & dns.flags.RA and not message.flags & dns.flags.AA
                ids.add(one.asked[-1].id)
            assert len(ids) > 4 and ids != set(range(8))  # ids of our own
            assert one.asked[0].payload == 1232
            assert (await at.ask("example.com", tcp=True)).answer
            assert (await at.ask("9.9.9.10.in-addr.arpa", "PTR")).rcode() == dns.rcode.NOERROR
            # names of ours are not
            before = len(one.asked)
            missing = await at.ask("none.service.consul")
            assert missing.rcode() == dns.rcode.NXDOMAIN and missing.flags & dns.flags.RA
            assert len(one.asked) == before

    uvloop.run(main())


@pytest.mark.parametrize("bad", [silent, servfail, None])
def test_the_next_recursor_is_asked(bad: Answering | None) -> None:
    async def main() -> None:
        async with upstream(bad or silent) as (first, _), upstream(one_address) as (second, other):
            recursors = (first if bad else f"{HOST}:1", second)
            async with running(recursors=recursors, recursor_timeout=0.2) as at:
                assert (await at.ask("example.com")).answer
                assert len(other.asked) == 1

    uvloop.run(main())


@pytest.mark.parametrize("bad", [silent, servfail])
def test_servfail_when_no_recursor_answers(bad: Answering) -> None:
    async def main() -> None:
        async with upstream(bad) as (address, _), running(recursors=(address,), recursor_timeout=0.1) as at:
            for tcp in (False, True):
                message = await at.ask("example.com", tcp=tcp, use_edns=0, payload=1232)
                assert message.rcode() == dns.rcode.SERVFAIL
                assert message.flags & dns.flags.RA and message.edns == 0

    uvloop.run(main())


def test_forged_answers_are_ignored() -> None:
    def forging(query: dns.message.Message) -> list[bytes]:
        wrong = record(query.question[0].name.to_text(), "A", "6.6.6.6")
        other_id = bytearray(found(query, wrong))
        other_id[1] ^= 1
        other_question = dns.message.make_query("other.example", "A", id=query.id)
        other_type = dns.message.make_query(query.question[0].name, "AAAA", id=query.id)
        no_answer = query.to_wire()
        return [
            bytes(other_id),
            found(other_question, wrong),
            found(other_type),
            no_answer,
            b"junk",
            *one_address(query),
        ]

    async def main() -> None:
        async with upstream(forging) as (address, _), running(recursors=(address,)) as at:
            assert await at.data("example.com") == ["192.0.2.1"]

    uvloop.run(main())


def test_cut_answers() -> None:
    def cut(query: dns.message.Message) -> list[bytes]:
        return [found(query, flags=dns.flags.TC)]

    def oversized(query: dns.message.Message) -> list[bytes]:
        name = query.question[0].name.to_text()
        return [found(query, record(name, "A", *(f"192.0.2.{n}" for n in range(100))))]

    async def main() -> None:
        async with upstream(cut, one_address) as (address, _), running(recursors=(address,)) as at:
            over_udp = await at.ask("example.com")
            assert over_udp.flags & dns.flags.TC and not over_udp.answer
            assert await at.data("example.com", tcp=True) == ["192.0.2.1"]
        async with upstream(oversized) as (address, _), running(recursors=(address,)) as at:
            over_udp = await at.ask("example.com")
            assert over_udp.flags & dns.flags.TC and not over_udp.answer
            assert len(await at.data("example.com", tcp=True)) == 100

    uvloop.run(main())


def test_random_strategy_spreads() -> None:
    async def main() -> None:
        async with upstream(one_address) as (first, one), upstream(one_address) as (second, two):
            async with running(recursors=(first, second), recursor_strategy="random") as at:
                for _ in range(40):
                    await at.ask("example.com")
                assert len(one.asked) > 5 and len(two.asked) > 5
            async with running(recursors=(first, second)) as at:
                count = len(two.asked)
                for _ in range(10):
                    await at.ask("example.com")
                assert len(two.asked) == count

    uvloop.run(main())


def external(at: Running) -> None:
    at.maker.node("ext", "www.Example.com")
    at.maker.add("ext", "mail")


def test_external_services_are_followed() -> None:
    def following(query: dns.message.Message) -> list[bytes]:
        name = query.question[0].name.to_text()
        alias = record(name, "CNAME", "real.example.com.")
        return [found(query, alias, record("real.example.com.", "A", "192.0.2.7", ttl=300))]

    async def main() -> None:
        async with (
            upstream(following) as (address, one),
            running(recursors=(address,), service_ttl={"*": 9}) as at,
        ):
            external(at)
            for tcp in (False, True, False):
                message = await at.ask("mail.service.consul", tcp=tcp)
                assert [rrset.to_text() for rrset in message.answer] == [
                    "mail.service.consul. 9 IN CNAME www.Example.com.",
                    "www.example.com. 9 IN CNAME real.example.com.",
                    "real.example.com. 9 IN A 192.0.2.7",
                ]
                assert message.flags & dns.flags.AA and message.flags & dns.flags.RA
            assert len(one.asked) == 3  # what others say is not remembered
            srv = await at.ask("mail.service.consul", "SRV")
            assert [rrset.to_text() for rrset in srv.answer] == [
                "mail.service.consul. 9 IN SRV 1 1 80 www.Example.com."
            ]
            assert len(srv.additional) == 2

    uvloop.run(main())


def test_external_services_without_an_answer_are_still_cnames() -> None:
    async def main() -> None:
        async with (
            upstream(silent) as (address, _),
            running(recursors=(address,), recursor_timeout=0.05) as at,
        ):
            external(at)
            message = await at.ask("mail.service.consul")
            assert [rrset[0].to_text() for rrset in message.answer] == ["www.Example.com."]
        async with running() as at:
            external(at)
            message = await at.ask("mail.service.consul")
            assert [rrset[0].to_text() for rrset in message.answer] == ["www.Example.com."]

    uvloop.run(main())


def test_too_many_waiting_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dns_recursors._OPEN", 2)

    async def main() -> None:
        async with (
            upstream(silent) as (address, one),
            running(recursors=(address,), recursor_timeout=DEADLINE) as at,
        ):
            waiting = [asyncio.create_task(at.ask(f"n{n}.example.com")) for n in range(2)]
            async with asyncio.timeout(DEADLINE):
                while len(one.asked) < 2:
                    await asyncio.sleep(0.01)
            assert (await at.ask("n3.example.com")).rcode() == dns.rcode.SERVFAIL
            for task in waiting:
                task.cancel()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_recursor_addresses(text: str, expected: tuple[str, int]) -> None:
    assert server_address(text) == expected


@pytest.mark.parametrize("text", ["", ":53", "192.0.2.1:dns", "192.0.2.1:0", "[::1]:99999", "[::1]53x"])
def test_broken_recursor_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="recursors"):
        server_address(text)


def test_own_questions_are_well_formed() -> None:
    name = dns.name.from_text("example.com").to_wire()
    assert name is not None
    message = dns.message.from_wire(packet.question(name, 28, 1232))
    assert message.question[0].to_text() == "example.com. IN AAAA"
    assert message.edns == 0 and message.payload == 1232 and message.flags & dns.flags.RD
