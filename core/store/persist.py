"""state.bin: the whole state as a stream of records (protocols/snapshot.md section 2).

    header  msgpack {LastIndex}
    record  type byte, msgpack value        repeated to the end

`dump` takes a shallow copy of the tables, which is enough since rows are never changed in place, and
encodes slice by slice while writes go on. `load` builds a new Store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import CtlError
from core.store import acl_structs, commands, kv, mesh, register, sessions, structs
from core.store.state import Store

SLICE = 32 * 1024
_STEP = 64  # records loaded between two looks at the clock
Record = tuple[int, Any]


class SnapshotError(CtlError):
    """A snapshot that cannot be used; the text says what is wrong with it."""


def dump(store: Store) -> Iterator[bytes]:
    """The bytes of state.bin as the store is now, in slices of about 32 KiB. The copy of the tables is
    made by this call, not by the first step of the iterator."""
    return _slices(_Frozen(store))


class _Frozen:
    """Shallow copies of all that a snapshot contains."""

    def __init__(self, store: Store) -> None:
        self.applied = store.applied
        self.tables = {name: table.frozen() for name, table in store.tables.items()}
        self.indexes = dict(store.indexes)
        self.chunks = {number: list(parts) for number, parts in store.chunks.items()}

    def rows(self, table: str) -> Iterator[Any]:
        """The rows of a table in key order."""
        content, order = self.tables[table]
        return map(content.__getitem__, order)


def _slices(frozen: _Frozen) -> Iterator[bytes]:
    buffer = bytearray(msgpack.encode({"LastIndex": frozen.applied}))
    for kind, value in _records(frozen):
        buffer.append(kind)
        buffer += msgpack.encode(value)
        if len(buffer) >= SLICE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _records(frozen: _Frozen) -> Iterator[Record]:
    """All records in Consul's order."""
    rows = frozen.rows

    def structs_of(kind: int, table: str) -> Iterator[Record]:
        return ((kind, wire.to_wire(row)) for row in rows(table))

    yield from _catalog_records(frozen.tables)
    for coordinate in rows("coordinates"):
        yield commands.COORDINATES, [wire.to_wire(coordinate)]
    yield from structs_of(commands.SESSION, "sessions")
    yield from structs_of(commands.ACL_TOKEN_SET, "acl-tokens")
    yield from structs_of(commands.ACL_POLICY_SET, "acl-policies")
    yield from structs_of(commands.ACL_ROLE_SET, "acl-roles")
    yield from structs_of(commands.ACL_BINDING_RULE_SET, "acl-binding-rules")
    yield from structs_of(commands.ACL_AUTH_METHOD_SET, "acl-auth-methods")
    yield from structs_of(commands.KVS, "kvs")
    buried, order = frozen.tables["tombstones"]
    for key in order:
        yield commands.TOMBSTONE, wire.to_wire(structs.DirEntry(key, modify_index=buried[key]))
    yield from structs_of(commands.PREPARED_QUERY, "prepared-queries")
    yield from structs_of(commands.AUTOPILOT, "autopilot-config")
    for kind, table in (
        (commands.INTENTION, "connect-intentions"),
        (commands.CONNECT_CA, "connect-ca-roots"),
        (commands.CA_PROVIDER_STATE, "connect-ca-builtin"),
        (commands.CA_CONFIG, "connect-ca-config"),
    ):
        for row in rows(table):
            yield kind, row
    for entry in rows("config-entries"):
        yield commands.CONFIG_ENTRY, mesh.write_entry_request(entry["Kind"], entry)
    for state in rows("federation-states"):
        request = {"Datacenter": "", "Op": "upsert", "State": wire.to_wire(state), "Token": ""}
        yield commands.FEDERATION_STATE, request
    yield from structs_of(commands.SYSTEM_METADATA, "system-metadata")
    for name in sorted(frozen.indexes):
        yield commands.INDEX, {"Key": name, "Value": frozen.indexes[name]}
    parts = {
        number: [None if part is None else wire.to_wire(part) for part in frozen.chunks[number]]
        for number in sorted(frozen.chunks)
    }
    yield commands.CHUNKING_STATE, {"ChunkMap": parts}


def _catalog_records(tables: dict[str, tuple[dict[Any, Any], list[Any]]]) -> Iterator[Record]:
    """Per node one record for itself, then one per service, then one per check."""
    nodes, order = tables["nodes"]
    services, service_keys = tables["services"]
    checks, check_keys = tables["checks"]
    service_at = check_at = 0  # all three are in the order of node names
    for name in order:
        node: structs.Node = nodes[name]
        request = structs.RegisterRequest(
            node.datacenter,
            node.id,
            node.node,
            node.address,
            node.tagged_addresses,
            node.meta,
            create_index=node.create_index,
            modify_index=node.modify_index,
            extra=node.extra,
        )
        base = wire.to_wire(request)
        yield commands.REGISTER, base
        while service_at < len(service_keys) and service_keys[service_at][0] == name:
            yield commands.REGISTER, {**base, "Service": wire.to_wire(services[service_keys[service_at]])}
            service_at += 1
        while check_at < len(check_keys) and check_keys[check_at][0] == name:
            yield commands.REGISTER, {**base, "Check": wire.to_wire(checks[check_keys[check_at]])}
            check_at += 1


Restorer = Callable[[Store, Any, int], None]
_RESTORERS: dict[int, Restorer] = {}


def load(data: bytes) -> Store:
    """The Store that state.bin holds. SnapshotError for broken bytes and unknown record types."""
    steps = loading(data)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            store: Store = end.value
            return store


def loading(data: bytes) -> Generator[None, None, Store]:
    """`load` in steps of about a millisecond, for a caller who has other things to do as well."""
    store = Store()
    try:
        reader = msgpack.Reader(data)
        header = reader.value()
        last_index = wire.integer(header.get(b"LastIndex")) if type(header) is dict else 0
        count = 0
        while not reader.at_end:
            kind = reader.byte()
            restorer = _RESTORERS.get(kind)
            if restorer is None:
                raise SnapshotError(f"unknown record type {kind} in the snapshot; a newer version wrote it")
            restorer(store, reader.value(), last_index)
            count += 1
            if not count % _STEP:
                store.commit()
                yield
    except DecodeError as error:
        raise SnapshotError(f"the snapshot is damaged: {error}") from error
    store.applied = last_index
    store.commit()
    store.fire_all_watches()
    return store


def _restores(kind: int) -> Callable[[Restorer], Restorer]:
    def add(restorer: Restorer) -> Restorer:
        if kind in _RESTORERS:
            raise ValueError(f"record type {kind} has a reader already")
        _RESTORERS[kind] = restorer
        return restorer

    return add


def _raise_index(store: Store, name: str, value: int) -> None:
    store.indexes[name] = max(store.indexes.get(name, 0), value)


@_restores(commands.REGISTER)
def _restore_registration(store: Store, value: Any, last_index: int) -> None:
    request = wire.from_wire(structs.RegisterRequest, value)
    key = request.node.lower()
    created = request.create_index or last_index
    modified = request.modify_index or last_index
    if key not in store.node_rows:
        node = structs.Node(
            request.id,
            request.node,
            request.address,
            request.datacenter,
            request.tagged_addresses,
            request.node_meta,
            created,
            modified,
            extra=register.node_facts(request),
        )
        store.node_rows.put(key, node)
        _raise_index(store, "nodes", modified)
    if request.service is not None:
        service = request.service
        store.service_rows.put((key, service.id.lower()), service)
        for name in ("services", register.service_index(service.service), register.kind_index(service.kind)):
            _raise_index(store, name, service.modify_index)
    for check in (*((request.check,) if request.check else ()), *(request.checks or ())):
        store.check_rows.put((key, check.check_id.lower()), check)
        _raise_index(store, "checks", check.modify_index)


@_restores(commands.COORDINATES)
def _restore_coordinates(store: Store, value: Any, last_index: int) -> None:
    for coordinate in wire.from_wire_list(structs.Coordinate, value):
        store.coordinates.put((coordinate.node.lower(), coordinate.segment), coordinate)
    _raise_index(store, "coordinates", last_index)


@_restores(commands.SESSION)
def _restore_session(store: Store, value: Any, last_index: int) -> None:
    session = wire.from_wire(structs.Session, value)
    store.sessions.put(session.id, session)
    sessions.bind_checks(store, session)
    _raise_index(store, "sessions", session.modify_index)


@_restores(commands.KVS)
def _restore_key(store: Store, value: Any, last_index: int) -> None:
    entry = kv.entry_from_wire(value)
    store.kv.put(entry.key, entry)
    _raise_index(store, "kvs", entry.modify_index)


@_restores(commands.TOMBSTONE)
def _restore_tombstone(store: Store, value: Any, last_index: int) -> None:
    entry = wire.from_wire(structs.DirEntry, value)
    store.tombstones.put(entry.key, entry.modify_index)
    _raise_index(store, "tombstones", entry.modify_index)


def _rows_by_id(kind: int, table: str, cls: type[msgspec.Struct], attribute: str, fold: bool = True) -> None:
    """Restore records that hold one row each, keyed by an attribute."""

    def restore(store: Store, value: Any, last_index: int) -> None:
        row: Any = wire.from_wire(cls, value)
        key = getattr(row, attribute)
        store.tables[table].put(key.lower() if fold else key, row)
        _raise_index(store, table, row.modify_index)

    _restores(kind)(restore)


_rows_by_id(commands.ACL_TOKEN_SET, "acl-tokens", acl_structs.ACLToken, "secret_id", fold=False)
_rows_by_id(commands.ACL_POLICY_SET, "acl-policies", acl_structs.ACLPolicy, "id")
_rows_by_id(commands.ACL_ROLE_SET, "acl-roles", acl_structs.ACLRole, "id")
_rows_by_id(commands.ACL_BINDING_RULE_SET, "acl-binding-rules", acl_structs.ACLBindingRule, "id")
_rows_by_id(commands.ACL_AUTH_METHOD_SET, "acl-auth-methods", acl_structs.ACLAuthMethod, "name")
_rows_by_id(commands.PREPARED_QUERY, "prepared-queries", structs.PreparedQuery, "id")
_rows_by_id(commands.SYSTEM_METADATA, "system-metadata", structs.SystemMetadataEntry, "key")


@_restores(commands.ACL)
def _restore_legacy_acl(store: Store, value: Any, last_index: int) -> None:
    acl = wire.from_wire(acl_structs.LegacyACL, value)
    token = acl_structs.ACLToken(
        secret_id=acl.id,
        description=acl.name,
        type=acl.type,
        rules=acl.rules,
        create_index=acl.create_index,
        modify_index=acl.modify_index,
    )
    store.acl_tokens.put(acl.id, token)
    _raise_index(store, "acl-tokens", acl.modify_index)


@_restores(commands.ACL_BOOTSTRAP)
def _restore_bootstrap_marker(store: Store, value: Any, last_index: int) -> None:
    if type(value) is dict:
        _raise_index(store, "acl-token-bootstrap", wire.integer(value.get(b"ModifyIndex")))


@_restores(commands.AUTOPILOT)
def _restore_autopilot(store: Store, value: Any, last_index: int) -> None:
    store.autopilot.put("", wire.from_wire(structs.AutopilotConfig, value))


def _maps(kind: int, table: str, attribute: str, index: str) -> None:
    """Restore records of the mesh, which stay maps."""

    def restore(store: Store, value: Any, last_index: int) -> None:
        if type(value) is not dict:
            raise DecodeError(f"a map was expected, not {type(value).__name__}")
        row = wire.plain(value)
        store.tables[table].put(mesh.text(row, attribute) if attribute else "", row)
        if index:
            _raise_index(store, index, wire.integer(value.get(b"ModifyIndex")))

    _restores(kind)(restore)


_maps(commands.INTENTION, "connect-intentions", "ID", "connect-intentions")
_maps(commands.CONNECT_CA, "connect-ca-roots", "ID", "connect-ca-roots")
_maps(commands.CA_PROVIDER_STATE, "connect-ca-builtin", "ID", "connect-ca-builtin")
_maps(commands.CA_CONFIG, "connect-ca-config", "", "")


@_restores(commands.CONFIG_ENTRY)
def _restore_config_entry(store: Store, value: Any, last_index: int) -> None:
    kind, request = mesh.read_entry_request(value)
    entry = request["Entry"]
    store.config_entries.put((kind, mesh.text(entry, "Name").lower()), entry)
    _raise_index(store, "config-entries", wire.integer(entry.get("ModifyIndex")))


@_restores(commands.FEDERATION_STATE)
def _restore_federation_state(store: Store, value: Any, last_index: int) -> None:
    if type(value) is not dict:
        raise DecodeError("not a FederationStateRequest")
    state = wire.from_wire(structs.FederationState, value.get(b"State"))
    store.federation_states.put(state.datacenter.lower(), state)
    _raise_index(store, "federation-states", state.modify_index)


@_restores(commands.INDEX)
def _restore_index(store: Store, value: Any, last_index: int) -> None:
    if type(value) is not dict:
        raise DecodeError("not an index record")
    name = wire.text(value.get(b"Key"))
    if name.startswith("service."):
        name = name.lower()
    store.indexes[name] = wire.integer(value.get(b"Value"))


@_restores(commands.CHUNKING_STATE)
def _restore_chunks(store: Store, value: Any, last_index: int) -> None:
    parts = value.get(b"ChunkMap") if type(value) is dict else None
    if parts is None:
        return
    if type(parts) is not dict or any(type(chunks) is not list for chunks in parts.values()):
        raise DecodeError("not a chunking record")
    for number, chunks in parts.items():
        store.chunks[wire.integer(number)] = [
            None if chunk is None else wire.from_wire(structs.ChunkInfo, chunk) for chunk in chunks
        ]
