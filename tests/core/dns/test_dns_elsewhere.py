"""Names of other datacenters: from whose catalog, with which addresses."""

from __future__ import annotations

from typing import Any

import pytest

from core.dns import record as rr
from core.dns.answer import Catalog, Reply, answer
from core.dns.settings import DnsSettings
from core.store.structs import ServiceAddress
from tests.core.dns.maker import Maker
from tests.core.dns.test_dns_answer import SERIAL, answers, beside, name

TAGGED = {"lan": "10.2.0.1", "wan": "198.51.100.1", "wan_ipv4": "198.51.100.1", "lan_ipv4": "10.2.0.1"}


def _srv(reply: Reply) -> list[str]:
    """Port and target."""
    return [
        f" {int.from_bytes(record.data[4:6], 'big')} {_text(record.names[0])}"
        for entry in reply.entries
        for record in entry.records
    ]


def _text(wire: bytes) -> str:
    return ".".join(label.decode() for label in rr.labels(wire))


class Two:
    """Our catalog, and that of dc2."""

    def __init__(self) -> None:
        self.here, self.there = Maker(), Maker()

    def elsewhere(self, datacenter: str) -> Catalog | None:
        return self.there.store if datacenter == "dc2" else None

    def ask(self, text: str, type: int = rr.A, **options: Any) -> Reply:
        settings = DnsSettings(**options)
        reply = answer(self.here.store, name(text), type, settings, SERIAL, elsewhere=self.elsewhere)
        assert reply is not None
        return reply


@pytest.fixture
def two() -> Two:
    made = Two()
    made.here.node("n1", "10.1.0.1")
    made.here.add("n1", "web", port=80)
    made.there.node("n1", "10.2.0.1", tagged_addresses=TAGGED)
    made.there.add("n1", "web", port=8080)
    made.there.add("n1", "api", port=80, tagged={"wan": ServiceAddress("203.0.113.7", 443)})
    return made


def test_each_datacenter_has_its_own_names(two: Two) -> None:
    assert answers(two.ask("web.service.consul")) == ["web.service.consul 0 1 0a010001"]
    assert answers(two.ask("web.service.dc1.consul")) == ["web.service.dc1.consul 0 1 0a010001"]
    assert answers(two.ask("web.service.dc2.consul")) == ["web.service.dc2.consul 0 1 0a020001"]
    assert answers(two.ask("n1.node.dc2.consul")) == ["n1.node.dc2.consul 0 1 0a020001"]
    reply = two.ask("_web._tcp.service.dc2.consul", rr.SRV)
    assert [one.endswith(" 8080 n1.node.dc2.consul") for one in _srv(reply)] == [True]
    assert beside(reply) == ["n1.node.dc2.consul 0 1 0a020001"]


@pytest.mark.parametrize(
    "text", ["api.service.dc1.consul", "web.service.dc3.consul", "n1.node.nowhere.consul"]
)
def test_what_is_not_there(two: Two, text: str) -> None:
    reply = two.ask(text)
    assert reply.rcode == rr.NXDOMAIN and [record.type for record in reply.authority] == [rr.SOA]


def test_wan_addresses_are_for_other_datacenters(two: Two) -> None:
    on = {"translate_wan": True}
    assert answers(two.ask("web.service.dc2.consul", **on)) == ["web.service.dc2.consul 0 1 c6336401"]
    assert answers(two.ask("n1.node.dc2.consul", **on)) == ["n1.node.dc2.consul 0 1 c6336401"]
    assert answers(two.ask("api.service.dc2.consul", **on)) == ["api.service.dc2.consul 0 1 cb007107"]
    (shown,) = _srv(two.ask("api.service.dc2.consul", rr.SRV, **on))
    assert shown.endswith(" 443 cb007107.addr.dc2.consul")
    assert answers(two.ask("web.service.consul", **on)) == ["web.service.consul 0 1 0a010001"]
    here = Two()
    here.here.node("n1", "10.2.0.1", tagged_addresses=TAGGED)
    assert answers(here.ask("n1.node.consul", **on)) == ["n1.node.consul 0 1 0a020001"]


def test_a_name_may_lead_home_and_away(two: Two) -> None:
    """An address that is a name is looked up in the datacenter that it says."""
    two.there.node("alias", "web.service.dc1.consul")
    two.here.node("away", "n1.node.dc2.consul")
    assert answers(two.ask("alias.node.dc2.consul"))[1:] == ["web.service.dc1.consul 0 1 0a010001"]
    assert answers(two.ask("away.node.consul"))[1:] == ["n1.node.dc2.consul 0 1 0a020001"]
