"""Sessions at work: lock delays on every server, and the end of sessions that were not renewed, by the
leader (protocols/fsm.md sections 4 and 8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from core.api import session as api
from core.codec.duration import SECOND
from core.errors import CtlError, Invalid
from core.node.session_timers import SessionTimers
from core.store import commands
from core.store.structs import Session, SessionRequest
from core.store.view import Hooks

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.raft import RaftService
    from agent.world import World
    from core.store.state import Store


class Sessions(Hooks):
    """What this server knows of sessions beside the replicated state."""

    def __init__(self, store: Store, raft: RaftService, datacenter: str, world: World, log: Logger) -> None:
        self._store, self._raft = store, raft
        self._datacenter = datacenter
        self._world, self._log = world, log
        self._delays: dict[bytes, float] = {}  # key -> monotonic second until which it cannot be locked
        self._timers: SessionTimers | None = None  # while this server leads
        self._handle: asyncio.TimerHandle | None = None
        store.hooks = self

    # core.store.view.Hooks

    def new_id(self) -> str:
        return self._world.uuid()

    def is_delayed(self, key: bytes) -> bool:
        until = self._delays.get(key)
        if until is None:
            return False
        if until > self._world.now():
            return True
        del self._delays[key]
        return False

    def lock_released(self, key: bytes, delay: int) -> None:
        now = self._world.now()
        self._delays[key] = now + delay / SECOND
        if len(self._delays) % 1024 == 0:  # those whose key nobody asks for again
            self._delays = {one: until for one, until in self._delays.items() if until > now}

    def session_changed(self, session_id: str) -> None:
        if self._timers is None:
            return
        found = self._store.sessions.get(session_id)
        if found is None:
            self._timers.stop(session_id)
        else:
            self.renew(found)

    def state_replaced(self) -> None:
        """A restored archive has sessions of its own, which nobody may be there to renew."""
        if self._timers is not None:
            self.leading(True)

    # the leader's clock

    def leading(self, is_leader: bool) -> None:
        """Leadership was won, and every session has its whole time again; or it was lost."""
        self._timers = SessionTimers(self._world.now()) if is_leader else None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if is_leader:
            for session in self._store.session_list()[1]:
                self.renew(session)

    def renew(self, session: Session) -> None:
        """The session has its whole time from now on. Without a TTL it ends by its checks only."""
        if self._timers is None:
            return
        try:
            ttl = api.ttl_of(session)
        except Invalid as error:
            self._log.warn("a session has no usable TTL", session=session.id, error=str(error))
            return
        if ttl:
            self._timers.start(session.id, ttl / SECOND, self._world.now())
            self._arm()

    def _arm(self) -> None:
        if self._handle is None and self._timers is not None:
            due = self._timers.deadline()
            if due is not None:
                wait = max(0.0, due - self._world.now())
                self._handle = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._handle = None
        timers = self._timers
        if timers is None:
            return
        known = self._store.sessions
        for session_id in timers.tick(self._world.now()):
            if session_id not in known:
                timers.stop(session_id)  # the whole state was replaced
                continue
            self._log.info("session TTL expired", session=session_id)
            request = SessionRequest(self._datacenter, "destroy", Session(id=session_id))
            self._raft.propose(commands.session(request), self._ended)
        self._arm()

    def _ended(self, result: object) -> None:
        if isinstance(result, CtlError):  # the timers try again
            self._log.error("a session could not be ended", error=str(result))
