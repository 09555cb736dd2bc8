"""Checks of this agent: `/v1/agent/checks`, `/v1/agent/check/*`."""

from __future__ import annotations

from core.api import decode, render
from core.api.agent_common import done, listing
from core.api.endpoint import AgentDoor, Handler, Outcome, Reply, Request, Route
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.node import registration
from core.store.structs import CRITICAL, PASSING, WARNING


def checks(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/checks`: by id."""
    return listing(request, agent.local.state.checks, "health_check", render.health_check)


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
    if definition.service_id and agent.local.state.service(definition.service_id) is None:
        raise Invalid(f"ServiceID {quote(definition.service_id)} does not exist")
    await agent.local.add_check(definition, definition.token or request.token)
    return done()


async def deregister(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/check/deregister/ID`: no error if there is none."""
    if not request.rest:
        raise Invalid("CheckID missing")
    await agent.local.remove_check(request.rest)
    return done()


def _speak(status: str) -> Handler:
    """`PUT /v1/agent/check/{pass,warn,fail}/ID`."""

    def handler(agent: AgentDoor, request: Request) -> Outcome:
        agent.local.update_ttl_check(request.rest, status, request.query.get("note"))
        return done()

    return handler


def update(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/agent/check/update/ID`."""
    status, output = decode.check_update(request.body)
    if status not in (PASSING, WARNING, CRITICAL):
        raise BadRequest(f"Invalid check status: '{status}'")
    agent.local.update_ttl_check(request.rest, status, output)
    return done()


ROUTES = (
    Route("/v1/agent/checks", ("GET",), checks),
    Route("/v1/agent/check/register", ("PUT",), register),
    Route("/v1/agent/check/deregister/", ("PUT",), deregister),
    Route("/v1/agent/check/pass/", ("PUT",), _speak(PASSING)),
    Route("/v1/agent/check/warn/", ("PUT",), _speak(WARNING)),
    Route("/v1/agent/check/fail/", ("PUT",), _speak(CRITICAL)),
    Route("/v1/agent/check/update/", ("PUT",), update),
)
