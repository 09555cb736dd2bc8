"""Config entries: `/v1/config`, and the questions and commands ConfigEntry.*.

ctl has no mesh that they would steer: they are validated, kept and given back. Consul's agents ask
ResolveServiceConfig for their sidecar proxies; it is answered from the entries."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer, Resource
from core.api import config_entry_graph as graph
from core.api import config_entry_rules as rules
from core.api.blocking import parse_uint, query_options
from core.api.config_entry_kinds import KINDS, known_kind, read_entry, refit, show_entry
from core.api.config_entry_shapes import Entry
from core.api.endpoint import (
    TEXT,
    AgentDoor,
    Answer,
    Command,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    Write,
)
from core.codec import gojson, msgpack
from core.codec.duration import quote
from core.codec.gojson import JsonError
from core.errors import BadRequest, Invalid, NotFound
from core.store import commands, mesh
from core.store.state import Store
from core.store.watch import Watch

# Before 1.9 there were these; who asks for all entries without naming kinds knows no others.
_KINDS_OF_1_8 = tuple(kind for kind in KINDS if kind != "service-intentions")


class EntryQuery(Struct, frozen=True):
    """structs.ConfigEntryQuery: one entry, or all of a kind (`""`: of every kind)."""

    kind: str
    name: str = ""


class KindEntries(Struct, frozen=True):
    """The entries of a kind, and which kind was asked for."""

    kind: str
    entries: list[Entry]


class KindsQuery(Struct, frozen=True):
    """structs.ConfigEntryListAllRequest: the entries of some kinds."""

    kinds: tuple[str, ...] = ()


class ServiceQuery(Struct, frozen=True):
    """structs.ServiceConfigRequest: what the entries say of a service and those that it calls."""

    name: str
    upstreams: tuple[str, ...] = ()
    by_id: bool = False  # the upstreams were named as ids, and so they are in the answer


class ServiceConfig(Struct, frozen=True):
    """structs.ServiceConfigResponse."""

    proxy: dict[str, Any] = {}
    upstreams: dict[str, dict[str, Any]] = {}
    by_id: bool = False
    mesh_gateway: dict[str, Any] = {}
    expose: dict[str, Any] = {}


class ConfigEntryRequest(Struct, frozen=True):
    """structs.ConfigEntryRequest. `op`: upsert, upsert-cas, delete, delete-cas."""

    op: str
    kind: str
    entry: Entry
    datacenter: str = ""
    token: str = ""


# --- reads -----------------------------------------------------------------------------------------


def _get(view: Store, args: EntryQuery, watch: Watch | None) -> Answer:
    known_kind(args.kind)
    return Answer(*view.config_entry(args.kind, args.name, watch))


def _list(view: Store, args: EntryQuery, watch: Watch | None) -> Answer:
    if args.kind:
        known_kind(args.kind)
    index, entries = view.config_entry_list(args.kind, watch)
    return Answer(index, KindEntries(args.kind, entries))


def _list_all(view: Store, args: KindsQuery, watch: Watch | None) -> Answer:
    index, entries = view.config_entry_list("", watch)
    wanted = args.kinds or _KINDS_OF_1_8
    return Answer(index, [entry for entry in entries if entry.get("Kind") in wanted])


def _resolve(view: Store, args: ServiceQuery, watch: Watch | None) -> Answer:
    index, shared = view.config_entry("proxy-defaults", rules.GLOBAL, watch)
    own = view.config_entry("service-defaults", args.name, watch)[1] or {}
    shared = shared or {}
    proxy = dict(shared.get("Config") or {})
    if own.get("Protocol"):
        proxy["protocol"] = own["Protocol"]
    upstreams = {}
    for name in args.upstreams:
        settings = view.config_entry("service-defaults", name, watch)[1] or {}
        protocol = settings.get("Protocol") or (shared.get("Config") or {}).get("protocol")
        if protocol:
            upstreams[name] = {"protocol": protocol}
    gateway = own.get("MeshGateway") or {}
    expose = own.get("Expose") or {}
    return Answer(
        index,
        ServiceConfig(
            proxy,
            upstreams,
            args.by_id,
            gateway if gateway.get("Mode") else shared.get("MeshGateway") or {},
            expose if any(expose.values()) else shared.get("Expose") or {},
        ),
    )


def _may_read(authorizer: Authorizer, kind: str, name: str) -> bool:
    if kind == "proxy-defaults":
        return True
    return authorizer.allows("intention" if kind == "service-intentions" else "service", name, "read")


def _permit_get(authorizer: Authorizer, args: EntryQuery, answer: Answer) -> Answer:
    # Entries are found in any case of letters, and rules are for one.
    names = [args.name] if answer.value is None else [args.name, mesh.text(answer.value, "Name")]
    for name in dict.fromkeys(names):
        if not _may_read(authorizer, args.kind, name):
            resource: Resource = "intention" if args.kind == "service-intentions" else "service"
            authorizer.require(resource, name, "read")
    return answer


def _readable(authorizer: Authorizer, entries: list[Entry]) -> list[Entry]:
    return [one for one in entries if _may_read(authorizer, str(one.get("Kind")), mesh.text(one, "Name"))]


def _permit_list(authorizer: Authorizer, args: EntryQuery, answer: Answer) -> Answer:
    found: KindEntries = answer.value
    seen = _readable(authorizer, found.entries)
    return _narrowed(answer, KindEntries(found.kind, seen), len(seen) < len(found.entries))


def _permit_all(authorizer: Authorizer, args: KindsQuery, answer: Answer) -> Answer:
    seen = _readable(authorizer, answer.value)
    return _narrowed(answer, seen, len(seen) < len(answer.value))


def _narrowed(answer: Answer, value: Any, filtered: bool) -> Answer:
    return replace(answer, value=value, filtered=True) if filtered else answer


def _permit_service(authorizer: Authorizer, args: ServiceQuery, answer: Answer) -> Answer:
    authorizer.require("service", args.name, "read")
    return answer


# --- writes ----------------------------------------------------------------------------------------


def _prepare(view: Store, args: ConfigEntryRequest) -> bytes:
    if args.op not in ("upsert", "upsert-cas"):
        raise Invalid(f"invalid config entry operation type: {args.op}")
    fitted = refit(args.kind, args.entry)
    entry = rules.normalize(fitted)
    rules.validate(entry)
    graph.check_fit(view, entry)
    return _command(args, entry)


def _prepare_delete(view: Store, args: ConfigEntryRequest) -> bytes:
    entry = refit(args.kind, args.entry)
    if args.kind == "proxy-defaults":
        entry["Name"] = rules.proxy_name(entry["Name"])
    op = "delete-cas" if args.op == "delete-cas" else "delete"
    return _command(replace(args, op=op), entry)


def _command(args: ConfigEntryRequest, entry: Entry) -> bytes:
    request = mesh.write_entry_request(args.kind, entry, args.op, args.datacenter, args.token)
    return bytes([commands.CONFIG_ENTRY]) + msgpack.encode(request)


def _permit_write(authorizer: Authorizer, view: Store, args: ConfigEntryRequest) -> None:
    kind, entry = args.kind, refit(args.kind, args.entry)
    stored = view.config_entry(kind, entry["Name"])[1]
    names = [entry["Name"]] if stored is None else [entry["Name"], mesh.text(stored, "Name")]
    if kind in ("service-defaults", "service-router", "service-splitter", "service-resolver"):
        for name in dict.fromkeys(names):
            authorizer.require("service", name, "write")
        for other in graph.related_services(entry):
            authorizer.require("service", other, "read")
    elif kind == "service-intentions":
        for name in dict.fromkeys(names):
            authorizer.require("intention", name, "write")
    else:
        authorizer.require("operator", "", "write")


GET = Read("ConfigEntry.Get", _get, _permit_get)
LIST = Read("ConfigEntry.List", _list, _permit_list)
LIST_ALL = Read("ConfigEntry.ListAll", _list_all, _permit_all)
RESOLVE = Read("ConfigEntry.ResolveServiceConfig", _resolve, _permit_service)
APPLY = Write("ConfigEntry.Apply", _prepare, _permit_write)
DELETE = Write("ConfigEntry.Delete", _prepare_delete, _permit_write)


# --- HTTP ------------------------------------------------------------------------------------------


def _cas(request: Request) -> int | None:
    text = request.query.get("cas")
    if not text:
        return None
    try:
        return parse_uint(text)
    except ValueError as error:
        raise Invalid(str(error)) from None


def _decoded(body: bytes) -> Entry:
    try:
        return read_entry(gojson.decode(body))
    except (JsonError, BadRequest) as error:
        raise BadRequest(f"Bad request: Request decoding failed: {error}") from None


def apply(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/config`: write an entry; with `cas` only over the version of that index."""
    entry = _decoded(request.body)
    index = _cas(request)
    if index is not None:
        entry["ModifyIndex"] = index
    # Entries are written in the primary datacenter, whatever `dc` says.
    args = ConfigEntryRequest(
        "upsert" if index is None else "upsert-cas", entry["Kind"], entry, agent.datacenter, request.token
    )
    return Command(APPLY, args, lambda done: Reply(body=b"true" if done is True else b"false"))


def entry(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/config/KIND/NAME`: GET it, or without a name all of the kind; DELETE it."""
    kind, slash, name = request.rest.partition("/")
    if request.method == "DELETE":
        return _delete(agent, request, kind, name if slash else None)
    options = query_options(request)
    if not slash:
        return Question(LIST, EntryQuery(kind), options, _shown_list)

    def shown(answer: Answer) -> Reply:
        if answer.value is None:
            text = f"Config entry not found for {quote(kind)} / {quote(name)}"
            return Reply(404, text.encode("utf-8", "replace"), TEXT)
        return Reply(body=gojson.encode(show_entry(answer.value)))

    return Question(GET, EntryQuery(kind, name), options, shown)


def _shown_list(answer: Answer) -> Reply:
    return Reply(body=gojson.encode([show_entry(entry) for entry in answer.value.entries]))


def _delete(agent: AgentDoor, request: Request, kind: str, name: str | None) -> Outcome:
    if name is None:
        raise NotFound("Must provide both a kind and name to delete")
    if kind not in KINDS:
        raise BadRequest(f"invalid config entry kind: {kind}")
    index = _cas(request)
    doomed = {"Kind": kind, "Name": name, "ModifyIndex": index or 0}
    args = ConfigEntryRequest(
        "delete" if index is None else "delete-cas", kind, doomed, agent.datacenter, request.token
    )

    def done(result: object) -> Reply:
        if index is None:
            return Reply(body=b"{}")
        return Reply(body=b"true" if result is True else b"false")

    return Command(DELETE, args, done)


ROUTES = (
    Route("/v1/config", ("PUT",), apply),
    Route("/v1/config/", ("GET", "DELETE"), entry),
)
