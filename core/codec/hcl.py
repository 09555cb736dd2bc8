"""HCL 1 as Consul's configuration files use it: text to maps, lists and plain values.

What the decoder gives back: every object is a *list* of maps, because a block may be repeated; a
repeated list or block appends, a repeated scalar replaces; `a "b" { }` nests its labels. Text whose
first character is `{` is JSON. Facts and error texts: tests/vectors/hcl1.json, recorded from the
decoder in Consul 1.9.8."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

MAX_DEPTH = 100

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
_LITERALS = frozenset({"BOOL", "NUMBER", "FLOAT", "STRING", "HEREDOC"})
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_NUMERIC_ESCAPES = {"x": (16, 2), "u": (16, 4), "U": (16, 8)}


class HclError(ValueError):
    """Text that is not HCL. `str()` is the decoder's text, with line and column where it has them."""


class Token(NamedTuple):
    kind: str
    text: str
    line: int
    column: int


class Item(NamedTuple):
    """`keys = value` or `keys { }`; the value is a Token, a list (of values) or an Objects."""

    keys: list[Token]
    value: Any


class Objects(list[Item]):
    """The items between two braces, or of the whole text."""


class _EndOfText(Exception):
    """The text ended where a key or a value was due. `keys` were read before."""

    def __init__(self, keys: list[Token]) -> None:
        super().__init__("EOF token found")
        self.keys = keys


def parse(text: str) -> dict[str, Any]:
    """The value of `text`. HclError on anything that the decoder refuses; nothing else is raised."""
    text = text.replace("\r\n", "\n")
    if text.lstrip()[:1] == "{":
        return _parse_json(text)
    parser = _Parser(text)
    try:
        objects = parser.objects(inside=False)
    except HclError:
        if parser.scanner.error:
            raise HclError(parser.scanner.error) from None
        raise
    if parser.scanner.error:
        raise HclError(parser.scanner.error)
    return _decode_map(objects)


class _Scanner:
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
        if char in _ESCAPES:
            self.at += 1
            return
        base, length = (8, 3) if char and char in "01234567" else _NUMERIC_ESCAPES.get(char, (0, 0))
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
        end = re.compile(rf"^[ \t\v\f\r]*{re.escape(word)}\r*\n", re.MULTILINE).search(self.text, anchor.end())
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


class _Parser:
    """Recursive descent over the tokens, one token of look-ahead. `token` is the last one read."""

    def __init__(self, text: str) -> None:
        self.scanner = _Scanner(text)
        self.token = Token("", "", 0, 0)
        self.again = False
        self.depth = 0

    def scan(self) -> Token:
        if self.again:
            self.again = False
        else:
            self.token = self.scanner.next()
        return self.token

    def unscan(self) -> None:
        self.again = True

    def fail(self, what: str, token: Token | None = None) -> NoReturn:
        token = token or self.token
        raise HclError(f"At {token.line}:{token.column}: {what}")

    def objects(self, inside: bool) -> Objects:
        """Items up to the end of the text, or up to the brace that closes them."""
        items = Objects()
        while True:
            if inside:
                closed = self.scan().kind == "RBRACE"
                self.unscan()
                if closed:
                    return items
            try:
                items.append(self.item())
            except _EndOfText:
                return items
            if self.scan().kind != "COMMA":
                self.unscan()

    def item(self) -> Item:
        try:
            keys = self.keys()
        except _EndOfText as end:
            if not end.keys:
                raise
            keys = end.keys
        if self.token.kind == "ASSIGN":
            return Item(keys, self.value())
        if self.token.kind == "LBRACE":
            return Item(keys, self.block())
        words = " ".join(key.text for key in keys)
        self.fail(f"key '{words}' expected start of object ('{{') or assignment ('=')")

    def keys(self) -> list[Token]:
        keys: list[Token] = []
        while True:
            token = self.scan()
            if token.kind in ("IDENT", "STRING"):
                keys.append(token)
            elif token.kind == "EOF":
                raise _EndOfText(keys)
            elif token.kind == "ASSIGN":
                if len(keys) > 1:
                    self.fail("nested object expected: LBRACE got: ASSIGN")
                if not keys:
                    self.fail("no object keys found!")
                return keys
            elif token.kind == "LBRACE":
                if not keys:
                    self.fail("expected: IDENT | STRING got: LBRACE")
                return keys
            elif token.kind == "RBRACE" and keys:
                return keys
            elif token.kind == "ILLEGAL":
                self.fail("illegal character")
            else:
                self.fail(f"expected: IDENT | STRING | ASSIGN | LBRACE got: {token.kind}")

    def value(self) -> Any:
        token = self.scan()
        if token.kind in _LITERALS:
            return token
        if token.kind == "LBRACE":
            return self.block()
        if token.kind == "LBRACK":
            return self.list()
        if token.kind == "EOF":
            raise _EndOfText([])
        self.fail(f"Unknown token: {token.line}:{token.column} {token.kind} {token.text}")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} levels deep")

    def block(self) -> Objects:
        self.enter()
        items = self.objects(inside=True)
        if self.scan().kind != "RBRACE":
            self.fail(f"object expected closing RBRACE got: {self.token.kind}")
        self.depth -= 1
        return items

    def list(self) -> list[Any]:
        self.enter()
        items: list[Any] = []
        comma_due = False
        while True:
            token = self.scan()
            if comma_due and token.kind not in ("COMMA", "RBRACK"):
                self.fail(f"error parsing list, expected comma or list end, got: {token.kind}")
            if token.kind in _LITERALS:
                items.append(token)
            elif token.kind == "LBRACE":
                items.append(self.block())
            elif token.kind == "LBRACK":
                items.append(self.list())
            elif token.kind == "RBRACK":
                self.depth -= 1
                return items
            elif token.kind != "COMMA":
                self.fail(f"unexpected token while parsing list: {token.kind}")
            comma_due = token.kind in _LITERALS or token.kind == "LBRACE"


def _decode_map(items: list[Item]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        key = _text(item.keys[0])
        if len(item.keys) > 1:
            value: Any = [_decode_map([Item(item.keys[1:], item.value)])]
        else:
            value = _decode(item.value)
            if isinstance(item.value, Objects):
                value = [value]
        old = values.get(key)
        if isinstance(old, list):
            if not isinstance(value, list):
                raise HclError(f"{key}: a list and a single value for the same key")
            old.extend(value)
        else:
            values[key] = value
    return values


def _decode(value: Any) -> Any:
    if isinstance(value, Objects):
        return _decode_map(value)
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if value.kind == "BOOL":
        return value.text == "true"
    if value.kind == "NUMBER":
        return _integer(value.text)
    if value.kind == "FLOAT":
        return _float(value.text)
    return _text(value)


def _integer(text: str) -> int:
    digits = text.lstrip("-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" and len(digits) > 1 else 10
    if len(digits) > 30:
        raise HclError(f'strconv.ParseInt: parsing "{text}": value out of range')
    number = int(digits, base) * (-1 if text[0] == "-" else 1)
    if not -(1 << 63) <= number < 1 << 63:
        raise HclError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise HclError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None
    if number in (float("inf"), float("-inf")):
        raise HclError(f'strconv.ParseFloat: parsing "{text}": value out of range')
    return number


def _text(token: Token) -> str:
    """The text that a key, string or heredoc stands for."""
    if token.kind == "HEREDOC":
        return _heredoc_text(token.text)
    if token.kind != "STRING":
        return token.text
    inner = token.text[1:-1]
    if "\\" not in inner:
        return inner
    out = bytearray()
    at = 0
    while at < len(inner):
        if inner.startswith("${", at):
            end = _end_of_braces(inner, at + 2)
            out += inner[at:end].encode("utf-8", "replace")
            at = end
        elif inner[at] == "\\":
            at = _unescape(inner, at + 1, out, token)
        else:
            out += inner[at].encode("utf-8", "replace")
            at += 1
    return out.decode("utf-8", "replace")


def _end_of_braces(text: str, at: int) -> int:
    braces = 1
    while at < len(text) and braces:
        braces += (text[at] == "{") - (text[at] == "}")
        at += 1
    return at


def _unescape(text: str, at: int, out: bytearray, token: Token) -> int:
    """Add to `out` what the escape at `at` stands for; the offset behind it."""
    char = text[at]
    if char in _ESCAPES:
        out.append(_ESCAPES[char])
        return at + 1
    base, length = _NUMERIC_ESCAPES.get(char, (8, 3))
    start = at if base == 8 else at + 1
    code = int(text[start : start + length], base)
    if code > (0xFF if length <= 3 else 0x10FFFF):
        raise HclError(f"At {token.line}:{token.column}: invalid escape in string")
    if length <= 3:
        out.append(code)  # \x and octal are bytes, \u and \U are characters
    else:
        out += (b"\xef\xbf\xbd") if 0xD800 <= code < 0xE000 else chr(code).encode()
    return start + length


def _heredoc_text(text: str) -> str:
    """The lines of a heredoc with their last newline; `<<-` takes off the indent of the closing anchor."""
    head, body = text.split("\n", 1)
    word = head[2:].rstrip("\r").lstrip("-")
    body = body.rstrip("\r\n")
    body = body[: len(body) - len(word)]
    if head[2] != "-":
        return body
    lines = body.split("\n")
    indent = lines.pop()
    if not all(line.startswith(indent) for line in lines):
        return body.rstrip(" \t")
    return "".join(line[len(indent) :] + "\n" for line in lines)


def _parse_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_integer, parse_float=_float)
    except json.JSONDecodeError as error:
        raise HclError(f"At {error.lineno}:{error.colno}: {error.msg}") from None
    except RecursionError:
        raise HclError(f"nested more than {MAX_DEPTH} levels deep") from None
    wrapped = _wrap(value, 0)
    assert isinstance(wrapped, dict)  # the text begins with a brace
    return wrapped


def _no_constant(name: str) -> NoReturn:
    raise HclError(f"invalid number {name}")


def _wrap(value: Any, depth: int) -> Any:
    """JSON as the HCL decoder gives it: objects within objects are lists of one, null is left out."""
    if depth > MAX_DEPTH:
        raise HclError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return [_wrap(item, depth + 1) for item in value if item is not None]
    if isinstance(value, dict):
        return {
            key: [_wrap(item, depth + 1)] if isinstance(item, dict) else _wrap(item, depth + 1)
            for key, item in value.items()
            if item is not None
        }
    return value
