"""The functions that Go's text/template brings along (reference/template.md 1.4)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import quote_plus

from core.template import gofmt
from core.template.access import ANY, VALUE, fit
from core.template.errors import EvalError, FunctionError
from core.template.values import (
    INVALID,
    Function,
    Record,
    Values,
    decoded,
    encoded,
    go_type,
    truth,
    zero_element,
)

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"})
_JS = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


def _text(values: tuple[Any, ...]) -> str:
    """The arguments of html, js and urlquery as one text."""
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return gofmt.sprint(values)


def _html(*values: Any) -> str:
    return _text(values).translate(_HTML)


def _js(*values: Any) -> str:
    out = []
    for char in _text(values):
        if char in _JS:
            out.append(_JS[char])
        elif ord(char) < 0x20 or (ord(char) > 0x7E and not char.isprintable()):
            out.append(f"\\u{ord(char):04X}")
        else:
            out.append(char)
    return "".join(out)


def _urlquery(*values: Any) -> str:
    return quote_plus(encoded(_text(values)), safe="")


def _len(value: Any) -> int:
    if value is INVALID or value is None:
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    if isinstance(value, str):
        return len(encoded(value))
    if isinstance(value, list | dict | range):
        return len(value)
    raise FunctionError(f"len of type {go_type(value)}")


def _position(value: Any, limit: int) -> int:
    if value is INVALID or value is None:
        raise FunctionError("cannot index slice/array with nil")
    if not isinstance(value, int) or isinstance(value, bool):
        raise FunctionError(f"cannot index slice/array with type {go_type(value)}")
    if not 0 <= value < limit:
        raise FunctionError(f"index out of range: {value}")
    return value


def _index(value: Any, *keys: Any) -> Any:
    if value is INVALID or value is None:
        raise FunctionError("index of untyped nil")
    for key in keys:
        if isinstance(value, str):
            raw = encoded(value)
            value = raw[_position(key, len(raw))]
        elif isinstance(value, list):
            value = value[_position(key, len(value))]
        elif isinstance(value, dict):
            value = _entry(value, key)
        elif value is None or value is INVALID:
            raise FunctionError("index of nil pointer")
        else:
            raise FunctionError(f"can't index item of type {go_type(value)}")
    return value


def _entry(mapping: dict[Any, Any], key: Any) -> Any:
    by_text = not mapping or any(isinstance(known, str) for known in mapping)
    if key is INVALID or key is None:
        raise FunctionError("value is nil; should be of type string")
    if by_text and not isinstance(key, str):
        raise FunctionError(f"value has type {go_type(key)}; should be string")
    if not isinstance(key, str | int | float):
        raise FunctionError(f"value has type {go_type(key)}; should be int")
    return mapping.get(key, zero_element(mapping))


def _slice(value: Any, *bounds: Any) -> Any:
    if value is INVALID or value is None:
        raise FunctionError("slice of untyped nil")
    if len(bounds) > 3:
        raise FunctionError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str):
        if len(bounds) == 3:
            raise FunctionError("cannot 3-index slice a string")
        raw: Any = encoded(value)
    elif isinstance(value, list):
        raw = value
    else:
        raise FunctionError(f"can't slice item of type {go_type(value)}")
    numbers = [_position(bound, len(raw) + 1) for bound in bounds]
    for low, high in pairwise(numbers):
        if low > high:
            raise FunctionError(f"invalid slice index: {low} > {high}")
    part = raw[numbers[0] if numbers else 0 : numbers[1] if len(numbers) > 1 else len(raw)]
    if isinstance(value, str):
        return decoded(part)
    return type(value)(part) if isinstance(value, Values) else part


def _call(function: Any, *args: Any) -> Any:
    if function is INVALID or function is None:
        raise FunctionError("call of nil")
    if not isinstance(function, Function):
        raise FunctionError(f"non-function of type {go_type(function)}")
    least = len(function.params)
    if len(args) < least or (function.rest is None and len(args) > least):
        raise FunctionError(f"wrong number of args: got {len(args)} want {least}")
    kinds = [*function.params, *[function.rest or ANY] * (len(args) - least)]
    try:
        return function.call(*(fit(arg, kind) for arg, kind in zip(args, kinds, strict=True)))
    except EvalError as error:
        raise FunctionError(str(error)) from None


# --- comparing ------------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    """What values are compared as; "" for those that are not basic."""
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (complex, "complex"), (str, "string")):
        if isinstance(value, kind):
            return name
    return ""


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    kind = _kind(first)
    nothing = first is INVALID or first is None
    for other in others:
        none = other is INVALID or other is None
        if nothing or none:
            equal = nothing and none
        elif _kind(other) != kind:
            raise FunctionError("incompatible types for comparison")
        elif not kind and not isinstance(other, Record):
            raise FunctionError(f"non-comparable type {gofmt.show(other)}: {go_type(other)}")
        else:
            equal = first == other
        if equal:
            return True
    return False


def _lt(first: Any, second: Any) -> bool:
    kind = _kind(first)
    if not kind or not _kind(second):
        raise FunctionError("invalid type for comparison")
    if kind != _kind(second):
        raise FunctionError("incompatible types for comparison")
    if kind in ("bool", "complex"):
        raise FunctionError("invalid type for comparison")
    return bool(first < second)


def _le(first: Any, second: Any) -> bool:
    return _lt(first, second) or _eq(first, second)


def _and_or(*values: Any) -> Any:
    raise AssertionError("the compiler carries out and, or")


_TWO = (VALUE, VALUE)
BUILTINS: dict[str, Function] = {
    "and": Function((VALUE,), VALUE, _and_or),
    "or": Function((VALUE,), VALUE, _and_or),
    "not": Function((VALUE,), None, lambda value: not truth(value)),
    "len": Function((VALUE,), None, _len),
    "index": Function((VALUE,), VALUE, _index),
    "slice": Function((VALUE,), VALUE, _slice),
    "call": Function((VALUE,), VALUE, _call),
    "html": Function((), ANY, _html),
    "js": Function((), ANY, _js),
    "urlquery": Function((), ANY, _urlquery),
    "print": Function((), ANY, lambda *values: gofmt.sprint(values)),
    "println": Function((), ANY, lambda *values: gofmt.sprintln(values)),
    "printf": Function(("string",), ANY, lambda form, *values: gofmt.sprintf(form, list(values))),
    "eq": Function((VALUE,), VALUE, _eq),
    "ne": Function(_TWO, None, lambda first, second: not _eq(first, second)),
    "lt": Function(_TWO, None, _lt),
    "le": Function(_TWO, None, _le),
    "gt": Function(_TWO, None, lambda first, second: not _le(first, second)),
    "ge": Function(_TWO, None, lambda first, second: not _lt(first, second)),
}
"""Every built-in function by name."""
