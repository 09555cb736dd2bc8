"""Command lines in the style of Go's flag package, which scripts written for Consul rely on.

`-x v`, `-x=v`, `--x v` and `--x=v` are the same; a bool takes `-x` or `-x=false`, never the next word;
`--` ends the flags. Unlike Go's, flags may also follow positional arguments, except where those
are a child command (`Command.stops`) or data (`Command.literal`). reference/cli.md sections 1 and 4.1."""

from __future__ import annotations

from cli.command import CLIENT, GENERAL, OUTPUT, SERVER, Command, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    Value = str | bool | int | list[str] | dict[str, str]

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class HelpWanted(Exception):
    """`-h`, `-help` or `--help` stood among the flags."""


class Parsed:
    """Flags that were given, and positional arguments."""

    __slots__ = ("arguments", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.arguments: list[str] = []


def parse(command: Command, words: list[str], parsed: Parsed | None = None) -> Parsed:
    """Read `words` as flags and arguments of `command`, adding to `parsed` when given."""
    flags = {flag.name: flag for flag in command.all_flags()}
    for flag in command.all_flags():
        if flag.short:
            flags[flag.short] = flag
    parsed = parsed or Parsed()
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        found = len(parsed.arguments)
        if len(word) < 2 or word[0] != "-" or found == command.literal:
            parsed.arguments.append(word)
            if command.stops:
                parsed.arguments += words[position:]
                break
            continue
        if word == "--":
            parsed.arguments += words[position:]
            break
        name, has_value, text = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] == "-":
            raise Usage(f"bad flag syntax: {word}", show=True)
        flag_found = flags.get(name)
        if flag_found is None:
            if name in ("h", "help"):
                raise HelpWanted
            raise Usage(f"flag provided but not defined: -{name}", show=True)
        if flag_found.kind == "bool":
            text = text if has_value else "true"
        elif not has_value:
            if position >= len(words):
                raise Usage(f"flag needs an argument: -{name}", show=True)
            text = words[position]
            position += 1
        store(parsed.values, flag_found, text)
    return parsed


def store(values: dict[str, Value], flag: Flag, text: str) -> None:
    """Check `text` against the flag's kind and keep it. Usage carries Go's text."""
    name, kind = flag.name, flag.kind
    if kind == "bool":
        if text not in _TRUE and text not in _FALSE:
            raise Usage(f'invalid boolean value "{text}" for -{name}: parse error', show=True)
        values[name] = text in _TRUE
    elif kind in ("int", "uint"):
        values[name] = _integer(name, text, signed=kind == "int")
    elif kind == "duration":
        values[name] = _duration(name, text)
    elif kind == "list":
        kept = values.setdefault(name, [])
        assert isinstance(kept, list)
        kept.append(text)
    elif kind == "map":
        key, equals, value = text.partition("=")
        if not equals:
            raise Usage(
                f'invalid value "{text}" for flag -{name}: Missing "=" value in argument: {text}', show=True
            )
        pairs = values.setdefault(name, {})
        assert isinstance(pairs, dict)
        pairs[key] = value
    else:
        if flag.choices and text not in flag.choices:
            wanted = ", ".join(flag.choices)
            raise Usage(f'invalid value "{text}" for flag -{name}: must be one of {wanted}', show=True)
        values[name] = text


def _integer(name: str, text: str, *, signed: bool) -> int:
    """A number in any of Go's notations: `31`, `0x1f`, `0b11111`, `0o37`, `037`, `3_1`."""
    digits = text[1:] if signed and text[:1] in ("-", "+") else text
    low, high = (-(1 << 63), (1 << 63) - 1) if signed else (0, (1 << 64) - 1)
    old_octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "_01234567"
    try:
        if not digits.isascii() or not digits[:1].isdigit() or digits[-1:].isspace():
            raise ValueError(text)
        number = int("0o" + digits[1:] if old_octal else digits, 0)
    except ValueError:
        raise Usage(f'invalid value "{text}" for flag -{name}: parse error', show=True) from None
    number = -number if text[0] == "-" else number
    if low <= number <= high:
        return number
    raise Usage(f'invalid value "{text}" for flag -{name}: value out of range', show=True)


def _duration(name: str, text: str) -> int:
    from core.codec import duration

    try:
        return duration.parse(text)
    except ValueError:
        raise Usage(f'invalid value "{text}" for flag -{name}: parse error', show=True) from None


def leading_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Split `words` into common flags that stand before the command, and the rest."""
    takes_value = {flag.name: flag.kind != "bool" for flag in CLIENT + SERVER + OUTPUT + GENERAL}
    takes_value["o"] = True
    position = 0
    while position < len(words) and words[position].startswith("-") and len(words[position]) > 1:
        name, equals, _ = words[position].lstrip("-").partition("=")
        if name not in takes_value:
            break
        position += 2 if takes_value[name] and not equals else 1
    return words[:position], words[position:]


def check_arguments(command: Command, given: list[str]) -> None:
    """Refuse missing and surplus arguments with Consul's texts."""
    wanted = command.arguments
    required = [argument for argument in wanted if argument.required]
    if len(given) < len(required):
        first = required[len(given)]
        raise Usage(first.missing or f"Error: missing argument {first.name}", show=first.show_usage)
    if command.extra or any(argument.many for argument in wanted):
        return
    if len(given) > len(wanted):
        text = command.surplus or "Too many arguments (expected {wanted}, got {given})"
        raise Usage(text.format(wanted=len(wanted), given=len(given)))
