"""Regular expressions in Go's syntax (RE2), for matching and for replacing, both in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from core.codec import regex, regex_groups
from core.template.errors import FunctionError

_Places = tuple[int, ...]
_EXPAND = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], bool]:
    try:
        return regex.compile(pattern)
    except regex.RegexError as error:
        raise FunctionError(str(error)) from None


@lru_cache(maxsize=256)
def _finder(pattern: str) -> tuple[Callable[[str, int], _Places | None], dict[str, int]]:
    try:
        return regex_groups.places(pattern)
    except regex.RegexError as error:
        raise FunctionError(str(error)) from None


def match(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text`. FunctionError with Go's words for a pattern that is wrong."""
    return _matcher(pattern)(text)


def replace_all(pattern: str, replacement: str, text: str) -> str:
    """`text` with every match replaced; `$1`, `${1}`, `$name` in the replacement are groups."""
    find, names = _finder(pattern)
    if not match(pattern, text):
        return text  # most texts; the machine without groups is faster
    out: list[str] = []
    copied = 0
    at = 0
    while at <= len(text):
        places = find(text, at)
        if places is None:
            break
        start, end = places[:2]
        if end > copied or start == 0:  # Go sees no empty match right behind another
            out += text[copied:start], _expanded(replacement, text, places, names)
            copied = end
        at = end if end > at else at + 1
    return "".join([*out, text[copied:]])


def _expanded(replacement: str, text: str, places: _Places, names: dict[str, int]) -> str:
    if "$" not in replacement:
        return replacement

    def fill(hole: re.Match[str]) -> str:
        if hole[1]:
            return "$"
        name = hole[2] or hole[3]
        number = int(name) if name.isascii() and name.isdigit() else names.get(name, -1)
        if not 0 <= number < len(places) // 2 or places[2 * number] < 0:
            return ""
        return text[places[2 * number] : places[2 * number + 1]]

    return _EXPAND.sub(fill, replacement)
