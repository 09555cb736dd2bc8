"""Exec mode: a program that lives beside the rendered files and is told when they change."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping

from cli.command import Failure
from cli.supervise import Signals, StartError, Supervisor, shell_words
from core.template.settings import Child
from core.template.settings_keys import Program


def words_of(program: Program) -> list[str]:
    """The words that run a program."""
    return shell_words(program.line) if program.line else list(program.words)


def variables_of(program: Program, added: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a program: what it may have of ours, what is added, its own."""
    rules = program.variables
    names = [] if rules.pristine else list(os.environ)
    if rules.allowed:
        names = [name for name in names if _matches(name, rules.allowed)]
    found = {name: os.environ[name] for name in names if not _matches(name, rules.denied)}
    custom = (each.partition("=") for each in rules.custom)
    return {**found, **added, **{name: value for name, _, value in custom}}


class Companion:
    """The child of exec mode."""

    def __init__(
        self, child: Child, supervisor: Supervisor, signals: Signals, added: Mapping[str, str]
    ) -> None:
        """`added` are variables that the child gets whatever it has of ours."""
        self._child, self._supervisor, self._signals, self._added = child, supervisor, signals, added
        self.running = False
        self._tell_at: float | None = None

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._supervisor.code if self.running else None

    def start(self) -> None:
        """Start it, at first or anew. Failure."""
        words = words_of(self._child.program)
        try:
            known = variables_of(self._child.program, self._added)
            self._supervisor.start(words, known, own_stdin=True, pristine=True)
        except StartError as error:
            raise Failure(f"exec: cannot start {self._child.program}: {error}") from None
        self.running = True

    def changed(self) -> None:
        """A file has changed: tell it, after a random part of the splay."""
        if self.running and self._tell_at is None:
            self._tell_at = time.monotonic() + random.uniform(0, self._child.splay)

    def due_at(self) -> float | None:
        """When `tell` has something to do."""
        return self._tell_at

    def tell(self) -> list[int]:
        """Send the reload signal, or start it anew, if that is due; gives the signals that came to us
        meanwhile. Failure."""
        if self._tell_at is None or time.monotonic() < self._tell_at or self.code is not None:
            return []
        self._tell_at = None
        if self._child.reload:
            self._supervisor.signal(int(signal.Signals[self._child.reload]))
            return []
        came = self.stop()
        self.start()
        return came

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        if self.running:
            self._supervisor.signal(number)

    def stop(self) -> list[int]:
        """End it: the kill signal, and KILL after the kill timeout; gives the signals that came to us."""
        came: list[int] = []
        if not self.running or self.code is not None:
            return came
        self._supervisor.signal(int(signal.Signals[self._child.kill]))
        deadline = time.monotonic() + self._child.kill_timeout
        while self.code is None and time.monotonic() < deadline:
            for number in self._supervisor.wait(deadline - time.monotonic()):
                came.append(number)
                if number in (signal.SIGTERM, signal.SIGQUIT):
                    deadline = 0.0  # whoever asks twice has waited enough
        if self.code is None:
            self._supervisor.end(0.0)
            while self.code is None:
                came += self._supervisor.wait()
        self.running = False
        return came


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in patterns)
