"""What a leader writes into the catalog for a member of the cluster (protocols/fsm.md section 9). Pure."""

from __future__ import annotations

from msgspec import Struct

from core.store.state import Store
from core.store.structs import PASSING, HealthCheck, NodeService, RegisterRequest, Weights

SERF_HEALTH = "serfHealth"
SERF_HEALTH_NAME = "Serf Health Status"
ALIVE_OUTPUT = "Agent alive and reachable"
CONSUL_SERVICE = "consul"


class MemberFacts(Struct, frozen=True):
    """What the catalog needs to know of a member. `port` is that of RPC, servers only."""

    id: str
    name: str
    address: str
    server: bool
    port: int = 0
    version: str = ""


def server_service(member: MemberFacts) -> NodeService:
    """The service `consul` that stands for a server."""
    meta = {
        "non_voter": "false",
        "raft_version": "3",
        "read_replica": "false",
        "serf_protocol_current": "2",
        "serf_protocol_max": "5",
        "serf_protocol_min": "1",
        "version": member.version,
    }
    return NodeService(
        id=CONSUL_SERVICE,
        service=CONSUL_SERVICE,
        tags=[],
        meta=meta,
        port=member.port,
        weights=Weights(),
    )


def alive(view: Store, member: MemberFacts, datacenter: str) -> RegisterRequest | None:
    """The registration that makes the catalog say that `member` is alive, None when it says so already."""
    _, node = view.node(member.name, None)
    service = server_service(member) if member.server else None
    if node is not None and node.address == member.address and node.id == member.id:
        _, checks = view.node_checks(member.name, None)
        healthy = any(check.check_id == SERF_HEALTH and check.status == PASSING for check in checks)
        if healthy and (service is None or _has_service(view, member, service)):
            return None
    return RegisterRequest(
        datacenter=datacenter,
        id=member.id,
        node=member.name,
        address=member.address,
        tagged_addresses=node.tagged_addresses if node is not None else None,
        node_meta=node.meta if node is not None else None,
        service=service,
        check=_serf_health(member),
    )


def _serf_health(member: MemberFacts) -> HealthCheck:
    return HealthCheck(
        node=member.name, check_id=SERF_HEALTH, name=SERF_HEALTH_NAME, status=PASSING, output=ALIVE_OUTPUT
    )


def _has_service(view: Store, member: MemberFacts, wanted: NodeService) -> bool:
    _, (_, services) = view.node_services(member.name, None)
    return any(
        item.id == wanted.id and item.port == wanted.port and item.meta == wanted.meta for item in services
    )
