"""The KV store's endpoint, `/v1/kv/KEY`, and its questions KVS.Get, KVS.List, KVS.ListKeys and KVS.Apply."""

from __future__ import annotations

from msgspec import Struct

from core.acl.access import Authorizer
from core.api import fragments, permits, render
from core.api.blocking import parse_uint, query_options
from core.api.endpoint import (
    PLAIN,
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
from core.errors import BadRequest, Invalid, TooLarge
from core.store import commands
from core.store.kv import fold
from core.store.state import Store
from core.store.structs import DirEntry
from core.store.watch import Watch

_RAW_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}


class KeyRequest(Struct, frozen=True):
    """structs.KeyRequest and KeyListRequest: a key or prefix, and where listed names are cut."""

    key: bytes
    separator: bytes = b""


class KVChange(Struct, frozen=True):
    """What KVS.Apply is asked to do; `cas_index` only counts for the cas operations."""

    op: str
    key: bytes
    value: bytes | None = None
    flags: int = 0
    session: str = ""
    cas_index: int = 0
    token: str = ""


def _get(view: Store, args: KeyRequest, watch: Watch | None) -> Answer:
    index, entry = view.kv_get(args.key, watch)
    return Answer(index, entry, remember=entry is not None)


def _list(view: Store, args: KeyRequest, watch: Watch | None) -> Answer:
    index, entries = view.kv_list(args.key, watch)
    return Answer(index, entries, remember=bool(entries))


def _list_keys(view: Store, args: KeyRequest, watch: Watch | None) -> Answer:
    index, keys = view.kv_keys(args.key, args.separator, watch)
    return Answer(index, keys, remember=bool(keys))


def _prepare(view: Store, args: KVChange) -> bytes | Settled:
    if not args.key and args.op != "delete-tree":
        raise Invalid("Must provide key")
    if args.op == "lock" and view.hooks.is_delayed(args.key):
        return Settled(False)
    if args.op == "lock":
        check_session(args.session)
    return commands.kvs(
        args.op,
        args.key,
        args.value,
        flags=args.flags,
        session=args.session,
        cas_index=args.cas_index,
        token=args.token,
    )


def check_session(session_id: str) -> None:
    """Who wants to hold a key names a session by its UUID. Invalid."""
    if session_id and len(session_id) != 36:
        raise Invalid("failed session lookup: index error: UUID must be 36 characters")


def _may_list(authorizer: Authorizer, args: KeyRequest, answer: Answer) -> Answer:
    authorizer.require("key", permits.key_name(args.key), "list")
    return permits.kept(answer, lambda entry: sees_key(authorizer, entry.key))


def sees_key(authorizer: Authorizer, key: bytes) -> bool:
    """Whether a key may be read."""
    return authorizer.allows("key", permits.key_name(key), "read")


def _judged_keys(authorizer: Authorizer, view: Store, args: KeyRequest, watch: Watch | None) -> Answer:
    """The names, cut only when it is known which may be read: a folder shows what is in it."""
    authorizer.require("key", permits.key_name(args.key), "list")
    index, keys = view.kv_keys(args.key, b"", watch)
    answer = permits.kept(Answer(index, keys, remember=bool(keys)), lambda key: sees_key(authorizer, key))
    if args.separator:
        answer.value = fold(answer.value, len(args.key), args.separator)
    return answer


def _may_change(authorizer: Authorizer, view: Store, args: KVChange) -> None:
    name = permits.key_name(args.key)
    if args.op == "delete-tree":
        authorizer.require_below("key", name, "write")
    else:
        authorizer.require("key", name, "write")


GET = Read("KVS.Get", _get, permits.reads("key", lambda args: permits.key_name(args.key)))
LIST = Read("KVS.List", _list, _may_list)
LIST_KEYS = Read("KVS.ListKeys", _list_keys, permits.judged, _judged_keys)
APPLY = Write("KVS.Apply", _prepare, _may_change)


def _read(agent: AgentDoor, request: Request) -> Outcome:
    options = query_options(request)
    query = request.query
    key = request.rest.encode("utf-8", "surrogateescape")
    if query.has("keys"):
        separator = query.get("separator").encode("utf-8", "surrogateescape")
        return Question(LIST_KEYS, KeyRequest(key, separator), options, _names)
    if query.has("recurse"):
        return Question(LIST, KeyRequest(key), options, _entries, each=fragments.dir_entry)
    if not key:
        raise BadRequest("Missing key name")
    return Question(GET, KeyRequest(key), options, _raw if query.has("raw") else _entry)


def _entry(answer: Answer) -> Reply:
    if answer.value is None:
        return Reply(404)
    return Reply(body=gojson.encode([render.dir_entry(answer.value)]))


def _raw(answer: Answer) -> Reply:
    if answer.value is None:
        return Reply(404)
    return Reply(body=answer.value.value or b"", content_type=PLAIN, headers=_RAW_HEADERS)


def _entries(answer: Answer) -> Reply:
    entries: list[DirEntry] = answer.value
    if not entries:
        return Reply(404)
    return Reply(body=fragments.listed(entries, fragments.dir_entry.body))


def _names(answer: Answer) -> Reply:
    names: list[bytes] = answer.value
    if not names:
        return Reply(404)
    return Reply(body=gojson.encode([name.decode("utf-8", "surrogateescape") for name in names]))


def _write(agent: AgentDoor, request: Request) -> Outcome:
    query, limit = request.query, agent.kv_max_value_size
    key = request.rest.encode("utf-8", "surrogateescape")
    if not key:
        raise BadRequest("Missing key name")
    if not query.empty:
        _refuse_conflicts(request, ("cas", "acquire", "release"))
    if request.length > limit:
        raise TooLarge(
            f"Request body({request.length} bytes) too large, max size: {limit} bytes. "
            "See https://www.consul.io/docs/agent/options.html#kv_max_value_size."
        )
    if query.empty:
        return Command(APPLY, KVChange("set", key, request.body or None, token=request.token), _true)
    flags = _number(request, "flags") if query.has("flags") else 0
    op, session, cas_index = "set", "", 0
    if query.has("cas"):
        op, cas_index = "cas", _number(request, "cas")
    if query.has("acquire"):
        op, session = "lock", query.get("acquire")
    if query.has("release"):
        op, session = "unlock", query.get("release")
    change = KVChange(op, key, request.body or None, flags, session, cas_index, request.token)
    return Command(APPLY, change, _true if op == "set" else _truth, query.get("dc"))


def _delete(agent: AgentDoor, request: Request) -> Outcome:
    query = request.query
    key = request.rest.encode("utf-8", "surrogateescape")
    recurse = query.has("recurse")
    if not key and not recurse:
        raise BadRequest("Missing key name")
    if recurse:
        _refuse_conflicts(request, ("cas", "recurse"))
        change = KVChange("delete-tree", key, token=request.token)
        return Command(APPLY, change, _true, query.get("dc"))
    if query.has("cas"):
        change = KVChange("delete-cas", key, cas_index=_number(request, "cas"), token=request.token)
        return Command(APPLY, change, _truth, query.get("dc"))
    return Command(APPLY, KVChange("delete", key, token=request.token), _true, query.get("dc"))


def _number(request: Request, name: str) -> int:
    try:
        return parse_uint(request.query.get(name))
    except ValueError as error:
        raise Invalid(str(error)) from None


def _refuse_conflicts(request: Request, names: tuple[str, ...]) -> None:
    given = [f"{name}={request.query.get(name)}" for name in names if request.query.has(name)]
    if len(given) > 1:
        raise BadRequest("Conflicting flags: " + "&".join(given))


_TRUE = Reply(body=b"true", fixed=True)
_FALSE = Reply(body=b"false", fixed=True)


def _true(_: object) -> Reply:
    return _TRUE


def _truth(result: object) -> Reply:
    return _TRUE if result is True else _FALSE


_METHODS = {"GET": _read, "PUT": _write, "DELETE": _delete}


def kv(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/kv/KEY`: read, write or delete."""
    return _METHODS[request.method](agent, request)


ROUTES = (Route("/v1/kv/", ("GET", "PUT", "DELETE"), kv, large=True),)
