"""The whole state as an archive, and back: `/v1/snapshot` (protocols/snapshot.md section 1).

An archive is no answer of the store and no command for the log: it streams, over a kind of connection
of its own (protocols/rpc.md section 6). So the agent offers it by a door."""

from __future__ import annotations

from core.api.endpoint import AgentDoor, Outcome, Reply, Request, Route
from core.errors import BadRequest, TooLarge

_GZIP = "application/x-gzip"


def save(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/snapshot`: the archive. `PUT`: restore the one in the body."""
    if request.method == "PUT":
        return _restore(agent, request)
    return _save(agent, request)


async def _save(agent: AgentDoor, request: Request) -> Reply:
    query = request.query
    if query.has("stale") and query.has("consistent"):
        raise BadRequest("Cannot specify ?stale with ?consistent, conflicting semantics.")
    saved = await agent.snapshots.save(query.get("dc"), query.has("stale"), request.token)
    headers = {
        "X-Consul-Index": str(max(saved.index, 1)),
        "X-Consul-KnownLeader": "true" if saved.known_leader else "false",
        "X-Consul-LastContact": str(saved.last_contact // 1_000_000),
    }
    return Reply(200, None, _GZIP, headers, stream=saved.stream)


async def _restore(agent: AgentDoor, request: Request) -> Reply:
    await agent.snapshots.may_restore(request.query.get("dc"), request.token)
    if request.length > len(request.body):
        raise TooLarge(f"the archive has {request.length} bytes, more than this agent takes at once")
    await agent.snapshots.restore(request.body, request.query.get("dc"), request.token)
    return Reply(200)


ROUTES = (Route("/v1/snapshot", ("GET", "PUT"), save, large=True),)
