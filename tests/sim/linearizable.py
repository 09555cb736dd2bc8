"""Is a history of KV operations linearizable? Wing and Gong's search with Lowe's memory, key by key.

Every operation took place at one moment between its call and its return, and in the order of those
moments the answers are those of a single map. An operation whose answer nobody saw (`returned` is
infinite) may have taken place at any moment after its call, or never.

A value never comes twice under one key, so that a version may be named by its value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

PUT, GET, CAS, DELETE = "put", "get", "cas", "delete"
MOST_STEPS = 3_000_000  # beyond that the search gives up


class Undecided(Exception):
    """The search took too long: neither good nor bad."""


@dataclass(slots=True)
class Operation:
    """One call of a client. `None` as a value means that there is no such key."""

    kind: str
    key: str
    called: float
    value: Any = None  # what put and cas store
    expected: Any = None  # what cas compares with
    result: Any = None  # get: the value; cas: whether it was stored
    returned: float = inf
    client: str = ""

    @property
    def is_certain(self) -> bool:
        return self.returned < inf

    def after(self, state: Any) -> tuple[bool, Any]:
        """Whether it may take place in `state` with the answer it got, and the state after it."""
        if self.kind == GET:
            return state == self.result, state
        if self.kind == CAS:
            if state == self.expected:
                return self.result is not False or not self.is_certain, self.value
            return self.is_certain and self.result is False, state
        return True, (self.value if self.kind == PUT else None)

    def __str__(self) -> str:
        what = f"cas {self.expected!r} -> {self.value!r}" if self.kind == CAS else self.kind
        if self.kind == PUT:
            what += f" {self.value!r}"
        answer = f" = {self.result!r}" if self.kind in (GET, CAS) and self.is_certain else ""
        until = f"{self.returned:.6f}" if self.is_certain else "?"
        return f"[{self.called:.6f} .. {until}] {self.client}: {what}{answer}"


def violation(history: Iterable[Operation], most_steps: int = MOST_STEPS) -> str:
    """What is wrong with the history, in words; "" when it is linearizable. Raises Undecided."""
    keys: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.is_certain or operation.kind != GET:
            keys[operation.key].append(operation)
    for key, operations in keys.items():
        search = _Search(operations, most_steps)
        if not search.succeeds():
            return f"key {key} is not linearizable:\n{search.describe()}"
    return ""


# certain operations before this one are done; bits of those done behind it; bits of the unseen ones
# that took place; the value
Place = tuple[int, int, int, Any]


class _Search:
    """Depth first over the operations of one key. What does not change the state is done as soon as it
    fits, which never closes a way; what nobody saw is tried only where it helps at once."""

    def __init__(self, operations: list[Operation], most_steps: int) -> None:
        ordered = sorted(operations, key=lambda operation: (operation.called, operation.returned))
        self.certain = [operation for operation in ordered if operation.is_certain]
        self.unseen = [operation for operation in ordered if not operation.is_certain]
        self.steps_left = most_steps
        self.furthest: Place = (0, 0, 0, None)
        self.most_done = -1

    def succeeds(self) -> bool:
        stack = [iter([(0, 0, 0, None)])]
        seen: set[Place] = set()
        while stack:
            place = next(stack[-1], None)
            if place is None:
                stack.pop()
                continue
            place = self._settle(place)
            if place in seen:
                continue
            seen.add(place)
            done = place[0] + place[1].bit_count()
            if done > self.most_done:
                self.most_done, self.furthest = done, place
            if done == len(self.certain):
                return True
            stack.append(self._choices(place))
        return False

    def _candidates(self, first: int, bits: int) -> tuple[list[int], float]:
        """Certain operations that may be next, called before any open one returned; and that moment."""
        found: list[int] = []
        limit = inf
        for position in range(first, len(self.certain)):
            operation = self.certain[position]
            if operation.called > limit:
                break
            if not bits >> (position - first) & 1:
                found.append(position)
                limit = min(limit, operation.returned)
        self.steps_left -= 1 + len(found)
        if self.steps_left < 0:
            raise Undecided(f"{len(self.certain)} operations of key {self.certain[0].key}")
        return [position for position in found if self.certain[position].called <= limit], limit

    def _settle(self, place: Place) -> Place:
        """Do all that fits and can change nothing: reads, and comparisons that failed."""
        first, bits, used, state = place
        moved = True
        while moved:
            moved = False
            for position in self._candidates(first, bits)[0]:
                operation = self.certain[position]
                changes = operation.kind in (PUT, DELETE) or operation.result is True
                if not changes and operation.after(state)[0]:
                    bits |= 1 << (position - first)
                    moved = True
            while bits & 1:
                bits >>= 1
                first += 1
        return first, bits, used, state

    def _choices(self, place: Place) -> Iterator[Place]:
        first, bits, used, state = place
        candidates, limit = self._candidates(first, bits)
        for position in candidates:
            fits, after = self.certain[position].after(state)
            if fits:
                yield first, bits | 1 << (position - first), used, after
        possible = [
            number
            for number, operation in enumerate(self.unseen)
            if operation.called <= limit and not used >> number & 1
        ]
        self.steps_left -= len(possible)
        for number in possible:
            fits, after = self.unseen[number].after(state)
            if fits and after != state and self._helps(candidates, possible, number, after):
                yield first, bits, used | 1 << number, after

    def _helps(self, candidates: list[int], possible: list[int], chosen: int, state: Any) -> bool:
        """Whether something that saw `state` may follow; else it would be as if it had not been."""
        following = [self.certain[position] for position in candidates]
        following += [self.unseen[number] for number in possible if number != chosen]
        return any(operation.kind in (GET, CAS) and operation.after(state)[0] for operation in following)

    def describe(self) -> str:
        """Where the best attempt ended."""
        first, bits, used, state = self.furthest
        done = [
            operation
            for position, operation in enumerate(self.certain)
            if position < first or bits >> (position - first) & 1
        ]
        done += [operation for number, operation in enumerate(self.unseen) if used >> number & 1]
        candidates, limit = self._candidates(first, bits)
        lines = [f"  {operation}" for operation in sorted(done, key=lambda one: one.called)[-12:]]
        lines.append(f"after these the value may be {state!r}; none of these fits then:")
        lines += [f"  {self.certain[position]}" for position in candidates]
        lines += [f"  {o}" for n, o in enumerate(self.unseen) if o.called <= limit and not used >> n & 1]
        return "\n".join(lines)
