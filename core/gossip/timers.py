"""What a machine will do at what time, on the caller's clock."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

Action = Callable[[float], None]


class Timers:
    """Actions by time. There is no taking back: an action whose reason is gone finds out itself."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._count = 0

    def at(self, when: float, action: Action) -> None:
        """Call `action(now)` at `when` or soon after."""
        self._count += 1
        heappush(self._heap, (when, self._count, action))

    def deadline(self) -> float | None:
        """When the next action is due."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Everything that is due, in order."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            heappop(heap)[2](now)
