"""The body of a transaction as the operations that it stands for (api.TxnOps)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from msgspec.structs import replace

from core.api.decode import CHECK, SERVICE, health_check, node_service
from core.codec import gojson
from core.codec.duration import quote
from core.codec.gojson import JsonError
from core.codec.shapes import (
    ANY,
    STRING,
    STRING_MAP,
    UINT,
    Errors,
    Integer,
    ListOf,
    Object,
    Shape,
    Text,
    fit,
)
from core.errors import BadRequest, TooLarge
from core.store.structs import (
    DirEntry,
    Node,
    TxnCheckOp,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnServiceOp,
)

_BYTE = Integer("uint8", 0, 255)


class _Bytes(Shape):
    """[]byte: base64 in a string."""

    zero = b""

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, list):  # Go takes numbers too
            return bytes(_BYTE.fit(0 if item is None else item, errors) for item in value)
        if not isinstance(value, str):
            errors.mismatch(value, self.go)
            return self.zero
        text = value.replace("\r", "").replace("\n", "")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise JsonError(f"illegal base64 data at input byte {_first_bad(text)}") from None


def _first_bad(text: str) -> int:
    """Where Go's decoder stops: at the first character that is none of base64's, or at the end."""
    for position, character in enumerate(text):
        if not (character.isascii() and (character.isalnum() or character in "+/=")):
            return position
    return len(text) - len(text) % 4


_TENANCY: dict[str, Shape] = {"Namespace": ANY, "Partition": ANY}
_NODE = Object(
    "api.Node",
    {
        "ID": STRING,
        "Node": STRING,
        "Address": STRING,
        "Datacenter": STRING,
        "TaggedAddresses": STRING_MAP,
        "Meta": STRING_MAP,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
        "Locality": ANY,
        "PeerName": ANY,
        **_TENANCY,
    },
)
_KV = Object(
    "api.KVTxnOp",
    {
        "Verb": Text("api.KVOp"),
        "Key": STRING,
        "Value": _Bytes("[]uint8"),
        "Flags": UINT,
        "Index": UINT,
        "Session": STRING,
        **_TENANCY,
    },
)
_OP = Object(
    "api.TxnOp",
    {
        "KV": _KV,
        "Node": Object("api.NodeTxnOp", {"Verb": Text("api.NodeOp"), "Node": _NODE}),
        "Service": Object(
            "api.ServiceTxnOp", {"Verb": Text("api.ServiceOp"), "Node": STRING, "Service": SERVICE}
        ),
        "Check": Object("api.CheckTxnOp", {"Verb": Text("api.CheckOp"), "Check": CHECK}),
    },
)
_OPS = ListOf(_OP, "api.TxnOps")


def operations(body: bytes, datacenter: str, max_value: int) -> list[TxnOp]:
    """The operations in a body. BadRequest has Consul's text; TooLarge for a value over `max_value` bytes."""
    try:
        found = fit(gojson.decode(body), _OPS)
    except JsonError as error:
        raise BadRequest(f"Failed to parse body: {error}") from None
    made = (_operation(fields or {}, datacenter, max_value) for fields in found or ())
    return [op for op in made if op is not None]


def _operation(fields: dict[str, Any], datacenter: str, max_value: int) -> TxnOp | None:
    """None when nothing is asked for, which does not count as an operation."""
    if "KV" in fields:
        return TxnOp(kv=_kv(fields["KV"], max_value))
    if "Node" in fields:
        part = fields["Node"]
        return TxnOp(node=TxnNodeOp(part.get("Verb", ""), _node(part.get("Node") or {}, datacenter)))
    if "Service" in fields:
        part = fields["Service"]
        service = _indexed(node_service(part.get("Service") or {}), part.get("Service"))
        return TxnOp(service=TxnServiceOp(part.get("Verb", ""), part.get("Node", ""), service))
    if "Check" in fields:
        part = fields["Check"]
        check = _indexed(health_check(part.get("Check")), part.get("Check"))
        return TxnOp(check=TxnCheckOp(part.get("Verb", ""), check))
    return None


def _indexed(made: Any, fields: dict[str, Any] | None) -> Any:
    """With the index to compare with, which only operations have."""
    return replace(made, modify_index=(fields or {}).get("ModifyIndex", 0))


def _kv(part: dict[str, Any], max_value: int) -> TxnKVOp:
    key, value = part.get("Key", ""), part.get("Value") or None
    if value is not None and len(value) > max_value:
        raise TooLarge(f"Value for key {quote(key)} is too large ({len(value)} > {max_value} bytes)")
    entry = DirEntry(
        key.encode("utf-8", "surrogateescape"),
        value,
        part.get("Flags", 0),
        session=part.get("Session", ""),
        modify_index=part.get("Index", 0),
    )
    return TxnKVOp(part.get("Verb", ""), entry)


def _node(part: dict[str, Any], datacenter: str) -> Node:
    return Node(
        id=part.get("ID", ""),
        node=part.get("Node", ""),
        address=part.get("Address", ""),
        datacenter=part.get("Datacenter") or datacenter,
        tagged_addresses=part.get("TaggedAddresses"),
        meta=part.get("Meta"),
        modify_index=part.get("ModifyIndex", 0),
    )
