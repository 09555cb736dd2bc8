"""What names mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dns import record as rr
from core.dns.question import (
    ADDRESS,
    NODE,
    NOTHING,
    OUTSIDE,
    QUERY,
    REVERSE,
    SERVICE,
    Meaning,
    meaning,
)
from core.dns.settings import DnsSettings

SETTINGS = DnsSettings(domain="Consul.", alt_domain="alt.consul")
NIBBLES = ".".join(reversed("20010db8000000000000000000000001"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.service.consul", Meaning(SERVICE, "web")),
        ("WEB.Service.CONSUL", Meaning(SERVICE, "web")),
        ("v1.web.service.consul", Meaning(SERVICE, "web", "v1")),
        ("a.b.web.service.consul", Meaning(SERVICE, "web", "a.b")),
        ("web.service.dc2.consul", Meaning(SERVICE, "web", "", "dc2")),
        ("web.service.dc2.dc.consul", Meaning(SERVICE, "web", "", "dc2")),
        ("web.service.dc2.peer.consul", Meaning(NOTHING)),
        ("web.service.a.b.c.consul", Meaning(NOTHING)),
        ("_web._tcp.service.consul", Meaning(SERVICE, "web")),
        ("_web._v1.service.dc2.consul", Meaning(SERVICE, "web", "v1", "dc2")),
        ("_web._udp.service.consul", Meaning(SERVICE, "web", "udp")),
        ("_web.service.consul", Meaning(SERVICE, "_web")),
        ("x._web._tcp.service.consul", Meaning(SERVICE, "_tcp", "x._web")),
        ("service.service.consul", Meaning(SERVICE, "service")),
        ("node.service.consul", Meaning(SERVICE, "node")),
        ("service.consul", Meaning(NOTHING)),
        ("n1.node.consul", Meaning(NODE, "n1")),
        ("n1.rack.node.dc2.consul", Meaning(NODE, "n1.rack", "", "dc2")),
        ("find.me.query.consul", Meaning(QUERY, "find.me")),
        ("7f000001.addr.consul", Meaning(ADDRESS, "7f000001")),
        ("7F000001.addr.dc9.consul", Meaning(ADDRESS, "7f000001")),
        ("7f000001.addr.rack.dc9.consul", Meaning(ADDRESS, "7f000001")),
        ("x.7f000001.addr.consul", Meaning(NOTHING)),
        ("consul", Meaning(NOTHING)),
        ("web.consul", Meaning(NOTHING)),
        ("web.bogus.consul", Meaning(NOTHING)),
        ("web.service.alt.consul", Meaning(SERVICE, "web")),
        ("web.service.dc2.alt.consul", Meaning(SERVICE, "web", "", "dc2")),
        ("web.service.consul.invalid", Meaning(OUTSIDE)),
        ("xconsul", Meaning(OUTSIDE)),
        ("", Meaning(OUTSIDE)),
        ("4.3.2.1.in-addr.arpa", Meaning(REVERSE, "1.2.3.4")),
        ("4.3.2.1.IN-ADDR.ARPA", Meaning(REVERSE, "1.2.3.4")),
        ("2.1.in-addr.arpa", Meaning(REVERSE)),
        ("4.3.2.256.in-addr.arpa", Meaning(REVERSE)),
        (f"{NIBBLES}.ip6.arpa", Meaning(REVERSE, "2001:db8::1")),
        (f"{NIBBLES[2:]}.ip6.arpa", Meaning(REVERSE)),
        ("arpa", Meaning(REVERSE)),
    ],
)
def test_name(name: str, expected: Meaning) -> None:
    labels = [label.encode() for label in name.split(".") if label]
    assert meaning(labels, rr.A, SETTINGS) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_web._tcp.consul", Meaning(SERVICE, "web")),
        ("_web._v1.dc2.consul", Meaning(SERVICE, "web", "v1", "dc2")),
        ("_web._v1.a.b.c.consul", Meaning(NOTHING)),
    ],
)
def test_only_srv_may_leave_out_the_kind(name: str, expected: Meaning) -> None:
    labels = name.encode().split(b".")
    assert meaning(labels, rr.SRV, SETTINGS) == expected
    assert meaning(labels, rr.A, SETTINGS) == Meaning(NOTHING)


def test_bytes_that_are_not_text_have_a_meaning() -> None:
    found = meaning([b"\xff\x00.", b"service", b"consul"], rr.A, SETTINGS)
    assert found.kind == SERVICE
    assert found.name.encode("utf-8", "surrogateescape") == b"\xff\x00."


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=8), st.integers(0, 65535))
def test_every_name_has_a_meaning(labels: list[bytes], type: int) -> None:
    for tail in ([], [b"consul"], [b"service", b"consul"], [b"ip6", b"arpa"], [b"in-addr", b"arpa"]):
        assert isinstance(meaning(labels + tail, type, SETTINGS), Meaning)


@pytest.mark.parametrize(
    ("service", "ttl"),
    [("db", 5), ("web", 9), ("web-api", 9), ("web-api-1", 7), ("WEB-API-2", 7), ("api", 3)],
)
def test_the_most_exact_ttl_counts(service: str, ttl: int) -> None:
    settings = DnsSettings(service_ttl={"*": 5, "web*": 9, "Web-api-*": 7, "api": 3, "api*": 4})
    assert settings.ttl_of(service) == ttl


def test_without_a_ttl_it_is_zero() -> None:
    assert DnsSettings(service_ttl={"web": 9}).ttl_of("db") == 0
