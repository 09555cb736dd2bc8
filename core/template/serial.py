"""Values from and to JSON, YAML and TOML, as the libraries of consul-template read and write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

import msgspec

from core.codec import gojson
from core.codec.duration import quote
from core.template import yaml_out
from core.template.errors import FunctionError
from core.template.values import INVALID, Record, go_type, sorted_items

MAX_DEPTH = 100
MAX_VALUES = 500_000
"""How much a text may unfold to: YAML can repeat itself by references."""

_ESCAPE = re.compile(r"\\(u003c|u003e|u0026|.)")
_UNESCAPED = {"u003c": "<", "u003e": ">", "u0026": "&"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


_Order = Callable[[list[str]], list[str]]


class _Size:
    """How many values have been seen."""

    def __init__(self) -> None:
        self.left = MAX_VALUES


def plain(value: Any, fields: Any = str, order: _Order | None = None) -> Any:
    """Maps, lists and scalars only: structs become maps whose keys are made by `fields`, maps are sorted
    by key, or by `order`. FunctionError for what has no such form."""
    return _plain(value, fields, order, 0, _Size())


def _plain(value: Any, fields: Any, order: _Order | None, depth: int, size: _Size) -> Any:
    size.left -= 1
    if depth > MAX_DEPTH or size.left < 0:
        raise FunctionError("the value is too deep or too large")
    if value is None or value is INVALID:
        return None
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Record):
        entries = [(fields(name), getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        entries = [(_name(key), item) for key, item in sorted_items(value)]
        if order is not None:
            known = dict(entries)
            entries = [(key, known[key]) for key in order(list(known))]
    elif isinstance(value, list | range):
        return [_plain(item, fields, order, depth + 1, size) for item in value]
    else:
        raise FunctionError(f"unsupported type: {go_type(value)}")
    return {key: _plain(item, fields, order, depth + 1, size) for key, item in entries}


def _name(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


# --- JSON -----------------------------------------------------------------------------------------


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character '{name.lstrip('-')[0]}' looking for beginning of value")


def parse_json(text: str) -> Any:
    """The value of a JSON text; numbers are floats, as Go's decoder makes them. "" is an empty map."""
    if not text:
        return {}
    try:
        value = json.loads(text, parse_int=float, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise FunctionError(f"{_go_words(text, error)} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:
        raise FunctionError(str(error)) from None
    except RecursionError:
        raise FunctionError("exceeded max depth") from None
    return value


def _go_words(text: str, error: json.JSONDecodeError) -> str:
    try:
        gojson.decode(text.encode("utf-8", "replace"))
    except gojson.JsonError as caught:
        return "unexpected end of JSON input" if str(caught).endswith("EOF") else str(caught)
    rest = text[error.pos :].lstrip(" \t\r\n")[:1]
    return f"invalid character {quote(rest)[1:-1]!r} after top-level value" if rest else error.msg


def to_json(value: Any, pretty: bool = False, escape: bool = True) -> str:
    """JSON with `<`, `>` and `&` escaped unless `escape` is off; `pretty` indents by two spaces."""
    raw = gojson.encode(plain(value))
    if pretty:
        raw = msgspec.json.format(raw, indent=2)
    text = raw.decode()
    if escape or "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: _UNESCAPED.get(found[1], found[0]), text)


# --- YAML -----------------------------------------------------------------------------------------


def _yaml() -> Any:
    try:
        return import_module("yaml")
    except ModuleNotFoundError:
        raise FunctionError("YAML needs PyYAML, which is not installed here") from None


@cache
def _loader() -> Any:
    """Safe, and dates stay text."""
    yaml = _yaml()
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; "" is an empty map."""
    if not text:
        return {}
    yaml = _yaml()
    try:
        value = yaml.load(text, Loader=_loader())  # a safe loader of our own making
        _check_size(value)
    except yaml.YAMLError as error:
        raise FunctionError(f"yaml: {' '.join(str(error).split())}") from None
    except (AttributeError, LookupError, TypeError, ArithmeticError, ValueError) as error:
        # PyYAML lets these out for an explicit tag on text that does not fit it.
        raise FunctionError(f"yaml: a value does not fit its tag ({error})") from None
    except RecursionError:
        raise FunctionError("yaml: exceeded max depth") from None
    return value


def _check_size(value: Any) -> None:
    seen = depth = 0
    level = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                seen += len(item)
                below.extend(item.values() if isinstance(item, dict) else item)
            elif isinstance(item, bytes | set | tuple):
                raise FunctionError(f"yaml: a value of type {type(item).__name__} has no meaning here")
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise FunctionError("yaml: the value is too deep or too large")
        level = below


def to_yaml(value: Any) -> str:
    """YAML in block style, keys sorted; the fields of records in lower case."""
    yaml = _yaml()
    shown = plain(value, str.lower, yaml_out.natural)
    text: str = yaml.dump(shown, Dumper=yaml_out.dumper(yaml), default_flow_style=False, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


# --- TOML -----------------------------------------------------------------------------------------


def to_toml(value: Any) -> str:
    """TOML: plain values first, then tables, each level indented by two spaces; nil is left out."""
    shown = plain(value)
    if not isinstance(shown, dict):
        raise FunctionError(f"toTOML: only maps can be written as TOML, not {go_type(value)}")
    lines: list[str] = []
    _table(shown, [], lines)
    return "\n".join(lines).strip()


def _table(table: dict[str, Any], path: list[str], lines: list[str]) -> None:
    indent = "  " * len(path)
    inner = {key: value for key, value in table.items() if isinstance(value, dict) or _is_tables(value)}
    for key, value in table.items():
        if key not in inner and value is not None:
            lines.append(f"{indent}{_toml_key(key)} = {_toml_value(value)}")
    for key, value in inner.items():
        below = [*path, _toml_key(key)]
        for each in value if isinstance(value, list) else [value]:
            if not path:
                lines.append("")
            brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
            lines.append(f"{indent}{brackets[0]}{'.'.join(below)}{brackets[1]}")
            _table(each, below, lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_string(key)


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, float):
        return _toml_float(value)
    if isinstance(value, dict):
        entries = (
            f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None
        )
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, list):
        if None in value:
            raise FunctionError("toTOML: a list with nil cannot be written as TOML")
        return f"[{', '.join(map(_toml_value, value))}]"
    return str(value)


def _toml_float(value: float) -> str:
    if value != value:
        return "nan"
    if value in (math.inf, -math.inf):
        return "inf" if value > 0 else "-inf"
    shown = format(Decimal(repr(value)), "f")
    return shown if "." in shown else f"{shown}.0"
