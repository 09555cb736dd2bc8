"""What changed between two payloads of a watch, for handlers that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes(kind: str, before: Any, after: Any) -> dict[str, Any]:
    """The payload for such handlers: `{"Current": after, "Added": [...], "Removed": [...], "Changed":
    [{"From": ..., "To": ...}]}`, each item as it stands in a payload of this type of watch; services,
    which are a map, as `{"Name": ..., "Tags": ...}`. Events are never anything but added."""
    old = {} if kind == "event" else _named(kind, before)
    new = _named(kind, after)
    return {
        "Current": after,
        "Added": [item for name, item in new.items() if name not in old],
        "Removed": [item for name, item in old.items() if name not in new],
        "Changed": [
            {"From": old[name], "To": item} for name, item in new.items() if name in old and old[name] != item
        ],
    }


def _named(kind: str, payload: Any) -> Mapping[Any, Any]:
    """The items of a payload by what tells one from another."""
    if payload is None:
        return {}
    if kind == "key":
        return {payload["Key"]: payload}
    if kind == "services":
        return {name: {"Name": name, "Tags": tags} for name, tags in payload.items()}
    if kind == "keyprefix":
        return {item["Key"]: item for item in payload}
    if kind == "nodes":
        return {item["Node"]: item for item in payload}
    if kind == "checks":
        return {(item["Node"], item["CheckID"]): item for item in payload}
    if kind == "service":
        return {(item["Node"]["Node"], item["Service"]["ID"]): item for item in payload}
    return {item["ID"]: item for item in payload}
