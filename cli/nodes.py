"""`ctl nodes`: the nodes of the catalog, with their health."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call


def list_nodes(call: Call) -> int:
    """`nodes list`: one row a node; its status is that of its own checks."""
    from cli.output import Table
    from cli.services import worst

    query = [("filter", call.text("filter"))] if call.text("filter") else []
    nodes = call.fetch("/v1/catalog/nodes", *query)
    checks: dict[str, list[dict[str, Any]]] = {}
    for check in call.fetch("/v1/health/state/any"):
        if not check["ServiceID"]:
            checks.setdefault(check["Node"], []).append(check)
    rows = []
    for node in nodes:
        own = checks.get(node["Node"])
        status = worst(own) if own else "-"
        rows.append([node["Node"], node["ID"][:8], node["Address"], node["Datacenter"], status])
    table = Table(("Node", "ID", "Address", "DC", "Status"), rows, keep=("Node", "ID", "Address"))
    call.out.show(nodes, table, [node["Node"] for node in nodes])
    return 0


def show(call: Call) -> int:
    """`nodes show`: a node, its services and its checks."""
    from cli.output import Table

    name = call.argument(0)
    found = call.fetch("/v1/catalog/node/" + name)
    if not found:
        raise Failure(f"Error: no such node: {name}", kind="missing")
    checks = call.fetch("/v1/health/node/" + name)
    node, services = found["Node"], found["Services"] or {}
    if call.out.structured:
        call.out.document({**found, "Checks": checks})
        return 0
    if call.out.quiet:
        call.out.line(node["Node"])
        return 0
    facts = [
        ["Node", node["Node"]],
        ["ID", node["ID"]],
        ["Address", node["Address"]],
        ["Datacenter", node["Datacenter"]],
        ["TaggedAddresses", joined(node["TaggedAddresses"])],
        ["Meta", joined(node["Meta"])],
    ]
    service_rows = [
        [s["ID"], s["Service"], f"{s['Address'] or node['Address']}:{s['Port']}", ",".join(s["Tags"] or [])]
        for _, s in sorted(services.items())
    ]
    check_rows = [[c["CheckID"], c["Status"], c["ServiceID"], " ".join(c["Output"].split())] for c in checks]
    tables = (
        Table(("Fact", "Value"), facts, header=False, status=()),
        Table(("ServiceID", "Service", "Address", "Tags"), service_rows, status=(), keep=("ServiceID",)),
        Table(("CheckID", "Status", "ServiceID", "Output"), check_rows, keep=("CheckID",)),
    )
    for place, table in enumerate(tables):
        if table.rows:
            if place:
                call.out.line("")
            call.out.show(None, table, ())
    return 0


def joined(pairs: dict[str, str] | None) -> str:
    """`a=b, c=d`, sorted."""
    return ", ".join([f"{name}={value}" for name, value in sorted((pairs or {}).items())])


def deregister(call: Call) -> int:
    """`nodes deregister`: out of the catalog, with all that is registered on it."""
    from cli.output import to_json_line

    name = call.argument(0)
    body = {"Node": name, **({"Datacenter": call.text("datacenter")} if call.text("datacenter") else {})}
    call.client.put("/v1/catalog/deregister", call.query(), to_json_line(body).encode()).checked()
    call.out.done(f"Deregistered node: {name}", {"Deregistered": name})
    return 0


_LISTING = "Error listing nodes"
_NODE = Argument("NODE", "Name of the node.", complete="nodes")
_FILTER = Flag("filter", "string", "Filter expression for the agent.")
_BARE = Command(
    "nodes",
    "List nodes with their health",
    list_nodes,
    flags=(_FILTER,),
    example=("ctl nodes",),
    server=True,
    failure=_LISTING,
    hidden=True,
)

COMMANDS = (
    _BARE,
    Command(
        "nodes list",
        _BARE.summary,
        list_nodes,
        flags=(_FILTER,),
        example=("ctl nodes list",),
        server=True,
        failure=_LISTING,
    ),
    Command(
        "nodes show",
        "Show a node, its services and its checks",
        show,
        arguments=(_NODE,),
        example=("ctl nodes show n1",),
        server=True,
        failure="Error querying node",
    ),
    Command(
        "nodes deregister",
        "Remove a node and all on it from the catalog",
        deregister,
        arguments=(_NODE,),
        text="A node whose agent still runs registers itself again: stop it, or use `ctl force-leave`.",
        example=("ctl nodes deregister old-external",),
        server=True,
        failure="Error deregistering node",
    ),
)
