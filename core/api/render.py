"""Objects of the store as Consul's JSON: key order, `omitempty` and nil-or-empty as its structs have them."""

from __future__ import annotations

import base64
from typing import Any

from core.codec import duration
from core.store.structs import (
    CheckServiceNode,
    CheckSpec,
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    ServiceAddress,
    Weights,
)

Json = dict[str, Any]

_IN_COMMON = frozenset(("PeerName", "Partition"))
_OF_UPSTREAMS = ("DestinationType", "DestinationName", "Datacenter", "LocalBindPort")  # zero or not
_NO_MESH: Json = {"MeshGateway": {}, "Expose": {}}


def dir_entry(entry: DirEntry) -> Json:
    """A key of the KV store; `Value` in base64, null for an empty value."""
    value = entry.value
    out: Json = {
        "LockIndex": entry.lock_index,
        "Key": entry.key.decode("utf-8", "surrogateescape"),
        "Flags": entry.flags,
        "Value": None if value is None else base64.b64encode(value).decode("ascii"),
    }
    if entry.session:
        out["Session"] = entry.session
    out["CreateIndex"] = entry.create_index
    out["ModifyIndex"] = entry.modify_index
    return out


def by_key(items: dict[str, str] | None) -> dict[str, str] | None:
    """A map as Go writes it: sorted by key, null when nil."""
    return None if items is None else {key: items[key] for key in sorted(items)}


def node(item: Node) -> Json:
    """structs.Node."""
    out: Json = {
        "ID": item.id,
        "Node": item.node,
        "Address": item.address,
        "Datacenter": item.datacenter,
        "TaggedAddresses": by_key(item.tagged_addresses),
        "Meta": by_key(item.meta),
        "CreateIndex": item.create_index,
        "ModifyIndex": item.modify_index,
    }
    return out | item.extra if item.extra else out


def addresses(items: dict[str, ServiceAddress]) -> Json:
    """Tagged addresses of a service, sorted by tag."""
    return {tag: {"Address": items[tag].address, "Port": items[tag].port} for tag in sorted(items)}


def weights(item: Weights | None) -> Json:
    """Weights; 1 and 1 unless set."""
    item = item or Weights()
    return {"Passing": item.passing, "Warning": item.warning}


def mesh_proxy(proxy: dict[str, Any] | None) -> Json:
    """The mesh part of a service, untouched but for the zero values that Consul leaves out."""
    if not proxy:
        return _NO_MESH
    out = _without_zeros({name: value for name, value in proxy.items() if name not in _NO_MESH})
    if isinstance(upstreams := out.get("Upstreams"), list):
        out["Upstreams"] = [_upstream(one) if isinstance(one, dict) else one for one in upstreams]
    return out | {name: _without_zeros(proxy.get(name) or {}) for name in _NO_MESH}


def _upstream(item: Json) -> Json:
    kept = {name: value for name, value in item.items() if name in _OF_UPSTREAMS}
    left = _without_zeros({name: item[name] for name in item.keys() - {"IngressHosts", *_OF_UPSTREAMS}})
    return dict(
        sorted({**kept, **left, "MeshGateway": _without_zeros(item.get("MeshGateway") or {})}.items())
    )


def _without_zeros(value: dict[str, Any]) -> Json:
    return {k: v for k, v in value.items() if v not in (None, "", 0, False) and v != {} and v != []}


def node_service(item: NodeService) -> Json:
    """structs.NodeService."""
    out: Json = {"Kind": item.kind} if item.kind else {}
    out["ID"] = item.id
    out["Service"] = item.service
    out["Tags"] = item.tags or []
    out["Address"] = item.address
    if item.tagged_addresses:
        out["TaggedAddresses"] = addresses(item.tagged_addresses)
    out["Meta"] = by_key(item.meta)
    out["Port"] = item.port
    out["Weights"] = weights(item.weights)
    out["EnableTagOverride"] = item.enable_tag_override
    out["Proxy"] = mesh_proxy(item.proxy)
    out["Connect"] = _without_zeros(item.connect) if item.connect else {}
    out["CreateIndex"] = item.create_index
    out["ModifyIndex"] = item.modify_index
    return out | item.extra if item.extra else out


def service_node(host: Node, item: NodeService) -> Json:
    """structs.ServiceNode: an instance with the facts of its node beside it."""
    out: Json = {
        "ID": host.id,
        "Node": host.node,
        "Address": host.address,
        "Datacenter": host.datacenter,
        "TaggedAddresses": by_key(host.tagged_addresses),
        "NodeMeta": by_key(host.meta),
        "ServiceKind": item.kind,
        "ServiceID": item.id,
        "ServiceName": item.service,
        "ServiceTags": item.tags or [],
        "ServiceAddress": item.address,
    }
    if item.tagged_addresses:
        out["ServiceTaggedAddresses"] = addresses(item.tagged_addresses)
    out["ServiceWeights"] = weights(item.weights)
    out["ServiceMeta"] = by_key(item.meta or {})
    out["ServicePort"] = item.port
    out["ServiceEnableTagOverride"] = item.enable_tag_override
    out["ServiceProxy"] = mesh_proxy(item.proxy)
    out["ServiceConnect"] = _without_zeros(item.connect) if item.connect else {}
    out["CreateIndex"] = item.create_index
    out["ModifyIndex"] = item.modify_index
    extra = instance_extra(host, item)
    return out | extra if extra else out


def instance_extra(host: Node, item: NodeService) -> Json | None:
    """What a structs.ServiceNode has of later versions: the service's fields with the prefix that all of
    its others have, too, but for the name of the peer, which node and service have in common."""
    if not (host.extra or item.extra):
        return None
    out = {name: value for name, value in (host.extra or {}).items() if name != "Locality"}
    for name, value in (item.extra or {}).items():
        out[name if name in _IN_COMMON else f"Service{name}"] = value
    return out or None


def extra_of_service(row: Json | None) -> Json | None:
    """The service's part of what `instance_extra` put together."""
    named = {name.removeprefix("Service"): value for name, value in (row or {}).items() if _of_service(name)}
    return named or None


def extra_of_node(row: Json | None) -> Json | None:
    """The node's part of what `instance_extra` put together."""
    return {name: value for name, value in (row or {}).items() if not name.startswith("Service")} or None


def _of_service(name: str) -> bool:
    return name in _IN_COMMON or name.startswith("Service")


_PLAIN_SPEC = CheckSpec()
_SPEC_FIELDS = (
    ("HTTP", "http"),
    ("TLSSkipVerify", "tls_skip_verify"),
    ("Header", "header"),
    ("Method", "method"),
    ("Body", "body"),
    ("TCP", "tcp"),
    ("ScriptArgs", "script_args"),
    ("DockerContainerID", "docker_container_id"),
    ("Shell", "shell"),
    ("GRPC", "grpc"),
    ("GRPCUseTLS", "grpc_use_tls"),
    ("AliasNode", "alias_node"),
    ("AliasService", "alias_service"),
    ("TTL", "ttl"),
)


def check_spec(spec: CheckSpec) -> Json:
    """HealthCheckDefinition: zero values left out, durations as text."""
    if spec == _PLAIN_SPEC:
        return {}
    out: Json = {}
    if spec.interval:
        out["Interval"] = duration.show(spec.interval)
    if spec.output_max_size:
        out["OutputMaxSize"] = spec.output_max_size
    if spec.timeout:
        out["Timeout"] = duration.show(spec.timeout)
    if spec.deregister_critical_service_after:
        out["DeregisterCriticalServiceAfter"] = duration.show(spec.deregister_critical_service_after)
    for name, attribute in _SPEC_FIELDS:
        value = getattr(spec, attribute)
        if value:
            out[name] = value
    return out | spec.extra if spec.extra else out


def health_check(item: HealthCheck) -> Json:
    """structs.HealthCheck."""
    out: Json = {
        "Node": item.node,
        "CheckID": item.check_id,
        "Name": item.name,
        "Status": item.status,
        "Notes": item.notes,
        "Output": item.output,
        "ServiceID": item.service_id,
        "ServiceName": item.service_name,
        "ServiceTags": item.service_tags or [],
        "Type": item.type,
        "Definition": check_spec(item.definition),
        "CreateIndex": item.create_index,
        "ModifyIndex": item.modify_index,
    }
    return out | item.extra if item.extra else out


def check_service_node(item: CheckServiceNode) -> Json:
    """structs.CheckServiceNode."""
    return {
        "Node": node(item.node),
        "Service": node_service(item.service),
        "Checks": [health_check(check) for check in item.checks],
    }
