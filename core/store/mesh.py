"""Config entries, intentions and the CA, kept as the maps that they travel as.

ctl builds no service mesh; it keeps what a mesh stores, so that logs and snapshots of clusters that use
one replay without loss (protocols/fsm.md sections 1 and 5). Maps hold str for raw strings, with
surrogate escapes for bytes that are not UTF-8."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.store import operator
from core.store.operator import OperatorState
from core.store.structs import SystemMetadataEntry, go_name
from core.store.table import Table
from core.store.watch import Watch

CA_SERIAL = "connect-ca-builtin-serial"
WRAPPED_ENTRY = "proxy-defaults"  # the one kind with a marshaller of its own
ZERO_TIME = wire.plain(msgpack.ZERO_TIME)
Row = dict[str, Any]


class ServiceName(Struct, frozen=True, gc=False, rename=go_name):
    """A service, as intentions name it."""

    name: str = ""


class IntentionMutation(Struct, frozen=True, gc=False, rename=go_name):
    """A change of one source in a service-intentions entry. `id`: of an intention of the old kind."""

    destination: ServiceName = ServiceName()
    id: str = ""
    source: ServiceName = ServiceName()
    value: dict[str, Any] | None = None


class IntentionRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 12. `op`: create, update, upsert, delete, delete-all."""

    datacenter: str = ""
    intention: dict[str, Any] | None = None
    mutation: IntentionMutation | None = None
    op: str = ""
    token: str = ""


class CARequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 13. `index`: what the roots' index must be for set-roots."""

    config: dict[str, Any] | None = None
    datacenter: str = ""
    index: int = 0
    op: str = ""
    provider_state: dict[str, Any] | None = None
    roots: list[dict[str, Any]] | None = None
    token: str = ""


class MeshState(OperatorState):
    """The mesh's tables."""

    def _make_tables(self) -> None:
        super()._make_tables()
        self.config_entries: Table[tuple[str, str], Row] = self.add_table("config-entries")
        self.legacy_intentions: Table[str, Row] = self.add_table("connect-intentions")
        self.ca_roots: Table[str, Row] = self.add_table("connect-ca-roots")
        self.ca_provider_states: Table[str, Row] = self.add_table("connect-ca-builtin")
        self.ca_config: Table[str, Row] = self.add_table("connect-ca-config")

    def config_entry(self, kind: str, name: str, watch: Watch | None = None) -> tuple[int, Row | None]:
        self.watch_cell(watch, "config-entries")
        return self.index("config-entries"), self.config_entries.rows.get((kind, name.lower()))

    def config_entry_list(self, kind: str = "", watch: Watch | None = None) -> tuple[int, list[Row]]:
        """All config entries, or those of a kind, by kind and name."""
        self.watch_cell(watch, "config-entries")
        rows = self.config_entries.rows
        found = [rows[key] for key in self.config_entries if not kind or key[0] == kind]
        return self.index("config-entries"), found


def read_entry_request(value: Any) -> tuple[str, Row]:
    """Kind and request of a wrapped ConfigEntryRequest; its entry has the kind, too, though entries of
    later versions may have no field for it. DecodeError."""
    reader = msgpack.Reader(wire.raw(value))
    kind, request = wire.text(reader.value()), reader.value()
    if type(request) is not dict:
        raise DecodeError("not a ConfigEntryRequest")
    entry = request.get(b"Entry")
    if type(entry) is bytes:
        request[b"Entry"] = msgpack.decode(entry)
    if type(request.get(b"Entry")) is not dict:
        raise DecodeError("ConfigEntryRequest without entry")
    plain: Row = wire.plain(request)
    plain["Entry"]["Kind"] = kind
    return kind, plain


def write_entry_request(kind: str, entry: Row, op: str = "", datacenter: str = "", token: str = "") -> bytes:
    """The wrapped form of a ConfigEntryRequest, to be put into a raw string."""
    body = msgpack.encode(entry) if kind == WRAPPED_ENTRY else entry
    request = {"Datacenter": datacenter, "Entry": body, "Op": op, "Token": token}
    return msgpack.encode(kind) + msgpack.encode(request)


def apply_config_entry(state: MeshState, index: int, kind: str, request: Row) -> bool | None:
    """Do the op of a ConfigEntryRequest."""
    entry, op = request["Entry"], request.get("Op")
    key = (kind, text(entry, "Name").lower())
    existing = state.config_entries.get(key)
    if op == "delete":
        if state.config_entries.remove(key) is not None:
            state.bump("config-entries", index)
        return None
    if op == "delete-cas":  # of later versions: false when there is no such entry, too
        if existing is None or _number(entry, "ModifyIndex") != _modified(existing):
            return False
        state.config_entries.remove(key)
        state.bump("config-entries", index)
        return True
    if op == "upsert-cas" and _number(entry, "ModifyIndex") != _modified(existing):
        return False
    if op in ("upsert", "upsert-cas"):
        state.config_entries.put(key, _stamped(entry, existing, index))
        state.bump("config-entries", index)
        return True
    raise Invalid(f"invalid config entry operation type: {op}")


def apply_intention(state: MeshState, index: int, request: IntentionRequest) -> None:
    """Do the op of an IntentionRequest: a mutation of a service-intentions entry, or the old table's."""
    op, intention = request.op, request.intention
    if request.mutation is not None:
        _mutate(state, index, op, request.mutation)
    elif op == "delete-all":
        for key in list(state.legacy_intentions):
            state.legacy_intentions.remove(key)
        state.bump("connect-intentions", index)
        state.bump("config-entries", index)
        operator.set_metadata(state, index, SystemMetadataEntry(operator.MARKER, "config-entry"))
    elif op in ("create", "update") and intention is not None:
        key = text(intention, "ID")
        state.legacy_intentions.put(key, _stamped(intention, state.legacy_intentions.get(key), index))
        state.bump("connect-intentions", index)
    elif op == "delete" and intention is not None:
        if state.legacy_intentions.remove(text(intention, "ID")) is not None:
            state.bump("connect-intentions", index)
    else:
        raise Invalid(f"Invalid Intention operation '{op}'")


def _mutate(state: MeshState, index: int, op: str, mutation: IntentionMutation) -> None:
    destination = mutation.destination.name
    if mutation.id:
        for entry in state.config_entries.values():
            if any(text(source, "LegacyID") == mutation.id for source in _rows(entry, "Sources")):
                destination = text(entry, "Name")
    key = ("service-intentions", destination.lower())
    existing = state.config_entries.get(key)
    sources = list(_rows(existing, "Sources")) if existing else []
    if mutation.id:
        at = [n for n, source in enumerate(sources) if text(source, "LegacyID") == mutation.id]
    elif op == "create":
        at = []
    else:
        at = [n for n, source in enumerate(sources) if text(source, "Name") == mutation.source.name]
    if op == "delete":
        if not at:
            return
        del sources[at[0]]
    elif op not in ("create", "update", "upsert") or mutation.value is None:
        raise Invalid(f"Invalid Intention operation '{op}'")
    elif at:
        sources[at[0]] = mutation.value
    elif op == "update":
        raise Invalid(f"Cannot modify non-existent intention: '{mutation.id}'")
    else:
        sources.append(mutation.value)
    if sources:
        normal = sorted((_normal_source(one, destination) for one in sources), key=_by_precedence)
        entry = {**(existing or _new_intentions(destination)), "Sources": normal}
        state.config_entries.put(key, _stamped(entry, existing, index))
    else:
        state.config_entries.remove(key)
    state.bump("config-entries", index)


def _new_intentions(name: str) -> Row:
    return {
        "CreateIndex": 0,
        "Kind": "service-intentions",
        "Meta": None,
        "ModifyIndex": 0,
        "Name": name,
        "Sources": None,
    }


def _normal_source(source: Row, destination: str) -> Row:
    """A source as it is stored: with type and precedence, without the old fields unless it has an old id."""
    name = text(source, "Name")
    if destination == "*":
        precedence = 5 if name == "*" else 6
    else:
        precedence = 8 if name == "*" else 9
    normal = {**source, "Precedence": precedence, "Type": text(source, "Type") or "consul"}
    normal["LegacyMeta"] = (source.get("LegacyMeta") or {}) if text(source, "LegacyID") else None
    for when in ("LegacyCreateTime", "LegacyUpdateTime"):
        if normal.get(when) == ZERO_TIME:
            normal[when] = None
    return normal


def _by_precedence(source: Row) -> tuple[int, str]:
    return -source["Precedence"], text(source, "Name")


def apply_ca(state: MeshState, index: int, request: CARequest) -> object:
    """Do the op of a CARequest."""
    op, config, provider = request.op, request.config, request.provider_state
    if op == "set-config" and config is not None:
        return _set_ca_config(state, index, config)
    if op == "set-roots":
        return _set_ca_roots(state, index, request)
    if op == "set-roots-config" and config is not None:
        return _set_ca_roots(state, index, request) and _set_ca_config(state, index, config) is not False
    if op == "set-provider-state" and provider is not None:
        key = text(provider, "ID")
        state.ca_provider_states.put(key, _stamped(provider, state.ca_provider_states.get(key), index))
        state.bump("connect-ca-builtin", index)
        return True
    if op == "delete-provider-state" and provider is not None:
        if state.ca_provider_states.remove(text(provider, "ID")) is not None:
            state.bump("connect-ca-builtin", index)
        return True
    if op == "increment-provider-serial":
        serial = state.indexes.get(CA_SERIAL, state.index("connect-ca-builtin")) + 1
        state.bump(CA_SERIAL, serial)
        return serial
    raise Invalid(f"Invalid CA operation '{op}'")


def _set_ca_config(state: MeshState, index: int, config: Row) -> bool | None:
    """Replace the CA configuration; one with a ModifyIndex only if that fits."""
    existing = state.ca_config.get("")
    expected = _number(config, "ModifyIndex")
    if expected and _modified(existing) != expected:
        return False
    if existing is not None and not config.get("ClusterID"):
        config = {**config, "ClusterID": existing.get("ClusterID", "")}
    state.ca_config.put("", _stamped(config, existing, index))
    return True if expected else None


def _set_ca_roots(state: MeshState, index: int, request: CARequest) -> bool:
    """Replace all roots if the table has not moved since `index`; exactly one must be active."""
    roots = request.roots or []
    if sum(root.get("Active") is True for root in roots) != 1:
        raise Invalid("there must be exactly one active CA root")
    if state.index("connect-ca-roots") != request.index:
        return False
    old = dict(state.ca_roots.rows)
    for key in list(state.ca_roots):
        state.ca_roots.remove(key)
    for root in roots:
        key = text(root, "ID")
        state.ca_roots.put(key, _stamped(root, old.get(key), index))
    state.bump("connect-ca-roots", index)
    return True


def _stamped(row: Row, existing: Row | None, index: int) -> Row:
    created = index if existing is None else _number(existing, "CreateIndex")
    return {**row, "CreateIndex": created, "ModifyIndex": index}


def _modified(row: Row | None) -> int:
    return 0 if row is None else _number(row, "ModifyIndex")


def text(row: Row, name: str) -> str:
    """A string field of a map, `` when it is missing. DecodeError."""
    value = row.get(name) or ""
    if type(value) is not str:
        raise DecodeError(f"{name}: a string was expected, not {type(value).__name__}")
    return value


def _number(row: Row, name: str) -> int:
    return wire.integer(row.get(name))


def _rows(row: Row, name: str) -> list[Row]:
    value = row.get(name) or []
    if type(value) is not list or any(type(one) is not dict for one in value):
        raise DecodeError(f"{name}: a list of maps was expected")
    return value
