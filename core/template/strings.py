"""Go's literals as values: quoted strings, characters, numbers."""

from __future__ import annotations

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_HEX_FLOAT = re.compile(r"[+-]?0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+")
_UNDERSCORES = re.compile(r"(?<=[0-9a-fA-FxXoObB])_(?=[0-9a-fA-F])")


def unquote(quoted: str) -> str:
    """The value of a string literal with its quotes. ValueError for an escape that Go does not have.
    Bytes that are no UTF-8 (`\\xff`) become surrogates, as everywhere in the project's texts."""
    kind, inside = quoted[0], quoted[1:-1]
    if kind == "`":
        return inside.replace("\r", "")
    if "\\" not in inside:
        return inside
    raw = bytearray()
    at = 0
    for found in _ESCAPE.finditer(inside):
        raw += inside[at : found.start()].encode("utf-8", "surrogateescape")
        raw += _unescape(found, kind)
        at = found.end()
    raw += inside[at:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def _unescape(found: re.Match[str], kind: str) -> bytes:
    byte, octal, short, long, simple = found.groups()
    if byte or octal:
        value = int(byte, 16) if byte else int(octal, 8)
        if value > 255:
            raise ValueError("invalid syntax")
        return bytes([value])
    if short or long:
        value = int(short or long, 16)
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            raise ValueError("invalid syntax")
        return chr(value).encode()
    if simple in _SIMPLE or simple == kind:
        return _SIMPLE.get(simple, simple).encode()
    raise ValueError("invalid syntax")


def integer(text: str) -> int | None:
    """The whole number that `text` is in Go's syntax of base 0; None if it is none."""
    plain = _UNDERSCORES.sub("", text)
    sign, digits = (plain[0], plain[1:]) if plain[:1] in ("+", "-") else ("", plain)
    if not digits.isascii() or "_" in digits:
        return None
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        digits = f"0o{digits[1:]}"
    try:
        return int(sign + digits, 0)
    except ValueError:
        return None


def real(text: str) -> float | None:
    """The float that `text` is in Go's syntax; None if it is none."""
    plain = _UNDERSCORES.sub("", text)
    try:
        return float.fromhex(plain) if _HEX_FLOAT.fullmatch(plain) else float(plain)
    except (ValueError, OverflowError):
        return None
