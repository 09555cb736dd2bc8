"""Pretend time, and event loops of processes that live in it: what asyncio code does is repeated exactly,
hours pass in a moment, and a process can stall or die in the middle of anything."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class Time:
    """What is to happen, and when. Of things at the same moment the one that was asked for first is first."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def later(self, when: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Call `call(*arguments)` at `when`."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, call, arguments))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            when, _, call, arguments = pop(heap)
            if when > self.now:
                self.now = when
            call(*arguments)
        self.now = end

    def until(self, condition: Callable[[], bool], seconds: float, step: float = 0.05) -> float:
        """Let time pass until `condition`; how much it was."""
        began = self.now
        while not condition():
            assert self.now - began < seconds, f"not within {seconds} s"
            self.run(step)
        return self.now - began


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process: enough of one for tasks, futures and timers. Nothing of it happens
    before `busy_until`, nor after `end`; `defects` has what its code raised and nobody caught."""

    def __init__(self, time: Time, defects: list[str]) -> None:
        self.clock = time
        self.busy_until = 0.0
        self.ended = False
        self._late: list[asyncio.Handle] = []  # what came while the process was busy
        self._defects = defects

    def end(self) -> None:
        """The process dies: its tasks end where they are."""
        self.ended = True
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            coroutine.close()

    # --- what asyncio asks of a loop

    def time(self) -> float:
        return self.clock.now

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.clock.later(self.clock.now, self._run, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.clock.later(max(when, self.clock.now), self._run, handle)
        return handle

    def _run(self, handle: asyncio.Handle) -> None:
        if self.ended or handle.cancelled():
            return
        if self._late or self.clock.now < self.busy_until:
            if not self._late:
                self.clock.later(self.busy_until, self._wake)
            self._late.append(handle)
            return
        self.enter(handle._run)

    def _wake(self) -> None:
        if self.clock.now < self.busy_until:
            self.clock.later(self.busy_until, self._wake)
            return
        late, self._late = self._late, []
        for handle in late:
            self._run(handle)

    def enter(self, call: Callable[[], Any]) -> None:
        """Call it as this loop does."""
        events._set_running_loop(self)
        try:
            call()
        finally:
            events._set_running_loop(None)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.ended:
            self._defects.append(f"{context.get('message')}: {context.get('exception')!r}")

    def is_running(self) -> bool:
        return not self.ended

    def is_closed(self) -> bool:
        return self.ended

    def get_debug(self) -> bool:
        return False
