"""Templates as items (reference/template.md 1.1): text, delimiters, and the words between them.

The first thing that cannot be read ends the list with an item of kind ERROR: the parser reports it when
it comes there, so that an earlier error of the grammar is told first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from core.codec.duration import quote

ASSIGN, BOOL, CHAR, CHAR_CONSTANT, COMPLEX, DECLARE = "assign", "bool", "char", "'", "complex", "declare"
DOT, EOF, ERROR, FIELD, IDENTIFIER, LEFT, LEFT_PAREN = "dot", "EOF", "error", "field", "identifier", "{{", "("
NIL, NUMBER, PIPE, RAW_STRING, RIGHT, RIGHT_PAREN = "nil", "number", "|", "raw", "}}", ")"
SPACE, STRING, TEXT, VARIABLE = "space", "string", "text", "variable"
KEYWORDS = frozenset(
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"]
)

_SPACES = " \t\r\n"
_TERMINATORS = frozenset(" \t\r\n.,|:()")
_SPACE_RUN = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {
    '"': (re.compile(r'"(?:[^"\\\n]|\\[^\n])*"', re.DOTALL), STRING, "unterminated quoted string"),
    "'": (re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"), CHAR_CONSTANT, "unterminated character constant"),
    "`": (re.compile(r"`[^`]*`"), RAW_STRING, "unterminated raw quoted string"),
}
_SIGNS = {"=": ASSIGN, "|": PIPE, "(": LEFT_PAREN, ")": RIGHT_PAREN}


class Item(NamedTuple):
    """One piece: `kind` is one of the constants above or a keyword."""

    kind: str
    pos: int
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind == EOF:
            return "EOF"
        if self.kind == ERROR:
            return self.text
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        return f"{quote(self.text[:10])}..." if len(self.text) > 10 else quote(self.text)


class _Lexer:
    def __init__(self, text: str, left: str, right: str) -> None:
        self._text, self._left, self._right = text, left, right
        self._at = 0
        self._parens = 0
        self._line = 1
        self._counted = 0
        self._trims = False  # the last closing delimiter swallows the spaces behind it

    def _item(self, kind: str, start: int, end: int) -> Item:
        self._line += self._text.count("\n", self._counted, start)
        self._counted = start
        self._at = end
        return Item(kind, start, self._text[start:end], self._line)

    def _error(self, start: int, what: str) -> Item:
        return self._item(ERROR, start, start)._replace(text=what)

    def items(self) -> Iterator[Item]:
        """All items, ended by EOF or ERROR."""
        while True:
            start = self._at
            if self._trims:
                spaces = _SPACE_RUN.match(self._text, start)
                start = spaces.end() if spaces else start
            found = self._text.find(self._left, start)
            end = found if found >= 0 else len(self._text)
            after = found + len(self._left)
            trim_before = self._text[after : after + 1] == "-" and self._is_space(after + 1)
            stop = start + len(self._text[start:end].rstrip(_SPACES)) if found >= 0 and trim_before else end
            if stop > start:
                yield self._item(TEXT, start, stop)
            if found < 0:
                yield self._item(EOF, len(self._text), len(self._text))
                return
            inside = after + 2 if trim_before else after
            if self._text.startswith("/*", inside):
                wrong = self._comment(inside)
                if wrong is not None:
                    yield wrong
                    return
            else:
                yield self._item(LEFT, found, after)
                self._at = inside
                self._parens = 0
                for item in self._action():
                    yield item
                    if item.kind == ERROR:
                        return

    def _comment(self, start: int) -> Item | None:
        end = self._text.find("*/", start)
        if end < 0:
            return self._error(start, "unclosed comment")
        self._at = end + 2
        length = self._right_delimiter()
        if not length:
            return self._error(start, "comment ends before closing delimiter")
        self._trims = length > len(self._right)
        self._at += length
        return None

    def _is_space(self, at: int) -> bool:
        return at < len(self._text) and self._text[at] in _SPACES

    def _right_delimiter(self) -> int:
        """The length of a closing delimiter here, trim marker included; 0 if there is none."""
        at = self._at
        if self._text.startswith(self._right, at):
            return len(self._right)
        if self._is_space(at) and self._text.startswith("-" + self._right, at + 1):
            return 2 + len(self._right)
        return 0

    def _action(self) -> Iterator[Item]:
        while True:
            length = self._right_delimiter()
            if length:
                if self._parens:
                    yield self._error(self._at, "unclosed left paren")
                    return
                self._trims = length > len(self._right)
                yield self._item(RIGHT, self._at, self._at + length)
                return
            yield self._word()

    def _word(self) -> Item:
        at = self._at
        char = self._text[at : at + 1]
        if not char:
            return self._error(at, "unclosed action")
        if char in _SPACES:
            return self._spaces()
        if char in _QUOTED:
            pattern, kind, wrong = _QUOTED[char]
            found = pattern.match(self._text, at)
            return self._item(kind, at, found.end()) if found else self._error(at, wrong)
        if char == ":":
            if self._text.startswith(":=", at):
                return self._item(DECLARE, at, at + 2)
            return self._error(at, "expected :=")
        if char in _SIGNS:
            return self._sign(char)
        following = self._text[at + 1 : at + 2]
        if char == "$" or (char == "." and not ("0" <= following <= "9" and following)):
            return self._field(VARIABLE if char == "$" else FIELD)
        if char in "+-." or "0" <= char <= "9":
            return self._number()
        if char == "_" or char.isalnum():
            return self._identifier()
        if char.isascii() and char.isprintable():
            return self._item(CHAR, at, at + 1)
        return self._error(at, f"unrecognized character in action: {_unicode(char)}")

    def _spaces(self) -> Item:
        found = _SPACE_RUN.match(self._text, self._at)
        assert found is not None  # the caller saw a space
        end = found.end()
        if self._text.startswith("-" + self._right, end):
            end -= 1  # the last space belongs to the trim marker
        return self._item(SPACE, self._at, end)

    def _sign(self, char: str) -> Item:
        self._parens += (char == "(") - (char == ")")
        if self._parens < 0:
            return self._error(self._at, "unexpected right paren")
        return self._item(_SIGNS[char], self._at, self._at + 1)

    def _ends(self, at: int) -> bool:
        return (
            at >= len(self._text) or self._text[at] in _TERMINATORS or self._text.startswith(self._right, at)
        )

    def _word_end(self, at: int) -> int:
        found = _WORD.match(self._text, at)
        assert found is not None  # the pattern matches nothing, too
        return found.end()

    def _field(self, kind: str) -> Item:
        start = self._at
        end = self._word_end(start + 1)
        if not self._ends(end):
            return self._error(start, f"bad character {_unicode(self._text[end])}")
        return self._item(DOT if kind == FIELD and end == start + 1 else kind, start, end)

    def _identifier(self) -> Item:
        start = self._at
        end = self._word_end(start)
        if not self._ends(end):
            return self._error(start, f"bad character {_unicode(self._text[end])}")
        word = self._text[start:end]
        if word in KEYWORDS:
            return self._item(word, start, end)
        kind = {"true": BOOL, "false": BOOL, "nil": NIL}.get(word, IDENTIFIER)
        return self._item(kind, start, end)

    def _number(self) -> Item:
        start = self._at
        end, good = self._one_number(start)
        kind = NUMBER
        if good and self._text[end : end + 1] in ("+", "-"):
            end, good = self._one_number(end)
            good = good and self._text[end - 1] == "i"
            kind = COMPLEX
        if not good:
            return self._error(start, f"bad number syntax: {quote(self._text[start:end])}")
        return self._item(kind, start, end)

    def _one_number(self, at: int) -> tuple[int, bool]:
        """Where the number that starts at `at` ends, and whether nothing else is glued to it."""
        found = _NUMBER.match(self._text, at)
        assert found is not None  # the pattern matches nothing, too
        end = found.end()
        following = self._text[end : end + 1]
        if following == "_" or following.isalnum():
            return end + 1, False
        return end, True


def _unicode(char: str) -> str:
    """`U+0040 '@'`, as Go shows a character that it cannot use."""
    shown = f"U+{ord(char):04X}"
    return f"{shown} '{char}'" if char.isprintable() else shown


def lex(text: str, left: str = "{{", right: str = "}}") -> list[Item]:
    """The items of `text`; the last is EOF or ERROR."""
    return list(_Lexer(text, left, right).items())
