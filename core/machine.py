"""The shape of a machine: told things, asked things, doing nothing itself (design: one idea for all rules).

    machine.receive(source, message, now)   something happened
    machine.tick(now)                       time has passed
    machine.deadline() -> float | None      when to tick next (same clock as `now`, seconds)
    machine.drain() -> Ready | None         what must be done, in order: persist, send, apply, tell

Machines import no clock, socket, file or global chance; `now` and a `random.Random` are arguments."""

from __future__ import annotations

from typing import Any, Protocol


class Machine(Protocol):
    """What `agent/driver.py` can run on the event loop and `tests/sim` on pretend time."""

    def receive(self, source: Any, message: Any, now: float) -> None: ...

    def tick(self, now: float) -> None: ...

    def deadline(self) -> float | None: ...

    def drain(self) -> Any: ...
