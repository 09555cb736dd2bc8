"""`ctl env`: run a command with an environment from the KV store, and anew when that changes."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from cli.command import Argument, Command, Failure, Flag, Usage

if TYPE_CHECKING:
    from cli.call import Call
    from cli.envfetch import Values
    from cli.supervise import Signals, Supervisor

SETTLE = 0.2  # seconds without another change before a restart: several keys are written one by one
LONGEST_SETTLE = 2.0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Plan(NamedTuple):
    """What the flags and arguments ask for."""

    prefixes: list[str]
    words: list[str]
    sanitize: bool
    upcase: bool
    pristine: bool
    restart: bool
    once: bool
    splay: float
    kill_signal: int
    kill_timeout: float

    @classmethod
    def of(cls, call: Call) -> Plan:
        """Usage for what cannot be."""
        prefixes, words = call.many("prefix"), call.arguments
        if not prefixes:
            prefixes, words = words[:1], words[1:]
        if not words:
            raise Usage("Error: env: no command after the prefix: `ctl env PREFIX COMMAND...`")
        return cls(
            [folder(prefix) for prefix in prefixes],
            words,
            sanitize=call.yes("sanitize"),
            upcase=call.yes("upcase", True),
            pristine=call.yes("pristine"),
            restart=call.yes("restart", True),
            once=call.yes("once"),
            splay=_seconds(call, "splay", 0.0),
            kill_signal=_signal_number(call.text("kill-signal", "SIGTERM")),
            kill_timeout=_seconds(call, "kill-timeout", 30.0),
        )


def _seconds(call: Call, flag: str, default: float) -> float:
    if flag not in call.values:
        return default
    seconds = call.number(flag) / 1e9
    if seconds < 0:
        raise Usage(f"Error: env: --{flag} must not be negative")
    return seconds


def _signal_number(text: str) -> int:
    name = text.upper()
    if text.isascii() and text.isdigit() and int(text) in signal.valid_signals():
        return int(text)
    try:
        return int(signal.Signals[name if name.startswith("SIG") else "SIG" + name])
    except KeyError:
        raise Usage(f"Error: env: --kill-signal {text}: no such signal; try SIGTERM or SIGINT") from None


def folder(prefix: str) -> str:
    """The prefix that the keys below `prefix` have: `config/app` has nothing of `config/app2`."""
    name = prefix.strip("/")
    return name + "/" if name else ""


def variable(name: str, upcase: bool, sanitize: bool) -> str:
    """The variable for a key, of which `name` is the part after the prefix."""
    name = name.replace("/", "_").replace("-", "_")
    if sanitize:
        name = "".join(char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in name)
    return name.upper() if upcase else name


def variables(
    plan: Plan, entries: list[tuple[str, list[tuple[str, bytes]]]]
) -> tuple[dict[str, str], list[str]]:
    """The environment that the keys below each prefix make, and what is wrong with those left out.
    Of two keys for one variable the later prefix wins, then the later key."""
    made: dict[str, str] = {}
    wrong: list[str] = []
    for prefix, pairs in entries:
        for key, value in pairs:
            if key.endswith("/"):
                continue  # a folder
            name = variable(key[len(prefix) :], plan.upcase, plan.sanitize)
            if not name or "=" in name or "\0" in name:
                wrong.append(f"{key}: no variable can have this name")
            elif b"\0" in value:
                wrong.append(f"{key}: its value has a zero byte, which no variable can hold")
            else:
                made[name] = os.fsdecode(value)
    return made, wrong


def env(call: Call) -> int:
    """`env`: get the values, run the child, run it anew when they change; its exit code."""
    from cli.envfetch import Values
    from cli.supervise import Signals, Stop, Supervisor, exit_status

    plan = Plan.of(call)
    with Signals() as signals, Supervisor(signals) as supervisor:
        supervisor.prepare()
        values = Values(call, plan.prefixes, follow=not plan.once)
        try:
            while not values.complete:
                values.wait(signals)
        except Stop as stop:
            return exit_status(-stop.number)
        return _Runner(plan, values, signals, supervisor).run()


class _Runner:
    """The child, from its first start to the end that is its own."""

    def __init__(self, plan: Plan, values: Values, signals: Signals, supervisor: Supervisor) -> None:
        self._plan, self._values = plan, values
        self._signals, self._supervisor = signals, supervisor
        self._made, wrong = variables(plan, values.entries())
        self._given = self._made  # what the child has
        self._told = set[str]()
        self._tell(wrong)
        self._changed_at: float | None = None  # the first change that the child does not have
        self._restart_at: float | None = None
        self._splay = 0.0
        self._held: list[int] = []  # signals that came while there was no child
        self._stopping_until = 0.0  # the child may be ending of a signal that was passed on

    def run(self) -> int:
        """The exit code."""
        from cli.supervise import exit_status

        supervisor = self._supervisor
        self._start()
        while True:
            for number in supervisor.wait(self._patience(), self._values.readable):
                if number in _STOPPING:
                    self._stopping_until = time.monotonic() + self._plan.kill_timeout
                supervisor.signal(number)
            if supervisor.code is not None:
                return exit_status(supervisor.code)
            if self._values.take():
                self._look()
            if self._restart_at is not None and self._due() <= time.monotonic():
                self._restart_at = self._changed_at = None
                if not self._stop():
                    return exit_status(supervisor.code or 0)
                self._start()
                for number in self._held:
                    supervisor.signal(number)

    def _start(self) -> None:
        from cli.supervise import StartError

        words = self._plan.words
        try:
            if self._plan.pristine:
                words = [_found(words[0]), *words[1:]]
            self._given = self._made
            self._supervisor.start(words, self._made, own_stdin=True, pristine=self._plan.pristine)
        except StartError as error:
            raise Failure(f"Error: env: cannot start the command: {error}") from None

    def _due(self) -> float:
        assert self._restart_at is not None
        return max(self._restart_at, self._stopping_until)

    def _patience(self) -> float | None:
        return None if self._restart_at is None else max(0.0, self._due() - time.monotonic())

    def _look(self) -> None:
        """Values came: is a restart due, and when?"""
        made, wrong = variables(self._plan, self._values.entries())
        self._tell(wrong)
        before, self._made = self._made, made
        if made == self._given:
            self._restart_at = self._changed_at = None  # it was changed back
        if made in (before, self._given):
            return
        changed = sorted(name for name in {*made, *before} if made.get(name) != before.get(name))
        if not self._plan.restart:
            _note(f"env: changed, without a restart: {', '.join(changed)}")
            return
        now = time.monotonic()
        if self._changed_at is None:
            self._changed_at = now
            self._splay = random.uniform(0, self._plan.splay)
        self._restart_at = min(now + SETTLE, self._changed_at + LONGEST_SETTLE) + self._splay

    def _stop(self) -> bool:
        """End the child for a restart: the kill signal, then KILL. False when none is to follow: it had ended
        by itself, or a signal has come that asks for the end. What else comes is for the next child."""
        supervisor, plan = self._supervisor, self._plan
        self._held = supervisor.wait(0)
        if supervisor.code is not None:
            return False
        supervisor.signal(plan.kill_signal)
        deadline = time.monotonic() + plan.kill_timeout
        while supervisor.code is None:
            left = deadline - time.monotonic()
            if left <= 0:
                supervisor.end(0.0)
            came = supervisor.wait(left if left > 0 else None)
            for number in came:
                supervisor.signal(number)
            self._held += came
        return not any(number in _STOPPING for number in self._held)

    def _tell(self, wrong: list[str]) -> None:
        for text in wrong:
            if text not in self._told:
                self._told.add(text)
                _note(f"env: left out: {text}")


def _found(program: str) -> str:
    """Where a program is, by our own PATH: the child has none."""
    import shutil

    return program if "/" in program else shutil.which(program) or program


def _note(text: str) -> None:
    from cli.call import note

    note(text)


COMMANDS = (
    Command(
        "env",
        "Run a command with an environment from the KV store",
        env,
        arguments=(
            Argument("PREFIX", "The keys below it become variables.", required=False, complete="keys"),
            Argument("COMMAND", "What to run, and its arguments.", many=True, required=False),
        ),
        flags=(
            Flag(
                "prefix",
                "list",
                "Prefix of keys (repeat; the later wins). With this flag all arguments are the command.",
                complete="keys",
            ),
            Flag("upcase", "bool", "Names in upper case.", default="true"),
            Flag("sanitize", "bool", "Turn all in a name but letters, digits and `_` into `_`."),
            Flag("pristine", "bool", "The command gets these variables only, none of ours."),
            Flag("restart", "bool", "Restart the command when a value changes.", default="true"),
            Flag("once", "bool", "Read the values once and never look again."),
            Flag("splay", "duration", "Wait a random time up to this before a restart."),
            Flag("kill-signal", "string", "What asks the command to end for a restart.", default="SIGTERM"),
            Flag("kill-timeout", "duration", "KILL follows after this time.", default="30s"),
        ),
        text="The key PREFIX/db/max-conns becomes DB_MAX_CONNS. Changes within a fifth of a second make one "
        "restart. While no server answers the command keeps running with the last values; at the start they "
        "are waited for.\n"
        "Signals go to the command and all that it started; what it leaves behind ends with it, also when "
        "ctl itself is killed. The exit code is the command's, 128 and the signal if one ended it.",
        example=(
            "ctl env config/web ./run-web --port 80",
            "ctl env --prefix config/all --prefix config/web ./run-web",
            "ctl env --once --pristine config/job env",
        ),
        server=True,
        output=False,
        stops=True,
    ),
)
