"""Values as text, as Go's package fmt writes them: %v and its kin, print, println and printf."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from core.template.values import (
    INVALID,
    Record,
    encoded,
    go_type,
    sorted_items,
)

MAX_WIDTH = 1_000_000
MAX_DEPTH = 200

_SPEC = re.compile(r"[#0+\- ]*")
_DIGITS = re.compile(r"[0-9]+")
_INDEX = re.compile(r"\[([0-9]*)\]")
_INTEGER_VERBS = frozenset("vdbOoxXcqU")
_FLOAT_VERBS = frozenset("vbgGxXfFeE")
_STRING_VERBS = frozenset("vsxXq")


class Flags:
    """What stands between the percent sign and the verb."""

    __slots__ = ("minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self, signs: str = "") -> None:
        self.minus, self.plus, self.sharp = "-" in signs, "+" in signs, "#" in signs
        self.space = " " in signs
        self.zero = "0" in signs and not self.minus
        self.width: int | None = None
        self.precision: int | None = None

    def pad(self, text: str) -> str:
        """`text` filled up to the width."""
        if self.width is None or len(text) >= self.width:
            return text
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero else " ")

    def pad_number(self, sign: str, digits: str) -> str:
        """A number filled up to the width: zeros come behind the sign."""
        if self.zero and self.width is not None:
            return sign + digits.rjust(self.width - len(sign), "0")
        return self.pad(sign + digits)


_PLAIN = Flags()


def show(value: Any) -> str:
    """A value as an action prints it: `%v`, but `<no value>` for what is not there."""
    if isinstance(value, str):
        return value
    if value is INVALID or value is None:
        return "<no value>"
    text = formatted(value, "v", _PLAIN)
    return text.removeprefix("&") if isinstance(value, Record) else text  # an action follows a pointer


def sprint(values: Iterable[Any]) -> str:
    """fmt.Sprint: a space between two operands when neither is a string."""
    out: list[str] = []
    after_string = True
    for value in values:
        is_string = isinstance(value, str)
        if out and not is_string and not after_string:
            out.append(" ")
        out.append(formatted(value, "v", _PLAIN))
        after_string = is_string
    return "".join(out)


def sprintln(values: Iterable[Any]) -> str:
    """fmt.Sprintln: spaces between all operands, and a newline."""
    return " ".join(formatted(value, "v", _PLAIN) for value in values) + "\n"


# --- one value ------------------------------------------------------------------------------------


def formatted(value: Any, verb: str, flags: Flags, depth: int = 0) -> str:
    """`value` by one verb of printf."""
    if verb == "T":
        return flags.pad(go_type(value))
    if value is None or value is INVALID:
        return flags.pad("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
    if isinstance(value, bool):
        return flags.pad("true" if value else "false") if verb in "vt" else _bad(value, verb)
    if isinstance(value, str):
        return _string(value, verb, flags) if verb in _STRING_VERBS else _bad(value, verb)
    if isinstance(value, int):
        return _integer(value, verb, flags) if verb in _INTEGER_VERBS else _bad(value, verb)
    if isinstance(value, float):
        return _float(value, verb, flags) if verb in _FLOAT_VERBS else _bad(value, verb)
    if isinstance(value, complex):
        second = _float(value.imag, verb, flags)
        return f"({_float(value.real, verb, flags)}{'' if second[0] in '+-' else '+'}{second}i)"
    if depth > MAX_DEPTH:
        return "..."
    return _composite(value, verb, flags, depth + 1)


def _bad(value: Any, verb: str) -> str:
    return f"%!{verb}({go_type(value)}={formatted(value, 'v', _PLAIN)})"


def _composite(value: Any, verb: str, flags: Flags, depth: int) -> str:
    go_syntax = verb == "v" and flags.sharp
    if isinstance(value, dict):
        entries = [
            f"{formatted(key, verb, flags, depth)}:{formatted(item, verb, flags, depth)}"
            for key, item in sorted_items(value)
        ]
        return f"{go_type(value)}{{{', '.join(entries)}}}" if go_syntax else f"map[{' '.join(entries)}]"
    if isinstance(value, Record):
        names = verb == "v" and (flags.plus or flags.sharp)
        shown = [
            (name, formatted(getattr(value, name), verb, flags, depth)) for name in value.__struct_fields__
        ]
        fields = [f"{name}:{text}" if names else text for name, text in shown]
        if go_syntax:
            return f"&{go_type(value).lstrip('*')}{{{', '.join(fields)}}}"
        return f"&{{{' '.join(fields)}}}"
    if isinstance(value, list | range):
        items = [formatted(item, verb, flags, depth) for item in value]
        return f"{go_type(value)}{{{', '.join(items)}}}" if go_syntax else f"[{' '.join(items)}]"
    return f"<{go_type(value)}>"


def _string(text: str, verb: str, flags: Flags) -> str:
    if verb in "xX":
        raw = encoded(text)[: flags.precision]
        separator = " " if flags.space else ""
        prefix = f"0{verb}" if flags.sharp else ""
        if flags.space and flags.sharp:
            shown = " ".join(f"{prefix}{byte:02{verb}}" for byte in raw)
        else:
            shown = (prefix if raw else "") + separator.join(f"{byte:02{verb}}" for byte in raw)
        return flags.pad(shown)
    if flags.precision is not None:
        text = text[: flags.precision]
    if verb == "q" or (verb == "v" and flags.sharp):
        if (
            verb == "q"
            and flags.sharp
            and "`" not in text
            and all(c.isprintable() or c == "\t" for c in text)
        ):
            return flags.pad(f"`{text}`")
        return flags.pad(quoted(text, ascii_only=flags.plus and verb == "q"))
    return flags.pad(text)


_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quoted(text: str, ascii_only: bool = False, mark: str = '"') -> str:
    """A Go literal of a string (strconv.Quote, QuoteToASCII), or of a character by its `mark`."""
    out = [mark]
    for char in text:
        code = ord(char)
        if char == mark:
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")  # a byte that is no UTF-8
        elif char.isprintable() and (char.isascii() or not ascii_only):
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append(mark)
    return "".join(out)


def _integer(value: int, verb: str, flags: Flags) -> str:
    if verb in "cqU":
        char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
        if verb == "c":
            return flags.pad(char)
        if verb == "q":
            return flags.pad(quoted(char, flags.plus, "'"))
        shown = f"U+{value:04X}"
        return flags.pad(f"{shown} '{char}'" if flags.sharp and char.isprintable() else shown)
    size = abs(value)
    digits = format(size, {"b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}.get(verb, "d"))
    sign = "-" if value < 0 else "+" if flags.plus and verb != "v" else " " if flags.space else ""
    if flags.plus and verb == "v":
        sign = "-" if value < 0 else ""
    if flags.precision is not None:
        digits = "" if flags.precision == 0 and value == 0 else digits.rjust(flags.precision, "0")
    if flags.sharp and verb in "boxX":
        digits = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}[verb] + digits
    elif verb == "O":
        digits = "0o" + digits
    if flags.zero and flags.precision is not None:
        padded = sign + digits
        return padded if flags.width is None else padded.rjust(flags.width)
    return flags.pad_number(sign, digits)


def _float(value: float, verb: str, flags: Flags) -> str:
    negative = value < 0 or (value == 0 and str(value)[0] == "-")
    size = abs(value)
    plus = flags.plus and verb != "v"
    if value != value or size == float("inf"):
        name = "NaN" if value != value else "Inf"
        sign = "-" if negative else "+" if plus or name == "Inf" else ""
        return (sign + name).rjust(flags.width or 0) if not flags.minus else flags.pad(sign + name)
    precision = flags.precision
    if verb in "vgG":
        digits = (
            shortest(size)
            if precision is None
            else format(size, f"{'#' if flags.sharp else ''}.{precision}g")
        )
    elif verb in "fFeE":
        digits = format(size, f".{6 if precision is None else precision}{verb.lower()}")
    elif verb == "b":
        numerator, denominator = size.as_integer_ratio()
        digits = f"{numerator}p-{denominator.bit_length() - 1}"
    else:
        digits = re.sub(r"p([+-])([0-9])$", r"p\g<1>0\2", re.sub(r"\.?0*p", "p", size.hex()))
    if verb in "GEX":
        digits = digits.upper()
    sign = "-" if negative else "+" if plus else " " if flags.space else ""
    return flags.pad_number(sign, digits)


def shortest(size: float) -> str:
    """The fewest digits that are still this float; with an exponent below 1e-4 and from 1e6 on
    (so does Go, and JSON numbers are floats: templates say `printf "%.0f"` for large ones)."""
    if size == 0:
        return "0"
    _, digits, exponent = Decimal(repr(size)).normalize().as_tuple()
    assert isinstance(exponent, int)  # the caller keeps infinities away
    text = "".join(map(str, digits))
    point = len(text) + exponent
    if -4 <= point - 1 < 6:
        if point <= 0:
            return f"0.{'0' * -point}{text}"
        return text.ljust(point, "0") if point >= len(text) else f"{text[:point]}.{text[point:]}"
    mantissa = f"{text[0]}.{text[1:]}" if len(text) > 1 else text
    return f"{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02}"


# --- printf ---------------------------------------------------------------------------------------


class _Printf:
    """One call of printf: walks the format, takes arguments in order or by `[n]`."""

    def __init__(self, form: str, values: list[Any]) -> None:
        self._form, self._values = form, values
        self._at = 0
        self._argument = 0
        self._reordered = False
        self._good_index = True

    def run(self) -> str:
        out: list[str] = []
        form = self._form
        while True:
            percent = form.find("%", self._at)
            out.append(form[self._at : percent if percent >= 0 else None])
            if percent < 0:
                break
            self._at = percent + 1
            out.append(self._directive())
        if not self._reordered and self._argument < len(self._values):
            out.append(f"%!(EXTRA {', '.join(map(_extra, self._values[self._argument :]))})")
        return "".join(out)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._form, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _index(self) -> None:
        """`[n]`: the number of the next argument."""
        if self._form[self._at : self._at + 1] != "[":
            return
        self._reordered = True
        found = self._match(_INDEX)
        if found is None:
            self._good_index = False
            self._at += 1
        elif found[1] and 1 <= int(found[1][:9]) <= len(self._values):
            self._argument = int(found[1]) - 1
        else:
            self._good_index = False

    def _number(self) -> tuple[int | None, bool]:
        """A width or precision: (number, whether it was a usable one)."""
        if self._form[self._at : self._at + 1] == "*":
            self._at += 1
            if self._argument < len(self._values):
                value = self._values[self._argument]
                self._argument += 1
                if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WIDTH:
                    return value, True
            return None, False
        digits = self._match(_DIGITS)
        if digits is None:
            return None, True
        number = int(digits[0][:9])
        return (number, True) if number <= MAX_WIDTH else (None, False)

    def _directive(self) -> str:
        signs = self._match(_SPEC)
        flags = Flags(signs[0] if signs else "")
        self._good_index = True
        out = ""
        self._index()
        width, good = self._number()
        out += "" if good else "%!(BADWIDTH)"
        if width is not None and width < 0:
            width, flags.minus, flags.zero = -width, True, False
        flags.width = width
        if self._form[self._at : self._at + 1] == ".":
            self._at += 1
            self._index()
            precision, good = self._number()
            out += "" if good and (precision is None or precision >= 0) else "%!(BADPREC)"
            flags.precision = max(precision or 0, 0) if good else None
        self._index()
        return out + self._verb(flags)

    def _verb(self, flags: Flags) -> str:
        verb = self._form[self._at : self._at + 1]
        if not verb:
            return "%!(NOVERB)"
        self._at += 1
        if verb == "%":
            return "%"
        if not self._good_index:
            return f"%!{verb}(BADINDEX)"
        if self._argument >= len(self._values):
            return f"%!{verb}(MISSING)"
        value = self._values[self._argument]
        self._argument += 1
        return formatted(value, verb, flags)


def _extra(value: Any) -> str:
    if value is None or value is INVALID:
        return "<nil>"
    return f"{go_type(value)}={formatted(value, 'v', _PLAIN)}"


def sprintf(form: str, values: list[Any]) -> str:
    """fmt.Sprintf; what does not fit is written into the text as Go does: `%!d(string=x)`."""
    return _Printf(form, values).run()
