"""Prepared queries as RPCs: PreparedQuery.*."""

from __future__ import annotations

from typing import Any

from core.api import query, query_execute
from core.api.endpoint import Errand
from core.api.query_execute import Executed, ExecuteRemoteRequest, ExecuteRequest
from core.api.remote_kinds import ActionRemote, ReadRemote, Remote, here, understood
from core.api.remote_structs import DatacenterRead, DCSpecificRequest, QuerySource, ReadReply
from core.codec import wire
from core.node.prepared import Found, Source
from core.store.structs import (
    CheckServiceNode,
    PreparedQuery,
    PreparedQueryRequest,
    QueryDNSOptions,
    go_name,
)


class PreparedQuerySpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """structs.PreparedQuerySpecificRequest."""

    query_id: str = ""


class PreparedQueryExecuteRequest(DatacenterRead, frozen=True, rename=go_name):
    """structs.PreparedQueryExecuteRequest."""

    query_id_or_name: str = ""
    limit: int = 0
    connect: bool = False
    source: QuerySource = QuerySource()
    agent: QuerySource = QuerySource()


class PreparedQueryExecuteRemoteRequest(DatacenterRead, frozen=True, rename=go_name):
    """structs.PreparedQueryExecuteRemoteRequest."""

    query: PreparedQuery = PreparedQuery()
    limit: int = 0
    connect: bool = False


class IndexedPreparedQueries(ReadReply, frozen=True, rename=go_name):
    """structs.IndexedPreparedQueries."""

    queries: list[PreparedQuery] | None = None


class PreparedQueryExplainResponse(ReadReply, frozen=True, rename=go_name):
    """structs.PreparedQueryExplainResponse."""

    query: PreparedQuery = PreparedQuery()


class PreparedQueryExecuteResponse(ReadReply, frozen=True, rename=go_name):
    """structs.PreparedQueryExecuteResponse."""

    service: str = ""
    nodes: list[CheckServiceNode] | None = None
    dns: QueryDNSOptions = QueryDNSOptions()
    datacenter: str = ""
    failovers: int = 0


def _to_source(source: Source) -> QuerySource:
    return QuerySource(source.datacenter, source.segment, source.node, source.ip)


def _from_source(source: QuerySource) -> Source:
    return Source(source.datacenter, source.segment, source.node, source.ip)


def _to_wire(executed: Executed) -> dict[str, Any]:
    found = executed.found
    reply = PreparedQueryExecuteResponse(
        last_contact=executed.last_contact,
        known_leader=executed.known_leader,
        service=found.service,
        nodes=list(found.nodes) or None,
        dns=found.dns,
        datacenter=found.datacenter,
        failovers=found.failovers,
    )
    return wire.to_wire(reply)


def _from_wire(reply: Any) -> Executed:
    came = wire.from_wire(PreparedQueryExecuteResponse, reply)
    found = Found(came.service, came.nodes or (), came.dns, came.datacenter, came.failovers)
    return Executed(found, came.last_contact, came.known_leader)


class _Execute:
    """PreparedQuery.Execute: an errand whose body has the options of a read."""

    rpc = query_execute.EXECUTE.rpc
    body = PreparedQueryExecuteRequest

    def request(self, work: Errand, datacenter: str) -> dict[str, Any]:
        args: ExecuteRequest = work.args
        body = PreparedQueryExecuteRequest(
            token=args.token,
            allow_stale=args.allow_stale,
            require_consistent=args.require_consistent,
            max_stale_duration=args.max_stale,
            datacenter=work.datacenter or datacenter,
            query_id_or_name=args.name,
            limit=args.limit,
            connect=args.connect,
            source=_to_source(args.source),
            agent=_to_source(args.agent),
        )
        return wire.to_wire(body)

    def accept(self, body: Any) -> Errand:
        asked = wire.from_wire(PreparedQueryExecuteRequest, body)
        args = ExecuteRequest(
            asked.query_id_or_name,
            asked.limit,
            asked.connect,
            _from_source(asked.source),
            _from_source(asked.agent),
            asked.token,
            asked.allow_stale,
            asked.require_consistent,
            asked.max_stale_duration,
        )
        return query_execute.errand(args, here(asked.datacenter))

    def reply(self, outcome: Executed) -> Any:
        return _to_wire(outcome)

    def answer(self, reply: Any) -> Any:
        return understood(self.rpc, _from_wire, reply)


class _ExecuteRemote(_Execute):
    """PreparedQuery.ExecuteRemote: the same with the query itself."""

    rpc = query_execute.EXECUTE_REMOTE.rpc
    body = PreparedQueryExecuteRemoteRequest  # type: ignore[assignment]

    def request(self, work: Errand, datacenter: str) -> dict[str, Any]:
        args: ExecuteRemoteRequest = work.args
        body = PreparedQueryExecuteRemoteRequest(
            token=args.token,
            allow_stale=args.allow_stale,
            datacenter=args.datacenter,
            query=args.query,
            limit=args.limit,
            connect=args.connect,
        )
        return wire.to_wire(body)

    def accept(self, body: Any) -> Errand:
        asked = wire.from_wire(PreparedQueryExecuteRemoteRequest, body)
        args = ExecuteRemoteRequest(
            here(asked.datacenter), asked.query, asked.limit, asked.connect, asked.token, asked.allow_stale
        )
        return query_execute.remote_errand(args)


def _queries(found: list[PreparedQuery]) -> dict[str, Any]:
    return {"queries": found or None}


def _found(reply: IndexedPreparedQueries) -> list[PreparedQuery]:
    return reply.queries or []


QUERIES: tuple[Remote, ...] = (
    ActionRemote(
        query.APPLY,
        PreparedQueryRequest,
        lambda args: {name: getattr(args, name) for name in args.__struct_fields__},
        lambda body: body,
        lambda made: made,
        wire.text,
    ),
    ReadRemote(
        query.GET,
        PreparedQuerySpecificRequest,
        lambda args: {"query_id": args.query_id},
        lambda body: query.QueryRequest(body.query_id),
        IndexedPreparedQueries,
        _queries,
        _found,
    ),
    ReadRemote(
        query.LIST,
        DCSpecificRequest,
        lambda args: {},
        lambda body: query.QueryRequest(),
        IndexedPreparedQueries,
        _queries,
        _found,
    ),
    ReadRemote(
        query.EXPLAIN,
        PreparedQueryExecuteRequest,
        lambda args: {
            "query_id_or_name": args.name,
            "source": _to_source(args.source),
            "agent": _to_source(args.agent),
        },
        lambda body: query.ExplainRequest(
            body.query_id_or_name, _from_source(body.source), _from_source(body.agent)
        ),
        PreparedQueryExplainResponse,
        lambda value: {"query": value},
        lambda reply: reply.query,
        indexed=False,
    ),
    _Execute(),
    _ExecuteRemote(),
)
