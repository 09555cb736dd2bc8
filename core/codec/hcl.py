"""HCL 1 as Consul's configuration files use it: text to maps, lists and plain values.

What the decoder gives back: every object is a *list* of maps, because a block may be repeated; a
repeated list or block appends, a repeated scalar replaces; `a "b" { }` nests its labels. Text whose
first character is `{` is JSON. Facts and error texts: tests/vectors/hcl1.json, recorded from the
decoder in Consul 1.9.8."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

from core.codec.hcl_scan import ESCAPES, NUMERIC_ESCAPES, Scanner, Token

MAX_DEPTH = 100

_LITERALS = frozenset({"BOOL", "NUMBER", "FLOAT", "STRING", "HEREDOC"})


class HclError(ValueError):
    """Text that is not HCL. `str()` is the decoder's text, with line and column where it has them."""


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
    return _decode_map(parse_items(text))


def parse_items(text: str) -> Objects:
    """The items of `text`, which is not JSON, in their order and undecoded. HclError."""
    parser = _Parser(text.replace("\r\n", "\n"))
    try:
        objects = parser.objects(inside=False)
    except HclError:
        if parser.scanner.error:
            raise HclError(parser.scanner.error) from None
        raise
    if parser.scanner.error:
        raise HclError(parser.scanner.error)
    return objects


class _Parser:
    """Recursive descent over the tokens, one token of look-ahead. `token` is the last one read."""

    def __init__(self, text: str) -> None:
        self.scanner = Scanner(text)
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

    def error(self, what: str) -> HclError:
        return HclError(f"At {self.token.line}:{self.token.column}: {what}")

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
        raise self.error(f"key '{words}' expected start of object ('{{') or assignment ('=')")

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
                    raise self.error("nested object expected: LBRACE got: ASSIGN")
                if not keys:
                    raise self.error("no object keys found!")
                return keys
            elif token.kind == "LBRACE":
                if not keys:
                    raise self.error("expected: IDENT | STRING got: LBRACE")
                return keys
            elif token.kind == "RBRACE" and keys:
                return keys
            elif token.kind == "ILLEGAL":
                raise self.error("illegal character")
            else:
                raise self.error(f"expected: IDENT | STRING | ASSIGN | LBRACE got: {token.kind}")

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
        raise self.error(f"Unknown token: {token.line}:{token.column} {token.kind} {token.text}")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} levels deep")

    def block(self) -> Objects:
        self.enter()
        items = self.objects(inside=True)
        if self.scan().kind != "RBRACE":
            raise self.error(f"object expected closing RBRACE got: {self.token.kind}")
        self.depth -= 1
        return items

    def list(self) -> list[Any]:
        self.enter()
        items: list[Any] = []
        comma_due = False
        while True:
            token = self.scan()
            if comma_due and token.kind not in ("COMMA", "RBRACK"):
                raise self.error(f"error parsing list, expected comma or list end, got: {token.kind}")
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
                raise self.error(f"unexpected token while parsing list: {token.kind}")
            comma_due = token.kind in _LITERALS or token.kind == "LBRACE"


def _decode_map(items: list[Item]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        key = text_of(item.keys[0])
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
    return text_of(value)


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


def text_of(token: Token) -> str:
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
    if char in ESCAPES:
        out.append(ESCAPES[char])
        return at + 1
    base, length = NUMERIC_ESCAPES.get(char, (8, 3))
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
