from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.linearizable import CAS, DELETE, GET, PUT, Operation, Undecided, violation


def put(value: Any, called: float, returned: float = inf) -> Operation:
    return Operation(PUT, "k", called, value=value, returned=returned)


def get(result: Any, called: float, returned: float) -> Operation:
    return Operation(GET, "k", called, result=result, returned=returned)


def cas(expected: Any, value: Any, result: bool | None, called: float, returned: float = inf) -> Operation:
    return Operation(CAS, "k", called, value, expected, result, returned)


def delete(called: float, returned: float = inf) -> Operation:
    return Operation(DELETE, "k", called, returned=returned)


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "missing": [get(None, 0, 1)],
    "in turn": [put(1, 0, 1), get(1, 2, 3), put(2, 4, 5), get(2, 6, 7), delete(8, 9), get(None, 10, 11)],
    "a read during a write sees the old": [put(1, 0, 1), put(2, 2, 9), get(1, 3, 4)],
    "a read during a write sees the new": [put(1, 0, 1), put(2, 2, 9), get(2, 3, 4)],
    "old and then new during a write": [put(1, 0, 1), put(2, 2, 9), get(1, 3, 4), get(2, 5, 6)],
    "two writes at once, either order": [put(1, 0, 5), put(2, 0, 5), get(1, 6, 7)],
    "cas in a row": [cas(None, 1, True, 0, 1), cas(1, 2, True, 2, 3), cas(1, 3, False, 4, 5)],
    "one of two cas wins": [put(0, 0, 1), cas(0, 1, True, 2, 5), cas(0, 2, False, 2, 5), get(1, 6, 7)],
    "an unanswered write was": [put(1, 0, 1), put(2, 2), get(1, 3, 4), get(2, 5, 6)],
    "an unanswered write was not": [put(1, 0, 1), put(2, 2), get(1, 3, 4), get(1, 5, 6)],
    "an unanswered write comes late": [put(2, 0), put(1, 1, 2), get(1, 3, 4), get(2, 5, 6)],
    "an unanswered write explains a failed cas": [put(1, 0, 1), put(2, 2), cas(1, 3, False, 4, 5)],
    "unanswered writes in a chain": [put(0, 0, 1), cas(0, 1, None, 2), cas(1, 2, None, 2), get(2, 5, 6)],
    "an unanswered delete": [put(1, 0, 1), delete(2), get(1, 3, 4), get(None, 5, 6)],
    "an unanswered read says nothing": [put(1, 0, 1), Operation(GET, "k", 2, result="never written")],
    "touching times are at once": [put(1, 0, 1), put(2, 1, 2), get(1, 2, 3)],
}
BAD: dict[str, list[Operation]] = {
    "from nowhere": [get(1, 0, 1)],
    "stale": [put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)],
    "lost": [put(1, 0, 1), get(None, 2, 3)],
    "new and then old": [put(1, 0, 1), put(2, 2, 9), get(2, 3, 4), get(1, 5, 6)],
    "from the future": [get(1, 0, 1), put(1, 2, 3)],
    "two cas win": [put(0, 0, 1), cas(0, 1, True, 2, 5), cas(0, 2, True, 2, 5)],
    "cas fails without reason": [put(0, 0, 1), cas(0, 1, False, 2, 3)],
    "undone": [put(1, 0, 1), put(2, 2), get(2, 3, 4), get(1, 5, 6)],
    "deleted and back": [put(1, 0, 1), delete(2, 3), get(1, 4, 5)],
    "an unanswered cas that could not be": [put(0, 0, 1), cas(7, 1, None, 2), get(1, 3, 4)],
    "an unanswered write before its call": [put(1, 0, 1), get(2, 2, 3), put(2, 4)],
    "two readers disagree": [put(1, 0, 9), put(2, 0, 9), get(1, 10, 11), get(2, 12, 13)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert violation(GOOD[name]) == "" and by_force(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    assert "key k is not linearizable" in violation(BAD[name]) and not by_force(BAD[name])


def test_keys_are_apart() -> None:
    fine = GOOD["in turn"]
    other = [replace(operation, key="other") for operation in BAD["stale"]]
    assert "key other" in violation(fine + other)


def test_it_says_where_it_ended() -> None:
    assert "value may be 2; none of these fits then:\n  [4.000000 .. 5.000000] : get = 1" in violation(
        BAD["stale"]
    )


def busy_history(chance: random.Random, count: int) -> list[Operation]:
    """Eight clients on one key; of every thirtieth operation nobody saw the answer."""
    history: list[Operation] = []
    state: Any = None
    for moment in range(count):
        kind = chance.choice([PUT, GET, GET, CAS])
        operation = Operation(kind, "k", moment - chance.uniform(0, 8), moment, chance.choice([state, -1]))
        operation.result = state if kind == GET else state == operation.expected
        operation.returned = moment + chance.uniform(0, 8)
        history.append(operation)
        if chance.random() < 1 / 30:
            operation.returned = inf
            if chance.random() < 0.5:
                continue
        state = operation.after(state)[1]
    return history


def test_a_long_history_of_a_busy_key_takes_no_time() -> None:
    chance = random.Random(1)
    for _ in range(4):
        history = busy_history(chance, 2000)
        assert violation(history, 500_000) == ""
        late = next(o for o in history[1500:] if o.kind == GET and o.is_certain and o.result is not None)
        late.result = next(o.value for o in history[100:] if o.kind == PUT)
        assert violation(history, 500_000) != ""


def test_the_search_gives_up_loudly() -> None:
    writes = [put(number, 0, 100) for number in range(30)]
    with pytest.raises(Undecided):
        violation([*writes, get("other", 50, 60)], 10_000)


# Beside a checker that tries everything


def by_force(history: list[Operation]) -> bool:
    certain = [operation for operation in history if operation.is_certain]
    unsure = [operation for operation in history if not operation.is_certain and operation.kind != GET]
    for chosen in range(1 << len(unsure)):
        some = [operation for number, operation in enumerate(unsure) if chosen >> number & 1]
        if any(_is_good(order) for order in permutations(certain + some)):
            return True
    return False


def _is_good(order: tuple[Operation, ...]) -> bool:
    state, latest = None, -inf
    for operation in order:
        if operation.returned < latest:
            return False  # it was over before one was called that stands before it
        latest = max(latest, operation.called)
        fits, state = operation.after(state)
        if not fits:
            return False
    return True


@st.composite
def linearizable(draw: st.DrawFn, most: int = 40) -> list[Operation]:
    """A history made from moments: each operation takes place at one, its call and return around it."""
    history: list[Operation] = []
    states: list[Any] = [None]
    for moment in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from([PUT, GET, GET, CAS, CAS, DELETE]))
        operation = Operation(kind, "k", moment - draw(st.integers(0, 8)) / 2, value=moment)
        operation.returned = moment + draw(st.integers(0, 8)) / 2
        operation.expected = draw(st.sampled_from(states[-3:]))
        before = states[-1]
        operation.result = before if kind == GET else before == operation.expected
        if not draw(st.integers(0, 4)):
            operation.returned = inf  # nobody saw the answer
            if draw(st.booleans()):
                history.append(operation)
                continue  # nor did it take place
        history.append(operation)
        states.append(operation.after(before)[1])
    return draw(st.permutations(history))


@settings(max_examples=150)
@given(linearizable())
def test_what_is_linearizable_is_accepted(history: list[Operation]) -> None:
    assert violation(history) == ""


@settings(max_examples=250)
@given(linearizable(6), st.data())
def test_what_is_spoilt_is_judged_as_by_force(history: list[Operation], data: st.DataObject) -> None:
    if history:
        spoilt = data.draw(st.sampled_from(history))
        change = data.draw(st.sampled_from(["result", "value", "expected", "called", "returned"]))
        if change in ("called", "returned"):
            length = data.draw(st.integers(0, 4)) / 2
            setattr(spoilt, change, spoilt.called + length if change == "returned" else length)
            spoilt.returned = max(spoilt.returned, spoilt.called)
        elif change == "result" and spoilt.kind == CAS:
            spoilt.result = not spoilt.result
        else:
            setattr(spoilt, change, data.draw(st.sampled_from([None, 0, 1, 2, 3, 99])))
    assert (violation(history) == "") == by_force(history)


@st.composite
def anything(draw: st.DrawFn) -> list[Operation]:
    """Few values and short times: about half of these are linearizable."""
    found = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([PUT, GET, CAS, DELETE]))
        called = draw(st.integers(0, 6))
        returned = draw(st.sampled_from([called + 1, called + 3, inf]))
        seen = draw(st.sampled_from([None, 0, 1, 2]))
        result = draw(st.booleans()) if kind == CAS else seen
        found.append(Operation(kind, "k", called, number, seen, result, returned))
    return found


@settings(max_examples=400)
@given(anything())
def test_any_history_is_judged_as_by_force(history: list[Operation]) -> None:
    assert (violation(history) == "") == by_force(history)
