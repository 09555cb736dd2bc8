"""Sessions: `/v1/session/*`, and the questions and commands Session.*."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import decode, permits
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    TEXT,
    Action,
    AgentDoor,
    Answer,
    Command,
    Errand,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    ServerDoor,
    Write,
)
from core.codec import duration, gojson
from core.errors import BadRequest, Invalid
from core.store import commands
from core.store.state import Store
from core.store.structs import Session, SessionRequest
from core.store.watch import Watch

MIN_TTL = 10 * duration.SECOND
MAX_TTL = 24 * duration.HOUR
_ALIVE = ["serfHealth"]
_DEFAULT = Session(lock_delay=15 * duration.SECOND, behavior="release", node_checks=_ALIVE, checks=_ALIVE)


class SessionSpecificRequest(Struct, frozen=True):
    """structs.SessionSpecificRequest: one session."""

    session_id: str
    token: str = ""  # of a renewal


class NodeRequest(Struct, frozen=True):
    """structs.NodeSpecificRequest: the sessions of a node; all of them without a name."""

    node: str = ""


def _check_id(session_id: str) -> None:
    if len(session_id) != 36:
        raise Invalid("failed session lookup: index error: UUID must be 36 characters")


def _get(view: Store, args: SessionSpecificRequest, watch: Watch | None) -> Answer:
    _check_id(args.session_id)
    index, session = view.session_get(args.session_id, watch)
    return Answer(index, [] if session is None else [session])


def _list(view: Store, args: NodeRequest, watch: Watch | None) -> Answer:
    return Answer(*view.session_list(watch))


def _node_sessions(view: Store, args: NodeRequest, watch: Watch | None) -> Answer:
    return Answer(*view.node_sessions(args.node, watch))


def _prepare(view: Store, args: SessionRequest) -> bytes:
    session = args.session
    if args.op == "destroy":
        if not session.id:
            raise Invalid("Must provide ID")
        _check_id(session.id)
        return commands.session(args)
    if args.op != "create":
        raise Invalid(f"Invalid session operation: {args.op}, must be create or destroy")
    if not session.node:
        raise Invalid("Must provide Node")
    if session.behavior not in ("", "release", "delete"):
        raise Invalid(f"Invalid Behavior setting '{session.behavior}'")
    if session.ttl:
        ttl_of(session)
    made = replace(session, id=view.hooks.new_id(), behavior=session.behavior or "release")
    return commands.session(replace(args, session=made))


def ttl_of(session: Session) -> int:
    """The TTL in ns, 0 when there is none. Invalid when it is beyond its bounds."""
    if not session.ttl:
        return 0
    try:
        ttl = duration.parse(session.ttl)
    except ValueError as error:
        raise Invalid(f"Session TTL '{session.ttl}' invalid: {error}") from None
    if ttl and not MIN_TTL <= ttl <= MAX_TTL:
        raise Invalid(f"Invalid Session TTL '{ttl}', must be between [10s=24h0m0s]")
    return ttl


class Renewed(Struct, frozen=True):
    """The session that was renewed, none if it is gone, and the index of the table."""

    sessions: list[Session]
    index: int


async def _renew(server: ServerDoor, args: SessionSpecificRequest) -> Renewed:
    _check_id(args.session_id)
    index, session = server.store.session_get(args.session_id)
    if session is not None:
        if server.permissions is not None:
            authorizer = await server.permissions.find(args.token)
            authorizer.require("session", session.node, "write")
        server.renew_session(session)
    return Renewed([] if session is None else [session], index)


def _may_apply(authorizer: Authorizer, view: Store, args: SessionRequest) -> None:
    session = args.session
    if args.op == "destroy" and session.id:
        require_session(authorizer, view, session.id)
    elif args.op == "create" and session.node:
        authorizer.require("session", session.node, "write")


def require_session(authorizer: Authorizer, view: Store, session_id: str) -> None:
    """Denied unless the sessions of the node that this one belongs to may be written."""
    try:
        _check_id(session_id)
    except Invalid as error:
        raise Invalid(f"Session lookup failed: {error}") from None
    found = view.session_get(session_id)[1]
    if found is not None:
        authorizer.require("session", found.node, "write")


def _sees(authorizer: Authorizer, session: Session) -> bool:
    return authorizer.allows("session", session.node, "read")


GET = Read("Session.Get", _get, permits.listing(_sees))
LIST = Read("Session.List", _list, permits.listing(_sees))
NODE_SESSIONS = Read("Session.NodeSessions", _node_sessions, permits.listing(_sees))
APPLY = Write("Session.Apply", _prepare, _may_apply)
RENEW = Action("Session.Renew", _renew, permit=OPEN)  # it asks itself, knowing the node


def _show(session: Session) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ID": session.id,
        "Name": session.name,
        "Node": session.node,
        "LockDelay": session.lock_delay,
        "Behavior": session.behavior,
        "TTL": session.ttl,
        "NodeChecks": session.node_checks,
        "ServiceChecks": (
            None
            if session.service_checks is None
            else [{"ID": check.id, "Namespace": check.namespace} for check in session.service_checks]
        ),
    }
    if session.checks:
        shown["Checks"] = session.checks
    return {**shown, "CreateIndex": session.create_index, "ModifyIndex": session.modify_index}


def _listing(read: Read, args: Any, request: Request) -> Question:
    def body(answer: Answer) -> Reply:
        return Reply(body=gojson.encode([_show(session) for session in answer.value]))

    return Question(read, args, query_options(request), body, each=_show)


def _named(request: Request, missing: str) -> str:
    if not request.rest:
        raise BadRequest(missing)
    return request.rest


def create(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/session/create`: what the body does not say has defaults."""
    default = replace(_DEFAULT, node=agent.node_name)
    session = _without_doubles(decode.session(request.body, default) if request.body else default)
    datacenter = request.query.get("dc")
    args = SessionRequest(datacenter or agent.datacenter, "create", session, request.token)
    return Command(APPLY, args, lambda made: Reply(body=gojson.encode({"ID": made})), datacenter)


def _without_doubles(session: Session) -> Session:
    """`Checks` is the old name of `NodeChecks`: who says none under the old one means none, and who says
    nothing under it, or none under the new one, does not mean it."""
    if not session.checks:
        return replace(session, checks=None, node_checks=[])
    if session.checks == _ALIVE or not session.node_checks:
        return replace(session, checks=None)
    return session


def destroy(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/session/destroy/ID`: also of one that is gone."""
    session = Session(id=_named(request, "Missing session"))
    datacenter = request.query.get("dc")
    args = SessionRequest(datacenter or agent.datacenter, "destroy", session, request.token)
    return Command(APPLY, args, lambda _: Reply(body=b"true"), datacenter)


def renew(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/session/renew/ID`."""
    session_id = _named(request, "Missing session")

    def renewed(found: Renewed) -> Reply:
        if not found.sessions:
            return Reply(404, f"Session id '{session_id}' not found".encode(), TEXT)
        return Reply(body=gojson.encode([_show(session) for session in found.sessions]))

    args = SessionSpecificRequest(session_id, request.token)
    return Errand(RENEW, args, renewed, request.query.get("dc"), request.token)


def info(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/session/info/ID`."""
    query_options(request)  # what is wrong with those is told first
    return _listing(GET, SessionSpecificRequest(_named(request, "Missing session")), request)


def node(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/session/node/NAME`."""
    query_options(request)
    return _listing(NODE_SESSIONS, NodeRequest(_named(request, "Missing node name")), request)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/session/list`."""
    return _listing(LIST, NodeRequest(), request)


ROUTES = (
    Route("/v1/session/create", ("PUT",), create),
    Route("/v1/session/destroy/", ("PUT",), destroy),
    Route("/v1/session/renew/", ("PUT",), renew),
    Route("/v1/session/info/", ("GET",), info),
    Route("/v1/session/node/", ("GET",), node),
    Route("/v1/session/list", ("GET",), listed),
)
