"""Checks that run a command: scripts, and services of the operating system."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.process import GRACE, SpawnError, spawn
from core.codec.duration import SECOND, quote, show
from core.node.checks import Result, Tail, status_of_exit
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL, PASSING, WARNING

Report = Callable[[Result], None]


class ScriptProbe:
    """Runs a command; its exit code is the status, the end of its output the output."""

    def __init__(self, definition: CheckDefinition, timeout: int, output_size: int) -> None:
        self._args = definition.args
        self._timeout = timeout
        self._output_size = output_size

    async def run(self, report: Report) -> None:
        """Run once. The result of a command that takes too long is reported at the timeout, but the run is
        not over before the command is gone: the next one cannot overlap it."""
        await run_command(self._args, self._timeout, self._output_size, self._judge, report)

    @staticmethod
    def _judge(code: int, output: Tail) -> Result:
        return Result(status_of_exit(code), output.report())


class OsServiceProbe:
    """Asks systemd whether a unit is active."""

    def __init__(self, definition: CheckDefinition, timeout: int, output_size: int) -> None:
        self._unit = definition.os_service
        self._timeout = timeout
        self._output_size = output_size

    async def run(self, report: Report) -> None:
        """Ask once."""
        command = ["systemctl", "is-active", "--", self._unit]
        await run_command(command, self._timeout, self._output_size, self._judge, report)

    def _judge(self, code: int, output: Tail) -> Result:
        state = output.text().strip()
        if code == 0 and state == "active":
            return Result(PASSING, f"Service {quote(self._unit)} is healthy")
        if state in ("activating", "reloading", "deactivating", "refreshing", "maintenance"):
            return Result(WARNING, f"Service {quote(self._unit)} is {state}")
        return Result(CRITICAL, f"Service {quote(self._unit)} is not running: {state or f'exit code {code}'}")


async def run_command(
    command: Sequence[str],
    timeout: int,
    output_size: int,
    judge: Callable[[int, Tail], Result],
    report: Report,
) -> None:
    """Run a command to its end or to the timeout (nanoseconds), report, and see it gone."""
    try:
        child = spawn(command, output_limit=output_size)
    except SpawnError as error:
        report(Result(CRITICAL, str(error)))
        return
    try:
        if await child.wait(timeout / SECOND):
            assert child.code is not None  # it has ended
            report(judge(child.code, child.output))
            return
        text = f"Timed out ({show(timeout)}) running check"
        output = child.output.report()
        report(Result(CRITICAL, f"{text}\n\n{output}" if output else text))
    finally:
        await child.terminate(GRACE)
