"""Questions to replies: which records answer a name, by the state as it is (reference/dns.md, "Answers").

A reply is not bytes yet: `core/dns/packet.py` puts it in an order, cuts it to size and packs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, structs

from core.codec import duration
from core.dns import question as q
from core.dns import record as rr
from core.dns.addresses import instance_address, metadata, node_address, service_address
from core.dns.question import Meaning, meaning
from core.dns.record import Record
from core.dns.settings import DnsSettings, bounded
from core.node.abroad import service_port
from core.node.prepared import Found
from core.store.structs import CRITICAL, PASSING, WARNING, CheckServiceNode, Node, NodeService
from core.store.watch import Watch

_MAX_DEPTH = 3  # names that point to names within the domain
_MAX_SERVERS = 3  # NS records in one answer
_SERVERS = "consul"  # the service that all servers are instances of


class Catalog(Protocol):
    """What is read of the replicated state (`core/store/state.py` has it)."""

    def check_service_nodes(
        self, name: str, tags: Sequence[str], watch: Watch | None
    ) -> tuple[int, list[CheckServiceNode]]: ...

    def check_mesh_nodes(self, name: str, watch: Watch | None) -> tuple[int, list[CheckServiceNode]]: ...

    def node(self, name_or_id: str, watch: Watch | None) -> tuple[int, Node | None]: ...

    def nodes_by_address(self, address: str, watch: Watch | None) -> Sequence[Node]: ...

    def services_by_address(
        self, address: str, watch: Watch | None
    ) -> Sequence[tuple[Node, NodeService]]: ...


class Entry(Struct, frozen=True):
    """Answers that stay together, with the additional records that speak about them."""

    records: tuple[Record, ...]
    additional: tuple[Record, ...] = ()


class Reply(Struct, kw_only=True):
    """`entries` may be put in any order if `shuffle`; at most `limit` of them are shown (0: all).
    `counted` answers are those of services, which fall under `udp_answer_limit`; `personal` ones may
    differ for clients elsewhere (RFC 7871 7.3).
    `wanted` are names outside the domain that the recursors could tell more about, with the type to ask;
    `unanswered` are prepared queries that must be executed first, as (name, datacenter or "").
    A reply stays true until the watch fires, or the second ends if it has a serial (`dated`).
    Records at the name that was asked for take on the letter case of the question, if `keep_case`."""

    rcode: int = rr.NOERROR
    entries: list[Entry] = []
    authority: list[Record] = []
    additional: list[Record] = []
    authoritative: bool = True
    recursion: bool = False  # the flag `ra`
    shuffle: bool = False
    counted: bool = False
    personal: bool = False
    limit: int = 0
    keep_case: bool = True
    dated: bool = False
    wanted: frozenset[tuple[bytes, int]] = frozenset()
    unanswered: frozenset[tuple[str, str]] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether nobody else has to be asked."""
        return not self.wanted and not self.unanswered


Outside = Mapping[tuple[bytes, int], Sequence[Record]]
Queries = Mapping[tuple[str, str], Found | None]
Elsewhere = Callable[[str], Catalog | None]
"""The catalog of another datacenter, None when there is no such datacenter."""


def nowhere(datacenter: str) -> Catalog | None:
    """There is no other datacenter."""
    return None


def answer(
    catalog: Catalog,
    name: bytes,
    type: int,
    settings: DnsSettings,
    serial: int,
    watch: Watch | None = None,
    outside: Outside | None = None,
    queries: Queries | None = None,
    elsewhere: Elsewhere = nowhere,
) -> Reply | None:
    """The reply to a question of class IN, its name in lower case; None if the name is for the
    recursors: outside the domain, or a reverse name that nobody here has. `serial` is the Unix time;
    `outside` holds what the recursors said about names that an earlier reply `wanted`, `queries` what
    prepared queries have found that it left `unanswered` (None: there is no such query)."""
    return _Lookup(catalog, settings, serial, watch, outside or {}, queries or {}, elsewhere).reply(
        name, type
    )


class _Lookup:
    """One question while it is being answered."""

    def __init__(
        self,
        catalog: Catalog,
        settings: DnsSettings,
        serial: int,
        watch: Watch | None,
        outside: Outside,
        queries: Queries,
        elsewhere: Elsewhere,
    ) -> None:
        self.catalog = self.home = catalog
        self.elsewhere = elsewhere
        self.settings = settings
        self.serial = serial
        self.watch = watch
        self.outside = outside
        self.queries = queries
        self.wanted: set[tuple[bytes, int]] = set()
        self.unanswered: set[tuple[str, str]] = set()
        self.node_ttl = bounded(settings.node_ttl)
        self.zone = rr.wire_name(*settings.domain_labels()) or b"\0"
        self._be_in(settings.datacenter)

    def _be_in(self, datacenter: str) -> None:
        """Targets are named as nodes and addresses of this datacenter."""
        self.place = datacenter
        self.abroad = self.settings.translate_wan and datacenter.lower() != self.settings.datacenter.lower()
        place = (rr.octets(datacenter), *self.settings.domain_labels())
        self.below_node = rr.wire_name(b"node", *place)
        self.below_service = rr.wire_name(b"service", *place)
        self.below_address = rr.wire_name(b"addr", *place)

    def reply(self, name: bytes, type: int) -> Reply | None:
        meant = meaning(rr.labels(name), type, self.settings)
        if meant.kind == q.OUTSIDE:
            return None
        if meant.kind == q.REVERSE:
            return self._reverse(name, meant.name, type)
        if type == rr.SOA:
            return self._authority()
        if type == rr.NS:
            recursion = bool(self.settings.recursors)
            return Reply(entries=self._servers(), shuffle=True, limit=_MAX_SERVERS, recursion=recursion)
        reply = self._look_up(meant, name, type, _MAX_DEPTH)
        if reply.rcode == rr.NXDOMAIN or not reply.entries:
            reply.authority = [self._soa()]
            reply.dated = True
        reply.recursion = bool(self.settings.recursors)
        reply.wanted, reply.unanswered = frozenset(self.wanted), frozenset(self.unanswered)
        return reply

    # -- the kinds of names

    def _look_up(self, meant: Meaning, name: bytes, type: int, depth: int) -> Reply:
        if meant.kind == q.ADDRESS:
            return self._address(meant.name, name)
        if meant.kind == q.QUERY:
            return self._query(meant, name, type, depth)
        if meant.kind in (q.SERVICE, q.CONNECT, q.NODE):
            return self._in_catalog(meant, name, type, depth)
        return Reply(rcode=rr.NXDOMAIN)

    def _in_catalog(self, meant: Meaning, name: bytes, type: int, depth: int) -> Reply:
        """A service or node, of the datacenter that the name says."""
        at_home = meant.datacenter in ("", self.settings.datacenter.lower())
        catalog = self.home if at_home else self.elsewhere(meant.datacenter)
        if catalog is None:
            return Reply(rcode=rr.NXDOMAIN)
        before, place = self.catalog, self.place
        self.catalog = catalog
        self._be_in(self.settings.datacenter if at_home else meant.datacenter)
        if meant.kind != q.NODE:
            reply = self._service(meant, name, type, depth)
        else:
            reply = self._node(meant.name, name, type, depth)
        self.catalog = before
        self._be_in(place)
        return reply

    def _address(self, digits: str, name: bytes) -> Reply:
        if len(digits) // 2 not in (4, 16):
            return Reply()
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            return Reply(rcode=rr.NXDOMAIN)
        record = rr.address(name, packed, self.node_ttl)
        return Reply(entries=[Entry((record,))], keep_case=False)

    def _node(self, wanted: str, name: bytes, type: int, depth: int) -> Reply:
        _, node = self.catalog.node(wanted, self.watch)
        if node is None:
            return Reply(rcode=rr.NXDOMAIN)
        if type not in (rr.A, rr.AAAA, rr.ANY, rr.TXT):
            return Reply()
        ttl = self.node_ttl
        found: list[Record] = []
        if type != rr.TXT:
            found = self._node_addresses(node, name, type, ttl, depth)
        meta = metadata(name, node, ttl)
        if type in (rr.TXT, rr.ANY):
            return Reply(entries=[Entry((record,)) for record in found + meta])
        shown = meta if self.settings.enable_additional_node_meta_txt else []
        return Reply(entries=[Entry((record,)) for record in found], additional=shown)

    def _node_addresses(self, node: Node, name: bytes, type: int, ttl: int, depth: int) -> list[Record]:
        text = node_address(node, type, self.abroad)
        packed = rr.packed_address(text)
        if packed is not None:
            return [rr.address(name, packed, ttl)] if _fits(packed, type) else []
        target = rr.name_from_text(text)
        if target is None:
            return []
        return [rr.pointing(name, rr.CNAME, target, ttl), *self._follow(target, type, depth)]

    def _service(self, meant: Meaning, name: bytes, type: int, depth: int) -> Reply:
        tags = [meant.tag] if meant.tag else []
        if meant.kind == q.CONNECT:
            _, all_instances = self.catalog.check_mesh_nodes(meant.name, self.watch)
        else:
            _, all_instances = self.catalog.check_service_nodes(meant.name, tags, self.watch)
        instances = [i for i in all_instances if _usable(i, self.settings.only_passing)]
        if not instances:
            return Reply(rcode=rr.NXDOMAIN)
        ttl = self.settings.ttl_of(meant.name)
        if type == rr.SRV:
            reply = Reply(entries=self._srv_entries(instances, name, ttl, depth), shuffle=True)
        else:
            reply = self._address_entries(instances, name, type, ttl, depth)
        reply.counted = True
        return reply

    def _query(self, meant: Meaning, name: bytes, type: int, depth: int) -> Reply:
        """What a prepared query has found, in its order."""
        key = (meant.name, meant.datacenter)
        found = self.queries.get(key)
        if found is None or not found.nodes:
            if key not in self.queries:
                self.unanswered.add(key)
            return Reply(rcode=rr.NXDOMAIN)
        ttl = self._ttl(found)
        place = self.place
        self._be_in(found.datacenter)
        if type == rr.SRV:
            reply = Reply(entries=self._srv_entries(found.nodes, name, ttl, depth))
        else:
            reply = self._address_entries(found.nodes, name, type, ttl, depth)
            reply.shuffle = False
        self._be_in(place)
        reply.counted = reply.personal = True
        return reply

    def _ttl(self, found: Found) -> int:
        """The query's own TTL before that of the service."""
        try:
            if found.dns.ttl:
                return bounded(duration.parse(found.dns.ttl) // duration.SECOND)
        except ValueError:  # it was checked when it was stored, by a server that may be none of ours
            pass
        return self.settings.ttl_of(found.service)

    def _address_entries(
        self, instances: Iterable[CheckServiceNode], name: bytes, type: int, ttl: int, depth: int
    ) -> Reply:
        """One entry per address. Names count only when no instance has an address, and then one of
        them, since a name may have a single CNAME (RFC 2181 10.1)."""
        seen: set[bytes] = set()
        entries: list[Entry] = []
        names: dict[bytes, Entry] = {}
        for instance in instances:
            text = instance_address(instance, type, self.abroad)
            packed = rr.packed_address(text)
            target = None if packed is not None else rr.name_from_text(text)
            if target is not None and target.lower() == name:  # points to itself
                target, packed = None, rr.packed_address(node_address(instance.node, type, self.abroad))
            if packed is not None:
                if _fits(packed, type) and packed not in seen:
                    seen.add(packed)
                    entries.append(Entry((rr.address(name, packed, ttl),)))
            elif target is not None and not entries and target not in names:
                cname = rr.pointing(name, rr.CNAME, target, ttl)
                names[target] = Entry((cname, *self._follow_addresses(target, type, ttl, depth)))
        if entries:
            return Reply(entries=entries, shuffle=True, limit=max(self.settings.a_record_limit, 0))
        return Reply(entries=list(names.values()), shuffle=True, limit=1)

    def _srv_entries(
        self, instances: Iterable[CheckServiceNode], name: bytes, ttl: int, depth: int
    ) -> list[Entry]:
        seen: set[tuple[str, str, int]] = set()
        entries = []
        for instance in instances:
            node, service = instance.node, instance.service
            port = service_port(service, self.abroad)
            if (node.node, service.address, port) in seen:
                continue
            seen.add((node.node, service.address, port))
            target, about = self._srv_target(instance, name, ttl, depth)
            if target is None:
                continue
            if node.meta and self.settings.enable_additional_node_meta_txt:
                about = [*about, *metadata(self._name(node.node, self.below_node), node, ttl)]
            entries.append(Entry((rr.srv(name, _weight(instance), port, target, ttl),), tuple(about)))
        return entries

    def _srv_target(
        self, instance: CheckServiceNode, name: bytes, ttl: int, depth: int
    ) -> tuple[bytes | None, Sequence[Record]]:
        """The name to connect to, and its addresses. A node is pointed to by its address when its name
        cannot be a DNS name, or would lead to another of its addresses."""
        text = service_address(instance.service, rr.SRV, self.abroad)
        if text:
            packed = rr.packed_address(text)
            target = rr.name_from_text(text) if packed is None else self._address_name(packed)
            if packed is None and target is not None and target.lower() == name:
                text = ""  # points to itself: use the node
        if not text:
            node = instance.node
            host = node_address(node, rr.SRV, self.abroad)
            packed = rr.packed_address(host)
            if packed is None:
                target = rr.name_from_text(host)
            else:
                target = self._name(node.node, self.below_node) if host == node.address else None
                target = target or self._address_name(packed)
        if target is None:
            return None, ()
        if packed is not None:
            return target, (rr.address(target, packed, ttl),)
        return target, self._follow_addresses(target, rr.SRV, ttl, depth)

    def _reverse(self, name: bytes, address: str, type: int) -> Reply | None:
        target = None
        if address:
            for node in self.catalog.nodes_by_address(address, self.watch):
                target = target or self._name(node.node, self.below_node)
            if target is None:
                for _, service in self.catalog.services_by_address(address, self.watch):
                    target = target or self._name(service.service, self.below_service)
        if target is None:
            return None
        entry = Entry((rr.pointing(name, rr.PTR, target, 0),))
        soa = [self._soa()] if type == rr.SOA else []
        return Reply(entries=[entry], authority=soa, dated=bool(soa), recursion=bool(self.settings.recursors))

    # -- the zone itself

    def _soa(self) -> Record:
        soa = self.settings.soa
        numbers = (bounded(soa.refresh), bounded(soa.retry), bounded(soa.expire), bounded(soa.min_ttl))
        return rr.soa(self.zone, self.serial, numbers)

    def _authority(self) -> Reply:
        servers = self._servers()[:_MAX_SERVERS]
        return Reply(
            entries=[Entry((self._soa(),))],
            authority=[record for entry in servers for record in entry.records],
            additional=[record for entry in servers for record in entry.additional],
            recursion=bool(self.settings.recursors),
            dated=True,
        )

    def _servers(self) -> list[Entry]:
        """NS records of the domain, each with its glue."""
        _, instances = self.catalog.check_service_nodes(_SERVERS, [], self.watch)
        ttl = self.node_ttl
        entries = []
        for instance in instances:
            target = self._name(instance.node.node.lower(), self.below_node)
            if target is not None and _usable(instance, self.settings.only_passing):
                glue = self._node_addresses(instance.node, target, rr.ANY, ttl, 0)
                entries.append(Entry((rr.pointing(self.zone, rr.NS, target, ttl),), tuple(glue)))
        return entries

    # -- names

    def _name(self, text: str, tail: bytes | None) -> bytes | None:
        """`<text>.<kind>.<dc>.<domain>`, None if that is no DNS name."""
        return None if tail is None else rr.name_below(text, tail)

    def _address_name(self, packed: bytes) -> bytes | None:
        return self._name(packed.hex(), self.below_address)

    def _follow(self, target: bytes, type: int, depth: int) -> list[Record]:
        """What stands behind a name: looked up here when it is in the domain, else by the recursors."""
        meant = meaning(rr.labels(target), rr.ANY, self.settings)
        if meant.kind in (q.OUTSIDE, q.REVERSE):
            key = (target.lower(), rr.AAAA if type == rr.AAAA else rr.A)
            if key not in self.outside and self.settings.recursors:
                self.wanted.add(key)
            return list(self.outside.get(key, ()))
        if depth < 1:
            return []
        reply = self._look_up(meant, target, rr.ANY, depth - 1)
        shown = reply.entries[: reply.limit or None]
        other = {rr.A: rr.AAAA, rr.AAAA: rr.A}.get(type)
        return [record for entry in shown for record in entry.records if record.type != other]

    def _follow_addresses(self, target: bytes, type: int, ttl: int, depth: int) -> list[Record]:
        """The same for a service: addresses and names only, with the service's TTL."""
        if type not in (rr.A, rr.AAAA, rr.ANY, rr.TXT, rr.SRV):
            return []
        return [
            structs.replace(record, ttl=ttl)
            for record in self._follow(target, type, depth)
            if record.type in (rr.A, rr.AAAA, rr.CNAME)
        ]


def _fits(packed: bytes, type: int) -> bool:
    """Whether an address is an answer to the type. TXT for a service gives its addresses, too."""
    if type == rr.A:
        return len(packed) == 4
    if type == rr.AAAA:
        return len(packed) == 16
    return type in (rr.ANY, rr.TXT)


def _usable(instance: CheckServiceNode, only_passing: bool) -> bool:
    for check in instance.checks:
        if check.status == CRITICAL or (only_passing and check.status != PASSING):
            return False
    return True


def _weight(instance: CheckServiceNode) -> int:
    weights = instance.service.weights
    warning = any(check.status == WARNING for check in instance.checks)
    if weights is None:
        return 1
    return weights.warning if warning else weights.passing
