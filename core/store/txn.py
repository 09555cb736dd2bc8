"""Transactions: operations on keys, nodes, services and checks, all or none (protocols/fsm.md section 4)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from core.codec.duration import quote
from core.errors import Invalid
from core.store import kv, register, sessions
from core.store.catalog import CatalogReads
from core.store.kv import KVReads
from core.store.structs import (
    DirEntry,
    TxnCheckOp,
    TxnError,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnResponse,
    TxnResult,
    TxnServiceOp,
)

KV_WRITES = frozenset({"set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"})


class TxnState(KVReads, CatalogReads):
    """What a transaction needs of the Store."""


def read_only(ops: Sequence[TxnOp]) -> bool:
    """Whether no operation writes; such a transaction needs no log entry."""
    return not any(
        op.session is not None
        or op.intention is not None
        or (op.kv is not None and op.kv.verb in KV_WRITES)
        or any(part is not None and part.verb != "get" for part in (op.node, op.service, op.check))
        for op in ops
    )


def run(state: TxnState, index: int, ops: Sequence[TxnOp]) -> TxnResponse:
    """Do all operations, or say why some failed. When there are errors the caller must roll back."""
    results: list[TxnResult] = []
    errors: list[TxnError] = []
    for number, op in enumerate(ops):
        try:
            results.extend(_one(state, index, op))
        except Invalid as error:
            errors.append(TxnError(number, str(error)))
    return TxnResponse(None, errors) if errors else TxnResponse(results, None)


def _one(state: TxnState, index: int, op: TxnOp) -> list[TxnResult]:
    if op.kv is not None:
        return _kv(state, index, op.kv)
    if op.node is not None:
        return _node(state, index, op.node)
    if op.service is not None:
        return _service(state, index, op.service)
    if op.check is not None:
        return _check(state, index, op.check)
    if op.session is not None:
        if op.session.verb != "delete":
            raise Invalid(f"unknown Session verb {quote(op.session.verb)}")
        sessions.destroy(state, index, op.session.session.id)
        return []
    if op.intention is not None:
        raise Invalid("intentions cannot be changed in a transaction")
    return []


def _kv(state: TxnState, index: int, op: TxnKVOp) -> list[TxnResult]:
    entry, verb = op.dir_ent, op.verb
    key = quote(str(entry.key, "utf-8", "surrogateescape"))
    if verb == "get":
        return [TxnResult(kv=_existing(state, entry.key, f"key {key} doesn't exist"))]
    if verb == "get-tree":
        return [TxnResult(kv=found) for found in state.kv_list(entry.key)[1]]
    if verb == "check-not-exists":
        if entry.key in state.kv:
            raise Invalid(f"key {key} exists")
        return []
    if verb == "delete":
        kv.delete(state, index, entry.key)
        return []
    if verb == "delete-tree":
        kv.delete_tree(state, index, entry.key)
        return []
    if verb == "delete-cas":
        if not kv.delete_cas(state, index, entry.key, entry.modify_index):
            raise Invalid(f"failed to delete key {key}, index is stale")
        return []
    return [TxnResult(kv=replace(_stored(state, index, verb, entry, key), value=None))]


def _stored(state: TxnState, index: int, verb: str, entry: DirEntry, key: str) -> DirEntry:
    """The entry that a verb which answers without the value wrote or looked at."""
    if verb == "check-session":
        found = _existing(state, entry.key, f"failed to check session, key {key} doesn't exist")
        if found.session != entry.session:
            sides = f"current session {quote(found.session)} != {quote(entry.session)}"
            raise Invalid(f"failed session check for key {key}, {sides}")
        return found
    if verb == "check-index":
        found = _existing(state, entry.key, f"failed to check index, key {key} doesn't exist")
        if found.modify_index != entry.modify_index:
            sides = f"current modify index {found.modify_index} != {entry.modify_index}"
            raise Invalid(f"failed index check for key {key}, {sides}")
        return found
    if verb == "set":
        return kv.put(state, index, entry)
    writes = {
        "cas": (kv.cas, "set", "index is stale"),
        "lock": (kv.lock, "lock", "lock is already held"),
        "unlock": (kv.unlock, "unlock", "lock isn't held, or is held by another session"),
    }
    if verb not in writes:
        raise Invalid(f"unknown KV verb {quote(verb)}")
    write, action, reason = writes[verb]
    stored = write(state, index, entry)
    if stored is None:
        raise Invalid(f"failed to {action} key {key}, {reason}")
    return stored


def _existing(state: TxnState, key: bytes, problem: str) -> DirEntry:
    entry = state.kv.rows.get(key)
    if entry is None:
        raise Invalid(problem)
    return entry


def _node(state: TxnState, index: int, op: TxnNodeOp) -> list[TxnResult]:
    node, name = op.node, quote(op.node.node)
    found = (state.get_node_by_id(node.id) if node.id else None) or state.get_node(node.node)
    if op.verb == "get":
        if found is None:
            raise Invalid(f"node {name} doesn't exist")
        return [TxnResult(node=found)]
    if op.verb in ("set", "cas"):
        current = found.modify_index if found else 0
        if op.verb == "cas" and node.modify_index != current:
            raise Invalid(f"failed to set node {name}, index is stale")
        register.set_node(state, index, node)
        return [TxnResult(node=state.get_node(node.node))]
    if op.verb in ("delete", "delete-cas"):
        if op.verb == "delete-cas" and (found is None or node.modify_index != found.modify_index):
            raise Invalid(f"failed to delete node {name}, index is stale")
        register.delete_node(state, index, node.node)
        return []
    raise Invalid(f"unknown Node verb {quote(op.verb)}")


def _service(state: TxnState, index: int, op: TxnServiceOp) -> list[TxnResult]:
    service, name = op.service, f"service {quote(op.service.id)} on node {quote(op.node)}"
    found = state.get_service(op.node, service.id)
    if op.verb == "get":
        if found is None:
            raise Invalid(f"{name} doesn't exist")
        return [TxnResult(service=found)]
    if op.verb in ("set", "cas"):
        if op.verb == "cas" and service.modify_index != (found.modify_index if found else 0):
            raise Invalid(f"failed to set {name}, index is stale")
        register.set_service(state, index, op.node, service)
        return [TxnResult(service=state.get_service(op.node, service.id))]
    if op.verb in ("delete", "delete-cas"):
        if op.verb == "delete-cas" and (found is None or service.modify_index != found.modify_index):
            raise Invalid(f"failed to delete {name}, index is stale")
        register.delete_service(state, index, op.node, service.id)
        return []
    raise Invalid(f"unknown Service verb {quote(op.verb)}")


def _check(state: TxnState, index: int, op: TxnCheckOp) -> list[TxnResult]:
    check, name = op.check, f"check {quote(op.check.check_id)} on node {quote(op.check.node)}"
    found = state.get_check(check.node, check.check_id)
    if op.verb == "get":
        if found is None:
            raise Invalid(f"{name} doesn't exist")
        return [TxnResult(check=found)]
    if op.verb in ("set", "cas"):
        if op.verb == "cas" and check.modify_index != (found.modify_index if found else 0):
            raise Invalid(f"failed to set {name}, index is stale")
        register.set_check(state, index, check)
        return [TxnResult(check=state.get_check(check.node, check.check_id))]
    if op.verb in ("delete", "delete-cas"):
        if op.verb == "delete-cas" and (found is None or check.modify_index != found.modify_index):
            raise Invalid(f"failed to delete {name}, index is stale")
        register.delete_check(state, index, check.node, check.check_id)
        return []
    raise Invalid(f"unknown Check verb {quote(op.verb)}")
