"""`ctl exec`: run what the agents name in their configuration, on many of them, batch by batch."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cli.client import ServerError
from cli.command import Argument, Command, Failure, Flag, Usage

if TYPE_CHECKING:
    from cli.call import Call
    from cli.execview import View

FAILED = 2
POLL = 0.25
PATIENCE = 10.0  # seconds until a question is asked anew
ANSWER_WITHIN = 10.0  # seconds until an agent must have heard of it
LOST_AFTER = 15.0  # seconds without a word of an agent that runs it
NO_LEADER_FOR = 30.0  # seconds that nobody can tell how it stands
_DENIED = (400, 401, 403, 429)
_OPEN = ("waiting", "running")
_GOOD = ("passed", "absent")
_OLD_FLAGS = ("prefix", "shell", "wait", "wait-repl")

OLD_FORM = (
    "Error: exec: ctl runs no shell commands on other nodes: that is how clusters were broken into. "
    "Name what may run in the configuration of the agents, as in "
    '`actions {{ {name} {{ args = ["/usr/local/bin/{name}"] }} }}`, reload them, and run it by its name: '
    "ctl exec {name}"
)


def exec_(call: Call) -> int:
    """`exec`: 2 when it failed on any node."""
    name = call.argument(0)
    _refuse_old_form(call, name)
    nodes = _targets(call)
    size = call.number("batch") or len(nodes)
    pause = call.number("pause") / 1e9
    from cli.execview import view_of

    run = _Run(call, name, call.arguments[1:], nodes)
    with view_of(call, name, run.rows) as run.view:
        for start in range(0, len(nodes), size):
            if start:
                time.sleep(pause)
            run.batch(nodes[start : start + size])
            if run.failed:
                break
    return run.result()


def _refuse_old_form(call: Call, name: str) -> None:
    from core.node.definitions import ACTION_NAME

    program = (name.split() or ["NAME"])[0].rpartition("/")[2]
    old = call.name == "consul" or any(flag in call.values for flag in _OLD_FLAGS)
    if old or not ACTION_NAME.fullmatch(name):
        raise Usage(OLD_FORM.format(name=program if ACTION_NAME.fullmatch(program) else "NAME"))


def _targets(call: Call) -> list[str]:
    """The nodes that are meant, all of them alive. Failure."""
    alive = {
        check["Node"]
        for check in call.fetch("/v1/health/state/passing", ("filter", 'CheckID == "serfHealth"'))
    }
    wanted, service, tags = call.many("node"), call.text("service"), call.many("tag")
    if tags and not service:
        raise Usage("Error: exec: --tag needs --service")
    gone = sorted(set(wanted) - alive)
    if gone:
        raise Failure(f"Error: exec: not alive, or no such node: {', '.join(gone)}", kind="missing")
    found = set(wanted) if wanted else set(alive)
    if service:
        query = [("tag", tag) for tag in tags]
        having = {one["Node"] for one in call.fetch("/v1/catalog/service/" + service, *query)}
        if having - alive:
            from cli.call import note

            note(f"exec: left out, not alive: {', '.join(sorted(having - alive))}")
        found &= having
    if not found:
        raise Failure("Error: exec: no node that is alive is meant", kind="missing")
    return sorted(found)


class Row:
    """How it stands on one node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.state = "not run"
        self.code = 0
        self.error = self.output = ""
        self.took = 0.0
        self.began = 0.0

    @property
    def open(self) -> bool:
        return self.state in _OPEN

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "Node": self.node,
            "State": self.state,
            "Code": self.code,
            "Error": self.error,
            "Took": round(self.took, 3),
            "Output": self.output,
        }


class _Run:
    """One call of an action on some nodes. `rows` is what the view shows."""

    view: View

    def __init__(self, call: Call, name: str, args: list[str], nodes: list[str]) -> None:
        self.rows = {node: Row(node) for node in nodes}
        self._call, self._name, self._args = call, name, args
        # who named nodes wants it on all of them; else those that have no such action are not meant
        self._strict = bool(call.many("node") or call.text("service"))

    @property
    def failed(self) -> bool:
        good = ("passed",) if self._strict else _GOOD
        return any(row.state not in (*good, "not run") for row in self.rows.values())

    def batch(self, nodes: list[str]) -> None:
        """Run it on some nodes and wait until it has ended there."""
        body = json.dumps({"Nodes": nodes, "Args": self._args}).encode()
        self._call.client.deadline = time.monotonic() + NO_LEADER_FOR
        begun = self._call.send("/v1/ctl/exec/" + self._name, body=body).json()["ID"]
        rows = [self.rows[node] for node in nodes]
        for row in rows:
            row.state, row.began = "waiting", time.monotonic()
        silent_since = time.monotonic()
        while any(row.open for row in rows):
            self._call.client.deadline = time.monotonic() + PATIENCE
            try:
                self._take(self._call.fetch("/v1/ctl/exec/" + begun))
                silent_since = time.monotonic()
            except ServerError as error:
                if error.response_status in _DENIED:
                    raise
                gone = error.response_status == 404
                if gone or time.monotonic() - silent_since > NO_LEADER_FOR:
                    self._lose(rows, "another server leads now; it may still run" if gone else str(error))
            except Failure as failure:
                if time.monotonic() - silent_since > NO_LEADER_FOR:
                    self._lose(rows, str(failure))
            self.view.update()
            if any(row.open for row in rows):
                time.sleep(POLL)

    def _take(self, parts: list[dict[str, Any]]) -> None:
        for part in parts:
            row = self.rows[part["Node"]]
            if not row.open:
                continue
            row.state, row.code, row.error = part["State"], part["Code"], part["Error"]
            row.output, row.took = part["Output"], part["Took"]
            if row.state == "waiting" and part["Silent"] > ANSWER_WITHIN:
                row.state, row.error = "no answer", f"the agent has not answered in {ANSWER_WITHIN:g}s"
            elif row.state == "running" and part["Silent"] > LOST_AFTER:
                row.state, row.error = "lost", f"no word of the agent for {LOST_AFTER:g}s"
            if not row.open:
                self.view.ended(row)

    def _lose(self, rows: list[Row], why: str) -> None:
        for row in rows:
            if row.open:
                row.state, row.error = "lost", why
                self.view.ended(row)

    def result(self) -> int:
        """The exit code. Failure when no node has such an action."""
        for row in self.rows.values():
            if row.state == "not run":
                self.view.ended(row)
        self.view.finish()
        if all(row.state == "absent" for row in self.rows.values()):
            example = f'actions {{ {self._name} {{ args = ["/usr/local/bin/{self._name}"] }} }}'
            raise Failure(
                f"Error: exec: no agent that is meant has an action {self._name}. What may run stands in the "
                f"configuration of each agent: {example}",
                kind="missing",
            )
        return FAILED if self.failed else 0


COMMANDS = (
    Command(
        "exec",
        "Run an action that agents have in their configuration",
        exec_,
        arguments=(
            Argument("NAME", "The action, as the agents name it."),
            Argument(
                "PARAMETER",
                "Words for it, if the agents let it have some; after `--` they may look like flags.",
                required=False,
                many=True,
            ),
        ),
        flags=(
            Flag("node", "list", "Only on this node (repeat).", complete="nodes"),
            Flag("service", "string", "Only on nodes with this service.", complete="services"),
            Flag("tag", "list", "Only where the service has this tag (repeat)."),
            Flag("batch", "uint", "On so many nodes at a time; left out: on all at once."),
            Flag("pause", "duration", "Wait so long between batches."),
            Flag("verbose", "bool", "Show the output of all nodes, not only of those that failed."),
            *(
                Flag(name, "string", "Of Consul's remote shell, which ctl lacks.", hidden=True)
                for name in _OLD_FLAGS
            ),
        ),
        text="An agent runs only what its own configuration names: "
        '`actions { deploy { args = ["/bin/deploy"] timeout = "60s" } }`, with `user` to run it as somebody '
        "else and `parameters = true` to let it have words of the caller. No shell is involved.\n"
        "The token needs `event` write for ctl:exec and `agent` write for every node. Where ACLs are off "
        "agents refuse, unless actions_without_acl is set.\n"
        "After a batch with a failure no other begins, and the exit code is 2. Off a terminal each node is "
        "a line of JSON.",
        example=(
            "ctl exec deploy --service web --batch 2 --pause 10s",
            "ctl exec rotate-logs --node web1 --node web2",
            "ctl exec deploy --service web -- --version v42",
        ),
        server=True,
    ),
)
