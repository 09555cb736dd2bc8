"""Functions from text to text, and from values to text (reference/template.md 3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any

from core.template import regex, serial
from core.template.access import ANY
from core.template.errors import FunctionError
from core.template.values import Function, StringMap, Strings, decoded, encoded

MAX_INDENT = 100_000

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_WORD = re.compile(r"(?<![\w'\u2019])\w")


def _each(convert: Callable[[str], str], text: str) -> str:
    """Letter by letter, as Go changes case: no letter becomes two."""
    if text.isascii():
        return convert(text)
    return "".join(new if len(new := convert(char)) == 1 else char for char in text)


def _title(text: str) -> str:
    return _WORD.sub(lambda found: _each(str.title, found[0]), text)


def _indent(spaces: int, text: str) -> str:
    if not 0 <= spaces <= MAX_INDENT:
        raise FunctionError(f"indent value must be a positive integer (at most {MAX_INDENT})")
    prefix = " " * spaces
    return "\n".join(prefix + line if line else line for line in text.split("\n"))


def _split(separator: str, text: str) -> Strings:
    text = text.strip()
    if not text:
        return Strings()
    return Strings(text.split(separator) if separator else text)


def _split_to_map(items: str, pairs: str, text: str) -> StringMap:
    found = StringMap()
    for item in _split(items, text):
        key, separator, value = item.partition(pairs) if pairs else ("", "-", item)
        if separator:
            found[key] = value
    return found


def _decode(name: str, alternative: bytes | None) -> Callable[[str], str]:
    """Strict base64: Go takes newlines, but no other stray character and no missing padding."""

    def function(text: str) -> str:
        plain = text.replace("\r", "").replace("\n", "")
        body = plain.rstrip("=")
        standard = body.translate(str.maketrans("-_+/", "+/!!")) if alternative else body
        stray = _NOT_BASE64.search(standard)
        if stray is not None:
            raise FunctionError(f"{name}: illegal base64 data at input byte {stray.start()}")
        if len(plain) % 4 or len(plain) - len(body) > 2:
            raise FunctionError(f"{name}: illegal base64 data at input byte {len(body) - len(body) % 4}")
        return decoded(base64.b64decode(standard + "=" * (-len(standard) % 4)))

    return function


def _encode(alternative: bytes | None) -> Callable[[str], str]:
    return lambda text: base64.b64encode(encoded(text), alternative).decode()


def _sha256(text: str) -> str:
    return hashlib.sha256(encoded(text)).hexdigest()


def _md5(text: str) -> str:
    return hashlib.md5(encoded(text), usedforsecurity=False).hexdigest()


def _hmac(message: str, key: str) -> str:
    return hmac.new(encoded(key), encoded(message), "sha256").hexdigest()


def _text(call: Callable[..., Any], params: int = 1) -> Function:
    return Function(("string",) * params, None, call)


def _value(call: Callable[[Any], str]) -> Function:
    return Function((ANY,), None, call)


TEXTS: Mapping[str, Function] = {
    "base64Decode": _text(_decode("base64Decode", None)),
    "base64Encode": _text(_encode(None)),
    "base64URLDecode": _text(_decode("base64URLDecode", b"-_")),
    "base64URLEncode": _text(_encode(b"-_")),
    "hmacSHA256Hex": _text(_hmac, 2),
    "md5sum": _text(_md5),
    "sha256Hex": _text(_sha256),
    "indent": Function(("int", "string"), None, _indent),
    "join": Function(("string", "[]string"), None, lambda separator, texts: separator.join(texts)),
    "split": _text(_split, 2),
    "splitToMap": _text(_split_to_map, 3),
    "trim": _text(lambda cut, text: text.strip(cut) if cut else text, 2),
    "trimPrefix": _text(lambda prefix, text: text.removeprefix(prefix), 2),
    "trimSuffix": _text(lambda suffix, text: text.removesuffix(suffix), 2),
    "trimSpace": _text(lambda text: text.strip()),
    "toLower": _text(lambda text: _each(str.lower, text)),
    "toUpper": _text(lambda text: _each(str.upper, text)),
    "toTitle": _text(_title),
    "replaceAll": _text(lambda old, new, text: text.replace(old, new), 3),
    "regexMatch": _text(regex.match, 2),
    "regexReplaceAll": _text(regex.replace_all, 3),
    "parseJSON": _text(serial.parse_json),
    "parseYAML": _text(serial.parse_yaml),
    "toJSON": _value(lambda value: serial.to_json(value)),
    "toJSONPretty": _value(lambda value: serial.to_json(value, pretty=True)),
    "toUnescapedJSON": _value(lambda value: serial.to_json(value, escape=False)),
    "toUnescapedJSONPretty": _value(lambda value: serial.to_json(value, pretty=True, escape=False)),
    "toYAML": _value(serial.to_yaml),
    "toTOML": _value(serial.to_toml),
}
"""The functions of this file by name."""
