"""Looking after one agent: `info`, `reload`, `maint`, `monitor`, `validate`."""

from __future__ import annotations

import sys

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call


def info(call: Call) -> int:
    """`info`: the agent's counters, in sections."""
    stats = call.fetch("/v1/agent/self").get("Stats") or {}
    if call.out.structured:
        call.out.document(stats)
        return 0
    for section in sorted(stats):
        call.out.line(f"{section}:")
        if not call.out.quiet:
            call.out.write(
                "".join([f"\t{name} = {stats[section][name]}\n" for name in sorted(stats[section])])
            )
    return 0


def reload(call: Call) -> int:
    """`reload`: all or nothing. What the agent has to say about it goes to stderr."""
    answer = call.client.put("/v1/agent/reload").checked()
    notes = answer.text.splitlines()
    call.out.done("Configuration reload triggered", {"Reloaded": True, "Notes": notes})
    sys.stdout.flush()
    sys.stderr.write("".join([note + "\n" for note in notes]))
    return 0


def maint(call: Call) -> int:
    """`maint`: switch maintenance mode, or list what is in it."""
    enable, disable = call.yes("enable"), call.yes("disable")
    reason, service = call.text("reason"), call.text("service")
    if enable and disable:
        raise Usage("Only one of -enable or -disable may be provided")
    if reason and not enable:
        raise Usage("Reason may only be provided with -enable")
    if service and not (enable or disable):
        raise Usage("Service requires either -enable or -disable")
    if not (enable or disable):
        return _list_maintenance(call)
    from cli.client import TransportError

    what = "service" if service else "node"
    path = f"/v1/agent/service/maintenance/{service}" if service else "/v1/agent/maintenance"
    query = [("enable", "true" if enable else "false")]
    if reason:
        query.append(("reason", reason))
    try:
        call.send(path, *query)
    except TransportError as error:
        raise error.within(f"Error {'enabling' if enable else 'disabling'} {what} maintenance") from None
    state = "enabled" if enable else "disabled"
    text = f"{what.capitalize()} maintenance is now {state}"
    if service:
        text += f' for "{service}"'
    call.out.done(text, {"Maintenance": enable, "Service": service})
    return 0


def _list_maintenance(call: Call) -> int:
    node = call.fetch("/v1/agent/self")["Config"]["NodeName"]
    checks = call.fetch("/v1/agent/checks")
    found: list[dict[str, Any]] = []
    for identity in sorted(checks):
        check = checks[identity]
        if identity == "_node_maintenance":
            found.append({"Node": node, "Reason": check["Notes"]})
        elif identity.startswith("_service_maintenance:"):
            found.append({"Service": check["ServiceID"], "Reason": check["Notes"]})
    if call.out.structured:
        call.out.document(found)
        return 0
    for entry in found:
        kind, label, name = ("Node", "Name", node)
        if "Service" in entry:
            kind, label, name = ("Service", "ID", entry["Service"])
        if call.out.quiet:
            call.out.line(name)
        else:
            call.out.write(f"{kind}:\n  {(label + ':').ljust(8)}{name}\n  Reason: {entry['Reason']}\n\n")
    return 0


def monitor(call: Call) -> int:
    """`monitor`: the log as it is written. An interrupt is the way to end it, so it ends with 0."""
    query = [("loglevel", call.text("log-level", "INFO"))]
    if call.yes("log-json") or call.out.structured:
        query.append(("logjson", ""))
    try:
        for piece in call.client.stream("/v1/agent/monitor", query):
            call.out.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        raise
    except OSError as error:
        from cli.client import error_text

        raise Failure(f"Error: the log ended: {error_text(error)}", kind="unreachable") from None
    return 0


def validate(call: Call) -> int:
    """`validate`: read files as the agent would, without starting one."""
    from cli.definitions import validate_paths

    return validate_paths(call)


COMMANDS = (
    Command(
        "info",
        "Show the counters of the agent",
        info,
        example=("ctl info", "ctl info -o json"),
        failure="Error querying agent",
        extra=True,
    ),
    Command(
        "reload",
        "Make the agent read its configuration again",
        reload,
        example=("ctl reload",),
        failure="Error reloading",
        extra=True,
    ),
    Command(
        "maint",
        "Switch maintenance mode, or show what is in it",
        maint,
        flags=(
            Flag("enable", "bool", "Turn it on."),
            Flag("disable", "bool", "Turn it off."),
            Flag("reason", "string", "Why."),
            Flag("service", "string", "A service of this agent instead of the node.", complete="services"),
        ),
        example=("ctl maint -enable -reason='disk swap'", "ctl maint -disable -service=web", "ctl maint"),
        failure="Error querying Consul agent",
        extra=True,
    ),
    Command(
        "monitor",
        "Follow the agent's log",
        monitor,
        flags=(
            Flag("log-level", "string", "Least level to show.", default="INFO"),
            Flag("log-json", "bool", "Lines of JSON."),
        ),
        example=("ctl monitor -log-level=debug",),
        failure="Error starting monitor",
        extra=True,
    ),
    Command(
        "validate",
        "Check configuration files",
        validate,
        arguments=(
            Argument(
                "PATH",
                "File or directory.",
                many=True,
                missing="Must specify at least one config file or directory",
                complete="files",
            ),
        ),
        flags=(
            Flag("config-format", "string", "`json` or `hcl`, whatever the extension."),
            Flag("quiet", "bool", "Say nothing when all is well."),
            Flag("strict", "bool", "Refuse the spellings of keys that Consul refuses."),
        ),
        example=("ctl validate /etc/ctl.d", "ctl validate -quiet web.json"),
        connects=False,
    ),
)
