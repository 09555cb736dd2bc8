"""YAML as Go's yaml.v2 writes it: its quotes, its order of keys, lines folded at 80 columns.

PyYAML writes the tree; what a text needs quotes for and how keys are sorted is decided here, because Go's
library reads more words as booleans and numbers than PyYAML does."""

from __future__ import annotations

import base64
import math
import re
from functools import cache, cmp_to_key
from typing import Any

from core.template.gofmt import shortest
from core.template.values import encoded

_TEXT = "tag:yaml.org,2002:str"
_WORD = re.compile(
    r"|y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF"
    r"|~|null|Null|NULL|\.(nan|NaN|NAN)|[-+]?\.(inf|Inf|INF)"
)
_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)"
    r"|[-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9_]+)?"
)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})?)?"
)
_DIGITS = re.compile(r"[0-9]+")


def reads_as_text(text: str) -> bool:
    """Whether `text` without quotes would be read as text by a reader of YAML 1.1."""
    return not any(pattern.fullmatch(text) for pattern in (_WORD, _NUMBER, _BASE_60, _TIME))


@cache
def dumper(yaml: Any) -> Any:
    """What yaml.dump writes with. All scalars are plain text to PyYAML: their form is chosen here."""
    made: Any = type(
        "Dumper",
        (yaml.SafeDumper,),
        {"ignore_aliases": lambda self, data: True, "yaml_implicit_resolvers": {}},
    )
    made.add_representer(str, _text)
    made.add_representer(dict, _map)
    made.add_representer(bool, lambda writer, value: _plain(writer, "true" if value else "false"))
    made.add_representer(int, lambda writer, value: _plain(writer, str(value)))
    made.add_representer(float, lambda writer, value: _plain(writer, _float(value)))
    made.add_representer(type(None), lambda writer, value: _plain(writer, "null"))
    return made


def _plain(writer: Any, text: str) -> Any:
    return writer.represent_scalar(_TEXT, text)


def _text(writer: Any, text: str) -> Any:
    if any("\udc80" <= char <= "\udcff" for char in text):  # bytes that are not UTF-8
        shown = base64.b64encode(encoded(text)).decode()
        return writer.represent_scalar("tag:yaml.org,2002:binary", shown)
    style = "|" if "\n" in text else None if reads_as_text(text) else '"'
    return writer.represent_scalar(_TEXT, text, style=style)


def _map(writer: Any, value: dict[str, Any]) -> Any:
    return writer.represent_mapping("tag:yaml.org,2002:map", list(value.items()))


def _float(number: float) -> str:
    if number != number:
        return ".nan"
    if number in (math.inf, -math.inf):
        return ".inf" if number > 0 else "-.inf"
    return ("-" if math.copysign(1.0, number) < 0 else "") + shortest(abs(number))


# --- the order of keys ----------------------------------------------------------------------------


def natural(keys: list[str]) -> list[str]:
    """Keys as people count: `2` before `10`, letters behind everything else."""
    return sorted(keys, key=cmp_to_key(_compare))


def _compare(first: str, second: str) -> int:
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one == other:
            continue
        if one.isalpha() or other.isalpha():
            if one.isalpha() and other.isalpha():
                return -1 if one < other else 1
            return -1 if other.isalpha() else 1
        return -1 if _rank(first, at, one, other) < _rank(second, at, other, one) else 1
    return len(first) - len(second)


def _rank(text: str, at: int, char: str, other: str) -> tuple[int, int, str]:
    """What counts where two texts part: the number that begins there, its length, the character."""
    found = _DIGITS.match(text, at)
    number = int(found[0]) if found else 0
    if "0" in (char, other):  # behind the digits of a number, zeros count
        before = re.search(r"[0-9]*\Z", text[:at])
        if before and before[0].strip("0"):
            number += 10 ** len(found[0]) if found else 1
    return number, len(found[0]) if found else 0, char
