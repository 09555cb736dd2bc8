"""The user events that this agent has heard and that are meant for it (protocols/gossip.md 9.5)."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from core.api.event import HeardEvent, is_meant_for
from core.codec.msgpack import DecodeError
from core.codec.regex import RegexError
from core.gossip import consul_events
from core.gossip.consul_events import ConsulEvent
from core.gossip.member import UserEvent

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.node.local import LocalState
    from core.store.watch import Watch

KEPT = 256
_CELL = "events"


def _nobody(_: str) -> None:
    """No one wants to know of new leaders."""


class EventLog:
    """Takes Serf's user events of the LAN pool; keeps those of `ctl event fire` that are meant for us."""

    def __init__(
        self,
        node: str,
        local: LocalState,
        world: World,
        log: Logger,
        on_leader: Callable[[str], None] = _nobody,
    ) -> None:
        """`on_leader(name)` is told when a server says that it leads now."""
        self._node, self._local, self._world, self._log = node, local, world, log
        self._on_leader = on_leader
        self._heard: deque[HeardEvent] = deque(maxlen=KEPT)
        self._cells: dict[Hashable, set[Watch]] = {}

    def heard(self, watch: Watch | None = None) -> Sequence[HeardEvent]:
        """The last ones, oldest first; `watch` fires with the next."""
        if watch is not None:
            watch.enter(self._cells, _CELL)
        return tuple(self._heard)

    def new_id(self) -> str:
        """A random UUID."""
        return str(uuid.UUID(int=self._world.random.getrandbits(128), version=4))

    def take(self, event: UserEvent) -> None:
        """Hear of an event. Those of others than Consul's are none of ours."""
        if event.name == consul_events.NEW_LEADER:
            leader = event.payload.decode("utf-8", "replace")
            self._log.info("new leader elected", payload=leader)
            self._on_leader(leader)
        elif event.name.startswith(consul_events.EVENT_PREFIX):
            self._hear(event)
        elif event.name.startswith(consul_events.PREFIX):
            self._log.warn("unhandled event", event=event.name)

    def _hear(self, event: UserEvent) -> None:
        try:
            found = consul_events.decode(event.payload)
            if str(uuid.UUID(found.id)) != found.id.lower():  # the index of the list is made of it
                raise ValueError("badly formed id")
        except (DecodeError, ValueError) as error:
            self._log.error("failed to decode event", event=event.name, error=str(error))
            return
        if found.version > consul_events.VERSION:
            self._log.warn(
                "event version may have unsupported features", version=found.version, event=found.id
            )
        if found.name == consul_events.REMOTE_EXEC:
            # A remote shell is what break-ins used (design: pains row 25): there is none to switch on.
            self._log.debug("ignoring remote exec event", event=found.id)
        elif self._is_for_us(found):
            self._log.debug("new event", event_name=found.name, event_id=found.id)
            self._heard.append(HeardEvent(found, event.ltime))
            for watch in list(self._cells.get(_CELL, ())):
                watch.fire()

    def _is_for_us(self, event: ConsulEvent) -> bool:
        services = [((one.service, one.id), one.tags or ()) for one in self._local.services.values()]
        try:
            return is_meant_for(event, self._node, services)
        except RegexError as error:
            self._log.error("failed to parse a filter of an event", event=event.id, error=str(error))
            return False
