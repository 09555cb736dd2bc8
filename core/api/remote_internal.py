"""Reads of whole nodes and services, which other agents and user interfaces ask: Internal.*."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import filter, permits
from core.api import remote_structs as structs
from core.api.endpoint import Answer, Read
from core.api.remote_kinds import ReadRemote, Remote
from core.api.remote_structs import DCSpecificRequest, NodeInfo, NodeSpecificRequest
from core.store.state import Store
from core.store.structs import HealthCheck, Node, NodeService
from core.store.watch import Watch

NodeDump = list[tuple[Node, list[NodeService], list[HealthCheck]]]


class DumpRequest(Struct, frozen=True):
    """Everything of all nodes or one, or all services, or those of one kind; and filter."""

    node: str = ""
    kind: str | None = None
    filter: str = ""


def _node_dump(view: Store, args: DumpRequest, watch: Watch | None) -> Answer:
    return Answer(*view.node_dump(args.node, watch))


def _service_dump(view: Store, args: DumpRequest, watch: Watch | None) -> Answer:
    return Answer(*view.service_dump(args.kind, watch))


def _seen_nodes(authorizer: Authorizer, args: DumpRequest, answer: Answer) -> Answer:
    found: NodeDump = answer.value
    seen: NodeDump = [
        (
            node,
            [one for one in services if permits.sees_service(authorizer, one.service)],
            [one for one in checks if permits.sees_service(authorizer, one.service_name)],
        )
        for node, services, checks in found
        if permits.sees_node(authorizer, node)
    ]
    return answer if seen == found else replace(answer, value=seen, filtered=True)


NODE_DUMP = Read("Internal.NodeDump", _node_dump, _seen_nodes)
NODE_INFO = Read("Internal.NodeInfo", _node_dump, _seen_nodes)
SERVICE_DUMP = Read(
    "Internal.ServiceDump",
    _service_dump,
    permits.listing(permits.sees_instance),
    sift=filter.sift("check_service_node"),
)


def _node_infos(value: NodeDump) -> dict[str, Any]:
    infos = [
        NodeInfo(
            node.id,
            node.node,
            node.address,
            node.tagged_addresses,
            node.meta,
            services or None,
            checks or None,
        )
        for node, services, checks in value
    ]
    return {"dump": infos or None}


def _from_node_infos(reply: structs.IndexedNodeDump) -> NodeDump:
    return [
        (
            Node(info.id, info.node, info.address, "", info.tagged_addresses, info.meta),
            info.services or [],
            info.checks or [],
        )
        for info in reply.dump or ()
    ]


INTERNAL: tuple[Remote, ...] = (
    ReadRemote(
        NODE_DUMP,
        DCSpecificRequest,
        lambda args: {},
        lambda body: DumpRequest(),
        structs.IndexedNodeDump,
        _node_infos,
        _from_node_infos,
    ),
    ReadRemote(
        NODE_INFO,
        NodeSpecificRequest,
        lambda args: {"node": args.node},
        lambda body: DumpRequest(node=body.node),
        structs.IndexedNodeDump,
        _node_infos,
        _from_node_infos,
    ),
    ReadRemote(
        SERVICE_DUMP,
        structs.ServiceDumpRequest,
        lambda args: {"use_service_kind": args.kind is not None, "service_kind": args.kind or ""},
        lambda body: DumpRequest(
            kind=body.service_kind if body.use_service_kind else None, filter=body.filter
        ),
        structs.IndexedNodesWithGateways,
        lambda value: {"nodes": value or None, "gateways": []},
        lambda reply: reply.nodes or [],
    ),
)
