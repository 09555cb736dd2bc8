"""`ctl lock`: run a command while holding a lock. reference/watch.md section 5.

The session is renewed and the lock watched on threads (`cli/lease.py`); this one waits for the lock, then
for the child, and passes signals on."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from cli.command import Argument, Command, Failure, Flag, Usage

if TYPE_CHECKING:
    from cli.call import Call
    from cli.client import Client
    from cli.lease import Lease, Monitor, News
    from cli.lockkeys import KV, Busy, Held, Mutex, Semaphore
    from cli.supervise import Signals, Supervisor

CHILD_FAILED = 2
RELEASE_WITHIN = 10.0  # seconds that giving the lock back may take
_GIVEN_UP = "Shutdown triggered or timeout during lock acquisition"


class Plan(NamedTuple):
    """What the flags and arguments ask for."""

    prefix: str
    words: list[str]
    name: str
    limit: int
    timeout: float  # seconds to try, 0 for ever
    retries: int | None

    @classmethod
    def of(cls, call: Call) -> Plan:
        """Usage for what cannot be."""
        from cli.supervise import shell_words

        if len(call.arguments) < 2:
            raise Usage("Key prefix and child command must be specified")
        prefix, child = call.arguments[0], call.arguments[1:]
        limit = call.number("n", 1)
        if limit <= 0:
            raise Usage("Lock holder limit must be positive")
        timeout = call.number("timeout") or call.number("try")
        if timeout < 0:
            raise Usage("Timeout must be positive")
        retries = call.number("monitor-retry") if "monitor-retry" in call.values else None
        if retries is not None and retries < 0:
            raise Usage("Number of monitor retries must not be negative")
        folder = os.path.normpath(prefix).lstrip("/") if prefix.strip("/") else ""
        if not folder or folder.startswith(".."):
            raise Usage(f"Error: no key prefix: {prefix!r}")
        line = " ".join(child)
        words = shell_words(line) if call.yes("shell", True) else child
        name = call.text("name") or f"Consul lock for '{line}' at '{prefix}'"
        return cls(folder, words, name, limit, timeout / 1e9, retries)


def lock(call: Call) -> int:
    """`lock`: wait for the lock, run the child, give the lock back."""
    from cli.lease import News
    from cli.supervise import Signals, Stop, Supervisor, exit_status

    plan = Plan.of(call)
    with Signals() as signals, Supervisor(signals) as supervisor:
        supervisor.prepare()
        holder = _Holder(call, plan, signals, News())
        try:
            with signals.interruptible():
                holder.begin()
            token = holder.acquire()
        except Stop as stop:
            holder.give_up()
            _note(_GIVEN_UP)
            return 1 if call.name == "consul" else exit_status(-stop.number)
        except TimeoutError:
            holder.give_up()
            raise Failure(_GIVEN_UP, kind="conflict") from None
        except Failure:
            holder.give_up()
            raise
        return holder.run(supervisor, token)


class _Holder:
    """One go at a lock, from the session to the end of the child."""

    def __init__(self, call: Call, plan: Plan, signals: Signals, news: News) -> None:
        from cli.lockkeys import KV

        self._call, self._plan, self._signals, self._news = call, plan, signals, news
        # -stale would let a server answer that does not know who holds the lock
        self._query = [pair for pair in call.query() if pair[0] == "dc"]
        self._kv: KV = KV(call.client, self._query)
        self._deadline = time.monotonic() + plan.timeout if plan.timeout else None
        self._lease: Lease | None = None
        self._keys: Mutex | Semaphore

    # before

    def begin(self) -> None:
        """Make the session."""
        from cli.lease import Lease
        from cli.lockkeys import Mutex, Semaphore

        plan = self._plan
        self._say(f"Setting up lock at path: {plan.prefix}/.lock")
        self._kv.client.wakeup = self._signals.wakeup
        self._kv.client.deadline = self._deadline
        lease = Lease(self._dial, self._query, self._news)
        lease.create(self._kv.client, plan.name)
        if plan.limit == 1:
            self._keys = Mutex(plan.prefix, lease.session)
        else:
            self._keys = Semaphore(plan.prefix, lease.session, plan.limit)
        self._lease = lease

    def acquire(self) -> int:
        """The fencing token, once the lock is ours. Stop, TimeoutError, Failure."""
        from cli.lockkeys import Held

        self._say("Attempting lock acquisition")
        index = 0
        while True:
            try:
                found = self._attempt(index)
            except Failure as failure:
                self._check_deadline()
                if self._session_ended(failure):
                    with self._signals.interruptible():
                        self.begin()
                else:
                    self._wait_out(failure)
                index = 0
                continue
            if isinstance(found, Held):
                if not self._lease_lapsed():
                    with self._signals.interruptible():  # the last moment to give up without a child
                        return found.token
                self._sleep(0.1)  # it was not renewed for long: a renewal is on its way, or an end
                continue
            index = found.after
            if found.pause:
                self._sleep(found.pause)
            else:
                self._check_deadline()

    def _attempt(self, index: int) -> Held | Busy:
        from cli.lease import PATIENCE, WAIT

        wait = WAIT
        if self._deadline is not None:
            wait = min(WAIT, max(0.001, self._deadline - time.monotonic()))
        waiting = [("index", str(index)), ("wait", f"{max(1, int(wait * 1000))}ms")] if index else []
        self._kv.client.deadline = time.monotonic() + wait * 17 / 16 + PATIENCE
        with self._signals.interruptible():
            return self._keys.attempt(self._kv, waiting)

    def _session_ended(self, failure: Failure) -> bool:
        """Whether we must begin anew: the session is gone, and what was asked in its name refused."""
        assert self._lease is not None
        return bool(self._lease.lost) or "invalid session" in str(failure)

    def _wait_out(self, failure: Failure) -> None:
        from cli.lease import RETRY_EVERY, is_passing

        if not is_passing(failure):
            if str(failure).startswith("Lock acquisition failed"):
                raise failure
            raise Failure(f"Lock acquisition failed: {failure}", kind=failure.kind) from None
        self._sleep(RETRY_EVERY)

    def _lease_lapsed(self) -> bool:
        assert self._lease is not None
        return self._lease.lapsed

    def _sleep(self, seconds: float) -> None:
        if self._deadline is not None:
            seconds = max(0.0, min(seconds, self._deadline - time.monotonic()))
        self._signals.sleep(seconds)
        self._check_deadline()

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeoutError

    def give_up(self) -> None:
        """Leave nothing behind, as far as the agent can be asked."""
        if self._lease is None:
            return
        self._kv.client.close()  # an answer may still be on its way
        self._kv.client.wakeup = -1
        self._kv.client.deadline = time.monotonic() + RELEASE_WITHIN / 2
        with suppress(Failure):  # they are cleared away with what its session holds
            self._keys.leave(self._kv)
        with suppress(Failure):  # it ends by itself
            self._lease.stop(self._kv.client)

    # with the lock

    def run(self, supervisor: Supervisor, token: int) -> int:
        """Run the child for as long as the lock is ours; its exit code."""
        from cli.lease import Monitor
        from cli.lockkeys import KV
        from cli.supervise import StartError, ending

        assert self._lease is not None
        monitor = Monitor(self._keys, KV(self._dial(), self._query), self._plan.retries, self._news)
        self._say("Starting handler")
        environment = {"CONSUL_LOCK_HELD": "true", "CTL_LOCK_INDEX": str(token)}
        try:
            supervisor.start(self._plan.words, environment, own_stdin=self._call.yes("pass-stdin"))
        except StartError as error:
            monitor.stop()
            self._release("")
            raise Failure(f"Error running handler: {error}") from None
        lost = self._wait(supervisor, self._lease, monitor)
        monitor.stop()
        code = supervisor.code or 0
        if code:
            _note(f"Error running handler: {ending(code)}")
        self._say("Child terminated, releasing lock")
        released = self._release(lost)
        return self._status(code, bool(lost) or not released)

    def _wait(self, supervisor: Supervisor, lease: Lease, monitor: Monitor) -> str:
        """Until the child has ended, by itself or because the lock was lost; why it was."""
        lost = ""
        known = 0.0
        while True:
            if lease.until != known:
                known = lease.until
                supervisor.lease(known)
            for number in supervisor.wait(1.0, self._news.readable):
                supervisor.signal(number)
            self._news.clear()
            if not lost:
                lost = lease.lost or monitor.lost
                if not lost and lease.lapsed:
                    lost = "its session could not be renewed for too long"
                if lost:
                    _note(f"Lock lost: {lost}; ending the child")
                    supervisor.end()
            if supervisor.code is not None:
                return lost

    def _release(self, lost: str) -> bool:
        """Whether somebody else may have the lock at once."""
        assert self._lease is not None
        from cli.lease import is_passing

        client = self._kv.client
        client.wakeup = -1
        end = client.deadline = time.monotonic() + (1.0 if lost else RELEASE_WITHIN)
        while True:
            try:
                if not lost:
                    self._keys.leave(self._kv)
                    clean = self._keys.clean(self._kv)
                    self._say("Cleanup succeeded" if clean else "Cleanup aborted, lock in use")
                self._lease.stop(client)
                return True
            except Failure as failure:
                if self._lease.lost or lost:
                    return True
                if not is_passing(failure) or time.monotonic() + 1.0 >= end:
                    _note(f"Lock release failed: {failure}")
                    return False
            time.sleep(0.5)

    def _status(self, code: int, failed: bool) -> int:
        """The exit code. Consul hides how the child ended, or says 2; we do so when asked to."""
        from cli.supervise import exit_status

        call = self._call
        if "child-exit-code" in call.values:
            return CHILD_FAILED if code and call.yes("child-exit-code") else 0
        if call.name == "consul":
            return 0
        return exit_status(code) or (1 if failed else 0)

    def _dial(self) -> Client:
        from cli.client import Client

        return Client(self._call.values)

    def _say(self, text: str) -> None:
        if self._call.yes("verbose"):
            import sys

            self._call.out.line(text)
            sys.stdout.flush()  # before the child writes to the same place


def _note(text: str) -> None:
    from cli.call import note

    note(text)


COMMANDS = (
    Command(
        "lock",
        "Run a command while holding a lock",
        lock,
        arguments=(
            Argument(
                "PREFIX",
                "Where in the KV store the lock is kept: at PREFIX/.lock.",
                complete="keys",
                missing="Key prefix and child command must be specified",
            ),
            Argument(
                "COMMAND",
                "What to run, and its arguments.",
                many=True,
                missing="Key prefix and child command must be specified",
            ),
        ),
        flags=(
            Flag(
                "n", "int", "How many may hold it at a time; more than one make it a semaphore.", default="1"
            ),
            Flag("name", "string", "Name of the session, to be told apart by."),
            Flag("timeout", "duration", "Give up when it is not ours by then, with exit code 1."),
            Flag("try", "duration", "The same, by its older name."),
            Flag("pass-stdin", "bool", "The command gets our standard input, and the terminal if it is one."),
            Flag("shell", "bool", "Run the command through the shell.", default="true"),
            Flag(
                "child-exit-code",
                "bool",
                "Exit with 2 if the command fails, as Consul does; `=false`: with 0. Left out: as it did.",
            ),
            Flag(
                "monitor-retry",
                "int",
                "The lock counts as lost after so many failing looks at it, a second apart. Left out: only "
                "when the session may have ended.",
            ),
            Flag("verbose", "bool", "Tell what happens."),
        ),
        text="Signals go to the command and all that it started; what it leaves behind ends with it. It also "
        "ends, within five seconds, when the lock is lost, or when it could not be kept for so long that "
        "somebody else may soon have it, and when ctl itself is killed.\n"
        "CTL_LOCK_INDEX holds a number that grows with every holder: a store that remembers the highest one "
        "can refuse whoever comes late (a fencing token). CONSUL_LOCK_HELD is `true`.\n"
        "The exit code is the command's, 128 and the signal if one ended it.",
        example=(
            "ctl lock service/web/leader ./run-web",
            "ctl lock -n=3 jobs/import --timeout 10m ./import --all",
        ),
        server=True,
        output=False,
        stops=True,
    ),
)
