"""Who is in the cluster: `members`, `join`, `leave`, `force-leave`."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cli.call import Call

STATES = ("none", "alive", "leaving", "left", "failed")


def members(call: Call) -> int:
    """`members`: one row a member, sorted by segment and name. Exit code 2 when there is none."""
    wanted = _status_filter(call.text("status", ".*"))
    query = [("segment", call.text("segment", "_all"))]
    if call.yes("wan"):
        query.append(("wan", "1"))
    if call.text("filter"):
        query.append(("filter", call.text("filter")))
    found = [member for member in call.fetch("/v1/agent/members", *query) if wanted(_state(member))]
    if not found:
        if call.out.format == "table" and not call.out.quiet:
            from cli.call import note

            note("No member matches.")
        return 2
    rows = sorted([(_segment(member), member["Name"], member) for member in found], key=lambda row: row[:2])
    ordered = [member for _, _, member in rows]

    from cli.output import Table

    if call.yes("detailed"):
        columns = ["Node", "Address", "Status", "Tags"]
        lines = [[m["Name"], _address(m), _state(m), _tags(m)] for m in ordered]
    else:
        columns = ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"]
        lines = [_row(member) for member in ordered]
    keep = ("Node", "Address", "Type")
    wide = None
    if any(_rpc(member) not in ("", "ok") for member in ordered):
        rows_with_rpc = [
            [*line[:3], _rpc(member).partition(":")[0], *line[3:]]
            for line, member in zip(lines, ordered, strict=True)
        ]
        wide = Table([*columns[:3], "RPC", *columns[3:]], rows_with_rpc, status=("Status", "RPC"), keep=keep)
    call.out.show(ordered, Table(columns, lines, keep=keep), [member["Name"] for member in ordered], wide)
    _tell_of_rpc(ordered)
    return 0


def _rpc(member: dict[str, Any]) -> str:
    """What this agent knows of RPC to a server: `ok`, `failed: REASON`, or nothing."""
    return str((member.get("Ctl") or {}).get("RPC", ""))


def _tell_of_rpc(members: list[dict[str, Any]]) -> None:
    """Members that gossip calls alive look well while no call reaches them: say so, beside the table
    that scripts read."""
    import sys

    from cli.call import note

    sys.stdout.flush()
    unreachable = [m for m in members if _state(m) == "alive" and _rpc(m) not in ("", "ok")]
    for member in unreachable:
        reason = _rpc(member).partition(":")[2].strip() or _rpc(member)
        note(f"{member['Name']}: alive in gossip, but calls from this agent fail: {reason}")
    if unreachable:
        note("`ctl doctor` says which side, which rule and what to change.")


def _row(member: dict[str, Any]) -> list[str]:
    tags = member["Tags"]
    kind = {"node": "client", "consul": "server"}.get(tags.get("role", ""), "unknown")
    start = [member["Name"], _address(member), _state(member), kind]
    if kind == "unknown":
        return [*start, "", "", "", ""]
    build = tags.get("build", "").partition(":")[0] or "< 0.3"
    return [*start, build, tags.get("vsn", ""), tags.get("dc", ""), _segment(member)]


def _address(member: dict[str, Any]) -> str:
    host = member["Addr"]
    return f"[{host}]:{member['Port']}" if ":" in host else f"{host}:{member['Port']}"


def _state(member: dict[str, Any]) -> str:
    number = member["Status"]
    return STATES[number] if 0 <= number < len(STATES) else f"unknown status: {number}"


def _segment(member: dict[str, Any]) -> str:
    tags = member["Tags"]
    segment: str = tags.get("segment", "")
    if segment == "_all" or (not segment and tags.get("role") == "consul"):
        return "<all>"
    return segment or "<default>"


def _tags(member: dict[str, Any]) -> str:
    tags = {**member["Tags"], "segment": _segment(member)}
    return ",".join([f"{name}={tags[name]}" for name in sorted(tags)])


def _status_filter(pattern: str) -> Callable[[str], bool]:
    if pattern == ".*":
        return lambda state: True
    return compiled(pattern, "Failed to compile status regexp")


def compiled(pattern: str, failure: str) -> Callable[[str], bool]:
    """What a regular expression finds, as Go reads it. Usage begins with `failure`."""
    from core.codec.regex import RegexError, compile

    try:
        return compile(pattern)
    except RegexError as error:
        raise Usage(f"{failure}: {error}") from None


def join(call: Call) -> int:
    """`join`: each address in turn. One that works is enough."""
    from cli.call import note
    from cli.client import TransportError

    query = [("wan", "1")] if call.yes("wan") else []
    joined, kind = 0, ""
    problems = []
    for address in call.arguments:
        try:
            call.send("/v1/agent/join/" + address, *query)
            joined += 1
        except TransportError as error:
            problems.append(f"Error joining address '{address}': {error}")
            kind = error.kind
    if joined:
        call.out.done(
            f"Successfully joined cluster by contacting {joined} nodes.",
            {"Joined": joined, "Errors": problems},
        )
    for problem in problems:
        note(problem)
    if not joined:
        raise Failure("Failed to join any nodes.", kind=kind)
    return 0


def leave(call: Call) -> int:
    call.send("/v1/agent/leave", *([("yes-destroy-quorum", "1")] if call.yes("yes-destroy-quorum") else []))
    call.out.done("Graceful leave complete", {"Left": True})
    return 0


def force_leave(call: Call) -> int:
    """`force-leave`: says nothing when it worked, as Consul."""
    query = [("prune", "1")] if call.yes("prune") else []
    if call.yes("wan"):
        query.append(("wan", "1"))
    call.send("/v1/agent/force-leave/" + call.argument(0), *query)
    return 0


_ONE_NODE = "A single node name must be specified to force leave."
_WAN = Flag("wan", "bool", "The WAN pool instead of the LAN one.")

COMMANDS = (
    Command(
        "members",
        "List the members of the cluster",
        members,
        flags=(
            Flag("detailed", "bool", "Show all tags."),
            _WAN,
            Flag("status", "string", "Regular expression on the status.", default=".*"),
            Flag("segment", "string", "Network segment.", default="_all"),
            Flag("filter", "string", "Filter expression for the agent."),
        ),
        text="Membership is what gossip believes now; use health checks and locks for decisions.",
        example=("ctl members", "ctl members -status=failed", "ctl members -o json"),
        extra=True,
        failure="Error retrieving members",
    ),
    Command(
        "join",
        "Make the agent join a cluster",
        join,
        arguments=(
            Argument(
                "ADDRESS",
                "Address of any member.",
                many=True,
                missing="At least one address to join must be specified.",
                show_usage=True,
            ),
        ),
        flags=(_WAN,),
        example=("ctl join 10.0.0.2", "ctl join -wan dc2.example.com"),
    ),
    Command(
        "leave",
        "Leave the cluster gracefully and stop the agent",
        leave,
        flags=(Flag("yes-destroy-quorum", "bool", "Leave also when the servers that stay cannot go on."),),
        example=("ctl leave", "ctl leave --yes-destroy-quorum"),
        failure="Error leaving",
    ),
    Command(
        "force-leave",
        "Push a failed member to the left state",
        force_leave,
        arguments=(Argument("NODE", "Name of the member.", missing=_ONE_NODE, complete="nodes"),),
        surplus=_ONE_NODE,
        flags=(Flag("prune", "bool", "Remove it from the list at once."), _WAN),
        example=("ctl force-leave n3", "ctl force-leave -prune n3"),
        failure="Error force leaving",
    ),
)
