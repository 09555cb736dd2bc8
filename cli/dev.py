"""`ctl dev cluster`: servers and client agents on this machine, shown as they come, ended together."""

from __future__ import annotations

from cli.command import Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cli.call import Call
    from cli.devcluster import DevCluster
    from cli.devview import View
    from cli.supervise import Signals, Supervisor

TIMED_OUT = 124
PAUSE = 0.2
LOG_LINES = 15


def cluster(call: Call) -> int:
    """`dev cluster`: until an interrupt, or until --exec or --once is done."""
    import contextlib
    import tempfile
    from pathlib import Path

    from cli.supervise import Signals, Stop, Supervisor

    servers, clients = call.number("servers", 3), call.number("clients", 2)
    if servers < 1:
        raise Usage("Error: a cluster has one server at least")
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        supervisor = stack.enter_context(Supervisor(signals))
        if call.text("data-dir"):
            folder = Path(call.text("data-dir")).absolute()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ctl-dev-")))
        try:
            return _run(call, folder, (servers, clients), signals, supervisor)
        except Stop as stop:
            return 0 if stop.args[0] in ("SIGINT", "SIGTERM") else 128 + stop.number


def _run(call: Call, folder: Path, size: tuple[int, int], signals: Signals, supervisor: Supervisor) -> int:
    from cli.devcluster import DevCluster

    agents = DevCluster(folder, *size, _flags(call, folder))
    view = _view(call, agents)
    try:
        agents.start()  # not to be interrupted: a process whose id is not known yet could not be ended
        with view:
            if not _wait_ready(call, agents, view, signals):
                return TIMED_OUT
            view.ready()
            if call.text("exec"):
                view.pause()
                return _execute(call, agents, supervisor)
            if not call.yes("once"):
                _stay(agents, view, signals)
        return 0
    finally:
        view.note("Ending the agents ...")
        agents.stop()


def _view(call: Call, agents: DevCluster) -> View:
    if call.out.format == "table" and not call.text("exec"):
        from cli.devlive import LiveView

        return LiveView(call, agents)
    from cli.devview import View

    return View(call, agents)


def _flags(call: Call, folder: Path) -> list[str]:
    """What all agents get besides names and addresses."""
    from cli.devfiles import write_settings

    flags = ["-datacenter", call.text("datacenter", "dc1"), "-log-level", call.text("log-level", "info")]
    for path in call.many("config-file"):
        flags += ["-config-file", path]
    datacenter = call.text("datacenter", "dc1")
    return flags + write_settings(folder, datacenter, encrypt=call.yes("encrypt"), tls=call.yes("tls"))


def _wait_ready(call: Call, agents: DevCluster, view: View, signals: Signals) -> bool:
    """Show members until all agents agree; False when that takes too long. Failure when one ends."""
    import time

    deadline = time.monotonic() + call.number("timeout", 60_000_000_000) / 1e9
    while True:
        with signals.interruptible():
            view.update(agents.members(), agents.leader())
            lacking = agents.lacking()
        _check_alive(agents)
        if not lacking:
            with signals.interruptible():
                view.update(agents.members(), agents.leader())  # which may have been older
            return True
        if time.monotonic() > deadline:
            view.note(f"Error: the agents did not agree in time: {lacking}. What s1 said last:")
            view.note(_tail(agents.servers[0].log))
            return False
        signals.sleep(PAUSE)


def _check_alive(agents: DevCluster) -> None:
    dead = agents.dead()
    if dead is not None and dead.process is not None:
        tail = _tail(dead.log)
        raise Failure(
            f"Error: {dead.name} ended with code {dead.process.returncode}; its last words:\n{tail}"
        )


def _tail(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])


def _stay(agents: DevCluster, view: View, signals: Signals) -> None:
    """Show changes until an interrupt. An agent that ends, by whatever hand, is only shown: that is what
    such clusters are for."""
    while True:
        with signals.interruptible():
            view.update(agents.members(), agents.leader())
        signals.sleep(PAUSE * 2)


def _execute(call: Call, agents: DevCluster, supervisor: Supervisor) -> int:
    """Run the command of --exec with the cluster's addresses in its environment; its exit code."""
    from cli.supervise import StartError, exit_status, shell_words

    first = agents.servers[0].http
    environment = {
        "CTL_HTTP_ADDR": first,
        "CONSUL_HTTP_ADDR": first,
        "CTL_DEV_SERVERS": " ".join(agent.http for agent in agents.servers),
        "CTL_DEV_CLIENTS": " ".join(agent.http for agent in agents.clients),
        "CTL_DEV_PIDS": " ".join(str(agent.pid) for agent in agents.agents),
    }
    words = shell_words(call.text("exec"))
    try:
        return exit_status(supervisor.run(words, environment))
    except StartError as error:
        raise Failure(f"Error: {error}") from None


COMMANDS = (
    Command(
        "dev cluster",
        "Run a cluster on this machine, until an interrupt",
        cluster,
        flags=(
            Flag("servers", "uint", "How many servers.", default="3"),
            Flag("clients", "uint", "How many client agents.", default="2"),
            Flag("data-dir", "string", "Keep the data here, and the addresses; else a temporary folder."),
            Flag("exec", "string", "Command to run against it; end with its exit code."),
            Flag("once", "bool", "End as soon as all agents agree."),
            Flag("timeout", "duration", "End with code 124 when they do not agree by then.", default="60s"),
            Flag("encrypt", "bool", "Encrypt gossip, with a new key."),
            Flag("tls", "bool", "Encrypt RPC and ask for certificates, with a new authority."),
            Flag("config-file", "list", "Give this file to every agent (repeat).", complete="files"),
            Flag("datacenter", "string", "Name of the datacenter.", default="dc1"),
            Flag("log-level", "string", "Level of the agents' logs.", default="info"),
        ),
        text="Every agent is a process of its own on a loopback address of its own with the usual ports.\n"
        "They end with this command, also when it is killed. A command of --exec finds their HTTP\n"
        "addresses in CTL_HTTP_ADDR, CTL_DEV_SERVERS and CTL_DEV_CLIENTS.",
        example=(
            "ctl dev cluster",
            "ctl dev cluster --servers 5 --clients 0 --data-dir ./cluster",
            "ctl dev cluster --exec 'ctl kv put a 1 && ctl members'",
        ),
        connects=False,
    ),
)
