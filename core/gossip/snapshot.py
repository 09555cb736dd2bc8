"""The file by which a restarted node finds its cluster again (protocols/gossip.md 7.8).

Text in, text out: who owns the file appends the lines, and writes `compacted()` in its place when it is
longer than `limit`. The format is Serf's; lines that nobody understands are skipped."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

_MIN_LIMIT = 128 * 1024
_PER_MEMBER = 128
_COMPACT_FACTOR = 2
CLOCK_INTERVAL = 0.5  # seconds between looks at the member clock


class SnapshotState(Struct):
    """What the file says. `alive` has `ip:port` by name; the clocks are the last values seen."""

    alive: dict[str, str] = field(default_factory=dict)
    clock: int = 0
    event_clock: int = 0
    query_clock: int = 0
    left: bool = False

    def clear(self) -> None:
        """We left: what was known is nobody's business any more."""
        self.alive.clear()
        self.clock = self.event_clock = self.query_clock = 0


def parse(text: str, rejoin_after_leave: bool = False) -> SnapshotState:
    """The state that the lines lead to. Never fails: a torn last line must not cost the start."""
    state = SnapshotState()
    for line in text.split("\n"):
        if line == "leave":
            if not rejoin_after_leave:
                state.clear()
                state.left = True
            continue
        key, colon, value = line.partition(": ")
        if colon:
            _replay(state, key, value)
    return state


def _replay(state: SnapshotState, key: str, value: str) -> None:
    if key == "alive":
        name, space, address = value.rpartition(" ")
        if space:
            state.alive[name] = address
            state.left = False
    elif key == "not-alive":
        state.alive.pop(value, None)
    elif value.isascii() and value.isdigit() and len(value) <= 20:
        if key == "clock":
            state.clock = int(value)
        elif key == "event-clock":
            state.event_clock = int(value)
        elif key == "query-clock":
            state.query_clock = int(value)


class Snapshot:
    """Keeps the state and the lines that are not in the file yet."""

    def __init__(self, state: SnapshotState | None = None, rejoin_after_leave: bool = False) -> None:
        self._state = state or SnapshotState()
        self._rejoin = rejoin_after_leave
        self._lines: list[str] = []
        self._left = False

    @property
    def limit(self) -> int:
        """The bytes beyond which the file should be compacted."""
        return max(_MIN_LIMIT, len(self._state.alive) * _PER_MEMBER * _COMPACT_FACTOR)

    def alive(self, name: str, address: str) -> None:
        """A member joined; `address` is `ip:port`."""
        if self._note(f"alive: {name} {address}"):
            self._state.alive[name] = address

    def not_alive(self, name: str) -> None:
        """A member failed, left or was erased."""
        if self._note(f"not-alive: {name}"):
            self._state.alive.pop(name, None)

    def clock(self, current: int) -> None:
        """The member clock shows `current`."""
        if current - 1 > self._state.clock and self._note(f"clock: {current - 1}"):
            self._state.clock = current - 1

    def event(self, ltime: int) -> None:
        """A user event was delivered."""
        if ltime > self._state.event_clock and self._note(f"event-clock: {ltime}"):
            self._state.event_clock = ltime

    def query(self, ltime: int) -> None:
        """A query was received."""
        if ltime > self._state.query_clock and self._note(f"query-clock: {ltime}"):
            self._state.query_clock = ltime

    def leave(self) -> None:
        """We leave: nothing that comes after matters."""
        self._note("leave")
        if not self._rejoin:
            self._state.clear()
        self._left = True

    def take_lines(self) -> list[str]:
        """The lines to append, each without its end."""
        lines, self._lines = self._lines, []
        return lines

    def compacted(self) -> str:
        """The shortest file that says the same."""
        return "".join(f"{line}\n" for line in self._compact_lines())

    def _compact_lines(self) -> Iterable[str]:
        state = self._state
        for name, address in state.alive.items():
            yield f"alive: {name} {address}"
        yield f"clock: {state.clock}"
        yield f"event-clock: {state.event_clock}"
        yield f"query-clock: {state.query_clock}"
        if self._left:
            yield "leave"

    def _note(self, line: str) -> bool:
        """Whether the line counts: not after our leave, nor when a name has a line end in it."""
        if self._left or "\n" in line:
            return False
        self._lines.append(line)
        return True
