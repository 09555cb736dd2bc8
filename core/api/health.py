"""Health: checks, and instances with their checks, `/v1/health/*`, and the questions Health.*."""

from __future__ import annotations

from msgspec import Struct

from core.acl.access import Authorizer
from core.api import filter, fragments, permits
from core.api.blocking import node_meta, query_options
from core.api.catalog import (
    NameRequest,
    ServiceRequest,
    matches_meta,
    near,
    service_request,
)
from core.api.endpoint import AgentDoor, Answer, Outcome, Question, Read, Reply, Request, Route
from core.errors import BadRequest
from core.node.distance import nearest_first
from core.store.state import Store
from core.store.structs import PASSING, CheckServiceNode, HealthCheck
from core.store.watch import Watch

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class ChecksRequest(Struct, frozen=True):
    """Checks of a service (`service`) or in a state (`state`), by node metadata, and filter; those next to
    the node `near` first."""

    service: str = ""
    state: str = ""
    node_meta: tuple[tuple[str, str], ...] = ()
    filter: str = ""
    near: str = ""


def is_passing(item: CheckServiceNode) -> bool:
    """Whether every check of the instance and of its node passes."""
    return all(check.status == PASSING for check in item.checks)


def _service_nodes(view: Store, args: ServiceRequest, watch: Watch | None) -> Answer:
    if args.ingress:
        return Answer(view.indexes.get("gateway-services", 0), [], remember=False)
    if args.connect:  # whatever the tags
        index, items = view.check_mesh_nodes(args.name, watch)
    else:
        index, items = view.check_service_nodes(args.name, args.tags, watch)
    if args.node_meta:
        items = [item for item in items if matches_meta(item.node, args.node_meta)]
    ordered = nearest_first(view, args.near, items, lambda item: item.node.node)
    return Answer(index, ordered, remember=bool(items) and not args.near)


def _node_checks(view: Store, args: NameRequest, watch: Watch | None) -> Answer:
    index, checks = view.node_checks(args.name, watch)
    return Answer(index, checks, remember=False)


def _select(
    view: Store, args: ChecksRequest, index: int, checks: list[HealthCheck], remember: bool
) -> Answer:
    if args.node_meta:
        checks = [check for check in checks if matches_meta(view.node(check.node, None)[1], args.node_meta)]
    ordered = nearest_first(view, args.near, checks, lambda check: check.node)
    return Answer(index, ordered, remember=remember and not args.node_meta and not args.near)


def _service_checks(view: Store, args: ChecksRequest, watch: Watch | None) -> Answer:
    return _select(view, args, *view.service_checks(args.service, watch), remember=False)


def _checks_in_state(view: Store, args: ChecksRequest, watch: Watch | None) -> Answer:
    return _select(view, args, *view.checks_in_state(args.state, watch), remember=True)


def _seen_instances(authorizer: Authorizer, args: ServiceRequest, answer: Answer) -> Answer:
    if (args.connect or args.ingress) and not authorizer.allows("service", args.name, "read"):
        return permits.kept(answer, lambda _: False)  # what serves it may have another name
    return permits.kept(answer, lambda item: permits.sees_instance(authorizer, item))


_seen_checks, _sift_checks = permits.listing(permits.sees_check), filter.sift("health_check")
SERVICE_NODES = Read(
    "Health.ServiceNodes", _service_nodes, _seen_instances, sift=filter.sift("check_service_node")
)
NODE_CHECKS = Read("Health.NodeChecks", _node_checks, _seen_checks, sift=_sift_checks)
SERVICE_CHECKS = Read("Health.ServiceChecks", _service_checks, _seen_checks, sift=_sift_checks)
CHECKS_IN_STATE = Read("Health.ChecksInState", _checks_in_state, _seen_checks, sift=_sift_checks)


def _checks(answer: Answer) -> Reply:
    return Reply(body=fragments.listed(answer.value, fragments.health_check.body))


def node(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/node/NODE`."""
    options = query_options(request)
    if not request.rest:
        raise BadRequest("Missing node name")
    return Question(NODE_CHECKS, NameRequest(request.rest, options.filter), options, _checks, True)


def checks(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/checks/SERVICE`."""
    options = query_options(request)
    if not request.rest:
        raise BadRequest("Missing service name")
    meta = tuple(node_meta(request).items())
    args = ChecksRequest(request.rest, "", meta, options.filter, near(agent, request))
    return Question(SERVICE_CHECKS, args, options, _checks, True, fragments.health_check)


def state(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/state/STATE`."""
    options = query_options(request)
    if not request.rest:
        raise BadRequest("Missing check state")
    meta = tuple(node_meta(request).items())
    args = ChecksRequest("", request.rest, meta, options.filter, near(agent, request))
    return Question(CHECKS_IN_STATE, args, options, _checks, True, fragments.health_check)


def _instances(agent: AgentDoor, request: Request, **more: bool) -> Outcome:
    options = query_options(request)
    args = service_request(agent, request, options, **more)
    passing = _passing_only(request)

    def body(answer: Answer) -> Reply:
        if passing is None:
            return Reply(400, b"Invalid value for ?passing", "text/plain; charset=utf-8")
        items: list[CheckServiceNode] = answer.value
        if passing:
            items = [item for item in items if is_passing(item)]
        return Reply(body=fragments.listed(items, fragments.check_service_node))

    return Question(SERVICE_NODES, args, options, body, True)


def _passing_only(request: Request) -> bool | None:
    """Whether `?passing` asks for passing instances only; None when its value is no boolean."""
    if not request.query.has("passing"):
        return False
    value = request.query.get("passing")
    if not value or value in _TRUE:
        return True
    return False if value in _FALSE else None


def service(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/service/NAME`."""
    return _instances(agent, request)


def connect(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/connect/NAME`: what takes mesh connections for the service."""
    return _instances(agent, request, connect=True)


def ingress(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/health/ingress/NAME`: ingress gateways, of which there are none without a mesh."""
    return _instances(agent, request, ingress=True)


ROUTES = (
    Route("/v1/health/node/", ("GET",), node),
    Route("/v1/health/checks/", ("GET",), checks),
    Route("/v1/health/state/", ("GET",), state),
    Route("/v1/health/service/", ("GET",), service),
    Route("/v1/health/connect/", ("GET",), connect),
    Route("/v1/health/ingress/", ("GET",), ingress),
)
