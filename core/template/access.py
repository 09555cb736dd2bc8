"""Fields, methods and arguments: what a name after a dot means, and what fits a parameter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from core.codec.duration import quote
from core.template import nodes
from core.template.errors import EvalError
from core.template.values import INVALID, Function, Record, go_type

KEEP, ZERO, FAIL = "default", "zero", "error"
"""What a missing key of a map does: is no value, is the zero value, is an error."""

_INTERFACE = "interface {}"


@cache
def _fields(kind: type[Record]) -> frozenset[str]:
    return frozenset(kind.__struct_fields__)


def method(receiver: Any, name: str) -> Function | None:
    """The method `name` of a value."""
    methods = getattr(receiver, "METHODS", None)
    found: Function | None = methods.get(name) if methods else None
    return found


def has_field(receiver: Any, name: str) -> bool:
    """Whether `name` of a value is a field of its own, always there."""
    return isinstance(receiver, Record) and name in _fields(type(receiver)) and method(receiver, name) is None


def get(receiver: Any, name: str, missing_key: str, in_map: bool) -> Any:
    """The field or map entry `name`; `in_map` if the receiver came out of a map whose values are of any
    type. EvalError if there cannot be one."""
    if isinstance(receiver, Record):
        if name in _fields(type(receiver)):
            return getattr(receiver, name)
    elif isinstance(receiver, dict):
        value = receiver.get(name, INVALID)
        if value is INVALID and missing_key != KEEP:
            if missing_key == FAIL:
                raise EvalError(f"map has no entry for key {quote(name)}")
            return None if type(receiver) is dict else ""
        return value
    elif receiver is INVALID:
        if missing_key == FAIL:
            raise EvalError(f"nil data; no entry for key {quote(name)}")
        return INVALID
    elif receiver is None:
        raise EvalError(f"nil pointer evaluating {_INTERFACE}.{name}")
    kind = _INTERFACE if in_map else go_type(receiver)
    raise EvalError(f"can't evaluate field {name} in type {kind}")


def refuse_arguments(receiver: Any, name: str) -> None:
    """Complain of arguments for a field, if there is such a field."""
    if isinstance(receiver, Record) and name in _fields(type(receiver)):
        raise EvalError(f"{name} has arguments but cannot be invoked as function")
    if isinstance(receiver, dict):
        raise EvalError(f"{name} is not a method but has arguments")


# --- parameters -----------------------------------------------------------------------------------


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_FITS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int": _is_int,
    "float64": lambda value: isinstance(value, float),
    "bool": lambda value: isinstance(value, bool),
    "[]string": _is_strings,
    "[]interface {}": lambda value: isinstance(value, list),
    "map[string]interface {}": lambda value: isinstance(value, dict),
}
_NILLABLE = frozenset(("[]string", "[]interface {}", "map[string]interface {}"))
ANY, VALUE = _INTERFACE, "reflect.Value"
"""Parameters that take anything: as Go's `any` (what is not there becomes nil), or as it is."""


def fit(value: Any, kind: str) -> Any:
    """`value` as an argument of type `kind`; EvalError if it is of another."""
    if kind == ANY:
        return None if value is INVALID else value
    if kind == VALUE or _FITS[kind](value):
        return value
    if value is INVALID:
        if kind in _NILLABLE:
            return {} if kind.startswith("map") else []
        raise EvalError(f"invalid value; expected {kind}")
    got = _INTERFACE if value is None else go_type(value)
    raise EvalError(f"wrong type for value; expected {kind}; got {got}")


_EXPECTED = {"string": "string", "int": "integer", "float64": "float", "bool": "bool"}


def constant(node: nodes.Bool | nodes.Number | nodes.String | nodes.Nil, kind: str) -> Any:
    """The value of a literal as an argument of type `kind`. EvalError if it cannot be one."""
    if isinstance(node, nodes.Nil):
        if kind in (ANY, VALUE) or kind in _NILLABLE:
            return fit(INVALID, kind)
        raise EvalError(f"cannot assign nil to {kind}")
    if kind in (ANY, VALUE):
        return ideal(node) if isinstance(node, nodes.Number) else node.value
    if isinstance(node, nodes.Number):
        if kind == "int" and node.integer is not None:
            return node.integer
        if kind == "float64" and not isinstance(node.value, complex):
            return float(node.value)
    elif _FITS[kind](node.value):
        return node.value
    if kind in _EXPECTED:
        raise EvalError(f"expected {_EXPECTED[kind]}; found {node}")
    raise EvalError(f"can't handle {node} for arg of type {kind}")


def ideal(node: nodes.Number) -> int | float | complex:
    """The value of a number where nothing says which type it should have."""
    if isinstance(node.value, int) and not -(1 << 63) <= node.value < 1 << 63:
        raise EvalError(f"{node.text} overflows int")
    return node.value
