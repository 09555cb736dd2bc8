"""`ctl wait`: until something is so, by one blocking query; 124 when the time is up, as timeout(1) has it."""

from __future__ import annotations

import time

from cli.client import ServerError
from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cli.call import Call
    from cli.wire import Query

TIMED_OUT = 124
_POLL = 0.25  # seconds between looks at what cannot be waited for at the agent
_LONGEST = 310.0  # seconds until an answer must be there, however long its query blocks
_DENIED = (400, 401, 403, 404)  # what time does not heal


class _Wait:
    """One wait: asks again and again, through restarts and elections, until `found(answer)` is not None."""

    def __init__(self, call: Call) -> None:
        self.call = call
        timeout = call.number("timeout")
        self.deadline = time.monotonic() + timeout / 1e9 if timeout else None
        self._failures = 0

    def until(self, path: str, query: Query, found: Callable[[Any], str | None], blocks: bool = True) -> int:
        """Ask for `path` until `found` says what is there now; print that."""
        index = 0
        while True:
            more = (("index", str(index)),) if blocks and index else ()
            answer = self._ask(path, (*query, *more))
            if answer is not None:
                index = answer.index if answer.index >= index else 0
                said = found(answer.json() if answer.status == 200 else None)
                if said is not None:
                    if said and not self.call.out.quiet:
                        self.call.out.line(said)
                    return 0
            if answer is None or not blocks or not index:
                self._pause(_POLL * min(max(self._failures, 1), 8))

    def _ask(self, path: str, query: tuple[tuple[str, str], ...]) -> Any:
        limit = time.monotonic() + _LONGEST
        self.call.client.deadline = limit if self.deadline is None else min(limit, self.deadline)
        try:
            answer = self.call.client.get(path, self.call.query(*query))
            if answer.status != 200 and not (answer.status == 404 and path.startswith("/v1/kv/")):
                answer.checked()
        except ServerError as error:
            if error.response_status in _DENIED:
                raise
            return self._failed(error)
        except Failure as failure:
            return self._failed(failure)
        self._failures = 0
        return answer

    def _failed(self, failure: Failure) -> None:
        self._failures += 1
        if self._failures == 1:
            from cli.call import note

            note(f"Error: wait: {failure}; trying again")

    def _pause(self, seconds: float) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            seconds = min(seconds, left)
        time.sleep(seconds)


def _run(call: Call, path: str, query: Query, found: Callable[[Any], str | None], blocks: bool = True) -> int:
    wait = _Wait(call)
    try:
        return wait.until(path, query, found, blocks)
    except TimeoutError:
        return _late(call)
    except Failure:
        if wait.deadline is not None and time.monotonic() >= wait.deadline:
            return _late(call)
        raise


def _late(call: Call) -> int:
    from cli.call import note

    note("Error: wait: the time is up")
    return TIMED_OUT


def service(call: Call) -> int:
    """`wait service NAME`: until enough of its instances pass."""
    name, wanted = call.argument(0), call.number("passing", 1)
    query = [("passing", "1"), *[("tag", tag) for tag in call.many("tag")]]

    def found(instances: list[Any]) -> str | None:
        if len(instances) < wanted:
            return None
        return f"{name}: {len(instances)} passing"

    return _run(call, "/v1/health/service/" + name, query, found)


def key(call: Call) -> int:
    """`wait kv KEY`: until it is there, has a value, or is gone."""
    if call.yes("absent") and "value" in call.values:
        raise Usage("Error: give --absent or --value, not both")

    def found(entries: list[Any] | None) -> str | None:
        if call.yes("absent"):
            return f"{call.argument(0)}: absent" if not entries else None
        if not entries:
            return None
        value = _value(entries[0])
        if "value" in call.values and value != call.text("value"):
            return None
        return value

    return _run(call, "/v1/kv/" + call.argument(0).removeprefix("/"), [], found)


def _value(entry: dict[str, Any]) -> str:
    import binascii

    return binascii.a2b_base64(entry["Value"] or "").decode("utf-8", "replace")


def leader(call: Call) -> int:
    """`wait leader`: until the servers have one."""
    return _run(call, "/v1/status/leader", [], lambda address: address or None, blocks=False)


def members(call: Call) -> int:
    """`wait members N`: until so many are alive."""
    text = call.argument(0)
    if not (text.isascii() and text.isdigit()):
        raise Usage(f"Error: {text!r} is no number of members")

    def found(all_: list[Any]) -> str | None:
        alive = sum(member["Status"] == 1 for member in all_)
        return f"{alive} members alive" if alive >= int(text) else None

    return _run(call, "/v1/agent/members", [], found, blocks=False)


def check(call: Call) -> int:
    """`wait check ID`: until every check of this id has the status."""
    name, node, status = call.argument(0), call.text("node"), call.text("status", "passing")

    def found(checks: list[Any]) -> str | None:
        mine = [one for one in checks if one["CheckID"] == name and node in ("", one["Node"])]
        if not mine or any(one["Status"] != status for one in mine):
            return None
        return f"{name}: {status} on {', '.join(one['Node'] for one in mine)}"

    return _run(call, "/v1/health/state/any", [], found)


_TIMEOUT = Flag("timeout", "duration", "End with code 124 after this time; else wait for ever.")
_ALL = (
    "Restarts of the agent and elections are waited out. The exit code is 0 when it is so, 124 when it was "
    "not in time."
)

COMMANDS = (
    Command(
        "wait service",
        "Wait until instances of a service pass",
        service,
        arguments=(Argument("NAME", "The service.", complete="services"),),
        flags=(
            _TIMEOUT,
            Flag("passing", "uint", "How many must pass.", default="1"),
            Flag("tag", "list", "Only instances with this tag (repeat)."),
        ),
        text=_ALL,
        example=("ctl wait service web --passing 3 --timeout 60s",),
        server=True,
    ),
    Command(
        "wait kv",
        "Wait until a key is there, has a value, or is gone",
        key,
        arguments=(Argument("KEY", "The key.", complete="keys"),),
        flags=(
            _TIMEOUT,
            Flag("value", "string", "Until it has this value."),
            Flag("absent", "bool", "Until there is no such key."),
        ),
        text=_ALL,
        example=("ctl wait kv deploy/done --value v42 --timeout 10m", "ctl wait kv lock --absent"),
        server=True,
    ),
    Command(
        "wait leader",
        "Wait until the servers have a leader",
        leader,
        flags=(_TIMEOUT,),
        text=_ALL,
        example=("ctl wait leader --timeout 30s",),
        server=True,
    ),
    Command(
        "wait members",
        "Wait until so many members are alive",
        members,
        arguments=(Argument("N", "How many."),),
        flags=(_TIMEOUT,),
        text=_ALL,
        example=("ctl wait members 5 --timeout 30s",),
    ),
    Command(
        "wait check",
        "Wait until a check has a status",
        check,
        arguments=(Argument("ID", "CheckID; on several nodes all of them must have it."),),
        flags=(
            _TIMEOUT,
            Flag(
                "status",
                "string",
                "The status.",
                default="passing",
                choices=("passing", "warning", "critical"),
            ),
            Flag("node", "string", "Only that of this node.", complete="nodes"),
        ),
        text=_ALL,
        example=("ctl wait check web-http --node web1 --timeout 60s",),
        server=True,
    ),
)
