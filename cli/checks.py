"""`ctl checks`: health checks of the catalog or of the agent, TTL updates, registration."""

from __future__ import annotations

from cli.command import Argument, Command, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

STATES = ("any", "passing", "warning", "critical")


def list_checks(call: Call) -> int:
    """`checks list`: of the catalog, of one service or node, or the local agent's own."""
    from cli.output import Table

    checks = _find(call)
    state = call.text("state", "any")
    if state != "any":
        checks = [check for check in checks if check["Status"] == state]
    rows = []
    for check in checks:
        output = " ".join(check["Output"].split())
        row = [check["Node"], check["CheckID"], check["Status"], check["ServiceID"], check["Name"], output]
        rows.append(row)
    table = Table(("Node", "CheckID", "Status", "Service", "Name", "Output"), rows, keep=("Node", "CheckID"))
    call.out.show(checks, table, [check["CheckID"] for check in checks])
    return 0


def _find(call: Call) -> list[dict[str, Any]]:
    service, node = call.text("service"), call.text("node")
    if call.yes("local"):
        if service or node:
            raise Usage("Error: --local goes with neither --service nor --node")
        own = call.fetch("/v1/agent/checks")
        return [own[name] for name in sorted(own)]
    if service and node:
        raise Usage("Error: give --service or --node, not both")
    path = "/v1/health/state/" + call.text("state", "any")
    if service:
        path = "/v1/health/checks/" + service
    elif node:
        path = "/v1/health/node/" + node
    found: list[dict[str, Any]] = call.fetch(path)
    return found


def passing(call: Call) -> int:
    return _update(call, "pass", "passing")


def warning(call: Call) -> int:
    return _update(call, "warn", "warning")


def failing(call: Call) -> int:
    return _update(call, "fail", "critical")


def _update(call: Call, word: str, state: str) -> int:
    """Set the state of a TTL check."""
    identity = call.argument(0)
    query = [("note", call.text("note"))] if call.text("note") else []
    call.send(f"/v1/agent/check/{word}/{identity}", *query)
    call.out.done(f"Check {identity} is now {state}", {"CheckID": identity, "Status": state})
    return 0


def register(call: Call) -> int:
    """`checks register`: from files, or one check from flags."""
    from cli.client import TransportError
    from cli.output import to_json_line

    described = bool(call.text("name") or call.text("id"))
    if not call.arguments and not described:
        raise Usage("Check registration requires at least one argument or flags.")
    if call.arguments and described:
        raise Usage("Check registration requires arguments or -id, not both.")
    if call.arguments:
        from cli.definitions import checks_of_files

        bodies = checks_of_files(call.arguments)
    else:
        bodies = [_from_flags(call)]
    for body in bodies:
        try:
            call.send("/v1/agent/check/register", body=to_json_line(body).encode("utf-8", "surrogateescape"))
        except TransportError as error:
            raise error.within(f'Error registering check "{body["Name"]}"') from None
        call.out.done(f"Registered check: {body['Name']}", {"Registered": body["Name"]})
    return 0


def _from_flags(call: Call) -> dict[str, Any]:
    """The body of a registration: durations in Go's text, as the API takes them."""
    from core.codec.duration import show

    durations = ("interval", "timeout", "ttl", "deregister-critical-service-after")
    times = {name: show(call.number(name)) if call.number(name) else "" for name in durations}
    body: dict[str, Any] = {
        "ID": call.text("id"),
        "Name": call.text("name") or call.text("id"),
        "ServiceID": call.text("service-id"),
        "Notes": call.text("notes"),
        "Status": call.text("status"),
        "HTTP": call.text("http"),
        "Method": call.text("method"),
        "TCP": call.text("tcp"),
        "UDP": call.text("udp"),
        "GRPC": call.text("grpc"),
        "Args": call.many("arg"),
        "Interval": times["interval"],
        "Timeout": times["timeout"],
        "TTL": times["ttl"],
        "DeregisterCriticalServiceAfter": times["deregister-critical-service-after"],
        "TLSSkipVerify": call.yes("tls-skip-verify"),
    }
    return {name: value for name, value in body.items() if value or name == "Name"}


def deregister(call: Call) -> int:
    identity = call.argument(0)
    call.send("/v1/agent/check/deregister/" + identity)
    call.out.done(f"Deregistered check: {identity}", {"Deregistered": identity})
    return 0


_FLAGS_OF_LIST = (
    Flag("state", "string", "Only checks in this state.", default="any", choices=STATES),
    Flag("service", "string", "Only checks of this service.", complete="services"),
    Flag("node", "string", "Only checks on this node.", complete="nodes"),
    Flag("local", "bool", "The checks that this agent runs, synced or not."),
)
_BARE = Command(
    "checks",
    "List health checks",
    list_checks,
    flags=_FLAGS_OF_LIST,
    example=("ctl checks",),
    server=True,
    failure="Error listing checks",
    hidden=True,
)
_ID = Argument("ID", "The check.", complete="checks")
_NOTE = Flag("note", "string", "Why; becomes the output of the check.")


def _ttl(word: str, state: str, run: Any) -> Command:
    return Command(
        f"checks {word}",
        f"Mark a TTL check {state}",
        run,
        arguments=(_ID,),
        flags=(_NOTE,),
        example=(f"ctl checks {word} -note='seen at noon' service:web",),
        failure="Error updating check",
    )


COMMANDS = (
    _BARE,
    Command(
        "checks list",
        _BARE.summary,
        list_checks,
        flags=_FLAGS_OF_LIST,
        example=("ctl checks list", "ctl checks list --state critical", "ctl checks list --local"),
        server=True,
        failure="Error listing checks",
    ),
    _ttl("pass", "passing", passing),
    _ttl("warn", "warning", warning),
    _ttl("fail", "critical", failing),
    Command(
        "checks register",
        "Register checks with the local agent",
        register,
        arguments=(
            Argument("FILE", "Definitions, HCL or JSON.", required=False, many=True, complete="files"),
        ),
        flags=(
            Flag("id", "string", "ID; the name when left out."),
            Flag("name", "string", "Name."),
            Flag("service-id", "string", "Service that it belongs to; the node when left out."),
            Flag("notes", "string", "Text for people."),
            Flag("status", "string", "State to begin with.", choices=STATES[1:]),
            Flag("http", "string", "URL to get."),
            Flag("method", "string", "HTTP method."),
            Flag("tcp", "string", "host:port to connect to."),
            Flag("udp", "string", "host:port to send to."),
            Flag("grpc", "string", "host:port/service to ask."),
            Flag("arg", "list", "A word of the command to run (repeat)."),
            Flag("interval", "duration", "Time between runs."),
            Flag("timeout", "duration", "Time that one run may take."),
            Flag("ttl", "duration", "Critical unless updated within this time."),
            Flag("deregister-critical-service-after", "duration", "Remove the service after this time."),
            Flag("tls-skip-verify", "bool", "Accept any certificate."),
        ),
        example=(
            "ctl checks register -name=web -http=http://127.0.0.1/ -interval=10s",
            "ctl checks register check.json",
        ),
    ),
    Command(
        "checks deregister",
        "Take a check away from the local agent",
        deregister,
        arguments=(_ID,),
        example=("ctl checks deregister service:web",),
        failure="Error deregistering check",
    ),
)
