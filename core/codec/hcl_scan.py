"""The tokens of HCL 1. See core/codec/hcl.py, which is the door."""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANKS = re.compile(r"[ \t\r\n]+")
_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]*|[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]*)?)")
_SIMPLE_STRING = re.compile(r'"[^"\\$\n\x00]*"')
_ANCHOR = re.compile(r"<<(-?[^\W_]+)\r?\n")
_SIGNS = {
    "[": "LBRACK",
    "]": "RBRACK",
    "{": "LBRACE",
    "}": "RBRACE",
    ",": "COMMA",
    "=": "ASSIGN",
    "+": "ADD",
    "-": "SUB",
    ".": "PERIOD",
}
ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
NUMERIC_ESCAPES = {"x": (16, 2), "u": (16, 4), "U": (16, 8)}


class Token(NamedTuple):
    """A piece of the text, its kind (Go's name for it) and where it begins."""

    kind: str
    text: str
    line: int
    column: int


class Scanner:
    """Cuts the text into tokens. Like its model it goes on after a broken token; the last error counts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.line_start = 0
        self.counted = 0
        self.past_end = 0
        self.error = ""

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of `offset`, which is not before the last one asked for."""
        newlines = self.text.count("\n", self.counted, offset)
        self.counted = offset
        if newlines:
            self.line += newlines
            self.line_start = self.text.rindex("\n", 0, offset) + 1
        return self.line, offset - self.line_start + 1

    def fail(self, offset: int, what: str) -> None:
        """Note that something is wrong at `offset`."""
        line, column = self.place(offset)
        self.error = f"At {line}:{column}: {what}"

    def next(self) -> Token:
        """The next token that is not a comment."""
        while True:
            blank = _BLANKS.match(self.text, self.at)
            if blank:
                self.at = blank.end()
            if self.at >= len(self.text):
                line, column = self.place(len(self.text))
                self.past_end += 1
                return Token("EOF", "", line, column + self.past_end - 1)
            char = self.text[self.at]
            if char not in "#/":
                return self._token(char)
            self._comment()

    def _token(self, char: str) -> Token:
        start = self.at
        line, column = self.place(start)
        if char == '"':
            kind = "STRING"
            self._string()
        elif _is_letter(char):
            self.at += 1
            while self.at < len(self.text) and _is_word(self.text[self.at]):
                self.at += 1
            kind = "BOOL" if self.text[start : self.at] in ("true", "false") else "IDENT"
        elif (number := _NUMBER.match(self.text, start)) is not None:
            kind = self._number(number)
        elif char == "<":
            kind = "HEREDOC"
            self._heredoc()
        else:
            self.at += 1
            kind = _SIGNS.get(char, "ILLEGAL")
            if kind == "PERIOD" and (digits := _DIGITS.match(self.text, self.at)) is not None:
                kind = "FLOAT"
                self.at = digits.end()
            elif kind == "ILLEGAL":
                self.fail(start, "unexpected null character (0x00)" if char == "\0" else "illegal char")
        return Token(kind, self.text[start : self.at], line, column)

    def _comment(self) -> None:
        start = self.at
        if self.text.startswith("/*", start):
            end = self.text.find("*/", start + 2)
            if end < 0:
                self.at = len(self.text)
                self.fail(self.at, "comment not terminated")
            else:
                self.at = end + 2
            return
        if self.text[start] == "/" and not self.text.startswith("//", start):
            self.at += 1
            self.fail(start, "expected '/' for comment")
            return
        end = self.text.find("\n", start)
        self.at = len(self.text) if end < 0 else end

    def _number(self, number: re.Match[str]) -> str:
        self.at = number.end()
        digits = number.group().lstrip("-")
        if number.group(1) is not None or number.group(2) is not None:
            return "FLOAT"
        if digits[:2] in ("0x", "0X") and len(digits) == 2:
            self.fail(self.at, "illegal hexadecimal number")
        elif digits[0] == "0" and digits.isdigit() and ("8" in digits or "9" in digits):
            self.fail(self.at, "illegal octal number")
        return "NUMBER"

    def _string(self) -> None:
        """Past a string. Quotes within `${ }` belong to it."""
        simple = _SIMPLE_STRING.match(self.text, self.at)
        if simple:
            self.at = simple.end()
            return
        self.at += 1
        braces = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == "\0" or (char == "\n" and not braces):
                self.fail(self.at - 1, "literal not terminated")
                return
            if char == '"' and not braces:
                return
            if char == "\\":
                self._escape()
            elif not braces and char == "$" and self.text.startswith("{", self.at):
                braces = 1
                self.at += 1
            elif braces:
                braces += (char == "{") - (char == "}")
        self.fail(self.at, "literal not terminated")

    def _escape(self) -> None:
        """Past what follows a backslash."""
        char = self.text[self.at : self.at + 1]
        if char in ESCAPES:
            self.at += 1
            return
        base, length = (8, 3) if char and char in "01234567" else NUMERIC_ESCAPES.get(char, (0, 0))
        start = self.at if base == 8 else self.at + 1
        digits = self.text[start : start + length]
        if not base or not _are_digits(digits, base, length):
            self.fail(min(self.at, len(self.text)), "illegal char escape")
            self.at += char not in ("", "\n")
            return
        self.at = start + length

    def _heredoc(self) -> None:
        """Past a heredoc: the anchor, the lines, and the line that holds the anchor alone."""
        anchor = _ANCHOR.match(self.text, self.at)
        if anchor is None:
            self._bad_anchor()
            return
        word = anchor.group(1).lstrip("-")
        closing = re.compile(rf"^[ \t\v\f\r]*{re.escape(word)}\r*\n", re.MULTILINE)
        end = closing.search(self.text, anchor.end())
        if end is None:
            self.at = len(self.text)
            self.fail(self.at, "heredoc not terminated")
            return
        self.at = end.end()

    def _bad_anchor(self) -> None:
        line_end = self.text.find("\n", self.at)
        rest = self.text[self.at : len(self.text) if line_end < 0 else line_end]
        if not rest.startswith("<<"):
            what = "heredoc expected second '<', didn't see it"
        elif line_end < 0:
            what = "heredoc not terminated"
        elif rest.strip("\r") in ("<<", "<<-"):
            what = "zero-length heredoc anchor"
        else:
            what = "invalid characters in heredoc anchor"
        self.at += len(rest)
        self.fail(self.at, what)


def _is_letter(char: str) -> bool:
    return char == "_" or char.isalpha()


def _is_word(char: str) -> bool:
    return char in "_-." or char.isalpha() or char.isdecimal()


def _are_digits(digits: str, base: int, length: int) -> bool:
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    return len(digits) == length and all(digit in allowed for digit in digits)
