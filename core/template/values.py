"""The values that templates handle, with Go's idea of their types.

Python's values stand for Go's: bool, int, float, complex, str, None (a nil interface), list and range
(slices), dict (maps), and `Record` (structs). Subclasses of list and dict say that the Go program knows more
of their elements: `{{index .Meta "x"}}` of a map of strings is an empty string, not nil.
`INVALID` is the value that is not there at all, such as that of a key which the map does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec


class _Invalid:
    """Go's zero reflect.Value."""

    def __repr__(self) -> str:
        return "INVALID"

    def __bool__(self) -> bool:
        return False


INVALID = _Invalid()


class Function(NamedTuple):
    """Something that can be called: `params` are Go's types by name, `rest` that of further arguments.
    A `contextual` function gets the pass of the template as its first argument (render.Pass)."""

    params: tuple[str, ...]
    rest: str | None
    call: Callable[..., Any]
    contextual: bool = False


class Record(msgspec.Struct, frozen=True):
    """A Go struct; its fields bear Go's names."""

    GO_TYPE: ClassVar[str] = "struct"
    METHODS: ClassVar[Mapping[str, Function]] = {}


class Values(list[Any]):
    """A slice whose type has a name of its own."""

    GO_TYPE: ClassVar[str] = "[]interface {}"
    METHODS: ClassVar[Mapping[str, Function]] = {}


class Strings(Values):
    """A slice of strings."""

    GO_TYPE = "[]string"


class Tags(Strings):
    """The tags of a service, which can be asked `.Contains "x"`."""

    GO_TYPE = "dependency.ServiceTags"
    METHODS = {"Contains": Function(("string",), None, list.__contains__)}


class StringMap(dict[str, Any]):
    """A map from strings to strings."""

    GO_TYPE: ClassVar[str] = "map[string]string"


def go_type(value: Any) -> str:
    """Go's name of the type of a value."""
    declared = getattr(value, "GO_TYPE", None)
    if declared is not None:
        return str(declared)
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (complex, "complex128"),
    (str, "string"),
    (range, "<-chan int64"),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
    (type(None), "<nil>"),
    (_Invalid, "<nil>"),
    (Function, "func"),
)


def truth(value: Any) -> bool:
    """Whether a value is true to `if`: not zero, not empty; a struct always is."""
    return True if isinstance(value, Record | Function) else bool(value)


def zero_element(container: Any) -> Any:
    """What a map yields for a key that it does not have, when asked by `index`."""
    return "" if isinstance(container, StringMap) else INVALID


def encoded(text: str) -> bytes:
    """The bytes of a string, which Go's len, slice and %x count."""
    return text.encode("utf-8", "surrogateescape")


def decoded(raw: bytes) -> str:
    """The string of some bytes; those that are no UTF-8 become surrogates and are written as they were."""
    return raw.decode("utf-8", "surrogateescape")


def sorted_items(mapping: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The entries of a map as Go's range and fmt walk them: by key, nil and numbers before text."""
    try:
        return sorted(mapping.items())
    except TypeError:  # keys of several types, or equal keys' values compared
        return sorted(mapping.items(), key=lambda entry: _rank(entry[0]))


def _rank(key: Any) -> tuple[int, float, str]:
    if isinstance(key, int | float):
        return 1, float(key), ""
    return (0, 0.0, "") if key is None else (2, 0.0, str(key))
