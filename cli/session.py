"""`ctl session`: sessions, which hold locks and end when their node, checks or owner do."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call
    from cli.output import Table

_ID_LENGTH = 36


def list_sessions(call: Call) -> int:
    """`session list`: all of them, or those of a node."""
    node = call.text("node")
    sessions = call.fetch("/v1/session/node/" + node if node else "/v1/session/list")
    call.out.show(sessions, _table(sessions), [session["ID"] for session in sessions])
    return 0


def show(call: Call) -> int:
    """`session show`: all that is known of one."""
    from cli.output import Table

    session = _found(call, call.fetch("/v1/session/info/" + _id(call)))
    facts = [
        ["ID", session["ID"]],
        ["Name", session["Name"]],
        ["Node", session["Node"]],
        ["TTL", session["TTL"] or "-"],
        ["LockDelay", _delay(session)],
        ["Behavior", session["Behavior"]],
        ["NodeChecks", ", ".join(session["NodeChecks"] or [])],
        ["ServiceChecks", ", ".join([check["ID"] for check in session["ServiceChecks"] or []])],
        ["CreateIndex", str(session["CreateIndex"])],
        ["ModifyIndex", str(session["ModifyIndex"])],
    ]
    table = Table(("Fact", "Value"), facts, header=False, status=(), keep=("Value",))
    call.out.show(session, table, [session["ID"]])
    return 0


def create(call: Call) -> int:
    """`session create`: prints its id."""
    from cli.output import to_json_line
    from core.codec import duration

    body: dict[str, Any] = {}
    for flag, field in (("name", "Name"), ("node", "Node"), ("behavior", "Behavior")):
        if call.text(flag):
            body[field] = call.text(flag)
    for flag, field in (("ttl", "TTL"), ("lock-delay", "LockDelay")):
        if flag in call.values:
            body[field] = duration.show(call.number(flag))
    if "check" in call.values:
        body["NodeChecks"] = [check for check in call.many("check") if check]
    if "service-check" in call.values:
        body["ServiceChecks"] = [{"ID": check} for check in call.many("service-check")]
    answer = call.send(
        "/v1/session/create", body=to_json_line(body).encode("utf-8", "surrogateescape")
    ).json()
    if call.out.structured:
        call.out.document(answer)
    else:
        call.out.line(answer["ID"])
    return 0


def renew(call: Call) -> int:
    """`session renew`: its whole TTL again."""
    response = call.client.put("/v1/session/renew/" + _id(call), call.query())
    session = _found(call, [] if response.status == 404 else response.checked().json())
    ttl = f" for {session['TTL']}" if session["TTL"] else ", which has no TTL"
    call.out.done(f"Renewed session: {session['ID']}{ttl}", session)
    return 0


def destroy(call: Call) -> int:
    """`session destroy`: give up what it holds."""
    session = _id(call)
    call.send("/v1/session/destroy/" + session)
    call.out.done(f"Destroyed session: {session}", {"Destroyed": session})
    return 0


def _id(call: Call) -> str:
    session = call.argument(0)
    if len(session) != _ID_LENGTH:
        raise Failure(f"Error: not a session id: {session!r} (it has {_ID_LENGTH} characters)", kind="usage")
    return session


def _found(call: Call, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    if not sessions:
        raise Failure(f"Error: no such session: {call.argument(0)}", kind="missing")
    return sessions[0]


def _table(sessions: list[dict[str, Any]]) -> Table:
    from cli.output import Table

    rows = [
        [
            s["ID"],
            s["Node"],
            s["TTL"] or "-",
            _delay(s),
            s["Behavior"],
            ",".join(_checks(s)) or "-",
            s["Name"],
        ]
        for s in sessions
    ]
    columns = ("ID", "Node", "TTL", "LockDelay", "Behavior", "Checks", "Name")
    return Table(columns, rows, status=(), keep=("ID", "Node"))


def _checks(session: dict[str, Any]) -> list[str]:
    of_services = [check["ID"] for check in session["ServiceChecks"] or []]
    return [*(session["NodeChecks"] or []), *of_services]


def _delay(session: dict[str, Any]) -> str:
    from core.codec import duration

    return duration.show(session["LockDelay"])


_SESSION = Argument("SESSION", "Id of the session.", complete="sessions")
_LISTING = "Error listing sessions"
_NODE = Flag("node", "string", "Only those of this node.", complete="nodes")
_BARE = Command(
    "session",
    "List sessions",
    list_sessions,
    flags=(_NODE,),
    example=("ctl session",),
    server=True,
    failure=_LISTING,
    hidden=True,
)

COMMANDS = (
    _BARE,
    Command(
        "session create",
        "Make a session and print its id",
        create,
        flags=(
            Flag("name", "string", "Name for people."),
            Flag(
                "node", "string", "Node that it belongs to; the agent's own when left out.", complete="nodes"
            ),
            Flag(
                "ttl", "duration", "It ends unless renewed within this time, 10s to 24h; never when left out."
            ),
            Flag("lock-delay", "duration", "How long others must wait after it was ended.", default="15s"),
            Flag(
                "behavior",
                "string",
                "What happens to the keys that it holds when it ends.",
                default="release",
                choices=("release", "delete"),
            ),
            Flag(
                "check",
                "list",
                "Check of the node that ends it when critical (repeat); empty: none.",
                default="serfHealth",
                complete="checks",
            ),
            Flag(
                "service-check",
                "list",
                "Check of a service that ends it when critical (repeat).",
                complete="checks",
            ),
        ),
        text="It ends when its node or one of its checks fails, when its TTL passes, or when it is "
        "destroyed. What it held cannot be locked for the lock delay after that.",
        example=(
            "ctl session create --name importer --ttl 30s",
            "ctl kv put --acquire --session $(ctl session create --ttl 30s) jobs/leader me",
        ),
        server=True,
        failure="Error creating session",
    ),
    Command(
        "session list",
        _BARE.summary,
        list_sessions,
        flags=(_NODE,),
        example=("ctl session list", "ctl session list --node n1 -o json"),
        server=True,
        failure=_LISTING,
    ),
    Command(
        "session show",
        "Show a session",
        show,
        arguments=(_SESSION,),
        example=("ctl session show 9b1a9b5e-6f0c-4bd0-8c0c-7f4de4c6b3a1",),
        server=True,
        failure="Error querying session",
    ),
    Command(
        "session renew",
        "Give a session its whole TTL again",
        renew,
        arguments=(_SESSION,),
        example=("ctl session renew 9b1a9b5e-6f0c-4bd0-8c0c-7f4de4c6b3a1",),
        server=True,
        failure="Error renewing session",
    ),
    Command(
        "session destroy",
        "End a session and give up what it holds",
        destroy,
        arguments=(_SESSION,),
        text="Nothing happens when it is gone already.",
        example=("ctl session destroy 9b1a9b5e-6f0c-4bd0-8c0c-7f4de4c6b3a1",),
        server=True,
        failure="Error destroying session",
    ),
)
