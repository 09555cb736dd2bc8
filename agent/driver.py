"""Runs a machine on the event loop: feed, drain, act, re-arm its one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core.machine import Machine

_SLICE = 0.005  # seconds that one run may hold the loop
_LATE = 0.1  # seconds: a timer that rings so late says that this process was asleep
_WAKE = 0.001  # seconds, in which a process that was asleep reads what has come meanwhile


class Driver:
    """`act(ready)` does what the machine asks for; it may feed the machine again.

    Whatever is fed within one turn of the loop is drained once, at the end of the turn, so that
    what arrives together is written and sent together."""

    def __init__(
        self,
        machine: Machine,
        act: Callable[[Any], None],
        now: Callable[[], float],
        settled: Callable[[], None] | None = None,
    ) -> None:
        """`settled()` is called whenever all has been done for the moment."""
        self._machine = machine
        self._act = act
        self._now = now
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._running = False
        self._closed = False
        self._woken = False

    def receive(self, source: Any, message: Any) -> None:
        """Feed a message."""
        self._machine.receive(source, message, self._now())
        self.wake()

    def wake(self) -> None:
        """The machine was fed directly: drain it at the end of this turn."""
        if self._turn is None and not (self._running or self._closed):
            self._turn = self._loop.call_soon(self.run)

    def run(self) -> None:
        """Drain and act until there is nothing left (or others must have a turn), then set the timer.
        A nested call does nothing."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._running or self._closed:
            return
        self._running = True
        others_wait = False
        until = self._now() + _SLICE
        try:
            while (ready := self._machine.drain()) is not None:
                self._act(ready)
                if self._now() > until:
                    others_wait = True
                    break
        finally:
            self._running = False
        if others_wait:
            self.wake()
        if self._settled is not None:
            self._settled()
        self._arm()

    def close(self) -> None:
        """Never call the machine again."""
        self._closed = True
        for handle in (self._turn, self._timer):
            if handle is not None:
                handle.cancel()
        self._turn = self._timer = None

    def _arm(self) -> None:
        """One timer, moved only when it would ring too late: an early ring costs a look at the clock."""
        due = self._machine.deadline()
        if due is None or self._closed:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - self._now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._now()
        due = self._machine.deadline()
        if due is None or now < due:
            self._woken = False
            self._arm()
        elif now - due > _LATE and not self._woken:
            # The others may have spoken all the while: hear them before believing in their silence.
            self._woken = True
            self._timer_at = now
            self._timer = self._loop.call_later(_WAKE, self._ring)
        else:
            self._woken = False
            self._machine.tick(now)
            self.run()
