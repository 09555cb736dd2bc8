"""Endpoints of the service mesh, which ctl has not: they answer as Consul's do with `connect` disabled.

What of the mesh can be told without one is told: config entries (`config_entry`), federation states that
came with a snapshot or from other servers, and empty lists of gateways and intentions for user interfaces
(`internal_ui`)."""

from __future__ import annotations

from core.api.agent_common import refuse
from core.api.endpoint import AgentDoor, Handler, Outcome, Request, Route
from core.codec import gojson
from core.codec.gojson import JsonError
from core.errors import BadRequest, CtlError, Invalid

DISABLED = "Connect must be enabled in order to use this endpoint"
_BODY, _FAILED = "Bad request: Request decode failed", "Failed to decode request body"
_NO_UI = (
    "ctl serves no web UI; all that one shows is in the HTTP API, and `ctl services`, `ctl nodes` and\n"
    "`ctl kv` show it in a terminal.\n"
)


def disabled(agent: AgentDoor, request: Request) -> Outcome:
    """500, with the text that clients know."""
    raise Invalid(DISABLED)


def _checked(*parameters: str, body: str = "", status: type[CtlError] = BadRequest) -> Handler:
    """The same, after what Consul looks at before: parameters that must be there, and in a PUT or POST that
    the body is JSON; `body` begins what is said when it is not."""

    def handler(agent: AgentDoor, request: Request) -> Outcome:
        _require(request, *parameters)
        if body and request.method in ("PUT", "POST"):
            try:
                gojson.decode(request.body)
            except JsonError as error:
                raise status(f"{body}: {error}") from None
        return disabled(agent, request)

    return handler


def _require(request: Request, *parameters: str) -> None:
    for name in parameters:
        if not request.query.has(name):
            raise Invalid(f"required query parameter '{name}' not set")


def _matched(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/connect/intentions/match`."""
    _require(request, "by")
    if request.query.get("by") not in ("source", "destination"):
        raise Invalid("'by' parameter must be one of 'source' or 'destination'")
    _require(request, "name")
    return disabled(agent, request)


def _chain(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/discovery-chain/NAME`."""
    if not request.rest:
        raise BadRequest("Bad request: Missing chain name")
    return _checked(body="Bad request: Request decoding failed")(agent, request)


def no_ui(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /ui/`: 404 in words, for whoever opens it in a browser."""
    return refuse(404, _NO_UI)


ROUTES = (
    Route("/v1/connect/ca/configuration", ("GET", "PUT"), _checked(body=_BODY)),
    Route("/v1/connect/ca/roots", ("GET",), disabled),
    Route("/v1/connect/intentions", ("GET", "POST"), _checked(body=_FAILED, status=Invalid)),
    Route("/v1/connect/intentions/match", ("GET",), _matched),
    Route("/v1/connect/intentions/check", ("GET",), _checked("source", "destination")),
    Route(
        "/v1/connect/intentions/exact",
        ("GET", "PUT", "DELETE"),
        _checked("source", "destination", body=_BODY),
    ),
    Route("/v1/connect/intentions/", ("GET", "PUT", "DELETE"), _checked(body=_BODY)),
    Route("/v1/agent/connect/authorize", ("POST",), _checked(body=_BODY)),
    Route("/v1/agent/connect/ca/roots", ("GET",), disabled),
    Route("/v1/agent/connect/ca/leaf/", ("GET",), disabled),
    Route("/v1/discovery-chain/", ("GET", "POST"), _chain),
    Route("/ui/", ("GET",), no_ui),
)
