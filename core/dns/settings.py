"""What the configuration says about DNS (reference/dns.md, `dns_config` and beside it)."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct


class Soa(Struct, frozen=True):
    """The numbers of the SOA record, seconds. `min_ttl` is also the TTL of the record itself."""

    refresh: int = 3600
    retry: int = 600
    expire: int = 86400
    min_ttl: int = 0


class DnsSettings(Struct, frozen=True, kw_only=True):
    """All options of the DNS interface. TTLs and timeouts in seconds, names with or without a final dot."""

    node_name: str = ""  # names this agent's metrics
    datacenter: str = "dc1"
    domain: str = "consul."
    alt_domain: str = ""
    node_ttl: int = 0
    service_ttl: dict[str, int] = {}  # by service name, "prefix*" or "*"
    only_passing: bool = False
    enable_truncate: bool = False
    disable_compression: bool = False
    udp_answer_limit: int = 3
    a_record_limit: int = 0
    enable_additional_node_meta_txt: bool = True
    translate_wan: bool = False  # other datacenters' nodes and services by their WAN addresses
    soa: Soa = Soa()
    recursors: tuple[str, ...] = ()  # "host" or "host:port"
    recursor_strategy: str = "sequential"  # or "random"
    recursor_timeout: float = 2.0

    def ttl_of(self, service: str) -> int:
        """Seconds for a service's records: its own name first, then the longest `prefix*`."""
        name = service.lower()
        best, ttl = -1, 0
        for pattern, seconds in self.service_ttl.items():
            pattern = pattern.lower()
            if pattern == name:
                return bounded(seconds)
            if pattern.endswith("*") and len(pattern) > best and name.startswith(pattern[:-1]):
                best, ttl = len(pattern), seconds
        return bounded(ttl)

    def domain_labels(self) -> tuple[bytes, ...]:
        return labels_of(self.domain)

    def zones(self) -> list[tuple[bytes, ...]]:
        """The domains answered for, the longer first so that one inside the other is found."""
        zones = [labels_of(self.domain)]
        if self.alt_domain:
            zones.append(labels_of(self.alt_domain))
        return sorted(zones, key=len, reverse=True)


def bounded(seconds: int) -> int:
    """Seconds as a record can carry them (RFC 2181 section 8)."""
    return min(max(seconds, 0), 0x7FFFFFFF)


@lru_cache(maxsize=64)
def labels_of(domain: str) -> tuple[bytes, ...]:
    """`Example.com.` -> (b"example", b"com")"""
    return tuple(label.encode("utf-8", "surrogateescape") for label in domain.lower().split(".") if label)
