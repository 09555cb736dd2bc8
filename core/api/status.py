"""Who leads and who takes part: `/v1/status/*` and the errands Status.*; and what answers at all: `/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from msgspec import Struct

from core.api.endpoint import (
    OPEN,
    TEXT,
    Action,
    AgentDoor,
    Errand,
    Outcome,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import gojson
from core.node.autopilot import RaftStats


class Nothing(Struct, frozen=True):
    """A request without arguments."""


class _Raft(Protocol):
    @property
    def leader_address(self) -> str: ...

    def stats(self) -> dict[str, str]: ...


async def _ping(server: ServerDoor, args: Nothing) -> None:
    """It answers: that is all."""


async def _leader(server: ServerDoor, args: Nothing) -> str:
    return cast(_Raft, server.raft).leader_address


async def _peers(server: ServerDoor, args: Nothing) -> list[str]:
    return [one.address for one in server.raft.configuration.servers]


async def _raft_stats(server: ServerDoor, args: Nothing) -> RaftStats:
    stats = cast(_Raft, server.raft).stats()
    return RaftStats(stats["last_contact"], int(stats["last_log_term"]), int(stats["last_log_index"]))


PING = Action("Status.Ping", _ping, leader=False, permit=OPEN)
LEADER = Action("Status.Leader", _leader, leader=False, permit=OPEN)
PEERS = Action("Status.Peers", _peers, leader=False, permit=OPEN)
RAFT_STATS = Action("Status.RaftStats", _raft_stats, leader=False, permit=OPEN)


def leader(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/status/leader`: the leader's `ip:port`, `""` when there is none."""
    return Errand(LEADER, Nothing(), _shown, request.query.get("dc"))


def peers(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/status/peers`: the servers' addresses."""
    return Errand(PEERS, Nothing(), _shown, request.query.get("dc"))


def _shown(found: str | Sequence[str]) -> Reply:
    return Reply(body=gojson.encode(found))


def root(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /`: what this is, for people and for probes."""
    return Reply(body=b"Consul Agent", content_type=TEXT, bare=True)


_ANY = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")
ROUTES = (
    Route("/", _ANY, root),
    Route("/v1/status/leader", ("GET",), leader),
    Route("/v1/status/peers", ("GET",), peers),
)
