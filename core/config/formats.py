"""Text of a configuration file to plain values: maps, lists, strings, numbers, truth values, None."""

from __future__ import annotations

import json
from datetime import date, time
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from core.codec.duration import quote
from core.errors import ConfigError

FORMATS = ("json", "hcl", "toml", "yaml")
MAX_DEPTH = 100
MAX_VALUES = 500_000


class Source(NamedTuple):
    """One piece of configuration: `name` is shown in errors, `format` is one of FORMATS."""

    name: str
    format: str
    text: str


def read(source: Source) -> dict[str, Any]:
    """The values of a source. An empty text is an empty map. ConfigError names the source."""
    if not source.text.strip():
        return {}
    readers = {"json": _json, "hcl": _hcl, "toml": _toml, "yaml": _yaml}
    try:
        value = readers[source.format](source.text)
        _check_size(value)
    except RecursionError:
        raise _error(source, f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise _error(source, str(error)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        found = kind(value, source.format)
        raise _error(source, f"1 error(s) decoding:\n\n* '' expected a map, got '{found}'")
    return value


def _error(source: Source, text: str) -> ConfigError:
    return ConfigError(f"failed to parse {source.name}: {text}")


def kind(value: Any, format: str) -> str:
    """Go's name for the kind of `value`, as its decoder of `format` would have made it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "float64" if format == "json" else "int"
    names = {float: "float64", str: "string", list: "slice", dict: "map", type(None): "nil"}
    return names.get(type(value), type(value).__name__)


def go_type(value: Any, format: str) -> str:
    """Go's name for the type of `value`."""
    if isinstance(value, list):
        blocks = format == "hcl" and value and all(isinstance(item, dict) for item in value)
        return "[]map[string]interface {}" if blocks else "[]interface {}"
    return "map[string]interface {}" if isinstance(value, dict) else kind(value, format)


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_integer, parse_float=_number)
    except json.JSONDecodeError as error:
        raise ValueError(_go_text(text, error)) from None


def _go_text(text: str, error: json.JSONDecodeError) -> str:
    """Go's words for a syntax error, and the place."""
    from core.codec.gojson import JsonError, decode

    place = f" (line {error.lineno}, column {error.colno})"
    try:
        decode(text.encode("utf-8", "replace"))
    except JsonError as caught:
        words = "unexpected end of JSON input" if str(caught).endswith("EOF") else str(caught)
        return f"{words}{place}"
    rest = text[error.pos :].lstrip(" \t\r\n")[:1]
    if error.msg == "Extra data" and rest:
        return f"invalid character {_rune(rest)} after top-level value{place}"
    return f"{error.msg}{place}"


def _rune(char: str) -> str:
    return "'\\''" if char == "'" else f"'{quote(char)[1:-1]}'"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character {_rune(name.lstrip('-')[0])} looking for beginning of value")


def _integer(digits: str) -> int | float:
    """A whole number; beyond 64 bits it is a float, as all numbers are to Go's decoder."""
    number = _number(digits)
    return int(digits) if abs(number) < 1 << 62 else number


def _number(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"json: cannot unmarshal number {digits[:40]} into Go value of type float64")
    return number


def _hcl(text: str) -> Any:
    from core.codec.hcl import parse  # HclError is a ValueError

    return parse(text)


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError:
        raise ValueError("YAML files need PyYAML, which is not installed here") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        # PyYAML lets these out for an explicit tag on text that does not fit it (`!!timestamp x`).
        raise ValueError(f"a value does not fit its tag ({error})") from None


def _check_size(value: Any) -> None:
    """Refuse depths that no walk should have to survive, and documents that grow by references."""
    seen = 0
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                seen += len(item)
                if seen > MAX_VALUES:
                    raise ValueError(f"more than {MAX_VALUES} values")
            if isinstance(item, dict):
                if not all(isinstance(key, str) for key in item):
                    raise ValueError("a key is not a string")
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, int) and not -(1 << 63) <= item < 1 << 63:
                raise ValueError("a whole number does not fit 64 bits")
            elif isinstance(item, date | time | bytes | set):
                raise ValueError(f"a value of type {type(item).__name__} has no meaning here")
            elif isinstance(item, float) and item - item != 0:
                raise ValueError(f"the number {item} has no meaning here")
        level = below
