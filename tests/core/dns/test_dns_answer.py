"""Which records answer what, beyond the recorded scenarios."""

from __future__ import annotations

from typing import Any

import pytest

from core.dns import record as rr
from core.dns.answer import Reply, answer
from core.dns.record import Record
from core.dns.settings import DnsSettings
from core.store.structs import NodeService, ServiceAddress, Weights
from core.store.watch import Watch
from tests.core.dns.maker import Maker

SERIAL = 1_700_000_000


def name(text: str) -> bytes:
    found = rr.name_from_text(text)
    assert found is not None
    return found


def ask(maker: Maker, text: str, type: int, watch: Watch | None = None, **options: Any) -> Reply:
    reply = answer(maker.store, name(text), type, DnsSettings(**options), SERIAL, watch)
    assert reply is not None
    return reply


def show(record: Record) -> str:
    owner, target = (
        ".".join(label.decode() for label in rr.labels(one))
        for one in (record.name, (*record.names, b"\0")[0])
    )
    if record.type in (rr.A, rr.AAAA):
        target = record.data.hex()
    if record.type == rr.TXT:
        target = record.data[1:].decode()
    if record.type == rr.SRV:
        target = (
            f"{int.from_bytes(record.data[2:4], 'big')} {int.from_bytes(record.data[4:], 'big')} {target}"
        )
    return f"{owner} {record.ttl} {record.type} {target}"


def answers(reply: Reply) -> list[str]:
    return [show(record) for entry in reply.entries for record in entry.records]


def beside(reply: Reply) -> list[str]:
    return [show(record) for entry in reply.entries for record in entry.additional] + [
        show(record) for record in reply.additional
    ]


@pytest.fixture
def maker() -> Maker:
    return Maker()


def test_instances_with_one_address_are_answered_once(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", id="a", port=81)
    maker.add("n1", "web", id="b", port=82)
    maker.add("n1", "web", id="c", port=82)
    assert answers(ask(maker, "web.service.consul", rr.A)) == ["web.service.consul 0 1 0a000001"]
    assert answers(ask(maker, "web.service.consul", rr.SRV)) == [
        "web.service.consul 0 33 1 81 n1.node.dc1.consul",
        "web.service.consul 0 33 1 82 n1.node.dc1.consul",
    ]


def test_both_address_families(maker: Maker) -> None:
    tagged = {"lan_ipv4": "10.0.0.1", "lan_ipv6": "fd00::1"}
    maker.node("n1", "10.0.0.1", tagged_addresses=tagged)
    maker.add("n1", "web")
    maker.node("n2", "fd00::2")
    maker.add("n2", "web")
    assert answers(ask(maker, "web.service.consul", rr.A)) == ["web.service.consul 0 1 0a000001"]
    assert [line[-4:] for line in answers(ask(maker, "web.service.consul", rr.AAAA))] == ["0001", "0002"]
    assert [line[-4:] for line in answers(ask(maker, "web.service.consul", rr.ANY))] == ["0001", "0002"]
    assert answers(ask(maker, "n1.node.consul", rr.AAAA)) == [f"n1.node.consul 0 28 fd00{'0' * 27}1"]


def test_a_node_of_both_families_is_pointed_to_by_its_ipv6_address(maker: Maker) -> None:
    """As Consul 1.9.8 has it: what is no question for A gets the IPv6 address."""
    tagged = {"lan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "lan_ipv6": "fd00::1"}
    maker.node("n1", "10.0.0.1", tagged_addresses=tagged)
    maker.add("n1", "web")
    target = f"fd00{'0' * 27}1"
    reply = ask(maker, "web.service.consul", rr.SRV)
    assert answers(reply) == [f"web.service.consul 0 33 1 80 {target}.addr.dc1.consul"]
    assert beside(reply) == [f"{target}.addr.dc1.consul 0 28 {target}"]
    assert answers(ask(maker, "n1.node.consul", rr.ANY)) == [f"n1.node.consul 0 28 {target}"]
    maker.add("n1", "api", address="10.9.9.9", tagged={"lan_ipv6": ServiceAddress("fd00::1", 81)})
    assert answers(ask(maker, "api.service.consul", rr.SRV)) == [
        f"api.service.consul 0 33 1 80 {target}.addr.dc1.consul"
    ]


def test_a_tagged_service_address_may_be_a_name(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", address="10.9.9.9", tagged={"lan_ipv4": ServiceAddress("v4.example.com", 80)})
    assert answers(ask(maker, "web.service.consul", rr.A)) == ["web.service.consul 0 5 v4.example.com"]
    assert answers(ask(maker, "web.service.consul", rr.AAAA)) == []


def test_tagged_service_address(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", address="10.9.9.9", tagged={"lan_ipv6": ServiceAddress("fd00::9", 80)})
    assert answers(ask(maker, "web.service.consul", rr.A)) == ["web.service.consul 0 1 0a090909"]
    assert answers(ask(maker, "web.service.consul", rr.AAAA)) == [f"web.service.consul 0 28 fd00{'0' * 27}9"]


def test_external_service_is_a_cname(maker: Maker) -> None:
    maker.node("ext", "example.com")
    maker.add("ext", "mail")
    maker.add("ext", "mail", id="other", address="other.example.com")
    for type in (rr.A, rr.AAAA, rr.ANY, rr.CNAME, rr.MX):
        reply = ask(maker, "mail.service.consul", type)
        assert answers(reply) == [
            "mail.service.consul 0 5 example.com",
            "mail.service.consul 0 5 other.example.com",
        ]
        assert reply.limit == 1  # a name has one CNAME
        assert not reply.wanted
    assert answers(ask(maker, "mail.service.consul", rr.SRV)) == [
        "mail.service.consul 0 33 1 80 example.com",
        "mail.service.consul 0 33 1 80 other.example.com",
    ]


def test_addresses_before_names(maker: Maker) -> None:
    maker.node("ext", "example.com")
    maker.add("ext", "web")
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web")
    assert answers(ask(maker, "web.service.consul", rr.A)) == ["web.service.consul 0 1 0a000001"]


def test_cname_within_the_domain_is_followed(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1", node_meta={"a": "b"})
    maker.node("n6", "fd00::1")
    maker.node("ext", "N1.node.consul")
    maker.add("ext", "web")
    maker.node("ext6", "n6.node.consul")
    maker.add("ext6", "six")
    options: dict[str, Any] = {"service_ttl": {"*": 9}, "node_ttl": 3}
    assert answers(ask(maker, "web.service.consul", rr.A, **options)) == [
        "web.service.consul 9 5 N1.node.consul",
        "N1.node.consul 9 1 0a000001",
    ]
    assert beside(ask(maker, "web.service.consul", rr.SRV, **options)) == ["N1.node.consul 9 1 0a000001"]
    # the other family is left out
    assert answers(ask(maker, "six.service.consul", rr.A)) == ["six.service.consul 0 5 n6.node.consul"]


def test_cname_loops_end(maker: Maker) -> None:
    maker.node("a", "b.node.consul")
    maker.node("b", "a.node.consul")
    maker.add("a", "web", address="web.service.consul")
    assert len(answers(ask(maker, "a.node.consul", rr.A))) == 4
    # a service that points to itself falls back to its node
    assert ask(maker, "web.service.consul", rr.A).entries == []
    reply = ask(maker, "web.service.consul", rr.SRV)
    assert answers(reply) == ["web.service.consul 0 33 1 80 b.node.consul"]


def test_names_outside_are_wanted_of_recursors(maker: Maker) -> None:
    maker.node("ext", "Example.com")
    maker.add("ext", "mail")
    wanted = (name("example.com"), rr.A)
    settings = DnsSettings(recursors=("192.0.2.1",), service_ttl={"*": 9})
    asked = name("mail.service.consul")
    reply = answer(maker.store, asked, rr.A, settings, SERIAL)
    assert reply is not None and reply.wanted == {wanted} and reply.recursion
    found = {wanted: [rr.address(name("example.com"), b"\xc0\0\2\7", 300)]}
    reply = answer(maker.store, asked, rr.A, settings, SERIAL, None, found)
    assert reply is not None and not reply.wanted
    assert answers(reply) == ["mail.service.consul 9 5 Example.com", "example.com 9 1 c0000207"]
    for type, expected in ((rr.AAAA, rr.AAAA), (rr.SRV, rr.A)):
        reply = answer(maker.store, asked, type, settings, SERIAL)
        assert reply is not None and reply.wanted == {(name("example.com"), expected)}


def test_only_passing(maker: Maker) -> None:
    for n, status in enumerate(("passing", "warning", "critical")):
        maker.node(f"n{n}", f"10.0.0.{n}")
        maker.add(f"n{n}", "web", "passing", status)
    assert len(answers(ask(maker, "web.service.consul", rr.A))) == 2
    assert len(answers(ask(maker, "web.service.consul", rr.A, only_passing=True))) == 1


def test_weights_are_brought_into_sixteen_bits(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", weights=Weights(100_000, 1), port=70_000)
    maker.add("n1", "web", "warning", id="b", weights=Weights(1, 0))
    assert sorted(answers(ask(maker, "web.service.consul", rr.SRV))) == [
        "web.service.consul 0 33 0 80 n1.node.dc1.consul",
        "web.service.consul 0 33 65535 65535 n1.node.dc1.consul",
    ]


def test_metadata_as_text(maker: Maker) -> None:
    meta = {"os": "linux", "rfc1035-spf": "v=spf1", "a=b": "c`d", "long": "x" * 300}
    maker.node("spaced", "10.0.0.2", node_meta={"  two": " v ", "end ": "w", "a b": ""})
    assert answers(ask(maker, "spaced.node.consul", rr.TXT)) == [
        "spaced.node.consul 0 16 ` ` two= v ",  # RFC 1464: outer spaces of the key are quoted
        "spaced.node.consul 0 16 a b=",
        "spaced.node.consul 0 16 end` =w",
    ]
    maker.node("n1", "10.0.0.1", node_meta=meta)
    maker.add("n1", "web")
    texts = answers(ask(maker, "n1.node.consul", rr.TXT))
    assert texts[:1] == ["n1.node.consul 0 16 a`=b=c``d"]
    assert texts[2:] == ["n1.node.consul 0 16 os=linux", "n1.node.consul 0 16 v=spf1"]
    [long] = [
        e.records[0] for e in ask(maker, "n1.node.consul", rr.TXT).entries if len(e.records[0].data) > 255
    ]
    assert (long.data[0], long.data[256], len(long.data)) == (255, 50, 307)
    assert len(beside(ask(maker, "web.service.consul", rr.SRV))) == 5
    off: dict[str, Any] = {"enable_additional_node_meta_txt": False}
    assert beside(ask(maker, "web.service.consul", rr.SRV, **off)) == ["n1.node.dc1.consul 0 1 0a000001"]
    assert beside(ask(maker, "n1.node.consul", rr.A, **off)) == []
    assert len(answers(ask(maker, "n1.node.consul", rr.TXT, **off))) == 4


def test_a_node_that_no_name_can_point_to(maker: Maker) -> None:
    maker.node("x" * 64, "10.0.0.1")
    maker.add("x" * 64, "web")
    maker.add("x" * 64, "consul")
    reply = ask(maker, "web.service.consul", rr.SRV)
    assert answers(reply) == ["web.service.consul 0 33 1 80 0a000001.addr.dc1.consul"]
    assert beside(reply) == ["0a000001.addr.dc1.consul 0 1 0a000001"]
    assert ask(maker, "consul", rr.NS).entries == []


def test_at_most_three_name_servers(maker: Maker) -> None:
    maker.many("consul", 5)
    assert ask(maker, "consul", rr.NS).limit == 3
    soa = ask(maker, "x.service.consul", rr.SOA)
    assert len(soa.authority) == len(soa.additional) == 3


@pytest.mark.parametrize("type", [rr.NS, rr.SOA, rr.A, rr.SRV])
def test_all_answers_say_that_there_are_recursors(maker: Maker, type: int) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "consul")
    assert ask(maker, "consul.service.consul", type, recursors=("192.0.2.1",)).recursion
    assert not ask(maker, "consul.service.consul", type).recursion


def test_the_alternative_domain_points_to_the_main_one(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web")
    reply = ask(maker, "web.service.alt.example", rr.SRV, alt_domain="alt.example.")
    assert answers(reply) == ["web.service.alt.example 0 33 1 80 n1.node.dc1.consul"]
    reply = ask(maker, "none.service.alt.example", rr.A, alt_domain="alt.example.")
    assert reply.rcode == rr.NXDOMAIN
    assert show(reply.authority[0]).startswith("consul 0 6 ns.consul")


@pytest.mark.parametrize(
    ("asked", "type", "rcode", "dated"),
    [
        ("web.service.consul", rr.AAAA, rr.NOERROR, True),
        ("n1.node.consul", rr.AAAA, rr.NOERROR, True),
        ("n1.node.consul", rr.MX, rr.NOERROR, True),
        ("n2.node.consul", rr.MX, rr.NXDOMAIN, True),
        ("web.service.consul", rr.A, rr.NOERROR, False),
        ("find.query.consul", rr.A, rr.NXDOMAIN, True),
        ("aaaaaaaaa.addr.consul", rr.A, rr.NXDOMAIN, True),
    ],
)
def test_every_negative_answer_has_the_soa(
    maker: Maker, asked: str, type: int, rcode: int, dated: bool
) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web")
    reply = ask(maker, asked, type, recursors=("192.0.2.1",))
    assert (reply.rcode, reply.dated, len(reply.authority)) == (rcode, dated, int(dated))
    assert reply.authoritative and reply.recursion


def test_reverse(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", address="10.0.0.2")
    assert answers(ask(maker, "1.0.0.10.in-addr.arpa", rr.PTR)) == [
        "1.0.0.10.in-addr.arpa 0 12 n1.node.dc1.consul"
    ]
    assert answers(ask(maker, "2.0.0.10.in-addr.arpa", rr.PTR)) == [
        "2.0.0.10.in-addr.arpa 0 12 web.service.dc1.consul"
    ]
    assert answer(maker.store, name("3.0.0.10.in-addr.arpa"), rr.PTR, DnsSettings(), SERIAL) is None
    soa = ask(maker, "1.0.0.10.in-addr.arpa", rr.SOA)
    assert [record.type for record in soa.authority] == [rr.SOA] and soa.dated


def test_a_reverse_name_finds_an_address_however_it_is_written(maker: Maker) -> None:
    maker.node("mapped", "::ffff:10.0.0.1")
    maker.node("long", "2001:DB8:0:0::1")
    assert answers(ask(maker, "1.0.0.10.in-addr.arpa", rr.PTR)) == [
        "1.0.0.10.in-addr.arpa 0 12 mapped.node.dc1.consul"
    ]
    digits = "20010db8" + "0" * 23 + "1"
    assert answers(ask(maker, ".".join(reversed(digits)) + ".ip6.arpa", rr.PTR)) == [
        f"{'.'.join(reversed(digits))}.ip6.arpa 0 12 long.node.dc1.consul"
    ]


@pytest.mark.parametrize(
    ("asked", "type"),
    [
        ("web.service.consul", rr.A),
        ("web.service.consul", rr.SRV),
        ("v1.web.service.consul", rr.A),
        ("n1.node.consul", rr.A),
        ("n2.node.consul", rr.A),
        ("db.service.consul", rr.A),
        ("consul", rr.NS),
        ("1.0.0.10.in-addr.arpa", rr.PTR),
    ],
)
def test_the_watch_fires_when_the_answer_changes(maker: Maker, asked: str, type: int) -> None:
    def change() -> None:
        maker.node("n1", "10.0.0.7")
        maker.node("n2", "10.0.0.8")
        maker.add("n2", "db")
        maker.add("n2", "consul")

    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", tags=["v1"])
    maker.add("n1", "consul")
    watch = Watch()
    ask(maker, asked, type, watch)
    maker.node("unrelated", "10.9.9.9") if type != rr.PTR else None
    change()
    assert watch.fired


def test_a_check_fires_the_watch_of_its_service_only(maker: Maker) -> None:
    maker.node("n1", "10.0.0.1")
    maker.add("n1", "web", "passing")
    maker.node("n2", "10.0.0.2")
    maker.add("n2", "db", "passing")
    web, db = Watch(), Watch()
    ask(maker, "web.service.consul", rr.A, web)
    ask(maker, "db.service.consul", rr.A, db)
    maker.add("n1", "web", "critical")
    assert web.fired and not db.fired
    assert ask(maker, "web.service.consul", rr.A).rcode == rr.NXDOMAIN


def test_what_takes_mesh_connections_is_found_by_the_service_it_serves(maker: Maker) -> None:
    proxy = NodeService(
        id="p",
        service="web-sidecar",
        address="10.1.1.2",
        port=81,
        kind="connect-proxy",
        proxy={"DestinationServiceName": "web"},
    )
    maker.node("n1", "10.0.0.1", service=proxy)
    maker.add("n1", "web", address="10.1.1.1", port=80)
    assert answers(ask(maker, "web.connect.consul", rr.A)) == ["web.connect.consul 0 1 0a010102"]
    [found] = answers(ask(maker, "any.WEB.connect.dc1.consul", rr.SRV))
    assert " 81 " in found
    for name in (
        "web-sidecar.connect.consul",
        "web.ingress.consul",
        "connect.consul",
        "web.connect.a.b.consul",
    ):
        assert ask(maker, name, rr.A).rcode == rr.NXDOMAIN
