"""The block `audit`, in the spelling of Consul Enterprise:

audit {
  enabled = true
  sink "local" {
    type = "file", format = "json", path = "/var/log/ctl/audit.json", delivery_guarantee = "best-effort"
    mode = "0600", rotate_bytes = 25165824, rotate_duration = "24h", rotate_max_files = 15
  }
}"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.codec import duration
from core.errors import ConfigError

_MODE = "0600"
# What each key takes; a key with only one choice says so.
_ONLY = {"type": "file", "format": "json", "delivery_guarantee": "best-effort"}
_NUMBERS = ("rotate_bytes", "rotate_max_files")
_KNOWN = {*_ONLY, *_NUMBERS, "path", "mode", "rotate_duration"}


class AuditSink(Struct, frozen=True):
    """One file that requests are written to. `rotate_duration` in ns; 0 does not rotate, no count of files
    keeps all of them."""

    name: str
    path: str
    mode: int = 0o600
    rotate_bytes: int = 0
    rotate_duration: int = 24 * duration.HOUR
    rotate_max_files: int = 0


def audit_sinks(enabled: bool, given: Any) -> list[AuditSink]:
    """The sinks of the block, none when it is not enabled: a map by names, or what HCL makes of blocks, a
    list of such maps. ConfigError."""
    if not enabled:
        return []
    blocks = given if isinstance(given, list) else [given or {}]
    if not all(isinstance(block, dict) for block in blocks):
        raise ConfigError('audit.sink: blocks were expected: sink "NAME" { type = "file", path = "..." }')
    sinks = [_sink(name, fields) for block in blocks for name, fields in block.items()]
    if not sinks:
        raise ConfigError('audit.enabled needs a sink: audit { sink "NAME" { type = "file", path = "..." } }')
    return sinks


def _sink(name: str, fields: Any) -> AuditSink:
    where = f'audit.sink "{name}"'
    if isinstance(fields, list) and len(fields) == 1:
        fields = fields[0]
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: a block with type and path was expected")
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown:
        raise ConfigError(f"{where}: invalid config key {unknown[0]}; known are {', '.join(sorted(_KNOWN))}")
    for key, only in _ONLY.items():
        if fields.get(key, only) != only:
            raise ConfigError(f'{where}: {key} must be "{only}"')
    path = fields.get("path")
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{where}: path is required, the file to write to")
    numbers = {}
    for key in _NUMBERS:
        value = fields.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ConfigError(f"{where}: {key} must be a whole number")
        numbers[key] = int(value)
    return AuditSink(name, path, _mode(where, fields), rotate_duration=_duration(where, fields), **numbers)


def _mode(where: str, fields: dict[str, Any]) -> int:
    text = fields.get("mode", _MODE)
    try:
        mode = int(text, 8)
    except (TypeError, ValueError):
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigError(f'{where}: mode must be octal permissions such as "{_MODE}"')
    return mode


def _duration(where: str, fields: dict[str, Any]) -> int:
    text = fields.get("rotate_duration", "24h")
    try:
        return duration.parse(text) if isinstance(text, str) else int(text)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: rotate_duration: {error}") from None
