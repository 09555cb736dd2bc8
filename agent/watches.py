"""The watches of the configuration: each asks the API again and again, and runs its handler on a change.

    questions by blocking queries -> core/watch decides what is news -> a command, or an HTTP request

A handler runs once for each change and never twice at a time; what changes meanwhile is merged into its
next run. What was handed over last is kept in the data directory (`watches/IDENTITY`), so that neither a
reload nor a restart makes a run of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import inside
from agent.process import Child, SpawnError, spawn
from agent.watch_http import HandlerFailed, HttpHandler
from core.codec import duration, gojson
from core.errors import CtlError
from core.watch.diff import changes
from core.watch.payload import shape, to_text
from core.watch.progress import EventProgress, Progress, back_off, identity
from core.watch.question import question

if TYPE_CHECKING:
    from agent.front import Front
    from agent.logs import Logger
    from agent.world import World

_KINDS = ("key", "keyprefix", "services", "nodes", "service", "checks", "event")
_OUTPUT = 4096  # bytes of a handler's output that the log gets


class Watches:
    """All of them. `reload` starts what is new, ends what is gone, and leaves the rest alone."""

    def __init__(self, front: Front, folder: Path | None, world: World, log: Logger) -> None:
        """`folder` is the data directory; None: nothing is kept."""
        self._front, self._world, self._log = front, world, log
        self._folder = folder / "watches" if folder is not None else None
        self._running: dict[str, tuple[_Watch, asyncio.Task[None]]] = {}

    def reload(self, definitions: list[dict[str, Any]]) -> None:
        """Watch these from now on; they have been found right (core/config/problems.py)."""
        wanted = {identity(definition): definition for definition in definitions}
        for name in self._running.keys() - wanted.keys():
            watch, task = self._running.pop(name)
            watch.end(task)
        for name, definition in wanted.items():
            if name in self._running:
                self._running[name][0].token = definition.get("token", "")
                continue
            if definition["type"] not in _KINDS:
                self._log.error("this agent has no mesh to watch", type=definition["type"])
                continue
            watch = _Watch(definition, self._front, self._place(name), self._world, self._log)
            task = asyncio.get_running_loop().create_task(watch.run())
            task.add_done_callback(self._over)
            self._running[name] = watch, task

    def _over(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("a watch ended by a defect", error=repr(error))

    def _place(self, name: str) -> Path | None:
        return self._folder / name if self._folder is not None else None

    async def stop(self) -> None:
        """End them all, with the commands that run."""
        running = list(self._running.values())
        self._running.clear()
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


class _Watch:
    """One watch and its handler."""

    def __init__(
        self, definition: Mapping[str, Any], front: Front, place: Path | None, world: World, log: Logger
    ) -> None:
        self.token: str = definition.get("token", "")
        self._front, self._place, self._world, self._log = front, place, world, log
        self._question = question(definition)
        options = [("stale", "")] if definition.get("stale") else []
        self._options = options + ([("dc", dc)] if (dc := definition.get("datacenter")) else [])
        self._command: list[str] | str = definition.get("args") or definition.get("handler") or ""
        self._http: HttpHandler | None = None
        if definition.get("handler_type") == "http":
            self._http = HttpHandler(definition["http_handler_config"])
        self._wants_diff = bool(definition.get("diff"))
        self._initial = bool(definition.get("initial"))
        self._pause = duration.parse(definition.get("debounce") or "0s") / duration.SECOND
        self._progress = EventProgress() if self._question.kind == "event" else Progress()
        self._before: Any = None  # the last payload, for those who want to know what changed
        self._busy = False  # a handler runs
        self._ended = False

    def end(self, task: asyncio.Task[None]) -> None:
        """No more of this; a handler that runs may go on to its end."""
        self._ended = True
        if not self._busy:
            task.cancel()

    async def run(self) -> None:
        """Until `end`, or until cancelled, which ends a command that runs too."""
        if not self._initial:
            await asyncio.to_thread(self._recall)
        failures = 0
        while not self._ended:
            try:
                await self._step()
                failures = 0
            except CtlError as error:
                failures += 1
                seconds = back_off(failures)
                self._log.error(
                    "Watch errored", type=self._question.kind, error=error.text, retry=f"{seconds:g}s"
                )
                await asyncio.sleep(seconds)

    async def _step(self) -> None:
        index, payload = await self._ask(self._progress.index)
        changed, payload = self._progress.take(index, payload)
        if not changed:
            return
        if self._pause:
            await asyncio.sleep(self._pause)
            index, later = await self._ask(0)
            more, later = self._progress.take(index, later)
            if more:  # an event watch gives what came since: both are news
                payload = [*payload, *later] if self._question.kind == "event" else later
        self._busy = True
        try:
            await self._hand_over(index, payload)
        finally:
            self._busy = False
        await asyncio.to_thread(self._keep)

    async def _ask(self, index: int) -> tuple[int, Any]:
        options = [*self._options, ("index", str(index))] if index else self._options
        found = await inside.get(self._front, self._question.target(*options), self.token)
        if found.status == 404 or not found.body:
            return found.index, None
        return found.index, shape(self._question.kind, gojson.decode(found.body))

    # the handler

    async def _hand_over(self, index: int, payload: Any) -> None:
        before, self._before = self._before, payload
        if self._wants_diff:
            payload = changes(self._question.kind, before, payload)
        data = (to_text(payload) + "\n").encode("utf-8", "surrogateescape")
        if self._http is not None:
            await self._send(self._http, index, data[:-1])
        else:
            await self._execute(index, data)

    async def _send(self, handler: HttpHandler, index: int, data: bytes) -> None:
        try:
            await handler.send(index, data)
        except HandlerFailed as error:
            self._log.error(
                "http watch handler failed", watch=handler.url, error=str(error), output=error.output
            )

    async def _execute(self, index: int, data: bytes) -> None:
        environment = {"CONSUL_INDEX": str(index), "CTL_INDEX": str(index)}
        shown = self._command if isinstance(self._command, str) else " ".join(self._command)
        try:
            child = spawn(self._command, env=environment, stdin=data, output_limit=_OUTPUT)
        except SpawnError as error:
            self._log.error("Failed to run watch handler", watch_handler=shown, error=str(error))
            return
        try:
            await _finished(child)
        except asyncio.CancelledError:
            if child.code == 0:  # it was told all the same
                self._keep()
            raise
        self._log.debug("watch handler output", watch_handler=shown, output=child.output.report())
        if child.code:
            how = f"exit status {child.code}" if child.code > 0 else f"signal {-child.code}"
            self._log.error("Failed to run watch handler", watch_handler=shown, error=how)

    # what lasts

    def _recall(self) -> None:
        """On a thread: go on from where the last process was."""
        if self._place is None:
            return
        try:
            saved = gojson.decode(self._place.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._log.warn("what a watch handed over is not known", file=self._place, error=error)
            return
        if isinstance(saved, dict):
            self._progress.restore(saved)
            self._before = saved.get("payload")

    def _keep(self) -> None:
        """A handler was told; after a restart it need not be told again."""
        if self._place is None:
            return
        saved = self._progress.save()
        if self._wants_diff:
            saved["payload"] = self._before
        try:
            self._place.parent.mkdir(mode=0o700, exist_ok=True)
            self._world.write_file(self._place, gojson.encode(saved))
        except OSError as error:
            self._log.warn("cannot keep what a watch handed over", file=self._place, error=error)


async def _finished(child: Child) -> None:
    try:
        await child.wait()
    finally:
        if not child.ended:
            await child.terminate()
