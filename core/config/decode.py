"""Plain values to the known shapes, by the rules and in the words of Consul's decoder.

reference/config.md section 2. One spelling class more is taken: a key that equals a known one once
underscores are dropped and case is folded, with a warning each (`strict` refuses it as Consul does)."""

from __future__ import annotations

import re
from typing import Any

from core.config.formats import Source, go_type, kind, read
from core.config.schema import LISTS, MAPS, Block, ListOf, MapOf, Node
from core.errors import ConfigError

_SURROGATE = re.compile("[\ud800-\udfff]")
_GO_TYPES = {"port": "int", "duration": "string", "float": "float64"}
_SKIP = object()

HINTS = {"script": 'scripts are given as a list: args = ["/bin/sh", "-c", "..."]'}


class Decoder:
    """Decodes one source. Errors and warnings are collected, `finish` raises them all at once."""

    def __init__(self, source: Source, strict: bool) -> None:
        self.source = source
        self.format = source.format
        self.strict = strict
        self.errors: list[str] = []
        self.unknown: list[tuple[str, str]] = []  # path, hint
        self.warnings: list[str] = []

    def finish(self) -> None:
        """ConfigError when anything was wrong."""
        if self.errors:
            points = "\n".join(sorted(f"* {error}" for error in self.errors))
            self._fail(f"{len(self.errors)} error(s) decoding:\n\n{points}")
        if self.unknown:
            keys = [f"invalid config key {where}" for where, _ in self.unknown]
            hints = [hint for _, hint in self.unknown if hint]
            self._fail("\n".join([several(keys), *hints]))

    def _fail(self, text: str) -> None:
        raise ConfigError(f"failed to parse {self.source.name}: {text}")

    def block(self, raw: Any, block: Block, where: str) -> Any:
        """The known fields of a map by their own names."""
        if not isinstance(raw, dict):
            self.errors.append(f"'{where}' expected a map, got '{kind(raw, self.format)}'")
            return _SKIP
        out: dict[str, Any] = {}
        exact = set()
        for key, value in raw.items():
            name, as_consul = block.find(key)
            inner = f"{where}.{key}" if where else key
            if not name or (self.strict and not as_consul):
                self.unknown.append((inner, self._hint(key, name, where, block)))
                continue
            if not as_consul:
                self.warnings.append(f'config key "{inner}" is read as "{name}"')
            if name in out and (name in exact or not as_consul):
                continue  # the true spelling wins over the others
            if as_consul:
                exact.add(name)
            decoded = self.value(value, block.fields[name], f"{where}.{name}" if where else name)
            if decoded is not _SKIP:
                out[name] = decoded
        return out

    def _hint(self, key: str, name: str, where: str, block: Block) -> str:
        if key in HINTS:
            return HINTS[key]
        if not name:
            from difflib import get_close_matches

            near = get_close_matches(key.lower(), block.fields, 1, 0.6)
            name = near[0] if near else ""
        if not name:
            return ""
        return f'did you mean "{where}.{name}"?' if where else f'did you mean "{name}"?'

    def value(self, raw: Any, node: Node, where: str) -> Any:
        if raw is None:
            return _SKIP
        if node == "any":
            return raw
        if isinstance(node, ListOf) or node in LISTS:
            return self._list(raw, node, where)
        if isinstance(raw, list) and len(raw) == 1:  # it stands for its item, as every block of HCL is one
            raw = raw[0]
            if raw is None:
                return _SKIP
        if isinstance(node, Block):
            return self.block(raw, node, where)
        if isinstance(node, MapOf) or node in MAPS:
            return self._map(raw, node, where)
        return self._scalar(raw, str(node), where)

    def _list(self, raw: Any, node: Node, where: str) -> Any:
        if not isinstance(raw, list):
            found = kind(raw, self.format)
            self.errors.append(f"'{where}': source data must be an array or slice, got {found}")
            return _SKIP
        inner: Node = node.block if isinstance(node, ListOf) else "opaque" if node == "opaques" else "string"
        zero: Any = "" if inner == "string" else {}
        items = [self.value(item, inner, f"{where}[{at}]") for at, item in enumerate(raw)]
        return [zero if item is _SKIP else item for item in items]

    def _map(self, raw: Any, node: Node, where: str) -> Any:
        if not isinstance(raw, dict):
            self.errors.append(f"'{where}' expected a map, got '{kind(raw, self.format)}'")
            return _SKIP
        if node == "opaque":
            return self._plain(raw)
        inner: Node = node.block if isinstance(node, MapOf) else "strings" if node == "headers" else "string"
        zero: Any = "" if inner == "string" else [] if inner == "strings" else {}
        out = {}
        for key, item in raw.items():
            value = self.value(item, inner, f"{where}[{key}]")
            out[clean(key)] = zero if value is _SKIP else value
        return out

    def _plain(self, raw: Any) -> Any:
        """A value nobody looks into, without the lists that HCL makes of blocks."""
        if isinstance(raw, dict):
            return {clean(key): self._plain(item) for key, item in raw.items()}
        if isinstance(raw, list):
            if self.format == "hcl" and len(raw) == 1 and isinstance(raw[0], dict):
                return self._plain(raw[0])
            return [self._plain(item) for item in raw]
        return clean(raw) if isinstance(raw, str) else raw

    def _scalar(self, raw: Any, node: str, where: str) -> Any:
        if node in ("string", "duration") and isinstance(raw, str):
            if "\0" in raw:
                self.errors.append(f"'{where}' contains a null character")
            return clean(raw)
        if node == "bool" and isinstance(raw, bool):
            return raw
        if isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) < 1 << 63:
            if node == "float":
                return float(raw)
            if node in ("int", "port") or (node == "uint" and raw >= 0):
                return int(raw)
            if node == "uint":
                self.errors.append(f"cannot parse '{where}', {int(raw)} overflows uint")
                return _SKIP
        expected = _GO_TYPES.get(node, node)
        self.errors.append(
            f"'{where}' expected type '{expected}', got unconvertible type '{go_type(raw, self.format)}'"
        )
        return _SKIP


def decode(source: Source, block: Block, strict: bool) -> tuple[dict[str, Any], list[str]]:
    """The fields of `block` in a source, and warnings. ConfigError has Consul's text and the file's name."""
    decoder = Decoder(source, strict)
    values = decoder.block(read(source), block, "")
    decoder.finish()
    return values, decoder.warnings


def several(errors: list[str]) -> str:
    """A list of errors as Consul shows it."""
    head = "1 error occurred:" if len(errors) == 1 else f"{len(errors)} errors occurred:"
    return head + "".join(f"\n\t* {error}" for error in errors) + "\n\n"


def clean(text: str) -> str:
    """`text` without lone surrogates, which no encoding has."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
