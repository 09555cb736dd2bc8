"""Sessions and transactions as RPCs: Session.* and Txn.*."""

from __future__ import annotations

from typing import Any

from core.api import session, txn
from core.api.remote_kinds import ActionRemote, ReadRemote, Remote, WriteRemote
from core.api.remote_structs import (
    DatacenterRead,
    IndexedSessions,
    NodeSpecificRequest,
    ReadReply,
    SessionSpecificRequest,
)
from core.api.session import NodeRequest
from core.api.session import SessionSpecificRequest as OneSession
from core.codec import wire
from core.store.structs import (
    Session,
    SessionRequest,
    TxnError,
    TxnOp,
    TxnRequest,
    TxnResponse,
    TxnResult,
    go_name,
)


class TxnReadRequest(DatacenterRead, frozen=True, rename=go_name):
    """structs.TxnReadRequest."""

    ops: list[TxnOp] | None = None


class TxnReadResponse(ReadReply, frozen=True, rename=go_name):
    """structs.TxnReadResponse."""

    results: list[TxnResult] | None = None
    errors: list[TxnError] | None = None


def _one(args: OneSession) -> dict[str, Any]:
    return {"session_id": args.session_id, "session": args.session_id}


def _asked(body: SessionSpecificRequest) -> OneSession:
    return OneSession(body.session_id or body.session)


def _to_renew(body: SessionSpecificRequest) -> OneSession:
    return OneSession(body.session_id or body.session, body.token)


def _sessions(found: list[Session]) -> dict[str, Any]:
    return {"sessions": found or None}


def _found(reply: IndexedSessions) -> list[Session]:
    return reply.sessions or []


def _renewed(reply: Any) -> session.Renewed:
    found = wire.from_wire(IndexedSessions, reply)
    return session.Renewed(_found(found), found.index)


def _made(result: Any) -> str:
    """The id of a session that was made; destroying one has no result."""
    return result if isinstance(result, str) else ""


def _response(response: TxnResponse) -> dict[str, Any]:
    return {"results": response.results, "errors": response.errors}


COORDINATION: tuple[Remote, ...] = (
    ReadRemote(session.GET, SessionSpecificRequest, _one, _asked, IndexedSessions, _sessions, _found),
    ReadRemote(
        session.LIST,
        SessionSpecificRequest,
        lambda args: {},
        lambda body: NodeRequest(),
        IndexedSessions,
        _sessions,
        _found,
    ),
    ReadRemote(
        session.NODE_SESSIONS,
        NodeSpecificRequest,
        lambda args: {"node": args.node},
        lambda body: NodeRequest(body.node),
        IndexedSessions,
        _sessions,
        _found,
    ),
    WriteRemote(session.APPLY, SessionRequest, _made, wire.text),
    ActionRemote(
        session.RENEW,
        SessionSpecificRequest,
        _one,
        _to_renew,
        lambda found: wire.to_wire(IndexedSessions(index=found.index, sessions=found.sessions or None)),
        _renewed,
    ),
    WriteRemote(txn.APPLY, TxnRequest, wire.to_wire, lambda reply: wire.from_wire(TxnResponse, reply)),
    ReadRemote(
        txn.READ,
        TxnReadRequest,
        lambda args: {"ops": list(args.ops)},
        lambda body: txn.TxnReadRequest(tuple(body.ops or ())),
        TxnReadResponse,
        _response,
        lambda reply: TxnResponse(reply.results, reply.errors),
        indexed=False,
    ),
)
