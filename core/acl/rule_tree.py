"""The text of rules as a tree: HCL, or JSON as Consul's decoder of HCL reads it.

That decoder keeps every one of several equal keys, and forgives much that is no JSON: a comma before a
closing brace, what follows the outermost brace, a text that ends too early. Policies that were written so
are in use, so they are read in the same way here."""

from __future__ import annotations

import re
from typing import Any

from core.codec.hcl import MAX_DEPTH, HclError, Item, Objects, parse_items
from core.codec.hcl_scan import Token

_SIGNS = {"{": "LBRACE", "}": "RBRACE", "[": "LBRACK", "]": "RBRACK", ",": "COMMA", ":": "COLON"}
_LITERALS = frozenset({"BOOL", "NUMBER", "FLOAT", "TEXT"})
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]*)?|\.[0-9]+([eE][+-]?[0-9]*)?")
_WORD = re.compile(r"[^\W\d][\w-]*")
_ESCAPE = re.compile(r'\\(?:([abfnrtv\\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))')
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


def tree(text: str) -> Objects:
    """The items of `text`, in their order. HclError."""
    if text.lstrip()[:1] != "{":
        return parse_items(text)
    return _flat(_Json(text).whole())


class _Unclosed(Exception):
    """The text ended where a key or a value was due."""


class _Json:
    """Recursive descent over tokens; `token` is the last one read. Strings are tokens of the kind TEXT, which
    have their value as text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.token = Token("", "", 0, 0)
        self.depth = 0

    def whole(self) -> Objects:
        """The items of the object that the text begins with."""
        self.scan()
        return self.object()

    def error(self, what: str, at: int | None = None) -> HclError:
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at)
        return HclError(f"At {line + 1}:{at - self.text.rfind(chr(10), 0, at)}: {what}")

    def scan(self) -> str:
        """Read a token; its kind."""
        text = self.text
        while self.at < len(text) and text[self.at] in " \t\n\r":
            self.at += 1
        start = self.at
        self.token = Token("ILLEGAL", "", 0, 0)
        char = text[start : start + 1]
        if char in ("", "\0"):
            self.at += len(char)
            self.token = Token("EOF", "", 0, 0)
        elif char in _SIGNS:
            self.at += 1
            self.token = Token(_SIGNS[char], char, 0, 0)
        elif char == '"':
            self.token = Token("TEXT", self._string(), 0, 0)
        elif found := _NUMBER.match(text, start):
            self.token = self._number(found[0])
        elif char == ".":
            self.at += 1
            self.token = Token("PERIOD", char, 0, 0)
        else:
            self.token = self._word()
        return self.token.kind

    def _number(self, text: str) -> Token:
        self.at += len(text)
        if not text.lstrip("-").isdecimal():
            return Token("FLOAT", text, 0, 0)
        if len(text.lstrip("-")) > 1 and text.lstrip("-")[0] == "0":
            raise self.error("numbers cannot start with 0")
        return Token("NUMBER", text, 0, 0)

    def _word(self) -> Token:
        found = _WORD.match(self.text, self.at)
        if found is None or found[0] not in ("true", "false", "null"):
            raise self.error(f"illegal char: {self.text[self.at]}")
        self.at = found.end()
        return Token("NULL", "", 0, 0) if found[0] == "null" else Token("BOOL", found[0], 0, 0)

    def _string(self) -> str:
        """The value of the string that begins here. Quotes within ${ } do not end it."""
        text, start, braces = self.text, self.at, 0
        pieces: list[str] = []
        self.at += 1
        while True:
            char = text[self.at : self.at + 1]
            if char in ("", "\0", "\n"):
                raise self.error("literal not terminated", start)
            if char == '"':
                break
            if char == "\\":
                pieces.append(self._escape())
                continue
            if char == "$" and not braces and text.startswith("{", self.at + 1):
                char, braces = "${", 1
            elif braces:
                braces += (char == "{") - (char == "}")
            pieces.append(char)
            self.at += len(char)
        self.at += 1
        return "".join(pieces)

    def _escape(self) -> str:
        found = _ESCAPE.match(self.text, self.at)
        if found is None:
            raise self.error("illegal char escape")
        self.at = found.end()
        if found[1]:
            return _ESCAPED[found[1]]
        code = int(found[2], 8) if found[2] else int(found[3] or found[4] or found[5], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self.error("illegal char escape")
        return chr(code)

    def object(self) -> Objects:
        """The items behind a brace. What is wrong directly before a closing brace is passed over."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} levels deep")
        items = Objects()
        try:
            items.append(self._item())
            while self.scan() == "COMMA":
                items.append(self._item())
        except _Unclosed:
            pass
        except HclError:
            if self.token.kind != "RBRACE":
                raise
        self.depth -= 1
        return items

    def _item(self) -> Item:
        keys: list[Token] = []
        while self.scan() == "TEXT":
            keys.append(self.token)
        if self.token.kind == "EOF":
            raise _Unclosed
        if self.token.kind != "COLON" or not keys:
            raise self.error(f"expected: STRING got: {self.token.kind}")
        return Item(keys, self._value(self.scan()))

    def _value(self, kind: str) -> Any:
        if kind == "LBRACE":
            return self.object()
        if kind == "LBRACK":
            return self._list()
        if kind in _LITERALS:
            return self.token
        if kind == "NULL":
            return Token("TEXT", "", 0, 0)
        if kind == "EOF":
            raise _Unclosed
        raise self.error(f"Expected object value, got unknown token: {self.token.text}")

    def _list(self) -> list[Any]:
        """The values behind a bracket; truth values and further brackets are passed over."""
        items: list[Any] = []
        while (kind := self.scan()) != "RBRACK":
            if kind == "LBRACE":
                items.append(self.object())
            elif kind in ("NUMBER", "FLOAT", "TEXT"):
                items.append(self.token)
            elif kind not in ("COMMA", "BOOL", "LBRACK"):
                raise self.error(f"unexpected token while parsing list: {kind}")
        return items


def _flat(items: list[Item]) -> Objects:
    """Objects that hold nothing but objects as the items of HCL blocks: {"a": {"b": {}}} is `a "b" {}`."""
    found = Objects()
    for item in _unfolded(items):
        value = item.value
        if isinstance(value, Objects):
            value = _flat(value)
        elif isinstance(value, list):
            value = [_flat(one) if isinstance(one, Objects) else one for one in value]
        found.append(Item(item.keys, value))
    return found


def _unfolded(items: list[Item]) -> list[Item]:
    found: list[Item] = []
    for item in items:
        value = item.value
        if isinstance(value, Objects):
            if value and all(isinstance(one.value, Objects) for one in value):
                found += _unfolded([Item([*item.keys, *one.keys], one.value) for one in value])
                continue
        elif isinstance(value, list) and value and all(isinstance(one, Objects) for one in value):
            found += _unfolded([Item(item.keys, one) for one in value])
            continue
        found.append(item)
    return found
