"""Which of its addresses a node or an instance is known by (reference/dns.md, "Answers"), and what its
metadata reads as."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.dns import record as rr
from core.dns.record import Record
from core.node.abroad import WAN
from core.store.structs import CheckServiceNode, Node, NodeService

_OUTER_SPACES = re.compile("^ +| +$")


def node_address(node: Node, type: int, abroad: bool) -> str:
    """The node's address for a question of this type: one that it tags, or its own."""
    tagged = node.tagged_addresses or {}
    addresses = {tag: text for tag, text in tagged.items() if rr.packed_address(text) is not None}
    return _chosen(addresses, node.address, type, abroad)


def service_address(service: NodeService, type: int, abroad: bool) -> str:
    """The same for an instance, "" if it has no address but that of its node."""
    tagged = service.tagged_addresses
    if not tagged:
        return service.address
    addresses = {tag: one.address for tag, one in tagged.items() if one.address}
    return _chosen(addresses, service.address, type, abroad)


def instance_address(instance: CheckServiceNode, type: int, abroad: bool) -> str:
    """Where an instance is reached."""
    return service_address(instance.service, type, abroad) or node_address(instance.node, type, abroad)


def _chosen(tagged: Mapping[str, str], own: str, type: int, abroad: bool) -> str:
    """Who has addresses of both families is asked for either by type; any type but A prefers IPv6, as
    Consul has it. From afar the `wan` tags count before those of the LAN."""
    if not tagged:
        return own
    found = {"": own, "ipv4": tagged.get("lan_ipv4", ""), "ipv6": tagged.get("lan_ipv6", "")}
    if abroad:
        found[""] = tagged.get(WAN, own)
        for family in ("ipv4", "ipv6"):
            found[family] = tagged.get(f"{WAN}_{family}", "")
    if type != rr.A and found["ipv6"]:
        return found["ipv6"]
    if type != rr.AAAA and found["ipv4"]:
        return found["ipv4"]
    return found[""]


def metadata(name: bytes | None, node: Node, ttl: int) -> list[Record]:
    """A node's metadata as TXT records at `name`."""
    if name is None:
        return []
    return [rr.txt(name, _text(key, value), ttl) for key, value in sorted((node.meta or {}).items())]


def _text(key: str, value: str) -> str:
    """`key=value` with the quotes of RFC 1464; `rfc1035-...` keys give the value as it is."""
    if key.lower().startswith("rfc1035-"):
        return value
    quoted = key.replace("`", "``").replace("=", "`=")
    quoted = _OUTER_SPACES.sub(lambda spaces: "` " * len(spaces[0]), quoted)
    return f"{quoted}={value.replace('`', '``')}"
