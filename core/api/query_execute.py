"""Executing prepared queries: PreparedQuery.Execute and ExecuteRemote, `/v1/query/NAME/execute`, DNS.

The server that is asked looks into its own datacenter, and has others ask in theirs when it finds nothing.
What is found is what the query's token may see, or that of who asks when the query has none."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Any, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import UNLIMITED, Authorizer
from core.api import query_shapes
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    Action,
    AgentDoor,
    Errand,
    Permissions,
    QueryOptions,
    RaftDoor,
    Reply,
    Request,
    ServerDoor,
)
from core.api.permits import sees_instance
from core.api.remote_kinds import unrendered
from core.codec import duration, gojson
from core.errors import CtlError, Invalid, NotFound
from core.node import prepared
from core.node.abroad import translated
from core.node.prepared import Found, Source
from core.store.state import Store
from core.store.structs import PreparedQuery

NOT_FOUND = "Query not found"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class ExecuteRequest(Struct, frozen=True):
    """structs.PreparedQueryExecuteRequest. `source` is the client, `agent` the agent that it asked."""

    name: str
    limit: int = 0
    connect: bool = False
    source: Source = Source()
    agent: Source = Source()
    token: str = ""
    allow_stale: bool = False
    require_consistent: bool = False
    max_stale: int = 0  # ns


class ExecuteRemoteRequest(Struct, frozen=True):
    """structs.PreparedQueryExecuteRemoteRequest: a query of another datacenter, template or not, that is to
    be looked for in this one."""

    datacenter: str
    query: PreparedQuery
    limit: int = 0
    connect: bool = False
    token: str = ""
    allow_stale: bool = False


class Executed(Struct, frozen=True):
    """What was found, and how the server that looked stands to the leader."""

    found: Found
    last_contact: int = 0  # ns
    known_leader: bool = True
    filtered: bool = False


class _Raft(RaftDoor, Protocol):
    def contact_age(self) -> int: ...

    async def verify_leader(self) -> None: ...


class _Server(Protocol):
    """What executing asks of a server beside the ServerDoor. agent/server.py fulfils it."""

    @property
    def datacenter(self) -> str: ...

    @property
    def store(self) -> Store: ...

    @property
    def raft(self) -> _Raft: ...

    @property
    def permissions(self) -> Permissions | None: ...

    @property
    def chance(self) -> Random: ...

    def other_datacenters(self) -> Sequence[str]:
        """Those that are known, nearest first."""

    async def run(self, errand: Errand) -> Any:
        """Have an action done where its datacenter is. Raises CtlError."""

    def failed_over(self, query: str, datacenter: str, error: CtlError) -> None:
        """Note that a datacenter could not be asked."""


# --- at the servers -----------------------------------------------------------------------------------


async def _execute(door: ServerDoor, args: ExecuteRequest) -> Executed:
    server = cast(_Server, door)
    if args.require_consistent:
        await server.raft.verify_leader()
    contact, known = _standing(server)
    if args.allow_stale and args.max_stale and contact > args.max_stale:
        fresh = replace(args, allow_stale=False)
        return cast(Executed, await server.run(errand(fresh, server.datacenter)))
    _, query = server.store.query_resolve(args.name, args.agent.segment)
    if query is None:
        raise NotFound(NOT_FOUND)
    judge = await _judge(server, query, args.token)
    everything = prepared.instances(server.store, query, args.connect)
    seen = [item for item in everything if sees_instance(judge, item)]
    nodes = prepared.ordered(
        server.store, query, seen, args.source, args.agent, server.datacenter, server.chance
    )
    found = Found(query.service.service, prepared.limited(nodes, args.limit), query.dns, server.datacenter)
    # As everywhere, those without a token are not told.
    filtered = bool(args.token) and len(seen) < len(everything)
    if not nodes:
        found = await _fail_over(server, query, args, found)
    return Executed(found, contact, known, filtered)


async def _execute_remote(door: ServerDoor, args: ExecuteRemoteRequest) -> Executed:
    """Whoever asks is far away from all that is here, so the order is random."""
    server = cast(_Server, door)
    query = args.query
    judge = await _judge(server, query, args.token)
    everything = prepared.instances(server.store, query, args.connect)
    seen = [item for item in everything if sees_instance(judge, item)]
    server.chance.shuffle(seen)
    found = Found(query.service.service, prepared.limited(seen, args.limit), query.dns, server.datacenter)
    return Executed(found, *_standing(server), filtered=bool(args.token) and len(seen) < len(everything))


async def _fail_over(server: _Server, query: PreparedQuery, args: ExecuteRequest, found: Found) -> Found:
    """Ask the other datacenters in turn until one has something."""
    tried = 0
    for datacenter in prepared.fallbacks(query, server.other_datacenters()):
        tried += 1
        remote = ExecuteRemoteRequest(
            datacenter, query, args.limit, args.connect, args.token, args.allow_stale
        )
        action = _action(EXECUTE_REMOTE, args.allow_stale)
        try:
            there: Executed = await server.run(Errand(action, remote, unrendered, datacenter, args.token))
        except CtlError as error:
            server.failed_over(query.name or query.id, datacenter, error)
            continue
        found = there.found
        if found.nodes:
            break
    return replace(found, failovers=tried)


def _standing(server: _Server) -> tuple[int, bool]:
    """How long ago this server heard of the leader, in ns, and whether there is one."""
    raft = server.raft
    return 0 if raft.is_leader else raft.contact_age(), bool(raft.leader_id)


async def _judge(server: _Server, query: PreparedQuery, token: str) -> Authorizer:
    if server.permissions is None:
        return UNLIMITED
    return await server.permissions.find(query.token or token)


EXECUTE = Action("PreparedQuery.Execute", _execute, permit=OPEN)
EXECUTE_REMOTE = Action("PreparedQuery.ExecuteRemote", _execute_remote, permit=OPEN)


def _action(action: Action, allow_stale: bool) -> Action:
    """Any server may answer when the answer may be stale."""
    return replace(action, leader=False) if allow_stale else action


# --- for those who ask --------------------------------------------------------------------------------


def errand(args: ExecuteRequest, datacenter: str = "", render: Any = unrendered) -> Errand:
    """Have a query executed in a datacenter ("": our own). The result is an Executed."""
    return Errand(_action(EXECUTE, args.allow_stale), args, render, datacenter, args.token)


def remote_errand(args: ExecuteRemoteRequest) -> Errand:
    """Have a query of another datacenter looked for."""
    return Errand(_action(EXECUTE_REMOTE, args.allow_stale), args, unrendered, args.datacenter, args.token)


def consistency(options: QueryOptions) -> str:
    """How a read was answered, in Consul's word."""
    if options.allow_stale:
        return "stale"
    return "consistent" if options.require_consistent else "leader"


def execute(agent: AgentDoor, request: Request, name: str) -> Errand:
    """`GET /v1/query/NAME/execute`: by name or id. With `?cached` any server may do it. It is done anew each
    time: Consul would give the first result again for days, whatever became of the instances."""
    options = query_options(request)
    source, own = who_asks(agent, request)
    args = ExecuteRequest(
        name=name,
        limit=_limit(request.query.get("limit")),
        connect=_connect(request.query.get("connect")),
        source=source,
        agent=own,
        token=request.token,
        allow_stale=options.allow_stale or options.use_cache,
        require_consistent=options.require_consistent,
        max_stale=options.max_stale_duration,
    )
    mode = consistency(options)

    def render(executed: Executed) -> Reply:
        found = executed.found
        if agent.translate_wan_addrs and found.datacenter != agent.datacenter:
            found = replace(found, nodes=translated(list(found.nodes)))
        meta = query_shapes.show_meta(executed.last_contact, executed.known_leader, mode)
        headers = {
            "X-Consul-KnownLeader": "true" if executed.known_leader else "false",
            "X-Consul-LastContact": str(executed.last_contact // duration.MILLISECOND),
            "X-Consul-Effective-Consistency": mode,
        }
        if options.use_cache:
            headers["X-Cache"] = "MISS"
        if executed.filtered:
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        body = gojson.encode({**query_shapes.show_found(found), **meta})
        return Reply(body=body, headers=headers, index=1)

    return errand(args, options.datacenter, render)


def _limit(text: str) -> int:
    """How many instances are wanted, 0 for all. Invalid with Go's text."""
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise Invalid(f"Bad limit: strconv.Atoi: parsing {duration.quote(text)}: invalid syntax")
    if len(digits) > 18:
        raise Invalid(f"Bad limit: strconv.Atoi: parsing {duration.quote(text)}: value out of range")
    return int(text)


def _connect(text: str) -> bool:
    if text and text not in _TRUE and text not in _FALSE:
        quoted = duration.quote(text)
        raise Invalid(f"Error parsing 'connect' value: strconv.ParseBool: parsing {quoted}: invalid syntax")
    return text in _TRUE


def who_asks(agent: AgentDoor, request: Request) -> tuple[Source, Source]:
    """The client, as `?near` and the connection tell it, and the agent that it asks."""
    node = request.query.get("near")
    source = Source(
        datacenter=request.query.get("dc") or agent.datacenter,
        node=agent.node_name if node == prepared.AGENT else node,
        ip=_client(request.headers.get("x-forwarded-for", ""), request.remote),
    )
    return source, Source(agent.datacenter, node=agent.node_name)


def _client(forwarded: str, remote: str) -> str:
    """The client's address: what a proxy says of it, else the connection's other end."""
    for text in (forwarded.partition(",")[0].strip(), remote.partition("%")[0]):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        return str(mapped or address)
    return ""
