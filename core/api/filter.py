"""Filter expressions (`?filter=`) over the objects that endpoints list.

The grammar is go-bexpr's, as Consul has it:

    Node.Meta.zone == "a" and (Service.Port != 80 or not "old" in Service.Tags) and Checks is not empty

An expression is parsed, held against the fields that the kind of object has (names, types, operators)
and becomes a plain function. On a list of objects (`Checks.Status`) a test is true if it is for any of
them; on a map a missing key fails `==`, `in` and `is not empty`, and passes the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from core.api.endpoint import Answer
from core.api.filter_fields import KINDS, FieldType, Test, bind, wrong
from core.errors import Invalid

MAX_LENGTH = 16 * 1024
MAX_DEPTH = 100

_SPACE = re.compile(r"[ \t\r\n]*")
_SELECTOR = re.compile(
    r"[a-zA-Z][a-zA-Z0-9_]*"
    r"(?:\.[a-zA-Z][a-zA-Z0-9_]*|\[[ \t\r\n]*(?:\"[^\"]*\"|`[^`]*`)[ \t\r\n]*\])*"
)
_STEP = re.compile(r"\.?([a-zA-Z][a-zA-Z0-9_]*)|\[[ \t\r\n]*(\"[^\"]*\"|`[^`]*`)[ \t\r\n]*\]")
_STRING_LITERAL = re.compile(r"\"[^\"]*\"|`[^`]*`")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?=[ \t\r\n)]|$)")
_S = r"[ \t\r\n]"
_OPERATOR = re.compile(
    rf"{_S}*(?P<Equal>==){_S}*|{_S}*(?P<Not_Equal>!=){_S}*"
    rf"|{_S}+(?:(?P<Is_Empty>is{_S}+empty)|(?P<Is_Not_Empty>is{_S}+not{_S}+empty)"
    rf"|(?P<In>in){_S}+|(?P<Not_In>not{_S}+in){_S}+|(?P<Matches>matches){_S}+"
    rf"|(?P<Not_Matches>not{_S}+matches){_S}+|(?P<Contains>contains){_S}+|(?P<Not_Contains>not{_S}+contains){_S}+)"
)
_ANY_VALUE = '"-", "0", "\\"", "`", [ \\t\\r\\n], [1-9] or [a-zA-Z]'
_AND, _OR, _NOT = (
    re.compile(rf"{before}{word}{_S}+") for word, before in (("and", _S + "+"), ("or", _S + "+"), ("not", ""))
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


class _Parser:
    """Recursive descent. Positions of errors are those that were reached farthest."""

    def __init__(self, text: str, kind: FieldType) -> None:
        self._text = text
        self._kind = kind
        self._at = 0
        self._depth = 0

    def parse(self) -> Test:
        self._space()
        test = self._alternatives()
        self._space()
        if self._at < len(self._text):
            raise self._no_match('"and", "or", [ \\t\\r\\n] or EOF')
        return test

    def _alternatives(self) -> Test:
        tests = [self._conjunction()]
        while self._take(_OR):
            tests.append(self._conjunction())
        if len(tests) == 1:
            return tests[0]
        return lambda value: any(test(value) for test in tests)

    def _conjunction(self) -> Test:
        tests = [self._negation()]
        while self._take(_AND):
            tests.append(self._negation())
        if len(tests) == 1:
            return tests[0]
        return lambda value: all(test(value) for test in tests)

    def _negation(self) -> Test:
        negative = False
        while self._take(_NOT):
            negative = not negative
        test = self._grouping()
        return (lambda value: not test(value)) if negative else test

    def _grouping(self) -> Test:
        if self._text[self._at : self._at + 1] != "(":
            return self._match()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise wrong(f"expression nests deeper than {MAX_DEPTH} groups")
        self._at += 1
        self._space()
        test = self._alternatives()
        self._space()
        if self._text[self._at : self._at + 1] != ")":
            raise self._no_match('")", "and", "or" or [ \\t\\r\\n]')
        self._at += 1
        self._depth -= 1
        return test

    def _match(self) -> Test:
        start = self._at
        selector = _SELECTOR.match(self._text, start)
        if selector is None:
            value = self._value('"(", "not", number, selector or string')
            if self._operator() not in ("In", "Not In"):
                raise self._no_match('"in" or "not in"', self._at)
            return self._value_in(value)
        self._at = selector.end()
        operator = self._operator()
        if operator in ("In", "Not In"):
            return self._value_in(".".join(self._path(selector[0])))
        if not operator:
            before = self._at
            self._space()
            if self._at == before:
                raise self._no_match('"!=", ".", "==", "[", [ \\t\\r\\n] or [a-zA-Z0-9_]')
            raise self._no_match('"!=", "==", "contains", "in", "is", "matches", "not" or [ \\t\\r\\n]')
        self._at = self._operator_end
        raw = "" if operator.endswith("Empty") else self._value(_ANY_VALUE)
        return self._bound(selector[0], operator.replace("Contains", "In"), raw)

    def _value_in(self, value: str) -> Test:
        operator, self._at = self._operator(), self._operator_end
        selector = _SELECTOR.match(self._text, self._at)
        if selector is None:
            raise self._no_match("selector")
        self._at = selector.end()
        return self._bound(selector[0], operator, value)

    def _bound(self, selector: str, operator: str, raw: str) -> Test:
        path = self._path(selector)
        return bind(self._kind, path, operator, raw, ".".join(path))

    def _operator(self) -> str:
        """The operator that comes next, `` if none does; `_operator_end` is where it ends."""
        match = _OPERATOR.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            return ""
        self._operator_end = match.end()
        return match.lastgroup.replace("_", " ")

    def _value(self, expected: str) -> str:
        for pattern in (_NUMBER, _SELECTOR, _STRING_LITERAL):
            match = pattern.match(self._text, self._at)
            if match is not None:
                self._at = match.end()
                if pattern is _NUMBER:
                    return match[0]
                return ".".join(self._path(match[0])) if pattern is _SELECTOR else self._unquoted(match[0])
        raise self._no_match(expected)

    def _path(self, selector: str) -> tuple[str, ...]:
        return tuple(step[1] or self._unquoted(step[2]) for step in _STEP.finditer(selector))

    def _unquoted(self, literal: str) -> str:
        if literal[0] == "`":
            return literal[1:-1].replace("\r", "")
        if "\n" in literal:
            raise self._no_match("string", self._at)

        def character(match: re.Match[str]) -> str:
            code = match[1]
            if code[0] in "xuU":
                return chr(min(int(code[1:], 16), 0x10FFFF))
            if len(code) == 3:
                return chr(int(code, 8))
            if code not in _ESCAPES:
                raise self._no_match("string", self._at)
            return _ESCAPES[code]

        return _ESCAPE.sub(character, literal[1:-1])

    def _space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _take(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match is not None

    def _no_match(self, expected: str, at: int = -1) -> Invalid:
        before = self._text[: self._at if at < 0 else at]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        offset = len(before.encode("utf-8", "surrogateescape"))
        return wrong(f"{line}:{column} ({offset}): no match found, expected: {expected}")


@lru_cache(maxsize=256)
def compile(expression: str, kind: str) -> Test:
    """A function that tells whether an object of a kind passes `expression`. Kinds and their objects:
    `node` (Node), `node_service` (NodeService), `service_node` (a pair of both), `health_check`
    (HealthCheck), `check_service_node` (CheckServiceNode), `identity` (core.acl.jwt.Identity). Invalid has
    Consul's text."""
    if len(expression) > MAX_LENGTH:
        raise wrong(f"expression is longer than {MAX_LENGTH} characters")
    return _Parser(expression, KINDS[kind]).parse()


def sift(kind: str) -> Callable[[Any, Answer], Answer]:
    """The `sift` of a read (core/api/endpoint.py) whose answer is a list of objects of a kind and whose
    arguments have a `filter`."""

    def sifted(args: Any, answer: Answer) -> Answer:
        if not args.filter:
            return answer
        keep = compile(args.filter, kind)
        return replace(answer, value=[item for item in answer.value if keep(item)])

    return sifted
