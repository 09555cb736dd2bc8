"""User events: `/v1/event/*`, and the errand Internal.EventFire.

An event spreads by gossip; every agent keeps the last ones that were meant for it and lists those."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from msgspec import Struct

from core.acl.access import Authorizer
from core.api.agent_common import filtered, judge_anew, refuse
from core.api.blocking import MAX_WAIT, query_options
from core.api.endpoint import (
    Action,
    AgentDoor,
    Errand,
    Outcome,
    QueryOptions,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import gojson
from core.codec.msgpack import DecodeError
from core.codec.regex import RegexError
from core.codec.regex import compile as compile_regex
from core.errors import Invalid
from core.gossip import consul_events
from core.gossip.consul_events import ConsulEvent
from core.store.structs import go_name
from core.store.watch import Watch


class HeardEvent(Struct, frozen=True):
    """A user event as this agent heard it. `ltime` is that of Serf's event clock, 0 when just fired."""

    event: ConsulEvent
    ltime: int = 0


class EventsDoor(Protocol):
    """The events that an agent has heard. agent/events.py's EventLog fulfils it."""

    def heard(self, watch: Watch | None = None) -> Sequence[HeardEvent]:
        """The last ones, oldest first; `watch` fires with the next."""

    def new_id(self) -> str:
        """A random UUID."""


class _Agent(Protocol):
    @property
    def events(self) -> EventsDoor: ...


class EventFireRequest(Struct, frozen=True, rename=go_name):
    """structs.EventFireRequest. `payload` is an encoded ConsulEvent."""

    datacenter: str = ""
    name: str = ""
    payload: bytes | None = None


async def _fire(server: ServerDoor, args: EventFireRequest) -> None:
    """Any server can: gossip takes it to the others (protocols/gossip.md 9.5)."""
    await server.lan.user_event(consul_events.EVENT_PREFIX + args.name, args.payload or b"")


def _may_fire(authorizer: Authorizer, args: EventFireRequest) -> None:
    authorizer.require("event", args.name, "write")
    try:
        told = consul_events.decode(args.payload or b"").name
    except DecodeError:
        return  # nobody will understand it
    if told != args.name:  # it is this one that agents hear
        authorizer.require("event", told, "write")


FIRE = Action("Internal.EventFire", _fire, leader=False, permit=_may_fire)


# --- filters ----------------------------------------------------------------------------------------


def check_filters(event: ConsulEvent) -> None:
    """Invalid, with Consul's text, when the filters of an event cannot be used."""
    if event.tag_filter and not event.service_filter:
        raise Invalid("Cannot provide tag filter without service filter")
    for name, pattern in (
        ("node", event.node_filter),
        ("service", event.service_filter),
        ("tag", event.tag_filter),
    ):
        try:
            compile_regex(pattern)
        except RegexError as error:
            raise Invalid(f"Invalid {name} filter: {error}") from None


def is_meant_for(
    event: ConsulEvent, node: str, services: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> bool:
    """Whether a node of that name with these services, as (names, tags), is meant. RegexError."""
    if event.node_filter and not compile_regex(event.node_filter)(node):
        return False
    if not event.service_filter:
        return True
    named = compile_regex(event.service_filter)
    tagged = compile_regex(event.tag_filter) if event.tag_filter else None
    return any(
        any(map(named, names)) and (tagged is None or any(map(tagged, tags))) for names, tags in services
    )


# --- over HTTP --------------------------------------------------------------------------------------


def fire(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/event/fire/NAME`: the body is the payload."""
    if not request.rest:
        return refuse(400, "Missing name")
    query = request.query
    event = ConsulEvent(
        id=cast(_Agent, agent).events.new_id(),
        name=request.rest,
        node_filter=query.get("node"),
        payload=request.body,
        service_filter=query.get("service"),
        tag_filter=query.get("tag"),
        version=consul_events.VERSION,
    )
    check_filters(event)
    datacenter = query.get("dc")
    args = EventFireRequest(datacenter or agent.datacenter, event.name, consul_events.encode(event))

    def fired(_: object) -> Reply:
        return Reply(body=gojson.encode(_show(HeardEvent(event))))

    return Errand(FIRE, args, fired, datacenter, request.token)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/event/list`: the events that this agent has heard and that are meant for what is named.
    Which of them the token may see is for this agent to say: no server knows them."""
    options = query_options(request)
    log = _Log(cast(_Agent, agent).events, request)
    found = log.find()
    if index_of(found) == options.min_query_index:
        return _listed_later(agent, log, options)
    return log.listing(found)


class _Log:
    """The events that a request asks for and may see."""

    def __init__(self, events: EventsDoor, request: Request) -> None:
        self._events, self.request = events, request
        self._keep = _wanted(request)
        self._hidden = False

    def find(self, watch: Watch | None = None) -> list[HeardEvent]:
        """Those that there are now; `watch` fires with the next one."""
        found = [one for one in self._events.heard(watch) if self._keep(one.event)]
        allows = self.request.authorizer.allows
        seen = [one for one in found if allows("event", one.event.name, "read")]
        self._hidden = len(seen) < len(found)
        return seen

    def listing(self, found: Sequence[HeardEvent]) -> Reply:
        """The reply with what was found last."""
        headers = filtered(self.request, self._hidden)
        return Reply(
            body=gojson.encode([_show(one) for one in found]), headers=headers, index=index_of(found)
        )


def _wanted(request: Request) -> Callable[[ConsulEvent], bool]:
    """The filters of a listing: by name, and by the node, service and tag that an event is meant for."""
    query = request.query
    name, node, service, tag = (query.get(key) for key in ("name", "node", "service", "tag"))

    def keep(event: ConsulEvent) -> bool:
        return (
            (not name or event.name == name)
            and _meets(event.node_filter, node)
            and _meets(event.service_filter, service)
            and _meets(event.tag_filter, tag)
        )

    return keep


def _meets(pattern: str, wanted: str) -> bool:
    """Whether what is asked for is among what an event is meant for; no pattern means all."""
    if not wanted or not pattern:
        return True
    return compile_regex(pattern)(wanted)


async def _listed_later(agent: AgentDoor, log: _Log, options: QueryOptions) -> Reply:
    """Blocks until the list ends in another event: its index does not grow, so equality counts."""
    wait = agent.local.wait
    left = min(options.max_query_time or MAX_WAIT, MAX_WAIT)
    deadline = agent.wall() + left / 1e9
    while True:
        watch = Watch()
        found = log.find(watch)
        left = int((deadline - agent.wall()) * 1e9)
        if index_of(found) != options.min_query_index or left <= 0 or not await wait(watch, left):
            watch.close()
            return log.listing(found)
        await judge_anew(agent, log.request)


def index_of(found: Sequence[HeardEvent]) -> int:
    """The halves of the last event's id, combined; 1 for an empty list so that nobody asks in a loop."""
    if not found:
        return 1
    number = int(found[-1].event.id.replace("-", ""), 16)
    return (number >> 64) ^ (number & ((1 << 64) - 1)) or 1


def _show(heard: HeardEvent) -> dict[str, Any]:
    event = heard.event
    return {
        "ID": event.id,
        "Name": event.name,
        "Payload": base64.b64encode(event.payload).decode() if event.payload else None,
        "NodeFilter": event.node_filter,
        "ServiceFilter": event.service_filter,
        "TagFilter": event.tag_filter,
        "Version": event.version,
        "LTime": heard.ltime,
    }


ROUTES = (
    Route("/v1/event/fire/", ("PUT",), fire),
    Route("/v1/event/list", ("GET",), listed, guarded=True),
)
ACTIONS = (FIRE,)
