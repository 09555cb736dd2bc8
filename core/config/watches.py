"""What each type of watch takes, for `watches` in the configuration and for `ctl watch` alike
(reference/watch.md section 1). Imports nothing: the command line loads it on every watch."""

from __future__ import annotations

PARAMETERS: dict[str, tuple[str, ...]] = {
    "key": ("key",),
    "keyprefix": ("prefix",),
    "services": ("filter",),
    "nodes": ("filter",),
    "service": ("service", "tag", "passingonly", "filter"),
    "checks": ("service", "state", "filter"),
    "event": ("name",),
    "connect_roots": (),
    "connect_leaf": ("service",),
    "agent_service": ("service_id",),
}
"""The parameters of a type, beside those that every watch takes."""

NEEDED = {"key": "key", "keyprefix": "prefix", "service": "service"}
"""The parameter that a type cannot do without."""
