"""The runner of `ctl template`: passes, writes, commands, in one thread that waits for news.

`core/template/plan.py` says when a template is due and what speaks against writing it; here it is done."""

from __future__ import annotations

import difflib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from cli.client import error_text
from cli.command import Failure
from cli.supervise import Signals, StartError, Stop, Supervisor, ending, exit_status
from cli.templatechild import Companion, variables_of, words_of
from cli.templatedoors import surroundings
from cli.templatefetch import Brain, Broken, agent_variables
from cli.templatefile import Swap, Written, current, keep, restore, unfinished
from cli.templatelog import Log
from core.template.errors import TemplateError
from core.template.plan import Keeper, Plan
from core.template.render import Language, load, render
from core.template.settings import Output, Settings
from core.template.settings_keys import Program

INTERRUPTED, BROKEN = 12, 14
PATIENCE = 10.0  # seconds that a template may wait for data before we say for what

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Reload(Exception):
    """The configuration has been read anew; `runner` goes by it."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner


class Refused(Failure):
    """A check command does not like a new file."""


@dataclass
class _Task:
    """One template with what it has become."""

    output: Output
    language: Language
    keeper: Keeper
    done: bool = False  # its text is in place, or was there already
    held: str = ""  # why the last text is not
    shown: bytes | None = None  # what has been printed of a template that is not written


class Runner:
    """Renders the templates of `settings` until told to end."""

    def __init__(
        self,
        settings: Settings,
        signals: Signals,
        log: Log,
        socket_address: Callable[[str], str],
        renew: Callable[[], Runner],
        dry: str = "",
    ) -> None:
        """`renew` reads the configuration again. `dry` is how to show what would be written: "diff" or
        "whole"; `` writes it."""
        self._settings, self._signals, self._log = settings, signals, log
        self._socket_address, self._renew, self._dry = socket_address, renew, dry
        self._tasks = [_Task(output, _load(output), Keeper(output.safety)) for output in settings.outputs]
        self._plan = Plan([output.wait for output in settings.outputs], settings.once)
        self._brain = Brain(settings, log)
        self._written: list[tuple[_Task, Written]] = []
        self._postponed: list[int] = []  # signals that came while we waited for a child
        self._commands: Supervisor
        self._child: Companion | None = None
        self._complain_at: float | None = time.monotonic() + PATIENCE

    def run(self) -> int:
        """The exit code. Reload when the configuration is to be read again, Failure when all is over."""
        with Supervisor(self._signals) as self._commands, Supervisor(self._signals) as beside:
            if self._settings.child is not None and not self._dry:
                self._child = Companion(
                    self._settings.child, beside, self._signals, agent_variables(self._settings)
                )
            try:
                return self._loop(beside)
            except Stop as stop:
                self._heed(stop.number)
                return INTERRUPTED
            finally:
                self._brain.close()
                if self._child is not None:
                    self._child.stop()

    def _loop(self, beside: Supervisor) -> int:
        while True:
            self._render_due()
            self._brain.want(self._plan.wanted())
            if all(task.done for task in self._tasks):
                if not self._brain.rendered:
                    self._brain.rendered = True
                    tell_manager(self._log)
                if self._child is not None and not self._child.running:
                    self._child.start()
                elif self._child is None and self._finished():
                    return 0
            self._complain()
            numbers = self._wait(beside)
            if self._child is not None and self._child.code is not None:
                if self._child.code:
                    self._log("ERR", f"child process died with exit code {self._child.code}")
                return exit_status(self._child.code)
            for number in numbers:
                if self._heed(number):
                    return INTERRUPTED
            try:
                changes = self._brain.changes()
            except Broken as broken:
                raise Failure(str(broken), code=BROKEN) from None
            for dependency in changes:
                self._plan.answered(dependency, time.monotonic())
            if self._child is not None:
                self._postponed += self._child.tell()

    def _finished(self) -> bool:
        return self._settings.once and self._plan.settled and not any(task.held for task in self._tasks)

    def _wait(self, beside: Supervisor) -> list[int]:
        """Until something is due or happens; the signals that came."""
        if self._postponed:
            numbers, self._postponed = self._postponed, []
            return numbers
        times = [self._plan.next_at(), self._complain_at]
        if self._child is not None:
            times.append(self._child.due_at())
        due = [at for at in times if at is not None]
        left = max(0.0, min(due) - time.monotonic()) if due else None
        readable = self._brain.news.readable
        if self._child is not None and self._child.running:
            return beside.wait(left, readable)
        import select

        select.select([readable, self._signals.wakeup], [], [], left)
        return self._signals.take()

    def _heed(self, number: int) -> bool:
        """Act on a signal: True ends the runner. Reload when the configuration was to be read anew, and all
        is well with it."""
        name = signal.Signals(number).name
        if name == self._settings.kill:
            sys.stderr.write("Cleaning up...\n")
            return True
        if name == self._settings.reload:
            sys.stderr.write("Reloading configuration...\n")
            try:
                runner = self._renew()
            except Failure as failure:
                self._log("ERR", f"the configuration stays as it was: {failure}")
                return False
            raise Reload(runner)
        if self._child is not None and self._child.running:
            self._child.signal(number)
            return False
        return number in _ENDS

    def _complain(self) -> None:
        """Say once what templates have been waiting for all this time."""
        missing = self._plan.missing()
        if not missing:
            self._complain_at = None
        elif self._complain_at is not None and time.monotonic() >= self._complain_at:
            self._complain_at = None
            for number in sorted({number for number, _ in missing}):
                waits = [str(dependency) for at, dependency in missing if at == number]
                more = f" and {len(waits) - 5} more" if len(waits) > 5 else ""
                self._log(
                    "WARN", f"{self._tasks[number].output.name} still waits for {', '.join(waits[:5])}{more}"
                )

    # --- passes ------------------------------------------------------------------------------------

    def _render_due(self) -> None:
        """Passes of all templates that are due, then the commands of those that changed, each once: also
        when another template is the end of it all."""
        self._written = []
        end: Failure | None = None
        for number in self._plan.due(time.monotonic()):
            task = self._tasks[number]
            try:
                self._pass(number, task)
            except Failure as failure:
                try:
                    self._fail(task, failure)
                except Failure as fatal:
                    end = fatal
                    break
        if self._written:
            self._run_commands()
            if self._child is not None:
                self._child.changed()
        if end is not None:
            raise end

    def _pass(self, number: int, task: _Task) -> None:
        around = surroundings(task.output, self._socket_address, bool(self._dry))
        outcome = render(task.language, self._brain, around)
        self._plan.rendered(number, outcome)
        for line in outcome.notes:
            sys.stderr.write(line)
        if outcome.missing:
            waits = ", ".join(map(str, outcome.missing))
            so_far = f" (so far: {outcome.error})" if outcome.error else ""
            self._log("DEBUG", f"{task.output.name} waits for {waits}{so_far}")
            return
        if outcome.error is not None:
            raise Failure(str(outcome.error))
        held, task.held = task.held, task.keeper.objection(outcome, self._brain)
        if task.held:
            if task.held != held:
                self._log("WARN", f"{task.output.destination} is kept as it is: {task.held}")
            return
        self._put(task, outcome.text.encode("utf-8", "surrogateescape"))
        task.keeper.accept(outcome, self._brain)
        task.done = True

    def _fail(self, task: _Task, failure: Failure) -> None:
        """A template, check or command went wrong: the end, unless its errors are not fatal. A file that a
        check has kept as it was is no reason to stop following the next change."""
        if task.output.error_fatal and (self._settings.once or not isinstance(failure, Refused)):
            raise Failure(str(failure), code=BROKEN)
        self._log("ERR", str(failure))

    # --- writing -----------------------------------------------------------------------------------

    def _put(self, task: _Task, data: bytes) -> None:
        output = task.output
        if not output.destination:
            if data != task.shown:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            task.shown = data
            return
        old = current(output.destination)
        if self._dry:
            if data != task.shown:
                self._show(output.destination, old, data)
            task.shown = data
            return
        if old == data:
            rest = None if task.done else unfinished(output.destination)
            if rest is not None:
                self._written.append((task, rest))
            return
        swap = Swap(output, data)
        temporary = swap.prepare()
        try:
            self._check(output, temporary)
        except (Failure, Stop):
            swap.abandon()
            raise
        self._written.append((task, swap.commit()))
        self._log("INFO", f"{output.destination} has been written")

    def _check(self, output: Output, temporary: str) -> None:
        """Ask the check command about the new file. Failure if it does not like it."""
        if not output.check:
            return
        line = output.check.replace("{tmp}", shlex.quote(temporary))
        code, why = self._execute(Program(line=line, timeout=output.check_timeout))
        if code or why:
            wrong = f"the check `{output.check}` failed ({why or ending(code)})"
            raise Refused(f"{output.destination} is kept as it is: {wrong}")

    def _show(self, path: str, old: bytes | None, data: bytes) -> None:
        """What a dry run would write."""
        new = data.decode("utf-8", "replace")
        if self._dry == "whole":
            sys.stdout.write(f"> {path}\n{new}")
        elif old != data:
            before = [] if old is None else old.decode("utf-8", "replace").splitlines(keepends=True)
            name = "/dev/null" if old is None else path
            for line in difflib.unified_diff(before, new.splitlines(keepends=True), name, path):
                ended = line.endswith("\n")
                sys.stdout.write(line if ended else f"{line}\n\\ No newline at end of file\n")
        sys.stdout.flush()

    # --- commands ----------------------------------------------------------------------------------

    def _run_commands(self) -> None:
        programs: dict[Program, list[tuple[_Task, Written]]] = {}
        for task, written in self._written:
            if task.output.command is None:
                keep(written)
            else:
                programs.setdefault(task.output.command, []).append((task, written))
        for program, files in programs.items():
            self._log("INFO", f"running `{program}`")
            try:
                code, why = self._execute(program)
            except Stop:
                if self._commands.code == 0:
                    _forget(files)
                raise  # else the next run does what is left
            if not code and not why:
                _forget(files)
                continue
            text = f"the command `{program}` failed ({why or ending(code)})"
            for task, written in files:
                if task.output.restore and restore(written):
                    text += f"; {written.path} is as it was before"
                keep(written)
            self._fail(files[0][0], Failure(text))

    def _execute(self, program: Program) -> tuple[int, str]:
        """Run a command to its end: its code, and why it has none."""
        timeout = program.timeout
        try:
            return self._finish(program, time.monotonic() + timeout if timeout else None), ""
        except TimeoutError:
            return 0, f"it did not end within {timeout:g}s"
        except StartError as error:
            return 0, str(error)

    def _finish(self, program: Program, deadline: float | None) -> int:
        """The code of a command. TimeoutError, or Stop for a signal that ends us; others wait until then."""
        known = variables_of(program, agent_variables(self._settings))
        self._commands.start(words_of(program), known, whole=False, pristine=True)
        why: Exception | None = None
        while (code := self._commands.code) is None:
            left = None if deadline is None or why else max(0.0, deadline - time.monotonic())
            for number in self._commands.wait(left):
                if self._is_end(number):
                    why = why or Stop(number)
                else:
                    self._postponed.append(number)
            if why is None and deadline is not None and time.monotonic() >= deadline:
                why = TimeoutError()
            if why is not None:
                self._commands.end()
        if why is not None:
            raise why
        return code

    def _is_end(self, number: int) -> bool:
        name = signal.Signals(number).name
        return name == self._settings.kill or (number in _ENDS and name != self._settings.reload)


def _forget(files: list[tuple[_Task, Written]]) -> None:
    for _, written in files:
        keep(written)


def _load(output: Output) -> Language:
    """A template from its file or text. Failure with the place of what is wrong."""
    text = output.contents
    if output.source:
        try:
            with open(output.source, "rb") as file:
                text = file.read().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise Failure(f"open {output.source}: {error_text(error)}", code=BROKEN) from None
    try:
        return load(output.name, text, output.left, output.right)
    except TemplateError as error:
        raise Failure(str(error), code=BROKEN) from None


def tell_manager(log: Callable[[str, str], None]) -> None:
    """Tell systemd (`Type=notify`) that all files are there: it names a socket for that."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)
    except OSError as error:
        log("WARN", f"failed to signal readiness to systemd: {error_text(error)}")


def parse_only(settings: Settings) -> None:
    """Read all templates. Failure for the first that is wrong."""
    for output in settings.outputs:
        _load(output)


def write_pid(path: str) -> None:
    """Leave our number in a file. Failure."""
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise Failure(f"could not open pid file: open {path}: {error_text(error)}", code=BROKEN) from None
