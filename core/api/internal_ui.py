"""What user interfaces ask: `/v1/internal/ui/*` and `/v1/internal/federation-state*`. Undocumented by Consul,
but other people's tools are built on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from core.acl.access import Authorizer
from core.api import filter, render
from core.api.agent_common import refuse
from core.api.blocking import query_options
from core.api.catalog import GATEWAY_SERVICES, NameRequest
from core.api.config_entry_graph import protocol_of
from core.api.endpoint import AgentDoor, Answer, Outcome, Question, Read, Reply, Request, Route
from core.api.operator_shapes import moment
from core.api.remote_internal import NODE_DUMP, NODE_INFO, SERVICE_DUMP, DumpRequest
from core.codec import gojson
from core.codec.duration import quote
from core.errors import BadRequest
from core.store.state import Store
from core.store.structs import CheckServiceNode, FederationState, HealthCheck, Node, NodeService
from core.store.watch import Watch

PROXY = "connect-proxy"
_SOURCE = "external-source"  # the metadata that says which system registered a service


class TopologyRequest(Struct, frozen=True):
    """structs.ServiceSpecificRequest: what a service talks to."""

    name: str
    kind: str = ""


class StateRequest(Struct, frozen=True):
    """structs.FederationStateQuery: one datacenter's state, all without a name."""

    datacenter: str = ""


def _topology(view: Store, args: TopologyRequest, watch: Watch | None) -> Answer:
    """Without a mesh nothing is known but the protocol."""
    index, _ = view.config_entry("service-defaults", args.name, watch)
    return Answer(max(index, view.index("services")), protocol_of(view, args.name), remember=False)


def _states(view: Store, args: StateRequest, watch: Watch | None) -> Answer:
    index, found = view.federation_state_list(watch)
    if args.datacenter:
        found = [one for one in found if one.datacenter.lower() == args.datacenter.lower()]
    return Answer(index, found)


def _permit_topology(authorizer: Authorizer, args: TopologyRequest, answer: Answer) -> Answer:
    authorizer.require("service", args.name, "read")
    return answer


def _permit_states(authorizer: Authorizer, args: StateRequest, answer: Answer) -> Answer:
    authorizer.require("operator", "", "read")
    return answer


TOPOLOGY = Read("Internal.ServiceTopology", _topology, _permit_topology)
STATES = Read("FederationState.List", _states, _permit_states)
STATE = Read("FederationState.Get", _states, _permit_states)


# --- nodes -----------------------------------------------------------------------------------------

_NodeRow = tuple[Node, list[NodeService], list[HealthCheck]]


def _node(row: _NodeRow) -> render.Json:
    host, services, checks = row
    return {
        "ID": host.id,
        "Node": host.node,
        "Address": host.address,
        "TaggedAddresses": render.by_key(host.tagged_addresses),
        "Meta": render.by_key(host.meta),
        "Services": [{**render.node_service(service), "Tags": service.tags} for service in services],
        "Checks": [{**render.health_check(check), "ServiceTags": check.service_tags} for check in checks],
    }


def nodes(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/ui/nodes`: every node with its services and checks."""
    options = query_options(request)
    keep = filter.compile(options.filter, "node") if options.filter else None

    def shown(answer: Answer) -> Reply:
        rows = [row for row in answer.value if keep is None or keep(row[0])]
        return Reply(body=gojson.encode([_node(row) for row in rows]))

    each = None if keep is not None else _node
    return Question(NODE_DUMP, DumpRequest(), options, shown, each=each)


def node(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/ui/node/NAME`."""
    name = _named(request, "Missing node name")

    def shown(answer: Answer) -> Reply:
        return Reply(body=gojson.encode(_node(answer.value[0]))) if answer.value else Reply(404)

    return Question(NODE_INFO, DumpRequest(node=name), query_options(request), shown)


# --- services --------------------------------------------------------------------------------------


class _Summary(Struct):
    """A service in one line."""

    kind: str = ""
    datacenter: str = ""
    tags: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    instances: int = 0
    statuses: dict[tuple[str, str], str] = field(default_factory=dict)  # of each check, once


def _summarize(instances: list[CheckServiceNode]) -> tuple[dict[str, _Summary], set[str]]:
    """Each service in one line, and the services that have a proxy."""
    found: dict[str, _Summary] = {}
    proxied: set[str] = set()
    for instance in instances:
        service = instance.service
        if service.kind == PROXY and service.proxy:
            proxied.add(str(service.proxy.get("DestinationServiceName", "")))
        summary = found.setdefault(service.service, _Summary())
        summary.kind, summary.datacenter = service.kind, instance.node.datacenter
        summary.tags.update(service.tags or ())
        summary.nodes.add(instance.node.node)
        for meta in (service.meta or {}, instance.node.meta or {}):
            if meta.get(_SOURCE):
                summary.sources.add(meta[_SOURCE])
        summary.instances += 1
        for check in instance.checks:
            summary.statuses[check.node, check.check_id] = check.status
    return found, proxied


def _listing(answer: Answer) -> Reply:
    found, proxied = _summarize(answer.value)
    return Reply(body=gojson.encode([_line(name, found[name], name in proxied) for name in sorted(found)]))


def _line(name: str, summary: _Summary, proxied: bool) -> render.Json:
    statuses = list(summary.statuses.values())
    return {
        **({"Kind": summary.kind} if summary.kind else {}),
        "Name": name,
        "Datacenter": summary.datacenter,
        "Tags": sorted(summary.tags) or None,
        "Nodes": sorted(summary.nodes) or None,
        "ExternalSources": sorted(summary.sources) or None,
        "InstanceCount": summary.instances,
        "ChecksPassing": statuses.count("passing"),
        "ChecksWarning": statuses.count("warning"),
        "ChecksCritical": statuses.count("critical"),
        "GatewayConfig": {},
        "ConnectedWithProxy": proxied,
        "ConnectedWithGateway": False,
    }


def services(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/ui/services`: every service in one line."""
    options = query_options(request)
    return Question(SERVICE_DUMP, DumpRequest(filter=options.filter), options, _listing)


# --- of a mesh that is not there -------------------------------------------------------------------


def none_of_a_gateway(agent: AgentDoor, request: Request) -> Outcome:
    """Services and intentions of a gateway: there are none."""
    body = b"null" if request.path.startswith("/v1/internal/ui/gateway-services-nodes/") else b"[]"
    name = _named(request, "Missing gateway name")
    return Question(GATEWAY_SERVICES, NameRequest(name), query_options(request), lambda _: Reply(body=body))


def topology(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/ui/service-topology/NAME`."""
    name = _named(request, "Missing service name")
    kind = request.query.get("kind")
    if not request.query.has("kind"):
        return refuse(400, "Missing service kind")
    if kind not in ("", "typical", "ingress-gateway"):
        return refuse(400, f"Unsupported service kind {quote(kind)}")

    def shown(answer: Answer) -> Reply:
        body = {"Protocol": answer.value, "Upstreams": [], "Downstreams": [], "FilteredByACLs": False}
        return Reply(body=gojson.encode(body))

    return Question(TOPOLOGY, TopologyRequest(name, kind), query_options(request), shown)


def no_metrics(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/ui/metrics-proxy/`: there is no metrics server behind it."""
    return refuse(404, "Metrics proxy is not enabled")


def _state(found: FederationState) -> render.Json:
    out: render.Json = {
        "Datacenter": found.datacenter,
        "MeshGateways": found.mesh_gateways or [],
        "UpdatedAt": moment(found.updated_at),
    }
    if found.primary_modify_index:
        out["PrimaryModifyIndex"] = found.primary_modify_index
    return {**out, "CreateIndex": found.create_index, "ModifyIndex": found.modify_index}


def states(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/federation-states`."""
    return _stated(STATES, "", request, lambda found: [_state(one) for one in found])


def gateways(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/federation-states/mesh-gateways`: by datacenter."""
    return _stated(
        STATES, "", request, lambda found: {one.datacenter: one.mesh_gateways or [] for one in found}
    )


def state(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/federation-state/DATACENTER`."""
    name = _named(request, "Missing datacenter name")
    return _stated(STATE, name, request, lambda found: _state(found[0]) if found else None)


def _stated(
    read: Read, name: str, request: Request, show: Callable[[list[FederationState]], Any]
) -> Question:
    def shown(answer: Answer) -> Reply:
        body = show(answer.value)
        return Reply(404) if body is None else Reply(body=gojson.encode(body))

    return Question(read, StateRequest(name), query_options(request), shown)


def _named(request: Request, missing: str) -> str:
    if not request.rest:
        raise BadRequest(f"Bad request: {missing}")
    return request.rest


ROUTES = (
    Route("/v1/internal/ui/nodes", ("GET",), nodes),
    Route("/v1/internal/ui/node/", ("GET",), node),
    Route("/v1/internal/ui/services", ("GET",), services),
    Route("/v1/internal/ui/gateway-services-nodes/", ("GET",), none_of_a_gateway),
    Route("/v1/internal/ui/gateway-intentions/", ("GET",), none_of_a_gateway),
    Route("/v1/internal/ui/service-topology/", ("GET",), topology),
    Route("/v1/internal/ui/metrics-proxy/", ("GET",), no_metrics),
    Route("/v1/internal/federation-states", ("GET",), states),
    Route("/v1/internal/federation-states/mesh-gateways", ("GET",), gateways),
    Route("/v1/internal/federation-state/", ("GET",), state),
)
