"""Transactions: `/v1/txn`, and Txn.Apply and Txn.Read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import catalog, decode_txn, kv, permits, render, session
from core.api.blocking import query_options
from core.api.endpoint import (
    AgentDoor,
    Answer,
    Command,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    Settled,
    Write,
)
from core.codec import gojson
from core.codec.duration import quote
from core.errors import Denied, Invalid, TooLarge
from core.store import commands, txn
from core.store.state import Store
from core.store.structs import (
    TxnError,
    TxnKVOp,
    TxnOp,
    TxnRequest,
    TxnResponse,
    TxnResult,
    TxnServiceOp,
)
from core.store.watch import Watch

MAX_OPS = 64
_STORES = ("set", "cas")


class TxnReadRequest(Struct, frozen=True):
    """structs.TxnReadRequest: operations of which none writes."""

    ops: tuple[TxnOp, ...]


def _prepare(view: Store, args: TxnRequest) -> bytes | Settled:
    ops = args.ops or ()
    errors = _wrong(view, ops)
    if errors:
        return Settled(TxnResponse(None, errors))
    return commands.txn(replace(args, ops=[_checked(view, op) for op in ops]))


def _wrong(view: Store, ops: Sequence[TxnOp]) -> list[TxnError]:
    """What is wrong with operations whatever the state is."""
    errors = []
    for number, op in enumerate(ops):
        try:
            _checked(view, op)
        except Invalid as error:
            errors.append(TxnError(number, str(error)))
    return errors


def _checked(view: Store, op: TxnOp) -> TxnOp:
    """What every operation must fulfil before it may be logged. Invalid."""
    if any(part is not None and part.verb == "get" for part in (op.node, op.service, op.check)):
        return op
    if op.kv is not None:
        entry = op.kv.dir_ent
        if not entry.key and op.kv.verb != "delete-tree":
            raise Invalid("Must provide key")
        if op.kv.verb == "lock" and view.hooks.is_delayed(entry.key):
            key = quote(str(entry.key, "utf-8", "surrogateescape"))
            raise Invalid(f"failed to lock key {key} due to lock delay")
        if op.kv.verb == "lock":
            kv.check_session(entry.session)
    elif op.node is not None:
        catalog.check_node(op.node.node.node, op.node.node.id)
    elif op.service is not None:
        return _checked_service(op, op.service)
    elif op.check is not None and not op.check.check.check_id:
        check = op.check.check
        if not check.name and op.check.verb in _STORES:
            raise Invalid(f"{catalog.NAMELESS_CHECK}: a check must have a Name or a CheckID")
        return replace(op, check=replace(op.check, check=replace(check, check_id=check.name)))
    return op


def _checked_service(op: TxnOp, part: TxnServiceOp) -> TxnOp:
    service = part.service
    if not service.service and not service.id:
        if part.verb in _STORES:
            raise Invalid(
                "failed inserting service: object missing primary index: a service must have a name"
            )
        return op
    return replace(op, service=replace(part, service=catalog.named_service(service)))


def _read(view: Store, args: TxnReadRequest, watch: Watch | None) -> Answer:
    errors = _wrong(view, args.ops)
    if errors:
        return Answer(0, TxnResponse(None, errors), remember=False)
    if not txn.read_only(args.ops):  # over RPC anything may be sent, and this is no way into the log
        raise Invalid("Txn.Read takes no operations that write")
    return Answer(0, txn.run(view, 0, args.ops), remember=False)


# --- with ACLs ----------------------------------------------------------------------------------------


def _permit_op(authorizer: Authorizer, view: Store, op: TxnOp) -> None:
    """What an operation needs. Denied. What only reads is filtered, but for looks at one key, whose outcome
    tells of it."""
    if op.kv is not None:
        _permit_key(authorizer, op.kv)
    elif op.node is not None and op.node.verb != "get":
        permits.require_node(authorizer, view, op.node.node.node)
        if op.node.verb in ("set", "cas"):
            permits.require_identity(authorizer, view, op.node.node.node, op.node.node.id)
    elif op.service is not None and op.service.verb != "get":
        service = op.service.service
        authorizer.require("service", service.service, "write")
        stored = view.get_service(op.service.node, service.id or service.service)
        if stored is not None:
            authorizer.require("service", stored.service, "write")
    elif op.check is not None and op.check.verb != "get":
        permits.require_check(authorizer, view, op.check.check)
    elif op.session is not None:
        session.require_session(authorizer, view, op.session.session.id)


def _permit_key(authorizer: Authorizer, op: TxnKVOp) -> None:
    name = permits.key_name(op.dir_ent.key)
    if op.verb == "delete-tree":
        authorizer.require_below("key", name, "write")
    elif op.verb in ("check-session", "check-index"):
        authorizer.require("key", name, "read")
    elif op.verb not in ("get", "get-tree"):
        authorizer.require("key", name, "write")


def _refused(authorizer: Authorizer, view: Store, ops: Sequence[TxnOp]) -> list[TxnError]:
    """What is wrong with operations, rights included. Clients know the two words, and look for them."""
    errors = []
    for number, op in enumerate(ops):
        try:
            _checked(view, op)
            _permit_op(authorizer, view, op)
        except Denied:
            errors.append(TxnError(number, "Permission denied"))
        except Invalid as error:
            errors.append(TxnError(number, str(error)))
    return errors


def _may_apply(authorizer: Authorizer, view: Store, args: TxnRequest) -> Settled | None:
    errors = _refused(authorizer, view, args.ops or ())
    return Settled(TxnResponse(None, errors)) if errors else None


def _sees(authorizer: Authorizer, result: TxnResult) -> bool:
    if result.kv is not None:
        return kv.sees_key(authorizer, result.kv.key)
    if result.node is not None:
        return permits.sees_node(authorizer, result.node)
    if result.service is not None:
        return permits.sees_service(authorizer, result.service.service)
    check = result.check
    if check is None:
        return True
    if check.service_name:
        return permits.sees_service(authorizer, check.service_name)
    return authorizer.allows("node", check.node, "read")


def _shown(authorizer: Authorizer, response: TxnResponse) -> TxnResponse:
    """The response without results that may not be seen."""
    return replace(response, results=[one for one in response.results or () if _sees(authorizer, one)])


def _judged(authorizer: Authorizer, view: Store, args: TxnReadRequest, watch: Watch | None) -> Answer:
    errors = _refused(authorizer, view, args.ops)
    if errors:
        return Answer(0, TxnResponse(None, errors), remember=False)
    answer = _read(view, args, watch)
    answer.value = _shown(authorizer, answer.value)
    return answer


APPLY = Write("Txn.Apply", _prepare, _may_apply, _shown)
READ = Read("Txn.Read", _read, permits.judged, _judged)


def _show(result: TxnResult) -> dict[str, Any]:
    if result.kv is not None:
        return {"KV": render.dir_entry(result.kv)}
    if result.node is not None:
        return {"Node": render.node(result.node)}
    if result.service is not None:
        return {"Service": {**render.node_service(result.service), "Tags": result.service.tags}}
    if result.check is not None:
        return {"Check": {**render.health_check(result.check), "ServiceTags": result.check.service_tags}}
    return {}


def _reply(response: TxnResponse, more: dict[str, Any]) -> Reply:
    errors = response.errors
    body = {
        "Results": None if errors else [_show(result) for result in response.results or ()],
        "Errors": None
        if not errors
        else [{"OpIndex": error.op_index, "What": error.what} for error in errors],
        **more,
    }
    return Reply(409 if errors else 200, gojson.encode(body))


def _answered(answer: Answer) -> Reply:
    meta = {
        "Index": answer.index,
        "LastContact": answer.last_contact,
        "KnownLeader": answer.known_leader,
        "ConsistencyLevel": "",
        "NotModified": False,
    }
    return _reply(answer.value, meta)


def execute(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/txn`: all of it or nothing; 409 says which operations were in the way."""
    limit = agent.txn_max_req_len
    if request.length > limit:
        raise TooLarge(
            f"Request body({request.length} bytes) too large, max size: {limit} bytes. "
            "See https://www.consul.io/docs/agent/options.html#txn_max_req_len."
        )
    ops = decode_txn.operations(request.body, agent.datacenter, agent.kv_max_value_size)
    if len(ops) > MAX_OPS:
        raise TooLarge(f"Transaction contains too many operations ({len(ops)} > {MAX_OPS})")
    if txn.read_only(ops):
        options = query_options(request)
        return Question(READ, TxnReadRequest(tuple(ops)), options, _answered, indexed=False)
    datacenter = request.query.get("dc")
    args = TxnRequest(datacenter or agent.datacenter, ops, request.token)
    return Command(APPLY, args, lambda response: _reply(response, {}), datacenter)


ROUTES = (Route("/v1/txn", ("PUT",), execute, large=True),)
