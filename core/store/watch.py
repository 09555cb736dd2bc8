"""Watches: who wants to know when what an answer was made of changes.

A read registers its Watch in the cells that it looked at (a key, a prefix, a table, a service). A
command that changes a cell fires every watch in it, once, after the whole command was applied. A
fired watch is spent: it has left all its cells. One Watch serves everyone who asked the same
question (blocking queries) and guards remembered answers (`watch.fired` is the validity check).

The index of an answer may be that of more than what it shows: of all sessions for one session. A watch
for a remembered answer is a `whole` one, which hears of whatever moves the index; those who wait want to
hear of news only."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Watch:
    """Fires once. `fired` is True from then on; callbacks run in the order they were added."""

    __slots__ = ("_callbacks", "_cells", "fired", "whole")

    def __init__(self, *, whole: bool = False) -> None:
        self.fired = False
        self.whole = whole  # hears also of what moves no more than the index
        self._callbacks: list[Callable[[], None]] = []
        self._cells: list[tuple[dict[Hashable, set[Watch]], Hashable]] = []

    def on_fire(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when the watch fires; at once if it has fired already."""
        if self.fired:
            callback()
        else:
            self._callbacks.append(callback)

    def drop(self, callback: Callable[[], None]) -> None:
        """Forget a callback added with `on_fire` (no error if it is gone)."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    @property
    def waited_for(self) -> bool:
        """Whether anyone waits for it."""
        return bool(self._callbacks)

    def enter(self, cells: dict[Hashable, set[Watch]], name: Hashable) -> None:
        """Register in the cell `name` of `cells`."""
        group = cells.get(name)
        if group is None:
            group = cells[name] = set()
        if self not in group:
            group.add(self)
            self._cells.append((cells, name))

    def close(self) -> None:
        """Leave all cells without firing; needed when a watch is given up before it fired."""
        for cells, name in self._cells:
            group = cells.get(name)
            if group is not None:
                group.discard(self)
                if not group:
                    del cells[name]
        self._cells = []

    def fire(self) -> None:
        """Mark as spent, leave all cells, tell everyone."""
        if self.fired:
            return
        self.fired = True
        self.close()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
