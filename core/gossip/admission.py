"""Whom Consul's pools take in (protocols/gossip.md 9.3). The texts are Consul's, operators search for them.

Asked with one member for each alive message, and with all of them at a join: then two newcomers must not
share an id either. A refused member is not told; the refusal is in our log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from core.gossip.member import LEFT, Member

_BUILD = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_IDS_MATTER_SINCE = (0, 8, 5)
_DECIMAL = (
    *("port", "vsn", "expect", "raft_vsn", "wan_join_port"),
    *("ft_fs", "ft_si", "grpc_port", "grpc_tls_port"),
)

Admission = Callable[[Sequence[Member]], str]


def lan_admission(name: str, id: str, datacenter: str) -> Admission:
    """The LAN pool of our datacenter; `id` and `name` are ours. The function gives why not, `` for yes."""

    def refusal(members: Sequence[Member]) -> str:
        owners: dict[str, str] = {}
        for member in members:
            why = _id_refusal(member, name, id, owners) or _place_refusal(member, datacenter)
            if why:
                return why
        return ""

    return refusal


def wan_admission(members: Sequence[Member]) -> str:
    """The WAN pool: servers only."""
    for member in members:
        if not _is_server(member):
            return f"Member '{member.name}' is not a server"
    return ""


def _id_refusal(member: Member, own_name: str, own_id: str, owners: dict[str, str]) -> str:
    """A name may get a new id, an id may not get a second name."""
    id = member.tags.get("id", "")
    if not id or member.status == LEFT:
        return ""
    conflict = f"Member '{member.name}' has conflicting node ID '{id}' with"
    if id.lower() == own_id.lower() and member.name != own_name:
        return f"{conflict} this agent's ID"
    if _version(member) < _IDS_MATTER_SINCE:
        return ""
    other = owners.setdefault(id.lower(), member.name)
    return f"{conflict} member '{other}'" if other != member.name else ""


def _place_refusal(member: Member, datacenter: str) -> str:
    other = member.tags.get("dc", "")
    if member.tags.get("role") in ("node", "consul") and other != datacenter:
        return f"Member '{member.name}' part of wrong datacenter '{other}'"
    segment = member.tags.get("segment", "")
    if segment:
        return f"Member '{member.name}' part of wrong segment '{segment}' (expected '')"
    return ""


def _version(member: Member) -> tuple[int, ...]:
    found = _BUILD.search(member.tags.get("build", ""))
    return tuple(map(int, found.groups())) if found else (0,)


def _is_server(member: Member) -> bool:
    tags = member.tags
    decimal = all(_decimal(tags[tag]) for tag in _DECIMAL if tag in tags)
    return (
        tags.get("role") == "consul"
        and "port" in tags
        and "vsn" in tags
        and decimal
        and _BUILD.search(tags.get("build", "")) is not None
    )


def _decimal(text: str) -> bool:
    return text.isascii() and text.lstrip("+-").isdigit() and len(text) < 20
