"""Answers of the servers that a client agent keeps current: for `?cached` reads and for DNS.

An entry is asked again by a blocking query as soon as it was answered, so it is as new as the
servers' word takes to travel; when they cannot be reached it stays, and says its age. What nobody has
asked for in a while is given up, and what the token may no longer know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any

from agent.relay import replaced
from core.api.blocking import MAX_WAIT
from core.api.endpoint import Answer, Question
from core.codec.duration import SECOND
from core.errors import CtlError, Denied
from core.store.watch import Watch

if TYPE_CHECKING:
    from agent.world import World

IDLE_SECONDS = 600.0
MAX_ENTRIES = 4096
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0  # seconds between tries while the servers cannot be reached


class _Entry:
    """One question and the last answer to it."""

    __slots__ = ("answer", "asked_at", "failed_at", "question", "ready", "task")

    def __init__(self, question: Question, now: float) -> None:
        self.question = question
        self.answer: Answer | None = None
        self.asked_at = now
        self.failed_at: float | None = None  # since when the servers cannot be asked
        self.ready: asyncio.Future[Answer] | None = None
        self.task: asyncio.Task[None] | None = None


class Cache:
    """`read(question)` asks the servers."""

    def __init__(self, read: Callable[[Question], Awaitable[Answer]], world: World) -> None:
        self._read = read
        self._world = world
        self._entries: dict[Hashable, _Entry] = {}
        self._cells: dict[Hashable, set[Watch]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, question: Question, watch: Watch | None = None) -> Answer | None:
        """The answer that is at hand; `watch` fires when it changes."""
        key = _key(question)
        entry = self._entries.get(key)
        if entry is None or entry.answer is None:
            return None
        entry.asked_at = self._world.now()
        if watch is not None:
            watch.enter(self._cells, key)
        return entry.answer

    def age(self, question: Question) -> int:
        """Seconds since the answer at hand was known to be current."""
        entry = self._entries.get(_key(question))
        if entry is None or entry.failed_at is None:
            return 0
        return int(self._world.now() - entry.failed_at)

    def forget_failing(self, question: Question) -> bool:
        """Give up an answer that could not be renewed the last time; whether it was so."""
        key = _key(question)
        entry = self._entries.get(key)
        if entry is None or entry.failed_at is None:
            return False
        self._drop(key)
        return True

    async def get(self, question: Question) -> tuple[Answer, bool]:
        """The answer, and whether it was at hand. Raises CtlError when it was not and cannot be had."""
        found = self.peek(question)
        if found is not None:
            return found, True
        key = _key(question)
        entry = self._entries.get(key)
        if entry is None:
            self._make_room()
            entry = self._entries[key] = _Entry(_plain(question), self._world.now())
            loop = asyncio.get_running_loop()
            entry.ready = loop.create_future()
            entry.task = loop.create_task(self._keep(key, entry))
        assert entry.ready is not None
        return await asyncio.shield(entry.ready), False

    def stop(self) -> None:
        """Ask no more."""
        for entry in self._entries.values():
            if entry.task is not None:
                entry.task.cancel()
        self._entries.clear()

    def _make_room(self) -> None:
        if len(self._entries) < MAX_ENTRIES:
            return
        oldest = min(self._entries, key=lambda key: self._entries[key].asked_at)
        self._drop(oldest)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        if entry.task is not None:
            entry.task.cancel()
        self._fire(key)

    def _fire(self, key: Hashable) -> None:
        for watch in list(self._cells.get(key, ())):
            watch.fire()

    async def _keep(self, key: Hashable, entry: _Entry) -> None:
        """Ask, then ask again with the index of the answer, for as long as somebody wants to know."""
        assert entry.ready is not None
        try:
            entry.answer = await self._read(entry.question)
        except CtlError as error:
            del self._entries[key]
            entry.ready.set_exception(error)
            entry.ready.exception()  # those who asked have it; nobody else is to be told
            return
        entry.ready.set_result(entry.answer)
        pause = _FIRST_PAUSE
        while self._world.now() - entry.asked_at < IDLE_SECONDS:
            try:
                await self._renew(key, entry)
                entry.failed_at, pause = None, _FIRST_PAUSE
            except Denied:
                break  # the token may not know any more, or is gone
            except CtlError:
                if entry.failed_at is None:
                    entry.failed_at = self._world.now()
                    self._fire(key)  # whether it is still good enough is for those to say who show it
                await asyncio.sleep(pause * (1 + self._world.random.random()))
                pause = min(2 * pause, _LONGEST_PAUSE)
        if self._entries.get(key) is entry:
            entry.task = None
            self._drop(key)

    async def _renew(self, key: Hashable, entry: _Entry) -> None:
        assert entry.answer is not None
        # After a failure it asks at once what holds now: waiting would leave the age unknown.
        known = max(entry.answer.index, 1) if entry.failed_at is None else 0
        wait = min(MAX_WAIT, int(IDLE_SECONDS * SECOND))
        answer = await self._read(replaced(entry.question, min_query_index=known, max_query_time=wait))
        if answer.index == entry.answer.index:
            return
        # An index that goes back (a restored snapshot) starts anew, as for every client.
        entry.answer = answer
        self._fire(key)


def _plain(question: Question) -> Question:
    return replaced(question, min_query_index=0, max_query_time=0, use_cache=False)


def _key(question: Question) -> tuple[Any, ...]:
    options = question.options
    return (question.read.rpc, question.args, options.datacenter, options.token, options.allow_stale)
