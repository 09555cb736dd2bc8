"""What a DNS name asks for (reference/dns.md, "Names"). Pure reading of labels: nothing is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from core.dns.record import SRV
from core.dns.settings import DnsSettings

NODE, SERVICE, QUERY, ADDRESS = "node", "service", "query", "addr"
CONNECT = "connect"  # what takes mesh connections for a service
INGRESS = "ingress"  # gateways, of which there are none
REVERSE = "reverse"  # a name below arpa
NOTHING = "nothing"  # within the domain, but no name that could exist
OUTSIDE = "outside"  # not ours: for the recursors

_KINDS = {b"service": SERVICE, b"node": NODE, b"query": QUERY, b"addr": ADDRESS}
_KINDS |= {b"connect": CONNECT, b"ingress": INGRESS}


class Meaning(Struct, frozen=True):
    """`name` is the node, service or query, the hex digits of an address name, or for a reverse name
    the address as text (empty when the labels are not one). `datacenter` is empty for the agent's own."""

    kind: str
    name: str = ""
    tag: str = ""
    datacenter: str = ""


_NOTHING = Meaning(NOTHING)


def meaning(labels: Sequence[bytes], type: int, settings: DnsSettings) -> Meaning:
    """Read a name given as labels. `type` matters because SRV may leave out the label `service`."""
    lower = [label.lower() for label in labels]
    for zone in settings.zones():
        if not zone:
            return _in_domain(lower, type)
        if tuple(lower[-len(zone) :]) == zone:
            return _in_domain(lower[: -len(zone)], type)
    if lower and lower[-1] == b"arpa":
        return Meaning(REVERSE, _reverse(lower[:-1]))
    return Meaning(OUTSIDE)


def _in_domain(labels: list[bytes], type: int) -> Meaning:
    """Labels without the domain: the last one that names a kind counts."""
    for at in range(len(labels) - 1, -1, -1):
        kind = _KINDS.get(labels[at])
        if kind is not None:
            return _of_kind(kind, labels[:at], labels[at + 1 :])
        if type == SRV and labels[at].startswith(b"_"):
            return _of_kind(SERVICE, labels[: at + 1], labels[at + 1 :])
    return _NOTHING


def _of_kind(kind: str, before: list[bytes], behind: list[bytes]) -> Meaning:
    # An address is the same everywhere, whatever follows.
    datacenter = "" if kind == ADDRESS else _datacenter(behind)
    if datacenter is None or not before or kind == INGRESS:
        return _NOTHING
    texts = [label.decode("utf-8", "surrogateescape") for label in before]
    if kind == SERVICE:
        return _service(texts, datacenter)
    if kind == CONNECT:
        return Meaning(CONNECT, texts[-1], datacenter=datacenter)
    if kind == ADDRESS and len(texts) != 1:
        return _NOTHING
    if kind == QUERY and len(texts) == 2 and texts[0].startswith("_") and texts[1] == "_tcp":  # RFC 2782
        return Meaning(kind, texts[0][1:], datacenter=datacenter)
    return Meaning(kind, ".".join(texts), datacenter=datacenter)


def _service(texts: list[str], datacenter: str) -> Meaning:
    if len(texts) == 2 and texts[0].startswith("_") and texts[1].startswith("_"):  # RFC 2782
        tag = texts[1][1:]
        return Meaning(SERVICE, texts[0][1:], "" if tag == "tcp" else tag, datacenter)
    return Meaning(SERVICE, texts[-1], ".".join(texts[:-1]), datacenter)


def _datacenter(behind: list[bytes]) -> str | None:
    """The labels between kind and domain: none, `<dc>`, or `<dc>.dc`; None for anything else."""
    if not behind:
        return ""
    if len(behind) == 1 or (len(behind) == 2 and behind[1] == b"dc"):
        return behind[0].decode("utf-8", "surrogateescape")
    return None


def _reverse(labels: list[bytes]) -> str:
    """The address below in-addr.arpa (RFC 1035 3.5) or ip6.arpa (RFC 3596 2.5), "" if it is none."""
    digits = [label.decode("ascii", "replace") for label in reversed(labels[:-1])]
    try:
        if labels[-1:] == [b"in-addr"] and len(digits) == 4:
            return str(IPv4Address(".".join(digits)))
        if labels[-1:] == [b"ip6"] and len(digits) == 32 and all(len(digit) == 1 for digit in digits):
            joined = "".join(digits)
            return str(IPv6Address(":".join(joined[at : at + 4] for at in range(0, 32, 4))))
    except ValueError:
        return ""
    return ""
