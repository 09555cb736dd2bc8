"""JSON as Go's encoding/json reads and writes it.

Requests are decoded like Go's `json.Decoder` does: the first value of the body counts and what follows
is ignored, and errors have Go's texts, which clients show and match on. Replies are encoded compactly
with `<`, `>`, `&`, U+2028 and U+2029 escaped, and floats as Go prints them.

The common body takes a fast path through msgspec; whatever msgspec refuses is looked at again by a
scanner that follows the states of Go's own."""

from __future__ import annotations

import json
import re
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
_STRING_OR_FLOAT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?')
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
        raw = _lossy(msgspec.to_builtins(value))
    if b"\\" in raw:
        raw = _ESCAPED.sub(lambda match: _SHORT_ESCAPES.get(match[0], match[0]), raw)
    if b"<" in raw or b">" in raw or b"&" in raw:
        raw = raw.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if not raw.isascii():
        raw = raw.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
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
        if number == 0 or size < 1 << 53:
            return "-0" if number == 0 and digits[0] == "-" else str(int(number))
        mantissa = digits.removesuffix(".0").replace(".", "")  # as few digits as tell it, then zeros
        return mantissa if not exponent else mantissa.ljust(int(exponent) + 1 + (number < 0), "0")
    if size >= 1e21 or size < 1e-6:
        return f"{digits.removesuffix('.0')}e{int(exponent):+}" if exponent else digits
    if not exponent:
        return digits
    places = len(digits.partition(".")[2]) - int(exponent)
    return f"{number:.{places}f}"


def _lossy(value: Any) -> bytes:
    """JSON of builtins with surrogates: Go writes six letters for each, not the character U+FFFD."""
    marks = map(chr, range(0xFDD0, 0xFDF0))  # no characters; one that nothing here has
    shown = _ENCODE(_without_surrogates(value))
    mark = next((mark for mark in marks if mark.encode() not in shown), "\ufffd")
    return _ENCODE(_without_surrogates(value, mark)).replace(mark.encode(), rb"\ufffd")


def _without_surrogates(value: Any, mark: str = "\ufffd") -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(mark, value)
    if isinstance(value, list):
        return [_without_surrogates(item, mark) for item in value]
    if isinstance(value, dict):
        return {
            _without_surrogates(key, mark): _without_surrogates(item, mark) for key, item in value.items()
        }
    return value


# --- reading ---------------------------------------------------------------------------------------

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SPACE = re.compile(rb"[ \t\r\n]*+")
# No possessive group: those of Python 3.11.2 and before eat a part of what does not match.
_CHARACTERS = re.compile(rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
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
                raise JsonError(f"invalid character {chr(opener)!r} exceeded max depth")
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
