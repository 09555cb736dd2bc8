"""Reads as RPCs: KVS.*, Catalog.*, Health.* and Coordinate.*."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.api import catalog, coordinate, health, kv, permits, render
from core.api import remote_structs as structs
from core.api.catalog import NameRequest, NodesRequest, ServiceRequest
from core.api.endpoint import Answer, Question, Read
from core.api.health import ChecksRequest
from core.api.kv import KeyRequest
from core.api.remote_kinds import ReadRemote, Remote
from core.api.remote_structs import (
    DCSpecificRequest,
    NodeServiceList,
    NodeServices,
    NodeSpecificRequest,
    QuerySource,
    ServiceNode,
    ServiceSpecificRequest,
)
from core.store.state import Store
from core.store.structs import CheckServiceNode, Node, NodeService, Weights
from core.store.watch import Watch

Meta = tuple[tuple[str, str], ...]


# --- reads that have no HTTP form of their own here ---------------------------------------------------


class AddressRequest(Struct, frozen=True):
    """The instances at an address, whatever their service."""

    address: str


def _at_address(view: Store, args: AddressRequest, watch: Watch | None) -> Answer:
    found = view.services_by_address(args.address, watch)
    return Answer(view.index("nodes", "services"), found)


NODE_SERVICE_LIST = Read(
    "Catalog.NodeServiceList",
    catalog.NODE_SERVICES.run,
    permits.node_services,
    sift=catalog.sift_services,
)
SERVICES_AT = Read("Catalog.ServiceNodes", _at_address, permits.listing(permits.sees_pair))


# --- arguments ----------------------------------------------------------------------------------------


def _to_meta(pairs: Meta) -> dict[str, str] | None:
    return dict(pairs) or None


def _from_meta(wanted: dict[str, str] | None) -> Meta:
    return tuple(wanted.items()) if wanted else ()


def _near(body: DCSpecificRequest | ServiceSpecificRequest | structs.ChecksInStateRequest) -> str:
    """The node to sort by. Distances between datacenters are not those of the coordinate table."""
    return body.source.node if body.source.datacenter == body.datacenter else ""


def _nodes_fields(args: NodesRequest) -> dict[str, Any]:
    return {"node_meta_filters": _to_meta(args.node_meta), "source": QuerySource(node=args.near)}


def _nodes_args(body: DCSpecificRequest) -> NodesRequest:
    return NodesRequest(_from_meta(body.node_meta_filters), body.filter, _near(body))


def _name_fields(args: NameRequest) -> dict[str, Any]:
    return {"node": args.name}


def _name_args(body: NodeSpecificRequest) -> NameRequest:
    return NameRequest(body.node, body.filter)


def _service_fields(args: ServiceRequest) -> dict[str, Any]:
    return {
        "service_name": args.name,
        "service_tags": list(args.tags) or None,
        "tag_filter": bool(args.tags),
        "node_meta_filters": _to_meta(args.node_meta),
        "connect": args.connect,
        "ingress": args.ingress,
        "source": QuerySource(node=args.near),
    }


def _service_args(body: ServiceSpecificRequest) -> ServiceRequest:
    tags: tuple[str, ...] = ()
    if body.tag_filter:  # before 1.3 there was one tag only
        tags = tuple(body.service_tags or (body.service_tag,))
    meta = _from_meta(body.node_meta_filters)
    return ServiceRequest(
        body.service_name, tags, meta, body.filter, body.connect, body.ingress, near=_near(body)
    )


def _checks_fields(args: ChecksRequest) -> dict[str, Any]:
    source = QuerySource(node=args.near)
    return {"service_name": args.service, "node_meta_filters": _to_meta(args.node_meta), "source": source}


def _checks_args(body: ServiceSpecificRequest) -> ChecksRequest:
    return ChecksRequest(body.service_name, "", _from_meta(body.node_meta_filters), body.filter, _near(body))


def _state_fields(args: ChecksRequest) -> dict[str, Any]:
    source = QuerySource(node=args.near)
    return {"state": args.state, "node_meta_filters": _to_meta(args.node_meta), "source": source}


def _state_args(body: structs.ChecksInStateRequest) -> ChecksRequest:
    return ChecksRequest("", body.state, _from_meta(body.node_meta_filters), body.filter, _near(body))


# --- values -------------------------------------------------------------------------------------------


def _service_node(pair: tuple[Node, NodeService]) -> ServiceNode:
    node, service = pair
    return ServiceNode(
        node.id,
        node.node,
        node.address,
        node.datacenter,
        node.tagged_addresses,
        node.meta,
        service.kind,
        service.id,
        service.service,
        service.tags
        or [],  # Consul's state gives copies that are never nil, and its agents show them as they are
        service.address,
        service.tagged_addresses,
        service.weights or Weights(),
        service.meta or {},
        service.port,
        service.enable_tag_override,
        service.proxy,
        service.connect,
        service.create_index,
        service.modify_index,
        extra=render.instance_extra(node, service),
    )


def _pair(row: ServiceNode) -> tuple[Node, NodeService]:
    node = Node(
        row.id,
        row.node,
        row.address,
        row.datacenter,
        row.tagged_addresses,
        row.node_meta,
        extra=render.extra_of_node(row.extra),
    )
    service = NodeService(
        kind=row.service_kind,
        id=row.service_id,
        service=row.service_name,
        tags=row.service_tags,
        address=row.service_address,
        tagged_addresses=row.service_tagged_addresses,
        meta=row.service_meta,
        port=row.service_port,
        weights=row.service_weights,
        enable_tag_override=row.service_enable_tag_override,
        proxy=row.service_proxy,
        connect=row.service_connect,
        create_index=row.create_index,
        modify_index=row.modify_index,
        extra=render.extra_of_service(row.extra),
    )
    return node, service


NodeAndServices = tuple[Node | None, list[NodeService]]


def _by_id(value: NodeAndServices) -> dict[str, Any]:
    node, services = value
    if node is None:
        return {"node_services": None}
    return {"node_services": NodeServices(node, {service.id: service for service in services})}


def _from_by_id(reply: structs.IndexedNodeServices) -> NodeAndServices:
    found = reply.node_services
    return (None, []) if found is None else (found.node, list((found.services or {}).values()))


def _as_list(value: NodeAndServices) -> dict[str, Any]:
    node, services = value
    return {"node_services": NodeServiceList(node, services or None)}


def _from_list(reply: structs.IndexedNodeServiceList) -> NodeAndServices:
    return reply.node_services.node, reply.node_services.services or []


def _instances(value: list[CheckServiceNode]) -> dict[str, Any]:
    return {"nodes": value or None}


class _SortedRead(ReadRemote[Any, Any]):
    """A read whose answer may be sorted by distance: who asks is in the datacenter that is asked."""

    def request(self, work: Question, datacenter: str) -> dict[str, Any]:
        body = super().request(work, datacenter)
        if body["Source"]["Node"]:
            body["Source"]["Datacenter"] = body["Datacenter"]
        return body


class _ServiceNodes(_SortedRead):
    """Catalog.ServiceNodes, which also finds instances by their address."""

    def accept(self, body: Any) -> Question:
        question = super().accept(body)
        address = body.get(b"ServiceAddress")
        if address:
            question.read, question.args = SERVICES_AT, AddressRequest(str(address, "utf-8", "replace"))
        return question


# --- the methods --------------------------------------------------------------------------------------

KEYS: tuple[Remote, ...] = (
    ReadRemote(
        kv.GET,
        structs.KeyRequest,
        lambda args: {"key": args.key},
        lambda body: KeyRequest(body.key),
        structs.IndexedDirEntries,
        lambda value: {"entries": None if value is None else [value]},
        lambda reply: reply.entries[0] if reply.entries else None,
    ),
    ReadRemote(
        kv.LIST,
        structs.KeyRequest,
        lambda args: {"key": args.key},
        lambda body: KeyRequest(body.key),
        structs.IndexedDirEntries,
        lambda value: {"entries": value or None},
        lambda reply: reply.entries or [],
    ),
    ReadRemote(
        kv.LIST_KEYS,
        structs.KeyListRequest,
        lambda args: {"prefix": args.key, "seperator": args.separator},
        lambda body: KeyRequest(body.prefix, body.seperator),
        structs.IndexedKeyList,
        lambda value: {"keys": value or None},
        lambda reply: reply.keys or [],
    ),
)

CATALOG: tuple[Remote, ...] = (
    _SortedRead(
        catalog.LIST_NODES,
        DCSpecificRequest,
        _nodes_fields,
        _nodes_args,
        structs.IndexedNodes,
        lambda value: {"nodes": value or None},
        lambda reply: reply.nodes or [],
    ),
    ReadRemote(
        catalog.LIST_SERVICES,
        DCSpecificRequest,
        _nodes_fields,
        _nodes_args,
        structs.IndexedServices,
        lambda value: {"services": value},
        lambda reply: reply.services or {},
    ),
    _ServiceNodes(
        catalog.SERVICE_NODES,
        ServiceSpecificRequest,
        _service_fields,
        _service_args,
        structs.IndexedServiceNodes,
        lambda value: {"service_nodes": [_service_node(pair) for pair in value] or None},
        lambda reply: [_pair(row) for row in reply.service_nodes or ()],
    ),
    ReadRemote(
        catalog.NODE_SERVICES,
        NodeSpecificRequest,
        _name_fields,
        _name_args,
        structs.IndexedNodeServices,
        _by_id,
        _from_by_id,
    ),
    ReadRemote(
        NODE_SERVICE_LIST,
        NodeSpecificRequest,
        _name_fields,
        _name_args,
        structs.IndexedNodeServiceList,
        _as_list,
        _from_list,
    ),
    ReadRemote(
        catalog.GATEWAY_SERVICES,
        ServiceSpecificRequest,
        lambda args: {"service_name": args.name},
        lambda body: NameRequest(body.service_name, body.filter),
        structs.IndexedGatewayServices,
        lambda value: {"services": None},
        lambda reply: None,
    ),
)

HEALTH: tuple[Remote, ...] = (
    _SortedRead(
        health.SERVICE_NODES,
        ServiceSpecificRequest,
        _service_fields,
        _service_args,
        structs.IndexedCheckServiceNodes,
        _instances,
        lambda reply: reply.nodes or [],
    ),
    ReadRemote(
        health.NODE_CHECKS,
        NodeSpecificRequest,
        _name_fields,
        _name_args,
        structs.IndexedHealthChecks,
        lambda value: {"health_checks": value or None},
        lambda reply: reply.health_checks or [],
    ),
    _SortedRead(
        health.SERVICE_CHECKS,
        ServiceSpecificRequest,
        _checks_fields,
        _checks_args,
        structs.IndexedHealthChecks,
        lambda value: {"health_checks": value or None},
        lambda reply: reply.health_checks or [],
    ),
    _SortedRead(
        health.CHECKS_IN_STATE,
        structs.ChecksInStateRequest,
        _state_fields,
        _state_args,
        structs.IndexedHealthChecks,
        lambda value: {"health_checks": value or None},
        lambda reply: reply.health_checks or [],
    ),
)

COORDINATES: tuple[Remote, ...] = (
    ReadRemote(
        coordinate.LIST_NODES,
        DCSpecificRequest,
        lambda args: {},
        lambda body: coordinate.NodesRequest(),
        structs.IndexedCoordinates,
        lambda value: {"coordinates": value or None},
        lambda reply: reply.coordinates or [],
    ),
    ReadRemote(
        coordinate.NODE,
        NodeSpecificRequest,
        lambda args: {"node": args.node},
        lambda body: coordinate.NodeRequest(body.node),
        structs.IndexedCoordinates,
        lambda value: {"coordinates": value or None},
        lambda reply: reply.coordinates or [],
    ),
)

READS = (*KEYS, *CATALOG, *HEALTH, *COORDINATES)
