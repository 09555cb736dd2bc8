"""How nodes and services are reached from another datacenter: by the addresses that they tag `wan`
(translate_wan_addrs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from core.store.structs import CheckServiceNode, Node, NodeService

WAN = "wan"


def node_address(node: Node, abroad: bool = True) -> str:
    """Where a node is reached; `abroad`: from another datacenter."""
    tagged = (node.tagged_addresses or {}).get(WAN) if abroad else None
    return tagged or node.address


def service_address(service: NodeService, abroad: bool = True) -> str:
    """The address of a service, "" for that of its node."""
    tagged = (service.tagged_addresses or {}).get(WAN) if abroad else None
    return tagged.address if tagged is not None and tagged.address else service.address


def service_port(service: NodeService, abroad: bool = True) -> int:
    """The port of a service."""
    tagged = (service.tagged_addresses or {}).get(WAN) if abroad else None
    return tagged.port if tagged is not None and tagged.port else service.port


def _chosen(tagged: Mapping[str, Any], plain: Any) -> Any:
    """The address shown for one from another datacenter: IPv6 before IPv4 before any, as Consul picks. What
    is tagged for the WAN stands in for what is tagged for the LAN."""
    for kind in ("ipv6", "ipv4"):
        found = tagged.get(f"{WAN}_{kind}", tagged.get(f"lan_{kind}"))
        if found:
            return found
    return tagged.get(WAN, plain)


def translated(value: Any) -> Any:
    """What a read found in another datacenter, with the addresses that count from here: a copy where it
    holds nodes or services, whatever is around them."""
    if isinstance(value, Node):
        return replace(value, address=_chosen(value.tagged_addresses or {}, value.address))
    if isinstance(value, NodeService):
        tagged = {name: one.address for name, one in (value.tagged_addresses or {}).items()}
        return replace(value, address=_chosen(tagged, value.address), port=service_port(value))
    if isinstance(value, CheckServiceNode):
        return replace(value, node=translated(value.node), service=translated(value.service))
    if isinstance(value, list):
        return [translated(one) for one in value]
    if isinstance(value, tuple):
        return tuple(translated(one) for one in value)
    if isinstance(value, dict):
        return {key: translated(one) for key, one in value.items()}
    return value
