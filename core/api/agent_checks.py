"""Checks of this agent: `/v1/agent/checks`, `/v1/agent/check/*`."""

from __future__ import annotations

from core.acl.access import UNLIMITED, Authorizer
from core.api import decode, permits, render
from core.api.agent_common import done, listing, may_write_check, own_token
from core.api.endpoint import AgentDoor, Handler, Outcome, Reply, Request, Route
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.node import registration
from core.store.structs import CRITICAL, PASSING, WARNING, HealthCheck


def checks(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/checks`: by id."""

    def sees(authorizer: Authorizer, check: HealthCheck) -> bool:
        if check.service_name:
            return permits.sees_service(authorizer, check.service_name)
        return authorizer.allows("node", agent.node_name, "read")

    return listing(request, agent.local.state.checks, sees, "health_check", render.health_check)


async def register(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/check/register`."""
    definition = decode.check_definition(request.body)
    if not definition.name:
        raise BadRequest("Missing check name")
    if definition.status not in registration.STATUSES:
        raise BadRequest("Bad check status")
    problem = registration.check_problem(definition)
    if problem:
        raise BadRequest(f"Invalid check: {problem}")
    service = agent.local.state.service(definition.service_id) if definition.service_id else None
    if definition.service_id and service is None:
        raise Invalid(f"ServiceID {quote(definition.service_id)} does not exist")
    may_write_check(request, agent, service.service if service is not None else "")
    replaced = agent.local.state.check(definition.id or definition.name)
    if replaced is not None:
        may_write_check(request, agent, replaced.service_name)
    await agent.local.add_check(definition, own_token(agent, request))
    return done()


def _may_update(agent: AgentDoor, request: Request) -> None:
    """Denied unless the check with the id may be written. Invalid when there is none: where ACLs are off
    that is for the caller to say."""
    check = agent.local.state.check(request.rest)
    if check is not None:
        may_write_check(request, agent, check.service_name)
    elif request.authorizer is not UNLIMITED:
        raise Invalid(f"Unknown check {quote(request.rest)}")


async def deregister(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/check/deregister/ID`: no error if there is none, as long as ACLs are off."""
    if not request.rest:
        raise Invalid("CheckID missing")
    _may_update(agent, request)
    await agent.local.remove_check(request.rest)
    return done()


def _speak(status: str) -> Handler:
    """`PUT /v1/agent/check/{pass,warn,fail}/ID`."""

    def handler(agent: AgentDoor, request: Request) -> Outcome:
        _may_update(agent, request)
        agent.local.update_ttl_check(request.rest, status, request.query.get("note"))
        return done()

    return handler


def update(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/agent/check/update/ID`."""
    status, output = decode.check_update(request.body)
    if status not in (PASSING, WARNING, CRITICAL):
        raise BadRequest(f"Invalid check status: '{status}'")
    _may_update(agent, request)
    agent.local.update_ttl_check(request.rest, status, output)
    return done()


ROUTES = (
    Route("/v1/agent/checks", ("GET",), checks, guarded=True),
    Route("/v1/agent/check/register", ("PUT",), register, guarded=True),
    Route("/v1/agent/check/deregister/", ("PUT",), deregister, guarded=True),
    Route("/v1/agent/check/pass/", ("PUT",), _speak(PASSING), guarded=True),
    Route("/v1/agent/check/warn/", ("PUT",), _speak(WARNING), guarded=True),
    Route("/v1/agent/check/fail/", ("PUT",), _speak(CRITICAL), guarded=True),
    Route("/v1/agent/check/update/", ("PUT",), update, guarded=True),
)
