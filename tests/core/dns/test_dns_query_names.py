"""Names of prepared queries: which one is meant, and which records its answer becomes."""

from __future__ import annotations

from typing import Any

import pytest

from core.dns import question as q
from core.dns import record as rr
from core.dns.answer import Reply, answer
from core.dns.packet import Query, subnet
from core.dns.question import Meaning, meaning
from core.dns.settings import DnsSettings
from core.node.prepared import Found
from core.store.structs import QueryDNSOptions
from tests.core.dns.maker import Maker
from tests.core.dns.test_dns_answer import SERIAL, answers, beside, name


def found(maker: Maker, ttl: str = "", datacenter: str = "dc1", service: str = "web") -> Found:
    return Found(service, maker.store.check_service_nodes(service)[1], QueryDNSOptions(ttl), datacenter)


def ask(
    maker: Maker, text: str, type: int, queries: dict[tuple[str, str], Found | None], **options: Any
) -> Reply:
    reply = answer(maker.store, name(text), type, DnsSettings(**options), SERIAL, queries=queries)
    assert reply is not None
    return reply


@pytest.fixture
def maker() -> Maker:
    maker = Maker()
    for number in (3, 1, 2):
        maker.node(f"n{number}", f"10.0.0.{number}", node_meta={"k": str(number)})
        maker.add(f"n{number}", "web", port=8000 + number)
    return maker


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q.query.consul", ("q", "")),
        ("geo.db.query.consul", ("geo.db", "")),
        ("q.query.dc2.consul", ("q", "dc2")),
        ("q.query.dc2.dc.consul", ("q", "dc2")),
        ("_q._tcp.query.consul", ("q", "")),
        ("_q._udp.query.consul", ("_q._udp", "")),
        ("a._tcp.query.consul", ("a._tcp", "")),
        ("query.consul", None),
        ("q.query.a.b.consul", None),
    ],
)
def test_which_query_is_meant(text: str, expected: tuple[str, str] | None) -> None:
    for type in (rr.A, rr.SRV):
        meant = meaning(rr.labels(name(text)), type, DnsSettings())
        wanted = (
            Meaning(q.NOTHING) if expected is None else Meaning(q.QUERY, expected[0], datacenter=expected[1])
        )
        assert meant == wanted


def test_a_query_must_be_executed_first(maker: Maker) -> None:
    reply = ask(maker, "Q.query.dc2.consul".lower(), rr.A, {})
    assert reply.unanswered == {("q", "dc2")}
    assert not reply.complete
    for nothing in (None, Found("web")):
        reply = ask(maker, "q.query.consul", rr.A, {("q", ""): nothing})
        assert reply.complete
        assert (reply.rcode, len(reply.authority)) == (rr.NXDOMAIN, 1)


def test_records_are_in_the_order_that_was_found(maker: Maker) -> None:
    items = found(maker)
    turned = Found("web", items.nodes[::-1], QueryDNSOptions("12s"), "dc1")
    reply = ask(maker, "q.query.consul", rr.A, {("q", ""): turned})
    assert answers(reply) == [f"q.query.consul 12 1 0a00000{number}" for number in (3, 2, 1)]
    assert (reply.shuffle, reply.counted) == (False, True)
    reply = ask(maker, "q.query.consul", rr.SRV, {("q", ""): turned})
    assert answers(reply)[0] == "q.query.consul 12 33 1 8003 n3.node.dc1.consul"
    assert beside(reply)[:2] == ["n3.node.dc1.consul 12 1 0a000003", "n3.node.dc1.consul 12 16 k=3"]
    assert not reply.shuffle


def test_a_record_limit_keeps_the_nearest(maker: Maker) -> None:
    reply = ask(maker, "q.query.consul", rr.A, {("q", ""): found(maker)}, a_record_limit=2)
    assert (reply.limit, reply.shuffle) == (2, False)


@pytest.mark.parametrize(
    ("ttl", "options", "expected"),
    [
        ("", {}, 0),
        ("", {"service_ttl": {"we*": 7}}, 7),
        ("12s", {"service_ttl": {"*": 7}}, 12),
        ("1500ms", {}, 1),
        ("0s", {"service_ttl": {"*": 7}}, 0),
        ("nonsense", {"service_ttl": {"*": 7}}, 7),  # of a server elsewhere
    ],
)
def test_the_ttl_of_the_query_counts_first(maker: Maker, ttl: str, options: Any, expected: int) -> None:
    reply = ask(maker, "q.query.consul", rr.A, {("q", ""): found(maker, ttl)}, **options)
    assert {record.ttl for entry in reply.entries for record in entry.records} == {expected}


def test_targets_in_another_datacenter_are_named_so(maker: Maker) -> None:
    maker.node("n9", "10.0.0.9")
    maker.add("n9", "db", address="10.7.7.7", port=1)
    queries: dict[tuple[str, str], Found | None] = {
        ("q", ""): found(maker, datacenter="dc9"),
        ("d", ""): found(maker, datacenter="dc9", service="db"),
    }
    assert answers(ask(maker, "q.query.consul", rr.SRV, queries))[0].endswith("n1.node.dc9.consul")
    assert answers(ask(maker, "d.query.consul", rr.SRV, queries)) == [
        "d.query.consul 0 33 1 1 0a070707.addr.dc9.consul"
    ]
    maker.add("n9", "alias", address="q.query.consul")
    reply = ask(maker, "alias.service.consul", rr.SRV, {})
    assert reply.unanswered == {("q", "")}  # a service that is a query
    reply = ask(maker, "alias.service.consul", rr.A, queries)
    assert answers(reply)[:2] == ["alias.service.consul 0 5 q.query.consul", "q.query.consul 0 1 0a000001"]
    maker.add("n1", "web", address="n9.node.consul", port=1)
    assert answers(ask(maker, "web.service.consul", rr.SRV, queries))[1].endswith("n2.node.dc1.consul")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"\0\1\x18\0\x0a\1\2", "10.1.2.0"),
        (b"\0\1\x20\0\x0a\1\2\3", "10.1.2.3"),
        (b"\0\2\x20\0\xfd\0\0\1", "fd00:1::"),
        (b"\0\1\x20\0\x0a\1\2\3\4", "10.1.2.3"),
        (b"\0\0\0\0", ""),
    ],
)
def test_the_subnet_of_the_client(data: bytes, expected: str) -> None:
    assert subnet(Query(1, 0, subnet=data)) == expected
