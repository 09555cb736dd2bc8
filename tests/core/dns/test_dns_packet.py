"""Messages to bytes and back, read by another library (dnspython) as the judge."""

from __future__ import annotations

import random
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.dns import packet
from core.dns import record as rr
from core.dns.answer import Entry, Reply, answer
from core.dns.settings import DnsSettings, Soa
from tests.core.dns.maker import Maker

SERIAL = 1_700_000_000
PLAIN = DnsSettings()


def query_bytes(name: str, type: str, size: int | None = None, **options: Any) -> bytes:
    edns: dict[str, Any] = {} if size is None else {"use_edns": 0, "payload": size}
    return dns.message.make_query(name, type, **edns, **options).to_wire()


def pack(reply: Reply, data: bytes, settings: DnsSettings, udp: bool, seed: int = 1) -> bytes:
    query = packet.parse(data)
    assert query is not None and not query.error
    entries = packet.order(query, reply, settings, udp, random.Random(seed))
    return packet.pack(query, reply, entries, settings, udp)


def respond(
    maker: Maker, name: str, type: str, settings: DnsSettings = PLAIN, udp: bool = True, **options: Any
) -> bytes:
    data = query_bytes(name, type, **options)
    query = packet.parse(data)
    assert query is not None
    reply = answer(maker.store, query.name.lower(), query.type, settings, SERIAL)
    assert reply is not None
    return pack(reply, data, settings, udp)


def parsed(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire, one_rr_per_rrset=True)


# -- cutting to size

label = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=63)
ipv4 = st.binary(min_size=4, max_size=4)
ipv6 = st.binary(min_size=16, max_size=16)


@st.composite
def entry(draw: st.DrawFn, owner: bytes, type: int) -> Entry:
    """A record as an instance gives it, with what belongs to it."""
    if type != rr.SRV:
        return Entry((rr.address(owner, draw(ipv4 if type == rr.A else ipv6), 0),))
    target = rr.wire_name(draw(label).encode(), b"node", b"dc1", b"consul")
    assert target is not None
    addresses = draw(st.lists(st.one_of(ipv4, ipv6), max_size=2))
    texts = draw(st.lists(st.text(max_size=300), max_size=2))
    about = [rr.address(target, one, 0) for one in addresses] + [rr.txt(target, one, 0) for one in texts]
    return Entry((rr.srv(owner, 1, draw(st.integers(0, 65535)), target, 0),), tuple(about))


@st.composite
def reply_and_query(draw: st.DrawFn) -> tuple[Reply, bytes, int | None]:
    labels = [*draw(st.lists(label, min_size=1, max_size=2)), "service", "consul"]
    owner = rr.wire_name(*(one.encode() for one in labels))
    assert owner is not None
    type = draw(st.sampled_from([rr.A, rr.AAAA, rr.SRV]))
    entries = draw(st.lists(entry(owner, type), min_size=1, max_size=60))
    size = draw(st.one_of(st.none(), st.integers(0, 511), st.integers(512, 4096)))
    name = ".".join(labels) + "."
    query = query_bytes(name, dns.rdatatype.to_text(dns.rdatatype.RdataType(type)), size)
    return Reply(entries=entries, shuffle=True, counted=True), query, size


@settings(max_examples=150)
@given(reply_and_query(), st.booleans(), st.booleans(), st.integers(1, 12), st.booleans(), st.integers(0, 9))
def test_any_size(
    case: tuple[Reply, bytes, int | None], truncate: bool, plain: bool, most: int, udp: bool, seed: int
) -> None:
    reply, data, size = case
    settings = DnsSettings(enable_truncate=truncate, disable_compression=plain, udp_answer_limit=most)
    wire = pack(reply, data, settings, udp, seed)
    message = parsed(wire)
    announced = max(size or 0, 512)
    assert len(wire) <= (announced if udp else 65535)

    everything = len(reply.entries)
    shown = len(message.answer)
    counts = udp and announced == 512
    assert shown <= min(everything, min(most, 8) if counts else everything)
    if shown == 0:  # one record with a long name may be too long for plain UDP, then TCP must do
        assert message.flags & dns.flags.TC and counts
        single = pack(Reply(entries=reply.entries[:1]), data, settings, False, seed)
        assert len(single) > 400
        return
    assert bool(message.flags & dns.flags.TC) == (truncate and shown < everything)
    assert message.question[0].name == message.answer[0].name
    if size is not None:
        assert message.edns == 0 and message.payload == size

    # whatever is shown is true, and the additional section speaks about what is shown, and only that
    given_records = {record for one in reply.entries for record in one.records}
    assert len(given_records) >= len({rrset.to_text() for rrset in message.answer})
    targets = {rrset[0].target for rrset in message.answer if rrset.rdtype == dns.rdatatype.SRV}
    assert {rrset.name for rrset in message.additional} <= targets
    if shown > 1:  # (metadata is left out when there is no room for all)
        by_target = {
            dns.name.from_wire(one.records[0].names[0], 0)[0]
            for one in reply.entries
            if one.records[0].names and any(record.type != rr.TXT for record in one.additional)
        }
        assert {name for name in by_target if name in targets} <= {rrset.name for rrset in message.additional}


@settings(max_examples=40)
@given(reply_and_query())
def test_no_more_is_cut_than_must_be(case: tuple[Reply, bytes, int | None]) -> None:
    reply, data, size = case
    if size is None or size <= 512:
        return
    reply.shuffle = False
    wire = pack(reply, data, PLAIN, True)
    shown = len(parsed(wire).answer)
    if 1 < shown < len(reply.entries):
        entries = [
            Entry(one.records, tuple(record for record in one.additional if record.type != rr.TXT))
            for one in reply.entries[: shown + 1]
        ]
        one_more = pack(Reply(entries=entries), data, PLAIN, False)
        assert len(one_more) > size


def test_additional_records_alone_are_dropped_without_the_flag() -> None:
    maker = Maker()
    maker.node("n1", "10.0.0.1", node_meta={f"key{n}": "x" * 200 for n in range(9)})
    maker.add("n1", "web")
    settings = DnsSettings(enable_truncate=True)
    for name, type, most in (("web.service.consul", "SRV", 3), ("n1.node.consul", "A", 2)):
        message = parsed(respond(maker, name, type, settings))
        assert len(message.answer) == 1
        assert 0 < len(message.additional) <= most
        assert not message.flags & dns.flags.TC


def test_metadata_makes_room_for_instances() -> None:
    """Consul 1.9.8 shows a node's metadata only where no answer was left out."""
    maker = Maker()
    for n in range(1, 9):
        node = maker.node(f"node{n}", f"10.0.0.{n}", node_meta={"note": "x" * 60})
        maker.add(node, "web", "passing")
    small = parsed(respond(maker, "web.service.consul", "SRV", PLAIN, size=600))
    assert {rrset.rdtype for rrset in small.additional} == {dns.rdatatype.A}
    assert len(small.answer) == len(small.additional) == 8
    plain = parsed(respond(maker, "web.service.consul", "SRV", PLAIN))
    assert {rrset.rdtype for rrset in plain.additional} == {dns.rdatatype.A}
    large = parsed(respond(maker, "web.service.consul", "SRV", PLAIN, size=4096))
    assert {rrset.rdtype for rrset in large.additional} == {dns.rdatatype.A, dns.rdatatype.TXT}


def test_a_reply_beyond_64_kib_is_cut_for_tcp_too() -> None:
    maker = Maker()
    maker.many("web", 1500)
    for truncate in (False, True):
        wire = respond(maker, "web.service.consul", "SRV", DnsSettings(enable_truncate=truncate), udp=False)
        message = parsed(wire)
        assert 64_000 < len(wire) <= 65535
        assert len(message.answer) == len(message.additional) < 1500
        assert bool(message.flags & dns.flags.TC) == truncate
        names = {rrset[0].target for rrset in message.answer}
        assert names == {rrset.name for rrset in message.additional}


@pytest.mark.parametrize("type", ["A", "AAAA", "ANY", "TXT"])
def test_a_record_limit(type: str) -> None:
    maker = Maker()
    for n in range(9):
        maker.node(f"n{n}", f"10.0.0.{n}", tagged_addresses={"lan_ipv6": f"fd00::{n}"})
        maker.add(f"n{n}", "web")
    settings = DnsSettings(a_record_limit=4)
    for udp in (True, False):
        assert len(parsed(respond(maker, "web.service.consul", type, settings, udp, size=4096)).answer) == 4
        assert len(parsed(respond(maker, "web.service.consul", "SRV", settings, udp, size=4096)).answer) == 9


def test_every_instance_comes_first_sometimes() -> None:
    maker = Maker()
    maker.many("web", 8)
    reply = answer(maker.store, rr.name_from_text("web.service.consul") or b"", rr.A, PLAIN, SERIAL)
    assert reply is not None
    data = query_bytes("web.service.consul", "A")
    firsts = {parsed(pack(reply, data, PLAIN, True, seed)).answer[0].to_text() for seed in range(200)}
    assert len(firsts) == 8


def test_without_compression() -> None:
    maker = Maker()
    maker.many("web", 5)
    short = respond(maker, "web.service.consul", "SRV", udp=False)
    long = respond(maker, "web.service.consul", "SRV", DnsSettings(disable_compression=True), udp=False)
    assert len(long) > len(short)
    assert b"\xc0\x0c" not in long
    assert {rrset.to_text() for rrset in parsed(long).answer} == {
        rrset.to_text() for rrset in parsed(short).answer
    }


def test_ttls_that_no_record_can_carry_are_bounded() -> None:
    maker = Maker()
    maker.many("web", 1)
    for seconds, ttl in ((-5, 0), (1 << 40, 0x7FFFFFFF)):
        soa = Soa(refresh=seconds, retry=seconds, expire=seconds, min_ttl=seconds)
        settings = DnsSettings(node_ttl=seconds, service_ttl={"*": seconds}, soa=soa)
        for name in ("web.service.consul", "node1.node.consul", "0a000001.addr.consul"):
            assert parsed(respond(maker, name, "A", settings)).answer[0].ttl == ttl
        assert parsed(respond(maker, "consul", "SOA", settings)).answer[0].ttl == ttl


def test_srv_targets_are_not_compressed() -> None:
    maker = Maker()
    maker.many("web", 1)
    wire = respond(maker, "web.service.consul", "SRV")
    assert b"\x05node1\x04node\x03dc1\x06consul\x00" in wire  # RFC 2782


def test_the_case_of_the_question_is_kept() -> None:
    maker = Maker()
    maker.many("web", 1)
    message = parsed(respond(maker, "wEb.SERVICE.Consul", "A"))
    assert message.question[0].name.to_text() == "wEb.SERVICE.Consul."
    assert message.answer[0].name.to_text() == "wEb.SERVICE.Consul."


# -- requests


def test_header_flags_are_repeated() -> None:
    maker = Maker()
    maker.many("web", 1)
    data = bytearray(query_bytes("web.service.consul", "A"))
    data[3] |= 0x10  # checking disabled
    query = packet.parse(bytes(data))
    assert query is not None
    message = parsed(packet.pack(query, packet.refusal(rr.REFUSED), [], PLAIN, True))
    assert message.flags & dns.flags.CD and message.flags & dns.flags.RD
    assert message.rcode() == dns.rcode.REFUSED
    assert not message.flags & (dns.flags.AA | dns.flags.RA)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (query_bytes("example.com", "AXFR"), rr.NOTIMP),
        (query_bytes("example.com", "IXFR"), rr.NOTIMP),
        (query_bytes("version.bind", "TXT", rdclass="CH"), rr.REFUSED),
        (query_bytes("web.service.consul", "A", rdclass="ANY"), 0),
        (query_bytes("web.service.consul", "A")[:-1], rr.FORMERR),
        (query_bytes("web.service.consul", "A", 4096)[:-1], rr.FORMERR),
        (b"\0\1\1\0" + bytes(8), rr.FORMERR),  # no question
        (b"\0\1\1\0\0\2" + bytes(6) + b"\0\0\1\0\1" * 2, rr.FORMERR),  # two questions
        (b"\0\1\1\0\0\1" + bytes(6) + b"\xc0\x0c\0\1\0\1", rr.FORMERR),  # a name that points to itself
        (b"\0\1\1\0\0\1" + bytes(6) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", rr.FORMERR),
        (b"\0\1\1\0\0\1" + bytes(6) + b"\x3f" + b"a" * 63, rr.FORMERR),
        (b"\0\1\1\0\0\1" + bytes(6) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", rr.FORMERR),
        (b"\0\1\x28\0\0\1" + bytes(6) + b"\0\0\6\0\1", rr.NOTIMP),  # update
    ],
)
def test_bad_requests(data: bytes, error: int) -> None:
    query = packet.parse(data)
    assert query is not None and query.error == error
    message = parsed(packet.pack(query, packet.refusal(error), [], PLAIN, True))
    assert message.id == int.from_bytes(data[:2], "big")
    assert message.rcode() == error and message.flags & dns.flags.QR


def test_answers_and_fragments_are_not_answered() -> None:
    data = bytearray(query_bytes("web.service.consul", "A"))
    data[2] |= 0x80
    assert packet.parse(bytes(data)) is None
    for size in range(12):
        assert packet.parse(bytes(size)) is None


def test_edns_versions_and_doubles() -> None:
    data = dns.message.make_query("web.service.consul", "A", use_edns=1, payload=1232).to_wire()
    query = packet.parse(data)
    assert query is not None and query.error == rr.BADVERS
    message = parsed(packet.pack(query, packet.refusal(rr.BADVERS), [], PLAIN, True))
    assert message.rcode() == dns.rcode.BADVERS and message.edns == 0
    once = query_bytes("web.service.consul", "A", 1232)
    twice = once[:11] + b"\2" + once[12:] + once[-11:]
    query = packet.parse(twice)
    assert query is not None and query.error == rr.FORMERR


@pytest.mark.parametrize(
    "option",
    [
        b"\0\1",
        b"\0\1\x18",
        b"\0\x09\x18\0\1\2\3",
        b"\0\1\x40\0\1\2\3\4",
        b"\0\1\x18\x21\1\2\3",
        b"\0\0\x08\0\1",
    ],
)
def test_a_client_subnet_that_cannot_be_is_an_error(option: bytes) -> None:
    """FORMERR, as of Consul 1.9.8 and RFC 7871 7.2.1."""
    options = [dns.edns.GenericOption(8, option)]
    data = dns.message.make_query("web.service.consul", "A", payload=1232, options=options).to_wire()
    query = packet.parse(data)
    assert query is not None and query.error == rr.FORMERR


def test_client_subnet_is_repeated_for_all() -> None:
    maker = Maker()
    maker.many("web", 1)
    option = dns.edns.ECSOption("192.0.2.0", 24)
    data = dns.message.make_query(
        "web.service.consul", "A", use_edns=0, payload=1232, options=[option]
    ).to_wire()
    query = packet.parse(data)
    assert query is not None
    reply = answer(maker.store, query.name.lower(), query.type, PLAIN, SERIAL)
    assert reply is not None
    [back] = parsed(pack(reply, data, PLAIN, True)).options
    assert isinstance(back, dns.edns.ECSOption)
    assert (back.address, back.srclen, back.scopelen) == ("192.0.2.0", 24, 0)
    reply.personal = True  # as what prepared queries find: near to the client
    [back] = parsed(pack(reply, data, PLAIN, True)).options
    assert isinstance(back, dns.edns.ECSOption)
    assert (back.address, back.srclen, back.scopelen) == ("192.0.2.0", 24, 24)


# -- fuzz

SEEDS = [
    query_bytes("web.service.consul", "A"),
    query_bytes("web.service.consul", "SRV", 1232),
    query_bytes("_web._tcp.service.dc1.consul", "SRV", 4096),
    query_bytes("1.0.0.10.in-addr.arpa", "PTR"),
    query_bytes("7f000001.addr.consul", "ANY"),
    query_bytes("consul", "SOA", 512),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 8))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@settings(max_examples=400)
@given(
    st.one_of(
        st.binary(max_size=600), mutated(), st.binary(max_size=80).map(lambda tail: SEEDS[0][:12] + tail)
    )
)
def test_whatever_comes_is_answered_or_dropped(data: bytes) -> None:
    maker = _town()
    query = packet.parse(data)
    if query is None:
        return
    reply = packet.refusal(query.error or rr.REFUSED)
    if not query.error:
        reply = answer(maker.store, query.name.lower(), query.type, PLAIN, SERIAL) or reply
    for udp in (True, False):
        entries = packet.order(query, reply, PLAIN, udp, random.Random(1))
        wire = packet.pack(query, reply, entries, PLAIN, udp)
        assert wire[:2] == data[:2] and wire[2] & 0x80
        assert len(wire) <= (packet.udp_size(query) if udp else 65535)
        try:
            parsed(wire)
        except dns.exception.DNSException as error:  # types that dnspython knows to be no question
            assert query.type in (0, rr.OPT, 249, 250) or query.klass != rr.IN, error


_TOWN: list[Maker] = []


def _town() -> Maker:
    if not _TOWN:
        _TOWN.append(Maker())
        _TOWN[0].many("web", 4, tags=["v1"])
        _TOWN[0].many("consul", 2)
    return _TOWN[0]


@settings(max_examples=300)
@given(st.binary(max_size=300), st.binary(max_size=200))
def test_whatever_an_upstream_says_is_read(noise: bytes, tail: bytes) -> None:
    packet.answers_of(noise) if len(noise) >= 12 else None
    head = b"\0\0\x81\x80\0\1\0\5\0\0\0\0\1a\0\0\1\0\1"
    for record in packet.answers_of(head + tail):
        assert len(record.name) <= 256


def test_an_upstreams_answers() -> None:
    query = dns.message.make_query("example.com", "A", id=7)
    message = dns.message.make_response(query)
    message.answer = [
        dns.rrset.from_text("example.com.", 60, "IN", "CNAME", "www.example.com."),
        dns.rrset.from_text("www.example.com.", 61, "IN", "A", "192.0.2.1", "192.0.2.2"),
        dns.rrset.from_text("www.example.com.", 62, "IN", "AAAA", "2001:db8::1"),
        dns.rrset.from_text("www.example.com.", 62, "IN", "TXT", '"x"'),
    ]
    wire = message.to_wire()
    found = packet.answers_of(wire)
    assert [(rr.labels(one.name)[0], one.type, one.ttl) for one in found] == [
        (b"example", rr.CNAME, 60),
        (b"www", rr.A, 61),
        (b"www", rr.A, 61),
        (b"www", rr.AAAA, 62),
    ]
    assert rr.labels(found[0].names[0]) == [b"www", b"example", b"com"]
    assert packet.answers_to(query.to_wire(), wire)
    assert packet.answers_to(dns.message.make_query("EXAMPLE.com", "A", id=7).to_wire(), wire)
    assert not packet.answers_to(dns.message.make_query("example.com", "A", id=8).to_wire(), wire)
    assert not packet.answers_to(dns.message.make_query("example.com", "AAAA", id=7).to_wire(), wire)
    assert not packet.answers_to(dns.message.make_query("example.org", "A", id=7).to_wire(), wire)
    assert not packet.answers_to(query.to_wire(), query.to_wire())
