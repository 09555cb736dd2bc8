"""`ctl operator usage instances`: how much is registered."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

_MESH = ("connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway")
_GAP = 6  # columns between cells, as Consul sets this one table


def fetch(call: Call) -> dict[str, dict[str, Any]]:
    """The usage of each datacenter that was asked for."""
    names = call.fetch("/v1/catalog/datacenters") if call.yes("all-datacenters") else [""]
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(names):
        query = [("dc", name)] if name else []
        found.update(call.fetch("/v1/operator/usage", *query)["Usage"])
    return found


def text(usage: dict[str, dict[str, Any]], billable: bool, connect: bool, by_datacenter: bool) -> str:
    """Consul's text; `billable` and `connect` choose one of its parts."""
    lines = []
    if not connect:
        total = sum(one["BillableServiceInstances"] for one in usage.values())
        lines.append(f"Billable Service Instances Total: {total}")
        lines += [
            f"{name} Billable Service Instances: {usage[name]['BillableServiceInstances']}"
            for name in sorted(usage)
        ]
        rows = [
            [name, usage[name]["Services"], usage[name]["BillableServiceInstances"]] for name in sorted(usage)
        ]
        lines += ["", "Billable Services", *_table("Services", rows, by_datacenter), ""]
    if not billable:
        rows = [
            [name, kind, usage[name]["ConnectServiceInstances"].get(kind, 0)]
            for name in sorted(usage)
            for kind in _MESH
        ]
        lines += ["Connect Services", *_table("Type", rows, by_datacenter)]
    return "\n".join(lines) + "\n"


def _table(first: str, rows: list[list[Any]], by_datacenter: bool) -> list[str]:
    header = ["Datacenter", first, "Service instances"]
    cells = [header, *rows]
    if by_datacenter:
        services = "" if first == "Type" else sum(row[1] for row in rows)
        cells += [["", "", ""], ["Total", services, sum(row[2] for row in rows)]]
    else:
        cells = [row[1:] for row in cells]
    shown = [[str(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) + _GAP for column in zip(*shown, strict=True)][:-1]
    return [
        "".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in shown
    ]
