"""Who leads and who votes: `/v1/status/*`; and what answers at all: `/`."""

from __future__ import annotations

from core.api.endpoint import TEXT, AgentDoor, Outcome, Reply, Request, Route
from core.codec import gojson
from core.errors import Unavailable


def _here(agent: AgentDoor, request: Request) -> None:
    wanted = request.query.get("dc")
    if wanted and wanted not in agent.known_datacenters():
        raise Unavailable("No path to datacenter")


def leader(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/status/leader`: the leader's `ip:port`, `""` when there is none."""
    _here(agent, request)
    return Reply(body=gojson.encode(agent.leader_address()))


def peers(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/status/peers`: the voters' addresses."""
    _here(agent, request)
    return Reply(body=gojson.encode(agent.peer_addresses()))


def root(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /`: what this is, for people and for probes."""
    return Reply(body=b"Consul Agent", content_type=TEXT)


ROUTES = (
    Route("/", ("GET",), root),
    Route("/v1/status/leader", ("GET",), leader),
    Route("/v1/status/peers", ("GET",), peers),
)
