"""Types of Go that JSON values are fitted to, with the complaints of Go's decoder when they do not fit.

    value = fit(gojson.decode(body), Object("structs.Thing", {"Name": STRING, "Port": INT}))

Field names match in any letter case. What a value has of fields comes back as a dict under the names
that the type declares; null counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.codec.duration import quote
from core.codec.gojson import JsonError, show_float


class Errors:
    """What went wrong while a value was fitted to a shape. Go notes the first mismatch, goes on to
    the end and reports it then; where it stands is told by the struct and the path of fields."""

    __slots__ = ("first", "lenient", "path", "struct")

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient  # unknown fields are ignored
        self.first = ""
        self.struct: str | None = None
        self.path: list[str] = []

    def note(self, text: str) -> None:
        if not self.first:
            self.first = text

    def mismatch(self, value: Any, go: str) -> None:
        where = "value" if self.struct is None else f"struct field {self.struct}.{'.'.join(self.path)}"
        self.note(f"json: cannot unmarshal {_kind(value, go)} into Go {where} of type {go}")


def _kind(value: Any, go: str) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    if isinstance(value, dict):
        return "object"
    if not go.startswith(("int", "uint")) or go.startswith("interface"):
        return "number"
    return f"number {value if isinstance(value, int) else show_float(value)}"


class Shape:
    """A type of Go that a JSON value is fitted to. `zero` is what it has before anything was read."""

    __slots__ = ("go",)
    zero: Any = None

    def __init__(self, go: str) -> None:
        self.go = go

    def fit(self, value: Any, errors: Errors) -> Any:
        """`value` (never None) in this shape, or `zero` with a note in `errors`."""
        raise NotImplementedError


class Text(Shape):
    """A string."""

    zero = ""

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, str):
            return value
        errors.mismatch(value, self.go)
        return self.zero


class Integer(Shape):
    """A whole number within bounds."""

    __slots__ = ("_high", "_low")
    zero = 0

    def __init__(self, go: str = "int", low: int = -(1 << 63), high: int = (1 << 63) - 1) -> None:
        super().__init__(go)
        self._low, self._high = low, high

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and self._low <= value <= self._high:
            return value
        errors.mismatch(value, self.go)
        return self.zero


class Truth(Shape):
    """true or false."""

    zero = False

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, bool):
            return value
        errors.mismatch(value, self.go)
        return self.zero


class Anything(Shape):
    """Whatever it is."""

    def fit(self, value: Any, errors: Errors) -> Any:
        return value


class ListOf(Shape):
    """A list of values of one type."""

    __slots__ = ("_item",)

    def __init__(self, item: Shape, go: str = "") -> None:
        super().__init__(go or f"[]{item.go}")
        self._item = item

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, list):
            item = self._item
            return [item.zero if entry is None else item.fit(entry, errors) for entry in value]
        errors.mismatch(value, self.go)
        return self.zero


class MapOf(Shape):
    """A map from names to values of one type."""

    __slots__ = ("_item",)

    def __init__(self, item: Shape, go: str = "") -> None:
        super().__init__(go or f"map[string]{item.go}")
        self._item = item

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, dict):
            item = self._item
            return {
                key: item.zero if entry is None else item.fit(entry, errors) for key, entry in value.items()
            }
        errors.mismatch(value, self.go)
        return self.zero


def folded(name: str) -> str:
    """The form in which field names are compared: letter case does not count."""
    return name.lower().replace("\u017f", "s")


class Object(Shape):
    """A struct: names of fields, any letter case. `aliases` are other names of a field. `translated`
    stands for a type that decodes itself: its fields have snake_case names too, and what is wrong in
    it is reported before anything noted outside. `lenient`: it takes no notice of fields that it does not
    know, wherever it stands."""

    __slots__ = ("_lenient", "_names", "_struct", "_told", "_translated", "fields")

    def __init__(
        self,
        go: str,
        fields: Mapping[str, Shape],
        aliases: Mapping[str, str] | None = None,
        translated: bool = False,
        lenient: bool = False,
    ) -> None:
        super().__init__(go)
        self._lenient = lenient
        self.fields = dict(fields)
        self._translated = translated
        nameless = translated or go.startswith("struct ")
        self._struct = "" if nameless else go.rpartition(".")[2]
        self._names = {folded(name): name for name in fields}
        self._names.update((folded(alias), name) for alias, name in (aliases or {}).items())
        self._told = {folded(alias): alias for alias in aliases or ()}

    def _told_as(self, key: str, name: str) -> str:
        """What Go calls a field that was given as `key`: some have other names as fields of their own."""
        key = folded(key)
        snake = self._translated and "_" in key
        return key if snake else self._told.get(key, name)

    def _name(self, key: str) -> str | None:
        key = folded(key)
        return self._names.get(key.replace("_", "") if self._translated else key)

    def fit(self, value: Any, errors: Errors) -> Any:
        """A dict of the fields that were given, under the names of `fields`."""
        if self._translated:
            return fit(value, self, errors.lenient or self._lenient, inner=True)
        return self._fit(value, errors)

    def _fit(self, value: Any, errors: Errors) -> Any:
        if not isinstance(value, dict):
            errors.mismatch(value, self.go)
            return self.zero
        result: dict[str, Any] = {}
        struct, errors.struct = errors.struct, self._struct
        for key, entry in value.items():
            name = self._name(key)
            if name is None and errors.lenient:
                continue
            if name is None:
                errors.note(f"json: unknown field {quote(key)}")
            elif entry is not None:
                errors.path.append(self._told_as(key, name))
                result[name] = self.fields[name].fit(entry, errors)
                errors.path.pop()
        errors.struct = struct
        return result


def fit(value: Any, shape: Shape, lenient: bool = False, inner: bool = False) -> Any:
    """`value` (from `decode`) in `shape`; None stays None. JsonError has Go's text: for an unknown
    field (unless `lenient`), or for a value of the wrong type."""
    if value is None:
        return None
    errors = Errors(lenient)
    result = shape._fit(value, errors) if inner and isinstance(shape, Object) else shape.fit(value, errors)
    if errors.first:
        raise JsonError(errors.first)
    return result


STRING = Text("string")
INT = Integer("int")
UINT = Integer("uint64", 0, (1 << 64) - 1)
BOOL = Truth("bool")
ANY = Anything("interface {}")
STRINGS = ListOf(STRING)
STRING_MAP = MapOf(STRING)
