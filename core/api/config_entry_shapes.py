"""The types of a config entry's fields: what a body's value becomes, what is wrong with it, how it is shown.

Bodies are loosely typed, as Consul's decoder takes them, since the same decoder reads HCL: a number may be
a text, one item may stand for a list of it, a list of one for the item. Names are said in CamelCase or
snake_case, in any letter case. What is not known is refused by its path."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from core.codec import duration, msgpack
from core.codec.duration import quote
from core.errors import BadRequest

Entry = dict[str, Any]
MAX_DEPTH = 64  # of what is free of form
_LARGEST = {"int": 1 << 63, "uint32": 1 << 32, "uint64": 1 << 64}
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False", "")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Faults:
    """What is wrong with a body: values that do not fit, and names that nobody knows."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.names: list[str] = []

    def misfit(self, path: str, wanted: str, value: Any) -> None:
        self.values.append(f"'{path}' expected type '{wanted}', got unconvertible type '{_go_type(value)}'")

    def unparsed(self, path: str, value: str, wanted: str) -> None:
        self.values.append(f"cannot parse '{path}' as {wanted}: {quote(value)} is no {wanted}")

    def check(self) -> None:
        """BadRequest when there are any."""
        if self.values:
            listed = "\n".join(f"* {text}" for text in sorted(self.values))
            raise BadRequest(f"{len(self.values)} error(s) decoding:\n\n{listed}")
        if self.names:
            listed = "".join(f"\t* {_unknown(name)}\n" for name in self.names)
            plural = "error" if len(self.names) == 1 else "errors"
            raise BadRequest(f"{len(self.names)} {plural} occurred:\n{listed}\n")


def _unknown(name: str) -> str:
    text = f"invalid config key {quote(name)}"
    if name.lower() == "namespace":
        text += ", namespaces are a consul enterprise feature"
    return text


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float64"
    if isinstance(value, dict):
        return "map[string]interface {}"
    return "[]interface {}" if isinstance(value, list) else "string"


class Shape:
    """A type of value: what a body's value becomes, and what the API shows of it."""

    def zero(self) -> Any:
        """The value that is not given."""
        return None

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        """The value of a body, which is not null."""
        raise NotImplementedError

    def show(self, value: Any) -> Any:
        """As the API shows it."""
        return value


def _single(value: Any) -> Any:
    """A list of one stands for its item: what HCL makes of a block."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class Text(Shape):
    """A string; numbers and bools are taken by their digits."""

    def zero(self) -> str:
        return ""

    def read(self, value: Any, path: str, faults: Faults) -> str:
        value = _single(value)
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, int | float):
            return f"{value:g}" if isinstance(value, float) else str(value)
        faults.misfit(path, "string", value)
        return ""


class Bool(Shape):
    """True or false; the texts and numbers that Go takes for them too."""

    def zero(self) -> bool:
        return False

    def read(self, value: Any, path: str, faults: Faults) -> bool:
        value = _single(value)
        if isinstance(value, bool | int | float):
            return value != 0
        if isinstance(value, str) and value in _TRUE + _FALSE:
            return value in _TRUE
        if isinstance(value, str):
            faults.unparsed(path, value, "bool")
        else:
            faults.misfit(path, "bool", value)
        return False


class Number(Shape):
    """An integer of a Go type, or a float32."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def zero(self) -> float:
        return 0

    def read(self, value: Any, path: str, faults: Faults) -> float:
        value = _single(value)
        if isinstance(value, str):
            try:
                value = float(value) if self._kind == "float32" else int(value or "0", 10)
            except ValueError:
                faults.unparsed(path, value, self._kind)
                return 0
        if not isinstance(value, int | float) or not math.isfinite(value):
            faults.misfit(path, self._kind, value)
            return 0
        if self._kind == "float32":
            return float(value)
        largest = _LARGEST[self._kind]
        if not (-largest if self._kind == "int" else 0) <= int(value) < largest:
            faults.values.append(f"cannot parse '{path}', {int(value)} overflows {self._kind}")
            return 0
        return int(value)


class Duration(Shape):
    """Nanoseconds, from a text like `5s` or a number of them. The API shows a text where `as_text`."""

    def __init__(self, as_text: bool = True) -> None:
        self._as_text = as_text

    def zero(self) -> int:
        return 0

    def read(self, value: Any, path: str, faults: Faults) -> int:
        value = _single(value)
        if isinstance(value, str):
            try:
                return duration.parse(value)
            except ValueError as error:
                faults.values.append(f"error decoding '{path}': {error}")
                return 0
        if isinstance(value, int | float) and abs(value) <= duration.MAX:
            return int(value)
        faults.misfit(path, "time.Duration", value)
        return 0

    def show(self, value: Any) -> Any:
        return duration.show(value) if self._as_text else value


class Moment(Shape):
    """A time that only old intentions have: nobody may set one (config_entry_rules refuses it)."""

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return value

    def show(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        seconds, nanoseconds, _ = msgpack.decode_time(value.encode("utf-8", "surrogateescape"))
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
        return moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


class Free(Shape):
    """Whatever JSON can say; numbers are floats, as Go's decoder makes them (protocols/fsm.md section 5)."""

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        return _floats(value, path, faults, MAX_DEPTH)


def _floats(value: Any, path: str, faults: Faults, depth: int) -> Any:
    if not depth:
        faults.values.append(f"'{path}' is nested too deeply")
        return None
    if isinstance(value, dict):
        return {str(name): _floats(item, path, faults, depth - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_floats(item, path, faults, depth - 1) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ListOf(Shape):
    """A list; one item alone stands for a list of it."""

    def __init__(self, item: Shape) -> None:
        self._item = item

    def read(self, value: Any, path: str, faults: Faults) -> list[Any]:
        if isinstance(value, dict) and not value:
            value = []
        values = value if isinstance(value, list) else [value]
        return [
            self._item.zero() if one is None else self._item.read(one, f"{path}[{number}]", faults)
            for number, one in enumerate(values)
        ]

    def show(self, value: Any) -> Any:
        return [self._item.show(one) for one in value] if isinstance(value, list) else value


class MapOf(Shape):
    """A map from names to values of one type."""

    def __init__(self, item: Shape) -> None:
        self._item = item

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        value = _single(value)
        if not isinstance(value, dict):
            faults.values.append(f"'{path}' expected a map, got '{_go_type(value)}'")
            return None
        return {
            name: self._item.zero() if one is None else self._item.read(one, f"{path}[{name}]", faults)
            for name, one in value.items()
        }

    def show(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: self._item.show(value[name]) for name in sorted(value)}


class Record(Shape):
    """A struct: its fields in the order of the API's JSON. A name with `!` is shown even when it is zero."""

    def __init__(self, fields: dict[str, Shape], optional: bool = False) -> None:
        self.fields = {name.rstrip("!"): shape for name, shape in fields.items()}
        self._always = {name.rstrip("!") for name in fields if name.endswith("!")}
        self._optional = optional
        self._names: dict[str, str] = {}
        for name in self.fields:
            self._names[name.lower()] = self._names[_WORD.sub("_", name).lower()] = name

    def zero(self) -> Entry | None:
        return None if self._optional else {name: shape.zero() for name, shape in self.fields.items()}

    def read(self, value: Any, path: str, faults: Faults) -> Entry:
        found: Entry = {name: shape.zero() for name, shape in self.fields.items()}
        value = _single(value)
        if not isinstance(value, dict):
            faults.values.append(f"'{path}' expected a map, got '{_go_type(value)}'")
            return found
        given: set[str] = set()
        # The exact name wins over other spellings of it.
        for key in sorted(value, key=lambda key: key not in self.fields):
            name = key if key in self.fields else self._names.get(key.lower(), "")
            below = f"{path}.{key}" if path else key
            if not name or name in given:
                faults.names.append(below)
                continue
            given.add(name)
            if value[key] is not None:
                found[name] = self.fields[name].read(value[key], below, faults)
        return found

    def show(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        shown = {}
        for name, shape in self.fields.items():
            item = value.get(name)
            inner = isinstance(shape, Record) and not shape._optional
            if item is None and inner:
                item = shape.zero()
            if item or inner or name in self._always:
                shown[name] = shape.show(shape.zero() if item is None else item)
        return shown
