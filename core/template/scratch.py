"""The notebook of a pass: `scratch.Set`, `scratch.Get` and so on. It is empty when a pass begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from core.codec.duration import quote
from core.template.access import ANY
from core.template.errors import FunctionError
from core.template.values import Function


class Scratch:
    """Values by name; setters print nothing."""

    GO_TYPE: ClassVar[str] = "*template.Scratch"
    METHODS: ClassVar[Mapping[str, Function]]

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def Key(self, key: str) -> bool:
        """Whether there is a value."""
        return key in self._values

    def Get(self, key: str) -> Any:
        """The value, nil if there is none."""
        return self._values.get(key)

    def Set(self, key: str, value: Any) -> str:
        """Keep a value."""
        self._values[key] = value
        return ""

    def SetX(self, key: str, value: Any) -> str:
        """Keep a value if there is none yet."""
        self._values.setdefault(key, value)
        return ""

    def _map(self, key: str) -> dict[str, Any]:
        found = self._values.setdefault(key, {})
        if not isinstance(found, dict):
            raise FunctionError(f"{quote(key)} is not a map")
        return found

    def MapSet(self, key: str, inner: str, value: Any) -> str:
        """Keep a value in the map `key`."""
        self._map(key)[inner] = value
        return ""

    def MapSetX(self, key: str, inner: str, value: Any) -> str:
        """Keep a value in the map `key` if it has none under that name."""
        self._map(key).setdefault(inner, value)
        return ""

    def MapValues(self, key: str) -> list[Any]:
        """The values of the map `key`, sorted by name."""
        found = self._values.get(key)
        return [found[name] for name in sorted(found)] if isinstance(found, dict) else []


Scratch.METHODS = {
    "Key": Function(("string",), None, Scratch.Key),
    "Get": Function(("string",), None, Scratch.Get),
    "Set": Function(("string", ANY), None, Scratch.Set),
    "SetX": Function(("string", ANY), None, Scratch.SetX),
    "MapSet": Function(("string", "string", ANY), None, Scratch.MapSet),
    "MapSetX": Function(("string", "string", ANY), None, Scratch.MapSetX),
    "MapValues": Function(("string",), None, Scratch.MapValues),
}
