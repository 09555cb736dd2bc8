"""The agent about itself: `/v1/agent/*` but for services, checks and their health, which are beside."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core.acl.access import Access
from core.api import agent_checks, agent_health, agent_services
from core.api.agent_common import done, filtered, flag, judge_anew, own_token, refuse
from core.api.endpoint import TEXT, AgentDoor, LogLines, Outcome, Reply, Request, Route
from core.codec import gojson
from core.errors import ConfigError, Denied
from core.version import CONSUL_VERSION, VERSION


def _require(agent: AgentDoor, request: Request, access: Access) -> None:
    """Denied unless the token may do this to this agent."""
    request.authorizer.require("agent", agent.node_name, access)


def describe(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/self`."""
    _require(agent, request, "read")
    return Reply(body=gojson.encode(agent.self_description()))


def version(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/version`."""
    facts = {
        "SHA": "",
        "BuildDate": "1970-01-01T00:00:01Z",
        "HumanVersion": CONSUL_VERSION,
        "FIPS": "",
        "Ctl": VERSION,
    }
    return Reply(body=gojson.encode(facts))


async def host(agent: AgentDoor, request: Request) -> Reply:
    """`GET /v1/agent/host`."""
    request.authorizer.require("operator", "", "read")
    return Reply(body=gojson.encode(await agent.host_facts()))


def members(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/members`: any value of `wan` asks for the servers of all datacenters."""
    wan = request.query.get("wan") != ""
    segment = request.query.get("segment")
    if segment not in ("", "_all"):
        if wan:
            return refuse(400, "Cannot provide a segment with wan=true")
        return refuse(500, "Network segments are not supported in this version of Consul")
    found = agent.members(wan)
    seen = [one for one in found if request.authorizer.allows("node", one["Name"], "read")]
    return Reply(body=gojson.encode(seen), headers=filtered(request, len(seen) < len(found)))


async def join(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/join/ADDRESS`."""
    _require(agent, request, "write")
    await agent.join(request.rest, request.query.get("wan") != "")
    return done()


async def leave(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/leave`: answers when the cluster knows; then the agent ends. A server without which
    the others could not go on refuses, unless `yes-destroy-quorum` is asked for (design: pains row 13)."""
    _require(agent, request, "write")
    await agent.leave(request.query.has("yes-destroy-quorum"))
    return done()


async def force_leave(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/force-leave/NODE`; members of the WAN pool are called NODE.DATACENTER."""
    request.authorizer.require("operator", "", "write")
    await agent.force_leave(request.rest, request.query.has("prune"), request.query.has("wan"))
    return done()


async def reload(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/reload`: all of it or nothing. Only if something waits for a restart there is a body."""
    _require(agent, request, "write")
    waiting = await agent.reload()
    if not waiting:
        return done()
    lines = [f"needs a restart: {change}\n" for change in waiting]
    return Reply(body="".join(lines).encode(), content_type=TEXT)


async def maintenance(agent: AgentDoor, request: Request) -> Reply:
    """`PUT /v1/agent/maintenance`."""
    enable = flag(request, "enable")
    request.authorizer.require("node", agent.node_name, "write")
    await agent.local.maintain_node(enable, request.query.get("reason"), own_token(agent, request))
    return done()


def metrics(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/metrics`: JSON, or with `format=prometheus` text."""
    _require(agent, request, "read")
    if request.query.get("format") != "prometheus":
        return Reply(body=gojson.encode(agent.metrics.snapshot(agent.wall())))
    if not agent.prometheus_enabled:
        return refuse(415, "Prometheus is not enabled since its retention time is not positive")
    text = agent.metrics.prometheus(agent.wall())
    return Reply(body=text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


def monitor(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/monitor`: the log, until the client hangs up or its token may not read it any more."""
    _require(agent, request, "read")
    level = request.query.get("loglevel") or "INFO"
    try:
        lines = agent.follow_log(level, request.query.has("logjson"))
    except ConfigError:
        return refuse(400, f"Bad request: Unknown log level: {level}")
    return Reply(content_type=TEXT, stream=_follow(agent, request, lines))


async def _follow(agent: AgentDoor, request: Request, lines: LogLines) -> AsyncIterator[bytes]:
    try:
        async for chunk in lines:
            await judge_anew(agent, request)
            _require(agent, request, "read")
            yield chunk
    except Denied:
        pass  # an answer that has begun can only end
    finally:
        lines.close()


ROUTES: tuple[Route, ...] = (
    Route("/v1/agent/self", ("GET",), describe, guarded=True),
    Route("/v1/agent/version", ("GET",), version),
    Route("/v1/agent/host", ("GET",), host, guarded=True),
    Route("/v1/agent/members", ("GET",), members, guarded=True),
    Route("/v1/agent/join/", ("PUT",), join, guarded=True),
    Route("/v1/agent/leave", ("PUT",), leave, guarded=True),
    Route("/v1/agent/force-leave/", ("PUT",), force_leave, guarded=True),
    Route("/v1/agent/reload", ("PUT",), reload, guarded=True),
    Route("/v1/agent/maintenance", ("PUT",), maintenance, guarded=True),
    Route("/v1/agent/metrics", ("GET",), metrics, guarded=True),
    Route("/v1/agent/monitor", ("GET",), monitor, guarded=True),
    *agent_services.ROUTES,
    *agent_checks.ROUTES,
    *agent_health.ROUTES,
)
