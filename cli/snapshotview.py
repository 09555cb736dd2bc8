"""How a snapshot is shown: Consul's layout, JSON, and what a restore replaces."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cli.client import TransportError
from core.store import commands

if TYPE_CHECKING:
    from cli.call import Call
    from cli.snapshotrecords import Count, Snapshot

_LEAST, _PADDING = 8, 6  # of the columns
_LINE = ("----", "----", "----")


def text(snapshot: Snapshot, keys: list[Count], details: bool) -> str:
    """Consul's page: the archive, then its records by type, the largest first."""
    meta = snapshot.meta
    facts = (
        ("ID", meta.id),
        ("Size", str(meta.size)),
        ("Index", str(meta.index)),
        ("Term", str(meta.term)),
        ("Version", str(meta.version)),
    )
    width = max(len(name) for name, _ in facts) + _PADDING
    lines = [f"{name.ljust(width)}{value}" for name, value in facts]
    lines += ["", ""]
    total = sum(count.size for count in snapshot.counts.values())
    lines += _columns("Type", snapshot.by_size(), total)
    if details:
        lines += ["", "", *_columns("Key Name", keys, sum(count.size for count in keys))]
    return "\n".join(lines).rstrip() + "\n"


def _columns(title: str, counts: list[Count], total: int) -> list[str]:
    rows = [(title, "Count", "Size"), _LINE]
    rows += [(count.name, str(count.count), byte_size(count.size)) for count in counts]
    rows += [_LINE, ("Total", "", byte_size(total))]
    first = max(_LEAST, *(len(row[0]) + 1 + _PADDING for row in rows))
    second = max(_LEAST, *(len(row[1]) + _PADDING for row in rows))
    third = max(_LEAST, *(len(row[2]) + 1 + _PADDING for row in rows))
    return [f" {row[0]}".ljust(first) + row[1].ljust(second) + row[2].ljust(third) for row in rows]


def document(snapshot: Snapshot, keys: list[Count], details: bool) -> dict[str, Any]:
    """The same for programs, under the names of Consul's JSON."""
    meta = snapshot.meta

    def listed(counts: list[Count]) -> list[dict[str, Any]]:
        return [{"Name": count.name, "Sum": count.size, "Count": count.count} for count in counts]

    shown: dict[str, Any] = {
        "Meta": {
            "ID": meta.id,
            "Size": meta.size,
            "Index": meta.index,
            "Term": meta.term,
            "Version": meta.version,
        },
        "Stats": listed(snapshot.by_size()),
        "TotalSize": sum(count.size for count in snapshot.counts.values()),
    }
    if details:
        shown |= {"StatsKV": listed(keys), "TotalSizeKV": sum(count.size for count in keys)}
    return shown


def byte_size(count: int) -> str:
    """`2.6KB`, `400B`: units of 1024."""
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + unit if count else "0"


def plain(value: Any) -> Any:
    """A record's value with text instead of bytes; bytes that are no text as base64."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


_KINDS = (
    (commands.KVS, "key"),
    (commands.SESSION, "session"),
    (commands.ACL_TOKEN_SET, "ACL token"),
    (commands.ACL_POLICY_SET, "ACL policy"),
    (commands.PREPARED_QUERY, "prepared query"),
    (commands.CONFIG_ENTRY, "config entry"),
    (commands.CONNECT_CA, "CA root"),
)


def will_replace(call: Call, snapshot: Snapshot) -> str:
    """What is in the snapshot, what goes, and whether the caller's token survives."""
    nodes, services = set(), 0
    for record in snapshot.records():
        if record.kind == commands.REGISTER and isinstance(record.value, dict):
            nodes.add(record.value.get(b"Node"))
            services += record.value.get(b"Service") is not None
    parts = [_many(len(nodes), "node"), _many(services, "service instance")]
    parts += [_many(snapshot.number(kind), name) for kind, name in _KINDS if snapshot.number(kind)]
    meta = snapshot.meta
    lines = [f"Snapshot {meta.id}, index {meta.index}: {', '.join(parts)}."]
    lines.append(f"It replaces all of this in the cluster{_present(call)}; what is only there is lost.")
    token = call.client.setting("token", "HTTP_TOKEN")
    if token and not snapshot.has_token(token):
        lines.append(
            "WARNING: the token in use is not in the snapshot and will not be valid after the restore; "
            "have one at hand that is."
        )
    return "\n".join(lines) + "\n"


def _present(call: Call) -> str:
    """What the cluster holds now, as far as this token may see it."""
    try:
        nodes = len(call.fetch("/v1/catalog/nodes") or ())
        services = len(call.fetch("/v1/catalog/services") or ())
        sessions = len(call.fetch("/v1/session/list") or ())
    except TransportError:
        return ""
    counts = _many(nodes, "node"), _many(services, "service"), _many(sessions, "session")
    return ", which now has {}, {} and {}".format(*counts)


def _many(count: int, thing: str) -> str:
    """`1 key`, `2 policies`."""
    if count == 1:
        return f"1 {thing}"
    return f"{count} {thing[:-1]}ies" if thing.endswith("y") and thing != "key" else f"{count} {thing}s"
