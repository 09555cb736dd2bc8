"""JSON as Go's encoding/json reads and writes it.

Requests are decoded like Go's `json.Decoder` does: the first value of the body counts and what follows
is ignored, and errors have Go's texts, which clients show and match on. Replies are encoded compactly
with `<`, `>`, `&`, U+2028 and U+2029 escaped, and floats as Go prints them.

The common body takes a fast path through msgspec; whatever msgspec refuses is looked at again by a
scanner that follows the states of Go's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from core.codec.duration import quote

MAX_DEPTH = 256  # Go allows 10,000; nothing of this protocol nests deeper than a dozen

_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.decode


class JsonError(ValueError):
    """A body that cannot be decoded; the text is Go's."""


# --- writing ---------------------------------------------------------------------------------------

_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_EXPONENT = re.compile(rb"e[+-]?[0-9]+[,}\]]")
_STRING_OR_FLOAT = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?')
_ESCAPED = re.compile(rb"\\.")
_SHORT_ESCAPES = {rb"\b": rb"\u0008", rb"\f": rb"\u000c"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(value: Any, pretty: bool = False) -> bytes:
    """`value` (builtins and msgspec structs) as JSON bytes. Maps keep their order: sort them first
    where Go sorts (it does for maps, not for structs). `pretty` indents by four spaces and ends with
    a newline. Bytes become base64, surrogates (bytes that are not UTF-8) U+FFFD. TypeError for an
    object that JSON has no form for."""
    try:
        raw = _ENCODE(value)
    except UnicodeEncodeError:
        raw = _ENCODE(_without_surrogates(msgspec.to_builtins(value)))
    if b"<" in raw or b">" in raw or b"&" in raw:
        raw = raw.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if b"\xe2\x80" in raw:
        raw = raw.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\\b" in raw or b"\\f" in raw:
        raw = _ESCAPED.sub(lambda match: _SHORT_ESCAPES.get(match[0], match[0]), raw)
    if isinstance(value, float):
        raw = _go_number(raw)
    elif _WHOLE_FLOAT.search(raw) or _EXPONENT.search(raw):
        raw = _STRING_OR_FLOAT.sub(lambda match: _go_number(match[0]), raw)
    if pretty:
        return msgspec.json.format(raw, indent=4) + b"\n"
    return raw


def _go_number(token: bytes) -> bytes:
    """A number token in Go's form; strings and integers come back as they are."""
    if token[:1] == b'"' or (b"." not in token and b"e" not in token):
        return token
    return show_float(float(token)).encode()


def show_float(number: float) -> str:
    """A finite float as encoding/json prints it: shortest digits, an exponent only below 1e-6 or
    from 1e21 on."""
    digits, _, exponent = f"{number!r}".partition("e")
    size = abs(number)
    if number == int(number) and size < 1e21:
        return "-0" if number == 0 and digits[0] == "-" else str(int(number))
    if size >= 1e21 or size < 1e-6:
        return f"{digits.removesuffix('.0')}e{int(exponent):+}" if exponent else digits
    if not exponent:
        return digits
    places = len(digits.partition(".")[2]) - int(exponent)
    return f"{number:.{places}f}"


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


# --- reading ---------------------------------------------------------------------------------------

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_CHARACTERS = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_HEX = re.compile(rb"[0-9a-fA-F]{0,4}")
_DIGITS = re.compile(rb"[0-9]*+")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_NAMED_CONTROLS = {7: "'\\a'", 8: "'\\b'", 11: "'\\v'", 12: "'\\f'"}


def decode(body: bytes) -> Any:
    """The first JSON value of `body`, as builtins. Integers stay int within 64 bits and are floats
    beyond; bytes that are not UTF-8 become U+FFFD. JsonError has Go's text."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH and _LONG_NUMBER.search(body) is None:
        try:
            return _DECODE(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    start, end = _first_value(body)
    text = _NOT_UTF8.sub("\ufffd", body[start:end].decode("utf-8", "surrogateescape"))
    value = json.loads(text, parse_int=_integer, parse_float=_float)
    return _without_surrogates(value) if "\\u" in text else value


def _integer(digits: str) -> int | float:
    if len(digits) <= 20 and -(1 << 63) <= (number := int(digits)) < 1 << 64:
        return number
    return _float(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise JsonError(f"json: cannot unmarshal number {digits} into Go value of type float64")
    return number


def _first_value(body: bytes) -> tuple[int, int]:
    """Where the first value begins and ends. Raises like Go's scanner: at the first wrong byte."""
    start = at = _skip_space(body, 0)
    if at == len(body):
        raise JsonError("EOF")
    closers: list[int] = []  # of the objects and arrays that are open
    while True:
        opener = _byte(body, at)
        if opener in b"{[":
            if len(closers) == MAX_DEPTH:
                raise JsonError("exceeded max depth")
            closers.append(ord("}") if opener == ord("{") else ord("]"))
            at = _skip_space(body, at + 1)
            if _byte(body, at) == closers[-1]:
                closers.pop()
                at += 1
            elif opener == ord("{"):
                at = _key(body, at)
                continue
            else:
                continue
        else:
            at = _scalar(body, at)
        while closers:
            at = _skip_space(body, at)
            follower = _byte(body, at)
            if follower == ord(","):
                at = _skip_space(body, at + 1)
                if closers[-1] == ord("}"):
                    at = _key(body, at)
                break
            if follower != closers[-1]:
                where = "after object key:value pair" if closers[-1] == ord("}") else "after array element"
                raise _wrong(follower, where)
            closers.pop()
            at += 1
        else:
            return start, at


def _key(body: bytes, at: int) -> int:
    """Skip an object's key and its colon; `at` is the first byte that is not space."""
    if _byte(body, at) != ord('"'):
        raise _wrong(body[at], "looking for beginning of object key string")
    at = _skip_space(body, _string(body, at))
    if _byte(body, at) != ord(":"):
        raise _wrong(body[at], "after object key")
    return _skip_space(body, at + 1)


def _scalar(body: bytes, at: int) -> int:
    first = body[at]
    if first == ord('"'):
        return _string(body, at)
    word = _LITERALS.get(first)
    if word is not None:
        for offset in range(1, len(word)):
            if _byte(body, at + offset) != word[offset]:
                expected = f"(expecting '{chr(word[offset])}')"
                raise _wrong(body[at + offset], f"in literal {word.decode()} {expected}")
        return at + len(word)
    if first == ord("-") or first in b"0123456789":
        return _number(body, at)
    raise _wrong(first, "looking for beginning of value")


def _string(body: bytes, at: int) -> int:
    match = _CHARACTERS.match(body, at + 1)
    assert match is not None  # may be empty
    at = match.end()
    stop = _byte(body, at)
    if stop == ord('"'):
        return at + 1
    if stop != ord("\\"):
        raise _wrong(stop, "in string literal")
    escape = _byte(body, at + 1)
    if escape != ord("u"):
        raise _wrong(escape, "in string escape code")
    match = _HEX.match(body, at + 2)
    assert match is not None
    raise _wrong(_byte(body, match.end()), "in \\u hexadecimal character escape")


def _number(body: bytes, at: int) -> int:
    at += body[at] == ord("-")
    first = _byte(body, at)
    if first not in b"0123456789":
        raise _wrong(first, "in numeric literal")
    at = at + 1 if first == ord("0") else _digits(body, at)
    if body[at : at + 1] == b".":
        at = _some_digits(body, at + 1, "after decimal point in numeric literal")
    if body[at : at + 1] in (b"e", b"E"):
        at += 1
        at += body[at : at + 1] in (b"+", b"-")
        at = _some_digits(body, at, "in exponent of numeric literal")
    return at


def _some_digits(body: bytes, at: int, where: str) -> int:
    if _byte(body, at) not in b"0123456789":
        raise _wrong(body[at], where)
    return _digits(body, at)


def _digits(body: bytes, at: int) -> int:
    match = _DIGITS.match(body, at)
    assert match is not None
    return match.end()


def _skip_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    assert match is not None
    return match.end()


def _byte(body: bytes, at: int) -> int:
    if at >= len(body):
        raise JsonError("unexpected EOF")
    return body[at]


def _wrong(byte: int, where: str) -> JsonError:
    if byte == ord("'"):
        shown = "'\\''"
    elif byte == ord('"'):
        shown = "'\"'"
    elif 0x80 <= byte < 0xA1 or byte == 0xAD:
        shown = f"'\\u{byte:04x}'"
    elif byte in _NAMED_CONTROLS:
        shown = _NAMED_CONTROLS[byte]
    else:
        shown = f"'{quote(chr(byte))[1:-1]}'"
    return JsonError(f"invalid character {shown} {where}")


# --- shapes: which fields a body may have, and of what types ---------------------------------------


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
    if "int" not in go:
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
    zero = ""

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, str):
            return value
        errors.mismatch(value, self.go)
        return self.zero


class Integer(Shape):
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
    zero = False

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, bool):
            return value
        errors.mismatch(value, self.go)
        return self.zero


class Anything(Shape):
    def fit(self, value: Any, errors: Errors) -> Any:
        return value


class ListOf(Shape):
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
    it is reported before anything noted outside."""

    __slots__ = ("_names", "_struct", "_translated", "fields")

    def __init__(
        self,
        go: str,
        fields: Mapping[str, Shape],
        aliases: Mapping[str, str] | None = None,
        translated: bool = False,
    ) -> None:
        super().__init__(go)
        self.fields = dict(fields)
        self._translated = translated
        self._struct = "" if translated else go.rpartition(".")[2]
        self._names = {folded(name): name for name in fields}
        self._names.update((folded(alias), name) for alias, name in (aliases or {}).items())

    def _name(self, key: str) -> str | None:
        key = folded(key)
        return self._names.get(key.replace("_", "") if self._translated else key)

    def fit(self, value: Any, errors: Errors) -> Any:
        """A dict of the fields that were given, under the names of `fields`."""
        if self._translated:
            return fit(value, self, errors.lenient, inner=True)
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
                errors.path.append(name)
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
