"""`ctl operator`: the servers that Raft counts, and autopilot. `ctl raft peers` is a short name."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call
    from cli.output import Table

WIDE = 100  # columns of a terminal that has room for whole ids


def list_peers(call: Call) -> int:
    """`raft list-peers`. On a terminal with what gossip thinks of each beside it."""
    servers = call.fetch("/v1/operator/raft/configuration")["Servers"]
    from cli.output import Table

    columns = ("Node", "ID", "Address", "State", "Voter", "RaftProtocol")
    table = Table(columns, [_peer(server) for server in servers], keep=("Node", "ID", "Address"))
    wide = _beside_gossip(call, servers) if call.out.format == "table" else None
    call.out.show(servers, table, [server["Node"] for server in servers], wide)
    return 0


def _peer(server: dict[str, Any]) -> list[str]:
    state = "leader" if server["Leader"] else "follower"
    voter = "true" if server["Voter"] else "false"
    protocol = str(server.get("ProtocolVersion") or "<=1")
    return [server["Node"], server["ID"], server["Address"], state, voter, protocol]


def _beside_gossip(call: Call, servers: list[dict[str, Any]]) -> Table | None:
    """Peers with what gossip says of them, and a row for each server that is a member but no peer. None
    when this agent cannot say: another datacenter was asked for, or the token may not."""
    from cli.client import TransportError
    from cli.members import STATES
    from cli.output import Table
    from cli.terminal import width

    if call.text("datacenter"):
        return None
    try:
        members = call.fetch("/v1/agent/members")
    except TransportError:
        return None
    known = {m["Tags"].get("id", ""): m for m in members if m["Tags"].get("role") == "consul"}
    rows = []
    for server in servers:
        member = known.pop(server["ID"], None)
        rows.append([*_peer(server)[:5], STATES[member["Status"]] if member else "no member"])
    for identity, member in known.items():
        if STATES[member["Status"]] != "left":
            address = f"{member['Addr']}:{member['Tags'].get('port', '')}"
            rows.append([member["Name"], identity, address, "no peer", "", STATES[member["Status"]]])
    if width() < WIDE:
        rows = [[row[0], row[1][:8], *row[2:]] for row in rows]
    columns = ("Node", "ID", "Address", "State", "Voter", "Gossip")
    return Table(columns, rows, status=("State", "Gossip"), keep=("Node", "ID", "Address"))


def remove_peer(call: Call) -> int:
    """`raft remove-peer`: by id or by address."""
    address, identity = call.text("address"), call.text("id")
    if not address and not identity:
        raise Usage("Error removing peer: an address or id is required for the peer to remove")
    if address and identity:
        raise Usage("Error removing peer: cannot give both an address and id")
    what = ("address", address) if address else ("id", identity)
    call.client.request("DELETE", "/v1/operator/raft/peer", call.query(what)).checked()
    call.out.done(f'Removed peer with {what[0]} "{what[1]}"', {"Removed": what[1]})
    return 0


def transfer_leader(call: Call) -> int:
    query = call.query(("id", call.text("id"))) if call.text("id") else call.query()
    answer = call.client.request("POST", "/v1/operator/raft/transfer-leader", query).checked().json()
    if not answer.get("Success"):
        raise Failure("Error transferring leadership: the leader has not said why")
    call.out.done("Success", answer)
    return 0


def recover(call: Call) -> int:
    from cli.recover import recover as do

    return do(call)


_SETTINGS = (
    "CleanupDeadServers",
    "LastContactThreshold",
    "MaxTrailingLogs",
    "MinQuorum",
    "ServerStabilizationTime",
    "RedundancyZoneTag",
    "DisableUpgradeMigration",
    "UpgradeVersionTag",
)
_QUOTED = ("RedundancyZoneTag", "UpgradeVersionTag")


def get_config(call: Call) -> int:
    """`autopilot get-config`: one setting a line."""
    config = call.fetch("/v1/operator/autopilot/configuration")
    if call.out.structured:
        call.out.document(config)
        return 0
    for name in _SETTINGS:
        value = config.get(name, "" if name in _QUOTED else 0)
        if name in _QUOTED:
            text = f'"{value}"'
        elif isinstance(value, bool):
            text = str(value).lower()
        else:
            text = str(value)
        call.out.line(f"{name} = {text}")
    return 0


def set_config(call: Call) -> int:
    """`autopilot set-config`: what is not given stays. A change by somebody else in between is refused."""
    from cli.client import TransportError
    from cli.output import to_json_line

    config = call.fetch("/v1/operator/autopilot/configuration")
    for flag, name in (
        ("cleanup-dead-servers", "CleanupDeadServers"),
        ("max-trailing-logs", "MaxTrailingLogs"),
        ("min-quorum", "MinQuorum"),
        ("redundancy-zone-tag", "RedundancyZoneTag"),
        ("disable-upgrade-migration", "DisableUpgradeMigration"),
        ("upgrade-version-tag", "UpgradeVersionTag"),
    ):
        if flag in call.values:
            config[name] = call.values[flag]
    for flag, name in (
        ("last-contact-threshold", "LastContactThreshold"),
        ("server-stabilization-time", "ServerStabilizationTime"),
    ):
        if flag in call.values:
            from core.codec.duration import show

            config[name] = show(call.number(flag))
    index = config.get("ModifyIndex", 0)
    path = "/v1/operator/autopilot/configuration"
    try:
        answer = call.send(path, ("cas", str(index)), body=to_json_line(config).encode())
    except TransportError as error:
        raise error.within("Error setting Autopilot configuration") from None
    if answer.body.strip() != b"true":
        text = "Configuration could not be atomically updated, please try again"
        raise Failure(text, kind="conflict")
    call.out.done("Configuration updated!", config)
    return 0


def state(call: Call) -> int:
    """`autopilot state`: all that autopilot knows."""
    found = call.fetch("/v1/operator/autopilot/state")
    if call.out.structured:
        call.out.document(found)
        return 0
    from cli.autopilotview import state_text

    call.out.write(state_text(found))
    return 0


def health(call: Call) -> int:
    """`autopilot health`: one row a server; exit code 1 when the cluster is not healthy."""
    response = call.get("/v1/operator/autopilot/health")
    if response.status != 429:  # which is how an unhealthy cluster is told
        response.checked()
    found = response.json()
    from cli.autopilotview import health_table

    servers = found["Servers"] or []
    call.out.show(found, health_table(servers), [server["Name"] for server in servers])
    if not (call.out.structured or call.out.quiet):
        verdict = "healthy" if found["Healthy"] else "NOT healthy"
        call.out.line(f"The cluster is {verdict}. Failure tolerance: {found['FailureTolerance']}")
    return 0 if found["Healthy"] else 1


def usage(call: Call) -> int:
    """`usage instances`: services and instances, of one datacenter or of all."""
    if call.yes("billable") and call.yes("connect"):
        raise Usage("Cannot specify both -billable and -connect flags")
    from cli import usageview

    found = usageview.fetch(call)
    if call.out.structured:
        call.out.document({"Usage": found})
    else:
        every = call.yes("all-datacenters")
        call.out.write(usageview.text(found, call.yes("billable"), call.yes("connect"), every))
    return 0


COMMANDS = (
    Command(
        "operator raft list-peers",
        "List the servers that Raft counts",
        list_peers,
        text="On a terminal the last column says what gossip thinks of each server, and servers that are\n"
        "members but no peers have a row too.",
        example=("ctl operator raft list-peers", "ctl operator raft list-peers -stale -o json"),
        server=True,
        extra=True,
        failure="Error getting peers: Failed to retrieve raft configuration",
    ),
    Command(
        "operator raft remove-peer",
        "Make Raft forget a server that is gone for good",
        remove_peer,
        flags=(
            Flag("id", "string", "Id of the server."),
            Flag("address", "string", "Its address, host:port."),
        ),
        example=("ctl operator raft remove-peer -id=dab3cf9b-f050-279c-ae6c-f0d96bb72f1c",),
        server=True,
        extra=True,
        failure="Error removing peer",
    ),
    Command(
        "operator raft transfer-leader",
        "Hand leadership to another server",
        transfer_leader,
        flags=(Flag("id", "string", "Id of that server; the most advanced one when left out."),),
        example=("ctl operator raft transfer-leader",),
        server=True,
        failure="Error transferring leadership",
    ),
    Command(
        "operator raft recover",
        "Get a cluster back that has lost the majority of its servers",
        recover,
        arguments=(
            Argument("DIR", "Data directory of a server that is stopped.", many=True, complete="files"),
        ),
        flags=(
            Flag("address", "list", "RPC address of a server that will start again, ID=HOST:PORT (repeat)."),
            Flag("yes", "bool", "Write without asking."),
        ),
        text="For when most servers are lost for good; while they can come back, start them instead. Stop\n"
        "all servers, bring the data directories that are left to one machine (or give the servers of the\n"
        "others with -address), and this shows how far each has come and writes peers.json, which the\n"
        "servers read at their next start. Writes that only the lost servers had are gone.",
        example=(
            "ctl operator raft recover /var/lib/ctl",
            "ctl operator raft recover --yes /backup/s1 /backup/s2",
        ),
        connects=False,
    ),
    Command(
        "operator autopilot get-config",
        "Show the settings of autopilot",
        get_config,
        example=("ctl operator autopilot get-config",),
        server=True,
        extra=True,
        failure="Error querying Autopilot configuration",
    ),
    Command(
        "operator autopilot set-config",
        "Change settings of autopilot",
        set_config,
        flags=(
            Flag("cleanup-dead-servers", "bool", "Whether dead servers are dropped when a new one comes."),
            Flag("max-trailing-logs", "uint", "A server is unhealthy when this many entries behind."),
            Flag("min-quorum", "uint", "Never drop servers below this many."),
            Flag("last-contact-threshold", "duration", "A server is unhealthy when silent for longer."),
            Flag("server-stabilization-time", "duration", "Healthy for so long before it votes."),
            Flag("redundancy-zone-tag", "string", "Enterprise.", hidden=True),
            Flag("disable-upgrade-migration", "bool", "Enterprise.", hidden=True),
            Flag("upgrade-version-tag", "string", "Enterprise.", hidden=True),
        ),
        example=("ctl operator autopilot set-config -cleanup-dead-servers=false",),
        server=True,
        extra=True,
        failure="Error querying Autopilot configuration",
    ),
    Command(
        "operator autopilot state",
        "Show all that autopilot knows of the servers",
        state,
        example=("ctl operator autopilot state", "ctl operator autopilot state -o json"),
        server=True,
        extra=True,
        failure="Error querying Autopilot state",
    ),
    Command(
        "operator autopilot health",
        "Show the health of the servers; exit code 1 when something is wrong",
        health,
        example=("ctl operator autopilot health",),
        server=True,
        failure="Error reading Autopilot health",
    ),
    Command(
        "operator usage instances",
        "Count services and their instances",
        usage,
        flags=(
            Flag("billable", "bool", "Only what is no part of a mesh and no server."),
            Flag("connect", "bool", "Only what is part of a mesh."),
            Flag("all-datacenters", "bool", "Of every datacenter."),
        ),
        example=("ctl operator usage instances", "ctl operator usage instances -all-datacenters -o json"),
        server=True,
        failure="Error fetching usage information",
    ),
    Command(
        "raft peers",
        "List the servers that Raft counts, as `operator raft list-peers`",
        list_peers,
        example=("ctl raft peers",),
        server=True,
        failure="Error getting peers: Failed to retrieve raft configuration",
    ),
)
