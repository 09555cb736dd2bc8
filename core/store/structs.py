"""The objects of the replicated state, with Go's field names as their wire names.

One class serves the log, the snapshot and the RPC body: attributes are snake_case, `rename=go_name`
gives the key on the wire (`service_id` <-> `ServiceID`). Field lists: protocols/rpc.md section 8.
Objects in the store are values: never changed in place, replaced by `msgspec.structs.replace`.

Go's nil and empty differ on the wire, so lists and maps are `None` when nil. Durations are int
nanoseconds. KV keys and values are bytes; all names are str (bytes that are not UTF-8 travel as
surrogate escapes)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

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
}


def go_name(attribute: str) -> str:
    """`service_id` -> `ServiceID`, `grpc_use_tls` -> `GRPCUseTLS`."""
    return "".join(_INITIALISMS.get(word, word.capitalize()) for word in attribute.split("_"))


PASSING, WARNING, CRITICAL, MAINTENANCE = "passing", "warning", "critical", "maintenance"


class ServiceAddress(Struct, frozen=True, rename=go_name):
    """An address and port under a tag such as `lan` or `wan`."""

    address: str = ""
    port: int = 0


class Weights(Struct, frozen=True, rename=go_name):
    """DNS SRV weights by state."""

    passing: int = 1
    warning: int = 1


class Node(Struct, frozen=True, rename=go_name):
    """A node of the catalog (structs.Node)."""

    id: str = ""
    node: str = ""
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class NodeService(Struct, frozen=True, rename=go_name):
    """A service instance on a node (structs.NodeService). `proxy` and `connect` are the mesh's maps,
    kept and returned untouched; None stands for their zero value."""

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


class CheckSpec(Struct, frozen=True, rename=go_name):
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


class HealthCheck(Struct, frozen=True, rename=go_name):
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


class DirEntry(Struct, frozen=True, rename=go_name):
    """A key of the KV store."""

    key: bytes = b""
    value: bytes | None = None
    flags: int = 0
    lock_index: int = 0
    session: str = ""
    create_index: int = 0
    modify_index: int = 0


class CheckServiceNode(Struct, frozen=True, rename=go_name):
    """An instance with its node and all checks that speak for it (node checks first)."""

    node: Node
    service: NodeService
    checks: list[HealthCheck]


class RegisterRequest(Struct, frozen=True, rename=go_name):
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


class DeregisterRequest(Struct, frozen=True, rename=go_name):
    """Log command 1 and RPC Catalog.Deregister."""

    datacenter: str = ""
    node: str = ""
    service_id: str = ""
    check_id: str = ""
    token: str = ""


class KVSRequest(Struct, frozen=True, rename=go_name):
    """Log command 2 and RPC KVS.Apply. `op`: set, delete, delete-cas, delete-tree, cas, lock, unlock."""

    datacenter: str = ""
    op: str = ""
    dir_ent: DirEntry = DirEntry()
    token: str = ""
