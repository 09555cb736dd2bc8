"""What a watch looks at, and when what it sees is a change. No input or output here."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from cli.command import Usage
from core.config.watches import NEEDED, PARAMETERS

if TYPE_CHECKING:
    from cli.call import Call

KINDS = ("key", "keyprefix", "services", "nodes", "service", "checks", "event")
MESH = ("connect_roots", "connect_leaf", "connect_proxy_config", "agent_service")
_NAMED = {**NEEDED, "checks": "service", "event": "name"}
KEPT = 1024  # ids of events; an agent keeps 256 events
_ALL = ("filter", "key", "name", "passingonly", "prefix", "service", "state", "tag")


class Plan:
    """One watch: what to ask, and what to do with the answers."""

    __slots__ = ("consul_form", "handler", "initial", "kind", "once", "path", "query", "subject")

    def __init__(self, kind: str, subject: str, path: str, query: list[tuple[str, str]]) -> None:
        self.kind = kind
        self.subject = subject
        self.path = path
        self.query = query
        self.handler: list[str] = []
        self.consul_form = False
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
    given = [name for name in _ALL if name in call.values and call.values[name] != ""]
    text = call.text
    query = [("filter", text("filter"))] if text("filter") else []
    if kind == "key":
        if not text("key"):
            raise Usage("Must specify a single key to watch")
        subject = text("key").removeprefix("/")
        plan = Plan(kind, subject, "/v1/kv/" + subject, [])
    elif kind == "keyprefix":
        if not text("prefix"):
            raise Usage("Must specify a single prefix to watch")
        subject = text("prefix").removeprefix("/")
        plan = Plan(kind, subject, "/v1/kv/" + subject, [("recurse", "")])
    elif kind == "service":
        if not text("service"):
            raise Usage("Must specify a single service to watch")
        query += [("tag", tag) for tag in call.many("tag")]
        if _passing_only(text("passingonly")):
            query.append(("passing", "1"))
        plan = Plan(kind, text("service"), "/v1/health/service/" + text("service"), query)
    elif kind == "checks":
        if text("service") and text("state"):
            raise Usage("Cannot specify service and state")
        path = "/v1/health/state/" + (text("state") or "any")
        if text("service"):
            path = "/v1/health/checks/" + text("service")
        plan = Plan(kind, text("service") or text("state") or "any", path, query)
    elif kind == "event":
        query = [("name", text("name"))] if text("name") else []
        plan = Plan(kind, text("name") or "any", "/v1/event/list", query)
    else:
        plan = Plan(kind, kind, f"/v1/catalog/{kind}", query)
    foreign = [name for name in given if name not in PARAMETERS[kind]]
    if foreign:
        raise Usage(f"Invalid parameters: [{' '.join(foreign)}]")
    return plan


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


class Progress:
    """What was seen last. An answer counts when its index moved and its value differs."""

    __slots__ = ("_last", "index", "initial", "started")

    def __init__(self, initial: bool = True) -> None:
        self.index = 0
        self.initial = initial
        self.started = False
        self._last: Any = None

    def take(self, index: int, value: Any) -> tuple[bool, Any]:
        """Take an answer in: whether there is something to hand over, and what."""
        before, self.index = self.index, index
        if not self.started:
            self.started = True
            self._last = value
            return self.initial, value
        if index < before:
            self.index = 0  # restored or started anew: ask again from the beginning
        if index == before or value == self._last:
            return False, value
        self._last = value
        return True, value


class EventProgress(Progress):
    """The same for events: only those that were not there before are handed over. Their index is made
    of the last event's id and may go up or down. `empty`: at the start hand over also that there is none."""

    __slots__ = ("_empty", "_news")

    def __init__(self, initial: bool, empty: bool) -> None:
        super().__init__(initial)
        self._empty = empty
        self._news = News()

    def take(self, index: int, value: Any) -> tuple[bool, Any]:
        fresh = self._news.of(value)
        first, self.started, self.index = not self.started, True, index
        if first:
            return self.initial and (bool(fresh) or self._empty), fresh
        return bool(fresh), fresh


class News:
    """Which events of a list did not stand in the lists before it."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def of(self, events: list[Any]) -> list[Any]:
        """The new ones, in their order."""
        fresh = [event for event in events if event["ID"] not in self._seen]
        self._seen.update(dict.fromkeys(event["ID"] for event in fresh))
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
        return fresh


def back_off(failures: int) -> float:
    """Seconds to wait after that many failures in a row: quick at first, so that an agent's restart
    goes unnoticed, and never more than half a minute."""
    return min(0.5 * failures * failures, 30.0)
