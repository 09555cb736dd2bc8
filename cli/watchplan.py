"""What a watch looks at, and when what it sees is a change. No input or output here."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cli.command import Usage
from core.config.watches import NEEDED, PARAMETERS
from core.watch.question import WatchQuestion, question

if TYPE_CHECKING:
    from cli.call import Call

KINDS = ("key", "keyprefix", "services", "nodes", "service", "checks", "event")
MESH = ("connect_roots", "connect_leaf", "connect_proxy_config", "agent_service")
_NAMED = {**NEEDED, "checks": "service", "event": "name"}
_ALL = ("filter", "key", "name", "passingonly", "prefix", "service", "state", "tag")


class Plan:
    """One watch: what to ask, and what to do with the answers."""

    __slots__ = ("consul_form", "diff", "handler", "initial", "kind", "once", "path", "query", "subject")

    def __init__(self, asked: WatchQuestion) -> None:
        self.kind, self.subject, self.path, self.query = asked
        self.handler: list[str] = []
        self.consul_form = False
        self.diff = False
        self.initial = True
        self.once = False

    @classmethod
    def of(cls, call: Call) -> Plan:
        """The plan that a command line means. Usage with Consul's texts."""
        consul_form = "type" in call.values
        child = call.arguments if consul_form else _read_short_form(call)
        kind = call.text("type")
        if not kind:
            raise Usage("Watch type must be specified", show=True)
        if kind in MESH:
            raise Usage(f"Type {kind} is not supported in the CLI tool")
        if kind not in KINDS:
            raise Usage(f"Unsupported watch type: {kind}")
        plan = _question(call, kind)
        plan.handler = _handler(call, child)
        plan.consul_form = consul_form and "exec" not in call.values
        # A state that is there at the start is worth a run; an event of the past was acted on when it came.
        plan.initial = call.yes("initial", consul_form or kind != "event")
        plan.diff = call.yes("diff")
        plan.once = call.yes("once") or (plan.consul_form and not plan.handler)
        return plan


def _read_short_form(call: Call) -> list[str]:
    """`TYPE [NAME] [flags] [COMMAND...]`: fills in the flags that this means, gives the command."""
    from cli.parse import Parsed, parse

    words = list(call.arguments)
    if not words:
        return []
    kind = words.pop(0)
    call.values["type"] = kind
    name = _NAMED.get(kind)
    if name and words and not (words[0].startswith("-") and len(words[0]) > 1):
        call.values[name] = words.pop(0)
    rest = Parsed()
    rest.values = call.values
    parse(call.command, words, rest)
    return rest.arguments


def _question(call: Call, kind: str) -> Plan:
    text = call.text
    given = [name for name in _ALL if name in call.values and call.values[name] != ""]
    if kind in NEEDED and not text(NEEDED[kind]):
        raise Usage(f"Must specify a single {NEEDED[kind]} to watch")
    if kind == "checks" and text("service") and text("state"):
        raise Usage("Cannot specify service and state")
    passing = _passing_only(text("passingonly")) if kind == "service" else False
    foreign = [name for name in given if name not in PARAMETERS[kind]]
    if foreign:
        raise Usage(f"Invalid parameters: [{' '.join(foreign)}]")
    named = {name: text(name) for name in ("key", "prefix", "service", "state", "name", "filter")}
    return Plan(question({"type": kind, **named, "tag": call.many("tag"), "passingonly": passing}))


def _passing_only(text: str) -> bool:
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    problem = f'strconv.ParseBool: parsing "{text}": invalid syntax'
    raise Usage(f"Failed to parse passingonly flag: {problem}")


def _handler(call: Call, child: list[str]) -> list[str]:
    """The words to run. Empty when nothing is to run."""
    from cli.supervise import shell_words

    line = call.text("exec")
    if line and child:
        raise Usage("Error: give the command with --exec or after the name, not both")
    if line:
        return shell_words(line) if call.yes("shell", True) else shlex.split(line)
    if child and call.yes("shell", True):
        return shell_words(" ".join(child))
    return child
