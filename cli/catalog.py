"""`ctl catalog` and `ctl dc`: the catalog exactly as `consul catalog` prints it."""

from __future__ import annotations

from cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

NO_NODES = "No nodes match the given query - try expanding your search."
NO_SERVICES = "No services match the given query - try expanding your search."


def nodes(call: Call) -> int:
    """`catalog nodes`: all, or those that run a service."""
    from cli.call import note
    from cli.client import TransportError
    from cli.nodes import joined
    from cli.output import Table

    query = [("filter", call.text("filter"))] if call.text("filter") else []
    if call.text("near"):
        query.append(("near", call.text("near")))
    query += _meta(call)
    service = call.text("service")
    if service:
        try:
            found = _distinct(call.fetch("/v1/catalog/service/" + service, *query))
        except TransportError as error:
            raise error.within("Error listing nodes for service") from None
    else:
        found = call.fetch("/v1/catalog/nodes", *query)
    if not found and not call.out.structured:
        note(NO_NODES)
        return 0
    if call.yes("detailed"):
        columns = ["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]
        rows = [
            [
                n["Node"],
                n["ID"],
                n["Address"],
                n["Datacenter"],
                joined(n["TaggedAddresses"]),
                joined(n["Meta"]),
            ]
            for n in found
        ]
    else:
        columns = ["Node", "ID", "Address", "DC"]
        rows = [[n["Node"], n["ID"][:8], n["Address"], n["Datacenter"]] for n in found]
    table = Table(columns, rows, status=(), keep=("Node", "ID", "Address"))
    call.out.show(found, table, [n["Node"] for n in found])
    return 0


def _distinct(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes of a service's instances, each once, with the fields of a node."""
    nodes: dict[str, dict[str, Any]] = {}
    for instance in instances:
        nodes.setdefault(
            instance["Node"],
            {
                "ID": instance["ID"],
                "Node": instance["Node"],
                "Address": instance["Address"],
                "Datacenter": instance["Datacenter"],
                "TaggedAddresses": instance["TaggedAddresses"],
                "Meta": instance["NodeMeta"],
            },
        )
    return list(nodes.values())


def services(call: Call) -> int:
    """`catalog services`: names, with their tags when asked."""
    from cli.call import note
    from cli.output import Table

    node = call.text("node")
    found: dict[str, list[str]] = {}
    if node:
        answer = call.fetch("/v1/catalog/node/" + node, *_meta(call))
        for service in ((answer or {}).get("Services") or {}).values():
            found.setdefault(service["Service"], []).extend(service["Tags"] or [])
    else:
        found = call.fetch("/v1/catalog/services", *_meta(call))
    if not found and not call.out.structured:
        note(NO_SERVICES)
        return 0
    names = sorted(found)
    document = {name: sorted(found[name]) for name in names}
    if call.yes("tags"):
        rows = [[name, ",".join(document[name])] for name in names]
        if call.out.format == "plain" and not call.out.quiet:
            call.out.write(_tagged(rows))
            return 0
        call.out.show(document, Table(("Service", "Tags"), rows, header=False, keep=("Service",)), names)
    else:
        call.out.show(document, Table(("Service",), [[name] for name in names], header=False), names)
    return 0


def _tagged(rows: list[list[str]]) -> str:
    """Services and tags in a pipe: further apart than the columns of Consul's other tables."""
    width = max([len(row[0]) for row in rows]) + 6
    return "\n".join([row[0].ljust(width) + row[1] for row in rows]).rstrip() + "\n"


def _meta(call: Call) -> list[tuple[str, str]]:
    return [("node-meta", f"{name}:{value}") for name, value in call.pairs("node-meta").items()]


def datacenters(call: Call) -> int:
    from cli.output import Table

    names = call.fetch("/v1/catalog/datacenters")
    call.out.show(names, Table(("Datacenter",), [[name] for name in names], header=False), names)
    return 0


_META = Flag("node-meta", "map", "Only nodes with this metadata, k=v (repeat).")
_FAILED = "Error listing datacenters"

COMMANDS = (
    Command(
        "catalog nodes",
        "List the nodes of the catalog",
        nodes,
        flags=(
            Flag("filter", "string", "Filter expression for the agent."),
            Flag("detailed", "bool", "Show full ids, tagged addresses and metadata."),
            Flag("near", "string", "Sort by round trip time to this node; `_agent` is the local one."),
            _META,
            Flag("service", "string", "Only nodes that run this service.", complete="services"),
        ),
        example=("ctl catalog nodes", "ctl catalog nodes -service=web -detailed"),
        server=True,
        failure="Error listing nodes",
    ),
    Command(
        "catalog services",
        "List the services of the catalog",
        services,
        flags=(
            Flag("node", "string", "Only services on this node.", complete="nodes"),
            _META,
            Flag("tags", "bool", "Show their tags."),
        ),
        example=("ctl catalog services -tags",),
        server=True,
        failure="Error listing services",
    ),
    Command(
        "catalog datacenters",
        "List the known datacenters",
        datacenters,
        example=("ctl catalog datacenters",),
        server=True,
        failure=_FAILED,
    ),
    Command(
        "dc list",
        "List the known datacenters",
        datacenters,
        example=("ctl dc list",),
        server=True,
        failure=_FAILED,
    ),
    Command(
        "dc",
        "List the known datacenters",
        datacenters,
        example=("ctl dc",),
        server=True,
        failure=_FAILED,
        hidden=True,
    ),
)
