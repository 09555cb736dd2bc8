"""What a leader owes the catalog for every member of the cluster (protocols/fsm.md section 9). Pure: a
plan is a list of steps, which agent/leader.py takes; planning again after that gives none."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from core.gossip.member import ALIVE, FAILED, LEFT, Member
from core.node.cluster import Cluster, Me
from core.node.servers import ServerFacts
from core.store.state import Store
from core.store.structs import (
    CRITICAL,
    PASSING,
    DeregisterRequest,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
    Weights,
)

SERF_HEALTH = "serfHealth"
SERF_HEALTH_NAME = "Serf Health Status"
ALIVE_OUTPUT = "Agent alive and reachable"
FAILED_OUTPUT = "Agent not live or unreachable"
CONSUL_SERVICE = "consul"
_SERF_KEY = SERF_HEALTH.lower()


class CatalogStep(Struct, frozen=True):
    """A change of the catalog, and what it means."""

    request: RegisterRequest | DeregisterRequest
    text: str


def plan_catalog(view: Store, cluster: Cluster, names: Iterable[str], me: Me) -> list[CatalogStep]:
    """What the catalog lacks about the members called `names` (lower case)."""
    steps: list[CatalogStep] = []
    for name in names:
        member = cluster.by_name.get(name)
        if member is None:
            continue
        if member.status == ALIVE:
            if cluster.owns_id(view, member):
                steps += _alive(view, member, cluster.servers.get(name), me)
        elif member.status == FAILED:
            steps += _failed(view, member, me)
        elif member.status == LEFT and name != me.name.lower() and name in view.node_rows:
            steps.append(_deregister(member.name, me, "member left, deregistering"))
    return steps


def plan_forgotten(view: Store, cluster: Cluster, me: Me) -> list[CatalogStep]:
    """The nodes that were members, and that gossip knows nothing of any more."""
    checks = view.check_rows.rows
    return [
        _deregister(node.node, me, "node is no member any more, deregistering")
        for key, node in view.node_rows.rows.items()
        if key not in cluster.known
        and key not in cluster.by_name
        and key != me.name.lower()
        and (key, _SERF_KEY) in checks
    ]


def _alive(view: Store, member: Member, facts: ServerFacts | None, me: Me) -> list[CatalogStep]:
    node, check = view.get_node(member.name), view.get_check(member.name, SERF_HEALTH)
    service = server_service(facts, member) if facts is not None else None
    if (
        _is_node(node, member)
        and check is not None
        and check.status == PASSING
        and _has_service(view, member, service)
    ):
        return []
    steps: list[CatalogStep] = []
    if node is not None and _must_be_freed(view, node, check, member):
        text = f"node id changed from {node.id or 'none'}, marking the old node failed"
        steps.append(CatalogStep(_critical(member, me), text))
    request = RegisterRequest(
        datacenter=me.datacenter,
        id=member.tags.get("id", "") or (node.id if node is not None else ""),
        node=member.name,
        address=member.address,
        tagged_addresses=node.tagged_addresses if node is not None else None,
        node_meta=node.meta if node is not None else None,
        service=service,
        check=_serf_health(member, PASSING, ALIVE_OUTPUT),
        skip_node_update=_is_node(node, member),  # its agent may be about to change the rest
    )
    steps.append(CatalogStep(request, "member joined, marking health alive"))
    return steps


def _is_node(node: Node | None, member: Member) -> bool:
    return node is not None and node.address == member.address and _same_id(node, member)


def _must_be_freed(view: Store, node: Node, check: HealthCheck | None, member: Member) -> bool:
    """Whether the name belongs to a node with another id. Gossip has one member of a name, so that node is
    gone; the store hands its name over when it has failed, or (to a new id) has no id."""
    if _same_id(node, member) or check is None or check.status == CRITICAL:
        return False
    return bool(node.id) or view.get_node_by_id(member.tags["id"]) is not None


def _same_id(node: Node, member: Member) -> bool:
    return member.tags.get("id", "").lower() in ("", node.id.lower())


def _failed(view: Store, member: Member, me: Me) -> list[CatalogStep]:
    check = view.get_check(member.name, SERF_HEALTH)
    if view.get_node(member.name) is None or (check is not None and check.status == CRITICAL):
        return []
    return [CatalogStep(_critical(member, me), "member failed, marking health critical")]


def _critical(member: Member, me: Me) -> RegisterRequest:
    """It says no id: if the node has gone meanwhile, the store would rename another one that has it."""
    return RegisterRequest(
        datacenter=me.datacenter,
        node=member.name,
        address=member.address,
        check=_serf_health(member, CRITICAL, FAILED_OUTPUT),
        skip_node_update=True,
    )


def _deregister(name: str, me: Me, text: str) -> CatalogStep:
    return CatalogStep(DeregisterRequest(datacenter=me.datacenter, node=name), text)


def _serf_health(member: Member, status: str, output: str) -> HealthCheck:
    return HealthCheck(
        node=member.name, check_id=SERF_HEALTH, name=SERF_HEALTH_NAME, status=status, output=output
    )


def server_service(facts: ServerFacts, member: Member) -> NodeService:
    """The service `consul` that stands for a server."""
    lowest, highest, current = member.protocol
    without_vote = "true" if facts.nonvoter else "false"
    meta = {
        "non_voter": without_vote,
        "raft_version": str(facts.raft_version),
        "read_replica": without_vote,
        "serf_protocol_current": str(current),
        "serf_protocol_max": str(highest),
        "serf_protocol_min": str(lowest),
        "version": facts.version,
    }
    return NodeService(
        id=CONSUL_SERVICE,
        service=CONSUL_SERVICE,
        tags=[],
        meta=meta,
        port=facts.port,
        weights=Weights(),
    )


def _has_service(view: Store, member: Member, wanted: NodeService | None) -> bool:
    if wanted is None:
        return True
    known = view.get_service(member.name, CONSUL_SERVICE)
    return known is not None and known.port == wanted.port and known.meta == wanted.meta
