"""Config entries as RPCs: ConfigEntry.*. Their bodies and replies are packed into raw strings, kind before
entry, since Go must know the type before it decodes (protocols/rpc.md section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct, structs

from core.api import config_entry
from core.api import remote_structs as bodies
from core.api.config_entry import (
    ConfigEntryRequest,
    EntryQuery,
    KindEntries,
    KindsQuery,
    ServiceConfig,
    ServiceQuery,
)
from core.api.config_entry_shapes import Entry
from core.api.endpoint import Answer, Command, Question, Read, Write
from core.api.remote_kinds import (
    ReadRemote,
    Remote,
    here,
    understood,
    unrendered,
    was_filtered,
    with_filtered,
)
from core.api.remote_structs import DatacenterRead, ReadReply
from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.store import mesh
from core.store.structs import go_name


class ConfigEntryListAllRequest(DatacenterRead, frozen=True, rename=go_name):
    """structs.ConfigEntryListAllRequest."""

    kinds: list[str] | None = None


def _packed(entry: Entry) -> Any:
    """An entry inside a reply; that of one kind is packed itself."""
    return msgpack.encode(entry) if entry.get("Kind") == mesh.WRAPPED_ENTRY else entry


def _unpacked(value: Any) -> Entry:
    """DecodeError unless it is an entry."""
    found = msgpack.decode(value) if type(value) is bytes else value
    if type(found) is not dict:
        raise DecodeError("a config entry was expected")
    entry: Entry = wire.plain(found)
    return entry


class _Packed:
    """A read whose reply is several values in a raw string: `pack` and `unpack` know which."""

    def __init__(
        self,
        read: Read,
        body: type[DatacenterRead],
        fields: Callable[[Any], dict[str, Any]],
        args: Callable[[Any], Any],
        pack: Callable[[Any, ReadReply], list[Any]],
        unpack: Callable[[list[Any]], Any],
    ) -> None:
        self.rpc, self.body = read.rpc, body
        self._question = ReadRemote(read, body, fields, args, ReadReply, lambda _: {}, lambda _: None)
        self._pack, self._unpack = pack, unpack

    def request(self, work: Question, datacenter: str) -> Any:
        return self._question.request(work, datacenter)

    def accept(self, body: Any) -> Question:
        return self._question.accept(body)

    def reply(self, outcome: Answer) -> bytes:
        meta = ReadReply(
            index=max(outcome.index, 1),
            last_contact=outcome.last_contact,
            known_leader=outcome.known_leader,
        )
        *head, last = self._pack(outcome.value, meta)
        return b"".join(map(msgpack.encode, [*head, with_filtered(outcome, last)]))

    def answer(self, reply: Any) -> Answer:
        return understood(self.rpc, self._answer, reply)  # type: ignore[no-any-return]

    def _answer(self, reply: Any) -> Answer:
        parts = list(msgpack.Reader(wire.raw(reply)))
        if not parts:
            raise DecodeError("an empty reply")
        meta = wire.from_wire(ReadReply, parts[-1])
        return Answer(
            meta.index,
            self._unpack(parts),
            remember=False,
            last_contact=meta.last_contact,
            known_leader=meta.known_leader,
            filtered=was_filtered(parts[-1]),
        )


def _pack_one(entry: Entry | None, meta: ReadReply) -> list[Any]:
    head = [""] if entry is None else [entry["Kind"], _packed(entry)]
    return [*head, wire.to_wire(meta)]


def _unpack_one(parts: list[Any]) -> Entry | None:
    return _unpacked(parts[1]) if len(parts) == 3 else None


def _pack_list(found: KindEntries, meta: ReadReply) -> list[Any]:
    reply = bodies.IndexedConfigEntries(
        **structs.asdict(meta), kind=found.kind, entries=[_packed(entry) for entry in found.entries]
    )
    return [len(found.entries), found.kind, wire.to_wire(reply)]


def _unpack_list(parts: list[Any]) -> KindEntries:
    found = parts[-1].get(b"Entries") or []
    if type(found) is not list:
        raise DecodeError("a list of config entries was expected")
    return KindEntries(wire.text(parts[-1].get(b"Kind")), [_unpacked(one) for one in found])


def _pack_all(entries: list[Entry], meta: ReadReply) -> list[Any]:
    each = [part for entry in entries for part in (entry["Kind"], _packed(entry))]
    return [len(entries), *each, wire.to_wire(meta)]


def _unpack_all(parts: list[Any]) -> list[Entry]:
    return [_unpacked(one) for one in parts[2:-1:2]]


def _service_body(body: bodies.ServiceConfigRequest) -> ServiceQuery:
    ids = body.upstream_ids or []
    names = [one.id for one in ids] or body.upstreams or []
    return ServiceQuery(body.name, tuple(names), bool(ids))


def _pack_service(found: ServiceConfig, meta: ReadReply) -> list[Any]:
    by_name = None if found.by_id else found.upstreams or None
    by_id = [{"Config": value, "Upstream": {"ID": name}} for name, value in found.upstreams.items()]
    reply = bodies.ServiceConfigResponse(
        **structs.asdict(meta),
        proxy_config=found.proxy or None,
        upstream_configs=by_name,
        upstream_id_configs=by_id if found.by_id and by_id else None,
        mesh_gateway=bodies.MeshGatewayConfig(str(found.mesh_gateway.get("Mode", ""))),
        expose=bodies.ExposeConfig(bool(found.expose.get("Checks")), found.expose.get("Paths")),
    )
    return [wire.to_wire(reply)]


def _unpack_service(parts: list[Any]) -> ServiceConfig:
    reply = wire.from_wire(bodies.ServiceConfigResponse, parts[-1])
    upstreams = dict(reply.upstream_configs or {})
    for one in reply.upstream_id_configs or ():
        upstreams[one["Upstream"]["ID"]] = one["Config"]
    return ServiceConfig(
        reply.proxy_config or {},
        upstreams,
        reply.upstream_id_configs is not None,
        {"Mode": reply.mesh_gateway.mode},
        {"Checks": reply.expose.checks, "Paths": reply.expose.paths},
    )


class _EntryWrite:
    """A write whose body is a packed ConfigEntryRequest."""

    def __init__(self, write: Write, shown: Callable[[Any], Any], value: Callable[[Any], Any]) -> None:
        self.rpc = write.rpc
        self._write = write
        self._shown, self._value = shown, value

    def request(self, work: Command, datacenter: str) -> Any:
        args: ConfigEntryRequest = work.args
        place = work.datacenter or args.datacenter or datacenter
        return mesh.write_entry_request(args.kind, args.entry, args.op, place, args.token)

    def accept(self, body: Any) -> Command:
        kind, request = mesh.read_entry_request(body)
        args = ConfigEntryRequest(
            mesh.text(request, "Op"),
            kind,
            request["Entry"],
            here(mesh.text(request, "Datacenter")),
            mesh.text(request, "Token"),
        )
        return Command(self._write, args, unrendered, args.datacenter)

    def reply(self, outcome: Any) -> Any:
        return self._shown(outcome)

    def answer(self, reply: Any) -> Any:
        return understood(self.rpc, self._value, reply)


class ConfigEntryDeleteResponse(Struct, frozen=True, rename=go_name):
    """structs.ConfigEntryDeleteResponse, of later versions; 1.9 answers an empty map."""

    deleted: bool = False


CONFIG: tuple[Remote, ...] = (
    _Packed(
        config_entry.GET,
        bodies.ConfigEntryQuery,
        lambda args: {"kind": args.kind, "name": args.name},
        lambda body: EntryQuery(body.kind, body.name),
        _pack_one,
        _unpack_one,
    ),
    _Packed(
        config_entry.LIST,
        bodies.ConfigEntryQuery,
        lambda args: {"kind": args.kind},
        lambda body: EntryQuery(body.kind),
        _pack_list,
        _unpack_list,
    ),
    _Packed(
        config_entry.LIST_ALL,
        ConfigEntryListAllRequest,
        lambda args: {"kinds": list(args.kinds)},
        lambda body: KindsQuery(tuple(body.kinds or ())),
        _pack_all,
        _unpack_all,
    ),
    _Packed(
        config_entry.RESOLVE,
        bodies.ServiceConfigRequest,
        lambda args: {
            "name": args.name,
            **(
                {"upstream_ids": [bodies.ServiceID(name) for name in args.upstreams]}
                if args.by_id
                else {"upstreams": list(args.upstreams)}
            ),
        },
        _service_body,
        _pack_service,
        _unpack_service,
    ),
    _EntryWrite(config_entry.APPLY, lambda done: done is True, lambda reply: reply is True),
    _EntryWrite(
        config_entry.DELETE,
        lambda done: {"Deleted": done is not False},
        lambda reply: wire.from_wire(ConfigEntryDeleteResponse, reply).deleted,
    ),
)
