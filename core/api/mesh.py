"""Endpoints of the service mesh, which ctl has not: they answer as Consul's do with `connect` disabled.

What of the mesh can be told without one is told: config entries (`config_entry`), federation states that
came with a snapshot or from other servers, and empty lists of gateways and intentions for user interfaces
(`internal_ui`)."""

from __future__ import annotations

from core.api.agent_common import refuse
from core.api.endpoint import AgentDoor, Outcome, Request, Route
from core.errors import Invalid

DISABLED = "Connect must be enabled in order to use this endpoint"
_NO_UI = (
    "ctl serves no web UI; all that one shows is in the HTTP API, and `ctl services`, `ctl nodes` and\n"
    "`ctl kv` show it in a terminal.\n"
)


def disabled(agent: AgentDoor, request: Request) -> Outcome:
    """500, with the text that clients know."""
    raise Invalid(DISABLED)


def no_ui(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /ui/`: 404 in words, for whoever opens it in a browser."""
    return refuse(404, _NO_UI)


ROUTES = (
    Route("/v1/connect/ca/configuration", ("GET", "PUT"), disabled),
    Route("/v1/connect/ca/roots", ("GET",), disabled),
    Route("/v1/connect/intentions", ("GET", "POST"), disabled),
    Route("/v1/connect/intentions/match", ("GET",), disabled),
    Route("/v1/connect/intentions/check", ("GET",), disabled),
    Route("/v1/connect/intentions/exact", ("GET", "PUT", "DELETE"), disabled),
    Route("/v1/connect/intentions/", ("GET", "PUT", "DELETE"), disabled),
    Route("/v1/agent/connect/authorize", ("POST",), disabled),
    Route("/v1/agent/connect/ca/roots", ("GET",), disabled),
    Route("/v1/agent/connect/ca/leaf/", ("GET",), disabled),
    Route("/v1/discovery-chain/", ("GET", "POST"), disabled),
    Route("/ui/", ("GET",), no_ui),
)
