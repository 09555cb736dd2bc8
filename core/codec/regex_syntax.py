"""The syntax of regular expressions, Go's (RE2), read into a tree.

Not there: Unicode classes (`\\p{Greek}`), which are refused."""

from __future__ import annotations

MAX_REPEAT = 1000
MAX_DEPTH = 100

Ranges = tuple[tuple[int, int], ...]


class RegexError(ValueError):
    """A pattern that cannot be used; the text is Go's."""


class Chars:
    """One character: in `ranges`, or not in them if `negated`; letter case may not count."""

    __slots__ = ("fold", "negated", "ranges")

    def __init__(self, ranges: Ranges, negated: bool = False, fold: bool = False) -> None:
        self.ranges, self.negated, self.fold = ranges, negated, fold

    def accepts(self, char: str) -> bool:
        """Whether it is this character."""
        codes = {ord(char)}
        if self.fold:
            codes.update(ord(other) for other in (char.lower(), char.upper()) if len(other) == 1)
        return any(low <= code <= high for code in codes for low, high in self.ranges) != self.negated


class Assert:
    """A condition on the place between two characters: A z ^ $ b B."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def holds(self, before: str, after: str) -> bool:
        """`before` and `after` are the neighbours, `` at the ends of the text."""
        if self.kind == "A":
            return not before
        if self.kind == "z":
            return not after
        if self.kind == "^":
            return before in ("", "\n")
        if self.kind == "$":
            return after in ("", "\n")
        return (_is_word(before) != _is_word(after)) == (self.kind == "b")


class Sequence:
    """One part after the other."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[Node]) -> None:
        self.parts = parts


class Choice:
    """One of the parts, the first ones preferred."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[Node]) -> None:
        self.parts = parts


class Repeat:
    """A part so often, as often as possible, or if `lazy` as seldom."""

    __slots__ = ("lazy", "least", "most", "part")

    def __init__(self, part: Node, least: int, most: int | None, lazy: bool) -> None:
        self.part, self.least, self.most, self.lazy = part, least, most, lazy


class Group:
    """Parentheses whose content can be asked for; counted from 1 by the opening one."""

    __slots__ = ("number", "part")

    def __init__(self, part: Node, number: int) -> None:
        self.part, self.number = part, number


Node = Chars | Assert | Sequence | Choice | Repeat | Group


def _is_word(char: str) -> bool:
    return char != "" and char.isascii() and (char.isalnum() or char == "_")


_DIGIT: Ranges = ((48, 57),)
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_PERL = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _DIGIT,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


def _complement(ranges: Ranges) -> Ranges:
    out, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            out.append((start, low - 1))
        start = max(start, high + 1)
    return (*out, (start, 0x10FFFF)) if start <= 0x10FFFF else tuple(out)


class Parser:
    """Reads one pattern; `groups` counts the groups that it has met, `names` are those with a name."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._flags: frozenset[str] = frozenset()
        self.groups = 0
        self.names: dict[str, int] = {}

    def parse(self) -> Node:
        """The whole pattern. RegexError."""
        node = self._choice()
        if self._at < len(self._text):
            raise self._wrong("unexpected )", self._text)
        return node

    def _wrong(self, what: str, where: str) -> RegexError:
        return RegexError(f"error parsing regexp: {what}: `{where}`")

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _choice(self) -> Node:
        flags = self._flags
        parts: list[Node] = [self._sequence()]
        while self._peek("|"):
            self._at += 1
            parts.append(self._sequence())
        self._flags = flags
        return parts[0] if len(parts) == 1 else Choice(parts)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            atom = self._atom()
            if atom is not None:
                parts.append(self._repeated(atom))
        return parts[0] if len(parts) == 1 else Sequence(parts)

    def _atom(self) -> Node | None:
        """The next piece, None for `(?flags)`."""
        char = self._text[self._at]
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char in "*+?":
            raise self._wrong("missing argument to repetition operator", char)
        self._at += 1
        if char == ".":
            return Chars(((10, 10),), True) if "s" not in self._flags else Chars(((0, 0x10FFFF),))
        if char == "^":
            return Assert("^" if "m" in self._flags else "A")
        if char == "$":
            return Assert("$" if "m" in self._flags else "z")
        return self._literal(ord(char))

    def _literal(self, code: int) -> Chars:
        return Chars(((code, code),), fold="i" in self._flags)

    def _repeated(self, atom: Node) -> Node:
        start = self._at
        node = atom
        while self._at < len(self._text):
            before = self._at
            bounds = self._quantifier()
            if bounds is None:
                return node
            if node is not atom:
                raise self._wrong("invalid nested repetition operator", self._text[start : self._at])
            lazy = self._peek("?")
            self._at += lazy
            start = before
            node = Repeat(atom, *bounds, lazy != ("U" in self._flags))
        return node

    def _quantifier(self) -> tuple[int, int | None] | None:
        char = self._text[self._at]
        if char in "*+?":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if char != "{":
            return None
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _is_count(least) or (most and not _is_count(most)):
            return None  # a brace that is none of ours is itself
        counts = int(least), (int(most) if most else None) if comma else int(least)
        if counts[0] > MAX_REPEAT or (counts[1] is not None and not counts[0] <= counts[1] <= MAX_REPEAT):
            raise self._wrong("invalid repeat count", self._text[self._at : end + 1])
        self._at = end + 1
        return counts

    def _group(self) -> Node | None:
        start, outer = self._at, self._flags
        number = self.groups + 1
        self._at += 1
        if self._peek("?P<") or (self._peek("?<") and not self._peek("?<=") and not self._peek("?<!")):
            end = self._text.find(">", self._at)
            name = self._text[self._text.find("<", self._at) + 1 : end] if end > 0 else ""
            if not name.isascii() or not name.replace("_", "a").isalnum():
                raise self._wrong("invalid named capture", self._text[start : end + 1 if end > 0 else None])
            self.names[name] = number
            self._at = end + 1
        elif self._peek("?"):
            number = 0
            if self._group_flags(start):
                return None
        self.groups += number > 0
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong("expression nests too deeply", self._text[start:])
        node = self._choice()
        if not self._peek(")"):
            raise self._wrong("missing closing )", self._text)
        self._at += 1
        self._depth -= 1
        self._flags = outer
        return Group(node, number) if number else node

    def _group_flags(self, start: int) -> bool:
        """Read `?flags:` or `?flags)`. True for the second, which is no group."""
        self._at += 1
        on = True
        flags = set(self._flags)
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char in ":)":
                self._flags = frozenset(flags)
                return char == ")"
            if char == "-" and on:
                on = False
            elif char in "imsU":
                (flags.add if on else flags.discard)(char)
            else:
                break
        raise self._wrong("invalid or unsupported Perl syntax", self._text[start : self._at])

    def _escape(self) -> Node:
        if self._peek("\\Q"):
            end = self._text.find("\\E", self._at)
            quoted = self._text[self._at + 2 : end if end >= 0 else None]
            self._at = end + 2 if end >= 0 else len(self._text)
            return Sequence([self._literal(ord(char)) for char in quoted])
        char = self._text[self._at + 1 : self._at + 2]
        if char in ("A", "z", "b", "B") and char:
            self._at += 2
            return Assert(char)
        ranges = self._perl_class()
        return Chars(ranges) if ranges is not None else self._literal(self._code())

    def _perl_class(self) -> Ranges | None:
        char = self._text[self._at + 1 : self._at + 2]
        ranges = _PERL.get(char.lower())
        if ranges is None:
            return None
        self._at += 2
        return ranges if char.islower() else _complement(ranges)

    def _code(self) -> int:
        """The character that an escape stands for."""
        start = self._at
        self._at += 2
        char = self._text[start + 1 : start + 2]
        if not char:
            raise self._wrong("trailing backslash at end of expression", "")
        if char in _CONTROLS:
            return _CONTROLS[char]
        digits = ""
        if char == "x":
            if self._peek("{"):
                end = self._text.find("}", self._at)
                digits = self._text[self._at + 1 : end] if end > 0 else ""
                self._at = end + 1 if end > 0 else self._at
            else:
                digits = self._text[self._at : self._at + 2]
                self._at += 2
                digits = digits if len(digits) == 2 else ""
            if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits) and len(digits) <= 6:
                code = int(digits, 16)
                if code <= 0x10FFFF:
                    return code
        elif char in "01234567" and (char == "0" or self._text[self._at : self._at + 1] in tuple("01234567")):
            while len(digits) < 2 and self._text[self._at : self._at + 1] in tuple("01234567"):
                digits += self._text[self._at]
                self._at += 1
            return int(char + digits, 8)
        elif char.isascii() and not char.isalnum():
            return ord(char)
        raise self._wrong("invalid escape sequence", self._text[start : self._at])

    def _class(self) -> Node:
        start = self._at
        self._at += 1
        negated = self._peek("^")
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._peek("]"):
            if self._at >= len(self._text):
                raise self._wrong("missing closing ]", self._text[start:])
            ranges.extend(self._class_item(start))
            first = False
        self._at += 1
        return Chars(tuple(ranges), negated, fold="i" in self._flags)

    def _class_item(self, start: int) -> Ranges:
        if self._peek("[:"):
            end = self._text.find(":]", self._at)
            if end > 0:
                name = self._text[self._at + 2 : end]
                ranges = _POSIX.get(name.removeprefix("^"))
                if ranges is None:
                    raise self._wrong("invalid character class range", self._text[self._at : end + 2])
                self._at = end + 2
                return _complement(ranges) if name.startswith("^") else ranges
        if self._peek("\\"):
            perl = self._perl_class()
            if perl is not None:
                return perl
        began = self._at
        low = high = self._class_char(start)
        if self._peek("-") and not self._peek("-]") and self._at + 1 < len(self._text):
            self._at += 1
            high = self._class_char(start)
            if high < low:
                raise self._wrong("invalid character class range", self._text[began : self._at])
        return ((low, high),)

    def _class_char(self, start: int) -> int:
        if self._at >= len(self._text):
            raise self._wrong("missing closing ]", self._text[start:])
        if self._peek("\\"):
            return self._code()
        self._at += 1
        return ord(self._text[self._at - 1])


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
