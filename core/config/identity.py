"""Rules for what names a node: name, id, metadata, datacenter."""

from __future__ import annotations

import re

from core.codec.duration import quote

META_PAIRS, META_KEY, META_VALUE = 64, 128, 512
META_RESERVED = "consul-"

_META_KEY = re.compile(r"[a-zA-Z0-9_-]+\Z")
_DATACENTER = re.compile(r"[a-z0-9_-]+\Z")
_DNS_LABEL = re.compile(r"[A-Za-z0-9-]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def meta_error(meta: dict[str, str], reserved: bool = False) -> str:
    """What is wrong with the metadata of a node or service, in Consul's words; `` when nothing is.
    `reserved` allows keys that begin with `consul-`."""
    if len(meta) > META_PAIRS:
        return f"Node metadata cannot contain more than {META_PAIRS} key/value pairs"
    for key, value in meta.items():
        error = _pair_error(key, value, reserved)
        if error:
            return f"Couldn't load metadata pair ('{key}', '{value}'): {error}"
    return ""


def _pair_error(key: str, value: str, reserved: bool) -> str:
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.match(key):
        return "Key contains invalid characters"
    if len(key) > META_KEY:
        return f"Key is too long (limit: {META_KEY} characters)"
    if key.startswith(META_RESERVED) and not reserved:
        return f"Key prefix '{META_RESERVED}' is reserved for internal use"
    if len(value.encode("utf-8", "replace")) > META_VALUE:
        return f"Value is too long (limit: {META_VALUE} characters)"
    return ""


def datacenter_error(name: str) -> str:
    """What is wrong with a datacenter's name (already in lower case)."""
    if not name:
        return "datacenter cannot be empty"
    if not _DATACENTER.match(name):
        return (
            f"datacenter can only contain lowercase alphanumeric, - or _ characters. received: {quote(name)}"
        )
    return ""


def node_id_error(node_id: str) -> str:
    """What is wrong with a node id (already in lower case)."""
    if len(node_id) != 36:
        return "specified NodeID is invalid: uuid string is wrong length"
    if not _UUID.match(node_id):
        return "specified NodeID is invalid: uuid is improperly formatted"
    return ""


def name_warning(what: str, name: str) -> str:
    """Why DNS cannot find a name; `` when it can. `what` is `Node name "x"` or `Service name "x"`."""
    if not _DNS_LABEL.match(name):
        reason = "invalid characters. Valid characters include all alpha-numerics and dashes."
    elif len(name) > 63:
        reason = "it being too long. Valid lengths are between 1 and 63 bytes."
    else:
        return ""
    return f"{what} {quote(name)} will not be discoverable via DNS due to {reason}"
