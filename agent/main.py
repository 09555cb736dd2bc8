"""The life of the daemon, read top to bottom: flags, configuration, build, run, signals, stop.

Exit codes are Consul's: 0 after a graceful leave, 1 when a signal ended it without one, or when it
could not start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from agent import describe, logs, settings
from agent.agent import Agent
from agent.configfiles import load_config
from agent.interfaces import machine
from agent.process import reap_orphans_as_init
from agent.readiness import ready
from agent.world import World
from core.config.addresses import resolve
from core.config.flags import FlagError, Flags, help_text, parse
from core.errors import ConfigError, CtlError

if TYPE_CHECKING:
    from core.config.settings import Config


# As Go names signals, and so Consul's log.
_NAMES: dict[int, str] = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminated", signal.SIGHUP: "hangup"}


def run(arguments: list[str], standalone: bool = False) -> int:
    """Be an agent until told to stop; the exit code. `standalone` (`ctl agent start`): without a word on
    servers or whom to join it is a whole single server, not a client that waits for servers."""
    try:
        flags = parse(arguments)
    except FlagError as error:
        sys.stderr.write(f"{error}\n\n{help_text()}")
        return 1
    if flags.help:
        sys.stdout.write(help_text())
        return 0
    try:
        flags, config = _configure(flags, standalone)
        addresses = resolve(config, machine())
        logs.hub.configure(settings.log(config))
    except ConfigError as error:
        sys.stderr.write(f"==> {error}\n")
        return 1
    for text in config.warnings:
        sys.stderr.write(f"==> {text}\n")
    hub = logs.hub

    async def life() -> int:
        agent = Agent(config, addresses, lambda: _configure(flags, standalone)[1], World(), hub)
        return await _live(agent)

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(life())
        except CtlError as error:
            logs.get_logger("agent").error("Error starting agent", error=str(error))
            return 1
        finally:
            hub.flush()


def _configure(flags: Flags, standalone: bool) -> tuple[Flags, Config]:
    config = load_config(flags)
    alone = not (config["server"] or config["retry_join"] or config["start_join"])
    if standalone and alone and "server" not in config.given:
        flags = flags._replace(values={**flags.values, "server": True, "bootstrap": True})
        config = load_config(flags)
        config.warnings.append(
            "No server is configured or to be joined: this agent is a single server of its own."
        )
    if config.problems:
        raise ConfigError("\n".join(config.problems))
    return flags, config


async def _live(agent: Agent) -> int:
    sys.stdout.write(describe.banner(agent))
    sys.stdout.flush()
    log = logs.get_logger("agent")
    loop = asyncio.get_running_loop()
    ending = _Ending(agent, log)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.asked, number)
    loop.add_signal_handler(signal.SIGHUP, ending.reload)
    loop.set_exception_handler(lambda _, context: _defect(log, context))
    pid_file = _write_pid(agent.config["pid_file"])
    try:
        reap_orphans_as_init()
        await agent.start()
        _settle_memory()
        log.info("Consul agent running!", node=agent.node_name, ctl=True)
        if not agent.config["retry_join"]:
            ready()
        await agent.stopping.wait()
    finally:
        await agent.stop()
        if pid_file:
            with contextlib.suppress(OSError):
                os.unlink(pid_file)
        log.info("Exit code", code=agent.exit_code)
    return agent.exit_code


def _settle_memory() -> None:
    """What was loaded to start stays for ever: the collector need not walk it again. And it runs more
    seldom, since most objects here die by reference count; a walk over a large state takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _Ending:
    """What signals mean. The first one asks, a second one insists."""

    def __init__(self, agent: Agent, log: logs.Logger) -> None:
        self._agent, self._log = agent, log
        self._asked = False
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, number: int) -> None:
        config = self._agent.config
        self._log.info("Caught", signal=_NAMES[number])
        if number == signal.SIGINT:
            leaves = not config["skip_leave_on_interrupt"]
        else:
            leaves = config["leave_on_terminate"]
        if self._asked or not leaves:
            if not self._asked:
                self._log.info("Graceful shutdown disabled. Exiting")
            self._agent.stopping.set()
        else:
            self._spawn(self._leave())
        self._asked = True

    async def _leave(self) -> None:
        try:
            await self._agent.leave()
        except CtlError as error:
            self._log.warn("ending without a leave", reason=str(error))
            self._agent.stopping.set()

    def reload(self) -> None:
        self._log.info("Caught", signal=_NAMES[signal.SIGHUP])
        self._spawn(self._reload())

    async def _reload(self) -> None:
        try:
            await self._agent.reload()
        except CtlError as error:
            self._log.error("the configuration was not reloaded, the old one stays", error=str(error))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _defect(log: logs.Logger, context: dict[str, object]) -> None:
    """A callback or task raised what nobody expected: said aloud, survived."""
    error = context.get("exception")
    trace = ""
    if isinstance(error, BaseException):
        import traceback

        trace = "".join(traceback.format_exception(error))
    log.error("unexpected error", what=str(context.get("message", "")), error=repr(error), trace=trace)


def _write_pid(path: str) -> str:
    if path:
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # /run is empty after a boot
            with open(path, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        except OSError as error:
            raise ConfigError(f"could not create pid file {path}: {error.strerror}") from None
    return path
