"""`ctl query`: prepared queries, made, shown and executed; and Serf queries, which ask the agents
themselves."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

Query = dict[str, "Any"]

_TEMPLATE = "name_prefix_match"


def list_(call: Call) -> int:
    """`query list`: by name."""
    from cli.output import Table

    queries = sorted(call.fetch("/v1/query") or [], key=lambda query: (query["Name"], query["ID"]))
    columns = ("Name", "Service", "Tags", "Failover", "TTL", "Kind", "ID")
    table = Table(columns, [_row(query) for query in queries], keep=("Name", "ID"))
    call.out.show(queries, table, [query["Name"] or query["ID"] for query in queries])
    return 0


def _row(query: Query) -> list[str]:
    service = query["Service"]
    kind = "template" if query["Template"]["Type"] else "session" if query["Session"] else "query"
    tags = ",".join(service["Tags"] or ())
    return [
        query["Name"],
        service["Service"],
        tags,
        _failover(service),
        query["DNS"]["TTL"],
        kind,
        query["ID"],
    ]


def _failover(service: Query) -> str:
    """Where it looks when there is nothing here, in order."""
    failover = service["Failover"]
    places = [f"nearest {failover['NearestN']}"] if failover["NearestN"] else []
    places += failover["Datacenters"] or ()
    places += [target["Datacenter"] for target in failover.get("Targets") or ()]
    return ", ".join(places)


def show(call: Call) -> int:
    """`query show`: all that a query says."""
    from cli.output import Table

    query = _one(call, call.argument(0))
    rows = [[field, value] for field, value in _told(query) if value]
    call.out.show(query, Table(("Field", "Value"), rows, header=False), [query["ID"]])
    return 0


def _told(query: Query) -> list[tuple[str, str]]:
    service, template = query["Service"], query["Template"]
    health = "passing" if service["OnlyPassing"] else "passing or warning"
    return [
        ("ID", query["ID"]),
        ("Name", query["Name"]),
        ("Session", query["Session"]),
        ("Token", query["Token"]),
        ("Template", template["Type"]),
        ("Regexp", template["Regexp"]),
        ("Empty tags", "removed" if template["RemoveEmptyTags"] else ""),
        ("Service", service["Service"]),
        ("Health", health),
        ("Ignored checks", ", ".join(service["IgnoreCheckIDs"] or ())),
        ("Tags", ", ".join(service["Tags"] or ())),
        ("Node metadata", _pairs(service["NodeMeta"])),
        ("Service metadata", _pairs(service["ServiceMeta"])),
        ("Mesh", "mesh-capable instances only" if service["Connect"] else ""),
        ("Near", service["Near"]),
        ("Failover", _failover(service)),
        ("DNS TTL", query["DNS"]["TTL"]),
        ("CreateIndex", str(query["CreateIndex"])),
        ("ModifyIndex", str(query["ModifyIndex"])),
    ]


def _pairs(meta: dict[str, str] | None) -> str:
    return ", ".join([f"{key}={value}" for key, value in (meta or {}).items()])


def _one(call: Call, name: str) -> Query:
    """The query of that name, or id."""
    queries: list[Query] = call.fetch("/v1/query") or []
    for query in queries:
        if name.lower() in (query["Name"].lower(), query["ID"].lower()):
            return query
    if len(name) == 36:  # one without a name is shown to whoever knows its id
        answer = call.get("/v1/query/" + name)
        if answer.status == 200:
            found: Query = answer.json()[0]
            return found
    raise _missing(name)


def _missing(name: str) -> Failure:
    return Failure(f"Error: no query {name}", kind="missing", hint="`ctl query list` shows them.")


def create(call: Call) -> int:
    """`query create`: from flags, or from a file as Consul's API takes it."""
    from cli.client import TransportError
    from cli.output import to_json_line

    query = _from_file(call) if call.text("file") else _from_flags(call)
    body = to_json_line(query).encode("utf-8", "surrogateescape")
    existing = _of_name(call, query.get("Name", "")) if call.yes("replace") else ""
    try:
        if existing:
            call.send("/v1/query/" + existing, body=body)
            made = existing
        else:
            made = call.client.request("POST", "/v1/query", call.query(), body).checked().json()["ID"]
    except TransportError as error:
        raise error.within("Error creating query") from None
    if call.out.quiet:
        call.out.line(made)
    else:
        word = "Replaced" if existing else "Created"
        call.out.done(f"{word} query: {made}", {"ID": made})
    return 0


def _of_name(call: Call, name: str) -> str:
    for query in call.fetch("/v1/query") or []:
        if name and query["Name"].lower() == name.lower():
            identity: str = query["ID"]
            return identity
    return ""


def _from_file(call: Call) -> Query:
    from cli.kv import read_data
    from cli.wire import decode_json

    if call.arguments or call.text("service"):
        raise Usage("Error: a query comes from a file or from flags, not from both")
    place = call.text("file")
    try:
        query = decode_json(read_data(place if place == "-" else "@" + place))
    except ValueError as error:
        raise Failure(f"Error: {place} is not JSON: {error}") from None
    if not isinstance(query, dict):
        raise Failure(f"Error: {place} holds no query: it must be one JSON object")
    return {name: value for name, value in query.items() if name not in ("ID", "CreateIndex", "ModifyIndex")}


def _from_flags(call: Call) -> Query:
    if not call.text("service"):
        raise Usage("Error: -service is missing: the service that the query looks for")
    failover: Query = {"NearestN": call.number("failover-nearest"), "Datacenters": call.many("failover-dc")}
    service: Query = {
        "Service": call.text("service"),
        "Tags": call.many("tag"),
        "OnlyPassing": call.yes("only-passing"),
        "IgnoreCheckIDs": call.many("ignore-check"),
        "Near": call.text("near"),
        "NodeMeta": call.pairs("node-meta"),
        "ServiceMeta": call.pairs("meta"),
        "Connect": call.yes("connect"),
        "Failover": _given(failover),
    }
    template: Query = {}
    if call.yes("template") or call.text("regexp"):
        template = {
            "Type": _TEMPLATE,
            "Regexp": call.text("regexp"),
            "RemoveEmptyTags": call.yes("drop-empty-tags"),
        }
    query = {
        "Name": call.argument(0),
        "Session": call.text("session"),
        "Token": call.text("query-token"),
        "Service": _given(service),
        "DNS": _given({"TTL": _duration(call, "ttl")}),
        "Template": _given(template),
    }
    return _given(query)


def _duration(call: Call, flag: str) -> str:
    """A duration as Go writes it, `` when it was not given."""
    from core.codec import duration

    return duration.show(call.number(flag)) if call.number(flag) else ""


def _given(fields: Query) -> Query:
    return {name: value for name, value in fields.items() if value}


def delete(call: Call) -> int:
    """`query delete`."""
    from cli.client import TransportError

    query = _one(call, call.argument(0))
    try:
        call.client.request("DELETE", "/v1/query/" + query["ID"], call.query()).checked()
    except TransportError as error:
        raise error.within("Error deleting query") from None
    shown = query["Name"] or query["ID"]
    call.out.done(f"Deleted query: {shown}", {"Deleted": query["ID"]})
    return 0


def execute(call: Call) -> int:
    """`query exec`: the instances that a query finds, in its order."""
    from cli.call import note
    from cli.output import Table
    from cli.services import worst

    name = call.argument(0)
    wanted = [("near", call.text("near"))] if call.text("near") else []
    if call.number("limit"):
        wanted.append(("limit", str(call.number("limit"))))
    if call.yes("connect"):
        wanted.append(("connect", "true"))
    found = _answer(call, f"/v1/query/{name}/execute", name, *wanted)
    rows = []
    for entry in found["Nodes"]:
        node, service = entry["Node"], entry["Service"]
        address = service["Address"] or node["Address"]
        place, tags = f"{address}:{service['Port']}", ",".join(service["Tags"] or ())
        rows.append([node["Node"], service["ID"], place, worst(entry["Checks"]), tags])
    if not rows and not call.out.structured:
        raise Failure(f"Error: query {name} finds no instance of {found['Service']}", kind="missing")
    if found["Failovers"] and not call.out.structured:
        note(f"These are of datacenter {found['Datacenter']}: nearer ones have none.")
    table = Table(("Node", "ID", "Address", "Status", "Tags"), rows, keep=("Node", "ID", "Address"))
    call.out.show(found, table, [row[2] for row in rows])
    return 0


def _answer(call: Call, path: str, name: str, *wanted: tuple[str, str]) -> Query:
    answer = call.get(path, *wanted)
    if answer.status == 404:
        raise _missing(name)
    document: Query = answer.checked().json()
    return document


def explain(call: Call) -> int:
    """`query explain`: the query that a name stands for, templates filled in."""
    from cli.output import Table

    name = call.argument(0)
    query = _answer(call, f"/v1/query/{name}/explain", name)["Query"]
    rows = [[field, value] for field, value in _told(query) if value]
    call.out.show(query, Table(("Field", "Value"), rows, header=False), [query["ID"]])
    return 0


def send(call: Call) -> int:
    """`query send`: acks and answers as they come."""
    from cli.querysend import send

    return send(call)


_NAME = Argument("NAME", "Name or id of a query.")
_SHOWN = "Error reading queries"

COMMANDS = (
    Command(
        "query list",
        "List prepared queries",
        list_,
        example=("ctl query list", "ctl query list -o json"),
        server=True,
        failure=_SHOWN,
    ),
    Command(
        "query show",
        "Show a prepared query",
        show,
        arguments=(_NAME,),
        example=("ctl query show geo-db",),
        server=True,
        failure=_SHOWN,
    ),
    Command(
        "query create",
        "Store a prepared query",
        create,
        arguments=(Argument("NAME", "Name that it is asked for by, in DNS too.", required=False),),
        flags=(
            Flag("service", "string", "Service to look for.", complete="services"),
            Flag("tag", "list", "Only instances with this tag, or with ! before it without (repeat)."),
            Flag("only-passing", "bool", "Only instances whose checks all pass."),
            Flag("ignore-check", "list", "ID of a check that does not count (repeat)."),
            Flag("near", "string", "Nearest first: to a node, _agent or _ip.", complete="nodes"),
            Flag("node-meta", "map", "Metadata that the node must have, k=v (repeat)."),
            Flag("meta", "map", "Metadata that the service must have, k=v (repeat)."),
            Flag("connect", "bool", "Only mesh-capable instances."),
            Flag("failover-nearest", "int", "Look in so many nearest datacenters next.", default="0"),
            Flag("failover-dc", "list", "Look in this datacenter next (repeat).", complete="datacenters"),
            Flag("ttl", "duration", "TTL of its DNS records."),
            Flag("session", "string", "The query ends with this session."),
            Flag("query-token", "string", "ACL secret that it looks with, instead of the asking one's."),
            Flag("template", "bool", "Answer for all names that begin with NAME."),
            Flag("regexp", "string", "A template's expression, whose groups are ${match(N)}."),
            Flag("drop-empty-tags", "bool", "Remove tags that a template leaves empty."),
            Flag(
                "file", "string", "Read the query from a JSON file, - for standard input.", complete="files"
            ),
            Flag("replace", "bool", "Replace the query of this name, if there is one."),
        ),
        text="In a template ${name.full}, ${name.prefix}, ${name.suffix}, ${match(N)} and ${agent.segment}\n"
        "are filled in, in every text of the service that it looks for.",
        example=(
            "ctl query create geo-db -service=mysql -failover-nearest=2 -failover-dc=dc3 -ttl=10s",
            "ctl query create -template geo- '-service=${name.suffix}' -only-passing",
            "ctl query create -file=query.json --replace",
        ),
        server=True,
    ),
    Command(
        "query delete",
        "Delete a prepared query",
        delete,
        arguments=(_NAME,),
        example=("ctl query delete geo-db",),
        server=True,
    ),
    Command(
        "query exec",
        "Execute a prepared query",
        execute,
        arguments=(_NAME,),
        flags=(
            Flag("near", "string", "Nearest first: to a node, _agent or _ip.", complete="nodes"),
            Flag("limit", "int", "At most so many instances.", default="0"),
            Flag("connect", "bool", "Only mesh-capable instances."),
        ),
        example=("ctl query exec geo-db", "ctl query exec geo-db -near=_agent -limit=1 --quiet"),
        server=True,
        failure="Error executing query",
    ),
    Command(
        "query explain",
        "Show what a template makes of a name",
        explain,
        arguments=(Argument("NAME", "The name that would be asked for."),),
        example=("ctl query explain geo-mysql",),
        server=True,
        failure="Error explaining query",
    ),
    Command(
        "query send",
        "Ask the agents of the gossip pool, and print answers as they come",
        send,
        arguments=(
            Argument("NAME", "Name of the query."),
            Argument(
                "PAYLOAD", "What to send along; @file is read, - is the standard input.", required=False
            ),
        ),
        flags=(
            Flag("node", "list", "Only the node of this name (repeat).", complete="nodes"),
            Flag("tag", "list", "Only nodes whose tag matches, KEY=REGEXP (repeat)."),
            Flag("timeout", "duration", "How long to wait; by the size of the cluster when left out."),
            Flag("no-ack", "bool", "Do not ask who has received it."),
            Flag("relay-factor", "int", "Have answers come by so many other nodes, too.", default="0"),
        ),
        text="Who answers are the event handlers of Serf agents, and what listens for queries beside an\n"
        "agent; `ctl query send _serf_ping` only shows who is reached.",
        example=("ctl query send load", "ctl query send -tag=role=web -timeout=5s uptime -o json"),
        failure="Error sending query",
    ),
)
