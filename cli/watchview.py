"""How `ctl watch` prints a change: JSON in a pipe, something readable on a terminal."""

from __future__ import annotations

import binascii
import sys
import time
from typing import TYPE_CHECKING, Any

from cli.output import Table
from core.watch.payload import to_text

if TYPE_CHECKING:
    from cli.call import Call
    from cli.watchplan import Plan


def show(call: Call, plan: Plan, payload: Any, index: int) -> None:
    """Print one state, and flush: whoever reads waits for it."""
    out = call.out
    if out.format == "json":
        out.line(to_text(payload))
    elif out.format == "yaml":
        out.line("---")
        out.document(payload)
    elif out.format == "plain" or plan.consul_form:
        out.line(to_text(payload, indent=True))
    else:
        _for_people(call, plan, payload, index)
    sys.stdout.flush()


def _for_people(call: Call, plan: Plan, payload: Any, index: int) -> None:
    from cli.terminal import clean, colour, print_table

    coloured = colour(call.values)
    head = f"{time.strftime('%H:%M:%S')}  {plan.kind} {plan.subject}  index {index}"
    call.out.line(f"\x1b[2m{head}\x1b[0m" if coloured else head)
    if plan.kind == "key":
        call.out.line("(no such key)" if payload is None else clean(_value(payload)))
        return
    table = _table(plan.kind, payload)
    if table.rows:
        sys.stdout.flush()
        print_table(table, coloured)
    else:
        call.out.line("(none)")


def _table(kind: str, payload: Any) -> Table:
    from cli.event import payload_text
    from cli.services import worst

    if kind == "keyprefix":
        rows = [[entry["Key"], _value(entry)] for entry in payload or ()]
        return Table(("Key", "Value"), rows, keep=("Key",))
    if kind == "services":
        return Table(("Service", "Tags"), [[name, ",".join(tags)] for name, tags in payload.items()])
    if kind == "nodes":
        rows = [[node["Node"], node["ID"][:8], node["Address"], node["Datacenter"]] for node in payload]
        return Table(("Node", "ID", "Address", "DC"), rows)
    if kind == "service":
        rows = []
        for entry in payload:
            node, service = entry["Node"], entry["Service"]
            address = f"{service['Address'] or node['Address']}:{service['Port']}"
            rows.append([node["Node"], service["ID"], address, worst(entry["Checks"] or [])])
        return Table(("Node", "ID", "Address", "Status"), rows)
    if kind == "event":
        rows = [[event["ID"], event["Name"], str(event["LTime"]), payload_text(event)] for event in payload]
        return Table(("ID", "Name", "LTime", "Payload"), rows, keep=("ID", "Name"))
    rows = [
        [check["Node"], check["CheckID"], check["Status"], " ".join(check["Output"].split())]
        for check in payload
    ]
    return Table(("Node", "CheckID", "Status", "Output"), rows, keep=("CheckID",))


def _value(entry: dict[str, Any]) -> str:
    return binascii.a2b_base64(entry["Value"] or "").decode("utf-8", "replace")
