"""Structs <-> the maps that travel (protocols/rpc.md sections 3 and 4).

A msgspec.Struct with `rename=go_name` names its own wire keys. Each type is compiled once, at its first
use. On reading, unknown keys are skipped (a `Growing` struct keeps them), missing and nil ones give the
field's default, text that is not UTF-8 becomes surrogate escapes (and goes back to the same bytes). On
writing, keys are sorted and all fields are written.

A class attribute `ZERO_MAPS` {attribute: zero value} marks untyped maps that Go writes in full where we
keep None; `OPTIONAL` names attributes of later versions, which are not written while they are None."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from core.codec import msgpack
from core.codec.msgpack import DecodeError

T = TypeVar("T", bound=msgspec.Struct)
_Convert = Callable[[Any], Any]
_decoders: dict[type, _Convert] = {}
_encoders: dict[type, _Convert] = {}


class Growing(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A struct to which later versions add fields. `extra` has what was read under names that are unknown
    here, without zero values, None when there is nothing: a server of an older version hands on what its
    newer peers have said."""

    extra: dict[str, Any] | None = None


def to_wire(value: msgspec.Struct) -> dict[str, Any]:
    """The map of `value`, keys sorted."""
    encoder = _encoders.get(type(value)) or _compile_encoder(type(value))
    return cast("dict[str, Any]", encoder(value))


def from_wire(cls: type[T], wire: Any) -> T:
    """The `cls` that the decoded map `wire` holds. DecodeError when a field has the wrong type."""
    decoder = _decoders.get(cls) or _compile_decoder(cls)
    return cast(T, decoder(wire))


def from_wire_list(cls: type[T], wire: Any) -> list[T]:
    """The structs in a decoded list, nil being the empty one. DecodeError."""
    return [from_wire(cls, one) for one in _expect(list, wire or [])]


def pack(value: msgspec.Struct) -> bytes:
    """The msgpack bytes of `value`."""
    return msgpack.encode(to_wire(value))


def unpack(cls: type[T], data: bytes | memoryview) -> T:
    """The `cls` in msgpack bytes. DecodeError."""
    return from_wire(cls, msgpack.decode(data))


def plain(value: Any) -> Any:
    """An untyped decoded value with str for every raw string (surrogate escapes keep the bytes)."""
    if type(value) is bytes:
        return str(value, "utf-8", "surrogateescape")
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def is_zero(value: Any) -> bool:
    """Whether an untyped value is what Go has before anything was set, be it a struct of such values."""
    return not value or (type(value) is dict and all(map(is_zero, value.values())))


def text(value: Any) -> str:
    """A raw string as str, nil as ``. DecodeError for anything else."""
    if type(value) is bytes:
        return str(value, "utf-8", "surrogateescape")
    if value is None:
        return ""
    raise DecodeError(f"a string was expected, not {type(value).__name__}")


def raw(value: Any) -> bytes:
    """A raw string as bytes, nil as empty. DecodeError for anything else."""
    if type(value) is bytes:
        return value
    if value is None:
        return b""
    raise DecodeError(f"bytes were expected, not {type(value).__name__}")


def integer(value: Any) -> int:
    """An integer, nil as 0. DecodeError for anything else."""
    if type(value) is int:
        return value
    if value is None:
        return 0
    raise DecodeError(f"an integer was expected, not {type(value).__name__}")


def _number(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise DecodeError(f"a number was expected, not {type(value).__name__}")


def _boolean(value: Any) -> bool:
    if type(value) is bool or value == 0 or value == 1:
        return bool(value)
    raise DecodeError(f"a bool was expected, not {type(value).__name__}")


def _compile_decoder(cls: type) -> _Convert:
    """Builds and remembers the function from a wire map to `cls`."""
    hints = typing.get_type_hints(cls)
    zero_maps: dict[str, Any] = getattr(cls, "ZERO_MAPS", {})
    rows = []
    for field in _own_fields(cls):
        zero = zero_maps.get(field.name)
        convert = _decoder(hints[field.name]) if zero is None else _zero_to_none(zero)
        default = field.default if field.default is not msgspec.NODEFAULT else _zero(hints[field.name])
        rows.append((field.encode_name.encode(), convert, default))
    known = frozenset(row[0] for row in rows)
    grows = issubclass(cls, Growing)

    def decode(wire: Any) -> Any:
        if type(wire) is not dict:
            raise DecodeError(f"{cls.__name__}: a map was expected, not {type(wire).__name__}")
        get = wire.get
        values = []
        for key, convert, default in rows:
            value = get(key)
            if value is None:
                values.append(default)
                continue
            try:
                values.append(convert(value))
            except DecodeError as error:
                raise DecodeError(f"{cls.__name__}.{key.decode()}: {error}") from None
        if grows and not wire.keys() <= known:
            return cls(*values, extra=_unknown(wire, known))
        return cls(*values)

    _decoders[cls] = decode
    return decode


def _own_fields(cls: type) -> list[msgspec.structs.FieldInfo]:
    fields = msgspec.structs.fields(cls)
    return [field for field in fields if field.name != "extra"] if issubclass(cls, Growing) else list(fields)


def _unknown(wire: dict[Any, Any], known: frozenset[bytes]) -> dict[str, Any] | None:
    """What a decoded map has besides the `known` keys; None when that is nothing but zero values."""
    items = [(plain(key), plain(wire[key])) for key in wire.keys() - known]
    items.sort(key=lambda item: str(item[0]))  # a key may be anything
    return {key: value for key, value in items if not is_zero(value)} or None


def _decoder(hint: Any) -> _Convert:
    """The function for a value that is not nil."""
    hint = _strip_none(hint)
    if hint is str:
        return text
    if hint is int:
        return integer
    if hint is bool:
        return _boolean
    if hint is bytes:
        return raw
    if hint is float:
        return _number
    if hint is Any:
        return plain
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        item = _or_zero(arguments[0])
        return lambda value: [item(one) for one in _expect(list, value)]
    if origin is dict and arguments[1] is Any:
        return lambda value: plain(_expect(dict, value))
    if origin is dict:
        key, item = _decoder(arguments[0]), _or_zero(arguments[1])
        return lambda value: {key(name): item(one) for name, one in _expect(dict, value).items()}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return lambda value: (_decoders.get(hint) or _compile_decoder(hint))(value)
    raise TypeError(f"no wire form for {hint!r}")


def _or_zero(hint: Any) -> _Convert:
    """As `_decoder`, but nil gives the zero value."""
    convert = _decoder(hint)
    if hint in (str, int, bytes) or hint is Any:
        return convert  # these take nil themselves
    zero = _zero(hint)
    return lambda value: zero if value is None else convert(value)


def _zero(hint: Any) -> Any:
    if hint is not _strip_none(hint) or hint is Any:
        return None
    origin = typing.get_origin(hint)
    return (origin or hint)()


def _expect(cls: type, value: Any) -> Any:
    if type(value) is not cls:
        raise DecodeError(f"a {cls.__name__} was expected, not {type(value).__name__}")
    return value


def _zero_to_none(zero: Mapping[str, Any]) -> _Convert:
    def convert(value: Any) -> Any:
        value = {
            key: item for key, item in plain(_expect(dict, value)).items() if key in zero or not is_zero(item)
        }
        return None if value == zero else value

    return convert


def _strip_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (only,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        return only
    return hint


def _compile_encoder(cls: type) -> _Convert:
    """Builds and remembers the function from a `cls` to its wire map."""
    hints = typing.get_type_hints(cls)
    zero_maps: dict[str, Any] = getattr(cls, "ZERO_MAPS", {})
    optional: frozenset[str] = getattr(cls, "OPTIONAL", frozenset())
    grows = issubclass(cls, Growing)
    rows, later = [], []
    for field in sorted(_own_fields(cls), key=lambda field: field.encode_name):
        zero = zero_maps.get(field.name)
        convert = _encoder(hints[field.name]) if zero is None else _none_to_zero(zero)
        rows.append((field.encode_name, field.name, convert))
        if field.name in optional:
            later.append(field.encode_name)

    def encode(value: Any) -> dict[str, Any]:
        out = {}
        for key, name, convert in rows:
            item = getattr(value, name)
            out[key] = item if convert is None else convert(item)
        for key in later:
            if out[key] is None:
                del out[key]
        if grows and value.extra:
            return dict(sorted({**value.extra, **out}.items()))
        return out

    _encoders[cls] = encode
    return encode


def _encoder(hint: Any) -> _Convert | None:
    """The function for a value, None when it travels as it is."""
    hint = _strip_none(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, dict):
        item = _encoder(arguments[-1])
        if item is None:
            return None
        if origin is list:
            return lambda value: None if value is None else [item(one) for one in value]
        return lambda value: None if value is None else {key: item(one) for key, one in value.items()}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return lambda value: None if value is None else to_wire(value)
    return None


def _none_to_zero(zero: Mapping[str, Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if value is None:
            return zero
        return value if len(value) == len(zero) else dict(sorted({**zero, **value}.items()))

    return convert
