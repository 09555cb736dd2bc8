"""Addresses that count in other datacenters."""

from __future__ import annotations

from core.node.abroad import node_address, service_address, service_port, translated
from core.store.structs import CheckServiceNode, Node, NodeService, ServiceAddress

NODE = Node(node="n1", address="10.0.0.1", tagged_addresses={"lan": "10.0.0.1", "wan": "198.51.100.1"})
SERVICE = NodeService(service="web", address="10.0.0.2", port=80)
TAGGED = NodeService(
    service="web", address="10.0.0.2", port=80, tagged_addresses={"wan": ServiceAddress("198.51.100.2", 443)}
)


def test_the_tag_wan_counts_abroad() -> None:
    assert (node_address(NODE), node_address(NODE, abroad=False)) == ("198.51.100.1", "10.0.0.1")
    assert (service_address(TAGGED), service_port(TAGGED)) == ("198.51.100.2", 443)
    assert (service_address(TAGGED, False), service_port(TAGGED, False)) == ("10.0.0.2", 80)


def test_without_the_tag_all_is_as_at_home() -> None:
    assert node_address(Node(node="n2", address="10.0.0.3")) == "10.0.0.3"
    assert (service_address(SERVICE), service_port(SERVICE)) == ("10.0.0.2", 80)
    half = NodeService(service="web", port=80, tagged_addresses={"wan": ServiceAddress("198.51.100.2", 0)})
    assert (service_address(half), service_port(half)) == ("198.51.100.2", 80)


def test_answers_are_translated_whatever_is_around_the_nodes() -> None:
    instance = CheckServiceNode(NODE, TAGGED, [])
    for value in ([instance], (instance,), {"a": [instance]}):
        shown = translated(value)
        (one,) = shown["a"] if isinstance(shown, dict) else shown
        assert one.node.address == "198.51.100.1" and one.service.port == 443
    assert instance.node is NODE, "what others have is left as it is"
    host, services = translated((NODE, [TAGGED, SERVICE]))
    assert host.address == "198.51.100.1" and [one.port for one in services] == [443, 80]
    assert translated((None, {"web": ["tag"]}, 3)) == (None, {"web": ["tag"]}, 3)


def test_addresses_of_a_family_are_shown_before_the_plain_one() -> None:
    def shown(**tagged: str) -> str:
        node = Node(node="n", address="plain", tagged_addresses=tagged)
        instance = {name: ServiceAddress(address, 0) for name, address in tagged.items()}
        service = NodeService(address="plain", tagged_addresses=instance)
        [address] = {translated(node).address, translated(service).address}
        return str(address)

    assert shown(wan="w", wan_ipv4="4", wan_ipv6="6", lan_ipv6="l6") == "6"
    assert shown(wan="w", wan_ipv4="4", lan_ipv4="l4") == "4"
    assert shown(wan="w", lan_ipv4="l4") == "l4"
    assert shown(wan="w", lan="l") == "w"
    assert shown(lan="l") == "plain"
