"""The agent's flags, in Go's syntax: one dash or two, `=` or a space, bare booleans, lists by repetition.

Flags come from the rows of `options`; no argument parser is imported, since every start waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from core.config.options import COMMAND_FLAGS, FLAG_ALIASES, OPTIONS
from core.config.schema import LISTS
from core.errors import ConfigError


class FlagError(ConfigError):
    """The command line cannot be used; Consul shows the text and then the usage."""


class Flags(NamedTuple):
    """What the command line says. Values are as in files: durations are text, maps are maps."""

    values: dict[str, Any] = {}
    """Options by key. Lists go before the files' lists, everything else wins over files."""
    config_paths: list[str] = []
    """`-config-file` and `-config-dir` in the order given."""
    config_format: str = ""
    hcl: list[str] = []
    dev: bool = False
    help: bool = False


class _Flag(NamedTuple):
    name: str
    type: str
    key: str  # the option's key, or the flag's name when it belongs to the command


_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def _flags() -> dict[str, _Flag]:
    flags = {option.flag: _Flag(option.flag, option.type, option.key) for option in OPTIONS if option.flag}
    flags.update((name, _Flag(name, kind, "")) for name, kind, _ in COMMAND_FLAGS)
    flags.update((alias, flags[name]) for alias, name in FLAG_ALIASES.items())
    return flags


def parse(arguments: Sequence[str]) -> Flags:
    """The flags of `ctl agent`. FlagError has Go's text (`flag provided but not defined: -x`)."""
    flags = _flags()
    own: dict[str, Any] = {}
    values: dict[str, Any] = {}
    paths: list[str] = []
    for name, text in _split(arguments, flags):
        if name in ("help", "h"):
            return Flags(help=True)
        flag = flags[name]
        value = _convert(flag, name, text)
        if name in ("config-file", "config-dir"):
            paths.append(value)
            continue
        into, key = (values, flag.key) if flag.key else (own, name)
        if flag.type in LISTS:
            into.setdefault(key, []).append(value)
        elif flag.type == "map":
            into.setdefault(key, {}).update(value)
        else:
            into[key] = value
    return Flags(values, paths, own.get("config-format", ""), own.get("hcl", []), own.get("dev", False))


def _split(arguments: Sequence[str], flags: dict[str, _Flag]) -> Iterator[tuple[str, str]]:
    """Names and texts of the flags; a bare boolean has the text `true`."""
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        if word == "--" or not word.startswith("-") or word == "-":
            extra = list(reversed(rest)) if word == "--" else [word, *reversed(rest)]
            if extra:
                raise FlagError(f"Unexpected extra arguments: [{' '.join(extra)}]")
            return
        name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        if name not in flags:
            if name in ("help", "h"):
                yield name, ""
                return
            raise FlagError(f"flag provided but not defined: -{name}{_near(name, flags)}")
        if not equals:
            if flags[name].type == "bool":
                text = "true"
            elif rest:
                text = rest.pop()
            else:
                raise FlagError(f"flag needs an argument: -{name}")
        yield name, text


def _near(name: str, flags: dict[str, _Flag]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.replace("_", "-"), flags, 1, 0.7)
    return f"\ndid you mean -{near[0]}?" if near else ""


def _convert(flag: _Flag, name: str, text: str) -> Any:
    if flag.type == "bool":
        if text not in _TRUTH:
            raise FlagError(f'invalid boolean value "{text}" for -{name}: parse error')
        return _TRUTH[text]
    if flag.type in ("int", "port"):
        digits = text.lstrip("+-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19 and len(text) <= len(digits) + 1):
            raise FlagError(f'invalid value "{text}" for flag -{name}: parse error')
        return int(text)
    if flag.type == "map":
        key, colon, value = text.partition(":")
        if not colon:
            raise FlagError(f'invalid value "{text}" for flag -{name}: missing ":" between key and value')
        return {key: value}
    return text


def help_text(width: int = 80) -> str:
    """Every flag with its type and meaning, sorted, in lines of at most `width`."""
    rows: list[tuple[str, str, str]] = [(name, kind, text) for name, kind, text in COMMAND_FLAGS]
    rows += [(option.flag, option.type, _meaning(option)) for option in OPTIONS if option.flag]
    lines = []
    for name, kind, text in sorted(rows):
        placeholder = "" if kind == "bool" else f"=<{_PLACEHOLDERS.get(kind, kind)}>"
        lines.append(f"  -{name}{placeholder}")
        lines += _wrap(text, width - 6)
    return "\n".join(lines) + "\n"


_PLACEHOLDERS = {"port": "int", "strings": "value", "map": "key:value"}


def _meaning(option: Any) -> str:
    notes = [option.help]
    if option.default and option.type in ("string", "int", "port"):
        notes.append(f"Default: {option.default}.")
    if option.unused:
        notes.append(f"No effect: {option.unused}.")
    return " ".join(notes)


def _wrap(text: str, width: int) -> list[str]:
    from textwrap import wrap

    return [f"      {line}" for line in wrap(text, width)]
