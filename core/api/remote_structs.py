"""Requests and replies of RPC as they travel (protocols/rpc.md sections 4 and 8).

Field names are Go's by `rename=go_name`; requests of reads have the query options among their fields,
their replies the query meta."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from core.codec.wire import Growing
from core.store.structs import (
    ZERO_CONNECT,
    ZERO_PROXY,
    CheckServiceNode,
    Coordinate,
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    ServiceAddress,
    Session,
    Weights,
    go_name,
)


class ReadRequest(Struct, frozen=True, rename=go_name):
    """structs.QueryOptions, part of the request of every read."""

    token: str = ""
    min_query_index: int = 0
    max_query_time: int = 0
    allow_stale: bool = False
    require_consistent: bool = False
    use_cache: bool = False
    max_stale_duration: int = 0
    max_age: int = 0
    must_revalidate: bool = False
    stale_if_error: int = 0
    filter: str = ""
    allow_not_modified_response: bool = False


class ReadReply(Struct, frozen=True, rename=go_name):
    """structs.QueryMeta, part of the reply to every read."""

    index: int = 0
    last_contact: int = 0
    known_leader: bool = False
    consistency_level: str = ""
    not_modified: bool = False


class QuerySource(Struct, frozen=True, rename=go_name):
    """Who asks, for sorting by distance."""

    datacenter: str = ""
    segment: str = ""
    node: str = ""
    ip: str = field(default="", name="Ip")


class DatacenterRead(ReadRequest, frozen=True, rename=go_name):
    """A read with a datacenter: structs of all services but the catalog's own."""

    datacenter: str = ""


class DCSpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """A read of a whole datacenter."""

    node_meta_filters: dict[str, str] | None = None
    source: QuerySource = QuerySource()


class NodeSpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """A read of one node."""

    node: str = ""


class ServiceSpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """A read of one service. Tags only count with `tag_filter`."""

    node_meta_filters: dict[str, str] | None = None
    service_name: str = ""
    service_kind: str = ""
    service_tag: str = ""
    service_tags: list[str] | None = None
    service_address: str = ""
    tag_filter: bool = False
    source: QuerySource = QuerySource()
    connect: bool = False
    ingress: bool = False


class ChecksInStateRequest(DatacenterRead, frozen=True, rename=go_name):
    """Checks by state."""

    node_meta_filters: dict[str, str] | None = None
    state: str = ""
    source: QuerySource = QuerySource()


class ServiceDumpRequest(DatacenterRead, frozen=True, rename=go_name):
    """All services, of one kind with `use_service_kind`."""

    service_kind: str = ""
    use_service_kind: bool = False
    source: QuerySource = QuerySource()


class KeyRequest(DatacenterRead, frozen=True, rename=go_name):
    """A key or prefix."""

    key: bytes = b""


class KeyListRequest(DatacenterRead, frozen=True, rename=go_name):
    """Names below a prefix. (The spelling is Consul's.)"""

    prefix: bytes = b""
    seperator: bytes = b""


class SessionSpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """One session; clients send its id under both names."""

    session_id: str = ""
    session: str = ""


class ConfigEntryQuery(DatacenterRead, frozen=True, rename=go_name):
    """A config entry, or all of a kind."""

    kind: str = ""
    name: str = ""


class ServiceID(Struct, frozen=True, rename=go_name):
    """The name of an upstream."""

    id: str = ""


class ServiceConfigRequest(DatacenterRead, frozen=True, rename=go_name):
    """The central configuration of a service."""

    name: str = ""
    upstreams: list[str] | None = None
    upstream_ids: list[ServiceID] | None = field(default=None, name="UpstreamIDs")


class EventFireRequest(DatacenterRead, frozen=True, rename=go_name):
    """A user event to be spread; `payload` is an encoded event."""

    name: str = ""
    payload: bytes | None = None


class KeyringRequest(DatacenterRead, frozen=True, rename=go_name):
    """An operation on gossip keys."""

    operation: str = ""
    key: str = ""
    forwarded: bool = False
    relay_factor: int = 0
    local_only: bool = False


class IndexedDirEntries(ReadReply, frozen=True, rename=go_name):
    """Keys with their values."""

    entries: list[DirEntry] | None = None


class IndexedKeyList(ReadReply, frozen=True, rename=go_name):
    """Names of keys."""

    keys: list[bytes] | None = None


class IndexedNodes(ReadReply, frozen=True, rename=go_name):
    """Nodes."""

    nodes: list[Node] | None = None


class IndexedServices(ReadReply, frozen=True, rename=go_name):
    """Names of services with their tags."""

    services: dict[str, list[str]] | None = None


class ServiceNode(Growing, frozen=True, rename=go_name):
    """An instance with the facts of its node beside it."""

    ZERO_MAPS: ClassVar[dict[str, dict[str, Any]]] = {
        "service_proxy": ZERO_PROXY,
        "service_connect": ZERO_CONNECT,
    }

    id: str = ""
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    node_meta: dict[str, str] | None = None
    service_kind: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: list[str] | None = None
    service_address: str = ""
    service_tagged_addresses: dict[str, ServiceAddress] | None = None
    service_weights: Weights = Weights(0, 0)
    service_meta: dict[str, str] | None = None
    service_port: int = 0
    service_enable_tag_override: bool = False
    service_proxy: dict[str, Any] | None = None
    service_connect: dict[str, Any] | None = None
    create_index: int = 0
    modify_index: int = 0


class IndexedServiceNodes(ReadReply, frozen=True, rename=go_name):
    """Instances of a service."""

    service_nodes: list[ServiceNode] | None = None


class NodeServices(Struct, frozen=True, rename=go_name):
    """A node and its services by id."""

    node: Node | None = None
    services: dict[str, NodeService] | None = None


class IndexedNodeServices(ReadReply, frozen=True, rename=go_name):
    """A node and its services, nil when there is no such node."""

    node_services: NodeServices | None = None


class NodeServiceList(Struct, frozen=True, rename=go_name):
    """A node and its services."""

    node: Node | None = None
    services: list[NodeService] | None = None


class IndexedNodeServiceList(ReadReply, frozen=True, rename=go_name):
    """A node and its services, all empty when there is no such node."""

    node_services: NodeServiceList = NodeServiceList()


class IndexedGatewayServices(ReadReply, frozen=True, rename=go_name):
    """Services behind gateways."""

    services: list[Any] | None = None


class IndexedHealthChecks(ReadReply, frozen=True, rename=go_name):
    """Checks."""

    health_checks: list[HealthCheck] | None = None


class IndexedCheckServiceNodes(ReadReply, frozen=True, rename=go_name):
    """Instances with their checks."""

    nodes: list[CheckServiceNode] | None = None


class IndexedNodesWithGateways(ReadReply, frozen=True, rename=go_name):
    """Instances with their checks, and gateways."""

    nodes: list[CheckServiceNode] | None = None
    gateways: list[Any] | None = None


class NodeInfo(Struct, frozen=True, rename=go_name):
    """A node with all that is on it."""

    id: str = ""
    node: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    services: list[NodeService] | None = None
    checks: list[HealthCheck] | None = None


class IndexedNodeDump(ReadReply, frozen=True, rename=go_name):
    """Nodes with all that is on them."""

    dump: list[NodeInfo] | None = None


class IndexedSessions(ReadReply, frozen=True, rename=go_name):
    """Sessions."""

    sessions: list[Session] | None = None


class IndexedCoordinates(ReadReply, frozen=True, rename=go_name):
    """Where nodes are."""

    coordinates: list[Coordinate] | None = None


class MeshGatewayConfig(Struct, frozen=True, rename=go_name):
    """How traffic passes mesh gateways."""

    mode: str = ""


class ExposeConfig(Struct, frozen=True, rename=go_name):
    """What a proxy shows without encryption."""

    checks: bool = False
    paths: list[Any] | None = None


class ServiceConfigResponse(ReadReply, frozen=True, rename=go_name):
    """The central configuration of a service; travels packed into a raw string."""

    proxy_config: dict[str, Any] | None = None
    upstream_configs: dict[str, Any] | None = None
    upstream_id_configs: list[Any] | None = field(default=None, name="UpstreamIDConfigs")
    mesh_gateway: MeshGatewayConfig = MeshGatewayConfig()
    expose: ExposeConfig = ExposeConfig()


class IndexedConfigEntries(ReadReply, frozen=True, rename=go_name):
    """Config entries of a kind; travels packed into a raw string, after count and kind."""

    kind: str = ""
    entries: list[Any] | None = None
