"""The write door: a committed log entry changes the state here and nowhere else.

`apply` decodes, finds the command's function in `COMMANDS`, runs it, and fires the watches when all is
done. A command that fails leaves no trace: its changes are taken back and the error is its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import CtlError, Invalid
from core.store import acl, commands, kv, mesh, operator, queries, register, sessions, txn
from core.store import acl_structs as shapes
from core.store.state import Store
from core.store.structs import (
    AutopilotSetConfigRequest,
    Coordinate,
    DeregisterRequest,
    FederationState,
    PreparedQuery,
    PreparedQueryRequest,
    RegisterRequest,
    SessionRequest,
    SystemMetadataEntry,
    TombstoneRequest,
    TxnRequest,
    TxnResponse,
)

Handler = Callable[[Store, int, Any], object]
COMMANDS: dict[int, Handler] = {}


class UnknownCommand(CtlError):
    """A committed command that this version does not know and may not skip. Going on would let the
    state differ from the other servers'."""


class CorruptCommand(CtlError):
    """A committed command whose bytes cannot be decoded."""


def handles(kind: int) -> Callable[[Handler], Handler]:
    """Register a function for a command byte. It gets (store, index, decoded msgpack value)."""

    def add(handler: Handler) -> Handler:
        if kind in COMMANDS:
            raise ValueError(f"command {kind} has a handler already")
        COMMANDS[kind] = handler
        return handler

    return add


def apply(store: Store, index: int, data: bytes) -> object:
    """Apply the log entry `data` at raft `index`. The result is what the caller of the command gets:
    None, bool, int, str, a TxnResponse, or an Invalid (returned, not raised) when it was refused.
    UnknownCommand and CorruptCommand are raised: the server must stop."""
    if not data:
        raise CorruptCommand(f"log entry {index} is empty")
    handler = COMMANDS.get(data[0] & 127)
    if handler is None:
        if data[0] & commands.IGNORE_UNKNOWN:
            store.applied = index
            return None
        raise UnknownCommand(f"log entry {index} has unknown type {data[0]}; a newer version wrote it")
    try:
        result = handler(store, index, msgpack.decode(data[1:]))
    except Invalid as error:
        store.rollback()
        result = error
    except DecodeError as error:
        store.rollback()
        raise CorruptCommand(f"log entry {index} of type {data[0]}: {error}") from error
    else:
        store.commit(index)
    store.applied = index
    store.flush_watches()
    return result


@handles(commands.REGISTER)
def _register(store: Store, index: int, value: Any) -> None:
    register.register(store, index, wire.from_wire(RegisterRequest, value))


@handles(commands.DEREGISTER)
def _deregister(store: Store, index: int, value: Any) -> None:
    register.deregister(store, index, wire.from_wire(DeregisterRequest, value))


@handles(commands.KVS)
def _kvs(store: Store, index: int, value: Any) -> bool | None:
    return kv.apply_op(store, index, text_field(value, b"Op"), kv.entry_from_wire(field(value, b"DirEnt")))


@handles(commands.SESSION)
def _session(store: Store, index: int, value: Any) -> str | None:
    request = wire.from_wire(SessionRequest, value)
    if request.op == "create":
        return sessions.create(store, index, request.session)
    if request.op == "destroy":
        sessions.destroy(store, index, request.session.id)
        return None
    raise Invalid(f"Invalid Session operation '{request.op}'")


@handles(commands.TOMBSTONE)
def _tombstone(store: Store, index: int, value: Any) -> None:
    request = wire.from_wire(TombstoneRequest, value)
    if request.op != "reap":
        raise Invalid(f"Invalid Tombstone operation '{request.op}'")
    kv.reap(store, request.reap_index)


@handles(commands.COORDINATES)
def _coordinates(store: Store, index: int, value: Any) -> None:
    operator.set_coordinates(store, index, wire.from_wire_list(Coordinate, value))


@handles(commands.PREPARED_QUERY)
def _prepared_query(store: Store, index: int, value: Any) -> None:
    request = wire.from_wire(PreparedQueryRequest, value)
    query = request.query or PreparedQuery()
    if request.op in ("create", "update"):
        queries.put(store, index, query)
    elif request.op == "delete":
        queries.delete(store, index, query.id)
    else:
        raise Invalid(f"Invalid PreparedQuery operation '{request.op}'")


@handles(commands.TXN)
def _txn(store: Store, index: int, value: Any) -> TxnResponse:
    response = txn.run(store, index, wire.from_wire(TxnRequest, value).ops or ())
    if response.errors:
        store.rollback()
    return response


@handles(commands.AUTOPILOT)
def _autopilot(store: Store, index: int, value: Any) -> bool | None:
    request = wire.from_wire(AutopilotSetConfigRequest, value)
    return operator.set_autopilot(store, index, request.config, request.cas)


@handles(commands.FEDERATION_STATE)
def _federation_state(store: Store, index: int, value: Any) -> bool | None:
    op, state = text_field(value, b"Op"), wire.from_wire(FederationState, field(value, b"State"))
    if op == "upsert":
        return operator.set_federation_state(store, index, state)
    if op == "delete":
        operator.delete_federation_state(store, index, state.datacenter)
        return None
    raise Invalid(f"invalid federation state operation type: {op}")


@handles(commands.SYSTEM_METADATA)
def _system_metadata(store: Store, index: int, value: Any) -> bool | None:
    op, entry = text_field(value, b"Op"), wire.from_wire(SystemMetadataEntry, field(value, b"Entry"))
    if op == "upsert":
        return operator.set_metadata(store, index, entry)
    if op == "delete":
        operator.delete_metadata(store, index, entry.key)
        return None
    raise Invalid(f"invalid system metadata operation type: {op}")


@handles(commands.INTENTION)
def _intention(store: Store, index: int, value: Any) -> None:
    mesh.apply_intention(store, index, wire.from_wire(mesh.IntentionRequest, value))


@handles(commands.CONNECT_CA)
def _connect_ca(store: Store, index: int, value: Any) -> object:
    return mesh.apply_ca(store, index, wire.from_wire(mesh.CARequest, value))


@handles(commands.CA_LEAF)
def _ca_leaf(store: Store, index: int, value: Any) -> int:
    # the answer is the index; that no entry of the index table moves was seen (vectors/fsm)
    if text_field(value, b"Op") != "increment-index":
        raise Invalid(f"Invalid CA Leaf operation '{text_field(value, b'Op')}'")
    return index


@handles(commands.CONFIG_ENTRY)
def _config_entry(store: Store, index: int, value: Any) -> bool | None:
    return mesh.apply_config_entry(store, index, *mesh.read_entry_request(value))


@handles(commands.ACL)
def _legacy_acl(store: Store, index: int, value: Any) -> object:
    return acl.apply_legacy(store, index, wire.from_wire(shapes.LegacyACLRequest, value))


@handles(commands.ACL_BOOTSTRAP)
def _acl_bootstrap(store: Store, index: int, value: Any) -> None:
    acl.bootstrap(store, index, wire.from_wire(shapes.ACLTokenBootstrapRequest, value))


@handles(commands.ACL_TOKEN_SET)
def _acl_token_set(store: Store, index: int, value: Any) -> None:
    acl.set_tokens(store, index, wire.from_wire(shapes.ACLTokenBatchSetRequest, value))


@handles(commands.ACL_TOKEN_DELETE)
def _acl_token_delete(store: Store, index: int, value: Any) -> None:
    for accessor in wire.from_wire(shapes.ACLTokenBatchDeleteRequest, value).token_ids or ():
        acl.delete_token(store, index, store.token_by_accessor(accessor))


@handles(commands.ACL_POLICY_SET)
def _acl_policy_set(store: Store, index: int, value: Any) -> None:
    acl.set_policies(store, index, wire.from_wire(shapes.ACLPolicyBatchSetRequest, value).policies or ())


@handles(commands.ACL_POLICY_DELETE)
def _acl_policy_delete(store: Store, index: int, value: Any) -> None:
    for policy_id in wire.from_wire(shapes.ACLPolicyBatchDeleteRequest, value).policy_ids or ():
        acl.delete_policy(store, index, policy_id)


@handles(commands.ACL_ROLE_SET)
def _acl_role_set(store: Store, index: int, value: Any) -> None:
    request = wire.from_wire(shapes.ACLRoleBatchSetRequest, value)
    acl.set_roles(store, index, request.roles or (), request.allow_missing_links)


@handles(commands.ACL_ROLE_DELETE)
def _acl_role_delete(store: Store, index: int, value: Any) -> None:
    for role_id in wire.from_wire(shapes.ACLRoleBatchDeleteRequest, value).role_ids or ():
        acl.delete_role(store, index, role_id)


@handles(commands.ACL_BINDING_RULE_SET)
def _acl_binding_rule_set(store: Store, index: int, value: Any) -> None:
    rules = wire.from_wire(shapes.ACLBindingRuleBatchSetRequest, value).binding_rules
    acl.set_binding_rules(store, index, rules or ())


@handles(commands.ACL_BINDING_RULE_DELETE)
def _acl_binding_rule_delete(store: Store, index: int, value: Any) -> None:
    for rule_id in wire.from_wire(shapes.ACLBindingRuleBatchDeleteRequest, value).binding_rule_ids or ():
        acl.delete_binding_rule(store, index, rule_id)


@handles(commands.ACL_AUTH_METHOD_SET)
def _acl_auth_method_set(store: Store, index: int, value: Any) -> None:
    methods = wire.from_wire(shapes.ACLAuthMethodBatchSetRequest, value).auth_methods
    acl.set_auth_methods(store, index, methods or ())


@handles(commands.ACL_AUTH_METHOD_DELETE)
def _acl_auth_method_delete(store: Store, index: int, value: Any) -> None:
    for name in wire.from_wire(shapes.ACLAuthMethodBatchDeleteRequest, value).auth_method_names or ():
        acl.delete_auth_method(store, index, name)


def field(value: Any, name: bytes) -> Any:
    """A field of a decoded map. DecodeError when `value` is no map."""
    if type(value) is not dict:
        raise DecodeError(f"a map was expected, not {type(value).__name__}")
    return value.get(name)


def text_field(value: Any, name: bytes) -> str:
    """A string field of a decoded map. DecodeError."""
    return wire.text(field(value, name))
