"""Health of this agent's services: `/v1/agent/health/service/{id,name}/*`.

The status of the reply tells it (200 passing, 429 warning, 503 critical or in maintenance, 404
unknown), so that load balancers need not read the body."""

from __future__ import annotations

from collections.abc import Iterable

from core.api import render
from core.api.agent_common import agent_service, refuse
from core.api.endpoint import PLAIN, AgentDoor, Outcome, Reply, Request, Route
from core.codec import duration, gojson
from core.node.registration import NODE_MAINTENANCE, SERVICE_MAINTENANCE
from core.store.structs import CRITICAL, MAINTENANCE, PASSING, WARNING, HealthCheck, NodeService

_CODES = {PASSING: 200, WARNING: 429, CRITICAL: 503, MAINTENANCE: 503}


def aggregated(checks: Iterable[HealthCheck]) -> str:
    """The worst status of checks; maintenance is worse than critical."""
    found = set()
    for check in checks:
        if check.check_id == NODE_MAINTENANCE or check.check_id.startswith(SERVICE_MAINTENANCE):
            return MAINTENANCE
        found.add(check.status)
    return next((status for status in (CRITICAL, WARNING) if status in found), PASSING)


def _wants_text(request: Request) -> bool:
    if request.headers.get("accept", "").startswith("text/plain"):
        return True
    return request.query.get("format") == "text"


def _check(check: HealthCheck) -> render.Json:
    """api.HealthCheck, which always has a definition and, made of a local check, never a type."""
    spec = check.definition
    return {
        **render.health_check(check),
        "ServiceTags": check.service_tags,
        "Type": "",
        "Definition": {
            "Interval": duration.show(spec.interval),
            "Timeout": duration.show(spec.timeout),
            "DeregisterCriticalServiceAfter": duration.show(spec.deregister_critical_service_after),
            "HTTP": spec.http,
            "Header": spec.header,
            "Method": spec.method,
            "Body": spec.body,
            "TLSSkipVerify": spec.tls_skip_verify,
            "TCP": spec.tcp,
        },
    }


def _health(agent: AgentDoor, service: NodeService) -> tuple[str, render.Json]:
    """The status of a service, and api.AgentServiceChecksInfo."""
    checks = agent.local.state.checks_of(service.id, with_node=True)
    status = aggregated(checks)
    return status, {
        "AggregatedStatus": status,
        "Service": agent_service(service, agent.datacenter),
        "Checks": [_check(check) for check in checks],
    }


def _reply(code: int, reason: str, body: bytes, text: bool) -> Reply:
    headers = {"X-Consul-Reason": reason.replace("\r", " ").replace("\n", " ")}
    if text:
        return Reply(code, body, PLAIN, headers)
    return Reply(code, body, headers=headers)


def by_id(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/health/service/id/ID`."""
    if not request.rest:
        return refuse(500, "Bad request: Missing serviceID")
    service = agent.local.state.service(request.rest)
    if service is None:
        reason = f"ServiceId {request.rest} not found"
        unknown = {"AggregatedStatus": CRITICAL, "Service": None, "Checks": None}
        return _reply(404, reason, gojson.encode(reason if _wants_text(request) else unknown), False)
    request.authorizer.require("service", service.service, "read")
    status, info = _health(agent, service)
    if _wants_text(request):
        return _reply(_CODES[status], status, status.encode(), True)
    return _reply(_CODES[status], status, gojson.encode(info), False)


def by_name(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/health/service/name/NAME`: all instances here; the worst one counts."""
    if not request.rest:
        return refuse(500, "Bad request: Missing service Name")
    request.authorizer.require("service", request.rest, "read")
    code, reason = 404, f"ServiceName {request.rest} Not Found"
    infos = []
    for service in agent.local.state.services.values():
        if service.service == request.rest:
            status, info = _health(agent, service)
            infos.append(info)
            if code == 404 or _CODES[status] > code:
                code, reason = _CODES[status], status
    if _wants_text(request):
        return _reply(code, reason, reason.encode("utf-8", "replace"), True)
    return _reply(code, reason, gojson.encode(infos), False)


ROUTES = (
    Route("/v1/agent/health/service/id/", ("GET",), by_id, guarded=True),
    Route("/v1/agent/health/service/name/", ("GET",), by_name, guarded=True),
)
