"""`ctl services`: what runs, how it is, and registration with the local agent."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

MAINTENANCE = ("_node_maintenance", "_service_maintenance:")


def list_services(call: Call) -> int:
    """`services list`: each service of the catalog with the health of its instances."""
    if call.yes("watch"):
        from cli.serviceswatch import watch

        return watch(call)
    show_services(call, services_of(call))
    return 0


def services_of(call: Call) -> list[dict[str, Any]]:
    """All services, with how many instances are in which state."""
    catalog = call.fetch("/v1/catalog/services")
    document = []
    for name in sorted(catalog):
        states = [worst(entry["Checks"]) for entry in call.fetch("/v1/health/service/" + name)]
        document.append(
            {
                "Name": name,
                "InstanceCount": len(states),
                "Passing": states.count("passing"),
                "Warning": states.count("warning"),
                "Critical": states.count("critical"),
                "Maintenance": states.count("maintenance"),
                "Tags": sorted(catalog[name]),
            }
        )
    return document


def show_services(call: Call, document: list[dict[str, Any]]) -> None:
    """Print them in the chosen form."""
    from cli.output import Table

    columns = ("Service", "Instances", "Passing", "Warning", "Critical", "Maintenance", "Tags")
    rows = [[*[str(value) for value in list(row.values())[:-1]], ",".join(row["Tags"])] for row in document]
    wide = Table(("Service", "Status", "Health", "Tags"), in_words(rows), keep=("Service",))
    call.out.show(document, Table(columns, rows), [row["Name"] for row in document], wide)


def in_words(rows: list[list[str]]) -> list[list[str]]:
    """Rows for people: the worst state that any instance is in, the counts as words."""
    out = []
    for name, instances, passing, warning, critical, maintenance, tags in rows:
        order = {"maintenance": maintenance, "critical": critical, "warning": warning, "passing": passing}
        found = [state for state, count in order.items() if count != "0"]
        words = [f"{order[state]} {state}" for state in found]
        of = f"{instances} instances: " if len(found) > 1 else ""
        out.append([name, (found or ["-"])[0], of + ", ".join(words), tags.replace(",", ", ")])
    return out


def worst(checks: list[dict[str, Any]]) -> str:
    """The state of an instance: maintenance, then critical, warning, passing (Consul's order)."""
    states = set()
    for check in checks:
        if check["CheckID"].startswith(MAINTENANCE):
            return "maintenance"
        states.add(check["Status"])
    return next((state for state in ("critical", "warning") if state in states), "passing")


def show(call: Call) -> int:
    """`services show`: the instances of one service, with their checks."""
    from cli.output import Table

    name = call.argument(0)
    query = [("passing", "1")] if call.yes("passing") else []
    query += [("tag", tag) for tag in call.many("tag")]
    if call.text("filter"):
        query.append(("filter", call.text("filter")))
    entries = call.fetch("/v1/health/service/" + name, *query)
    if not entries:
        raise Failure(f"Error: no instance of service {name}", kind="missing")
    rows = []
    for entry in entries:
        node, service, checks = entry["Node"], entry["Service"], entry["Checks"]
        address = service["Address"] or node["Address"]
        tags = ",".join(service["Tags"] or [])
        told = ", ".join([f"{check['CheckID']}: {check['Status']}" for check in checks])
        row = [node["Node"], service["ID"], f"{address}:{service['Port']}", worst(checks), tags, told]
        rows.append(row)
    columns = ("Node", "ID", "Address", "Status", "Tags", "Checks")
    wide = [[*row[:4], row[4].replace(",", ", "), row[5]] for row in rows]
    keep = ("Node", "ID", "Address")
    names = [row[1] for row in rows]
    call.out.show(entries, Table(columns, rows, keep=keep), names, Table(columns, wide, keep=keep))
    return 0


def register(call: Call) -> int:
    """`services register`: from files, or one service from flags."""
    from cli.client import TransportError

    described = any(call.text(flag) for flag in ("id", "name"))
    if not call.arguments and not call.text("name"):
        raise Usage("Service registration requires at least one argument or flags.")
    if call.arguments and described:
        raise Usage("Service registration requires arguments or -id, not both.")
    if call.arguments:
        from cli.definitions import services_of_files

        bodies = services_of_files(call.arguments)
    else:
        bodies = [_from_flags(call)]
    from cli.output import to_json_line

    for body in bodies:
        try:
            call.send(
                "/v1/agent/service/register", body=to_json_line(body).encode("utf-8", "surrogateescape")
            )
        except TransportError as error:
            raise error.within(f'Error registering service "{body["Name"]}"') from None
        call.out.done(f"Registered service: {body['Name']}", {"Registered": body["Name"]})
    return 0


def _from_flags(call: Call) -> dict[str, Any]:
    addresses = {}
    for name, text in call.pairs("tagged-address").items():
        host, colon, port = text.rpartition(":")
        if not colon:
            raise Usage(f"Invalid Tagged Address: address {text}: missing port in address")
        if not port.isdigit():
            raise Usage(f'Invalid Tagged Address: strconv.Atoi: parsing "{port}": invalid syntax')
        addresses[name] = {"Address": host.strip("[]"), "Port": int(port)}
    body: dict[str, Any] = {
        "Kind": call.text("kind"),
        "ID": call.text("id"),
        "Name": call.text("name"),
        "Tags": call.many("tag"),
        "Meta": call.pairs("meta"),
        "Port": call.number("port"),
        "Address": call.text("address"),
        "SocketPath": call.text("socket"),
        "TaggedAddresses": addresses,
    }
    return {name: value for name, value in body.items() if value or name == "Name"}


def deregister(call: Call) -> int:
    """`services deregister`: by -id, or the services of files."""
    from cli.client import TransportError

    given = call.text("id")
    if not call.arguments and not given:
        raise Usage("Service deregistration requires at least one argument or -id.")
    if call.arguments and given:
        raise Usage("Service deregistration requires arguments or -id, not both.")
    identities = [given]
    if call.arguments:
        from cli.definitions import services_of_files

        identities = [body.get("ID") or body["Name"] for body in services_of_files(call.arguments)]
    for identity in identities:
        try:
            call.send("/v1/agent/service/deregister/" + identity)
        except TransportError as error:
            raise error.within(f'Error deregistering service "{identity}"') from None
        call.out.done(f"Deregistered service: {identity}", {"Deregistered": identity})
    return 0


_LISTING = "Error listing services"
_FILES = Argument("FILE", "Definitions, HCL or JSON.", required=False, many=True, complete="files")
_WATCH = Flag("watch", "bool", "Follow: a live table on a terminal, else the list after every change.")
_BARE = Command(
    "services",
    "List services with the health of their instances",
    list_services,
    flags=(_WATCH,),
    example=("ctl services", "ctl services --watch"),
    server=True,
    failure=_LISTING,
    hidden=True,
)

COMMANDS = (
    _BARE,
    Command(
        "services list",
        _BARE.summary,
        list_services,
        flags=_BARE.flags,
        example=("ctl services", "ctl services list --watch", "ctl services list -o json"),
        server=True,
        failure=_LISTING,
    ),
    Command(
        "services show",
        "Show the instances of a service",
        show,
        arguments=(Argument("NAME", "The service.", complete="services"),),
        flags=(
            Flag("passing", "bool", "Only instances whose checks all pass."),
            Flag("tag", "list", "Only instances with this tag (repeat)."),
            Flag("filter", "string", "Filter expression for the agent."),
        ),
        example=("ctl services show web", "ctl services show -passing web"),
        server=True,
        failure="Error querying service",
    ),
    Command(
        "services register",
        "Register services with the local agent",
        register,
        arguments=(_FILES,),
        flags=(
            Flag("id", "string", "ID; the name when left out."),
            Flag("name", "string", "Name."),
            Flag("address", "string", "Address; the node's when left out."),
            Flag("port", "int", "Port.", default="0"),
            Flag("socket", "string", "Path of a Unix socket.", complete="files"),
            Flag("meta", "map", "Metadata, k=v (repeat)."),
            Flag("tag", "list", "Tag (repeat)."),
            Flag("tagged-address", "map", "lan=ADDRESS:PORT and the like (repeat)."),
            Flag("kind", "string", "Service kind."),
        ),
        example=("ctl services register web.json", "ctl services register -name=db -port=5432 -tag=primary"),
        server=True,
    ),
    Command(
        "services deregister",
        "Take services away from the local agent",
        deregister,
        arguments=(_FILES,),
        flags=(Flag("id", "string", "ID of the service.", complete="services"),),
        example=("ctl services deregister -id=db", "ctl services deregister web.json"),
        server=True,
    ),
)
