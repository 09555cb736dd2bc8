"""Runs the checks of this agent and tells what they find.

    runner = CheckRunner(world, on_result, CheckSettings(...))
    runner.start("api", definition, "critical")     # on the event loop
    runner.ttl_update("lease", "passing", "fine")
    runner.stop("api")
    await runner.stop_all()

One heap holds when each check is due, with one timer of the event loop for all; a run is a task of its
own, so a check that hangs delays nobody. What results mean is decided in core/node/checks.py, what a
kind of check does is in agent/checks_*.py, imported when the first check of the kind starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from agent.checks_net import AgentTls, Dialer
from agent.logs import get_logger
from agent.process import GRACE, LINGER
from agent.world import World
from core.codec.duration import SECOND, show
from core.errors import Invalid
from core.node.checks import (
    ALIAS_REFRESH,
    INTERVAL_MIN,
    OUTPUT_MAX_SIZE,
    REAP_EVERY,
    AliasView,
    OverdueChecks,
    Result,
    Thresholds,
    Timers,
    TtlChecks,
    alias_result,
    effective_interval,
    effective_output_size,
    effective_timeout,
    first_delay,
)
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL

logger = get_logger("agent")

_STOP_MAX = GRACE + LINGER + 1.0

OnResult = Callable[[str, str, str], None]
"""Takes check id, status, output; called on the event loop after every run that counts."""

Report = Callable[[Result], None]
Probe = Callable[[Report], Awaitable[None]]
"""One run of a check: reports once, and returns when nothing of the run is left."""


class AliasDoor(Protocol):
    """Where aliases look at the checks of others. An empty node is this agent's, an empty service the
    node itself."""

    def view(self, node: str, service_id: str) -> AliasView:
        """What is known now."""

    def subscribe(self, node: str, service_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (cheap, may be called at any time) whenever the view may have changed; the function
        returned ends that."""


class CheckSettings(Struct, kw_only=True):
    """What the agent's configuration says about all checks."""

    output_max_size: int = OUTPUT_MAX_SIZE
    agent_tls: AgentTls | None = None
    """With `enable_agent_tls_for_checks`."""
    docker_host: str = ""
    """`unix:///var/run/docker.sock` or `tcp://host:port`; empty: DOCKER_HOST, or Docker's default."""
    alias: AliasDoor | None = None
    on_overdue: Callable[[str], None] | None = None
    """A check was critical for `deregister_critical_service_after`: its service should go. Called again
    every 30 s until the check is stopped."""


class _Monitor:
    """A check that runs by itself."""

    __slots__ = ("check_id", "definition", "interval", "probe", "status", "task", "thresholds")

    def __init__(self, check_id: str, definition: CheckDefinition, status: str, probe: Probe) -> None:
        self.check_id = check_id
        self.definition = definition
        self.status = status
        self.probe = probe
        self.interval = effective_interval(definition.interval)
        self.thresholds = Thresholds(
            definition.success_before_passing,
            definition.failures_before_warning,
            definition.failures_before_critical,
        )
        self.task: asyncio.Task[None] | None = None


class _Alias:
    """A check that shows the health of something else."""

    __slots__ = ("cancel", "check_id", "definition", "last")

    def __init__(self, check_id: str, definition: CheckDefinition, cancel: Callable[[], None]) -> None:
        self.check_id = check_id
        self.definition = definition
        self.cancel = cancel
        self.last: Result | None = None


class CheckRunner:
    """All running checks of an agent. Belongs to one event loop; a check id is one check."""

    def __init__(self, world: World, on_result: OnResult, settings: CheckSettings | None = None) -> None:
        self.settings = settings or CheckSettings()
        self._world = world
        self._on_result = on_result
        self._monitors: dict[str, _Monitor] = {}
        self._aliases: dict[str, _Alias] = {}
        self._due = Timers()
        self._ttl = TtlChecks()
        self._overdue = OverdueChecks()
        self._next_reap: float | None = None
        self._dialer = Dialer(self.settings.agent_tls)
        self._ending: dict[str, set[asyncio.Task[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def monitors(self) -> int:
        """How many checks run by themselves."""
        return len(self._monitors)

    @property
    def ttls(self) -> int:
        """How many checks are spoken for by others."""
        return len(self._ttl)

    @property
    def aliases(self) -> int:
        """How many checks show the health of something else."""
        return len(self._aliases)

    def configure(self, settings: CheckSettings) -> None:
        """Take settings of a reloaded configuration. TLS files are read again for the next connection; the
        rest holds for checks that start from now on."""
        self.settings = settings
        self._dialer.use(settings.agent_tls)

    def start(self, check_id: str, definition: CheckDefinition, initial_status: str = CRITICAL) -> None:
        """Start a check, or replace the one of that id. One that runs with an equal definition goes on
        undisturbed, with its counters. Invalid if the definition is of no kind."""
        kind = definition.kind
        if not kind:
            raise Invalid("Check type is not valid")
        running = self._monitors.get(check_id)
        if running is not None and running.definition == definition:
            return
        self.stop(check_id)
        if kind == "ttl":
            limit = effective_output_size(self.settings.output_max_size, definition.output_max_size)
            self._ttl.add(check_id, definition.ttl, limit, self._world.now())
        elif kind == "alias":
            self._start_alias(check_id, definition)
        else:
            self._start_monitor(check_id, definition, initial_status)
        if definition.deregister_critical_service_after > 0:
            self._overdue.add(check_id, definition.deregister_critical_service_after)
            if self._next_reap is None:
                self._next_reap = self._world.now() + REAP_EVERY
        self._arm()

    def stop(self, check_id: str) -> None:
        """Stop a check; no error if there is none. Nothing of it is reported from now on. A command that
        it runs is ended (`stop_all` waits for that, and so does a next check of the same id)."""
        self._due.cancel(check_id)
        self._ttl.remove(check_id)
        self._overdue.remove(check_id)
        alias = self._aliases.pop(check_id, None)
        if alias is not None:
            alias.cancel()
        monitor = self._monitors.pop(check_id, None)
        if monitor is not None and monitor.task is not None:
            self._end(check_id, monitor.task)

    async def stop_all(self) -> None:
        """Stop every check and wait until what they run is gone, but not for a command that not even KILL
        can end."""
        for check_id in [*self._monitors, *self._aliases]:
            self.stop(check_id)
        self._ttl = TtlChecks()
        self._overdue = OverdueChecks()
        self._next_reap = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ending = [task for tasks in self._ending.values() for task in tasks]
        if ending:
            await asyncio.wait(ending, timeout=_STOP_MAX)
        self._dialer.close()

    def ttl_update(self, check_id: str, status: str, output: str) -> None:
        """Somebody speaks for a TTL check: record that, and start its time anew. Invalid if it is none."""
        now = self._world.now()
        output = self._ttl.update(check_id, output, now)
        logger.debug("Check status updated", check=check_id, status=status)
        self._record(check_id, status, output)
        self._arm()

    # starting and ending

    def _start_monitor(self, check_id: str, definition: CheckDefinition, status: str) -> None:
        if definition.interval < INTERVAL_MIN:
            logger.warn(
                "check has interval below minimum", check=check_id, minimum_interval=show(INTERVAL_MIN)
            )
        monitor = _Monitor(check_id, definition, status, self._probe(definition))
        self._monitors[check_id] = monitor
        self._due.set(check_id, self._world.now() + first_delay(monitor.interval, self._world.random))

    def _start_alias(self, check_id: str, definition: CheckDefinition) -> None:
        door = self.settings.alias
        if door is None:
            raise Invalid("alias checks are not available on this agent")
        cancel = door.subscribe(
            definition.alias_node, definition.alias_service, lambda: self._wake_alias(check_id)
        )
        self._aliases[check_id] = _Alias(check_id, definition, cancel)
        self._due.set(check_id, self._world.now())

    def _probe(self, definition: CheckDefinition) -> Probe:
        kind = definition.kind
        timeout = effective_timeout(kind, definition.timeout)
        size = effective_output_size(self.settings.output_max_size, definition.output_max_size)
        if kind == "script":
            from agent.checks_process import ScriptProbe

            return ScriptProbe(definition, timeout, size).run
        if kind == "os_service":
            from agent.checks_process import OsServiceProbe

            return OsServiceProbe(definition, timeout, size).run
        if kind == "docker":
            from agent.checks_docker import DockerProbe

            return _reporting(
                DockerProbe(definition, self._dialer, timeout, size, self.settings.docker_host).run
            )
        return _reporting(self._network_probe(kind, definition, timeout / SECOND, size))

    def _network_probe(
        self, kind: str, definition: CheckDefinition, timeout: float, size: int
    ) -> Callable[[], Awaitable[Result]]:
        if kind == "http":
            from agent.checks_http import HttpProbe

            return HttpProbe(definition, self._dialer, timeout, size).run
        if kind == "tcp":
            from agent.checks_socket import TcpProbe

            return TcpProbe(definition, self._dialer, timeout).run
        if kind == "udp":
            from agent.checks_socket import UdpProbe

            return UdpProbe(definition, self._dialer, timeout).run
        if kind == "grpc":
            from agent.checks_http2 import GrpcProbe

            return GrpcProbe(definition, self._dialer, timeout).run
        if kind == "h2ping":
            from agent.checks_http2 import H2PingProbe

            return H2PingProbe(definition, self._dialer, timeout).run
        raise Invalid("Check type is not valid")

    def _end(self, check_id: str, task: asyncio.Task[None]) -> None:
        tasks = self._ending.setdefault(check_id, set())
        tasks.add(task)
        task.cancel()

        def ended(_: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not tasks and self._ending.get(check_id) is tasks:
                del self._ending[check_id]

        task.add_done_callback(ended)

    # time

    def _arm(self) -> None:
        """See to it that the timer fires when the next thing is due (or before: that costs a look)."""
        deadlines = (self._due.deadline(), self._ttl.deadline(), self._next_reap)
        first = min((when for when in deadlines if when is not None), default=None)
        if first is None:
            return
        if self._timer is not None:
            if self._timer_at <= first:
                return
            self._timer.cancel()
        self._timer_at = first
        delay = max(0.0, first - self._world.now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._world.now()
        for check_id, output in self._ttl.expire(now):
            logger.warn("Check missed TTL, is now critical", check=check_id)
            self._record(check_id, CRITICAL, output)
        for check_id in self._due.due(now):
            monitor = self._monitors.get(check_id)
            if monitor is not None:
                self._begin(monitor)
            elif check_id in self._aliases:
                self._look_at_alias(self._aliases[check_id])
        if self._next_reap is not None and self._next_reap <= now:
            self._reap(now)
        self._arm()

    def _reap(self, now: float) -> None:
        self._next_reap = now + REAP_EVERY if len(self._overdue) else None
        for check_id in self._overdue.overdue(now):
            if self.settings.on_overdue is not None:
                self.settings.on_overdue(check_id)

    # running

    def _begin(self, monitor: _Monitor) -> None:
        task = asyncio.get_running_loop().create_task(self._run(monitor))
        monitor.task = task
        task.add_done_callback(lambda done: self._ran(monitor, done))

    async def _run(self, monitor: _Monitor) -> None:
        before = self._ending.get(monitor.check_id)
        if before:
            await asyncio.wait(before)
        await monitor.probe(lambda result: self._judge(monitor, result))

    def _ran(self, monitor: _Monitor, task: asyncio.Task[None]) -> None:
        monitor.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # a defect of ours; the check goes on, and does not show an old status as if it were new
            import traceback

            trace = "".join(traceback.format_exception(error))
            logger.error("Check could not be run", check=monitor.check_id, trace=trace)
            self._judge(monitor, Result(CRITICAL, f"check could not be run: {error!r}"))
        if self._monitors.get(monitor.check_id) is monitor:
            self._due.set(monitor.check_id, self._world.now() + monitor.interval / SECOND)
            self._arm()

    def _judge(self, monitor: _Monitor, result: Result) -> None:
        if self._monitors.get(monitor.check_id) is not monitor:
            return  # stopped meanwhile
        status = monitor.thresholds.judge(result.status)
        if status is None:
            logger.warn(
                "Check has not reached its threshold",
                check=monitor.check_id,
                status=result.status,
                **monitor.thresholds.progress(),
            )
            return
        if status != monitor.status:
            tell = logger.warn if status == CRITICAL else logger.info
            tell(f"Check is now {status}", check=monitor.check_id)
            monitor.status = status
        self._record(monitor.check_id, status, result.output)

    def _record(self, check_id: str, status: str, output: str) -> None:
        self._overdue.observe(check_id, status, self._world.now())
        self._on_result(check_id, status, output)

    # aliases

    def _wake_alias(self, check_id: str) -> None:
        if check_id in self._aliases:
            self._due.set(check_id, self._world.now())
            self._arm()

    def _look_at_alias(self, alias: _Alias) -> None:
        """Report if something is new, and only then: the report may wake this very alias again."""
        assert self.settings.alias is not None  # it was subscribed to
        definition = alias.definition
        node, service_id = definition.alias_node, definition.alias_service
        result = alias_result(alias.check_id, node, service_id, self.settings.alias.view(node, service_id))
        limit = effective_output_size(self.settings.output_max_size, definition.output_max_size)
        result = Result(result.status, result.output[:limit])  # aliases of aliases would grow for ever
        self._due.set(alias.check_id, self._world.now() + ALIAS_REFRESH)
        if result != alias.last:
            alias.last = result
            self._record(alias.check_id, result.status, result.output)


def _reporting(run: Callable[[], Awaitable[Result]]) -> Probe:
    async def probe(report: Report) -> None:
        report(await run())

    return probe
