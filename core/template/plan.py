"""When templates are rendered, and whether what came out may be written (reference/template.md 6).

The plan is told of answers and of passes, and says which templates are due. A timer is armed only by a
change of something that its template uses: nothing ever renders because time has passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.template.deps import Dependency, ServiceDep
from core.template.render import MISSING, Brain, Rendered


@dataclass(frozen=True)
class Wait:
    """Quiescence: a change is acted on `least` seconds after the last one, `most` after the first."""

    least: float = 0.0
    most: float = 0.0


@dataclass
class _State:
    """One template: what it used last, and when it is due."""

    wait: Wait
    used: frozenset[Dependency] = frozenset()
    missing: tuple[Dependency, ...] = ()
    complete: bool = False  # the last pass was
    was_complete: bool = False  # some pass was
    first_change: float | None = None
    due: float | None = 0.0  # at once in the beginning


class Plan:
    """The passes of several templates over time."""

    def __init__(self, waits: Sequence[Wait], once: bool = False) -> None:
        self._states = [_State(Wait() if once else wait) for wait in waits]

    def answered(self, dependency: Dependency, now: float) -> None:
        """A dependency has a new value."""
        for state in self._states:
            if dependency not in state.used:
                continue
            if not state.was_complete or dependency in state.missing or state.wait.least <= 0:
                state.due = now
                continue
            if state.first_change is None:
                state.first_change = now
            if state.due is None or state.due > now:
                latest = state.first_change + max(state.wait.most, state.wait.least)
                state.due = min(now + state.wait.least, latest)

    def due(self, now: float) -> list[int]:
        """The templates to render now, by number."""
        return [at for at, state in enumerate(self._states) if state.due is not None and state.due <= now]

    def rendered(self, number: int, outcome: Rendered) -> None:
        """A pass of a template is over."""
        state = self._states[number]
        state.used, state.missing = frozenset(outcome.used), outcome.missing
        state.complete = outcome.complete
        state.was_complete = state.was_complete or outcome.complete
        state.due = state.first_change = None

    def next_at(self) -> float | None:
        """When the next template is due; None while nothing is."""
        return min((state.due for state in self._states if state.due is not None), default=None)

    def wanted(self) -> set[Dependency]:
        """Everything that some template used in its last pass: all that is worth asking for."""
        return {dependency for state in self._states for dependency in state.used}

    def missing(self) -> list[tuple[int, Dependency]]:
        """What templates wait for, with their numbers."""
        return [(at, each) for at, state in enumerate(self._states) for each in state.missing]

    @property
    def settled(self) -> bool:
        """Whether the last pass of every template was complete and none is due."""
        return all(state.complete and state.due is None for state in self._states)


@dataclass(frozen=True)
class Safety:
    """What must hold before a rendered text replaces the last good one."""

    min_instances: int = 0  # of every service that the template uses
    keep_when_empty: bool = False  # an answer that was not empty before and is now is a loss


@dataclass
class Keeper:
    """Tells whether a template's new text may be written; remembers what was good."""

    safety: Safety
    _full: set[Dependency] = field(default_factory=set)  # what was not empty when it was good last
    _had_text: bool = False

    def objection(self, outcome: Rendered, brain: Brain) -> str:
        """Why the text must not replace the last good one; `` if it may."""
        values = {dependency: brain.lookup(dependency) for dependency in outcome.used}
        for dependency, value in values.items():
            least = self.safety.min_instances
            if isinstance(dependency, ServiceDep) and least and _size(value) < least:
                return f"{dependency} has {_size(value)} instances, fewer than min_instances = {least}"
        if self.safety.keep_when_empty:
            for dependency, value in values.items():
                if dependency in self._full and _size(value) == 0:
                    return f"{dependency} has become empty"
            if self._had_text and not outcome.text.strip():
                return "the text has become empty"
        return ""

    def accept(self, outcome: Rendered, brain: Brain) -> None:
        """The text is the last good one now."""
        self._full = {dependency for dependency in outcome.used if _size(brain.lookup(dependency))}
        self._had_text = bool(outcome.text.strip())


def _size(value: Any) -> int:
    if value is MISSING or value is None:
        return 0
    return len(value) if isinstance(value, list | str) else 1
