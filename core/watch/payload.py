"""What a watch hands over: the API's answer with the fields and their order that handlers know.

Consul decodes the answer into its client library's structs and encodes those again, so a payload is
not the HTTP body: order differs, empty fields appear or go. reference/watch.md section 3."""

from __future__ import annotations

import json
from typing import Any

_ENTRY = (
    ("CreateIndex", 0),
    ("ModifyIndex", 0),
    ("LockIndex", 0),
    ("Flags", 0),
    ("Value", None),
    ("Session", ""),
)
_INDEXES = (("CreateIndex", 0), ("ModifyIndex", 0))
_NODE = (
    ("ID", ""),
    ("Node", ""),
    ("Address", ""),
    ("Datacenter", ""),
    ("TaggedAddresses", None),
    ("Meta", None),
)
_CHECK = (("Node", ""), ("CheckID", ""), ("Name", ""), ("Status", ""), ("Notes", ""), ("Output", ""))
_CHECK_SERVICE = (("ServiceID", ""), ("ServiceName", ""), ("ServiceTags", None), ("Type", ""))
_DURATIONS = ("Interval", "Timeout", "DeregisterCriticalServiceAfter")
_PROBE = (("HTTP", ""), ("Header", None), ("Method", ""), ("Body", ""), ("TLSSkipVerify", False), ("TCP", ""))
_EVENT = (
    ("ID", ""),
    ("Name", ""),
    ("Payload", None),
    ("NodeFilter", ""),
    ("ServiceFilter", ""),
    ("TagFilter", ""),
    ("Version", 0),
    ("LTime", 0),
)
_SERVICE = (("ID", ""), ("Service", ""), ("Tags", None), ("Meta", None), ("Port", 0), ("Address", ""))


def shape(kind: str, answer: Any) -> Any:
    """The payload of a watch of type `kind`; `answer` is the decoded body, None when there was none."""
    if answer is None:
        return None
    if kind == "key":
        return _entry(answer[0]) if answer else None
    if kind == "keyprefix":
        return [_entry(entry) for entry in answer] or None
    if kind == "services":
        return {name: answer[name] for name in sorted(answer)}
    makers = {"nodes": _node, "service": _service_entry, "checks": _check, "event": _event}
    return [makers[kind](item) for item in answer]


def to_text(payload: Any, *, indent: bool = False) -> str:
    """JSON as Go writes it, on one line or indented by four spaces."""
    if indent:
        text = json.dumps(payload, ensure_ascii=False, indent=4)
    else:
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _pick(source: dict[str, Any], fields: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: _sorted(source.get(name, default)) for name, default in fields}


def _sorted(value: Any) -> Any:
    """Go writes maps in the order of their keys."""
    return {name: value[name] for name in sorted(value)} if isinstance(value, dict) else value


def _entry(source: dict[str, Any]) -> dict[str, Any]:
    return {"Key": source["Key"], **_pick(source, _ENTRY)}


def _node(source: dict[str, Any]) -> dict[str, Any]:
    return _pick(source, _NODE + _INDEXES)


def _event(source: dict[str, Any]) -> dict[str, Any]:
    return _pick(source, _EVENT)


def _service_entry(source: dict[str, Any]) -> dict[str, Any]:
    checks = source.get("Checks")
    return {
        "Node": _node(source["Node"]),
        "Service": _service(source["Service"]),
        "Checks": None if checks is None else [_check(check) for check in checks],
    }


def _service(source: dict[str, Any]) -> dict[str, Any]:
    kind, addresses = source.get("Kind"), source.get("TaggedAddresses")
    return {
        **({"Kind": kind} if kind else {}),
        **_pick(source, _SERVICE),
        **({"TaggedAddresses": _sorted(addresses)} if addresses else {}),
        "Weights": source.get("Weights") or {"Passing": 1, "Warning": 1},
        "EnableTagOverride": bool(source.get("EnableTagOverride")),
        **_pick(source, _INDEXES),
        "Proxy": _proxy(source.get("Proxy") or {}),
        "Connect": {name: value for name, value in (source.get("Connect") or {}).items() if value},
    }


def _proxy(source: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in source.items() if value and name not in ("MeshGateway", "Expose")}
    mesh = {name: value for name, value in (source.get("MeshGateway") or {}).items() if value}
    expose = {name: value for name, value in (source.get("Expose") or {}).items() if value}
    return {**given, "MeshGateway": mesh, "Expose": expose}


def _check(source: dict[str, Any]) -> dict[str, Any]:
    definition = source.get("Definition") or {}
    return {
        **_pick(source, _CHECK + _CHECK_SERVICE),
        "Definition": {
            **{name: _duration(definition.get(name)) for name in _DURATIONS},
            **_pick(definition, _PROBE),
        },
        **_pick(source, _INDEXES),
    }


def _duration(value: Any) -> str:
    """A duration as text, whether the API gave text or nanoseconds."""
    if isinstance(value, int):
        from core.codec.duration import show

        return show(value)
    return value or "0s"
