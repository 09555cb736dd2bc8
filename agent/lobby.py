"""The waiting room of blocking queries: everyone who asked the same thing shares one watch and one
rendered answer, so a change costs one run of the question however many wait (design: pains rows 4, 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Protocol

from core.api.endpoint import Answer, Question
from core.errors import CtlError
from core.store.watch import Watch


class Teller(Protocol):
    """Who asked and waits: gets the answer or the error, once."""

    def __call__(
        self, question: Question, outcome: Answer | CtlError, shared: dict[Hashable, bytes]
    ) -> None: ...


def blocks(answer: Answer, question: Question) -> bool:
    """Whether the answer is not above the index that the client has seen (an index of 0 counts as 1)."""
    return max(answer.index, 1) <= question.options.min_query_index


class Waiter:
    """One blocked request. `cancel()` when its client is gone."""

    __slots__ = ("_group", "_timer", "question", "tell")

    def __init__(self, group: _Group, question: Question, tell: Teller) -> None:
        """`question` asks what the group's does; how the answer is rendered may differ (`?raw`)."""
        self._group: _Group | None = group
        self.question = question
        self._timer: asyncio.TimerHandle | None = None
        self.tell = tell

    def arm(self, seconds: float) -> None:
        assert self._group is not None
        self._timer = self._group.lobby.loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        group = self._leave()
        if group is not None:
            self.tell(self.question, group.lobby.run(self.question, None), {})

    def _leave(self) -> _Group | None:
        group, self._group = self._group, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if group is not None:
            group.remove(self)
        return group

    def cancel(self) -> None:
        """Stop waiting without an answer."""
        self._leave()

    def detach(self) -> None:
        """The group answers and takes care of itself."""
        self._group = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Group:
    """All who wait for the same question above the same index."""

    __slots__ = ("_scheduled", "_watch", "key", "lobby", "question", "waiters")

    def __init__(self, lobby: Lobby, key: Hashable, question: Question, watch: Watch) -> None:
        self.lobby, self.key, self.question = lobby, key, question
        self.waiters: dict[Waiter, None] = {}
        self._watch = watch
        self._scheduled = False
        watch.on_fire(self._changed)

    def _changed(self) -> None:
        # Not at once: the rest of the committed batch is applied first, so one run sees it all.
        if not self._scheduled:
            self._scheduled = True
            self.lobby.loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        if not self.waiters:
            return
        watch = Watch()
        outcome = self.lobby.run(self.question, watch)
        if isinstance(outcome, Answer) and blocks(outcome, self.question):
            self._watch = watch
            watch.on_fire(self._changed)
            return
        watch.close()
        self.answer(outcome)

    def answer(self, outcome: Answer | CtlError) -> None:
        self.lobby.forget(self)
        self._watch.close()
        shared: dict[Hashable, bytes] = {}
        for waiter in list(self.waiters):
            waiter.detach()
            waiter.tell(waiter.question, outcome, shared)
        self.waiters.clear()

    def remove(self, waiter: Waiter) -> None:
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self._watch.close()
            self.lobby.forget(self)


class Lobby:
    """The groups by question. `run(question, watch)` answers a question or gives its error."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, run: Callable[[Question, Watch | None], Answer | CtlError]
    ) -> None:
        self.loop = loop
        self.run = run
        self._groups: dict[Hashable, _Group] = {}

    def __len__(self) -> int:
        """How many requests wait."""
        return sum(len(group.waiters) for group in self._groups.values())

    def has(self, key: Hashable) -> bool:
        """Whether someone waits for this very question, so that it need not be run to know that it blocks."""
        group = self._groups.get(key)
        return group is not None and not group._scheduled

    def join(
        self, key: Hashable, question: Question, watch: Watch | None, seconds: float, tell: Teller
    ) -> Waiter:
        """Wait for `question` to pass its `min_query_index`, at most `seconds`; then `tell` is called.

        `watch` is what the first run registered; None when `has(key)` said that others wait already."""
        group = self._groups.get(key)
        if group is None:
            assert watch is not None, "the first one to wait brings the watch"
            group = self._groups[key] = _Group(self, key, question, watch)
        elif watch is not None:
            watch.close()
        waiter = Waiter(group, question, tell)
        group.waiters[waiter] = None
        waiter.arm(seconds)
        return waiter

    def forget(self, group: _Group) -> None:
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
