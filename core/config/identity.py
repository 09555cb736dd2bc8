"""Rules for what names a node: name, id, datacenter. Metadata: core/node/registration.py."""

from __future__ import annotations

import re

from core.codec.duration import quote

_DATACENTER = re.compile(r"[a-z0-9_-]+\Z")
_DNS_LABEL = re.compile(r"[A-Za-z0-9-]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


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
