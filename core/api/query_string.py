"""What follows the `?` of a target, as Go reads it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


class Query:
    """A parsed query string. Names may repeat; a name without `=` has the empty value."""

    __slots__ = ("_values",)

    def __init__(self, raw: bytes) -> None:
        """ValueError on a broken escape or a `;` (Go's url.ParseQuery refuses both)."""
        values: dict[str, list[str]] = {}
        if raw:
            for piece in raw.split(b"&"):
                if not piece:
                    continue
                if b";" in piece:
                    raise ValueError("invalid semicolon separator in query")
                name, _, value = piece.partition(b"=")
                values.setdefault(unescape(name), []).append(unescape(value))
        self._values = values

    @property
    def empty(self) -> bool:
        return not self._values

    def has(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> str:
        """The first value, `` when absent."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])


def unescape(raw: bytes, plus: bool = True) -> str:
    """Percent-decoded text; `+` is a space in queries, not in paths. ValueError on a broken escape."""
    position = raw.find(b"%")
    while position >= 0:
        if len(raw) < position + 3 or not all(
            c in b"0123456789abcdefABCDEF" for c in raw[position + 1 : position + 3]
        ):
            raise ValueError("invalid URL escape")
        position = raw.find(b"%", position + 3)
    if plus:
        raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
