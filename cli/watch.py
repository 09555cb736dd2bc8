"""`ctl watch`: run a command, or print, on every change. reference/watch.md sections 1 to 4."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cli.command import Argument, Command, Failure, Flag
from cli.watchplan import Plan
from cli.watchstate import State
from core.watch.diff import changes
from core.watch.progress import EventProgress, Progress, back_off

if TYPE_CHECKING:
    from cli.call import Call
    from cli.supervise import Signals, Supervisor

TIMED_OUT = 124
WAIT = 300.0  # the agent's own limit of a blocking query, which we leave to it
MARGIN = 10.0


def watch(call: Call) -> int:
    """`watch`: until an interrupt, a failing handler, or the timeout."""
    from cli.supervise import Signals, Stop, Supervisor

    plan = Plan.of(call)
    timeout = call.number("timeout")
    deadline = time.monotonic() + timeout / 1e9 if timeout else None
    with Signals() as signals, Supervisor(signals) as supervisor:
        try:
            return _loop(call, plan, signals, supervisor, deadline)
        except Stop as stop:
            gentle = stop.args[0] in ("SIGINT", "SIGTERM")
            return 0 if gentle else 128 + stop.number
        except TimeoutError:
            return TIMED_OUT


def _loop(call: Call, plan: Plan, signals: Signals, supervisor: Supervisor, deadline: float | None) -> int:
    """Poll, hand over what changed, poll again. TimeoutError when the deadline has passed."""
    call.client.wakeup = signals.wakeup
    progress = Progress(plan.initial)
    if plan.kind == "event":
        progress = EventProgress(plan.initial, empty=plan.consul_form and not plan.handler)
    state = State(call, plan)
    state.recall(progress)
    failures = 0
    while True:
        try:
            with signals.interruptible():
                index, payload = _poll(call, plan, progress.index, deadline)
        except Failure as failure:
            _check_deadline(deadline)
            if not progress.started and "No cluster leader" not in str(failure):
                raise Failure(f"Error querying Consul agent: {failure}", kind=failure.kind) from None
            failures += 1
            _pause(failure, back_off(failures), signals, deadline)
            continue
        failures = 0
        changed, payload = progress.take(index, payload)
        if changed:
            told = changes(plan.kind, state.payload, payload) if plan.diff else payload
            code = _hand_over(call, plan, told, index, supervisor, deadline)
            if code or plan.once:
                return code
            state.keep(progress, payload)
        if not index:
            signals.sleep(1.0)  # an agent never says 0; whoever does would have us spin


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError


def _pause(failure: Failure, seconds: float, signals: Signals, deadline: float | None) -> None:
    """Say what went wrong and wait before the next try."""
    from cli.call import note

    if deadline is not None:
        seconds = max(0.0, min(seconds, deadline - time.monotonic()))
    note(f"Error: watch: {failure}; next try in {seconds:.3g}s")
    signals.sleep(seconds)
    _check_deadline(deadline)


def _poll(call: Call, plan: Plan, index: int, deadline: float | None) -> tuple[int, Any]:
    """One blocking query: the new index and the payload. Failure when it went wrong."""
    from core.watch.payload import shape

    query = list(plan.query)
    limit = time.monotonic() + WAIT * 17 / 16 + MARGIN
    if index:
        query.append(("index", str(index)))
    call.client.deadline = limit if deadline is None else min(limit, deadline)
    response = call.client.get(plan.path, call.query(*query))
    if response.status == 404 and plan.kind in ("key", "keyprefix"):
        return response.index, None
    return response.index, shape(plan.kind, response.checked().json())


def _hand_over(
    call: Call, plan: Plan, payload: Any, index: int, supervisor: Supervisor, deadline: float | None
) -> int:
    """Run the handler, or print. The code that ends the watch, 0 to go on."""
    from core.watch.payload import to_text

    if not plan.handler and plan.diff:
        call.out.line(to_text(payload))
        return 0
    if not plan.handler:
        from cli.watchview import show

        show(call, plan, payload, index)
        return 0
    from cli.call import note
    from cli.supervise import StartError, ending, exit_status

    environment = {"CONSUL_INDEX": str(index), "CTL_INDEX": str(index)}
    data = (to_text(payload) + "\n").encode("utf-8", "surrogateescape")
    try:
        code = supervisor.run(plan.handler, environment, data, deadline)
    except StartError as error:
        raise Failure(f"Error executing handler: {error}") from None
    if code == 0:
        return 0
    note(f"Error executing handler: {ending(code)}")
    return 1 if plan.consul_form else exit_status(code)


COMMANDS = (
    Command(
        "watch",
        "Run a command, or print, on every change",
        watch,
        arguments=(
            Argument(
                "TYPE",
                "key, keyprefix, services, nodes, service, checks or event.",
                required=False,
                choices=("key", "keyprefix", "services", "nodes", "service", "checks", "event"),
            ),
            Argument("NAME", "Key, prefix, service or event.", required=False, complete="keys"),
            Argument("COMMAND", "Command to run, as with --exec.", required=False, many=True),
        ),
        flags=(
            Flag("exec", "string", "Command to run on a change, with the new state as JSON on its stdin."),
            Flag("once", "bool", "End after the first run or print."),
            Flag(
                "initial",
                "bool",
                "Run for the state at the start too, or (=false) only for what changes from now on. Without "
                "it a command runs at the start unless it has been told the same before, and for events of "
                "the past never.",
            ),
            Flag("diff", "bool", "Hand over what was added, removed and changed beside the new state."),
            Flag("timeout", "duration", "End with code 124 after this time."),
            Flag("type", "string", "Type of watch, in Consul's form of this command."),
            Flag("key", "string", "Key to watch.", complete="keys"),
            Flag("prefix", "string", "Prefix to watch.", complete="keys"),
            Flag("service", "string", "Service to watch.", complete="services"),
            Flag("tag", "list", "Only instances with this tag (repeat)."),
            Flag("passingonly", "string", "`true`: only instances whose checks all pass."),
            Flag("state", "string", "Only checks in this state: any, passing, warning, critical."),
            Flag("name", "string", "Event to watch."),
            Flag("filter", "string", "Filter expression for the agent."),
            Flag("shell", "bool", "Run the command through the shell.", default="true"),
        ),
        text="The command runs once for each change and never twice at a time; changes during a run are "
        "merged into the next. An event watch hands over the events that came since the last run. What was "
        "handed over last is kept in ~/.local/state/ctl/watches: a restart runs the command only for a "
        "change.\n"
        "CTL_INDEX and CONSUL_INDEX hold the index.",
        example=(
            "ctl watch key test --exec 'cat >> seen.json'",
            "ctl watch service web --once --initial=false --timeout 30s",
            "ctl watch event deploy --exec ./deploy.sh",
            "ctl watch -type=key -key=test cat",
        ),
        server=True,
        stops=True,
    ),
)
