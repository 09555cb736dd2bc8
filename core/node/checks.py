"""What a check's results mean: thresholds, TTL expiry, output limits, aliases, overdue services.

Pure rules and small machines; `agent/checks.py` runs the probes and feeds them. Times named `now` are
seconds of one monotonic clock, durations of definitions are nanoseconds (core/codec/duration.py).
reference/config.md section 5; Consul 1.9.8 for the semantics, 1.21 for the warning threshold and UDP,
H2PING and OS service checks."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random

from msgspec import Struct

from core.codec.duration import MINUTE, SECOND, quote
from core.errors import Invalid
from core.store.structs import CRITICAL, PASSING, WARNING, HealthCheck

OUTPUT_MAX_SIZE = 4096
"""Bytes of output that are kept when neither the agent nor the check says otherwise."""

INTERVAL_MIN = SECOND
"""Shorter intervals are raised to this."""

SCRIPT_TIMEOUT = 30 * SECOND
TIMEOUT = 10 * SECOND
"""Default timeouts: of whatever runs a command, and of whatever asks over the network."""

REAP_EVERY = 30.0
"""Seconds between looks for services whose critical check is overdue."""

REAP_MIN = MINUTE
"""`deregister_critical_service_after` is raised to this."""

ALIAS_REFRESH = 60.0
"""Seconds after which an alias looks again although nothing woke it."""

_COMMANDS = ("script", "docker", "os_service")


class Result(Struct, frozen=True):
    """What one run of a check found."""

    status: str
    output: str


def status_of_http(code: int) -> str:
    """2xx passes, 429 (RFC 6585) warns, everything else is critical."""
    if 200 <= code <= 299:
        return PASSING
    return WARNING if code == 429 else CRITICAL


def status_of_exit(code: int) -> str:
    """Exit code 0 passes, 1 warns, everything else (death by a signal, negative here, too) is critical."""
    if code == 0:
        return PASSING
    return WARNING if code == 1 else CRITICAL


def effective_interval(interval: int) -> int:
    """The interval that is used, nanoseconds."""
    return max(interval, INTERVAL_MIN)


def effective_timeout(kind: str, timeout: int) -> int:
    """The timeout that is used, nanoseconds; 0 or less means the default of the kind."""
    if timeout > 0:
        return timeout
    return SCRIPT_TIMEOUT if kind in _COMMANDS else TIMEOUT


def effective_output_size(agent_limit: int, check_limit: int) -> int:
    """Bytes of output to keep: a check may ask for less than the agent keeps, not for more."""
    limit = agent_limit if agent_limit > 0 else OUTPUT_MAX_SIZE
    return min(limit, check_limit) if check_limit > 0 else limit


def first_delay(interval: int, random: Random) -> float:
    """Seconds until the first run: anywhere within the interval, so that the checks of an agent (and of a
    fleet that was started at once) spread out."""
    return random.random() * interval / SECOND


class Thresholds:
    """How many results in a row it takes to change a status.

    A warning counts as a success. The counters start at their thresholds, so the first result after the
    start is believed at once, whatever it is; from then on a change needs a full run of equal results.
    Failures that have not reached `failures_before_critical` but `failures_before_warning` show as a
    warning; the latter is the former when not given."""

    __slots__ = ("_critical", "_failures", "_passing", "_successes", "_warning")

    def __init__(
        self, success_before_passing: int, failures_before_warning: int, failures_before_critical: int
    ) -> None:
        self._passing = success_before_passing
        self._warning = failures_before_warning or failures_before_critical
        self._critical = failures_before_critical
        self._successes = self._passing
        self._failures = self._critical

    def judge(self, status: str) -> str | None:
        """The status to record for a run that found `status`; None: keep what is recorded."""
        if status in (PASSING, WARNING):
            self._successes += 1
            self._failures = 0
            return status if self._successes >= self._passing else None
        self._failures += 1
        self._successes = 0
        if self._failures >= self._critical:
            return status
        return WARNING if self._failures >= self._warning else None

    def progress(self) -> dict[str, int]:
        """Where the counters stand, for the log."""
        if self._failures:
            return {
                "failure_count": self._failures,
                "warning_threshold": self._warning,
                "failure_threshold": self._critical,
            }
        return {"success_count": self._successes, "success_threshold": self._passing}


class Tail:
    """The last `limit` bytes of a stream, and how many bytes there were."""

    __slots__ = ("_data", "_limit", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.total = 0

    def write(self, data: bytes) -> None:
        """Take more of the stream."""
        self.total += len(data)
        self._data += data[-self._limit :]
        if len(self._data) > 2 * self._limit:
            del self._data[: -self._limit]

    def text(self) -> str:
        """What was kept, as text; bytes that are not UTF-8 become U+FFFD."""
        return self._data[-self._limit :].decode("utf-8", "replace")

    def report(self) -> str:
        """What was kept, with a first line that says so when something was lost (scripts, Docker)."""
        if self.total <= self._limit:
            return self.text()
        return f"Captured {self._limit} of {self.total} bytes\n...\n{self.text()}"


def cap_note(output: str, limit: int) -> str:
    """The note of a TTL update: its first `limit` bytes, and a word that some are missing."""
    data = output.encode("utf-8", "replace")
    if len(data) <= limit:
        return output
    kept = data[:limit].decode("utf-8", "replace")
    return f"{kept} ... (captured {limit} of {len(data)} bytes)"


class Timers:
    """Many named deadlines, the earliest first. O(log n) each; a name has one deadline at a time."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._live: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, name: str) -> bool:
        return name in self._live

    def set(self, name: str, when: float) -> None:
        """Give `name` the deadline `when` (seconds), instead of the one it had."""
        self._live[name] = when
        heapq.heappush(self._heap, (when, name))
        if len(self._heap) > 2 * len(self._live) + 64:  # mostly superseded: a TTL renewed very often
            self._heap = [(when, name) for name, when in self._live.items()]
            heapq.heapify(self._heap)

    def cancel(self, name: str) -> None:
        """Forget `name`; no error if there is none."""
        self._live.pop(name, None)

    def deadline(self) -> float | None:
        """The earliest deadline, None if there is none."""
        while self._heap:
            when, name = self._heap[0]
            if self._live.get(name) == when:
                return when
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[str]:
        """Take out the names whose deadline has come, the earliest first."""
        names = []
        while (when := self.deadline()) is not None and when <= now:
            _, name = heapq.heappop(self._heap)
            del self._live[name]
            names.append(name)
        return names


class _Ttl:
    __slots__ = ("limit", "output", "ttl")

    def __init__(self, ttl: float, limit: int) -> None:
        self.ttl = ttl
        self.limit = limit
        self.output = ""


class TtlChecks:
    """The checks that turn critical unless somebody speaks for them in time. A machine:
    add, remove, update; `deadline()` and `expire(now)`. Once expired, a check waits for the next update."""

    __slots__ = ("_checks", "_timers")

    def __init__(self) -> None:
        self._checks: dict[str, _Ttl] = {}
        self._timers = Timers()

    def __len__(self) -> int:
        return len(self._checks)

    def add(self, check_id: str, ttl: int, limit: int, now: float) -> None:
        """Watch a check: `ttl` nanoseconds from now until it expires, `limit` bytes of output kept."""
        self._checks[check_id] = _Ttl(ttl / SECOND, limit)
        self._timers.set(check_id, now + ttl / SECOND)

    def remove(self, check_id: str) -> None:
        """Stop watching; no error if there is none."""
        self._checks.pop(check_id, None)
        self._timers.cancel(check_id)

    def update(self, check_id: str, output: str, now: float) -> str:
        """Somebody spoke: the time starts anew. Returns the output as it is recorded.
        Invalid if the check is none of these."""
        check = self._checks.get(check_id)
        if check is None:
            raise Invalid(f"CheckID {quote(check_id)} does not have associated TTL")
        check.output = cap_note(output, check.limit)
        self._timers.set(check_id, now + check.ttl)
        return check.output

    def deadline(self) -> float | None:
        """When to call `expire` next."""
        return self._timers.deadline()

    def expire(self, now: float) -> list[tuple[str, str]]:
        """The checks whose time is over, with the output to record (status critical)."""
        return [(check_id, self._expired(self._checks[check_id])) for check_id in self._timers.due(now)]

    @staticmethod
    def _expired(check: _Ttl) -> str:
        if not check.output:
            return "TTL expired"
        return f"TTL expired (last output before timeout follows): {check.output}"


class OverdueChecks:
    """Checks with `deregister_critical_service_after`: those critical for too long. The time counts from
    the first critical result, not from a critical initial status."""

    __slots__ = ("_after", "_since")

    def __init__(self) -> None:
        self._after: dict[str, float] = {}
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._after)

    def add(self, check_id: str, after: int) -> None:
        """Watch a check: `after` nanoseconds, at least a minute."""
        self._after[check_id] = max(after, REAP_MIN) / SECOND

    def remove(self, check_id: str) -> None:
        """Stop watching; no error if there is none."""
        self._after.pop(check_id, None)
        self._since.pop(check_id, None)

    def observe(self, check_id: str, status: str, now: float) -> None:
        """A status was recorded."""
        if check_id not in self._after:
            return
        if status == CRITICAL:
            self._since.setdefault(check_id, now)
        else:
            self._since.pop(check_id, None)

    def overdue(self, now: float) -> list[str]:
        """The checks that are critical for longer than they may; asked every REAP_EVERY seconds."""
        return [check_id for check_id, since in self._since.items() if now - since > self._after[check_id]]


class AliasView(Struct, frozen=True):
    """What is known of the target of an alias: the checks of its node (the service's own among them),
    whether the service exists there, and why nothing is known if that is so."""

    checks: Sequence[HealthCheck] = ()
    exists: bool = True
    error: str = ""


def alias_result(check_id: str, node: str, service_id: str, view: AliasView) -> Result:
    """The status of the alias `check_id`: the worst of the node's checks and of the service's checks.

    A target without checks passes; a service that does not exist is critical. An alias that is itself a
    check of its target does not count itself, or it could never recover."""
    if view.error:
        return Result(CRITICAL, f"Failure checking aliased node or service: {view.error}")
    of_target = [check for check in view.checks if check.service_id in ("", service_id)]
    mine = [check for check in of_target if check.check_id != check_id]
    if service_id and not view.exists and not any(check.service_id == service_id for check in mine):
        return Result(CRITICAL, f"Service {service_id} could not be found on node {node}")
    for status in (CRITICAL, WARNING):
        for check in mine:
            if check.status == status:
                return Result(status, f"Aliased check {quote(check.name)} failing: {check.output}")
    return Result(PASSING, "All checks passing." if mine else "No checks found.")
