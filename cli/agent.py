"""`ctl agent`: start the daemon, ask how it is, stop it."""

from __future__ import annotations

import os
import time

from cli.command import Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call

LOCAL = ("127.0.0.1", "localhost", "::1")


def start(call: Call) -> int:
    """Become the agent. Its flags are those of the configuration (reference/config.md)."""
    from agent.main import run

    return run(call.arguments, standalone=True)


def start_as_consul(call: Call) -> int:
    """`ctl agent FLAGS`: what `consul agent` would become; without `-server` that is a client."""
    from agent.main import run

    return run(call.arguments)


def status(call: Call) -> int:
    """Is it up, what is it, is there a leader."""
    about = call.fetch("/v1/agent/self")
    leader = call.fetch("/v1/status/leader")
    config, stats = about["Config"], about.get("Stats", {})
    document = {
        "Node": config["NodeName"],
        "Datacenter": config["Datacenter"],
        "Server": config["Server"],
        "Version": config["Version"],
        "Leader": leader,
        "Services": int(stats.get("agent", {}).get("services", 0)),
        "Checks": int(stats.get("agent", {}).get("checks", 0)),
    }
    if call.out.structured:
        call.out.document(document)
    elif call.out.quiet:
        call.out.line(config["NodeName"])
    else:
        shown = {**document, "Server": "true" if config["Server"] else "false", "Leader": leader or "none"}
        call.out.write("".join([f"{name.ljust(12)}{value}\n" for name, value in shown.items()]))
    return 0


def stop(call: Call) -> int:
    """Stop a local agent by signal, or any agent by asking it to leave."""
    timeout = call.number("timeout", 20 * 1_000_000_000) / 1e9
    deadline = time.monotonic() + timeout
    if call.yes("leave"):
        call.send("/v1/agent/leave")
        call.out.done("Agent left the cluster and stops", {"Stopped": True})
        return 0
    pid = _agent_pid(call)
    import signal

    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        raise Failure(f"Error: no process with id {pid}", kind="missing") from None
    except PermissionError:
        raise Failure(f"Error: not allowed to signal process {pid}", kind="denied") from None
    while _alive(pid):
        if time.monotonic() > deadline:
            raise Failure(f"Error: process {pid} still runs after {timeout:g} s")
        time.sleep(0.02)
    call.out.done(f"Agent stopped (process {pid})", {"Stopped": True, "Pid": pid})
    return 0


def _agent_pid(call: Call) -> int:
    """From the pid file, the agent's Unix socket, or what a local agent says of its pid file."""
    path = call.text("pid-file")
    if not path:
        pid = _peer(call)
        if pid:
            return pid
        if call.client.place.host in LOCAL:
            path = call.fetch("/v1/agent/self").get("DebugConfig", {}).get("PidFile", "")
    if not path:
        raise Usage("Error: which process it is cannot be seen from here; use --pid-file or --leave")
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except OSError as error:
        from cli.client import error_text

        raise Failure(f"Error: open {path}: {error_text(error)}") from None
    except ValueError:
        raise Failure(f"Error: {path} holds no process id") from None


def _peer(call: Call) -> int:
    from cli.client import DialError, TransportError

    try:
        return call.client.peer_pid()
    except DialError as error:
        raise TransportError(str(error), kind="unreachable") from None


def _alive(pid: int) -> bool:
    """Whether the process runs. One that waits to be reaped by its parent has stopped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return not os.path.exists("/proc/self/stat")  # no such file system: kill said it lives


COMMANDS = (
    Command(
        "agent start",
        "Run the agent",
        start,
        text="Takes every flag of `consul agent`: -dev, -config-file, -config-dir, -data-dir, -node, ...\n"
        "Without a word on servers it is a single server of its own. `ctl agent` with flags and no other\n"
        "word is `consul agent`, which would be a client that waits for servers.",
        example=("ctl agent start --dev", "ctl agent start --config-dir /etc/ctl.d --data-dir /var/lib/ctl"),
        connects=False,
        output=False,
        raw=True,
    ),
    Command(
        "agent",
        "Run the agent",
        start_as_consul,
        example=("ctl agent -dev -node=n1 -bind=127.0.0.1",),
        connects=False,
        output=False,
        raw=True,
        hidden=True,
    ),
    Command(
        "agent status",
        "Tell whether an agent runs, and what it is",
        status,
        example=("ctl agent status", "ctl agent status -o json"),
    ),
    Command(
        "agent stop",
        "Stop the local agent",
        stop,
        flags=(
            Flag("leave", "bool", "Make it leave the cluster first; works on any agent."),
            Flag("pid-file", "string", "File with its process id.", complete="files"),
            Flag("timeout", "duration", "How long to wait for its end.", default="20s"),
        ),
        text="Sends SIGTERM to the process at the other end of the agent's Unix socket.",
        example=("ctl agent stop", "ctl agent stop --leave"),
    ),
)
