"""Prepared queries: `/v1/query*`, and PreparedQuery.Apply, Get, List and Explain. (Executing them is in
`query_execute`.)

Queries without a name or template are known by their id only; whoever has the id may read them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import UNLIMITED, Authorizer
from core.api import query_execute, query_shapes
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    TEXT,
    Action,
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.api.query_execute import NOT_FOUND
from core.codec import gojson
from core.errors import CtlError, Denied, Invalid, NotFound
from core.node import prepared
from core.node.prepared import Source
from core.store import commands
from core.store.state import Store
from core.store.structs import PreparedQuery, PreparedQueryRequest
from core.store.watch import Watch


class QueryRequest(Struct, frozen=True):
    """structs.PreparedQuerySpecificRequest: one query by its id; all of them without one."""

    query_id: str = ""


class ExplainRequest(Struct, frozen=True):
    """structs.PreparedQueryExecuteRequest, as far as explaining goes."""

    name: str
    source: Source = Source()
    agent: Source = Source()


# --- at the servers -----------------------------------------------------------------------------------


def check_id(query_id: str) -> None:
    """Ids of queries are UUIDs. Invalid with the words of Consul's tables."""
    if len(query_id) != 36:
        raise Invalid("failed prepared query lookup: index error: UUID must be 36 characters")


def _get(view: Store, args: QueryRequest, watch: Watch | None) -> Answer:
    check_id(args.query_id)
    index, query = view.query_get(args.query_id, watch)
    if query is None:
        raise NotFound(NOT_FOUND)
    return Answer(index, [query])


def _list(view: Store, args: QueryRequest, watch: Watch | None) -> Answer:
    return Answer(*view.query_list(watch))


def _explain(view: Store, args: ExplainRequest, watch: Watch | None) -> Answer:
    _, query = view.query_resolve(args.name, args.agent.segment, watch)
    if query is None:
        raise NotFound(NOT_FOUND)
    return Answer(0, query)


def has_prefix(query: PreparedQuery) -> bool:
    """Whether rules about names speak of this query."""
    return bool(query.name or query.template.type)


def _may_read(authorizer: Authorizer, query: PreparedQuery) -> bool:
    if authorizer.allows("acl", "", "write"):
        return True
    return has_prefix(query) and authorizer.allows("query", query.name, "read")


def _redacted(authorizer: Authorizer, query: PreparedQuery) -> PreparedQuery:
    """Without its token, unless that may be seen."""
    if not query.token or authorizer.allows("acl", "", "write"):
        return query
    return replace(query, token=prepared.REDACTED)


def _permit_list(authorizer: Authorizer, args: QueryRequest, answer: Answer) -> Answer:
    found = [query for query in answer.value if _may_read(authorizer, query)]
    # Consul does not tell of nameless queries that were left out: their ids are secrets.
    filtered = any(has_prefix(query) and query not in found for query in answer.value)
    return replace(answer, value=[_redacted(authorizer, query) for query in found], filtered=filtered)


def _permit_get(authorizer: Authorizer, args: QueryRequest, answer: Answer) -> Answer:
    query = answer.value[0]
    if has_prefix(query) and not _may_read(authorizer, query):
        authorizer.require("query", query.name, "read")
    return replace(answer, value=[_redacted(authorizer, query)])


def _permit_explain(authorizer: Authorizer, args: ExplainRequest, answer: Answer) -> Answer:
    query = answer.value
    if not _may_read(authorizer, query):
        if has_prefix(query):
            authorizer.require("query", query.name, "read")
        raise Denied("Permission denied: a query without a name is explained to tokens with acl:write only")
    return replace(answer, value=_redacted(authorizer, query))


async def _apply(server: ServerDoor, args: PreparedQueryRequest) -> str:
    """Create, change or delete a query; its id. Everything is checked before anything is written."""
    view, query = server.store, args.query or PreparedQuery()
    if args.op == "create":
        if query.id:
            raise Invalid("ID must be empty when creating a new prepared query")
        query = replace(query, id=view.hooks.new_id())
    judge = UNLIMITED if server.permissions is None else await server.permissions.find(args.token)
    if has_prefix(query):
        judge.require("query", query.name, "write")
    if args.op != "create":
        existing = _existing(view, query.id)
        if has_prefix(existing):
            judge.require("query", existing.name, "write")
    if args.op in ("create", "update"):
        try:
            prepared.validate(query)
        except Invalid as error:
            raise Invalid(f"Invalid prepared query: {error}") from None
    elif args.op != "delete":
        raise Invalid(f"Unknown prepared query operation: {args.op}")
    result = await server.raft.apply(commands.command(commands.PREPARED_QUERY, replace(args, query=query)))
    if isinstance(result, CtlError):
        raise result
    return query.id


def _existing(view: Store, query_id: str) -> PreparedQuery:
    try:
        check_id(query_id)
    except Invalid as error:
        raise Invalid(f"Prepared Query lookup failed: {error}") from None
    query = view.query_get(query_id)[1]
    if query is None:
        raise Invalid(f"Cannot modify non-existent prepared query: '{query_id}'")
    return query


GET = Read("PreparedQuery.Get", _get, _permit_get)
LIST = Read("PreparedQuery.List", _list, _permit_list)
EXPLAIN = Read("PreparedQuery.Explain", _explain, _permit_explain)
APPLY = Action("PreparedQuery.Apply", _apply, permit=OPEN)


# --- over HTTP ----------------------------------------------------------------------------------------


def _listing(read: Read, args: QueryRequest, request: Request) -> Question:
    def body(answer: Answer) -> Reply:
        return Reply(body=gojson.encode([query_shapes.show(query) for query in answer.value]))

    return Question(read, args, query_options(request), body, True, query_shapes.show)


def _change(agent: AgentDoor, request: Request, op: str, query: PreparedQuery) -> Errand:
    datacenter = request.query.get("dc")
    args = PreparedQueryRequest(datacenter or agent.datacenter, op, query, request.token)

    def done(made: str) -> Reply:
        return Reply(body=gojson.encode({"ID": made})) if op == "create" else Reply()

    return Errand(APPLY, args, done, datacenter, request.token)


def general(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/query` makes a query, `GET /v1/query` lists all."""
    if request.method == "POST":
        return _change(agent, request, "create", query_shapes.decode(request.body))
    return _listing(LIST, QueryRequest(), request)


def specific(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/query/ID`, `/v1/query/NAME/execute` and `/v1/query/NAME/explain`."""
    name, slash, what = request.rest.rpartition("/")
    if what in ("execute", "explain"):
        name = name if slash else what  # it is a name as well
        if request.method != "GET":
            return _other_method(request, "GET")
        handler = query_execute.execute if what == "execute" else _explained
        return handler(agent, request, name)
    if request.method == "GET":
        return _listing(GET, QueryRequest(request.rest), request)
    if request.method == "PUT":
        query = query_shapes.decode(request.body) if request.body else PreparedQuery()
        query = replace(query, id=request.rest)
        return _change(agent, request, "update", query)
    if request.method == "DELETE":
        return _change(agent, request, "delete", PreparedQuery(id=request.rest))
    return _other_method(request, "GET,PUT,DELETE")


def _other_method(request: Request, allowed: str) -> Reply:
    """These paths answer for themselves what they take (reference/http.md, "Methods")."""
    if request.method == "OPTIONS":
        return Reply(body=b"{}", headers={"Allow": f"OPTIONS,{allowed}"})
    return Reply(405, f"method {request.method} not allowed".encode(), TEXT, {"Allow": allowed})


def _explained(agent: AgentDoor, request: Request, name: str) -> Question:
    options = query_options(request)

    def body(answer: Answer) -> Reply:
        meta = query_shapes.show_meta(
            answer.last_contact, answer.known_leader, query_execute.consistency(options)
        )
        return Reply(body=gojson.encode({"Query": query_shapes.show(answer.value), **meta}))

    options.min_query_index = 0  # it never waits
    args = ExplainRequest(name, *query_execute.who_asks(agent, request))
    return Question(EXPLAIN, args, options, body, True)


_ALL: tuple[Any, ...] = ("GET", "PUT", "DELETE", "POST", "PATCH", "HEAD", "OPTIONS")
ROUTES = (
    Route("/v1/query", ("GET", "POST"), general),
    Route("/v1/query/", _ALL, specific),
)
