"""What the groups of a regular expression held, where it is found first: Go's FindStringSubmatch.

Pike's machine: all ways through the pattern are followed at once, the preferred ones first, each with the
places of its groups. The time is that of the length of the text times the size of the pattern, whatever
they are."""

from __future__ import annotations

from collections.abc import Callable

from core.codec.regex import MAX_SIZE
from core.codec.regex_syntax import Assert, Chars, Choice, Group, Node, Parser, RegexError, Sequence

_Places = tuple[int, ...]  # start and end of each group, -1 where it has none


class _Save:
    """Notes the place in the text."""

    __slots__ = ("slot",)

    def __init__(self, slot: int) -> None:
        self.slot = slot


class _Program:
    """Steps: what a step takes, and the steps behind it, preferred ones first. Step 0 is the end."""

    def __init__(self, pattern: str) -> None:
        self._steps: list[tuple[Chars | Assert | _Save | None, tuple[int, ...]]] = [(None, ())]
        parser = Parser(pattern)
        node = parser.parse()
        self._slots = 2 * parser.groups + 2
        self.names = parser.names
        self._start = self._build(Group(node, 0), 0)

    def _add(self, what: Chars | Assert | _Save | None, *then: int) -> int:
        if len(self._steps) >= MAX_SIZE:
            raise RegexError("error parsing regexp: expression too large")
        self._steps.append((what, then))
        return len(self._steps) - 1

    def _build(self, node: Node, then: int) -> int:
        """Steps of `node`, followed by the step `then`; the first of them."""
        if isinstance(node, Chars | Assert):
            return self._add(node, then)
        if isinstance(node, Group):
            end = self._add(_Save(2 * node.number + 1), then)
            return self._add(_Save(2 * node.number), self._build(node.part, end))
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                then = self._build(part, then)
            return then
        if isinstance(node, Choice):
            return self._add(None, *[self._build(part, then) for part in node.parts])
        if node.most is None:
            first = self._add(None)
            again = self._build(node.part, first)
            self._steps[first] = (None, (then, again) if node.lazy else (again, then))
        else:
            first = then
            for _ in range(node.most - node.least):
                once = self._build(node.part, first)
                first = self._add(None, *((then, once) if node.lazy else (once, then)))
        for _ in range(node.least):
            first = self._build(node.part, first)
        return first

    def find(self, text: str) -> list[str] | None:
        """The whole match and what each group held, `` for a group that took no part; None if there is
        no match."""
        found = self.places(text)
        if found is None:
            return None
        return [
            text[found[slot] : found[slot + 1]] if found[slot] >= 0 else ""
            for slot in range(0, self._slots, 2)
        ]

    def places(self, text: str, start: int = 0) -> _Places | None:
        """Start and end of the whole match and of each group, -1 for a group that took no part; None if
        there is no match from `start` on."""
        ways: list[tuple[int, _Places]] = []
        found: _Places | None = None
        nowhere = (-1,) * self._slots
        for at in range(start, len(text) + 1):
            if found is None:
                ways.append((self._start, nowhere))
            if not ways:
                break
            before, after = text[at - 1 : at] if at else "", text[at : at + 1]
            ways, ended = self._step(ways, at, before, after)
            found = ended or found
        return found

    def _step(
        self, ways: list[tuple[int, _Places]], at: int, before: str, after: str
    ) -> tuple[list[tuple[int, _Places]], _Places | None]:
        """The ways behind the character `after`, and the places of the way that has come to the end; what
        is less preferred than that one is given up."""
        reached: list[tuple[int, _Places]] = []
        seen: set[int] = set()
        waiting = ways[::-1]
        while waiting:
            step, places = waiting.pop()
            if step in seen:
                continue
            seen.add(step)
            if step == 0:
                return reached, places
            what, then = self._steps[step]
            if isinstance(what, Chars):
                if after and what.accepts(after):
                    reached.append((then[0], places))
                continue
            if isinstance(what, _Save):
                places = (*places[: what.slot], at, *places[what.slot + 1 :])
            elif what is not None and not what.holds(before, after):
                continue
            waiting.extend((following, places) for following in reversed(then))
        return reached, None


def compile(pattern: str) -> Callable[[str], list[str] | None]:
    """A function that gives the whole match in a text and what each group held, None where the pattern is
    not found. RegexError has Go's text."""
    return _Program(pattern).find


def places(pattern: str) -> tuple[Callable[[str, int], tuple[int, ...] | None], dict[str, int]]:
    """A function that gives the places of a match and its groups in a text from a place on, None where
    the pattern is not found, and the numbers of the named groups. RegexError has Go's text."""
    program = _Program(pattern)
    return program.places, program.names
