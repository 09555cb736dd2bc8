"""Arithmetic, and numbers from text (reference/template.md 3).

The second operand comes first, so that pipes read well: `5 | subtract 2` is 3."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from core.codec.duration import quote
from core.template.access import ANY
from core.template.errors import FunctionError
from core.template.gofmt import Flags, formatted
from core.template.strings import real
from core.template.values import INVALID, Function, go_type

_PLAIN = Flags()


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    shown = quote(value) if isinstance(value, str) else formatted(value, "v", _PLAIN)
    kind = "<nil>" if value is None or value is INVALID else go_type(value)
    raise FunctionError(f"{name}: unknown type for {shown} ({kind})")


def _wrapped(number: int) -> int:
    """A whole number as 64 bits hold it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _quotient(first: int, second: int) -> int:
    if second == 0:
        raise FunctionError("runtime error: integer divide by zero")
    return abs(first) // abs(second) * (1 if (first < 0) == (second < 0) else -1)


def _float_quotient(first: float, second: float) -> float:
    if second != 0:
        return first / second
    return (
        math.nan
        if first == 0 or first != first
        else math.copysign(math.inf, first) * math.copysign(1, second)
    )


def _arithmetic(
    name: str, whole: Callable[[int, int], int], floats: Callable[[float, float], float] | None
) -> Function:
    def function(second: Any, first: Any) -> int | float:
        left, right = _number(name, first), _number(name, second)
        if isinstance(left, int) and isinstance(right, int):
            return _wrapped(whole(left, right))
        if floats is None:
            wrong = right if isinstance(left, int) else left
            raise FunctionError(f"{name}: unknown type for {formatted(wrong, 'v', _PLAIN)} (float64)")
        return floats(float(left), float(right))

    return Function((ANY, ANY), None, function)


def _choosing(name: str, choose: Callable[[Any, Any], bool]) -> Function:
    def function(second: Any, first: Any) -> int | float:
        left, right = _number(name, first), _number(name, second)
        return left if choose(left, right) else right

    return Function((ANY, ANY), None, function)


def _remainder(first: int, second: int) -> int:
    return first - second * _quotient(first, second)


# --- from text ------------------------------------------------------------------------------------

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def _wrong(function: str, go: str, text: str, why: str = "invalid syntax") -> FunctionError:
    return FunctionError(f"{function}: strconv.{go}: parsing {quote(text)}: {why}")


def _parse_bool(text: str) -> bool:
    if text not in _TRUE and text not in _FALSE and text:
        raise _wrong("parseBool", "ParseBool", text)
    return text in _TRUE


def _parse_float(text: str) -> float:
    if not text:
        return 0.0
    plain = text.lstrip("+-").lower()
    special = plain in ("inf", "infinity", "nan")
    number = None if text != text.strip() or "_" in text else real(text)
    if number is None or (not special and number != number):
        raise _wrong("parseFloat", "ParseFloat", text)
    if math.isinf(number) and not special:
        raise _wrong("parseFloat", "ParseFloat", text, "value out of range")
    return number


def _integer(function: str, go: str, low: int, high: int) -> Function:
    def parse(text: str) -> int:
        if not text:
            return 0
        digits = text[1:] if text[0] in "+-" and low < 0 else text
        if not digits.isascii() or not digits.isdigit():
            raise _wrong(function, go, text)
        if len(digits) > 30 or not low <= int(text) <= high:
            raise _wrong(function, go, text, "value out of range")
        return int(text)

    return Function(("string",), None, parse)


NUMBERS: Mapping[str, Function] = {
    "add": _arithmetic("add", operator.add, operator.add),
    "subtract": _arithmetic("subtract", operator.sub, operator.sub),
    "multiply": _arithmetic("multiply", operator.mul, operator.mul),
    "divide": _arithmetic("divide", _quotient, _float_quotient),
    "modulo": _arithmetic("modulo", _remainder, None),
    "minimum": _choosing("minimum", operator.lt),
    "maximum": _choosing("maximum", operator.gt),
    "parseBool": Function(("string",), None, _parse_bool),
    "parseFloat": Function(("string",), None, _parse_float),
    "parseInt": _integer("parseInt", "ParseInt", -(1 << 63), (1 << 63) - 1),
    "parseUint": _integer("parseUint", "ParseUint", 0, (1 << 64) - 1),
}
"""The functions of this file by name."""
