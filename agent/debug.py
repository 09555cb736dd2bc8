"""The agent looks into itself: stacks, a sampling profile, and figures of the process.

Stacks name files, lines and functions only: no values, so no secrets."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from core.codec import gojson
from core.metrics import INTERVAL

if TYPE_CHECKING:
    from agent.agent import Agent

_SAMPLE = 0.01  # seconds between looks
_DEEP = 60  # frames of a stack
_LAG = 0.02  # seconds that the loop is asked to sleep, to see how much longer it takes


class Debug:
    """What `/v1/agent/debug/*` asks (core/api/agent_debug.py, DebugDoor)."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._started = time.monotonic()

    def stacks(self) -> str:
        """Threads first, then the tasks of the event loop, each with where it is."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        parts = []
        for ident, frame in sorted(sys._current_frames().items()):
            head = f"thread {names.get(ident, '?')} ({ident})"
            parts.append("\n".join([head, *reversed(_places(frame))]))
        for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
            head = f"task {task.get_name()}: {getattr(task.get_coro(), '__qualname__', '?')}"
            where = [place for frame in task.get_stack(limit=_DEEP) for place in _places(frame)[:1]]
            parts.append("\n".join([head, *where]))
        return "\n\n".join(parts) + "\n"

    async def profile(self, seconds: int) -> str:
        """Sampled by a thread, so that a busy event loop is seen as it is."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        try:
            return await loop.run_in_executor(None, _sampled, seconds, stop)
        finally:
            stop.set()  # the client has hung up, or it is done

    async def runtime(self) -> dict[str, Any]:
        agent = self._agent
        begun = time.perf_counter()
        await asyncio.sleep(_LAG)
        lag = time.perf_counter() - begun - _LAG
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found: dict[str, Any] = {
            "PID": os.getpid(),
            "Python": platform.python_version(),
            "UptimeSeconds": round(time.monotonic() - self._started, 1),
            "LoopLagMilliseconds": round(max(0.0, lag) * 1000, 3),
            "CPUSeconds": {"User": usage.ru_utime, "System": usage.ru_stime},
            "MaxResidentBytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "ContextSwitches": {"Voluntary": usage.ru_nvcsw, "Involuntary": usage.ru_nivcsw},
            "Descriptors": _descriptors(),
            "Threads": sorted(thread.name for thread in threading.enumerate()),
            "Tasks": dict(Counter(_kind(task) for task in asyncio.all_tasks()).most_common()),
            "GC": {"Count": gc.get_count(), "Threshold": gc.get_threshold(), "Generations": gc.get_stats()},
            "AllocatedBlocks": sys.getallocatedblocks(),
            "HTTPConnections": agent.http.connections,
            "BlockedQueries": len(agent.calls.lobby),
        }
        if agent.raft is not None:
            found["Tables"] = {name: len(table) for name, table in sorted(agent.store.tables.items())}
            found["Indexes"] = dict(sorted(agent.store.indexes.items()))
            found["Raft"] = agent.raft_stats()
        return found

    async def metrics(self) -> AsyncIterator[bytes]:
        agent = self._agent
        while True:
            yield gojson.encode(agent.metrics.snapshot(agent.wall())) + b"\n"
            await asyncio.sleep(INTERVAL)


def _places(frame: FrameType | None) -> list[str]:
    """The frames of a stack, innermost first."""
    places: list[str] = []
    while frame is not None and len(places) < _DEEP:
        code = frame.f_code
        places.append(f"    {code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return places


def _kind(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


def _descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    return -1


def _sampled(seconds: int, stop: threading.Event) -> str:
    own = threading.get_ident()
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.is_set():
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != own:
                seen[";".join([names.get(ident, "?"), *_folded(frame)])] += 1
        stop.wait(_SAMPLE)
    return "".join(f"{stack} {count}\n" for stack, count in seen.most_common())


def _folded(frame: FrameType | None) -> list[str]:
    """Names of functions, outermost first."""
    names: list[str] = []
    while frame is not None and len(names) < _DEEP:
        code = frame.f_code
        names.append(f"{os.path.basename(code.co_filename)}:{code.co_qualname}".replace(";", ","))
        frame = frame.f_back
    return names[::-1]
