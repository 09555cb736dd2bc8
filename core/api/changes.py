"""The stream of changes, `GET /v1/ctl/changes`: what happened to keys, nodes, services and checks, in the
order of the log, from any index on that the servers still know.

    id: 1042                                  the raft index; ask with ?since=1042 (or Last-Event-ID) to go on
    event: change
    data: [{"Kind":"kv","Op":"set","Key":"a","Value":"MQ==",...}]     all that one command changed

    event: reset                              what came after ?since is not known any more: read the state
    data: {"Index":2001}                      anew, and go on from this index

Server-sent events (HTML Living Standard, section 9.2). Not of Consul; its RPC is Internal.Changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import groupby
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import render
from core.api.blocking import parse_index, query_options
from core.api.endpoint import AgentDoor, Answer, Outcome, QueryOptions, Question, Read, Reply, Request, Route
from core.api.permits import kept
from core.codec import duration, gojson
from core.errors import BadRequest, CtlError
from core.store.changes import KINDS, Change
from core.store.state import Store
from core.store.structs import go_name
from core.store.watch import Watch

EVENTS = "text/event-stream"
KEEP_ALIVE = 15 * duration.SECOND  # ns of silence after which a comment shows that the stream lives
_WORDS = {"kv": "Key", "node": "Node", "service": "Service", "check": "Check"}


class ChangesRequest(Struct, frozen=True):
    """What is asked for: changes above `since`, of some kinds (none: of all), of names that begin so."""

    since: int
    kinds: tuple[str, ...] = ()
    prefix: str = ""


class Told(Struct, frozen=True, rename=go_name):
    """A change as it travels. `name` is the key, or the name of the node or service; a check has that of
    its service, if any. `body`: the JSON of it."""

    index: int = 0
    kind: str = ""
    name: str = ""
    node: str = ""
    body: bytes = b""


class Stretch(Struct, frozen=True):
    """The changes up to an index. `reset`: some before them are not known any more."""

    changes: list[Told] = field(default_factory=list)
    reset: bool = False


def _changes(view: Store, args: ChangesRequest, watch: Watch | None) -> Answer:
    view.watch_cell(watch, "changes")
    found = view.changes.since(args.since)
    index = max(view.changes.last, view.changes.complete_after)
    if found is None:
        return Answer(index, Stretch(reset=True), remember=False)
    told = [_told(view, change) for change in found if not args.kinds or change.kind in args.kinds]
    return Answer(index, Stretch([one for one in told if one.name.startswith(args.prefix)]), remember=False)


def _told(view: Store, change: Change) -> Told:
    row = change.row if change.row is not None else change.before
    head: dict[str, Any] = {"Kind": change.kind, "Op": "delete" if change.row is None else "set"}
    if change.kind == "kv":
        name = change.key.decode("utf-8", "surrogateescape")
        shown = {"Key": name} if change.row is None else render.dir_entry(row)
        return Told(change.index, change.kind, name, "", gojson.encode({**head, **shown}))
    if change.kind == "node":
        shown = {"Node": row.node} if change.row is None else render.node(row)
        return Told(change.index, change.kind, row.node, row.node, gojson.encode({**head, **shown}))
    host = view.node_rows.get(change.key[0])
    node = change.key[0] if host is None else host.node
    if change.kind == "service":
        shown = {"Service": row.service, "ID": row.id} if change.row is None else render.node_service(row)
        body = gojson.encode({**head, "Node": node, **shown})
        return Told(change.index, change.kind, row.service, node, body)
    shown = render.health_check(row)
    if change.row is None:
        shown = {name: shown[name] for name in ("Node", "CheckID", "ServiceID", "ServiceName")}
    return Told(change.index, change.kind, row.service_name, row.node, gojson.encode({**head, **shown}))


def _permit(authorizer: Authorizer, args: ChangesRequest, answer: Answer) -> Answer:
    """Each change needs the right to read what changed."""
    stretch: Stretch = answer.value
    listed = kept(Answer(answer.index, stretch.changes), lambda told: _sees(authorizer, told))
    return Answer(
        answer.index, Stretch(listed.value, stretch.reset), remember=False, filtered=listed.filtered
    )


def _sees(authorizer: Authorizer, told: Told) -> bool:
    if told.kind == "kv":
        return authorizer.allows("key", told.name, "read")
    if not authorizer.allows("node", told.node, "read"):
        return False
    return told.kind == "node" or not told.name or authorizer.allows("service", told.name, "read")


CHANGES = Read("Internal.Changes", _changes, _permit)


def stream(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/ctl/changes?since=INDEX[&kind=kv&kind=service][&prefix=P]`: as long as the client listens;
    with `once` what is known now, and no more. Without `since` it begins with what changes from now on."""
    query = request.query
    options = query_options(request)
    kinds = tuple(query.all("kind"))
    unknown = [kind for kind in kinds if kind not in KINDS.values()]
    if unknown:
        raise BadRequest(f"Unknown kind {duration.quote(unknown[0])}: must be {', '.join(KINDS.values())}")
    text = query.get("since") or request.headers.get("last-event-id", "")
    since = parse_index(text) if text else None
    return _begun(
        agent,
        options,
        ChangesRequest(since or 0, kinds, query.get("prefix")),
        since is None,
        query.has("once"),
    )


def _question(options: QueryOptions, args: ChangesRequest) -> Question:
    asked = QueryOptions(
        token=options.token,
        datacenter=options.datacenter,
        min_query_index=args.since,
        max_query_time=KEEP_ALIVE,
        allow_stale=options.allow_stale,
    )
    return Question(CHANGES, args, asked, _unrendered)


def _unrendered(_: Answer) -> Reply:
    raise AssertionError("a stretch of the stream has no reply of its own")


async def _begun(
    agent: AgentDoor, options: QueryOptions, args: ChangesRequest, from_now: bool, once: bool
) -> Reply:
    """The first answer decides whether there is a stream at all: no leader, no token, no such datacenter."""
    asked = _question(options, args)
    asked.options.min_query_index = 0
    first = await agent.ask(asked)
    if from_now:
        first.value = Stretch()
        args = replace(args, since=first.index)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Reply(content_type=EVENTS, headers=headers, stream=_events(agent, options, args, first, once))


async def _events(
    agent: AgentDoor, options: QueryOptions, args: ChangesRequest, answer: Answer, once: bool
) -> AsyncIterator[bytes]:
    while True:
        stretch: Stretch = answer.value
        if stretch.reset or answer.index < args.since:
            yield _event(answer.index, b"reset", gojson.encode({"Index": answer.index}))
        elif not stretch.changes:
            yield b": nothing above %d\n\n" % answer.index
        for index, changes in groupby(stretch.changes, lambda told: told.index):
            yield _event(index, b"change", b"[" + b",".join(told.body for told in changes) + b"]")
        if once:
            return
        args = replace(args, since=answer.index)
        try:
            answer = await agent.ask(_question(options, args))
        except CtlError as error:  # the client comes back with the last id, here or elsewhere
            yield b"event: error\ndata: %s\n\n" % gojson.encode({"Error": error.text})
            return


def _event(index: int, kind: bytes, data: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (index, kind, data)


ROUTES = (Route("/v1/ctl/changes", ("GET",), stream),)
