"""Running the actions that agents name in their configuration: `/v1/ctl/exec/*`, not of Consul.

    PUT /v1/ctl/exec/NAME  {"Nodes": ["web1"], "Args": []}   -> {"ID": "..."}
    GET /v1/ctl/exec/ID                                      -> [{"Node": "web1", "State": "running", ...}]

A remote shell is what break-ins used, so there is none. What can run stands in a file on the node that
runs it (`core/config/actions.py`); a caller says its name. The leader asks for the caller's rights on every
node that is meant: `agent:write` there and `event:write` for `ctl:exec`. Neither the anonymous token nor an
agent's default token counts, whatever its policies: an open API gives nobody anything. Where ACLs are off an
agent refuses, unless `actions_without_acl` says otherwise.

The leader then tells all agents by a gossip event that holds the id only. An agent that is meant asks the
leader what to run (Internal.ExecTake), and tells it what came of it (Internal.ExecReport), with its own
token. Nothing of it is in the KV store, where others could write."""

from __future__ import annotations

from typing import Protocol, cast

import msgspec
from msgspec import Struct, field

from core.acl.access import Authorizer
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
from core.errors import BadRequest, Denied
from core.node.definitions import ACTION_NAME
from core.node.jobs import Jobs, Order, Part
from core.store.structs import go_name

EVENT = "ctl:exec"
MOST_NODES = 10_000
MOST_ARGS = 64 << 10  # bytes of all parameters
_ANONYMOUS = ("", "anonymous")


class _Server(Protocol):
    """What a server has beside ServerDoor."""

    @property
    def jobs(self) -> Jobs: ...

    def now(self) -> float:
        """Monotonic seconds."""


class StartRequest(Struct, frozen=True, rename=go_name):
    """Run an action on some nodes."""

    datacenter: str = ""
    token: str = ""
    action: str = ""
    args: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)


class RunRequest(Struct, frozen=True, rename=go_name):
    """A run; the part that a node has in it."""

    datacenter: str = ""
    token: str = ""
    id: str = ""
    node: str = ""


class ReportRequest(Struct, frozen=True, rename=go_name):
    """What came of a part."""

    datacenter: str = ""
    token: str = ""
    id: str = ""
    part: Part = field(default_factory=Part)


# at the leader


async def _start(server: ServerDoor, args: StartRequest) -> str:
    """The id of the run."""
    here = cast(_Server, server)
    judged = server.permissions is not None
    accessor = await _judged(server, args.token, args.nodes)
    order = Order(server.store.hooks.new_id(), args.action, args.args, judged, accessor)
    here.jobs.create(order, args.nodes, here.now())
    await server.lan.user_event(EVENT, order.id.encode())
    return order.id


async def _judged(server: ServerDoor, token: str, nodes: list[str]) -> str:
    """The accessor of a token that may run actions on these nodes, "" where ACLs are off. Denied."""
    if server.permissions is None:
        return ""
    if token in _ANONYMOUS:
        raise Denied("Permission denied: actions need a token, the anonymous one does not count")
    authorizer = await server.permissions.find(token)
    authorizer.require("event", EVENT, "write")
    for node in nodes:
        authorizer.require("agent", node, "write")
    return authorizer.accessor


async def _results(server: ServerDoor, args: RunRequest) -> list[Part]:
    """How a run stands; nothing when it is not known here."""
    here = cast(_Server, server)
    await _judged(server, args.token, here.jobs.nodes(args.id))
    return here.jobs.parts(args.id, here.now())


async def _take(server: ServerDoor, args: RunRequest) -> Order | None:
    here = cast(_Server, server)
    return here.jobs.take(args.id, args.node, here.now())


async def _report(server: ServerDoor, args: ReportRequest) -> bool:
    here = cast(_Server, server)
    return here.jobs.report(args.id, args.part, here.now())


def _may_take(authorizer: Authorizer, args: RunRequest) -> None:
    authorizer.require("node", args.node, "write")


def _may_report(authorizer: Authorizer, args: ReportRequest) -> None:
    authorizer.require("node", args.part.node, "write")


START = Action("Internal.ExecStart", _start, permit=OPEN)  # they ask themselves: who it is counts, and
RESULTS = Action("Internal.ExecResults", _results, permit=OPEN)  # which nodes have a part
TAKE = Action("Internal.ExecTake", _take, permit=_may_take)
REPORT = Action("Internal.ExecReport", _report, permit=_may_report)


# over HTTP


class _Body(Struct, rename=go_name, forbid_unknown_fields=True):
    nodes: list[str]
    args: list[str] = field(default_factory=list)


def run(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/ctl/exec/NAME` begins, `GET /v1/ctl/exec/ID` tells how it stands."""
    token = _own_token(agent, request)
    datacenter = request.query.get("dc")
    if request.method == "PUT":
        body = _decoded(request)
        start = StartRequest(datacenter or agent.datacenter, token, request.rest, body.args, body.nodes)
        return Errand(START, start, lambda made: Reply(body=gojson.encode({"ID": made})), datacenter, token)

    def shown(parts: list[Part]) -> Reply:
        if not parts:
            return Reply(404, b"no such run: it is over, or another server leads now", TEXT)
        return Reply(body=gojson.encode([msgspec.to_builtins(part) for part in parts]))

    asked = RunRequest(datacenter or agent.datacenter, token, request.rest)
    return Errand(RESULTS, asked, shown, datacenter, token)


def _own_token(agent: AgentDoor, request: Request) -> str:
    """The token that came with the request; the agent's default token is everybody's. Denied."""
    if agent.permissions is None:
        return ""
    authorization = request.headers.get("authorization", "").split()
    given = (
        request.query.get("token")
        or request.headers.get("x-consul-token", "")
        or (authorization[1] if len(authorization) == 2 else "")
    )
    if not given:
        raise Denied("Permission denied: actions need a token of the caller's own")
    return given


def _decoded(request: Request) -> _Body:
    if not ACTION_NAME.fullmatch(request.rest):
        raise BadRequest(f"{request.rest!r} is no name of an action; shell commands cannot be run")
    try:
        body = msgspec.json.decode(request.body, type=_Body)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f'Request decode failed: {error}: expected {{"Nodes": [...], "Args": [...]}}'
        ) from None
    if not body.nodes or len(set(body.nodes)) != len(body.nodes) or not all(body.nodes):
        raise BadRequest("Nodes must name the nodes that are meant, each once")
    if len(body.nodes) > MOST_NODES or sum(map(len, body.args)) > MOST_ARGS:
        raise BadRequest(f"At most {MOST_NODES} nodes and {MOST_ARGS} bytes of parameters")
    if any("\0" in word for word in body.args):
        raise BadRequest("A parameter has a zero byte, which no program can be given")
    return body


ROUTES = (Route("/v1/ctl/exec/", ("GET", "PUT"), run),)
