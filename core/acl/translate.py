"""Rules of the old ACL system in today's words: every named rule was a prefix (`/v1/acl/rules/translate`)."""

from __future__ import annotations

from typing import Any

from core.acl.policy import NAMED
from core.codec import hcl
from core.codec.duration import quote
from core.errors import Invalid

_INDENT = "  "
_PREFIXED = frozenset(NAMED)


def translate(text: str) -> str:
    """The same rules with `key "a"` as `key_prefix "a"`, printed as `hcl fmt` does. Invalid on a mistake."""
    if not text.strip():
        return ""
    try:
        values = hcl.parse(text)
    except hcl.HclError as error:
        raise Invalid(f"Failed to parse rules: {error}") from None
    pieces = []
    for word, value in values.items():
        new = f"{word}_prefix" if word.lower() in _PREFIXED else word
        pieces += _entry(_word(new), value, "")
    return "\n\n".join(pieces)


def _entry(word: str, value: Any, indent: str) -> list[str]:
    """`word = value`, or one block for each of the objects under it."""
    if not _is_blocks(value):
        return [f"{indent}{word} = {_value(value)}"]
    entries = []
    for body in value:
        for name, inner in body.items():
            if _is_blocks(inner):  # a label: word "name" { ... }
                entries += _entry(f"{word} {quote(name)}", inner, indent)
        plain = {name: inner for name, inner in body.items() if not _is_blocks(inner)}
        if plain or not body:
            entries.append(_block(word, plain, indent))
    return entries


def _block(word: str, fields: dict[str, Any], indent: str) -> str:
    if not fields:
        return f"{indent}{word} {{}}"
    width = max(len(_word(name)) for name in fields)
    lines = [f"{indent}{_INDENT}{_word(name):<{width}} = {_value(value)}" for name, value in fields.items()]
    return "\n".join((f"{indent}{word} {{", *lines, f"{indent}}}"))


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _word(name: str) -> str:
    plain = name[:1].isalpha() and all(char.isalnum() or char in "_-." for char in name)
    return name if plain else quote(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_word(name)} = {_value(item)}" for name, item in value.items()) + " }"
    return str(value)
