"""The catalog: nodes and services, `/v1/catalog/*`, and the questions Catalog.*."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import decode, filter, fragments, permits, render
from core.api.blocking import node_meta, query_options
from core.api.endpoint import (
    OPEN,
    Action,
    AgentDoor,
    Answer,
    Command,
    Errand,
    Outcome,
    QueryOptions,
    Question,
    Read,
    Reply,
    Request,
    Route,
    ServerDoor,
    Write,
)
from core.api.fragments import Fragments
from core.api.status import Nothing
from core.codec import gojson
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.node.distance import nearest_first
from core.store import commands
from core.store.state import Store
from core.store.structs import (
    CheckSpec,
    DeregisterRequest,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
)
from core.store.watch import Watch

NAMELESS_CHECK = "failed inserting check: object missing primary index"  # the words of Consul's store


class _Server(Protocol):
    """What is asked of a server beside the ServerDoor. agent/server.py fulfils it."""

    def other_datacenters(self) -> list[str]:
        """Those that gossip knows, nearest first."""


class NodesRequest(Struct, frozen=True):
    """Which nodes (or services) of the whole catalog: by metadata, and filter; those next to the node
    `near` first."""

    node_meta: tuple[tuple[str, str], ...] = ()
    filter: str = ""
    near: str = ""


class NameRequest(Struct, frozen=True):
    """One node by name or id, or one service by name."""

    name: str
    filter: str = ""


class ServiceRequest(Struct, frozen=True):
    """structs.ServiceSpecificRequest: the instances of a service, or those at one service address; those
    next to the node `near` first."""

    name: str
    tags: tuple[str, ...] = ()
    node_meta: tuple[tuple[str, str], ...] = ()
    filter: str = ""
    connect: bool = False
    ingress: bool = False
    address: str = ""
    near: str = ""


def matches_meta(host: Node | None, wanted: tuple[tuple[str, str], ...]) -> bool:
    """Whether the node has all the metadata asked for."""
    meta = (host.meta if host is not None else None) or {}
    return all(meta.get(key) == value for key, value in wanted)


def _list_nodes(view: Store, args: NodesRequest, watch: Watch | None) -> Answer:
    index, nodes = view.nodes(watch, dict(args.node_meta) or None)
    # Answers in order of distance are not remembered: no watch tells that the nodes have moved.
    ordered = nearest_first(view, args.near, nodes, lambda item: item.node)
    return Answer(index, ordered, remember=not args.near)


def _list_services(view: Store, args: NodesRequest, watch: Watch | None) -> Answer:
    """Names with tags; with a filter the instances, of which `_sift_names` makes names."""
    index, names = view.services(watch, dict(args.node_meta) or None)
    if not args.filter:
        return Answer(index, names)
    view.watch_cell(watch, "nodes")
    pairs = [pair for name in names for pair in view.service_nodes(name)[1]]
    pairs = [pair for pair in pairs if matches_meta(pair[0], args.node_meta)]
    return Answer(max(index, view.index("nodes")), pairs)


def _sift_names(args: NodesRequest, answer: Answer) -> Answer:
    """The names of the instances that the filter lets through (Consul has it since 1.12; before, it took no
    notice of one)."""
    if not args.filter:
        return answer
    keep = filter.compile(args.filter, "service_node")
    tags: dict[str, set[str]] = {}
    for pair in answer.value:
        if keep(pair):
            tags.setdefault(pair[1].service, set()).update(pair[1].tags or ())
    return replace(answer, value={name: sorted(tags[name]) for name in sorted(tags)})


def _service_nodes(view: Store, args: ServiceRequest, watch: Watch | None) -> Answer:
    if args.address:
        pairs = view.services_by_address(args.address, watch)
        return Answer(view.index("services", "nodes"), pairs)
    if args.connect:  # whatever the tags
        index, pairs = view.mesh_nodes(args.name, watch)
    else:
        index, pairs = view.service_nodes(args.name, args.tags, watch)
    if args.node_meta:
        pairs = [pair for pair in pairs if matches_meta(pair[0], args.node_meta)]
    ordered = nearest_first(view, args.near, pairs, lambda pair: pair[0].node)
    return Answer(index, ordered, remember=bool(pairs) and not args.near)


def _node_services(view: Store, args: NameRequest, watch: Watch | None) -> Answer:
    return Answer(*view.node_services(args.name, watch), remember=False)


def sift_services(args: NameRequest, answer: Answer) -> Answer:
    """The node and those of its services that the filter lets through."""
    if not args.filter:
        return answer
    keep = filter.compile(args.filter, "node_service")
    host, services = answer.value
    return replace(answer, value=(host, [item for item in services if keep(item)]))


def _nothing(view: Store, args: NameRequest, watch: Watch | None) -> Answer:
    """No gateway is ever registered while the mesh is off, so none has services."""
    return Answer(view.indexes.get("gateway-services", 0), None, remember=False)


def _prepare_register(view: Store, args: RegisterRequest) -> bytes:
    check_node(args.node, args.id)
    if not args.address and not args.skip_node_update:
        raise Invalid("Must provide address if SkipNodeUpdate is not set")
    service = None if args.service is None else named_service(args.service)
    checks = list(args.checks or [])
    if args.check is not None:
        checks.append(args.check)
    return commands.register(
        replace(
            args, service=service, check=None, checks=[_completed(check, args) for check in checks] or None
        )
    )


def check_node(name: str, node_id: str) -> None:
    """A node has a name, and if it has an id that is a UUID. Invalid."""
    if not name:
        raise Invalid("Must provide node")
    if node_id:
        _check_node_id(node_id)


def named_service(service: NodeService) -> NodeService:
    """A service has a name, and an id, which is the name if none is given; its address is one. Invalid."""
    if not service.service:
        raise Invalid("Must provide service name with ID" if service.id else "Must provide service name")
    if is_any(service.address):
        raise Invalid("Invalid service address")
    return replace(service, id=service.id or service.service)


def is_any(address: str) -> bool:
    """Whether an address means every address (`0.0.0.0`, `::`)."""
    try:
        return ip_address(address).is_unspecified
    except ValueError:
        return False


def _check_node_id(text: str) -> None:
    if len(text) != 36:
        raise Invalid("Bad node ID: uuid string is wrong length")
    try:
        uuid.UUID(text)
    except ValueError:
        raise Invalid("Bad node ID: uuid is improperly formatted") from None


def _completed(check: HealthCheck, args: RegisterRequest) -> HealthCheck:
    """A check with what Consul fills in. Invalid when nothing says what it is called."""
    check_id = check.check_id or check.name
    if not check_id:
        problem = f"failed inserting check: {NAMELESS_CHECK} on node {quote(args.node)}"
        raise Invalid(f"{problem}: a check must have a Name or a CheckID")
    kind = check.type or _kind(check.definition)
    return replace(check, node=check.node or args.node, check_id=check_id, type=kind)


def _kind(spec: CheckSpec) -> str:
    """What kind of check is defined, in the order in which Consul looks."""
    runs = spec.interval > 0
    kinds = {
        "grpc": spec.grpc and runs,
        "http": spec.http and runs,
        "ttl": spec.ttl > 0,
        "tcp": spec.tcp and runs,
        "alias": spec.alias_node or spec.alias_service,
        "docker": spec.script_args and spec.docker_container_id and runs,
        "script": spec.script_args,
    }
    return next((kind for kind, found in kinds.items() if found), "")


def _prepare_deregister(view: Store, args: DeregisterRequest) -> bytes:
    if not args.node:
        raise Invalid("Must provide node")
    return commands.deregister(args)


def _seen_services(authorizer: Authorizer, args: NodesRequest, answer: Answer) -> Answer:
    if args.filter:
        return permits.kept(answer, lambda pair: permits.sees_pair(authorizer, pair))
    seen = {name: tags for name, tags in answer.value.items() if permits.sees_service(authorizer, name)}
    return answer if len(seen) == len(answer.value) else replace(answer, value=seen, filtered=True)


def _seen_instances(authorizer: Authorizer, args: ServiceRequest, answer: Answer) -> Answer:
    if args.connect and not authorizer.allows("service", args.name, "read"):
        return permits.kept(answer, lambda _: False)  # what serves it may have another name
    return permits.kept(answer, lambda pair: permits.sees_pair(authorizer, pair))


LIST_NODES = Read(
    "Catalog.ListNodes", _list_nodes, permits.listing(permits.sees_node), sift=filter.sift("node")
)
LIST_SERVICES = Read("Catalog.ListServices", _list_services, _seen_services, sift=_sift_names)
SERVICE_NODES = Read(
    "Catalog.ServiceNodes", _service_nodes, _seen_instances, sift=filter.sift("service_node")
)
NODE_SERVICES = Read("Catalog.NodeServices", _node_services, permits.node_services, sift=sift_services)
GATEWAY_SERVICES = Read(
    "Catalog.GatewayServices", _nothing, permits.reads("service", lambda args: str(args.name))
)
REGISTER = Write("Catalog.Register", _prepare_register, permits.register)
DEREGISTER = Write("Catalog.Deregister", _prepare_deregister, permits.deregister)


def _question(read: Read, args: Any, options: QueryOptions, render_value: Callable[[Any], Any]) -> Question:
    return Question(
        read, args, options, lambda answer: Reply(body=gojson.encode(render_value(answer.value))), True
    )


def _listing(read: Read, args: Any, options: QueryOptions, each: Fragments[Any]) -> Question:
    """A question whose reply lists the elements of the answer."""

    def body(answer: Answer) -> Reply:
        return Reply(body=fragments.listed(answer.value, each.body))

    return Question(read, args, options, body, True, each)


def near(agent: AgentDoor, request: Request) -> str:
    """The node that `?near` names, `_agent` being the agent's own."""
    wanted = request.query.get("near")
    return agent.node_name if wanted == "_agent" else wanted


def _nodes_request(agent: AgentDoor, request: Request, options: QueryOptions) -> NodesRequest:
    return NodesRequest(tuple(node_meta(request).items()), options.filter, near(agent, request))


def nodes(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/nodes`."""
    options = query_options(request)
    args = _nodes_request(agent, request, options)
    return _listing(LIST_NODES, args, options, fragments.node)


def services(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/services`."""
    options = query_options(request)
    return _question(LIST_SERVICES, _nodes_request(agent, request, options), options, lambda names: names)


def service_request(
    agent: AgentDoor, request: Request, options: QueryOptions, connect: bool = False, ingress: bool = False
) -> ServiceRequest:
    """The arguments of a question about a service's instances. BadRequest without a name."""
    if not request.rest:
        raise BadRequest("Missing service name")
    tags = tuple(tag for tag in request.query.all("tag") if tag)
    meta = tuple(node_meta(request).items())
    close_to = near(agent, request)
    return ServiceRequest(request.rest, tags, meta, options.filter, connect, ingress, near=close_to)


def service(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/service/NAME`."""
    options = query_options(request)
    return _listing(SERVICE_NODES, service_request(agent, request, options), options, fragments.service_node)


def connect(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/connect/NAME`: what takes mesh connections for the service."""
    options = query_options(request)
    args = service_request(agent, request, options, connect=True)
    return _listing(SERVICE_NODES, args, options, fragments.service_node)


def _name_request(request: Request, options: QueryOptions, missing: str) -> NameRequest:
    if not request.rest:
        raise BadRequest(missing)
    return NameRequest(request.rest, options.filter)


def node(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/node/NAME`: the node and its services as a map."""
    options = query_options(request)

    def body(value: tuple[Node | None, list[NodeService]]) -> Any:
        host, items = value
        if host is None:
            return None
        by_id = {item.id: render.node_service(item) for item in sorted(items, key=lambda item: item.id)}
        return {"Node": render.node(host), "Services": by_id}

    return _question(NODE_SERVICES, _name_request(request, options, "Missing node name"), options, body)


def node_services(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/node-services/NAME`: the node and its services as a list."""
    options = query_options(request)

    def body(value: tuple[Node | None, list[NodeService]]) -> Any:
        host, items = value
        if host is None:
            return {"Node": None, "Services": None}
        shown = [render.node_service(item) for item in items]
        return {"Node": render.node(host), "Services": shown if shown or options.filter else None}

    return _question(NODE_SERVICES, _name_request(request, options, "Missing node name"), options, body)


def gateway_services(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/gateway-services/NAME`: null, as Consul answers without a mesh, empty with ACLs."""
    options = query_options(request)
    nothing: list[str] | None = [] if agent.acl.enabled else None
    return _question(
        GATEWAY_SERVICES, _name_request(request, options, "Missing gateway name"), options, lambda _: nothing
    )


async def _datacenters(door: ServerDoor, args: Any) -> list[str]:
    """Every datacenter that has a server: this one first, then the nearest."""
    return [door.datacenter, *cast(_Server, door).other_datacenters()]


LIST_DATACENTERS = Action("Catalog.ListDatacenters", _datacenters, leader=False, permit=OPEN)


def datacenters(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/catalog/datacenters`."""
    return Errand(LIST_DATACENTERS, Nothing(), lambda names: Reply(body=gojson.encode(names)))


def _done(_: object) -> Reply:
    return Reply(body=b"true")


def register(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/catalog/register`."""
    args = decode.catalog_register(request.body)
    args = replace(args, datacenter=args.datacenter or agent.datacenter, token=args.token or request.token)
    return Command(REGISTER, args, _done, args.datacenter)


def deregister(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/catalog/deregister`."""
    args = decode.catalog_deregister(request.body)
    args = replace(args, datacenter=args.datacenter or agent.datacenter, token=args.token or request.token)
    return Command(DEREGISTER, args, _done, args.datacenter)


ROUTES = (
    Route("/v1/catalog/register", ("PUT",), register),
    Route("/v1/catalog/deregister", ("PUT",), deregister),
    Route("/v1/catalog/datacenters", ("GET",), datacenters),
    Route("/v1/catalog/nodes", ("GET",), nodes),
    Route("/v1/catalog/services", ("GET",), services),
    Route("/v1/catalog/service/", ("GET",), service),
    Route("/v1/catalog/connect/", ("GET",), connect),
    Route("/v1/catalog/node/", ("GET",), node),
    Route("/v1/catalog/node-services/", ("GET",), node_services),
    Route("/v1/catalog/gateway-services/", ("GET",), gateway_services),
)
