"""Prepared queries at work: what may be stored, which instances a query finds, in which order, and where
it looks when it finds none. The texts of refusals are Consul's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from msgspec import Struct

from core.codec import duration
from core.errors import Invalid
from core.node.distance import nearest_first
from core.store.register import meta_problem
from core.store.state import Store
from core.store.structs import (
    CRITICAL,
    PASSING,
    CheckServiceNode,
    PreparedQuery,
    QueryDNSOptions,
    ServiceQuery,
)

AGENT, IP = "_agent", "_ip"  # instead of a node's name: who asks
REDACTED = "<hidden>"  # for a query's token that the asking token may not see
_FRONT = 10  # the place of the asking node among those next to it


class Source(Struct, frozen=True):
    """Who asks, for sorting by distance. `node` is that of `?near`, `ip` the client's address."""

    datacenter: str = ""
    segment: str = ""
    node: str = ""
    ip: str = ""


class Found(Struct, frozen=True):
    """What a query has found, and in which datacenter, after how many others that had nothing."""

    service: str = ""
    nodes: Sequence[CheckServiceNode] = ()
    dns: QueryDNSOptions = QueryDNSOptions()
    datacenter: str = ""
    failovers: int = 0


# --- what may be stored -------------------------------------------------------------------------------


def validate(query: PreparedQuery) -> None:
    """Refuse what can never work. (Names, sessions and templates are for the state machine.) Invalid."""
    if not (query.name or query.template.type or query.session):
        raise Invalid("Must be bound to a session")
    if query.token == REDACTED:
        text = "it looks like a query definition with a redacted token was submitted"
        raise Invalid(f"Bad Token '{query.token}', {text}")
    _validate_service(query.service)
    _validate_ttl(query.dns.ttl)


def _validate_service(service: ServiceQuery) -> None:
    if not service.service:
        raise Invalid("Must provide a Service name to query")
    failover = service.failover
    if failover.nearest_n < 0:
        raise Invalid(f"Bad NearestN '{failover.nearest_n}', must be >= 0")
    if failover.targets:
        if failover.nearest_n or failover.datacenters:
            raise Invalid("Targets cannot be populated with NearestN or Datacenters")
        if any(target.peer for target in failover.targets):
            raise Invalid("Targets cannot name a Peer: there is no cluster peering here, name a Datacenter")
    problem = meta_problem(service.node_meta or {})
    if problem:
        raise Invalid(problem)


def _validate_ttl(text: str) -> None:
    if not text:
        return
    try:
        ttl = duration.parse(text)
    except ValueError as error:
        raise Invalid(f"Bad DNS TTL '{text}': {error}") from None
    if ttl < 0:
        raise Invalid(f"DNS TTL '{ttl}', must be >=0")


# --- which instances ----------------------------------------------------------------------------------


def instances(view: Store, query: PreparedQuery, connect: bool = False) -> list[CheckServiceNode]:
    """What the query finds in this datacenter, whoever may see it. `connect`: what takes mesh connections
    for the service."""
    service = query.service
    ignored = frozenset(service.ignore_check_ids or ())
    wanted = [tag.lower() for tag in service.tags or ()]
    with_tags = frozenset(tag for tag in wanted if not tag.startswith("!"))
    without = frozenset(tag[1:] for tag in wanted if tag.startswith("!"))
    found = []
    read = view.check_mesh_nodes if connect or service.connect else view.check_service_nodes
    for item in read(service.service)[1]:
        tags = {tag.lower() for tag in item.service.tags or ()}
        if (
            _healthy(item, service.only_passing, ignored)
            and with_tags <= tags
            and tags.isdisjoint(without)
            and _has(item.node.meta, service.node_meta)
            and _has(item.service.meta, service.service_meta)
        ):
            found.append(item)
    return found


def _healthy(item: CheckServiceNode, only_passing: bool, ignored: frozenset[str]) -> bool:
    return not any(
        check.status == CRITICAL or (only_passing and check.status != PASSING)
        for check in item.checks
        if check.check_id not in ignored
    )


def _has(meta: dict[str, str] | None, wanted: dict[str, str] | None) -> bool:
    return not wanted or all((meta or {}).get(key) == value for key, value in wanted.items())


# --- in which order -----------------------------------------------------------------------------------


def ordered(
    view: Store,
    query: PreparedQuery,
    found: Iterable[CheckServiceNode],
    source: Source,
    agent: Source,
    datacenter: str,
    chance: Random,
) -> list[CheckServiceNode]:
    """In random order, or those next to a node first: the one that the client names, else the query's
    `Near`. `agent` is the agent that was asked, `datacenter` the one that answers."""
    items = list(found)
    chance.shuffle(items)
    near = _near(view, source.node or query.service.near, source, agent)
    if not near or (source.datacenter or agent.datacenter) != datacenter:
        return items
    items = list(nearest_first(view, near, items, lambda item: item.node.node))
    for at, item in enumerate(items[:_FRONT]):
        if item.node.node == near:
            items[0], items[at] = items[at], items[0]
            break
    return items


def _near(view: Store, wanted: str, source: Source, agent: Source) -> str:
    """The node that is meant, `` when it cannot be told."""
    if wanted == AGENT:
        return agent.node
    if wanted == IP:
        here = view.nodes_by_address(source.ip) if source.ip else []
        return here[0].node if here else ""
    return wanted


def limited(items: list[CheckServiceNode], limit: int) -> list[CheckServiceNode]:
    """At most `limit` of them; 0 and less mean all."""
    return items[:limit] if limit > 0 else items


# --- where else ---------------------------------------------------------------------------------------


def fallbacks(query: PreparedQuery, nearest: Sequence[str]) -> list[str]:
    """The datacenters to try, in order, when the own one has nothing. `nearest` are all others that are
    known, by distance; those that nobody knows are passed over."""
    failover = query.service.failover
    chosen = list(nearest[: failover.nearest_n]) if failover.nearest_n > 0 else []
    named = list(failover.datacenters or ())
    named += [target.datacenter for target in failover.targets or ()]
    for name in named:
        if name in nearest and name not in chosen:
            chosen.append(name)
    return chosen
