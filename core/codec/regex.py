"""Regular expressions that answer in linear time, in Go's syntax (RE2).

Expressions come from clients, and a backtracking matcher can be made to run for hours by one of a few
characters. Here a pattern becomes a nondeterministic automaton (Thompson's construction) whose sets of
states are remembered per character, so that each character of the text costs one step.
Here only whether a pattern is found is answered, so laziness and groups do not matter;
`core/codec/regex_groups.py` tells what the groups held."""

from __future__ import annotations

from collections.abc import Callable

from core.codec.regex_syntax import Assert, Chars, Choice, Group, Node, Parser, RegexError, Sequence

MAX_SIZE = 10_000
_MAX_REMEMBERED = 10_000
_SPECIAL = frozenset("\\.+*?()|[]{}^$")

__all__ = ["MAX_SIZE", "RegexError", "compile"]


class _Automaton:
    """States are numbers: of a `Chars` with the state behind it, of an `Assert` likewise, of a fork."""

    def __init__(self, node: Node) -> None:
        self._steps: list[tuple[Chars | Assert | None, tuple[int, ...]]] = [(None, ())]
        self._start = self._build(node, 0)  # 0 is the end
        self._remembered: dict[tuple[frozenset[int], str, str], frozenset[int] | None] = {}

    def _add(self, what: Chars | Assert | None, then: tuple[int, ...]) -> int:
        if len(self._steps) >= MAX_SIZE:
            raise RegexError("error parsing regexp: expression too large")
        self._steps.append((what, then))
        return len(self._steps) - 1

    def _build(self, node: Node, then: int) -> int:
        """States of `node`, followed by the state `then`; the first of them."""
        if isinstance(node, Chars | Assert):
            return self._add(node, (then,))
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                then = self._build(part, then)
            return then
        if isinstance(node, Choice):
            return self._add(None, tuple(self._build(part, then) for part in node.parts))
        if isinstance(node, Group):
            return self._build(node.part, then)
        if node.most is None:
            loop = self._add(None, ())
            self._steps[loop] = (None, (self._build(node.part, loop), then))
            first = loop
        else:
            first = then
            for _ in range(node.most - node.least):
                first = self._add(None, (self._build(node.part, first), then))
        for _ in range(node.least):
            first = self._build(node.part, first)
        return first

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere in `text`."""
        states = frozenset((self._start,))
        before = ""
        for after in text:
            following = self._next(states, before, after)
            if following is None:
                return True
            states, before = following, after
        return self._next(states, before, "") is None

    def _next(self, states: frozenset[int], before: str, after: str) -> frozenset[int] | None:
        """The states behind the character `after`; None when the pattern has been found."""
        key = states, before, after
        if key in self._remembered:
            return self._remembered[key]
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        result = self._remembered[key] = self._step(states, before, after)
        return result

    def _step(self, states: frozenset[int], before: str, after: str) -> frozenset[int] | None:
        seen, waiting, reached = set(states), list(states), {self._start}
        while waiting:
            state = waiting.pop()
            if state == 0:
                return None
            what, then = self._steps[state]
            if isinstance(what, Chars):
                if after and what.accepts(after):
                    reached.update(then)
            elif what is None or what.holds(before, after):
                for following in then:
                    if following not in seen:
                        seen.add(following)
                        waiting.append(following)
        return frozenset(reached)


def compile(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether `pattern` is found in a text. RegexError has Go's text."""
    if _SPECIAL.isdisjoint(pattern):
        return lambda text: pattern in text
    return _Automaton(Parser(pattern).parse()).found_in
