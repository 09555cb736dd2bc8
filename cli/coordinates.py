"""`ctl rtt`: how long a packet takes between two nodes, by their network coordinates."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

_FORM = "Node names must be specified as <node name>.<datacenter> with -wan"


def rtt(call: Call) -> int:
    """`rtt A [B]`: B is the agent's own node when left out."""
    if not 1 <= len(call.arguments) <= 2:
        raise Usage("One or two node names must be specified")
    wan = call.yes("wan")
    names = [_split(name) for name in call.arguments] if wan else [("", name) for name in call.arguments]
    if len(names) == 1:
        config = call.fetch("/v1/agent/self")["Config"]
        names.append((config["Datacenter"] if wan else "", config["NodeName"]))
    kind = "WAN" if wan else "LAN"
    first, second = (_wan if wan else _lan)(call, names)
    seconds = distance(first, second)
    shown = [f"{node}.{datacenter}" if datacenter else node for datacenter, node in names]
    call.out.done(
        f"Estimated {shown[0]} <-> {shown[1]} rtt: {seconds * 1000:.3f} ms (using {kind} coordinates)",
        {"Nodes": shown, "Milliseconds": round(seconds * 1000, 6), "Coordinates": kind},
    )
    return 0


def _split(name: str) -> tuple[str, str]:
    """Datacenter and node of a WAN name. A node's name may have dots in it, a datacenter's not."""
    node, dot, datacenter = name.rpartition(".")
    if not dot:
        raise Usage(_FORM)
    return datacenter, node


def _lan(call: Call, names: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The coordinates of two nodes that share a segment, as agents of one pool do."""
    entries = call.fetch("/v1/coordinate/nodes") or []
    found: list[dict[str, dict[str, Any]]] = [{}, {}]
    for entry in entries:
        for place, (_, node) in enumerate(names):
            if entry["Node"] == node:
                found[place][entry.get("Segment") or ""] = entry["Coord"]
    for place, (_, node) in enumerate(names):
        if not found[place]:
            text = f'Could not find a coordinate for node "{node}"'
            raise Failure(text, kind="missing", hint="A new node has none for its first half minute.")
    for segment, coordinate in found[0].items():
        if segment in found[1]:
            return [coordinate, found[1][segment]]
    raise Failure("Could not find coordinates of both nodes in one segment", kind="missing")


def _wan(call: Call, names: list[tuple[str, str]]) -> list[dict[str, Any]]:
    areas = call.fetch("/v1/coordinate/datacenters") or []
    return [_server(areas, datacenter, node) for datacenter, node in names]


def _server(areas: list[dict[str, Any]], datacenter: str, node: str) -> dict[str, Any]:
    name = f"{node}.{datacenter}"
    for area in areas:
        if area["Datacenter"] == datacenter and area.get("AreaID", "wan") == "wan":
            for entry in area["Coordinates"] or ():
                if entry["Node"] in (node, name):  # members of the WAN pool go by the longer name
                    coordinate: dict[str, Any] = entry["Coord"]
                    return coordinate
    raise Failure(f'Could not find a coordinate for node "{name}"', kind="missing")


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Seconds between two Vivaldi coordinates (protocols/gossip.md, network coordinates)."""
    squares = [(a - b) ** 2 for a, b in zip(one["Vec"], other["Vec"], strict=False)]
    raw: float = sum(squares) ** 0.5 + one["Height"] + other["Height"]
    adjusted: float = raw + one["Adjustment"] + other["Adjustment"]
    return adjusted if adjusted > 0 else raw


COMMANDS = (
    Command(
        "rtt",
        "Estimate the round trip time between two nodes",
        rtt,
        arguments=(
            Argument("NODE", "Name of a node.", required=False, complete="nodes"),
            Argument("OTHER", "Another; the agent's own when left out.", required=False, complete="nodes"),
        ),
        flags=(Flag("wan", "bool", "Nodes of the WAN pool, named NODE.DATACENTER."),),
        example=("ctl rtt n1 n2", "ctl rtt -wan n1.dc1 n1.dc2"),
        extra=True,
        failure="Error getting coordinates",
    ),
)
