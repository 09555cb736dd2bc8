"""Services of this agent: `/v1/agent/services`, `/v1/agent/service/*`."""

from __future__ import annotations

import hashlib

from core.acl.access import UNLIMITED
from core.api import decode, permits
from core.api.agent_common import agent_service, done, flag, judge_anew, listing, own_token, refuse
from core.api.blocking import query_options
from core.api.catalog import is_any
from core.api.endpoint import AgentDoor, Outcome, Reply, Request, Route
from core.codec import gojson
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.node import registration
from core.node.definitions import ServiceDefinition
from core.store.structs import NodeService
from core.store.watch import Watch


def services(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/services`: by id."""
    return listing(
        request,
        agent.local.state.services,
        lambda authorizer, item: permits.sees_service(authorizer, item.service),
        "node_service",
        lambda item: agent_service(item, agent.datacenter),
    )


def content_hash(service: NodeService) -> str:
    """Sixteen hex digits that change when the service does."""
    body = gojson.encode(agent_service(service, ""))
    return hashlib.blake2b(body, digest_size=8).hexdigest()


async def service(agent: AgentDoor, request: Request) -> Reply:
    """`GET /v1/agent/service/ID`: with `hash`, waits while the service is as that hash says."""
    asked = query_options(request).max_query_time
    known = request.query.get("hash")
    waits = bool(known)
    while True:
        watch = Watch() if waits else None
        found = agent.local.state.service(request.rest, watch)
        shown = content_hash(found) if found is not None else ""
        if watch is None or shown != known:
            if watch is not None:
                watch.close()
            break
        waits = await agent.local.wait(watch, min(asked or agent.max_query_time, agent.max_query_time))
        await judge_anew(agent, request)
    if found is None:
        return refuse(404, f"unknown service ID: {request.rest}")
    request.authorizer.require("service", found.service, "read")
    body = gojson.encode(agent_service(found, agent.datacenter, shown))
    return Reply(body=body, headers={"X-Consul-ContentHash": shown})


async def register(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/service/register`."""
    definition = decode.service_definition(request.body)
    if not definition.name:
        raise BadRequest("Missing service name")
    if is_any(definition.address):
        raise BadRequest("Invalid service address")
    problem = registration.weights_problem(definition.weights)
    if problem:
        raise BadRequest(f"Invalid Weights: {problem}")
    problem = registration.metadata_problem(definition.meta)
    if problem:
        raise BadRequest(f"Invalid Service Meta: {problem}")
    for check in definition.checks:
        problem = registration.check_problem(check)
        if problem:
            raise BadRequest(f"Invalid check: {problem}")
    if any(check.status not in registration.STATUSES for check in definition.checks):
        raise BadRequest("Status for checks must 'passing', 'warning', 'critical'")
    _may_register(agent, request, definition)
    replaces = request.query.has("replace-existing-checks")
    replaces = replaces and request.query.get("replace-existing-checks") in ("", "true")
    await agent.local.add_service(definition, replaces, own_token(agent, request))
    return done()


def _may_register(agent: AgentDoor, request: Request, definition: ServiceDefinition) -> None:
    """Denied unless the service may be written, and that which it replaces, and that for which it is a
    proxy, since it may be found as an instance of that."""
    names = [definition.name]
    replaced = agent.local.state.service(definition.id or definition.name)
    if replaced is not None:
        names.append(replaced.service)
    if definition.kind == "connect-proxy" and definition.proxy:
        names.append(str(definition.proxy.get("DestinationServiceName") or ""))
    for name in names:
        permits.require_write(request.authorizer, "service", name)


def _may_update(agent: AgentDoor, request: Request) -> None:
    """Denied unless the service with the id may be written. Invalid when there is none: where ACLs are off
    that is for the caller to say."""
    found = agent.local.state.service(request.rest)
    if found is not None:
        permits.require_write(request.authorizer, "service", found.service)
    elif request.authorizer is not UNLIMITED:
        raise Invalid(f"Unknown service {quote(request.rest)}")


async def deregister(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/service/deregister/ID`: no error if there is none, as long as ACLs are off."""
    if not request.rest:
        raise Invalid("ServiceID missing")
    _may_update(agent, request)
    await agent.local.remove_service(request.rest)
    return done()


async def maintenance(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/service/maintenance/ID`."""
    if not request.rest:
        raise BadRequest("Missing service ID")
    enable = flag(request, "enable")
    _may_update(agent, request)
    if agent.local.state.service(request.rest) is None:
        return refuse(404, f"No service registered with ID {quote(request.rest)}")
    await agent.local.maintain_service(
        request.rest, enable, request.query.get("reason"), own_token(agent, request)
    )
    return done()


ROUTES = (
    Route("/v1/agent/services", ("GET",), services, guarded=True),
    Route("/v1/agent/service/", ("GET",), service, guarded=True),
    Route("/v1/agent/service/register", ("PUT",), register, guarded=True),
    Route("/v1/agent/service/deregister/", ("PUT",), deregister, guarded=True),
    Route("/v1/agent/service/maintenance/", ("PUT",), maintenance, guarded=True),
)
