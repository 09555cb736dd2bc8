"""Functions on lists and maps: grouping, searching, nesting (reference/template.md 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from core.codec.duration import quote
from core.template.access import ANY
from core.template.errors import FunctionError
from core.template.gofmt import show
from core.template.records import HealthService, KeyPair
from core.template.values import Function, go_type

MAX_DEPTH = 100

_LIST, _MAP = "[]interface {}", "map[string]interface {}"
_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")


def _pairs(name: str, values: list[Any]) -> list[KeyPair]:
    for value in values:
        if not isinstance(value, KeyPair):
            raise FunctionError(f"{name}: wants the pairs of ls or tree, not {go_type(value)}")
    return values


def _by_key(values: list[Any]) -> dict[str, dict[str, KeyPair]]:
    found: dict[str, dict[str, KeyPair]] = {}
    for pair in _pairs("byKey", values):
        top, _, rest = pair.Key.partition("/")
        if rest:
            found.setdefault(top, {})[rest] = _renamed(pair, rest)
    return found


def _renamed(pair: KeyPair, key: str) -> KeyPair:
    fields = {name: getattr(pair, name) for name in pair.__struct_fields__}
    return KeyPair(**{**fields, "Key": key})


def _by_tag(values: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for service in _services("byTag", "Tags", values):
        for tag in service.Tags:
            found.setdefault(tag, []).append(service)
    return found


def _by_port(values: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for service in _services("byPort", "Port", values):
        found.setdefault(service.Port, []).append(service)
    return found


def _services(name: str, field: str, values: Any) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(hasattr(value, field) for value in values):
        raise FunctionError(f"{name}: wrong argument type {go_type(values)}")
    return values


def _by_meta(names: str, values: list[Any]) -> dict[str, list[HealthService]]:
    found: dict[str, list[HealthService]] = {}
    for service in _services("byMeta", "ServiceMeta", values):
        parts = [_STRANGE.sub("_", _meta(service.ServiceMeta, name)) for name in names.split(",")]
        found.setdefault("_".join(parts), []).append(service)
    return found


def _meta(meta: dict[str, str], name: str) -> str:
    name, _, kind = name.partition("|")
    if kind != "int":
        return meta.get(name) or f"_no_{name}_"
    text = meta.get(name) or "0"
    digits = text.lstrip("+-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise FunctionError(f"byMeta: cannot parse {text} as number")
    return f"{int(text):05}"


# --- searching ------------------------------------------------------------------------------------


def _same(first: Any, second: Any) -> bool:
    for kind in (int, float, str):
        if isinstance(first, kind) and isinstance(second, kind):
            return not isinstance(first, bool) and not isinstance(second, bool) and first == second
    return False


def _in(container: Any, value: Any) -> bool:
    if isinstance(container, str):
        return isinstance(value, str) and value in container
    if isinstance(container, list | range):
        return any(_same(item, value) for item in container)
    return False


def _contains_some(found: bool, outcome: bool) -> Callable[[list[Any], Any], bool]:
    """`outcome` as soon as one of the values is (`found`) or is not in the container."""
    return lambda values, container: (
        outcome if any(_in(container, value) == found for value in values) else not outcome
    )


# --- nesting --------------------------------------------------------------------------------------


def _explode(values: list[Any]) -> dict[str, Any]:
    return _exploded("explode", [(pair.Key, pair.Value) for pair in _pairs("explode", values)])


def _explode_map(values: dict[str, Any]) -> dict[str, Any]:
    return _exploded("explodeMap", sorted(values.items(), key=lambda entry: entry[0]))


def _exploded(name: str, entries: list[tuple[str, Any]]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, value in entries:
        *folders, leaf = path.split("/")
        if len(folders) > MAX_DEPTH:
            raise FunctionError(f"{name}: {quote(path)} is more than {MAX_DEPTH} levels deep")
        inner = root
        for folder in folders:
            below = inner.setdefault(folder, {})
            if not isinstance(below, dict):
                has = f"{quote(folder)} already has value {quote(show(below))}"
                raise FunctionError(f"{name}: not a map: {quote(path)}: {has}")
            inner = below
        if leaf and isinstance(inner.get(leaf), dict):
            raise FunctionError(f"{name}: not a map: {quote(path)} is both a key and a folder")
        if leaf:
            inner[leaf] = value
    return root


def _merged(base: dict[str, Any], other: dict[str, Any], override: bool) -> dict[str, Any]:
    """`base` with what it lacks from `other`; with `override` the values of `other` win."""
    result = dict(base)
    for key, value in other.items():
        known = result.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            result[key] = _merged(known, value, override)
        elif not known or (override and value):
            result[key] = value
    return result


def _loop(*bounds: Any) -> range:
    if not 1 <= len(bounds) <= 2:
        raise FunctionError(f"loop: wrong number of arguments, expected 1 or 2, but got {len(bounds)}")
    numbers = [_bound(bound) for bound in bounds]
    return range(*numbers)


def _bound(value: Any) -> int:
    if isinstance(value, str):
        digits = value[1:] if value[:1] in ("+", "-") else value
        if value and (not digits.isascii() or not digits.isdigit() or len(digits) > 18):
            raise FunctionError(f"parseInt: strconv.ParseInt: parsing {quote(value)}: invalid syntax")
        return int(value or "0")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise FunctionError(f"loop: bad argument type: {'<nil>' if value is None else go_type(value)}")


LISTS: Mapping[str, Function] = {
    "byKey": Function((_LIST,), None, _by_key),
    "byTag": Function((ANY,), None, _by_tag),
    "byPort": Function((ANY,), None, _by_port),
    "byMeta": Function(("string", _LIST), None, _by_meta),
    "contains": Function((ANY, ANY), None, lambda value, container: _in(container, value)),
    "in": Function((ANY, ANY), None, _in),
    "containsAll": Function((_LIST, ANY), None, _contains_some(found=False, outcome=False)),
    "containsAny": Function((_LIST, ANY), None, _contains_some(found=True, outcome=True)),
    "containsNone": Function((_LIST, ANY), None, _contains_some(found=True, outcome=False)),
    "containsNotAll": Function((_LIST, ANY), None, _contains_some(found=False, outcome=True)),
    "explode": Function((_LIST,), None, _explode),
    "explodeMap": Function((_MAP,), None, _explode_map),
    "mergeMap": Function((_MAP, _MAP), None, lambda base, other: _merged(base, other, override=False)),
    "mergeMapWithOverride": Function(
        (_MAP, _MAP), None, lambda base, other: _merged(base, other, override=True)
    ),
    "loop": Function((), ANY, _loop),
}
"""The functions of this file by name."""
