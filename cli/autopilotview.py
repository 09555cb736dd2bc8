"""How autopilot's knowledge is shown: Consul's layout of its state, and a table of the servers' health."""

from __future__ import annotations

from cli.output import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIELDS = (
    ("Name", "Name"),
    ("Address", "Address"),
    ("Version", "Version"),
    ("Status", "Status"),
    ("Node Type", "NodeType"),
    ("Node Status", "NodeStatus"),
    ("Healthy", "Healthy"),
    ("Last Contact", "LastContact"),
    ("Last Term", "LastTerm"),
    ("Last Index", "LastIndex"),
)


def state_text(state: dict[str, Any]) -> str:
    """The cluster, its voters, then every server by id."""
    lines = [
        f"Healthy:                      {_text(state['Healthy'])}",
        f"Failure Tolerance:            {state['FailureTolerance']}",
        f"Optimistic Failure Tolerance: {state.get('OptimisticFailureTolerance', 0)}",
        f"Leader:                       {state['Leader']}",
        "Voters:",
        *(f"   {identity}" for identity in state["Voters"] or ()),
    ]
    replicas = state.get("ReadReplicas")
    if replicas:
        lines += ["Read Replicas:", *(f"   {identity}" for identity in replicas)]
    lines.append("Servers:")
    servers = state["Servers"] or {}
    for identity in sorted(servers):
        lines += [f"   {identity}", *_server(servers[identity])]
    return "\n".join(lines) + "\n\n"


def _server(server: dict[str, Any]) -> list[str]:
    lines = [f"      {label + ':':<17}{_text(server.get(name, ''))}" for label, name in _FIELDS]
    meta = server.get("Meta")
    if meta:
        lines += ["      Meta", *(f'         "{name}": "{meta[name]}"' for name in sorted(meta))]
    return lines


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def health_table(servers: list[dict[str, Any]]) -> Table:
    """One row a server: what autopilot goes by."""
    rows = [
        [
            server["Name"],
            server["Address"],
            server["SerfStatus"],
            "healthy" if server["Healthy"] else "unhealthy",
            "leader" if server["Leader"] else "voter" if server["Voter"] else "non-voter",
            _milliseconds(server["LastContact"]),
            str(server["LastTerm"]),
            str(server["LastIndex"]),
        ]
        for server in servers
    ]
    columns = ("Node", "Address", "Gossip", "Health", "Role", "LastContact", "Term", "Index")
    return Table(columns, rows, status=("Gossip", "Health"), keep=("Node", "Address"))


def _milliseconds(text: str) -> str:
    """A duration without the digits that nobody looks at: `16ms` for `16.029391ms`."""
    from core.codec import duration

    try:
        exact = duration.parse(text)
    except ValueError:
        return text
    return duration.show(round(exact, -6))
