"""The objects of the replicated state, with Go's field names as their wire names.

One class serves the log, the snapshot and the RPC body: attributes are snake_case, `rename=go_name`
gives the key on the wire (`service_id` <-> `ServiceID`). Field lists: protocols/rpc.md section 8.
Objects in the store are values: never changed in place, replaced by `msgspec.structs.replace`.

Go's nil and empty differ on the wire, so lists and maps are `None` when nil. Durations are int
nanoseconds. KV keys and values are bytes; all names are str (bytes that are not UTF-8 travel as
surrogate escapes). Structs to which versions after the recorded one have added fields are `Growing`."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from core.codec.msgpack import ZERO_TIME
from core.codec.wire import Growing

_INITIALISMS = {
    "id": "ID",
    "ttl": "TTL",
    "http": "HTTP",
    "tcp": "TCP",
    "tls": "TLS",
    "grpc": "GRPC",
    "dns": "DNS",
    "acl": "ACL",
    "ca": "CA",
    "udp": "UDP",
    "os": "OS",
    "h2ping": "H2PING",
    "ip": "IP",
    "cas": "CAS",
    "kv": "KV",
}


def go_name(attribute: str) -> str:
    """`service_id` -> `ServiceID`, `grpc_use_tls` -> `GRPCUseTLS`."""
    return "".join(_INITIALISMS.get(word, word.capitalize()) for word in attribute.split("_"))


PASSING, WARNING, CRITICAL, MAINTENANCE = "passing", "warning", "critical", "maintenance"


ZERO_PROXY: dict[str, Any] = {
    "Config": None,
    "DestinationServiceID": "",
    "DestinationServiceName": "",
    "Expose": {"Checks": False, "Paths": None},
    "LocalServiceAddress": "",
    "LocalServicePort": 0,
    "MeshGateway": {"Mode": ""},
    "Upstreams": None,
}
ZERO_CONNECT: dict[str, Any] = {"Native": False, "SidecarService": None}


class ServiceAddress(Struct, frozen=True, gc=False, rename=go_name):
    """An address and port under a tag such as `lan` or `wan`."""

    address: str = ""
    port: int = 0


class Weights(Struct, frozen=True, gc=False, rename=go_name):
    """DNS SRV weights by state."""

    passing: int = 1
    warning: int = 1


class Node(Growing, frozen=True, gc=False, rename=go_name):
    """A node of the catalog (structs.Node)."""

    id: str = ""
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class NodeService(Growing, frozen=True, gc=False, rename=go_name):
    """A service instance on a node (structs.NodeService). `proxy` and `connect` are the mesh's maps,
    kept and returned untouched; None stands for their zero value."""

    ZERO_MAPS: ClassVar[dict[str, dict[str, Any]]] = {"proxy": ZERO_PROXY, "connect": ZERO_CONNECT}

    kind: str = ""
    id: str = ""
    service: str = ""
    tags: list[str] | None = None
    address: str = ""
    tagged_addresses: dict[str, ServiceAddress] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    weights: Weights | None = None
    enable_tag_override: bool = False
    proxy: dict[str, Any] | None = None
    connect: dict[str, Any] | None = None
    locally_registered_as_sidecar: bool = False
    create_index: int = 0
    modify_index: int = 0


class CheckSpec(Growing, frozen=True, gc=False, rename=go_name):
    """HealthCheckDefinition: the part of a check's definition that the catalog keeps."""

    http: str = ""
    tls_skip_verify: bool = False
    header: dict[str, list[str]] | None = None
    method: str = ""
    body: str = ""
    tcp: str = ""
    interval: int = 0
    output_max_size: int = 0
    timeout: int = 0
    deregister_critical_service_after: int = 0
    script_args: list[str] | None = None
    docker_container_id: str = ""
    shell: str = ""
    grpc: str = ""
    grpc_use_tls: bool = False
    alias_node: str = ""
    alias_service: str = ""
    ttl: int = 0


class HealthCheck(Growing, frozen=True, gc=False, rename=go_name):
    """A check of a node (`service_id` empty) or of a service on it (structs.HealthCheck)."""

    node: str = ""
    check_id: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: list[str] | None = None
    type: str = ""
    definition: CheckSpec = CheckSpec()
    create_index: int = 0
    modify_index: int = 0


class DirEntry(Struct, frozen=True, gc=False, rename=go_name):
    """A key of the KV store."""

    key: bytes = b""
    value: bytes | None = None
    flags: int = 0
    lock_index: int = 0
    session: str = ""
    create_index: int = 0
    modify_index: int = 0


class CheckServiceNode(Struct, frozen=True, gc=False, rename=go_name):
    """An instance with its node and all checks that speak for it (node checks first)."""

    node: Node = Node()
    service: NodeService = NodeService()
    checks: list[HealthCheck] = []


class RegisterRequest(Growing, frozen=True, gc=False, rename=go_name):
    """Log command 0 and RPC Catalog.Register."""

    datacenter: str = ""
    id: str = ""
    node: str = ""
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    node_meta: dict[str, str] | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None
    checks: list[HealthCheck] | None = None
    skip_node_update: bool = False
    token: str = ""
    create_index: int = 0
    modify_index: int = 0


class DeregisterRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 1 and RPC Catalog.Deregister."""

    datacenter: str = ""
    node: str = ""
    service_id: str = ""
    check_id: str = ""
    token: str = ""


class KVSRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 2 and RPC KVS.Apply. `op`: set, delete, delete-cas, delete-tree, cas, lock, unlock."""

    datacenter: str = ""
    op: str = ""
    dir_ent: DirEntry = DirEntry()
    token: str = ""


class ServiceCheck(Struct, frozen=True, gc=False, rename=go_name):
    """A service check that a session depends on."""

    id: str = ""
    namespace: str = ""


class Session(Growing, frozen=True, gc=False, rename=go_name):
    """A session. `behavior`: release or delete, what happens to held keys when it ends. `ttl` is text."""

    id: str = ""
    name: str = ""
    node: str = ""
    lock_delay: int = 0
    behavior: str = ""
    ttl: str = ""
    node_checks: list[str] | None = None
    service_checks: list[ServiceCheck] | None = None
    checks: list[str] | None = None
    create_index: int = 0
    modify_index: int = 0

    def check_ids(self) -> list[str]:
        """All checks that it depends on."""
        services = [check.id for check in self.service_checks or ()]
        return [*(self.checks or ()), *(self.node_checks or ()), *services]


class SessionRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 3 and RPC Session.Apply. `op`: create, destroy."""

    datacenter: str = ""
    op: str = ""
    session: Session = Session()
    token: str = ""


class TombstoneRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 5. `op`: reap."""

    datacenter: str = ""
    op: str = ""
    reap_index: int = 0
    token: str = ""


class Coord(Struct, frozen=True, gc=False, rename=go_name):
    """A network coordinate (coordinate.Coordinate); seconds."""

    vec: list[float] | None = None
    error: float = 0.0
    adjustment: float = 0.0
    height: float = 0.0


class Coordinate(Struct, frozen=True, gc=False, rename=go_name):
    """Where a node is, within a segment. Log command 6 is a list of these."""

    node: str = ""
    segment: str = ""
    coord: Coord | None = None


class TxnKVOp(Struct, frozen=True, gc=False, rename=go_name):
    """`verb`: an op of KVSRequest, or get, get-tree, check-session, check-index, check-not-exists."""

    verb: str = ""
    dir_ent: DirEntry = DirEntry()


class TxnNodeOp(Struct, frozen=True, gc=False, rename=go_name):
    """`verb`: get, set, cas, delete, delete-cas."""

    verb: str = ""
    node: Node = Node()


class TxnServiceOp(Struct, frozen=True, gc=False, rename=go_name):
    """`verb` as for nodes."""

    verb: str = ""
    node: str = ""
    service: NodeService = NodeService()


class TxnCheckOp(Struct, frozen=True, gc=False, rename=go_name):
    """`verb` as for nodes."""

    verb: str = ""
    check: HealthCheck = HealthCheck()


class TxnSessionOp(Struct, frozen=True, gc=False, rename=go_name):
    """`verb`: delete."""

    verb: str = ""
    session: Session = Session()


class TxnOp(Struct, frozen=True, gc=False, rename=go_name):
    """One operation: exactly one member is set."""

    kv: TxnKVOp | None = None
    node: TxnNodeOp | None = None
    service: TxnServiceOp | None = None
    check: TxnCheckOp | None = None
    session: TxnSessionOp | None = None
    intention: dict[str, Any] | None = None


class TxnRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 8 and RPC Txn.Apply."""

    datacenter: str = ""
    ops: list[TxnOp] | None = None
    token: str = ""


class TxnResult(Struct, frozen=True, gc=False, rename=go_name):
    """What one operation gives back: exactly one member is set."""

    kv: DirEntry | None = None
    node: Node | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None


class TxnError(Struct, frozen=True, gc=False, rename=go_name):
    """Why operation `op_index` failed."""

    op_index: int = 0
    what: str = ""


class TxnResponse(Struct, frozen=True, gc=False, rename=go_name):
    """Results of all operations, or the errors of those that failed."""

    results: list[TxnResult] | None = None
    errors: list[TxnError] | None = None


class QueryFailoverTarget(Growing, frozen=True, gc=False, rename=go_name):
    """A place that a prepared query fails over to."""

    peer: str = ""
    datacenter: str = ""


class QueryDatacenterOptions(Growing, frozen=True, gc=False, rename=go_name):
    """Where a prepared query fails over to: the nearest datacenters, then named ones; or `targets`."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset(("targets",))  # since Consul 1.14

    nearest_n: int = 0
    datacenters: list[str] | None = None
    targets: list[QueryFailoverTarget] | None = None


class QueryDNSOptions(Growing, frozen=True, gc=False, rename=go_name):
    """DNS options of a prepared query."""

    ttl: str = ""


class QueryTemplateOptions(Struct, frozen=True, gc=False, rename=go_name):
    """Makes a prepared query a template."""

    type: str = ""
    regexp: str = ""
    remove_empty_tags: bool = False


class ServiceQuery(Growing, frozen=True, gc=False, rename=go_name):
    """What a prepared query asks for."""

    service: str = ""
    failover: QueryDatacenterOptions = QueryDatacenterOptions()
    only_passing: bool = False
    ignore_check_ids: list[str] | None = field(default=None, name="IgnoreCheckIDs")
    near: str = ""
    tags: list[str] | None = None
    node_meta: dict[str, str] | None = None
    service_meta: dict[str, str] | None = None
    connect: bool = False


class PreparedQuery(Growing, frozen=True, gc=False, rename=go_name):
    """A prepared query."""

    id: str = ""
    name: str = ""
    session: str = ""
    token: str = ""
    template: QueryTemplateOptions = QueryTemplateOptions()
    service: ServiceQuery = ServiceQuery()
    dns: QueryDNSOptions = QueryDNSOptions()
    create_index: int = 0
    modify_index: int = 0


class PreparedQueryRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 7. `op`: create, update, delete."""

    datacenter: str = ""
    op: str = ""
    query: PreparedQuery | None = None
    token: str = ""


class AutopilotConfig(Struct, frozen=True, gc=False, rename=go_name):
    """The autopilot configuration; durations in ns."""

    cleanup_dead_servers: bool = False
    last_contact_threshold: int = 0
    max_trailing_logs: int = 0
    min_quorum: int = 0
    server_stabilization_time: int = 0
    redundancy_zone_tag: str = ""
    disable_upgrade_migration: bool = False
    upgrade_version_tag: str = ""
    create_index: int = 0
    modify_index: int = 0


class AutopilotSetConfigRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 9."""

    datacenter: str = ""
    config: AutopilotConfig = AutopilotConfig()
    cas: bool = False
    token: str = ""


class SystemMetadataEntry(Struct, frozen=True, gc=False, rename=go_name):
    """A marker that the servers keep for themselves."""

    key: str = ""
    value: str = ""
    create_index: int = 0
    modify_index: int = 0


class FederationState(Growing, frozen=True, gc=False, rename=go_name):
    """The mesh gateways of a datacenter. `updated_at` is Go's binary time."""

    datacenter: str = ""
    mesh_gateways: list[Any] | None = None
    updated_at: bytes = ZERO_TIME
    primary_modify_index: int = 0
    create_index: int = 0
    modify_index: int = 0


class ChunkInfo(Struct, frozen=True, gc=False, rename=go_name):
    """A part of a command that was too large for one log entry (protocols/fsm.md section 7)."""

    op_num: int = 0
    sequence_num: int = 0
    num_chunks: int = 0
    term: int = 0
    data: bytes = b""
