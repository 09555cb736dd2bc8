"""The shapes that configuration may take: options, blocks of them, lists and maps of blocks.

A leaf is named by its type:

    string bool int uint float   as in Go; a number may be written with a fraction, text is never converted
    duration                     text such as `1h30m`; nanoseconds once loaded
    port                         int up to 65535; 0 and below mean off (-1)
    strings                      list of strings
    map                          strings by name
    durations                    durations by name
    headers                      lists of strings by name
    opaque opaques               a map, a list of maps, whose keys are nobody's business here
    any                          accepted unseen: options without effect, and `audit.sink`"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

LISTS = frozenset({"strings", "opaques"})
MAPS = frozenset({"map", "durations", "headers", "opaque"})


class Option(NamedTuple):
    """One option of the agent: everything that is known about it, declared once."""

    key: str
    type: str
    default: Any
    help: str
    flag: str = ""
    dev: Any = None  # the default under -dev, None: the same
    reload: bool = False
    old: str = ""  # this is an old spelling of that key
    quiet: bool = False  # an old spelling in such wide use that a warning would be noise
    unused: str = ""  # accepted without effect, and why
    since: str = ""  # "1.21": Consul 1.9 does not know the key
    secret: bool = False


class Block:
    """Named fields. `aliases` are other names that Consul itself accepts, in any case."""

    __slots__ = ("_squashed", "aliases", "fields")

    def __init__(self, fields: Mapping[str, Node], aliases: Mapping[str, str] | None = None) -> None:
        self.fields: dict[str, Node] = dict(fields)
        self.aliases: dict[str, str] = dict(aliases or {})
        self._squashed: dict[str, str] | None = None

    def find(self, key: str) -> tuple[str, bool]:
        """The field that `key` means and whether Consul would read it so; `("", False)` when none does."""
        if key in self.fields:
            return key, True
        folded = key.lower()
        if folded in self.fields:
            return folded, True
        if folded in self.aliases:
            return self.aliases[folded], True
        if self._squashed is None:
            self._squashed = {name.replace("_", ""): name for name in self.fields}
        return self._squashed.get(folded.replace("_", ""), ""), False


class ListOf(NamedTuple):
    """A list of blocks."""

    block: Block


class MapOf(NamedTuple):
    """Blocks by free names."""

    block: Block


Node = str | Block | ListOf | MapOf


def path(key: str) -> list[str]:
    """The parts of a dotted key. A dot before a digit belongs to a name (`disable_compat_1.9`)."""
    return re.split(r"\.(?=\D)", key)


def tree(options: Iterable[Option], more: Mapping[str, Node], aliases: Mapping[str, str]) -> Block:
    """The blocks that hold `options`, with `more` beside them at the top."""
    root = Block(more, aliases)
    for option in options:
        block = root
        *outer, name = path(option.key)
        for part in outer:
            inner = block.fields.setdefault(part, Block({}))
            assert isinstance(inner, Block), option.key
            block = inner
        block.fields[name] = option.type
    return root
