"""What a support case needs to know of a running agent: `/v1/agent/debug/*`, `/v1/agent/metrics/stream`, and
what can be said under the names of Go's profiles, `/debug/pprof/*`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, cast

from core.api.agent_common import refuse
from core.api.blocking import parse_uint
from core.api.endpoint import PLAIN, AgentDoor, Outcome, Reply, Request, Route
from core.codec import gojson
from core.errors import BadRequest

LONGEST = 600  # seconds of a profile
_USUAL = 30
_PROFILES = (
    "goroutine  where every thread and every task is\n"
    "heap       memory, objects and tables, as JSON\n"
    "profile    where time is spent, for ?seconds=30: one stack a line, how often it was seen behind it\n"
)


class DebugDoor(Protocol):
    """How the agent looks into itself. agent/debug.py fulfils it."""

    def stacks(self) -> str:
        """Where every thread and every task is."""

    async def profile(self, seconds: int) -> str:
        """Stacks that were seen for that long, and how often: `thread;outer;inner COUNT` a line."""

    async def runtime(self) -> dict[str, Any]:
        """Memory, objects, descriptors, threads, how late the event loop is, rows of the tables."""

    def metrics(self) -> AsyncIterator[bytes]:
        """The metrics of each interval, one JSON object a line, without end."""


class Inspected(Protocol):
    """An agent that can be looked into."""

    @property
    def debug(self) -> DebugDoor: ...

    @property
    def debug_enabled(self) -> bool:
        """Whether `enable_debug` is on."""


def _debug(agent: AgentDoor, request: Request) -> DebugDoor:
    request.authorizer.require("operator", "", "read")
    return cast(Inspected, agent).debug


def _text(text: str) -> Reply:
    return Reply(body=text.encode("utf-8", "replace"), content_type=PLAIN)


def _seconds(request: Request) -> int:
    given = request.query.get("seconds")
    try:
        seconds = parse_uint(given) if given else _USUAL
    except ValueError as error:
        raise BadRequest(f"Bad request: seconds: {error}") from None
    if not 1 <= seconds <= LONGEST:
        raise BadRequest(f"Bad request: seconds must be between 1 and {LONGEST}")
    return seconds


def stacks(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/debug/stacks`."""
    return _text(_debug(agent, request).stacks())


async def profile(agent: AgentDoor, request: Request) -> Reply:
    """`GET /v1/agent/debug/profile`."""
    return _text(await _debug(agent, request).profile(_seconds(request)))


async def runtime(agent: AgentDoor, request: Request) -> Reply:
    """`GET /v1/agent/debug/runtime`."""
    return Reply(body=gojson.encode(await _debug(agent, request).runtime()))


def stream(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/agent/metrics/stream`: one object an interval, until the client hangs up."""
    request.authorizer.require("agent", agent.node_name, "read")
    return Reply(stream=cast(Inspected, agent).debug.metrics())


async def pprof(agent: AgentDoor, request: Request) -> Reply:
    """`GET /debug/pprof/NAME`: there are no Go profiles here; what is alike is given as text."""
    if not (cast(Inspected, agent).debug_enabled or agent.permissions is not None):
        return refuse(401, "profiles need enable_debug = true, or ACLs and a token with operator:read")
    debug = _debug(agent, request)
    if request.rest == "":
        return _text(_PROFILES)
    if request.rest == "goroutine":
        return _text(debug.stacks())
    if request.rest == "profile":
        return _text(await debug.profile(_seconds(request)))
    if request.rest == "heap":
        return Reply(body=gojson.encode(await debug.runtime()))
    return refuse(404, f"no such profile: ctl is no Go program, it has\n{_PROFILES}")


ROUTES = (
    Route("/v1/agent/debug/stacks", ("GET",), stacks, guarded=True),
    Route("/v1/agent/debug/profile", ("GET",), profile, guarded=True),
    Route("/v1/agent/debug/runtime", ("GET",), runtime, guarded=True),
    Route("/v1/agent/metrics/stream", ("GET",), stream, guarded=True),
    Route("/debug/pprof/", ("GET",), pprof, guarded=True),
)
