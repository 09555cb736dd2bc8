"""Calls to other servers: which one, by whose RPC, and one call for all who wait for the same thing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace as with_options
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from core.api.blocking import MAX_WAIT
from core.api.endpoint import Answer, Command, Errand, Question
from core.api.remote import REMOTES
from core.errors import CtlError, Lost, TooManyRequests, Unavailable, Unsent

if TYPE_CHECKING:
    from agent.world import World
    from core.api.remote_kinds import Remote
    from core.node.servers import ServerFacts


class PoolDoor(Protocol):
    """How a call gets to a server and its reply back. agent/pool.py fulfils it."""

    async def call(self, server: ServerFacts, method: str, body: dict[str, Any]) -> Any: ...

    def tell(
        self, server: ServerFacts, method: str, body: dict[str, Any], done: Callable[[object], None]
    ) -> bool: ...


class Bucket:
    """So many calls a second, with a reserve for bursts (limits.rpc_rate, limits.rpc_max_burst)."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = float(burst), now

    def take(self, now: float) -> bool:
        """Whether one more call is within the limit; it counts then."""
        if self.rate < 0:
            return True
        self._left = min(float(self.burst), self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Shared:
    """One blocking call and those who wait for its answer."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Answer]) -> None:
        self.task = task
        self.waiters = 0


class Relay:
    """Sends what cannot be answered here to a server."""

    def __init__(
        self,
        pool: PoolDoor,
        datacenter: str,
        world: World,
        bucket: Bucket,
        failed: Callable[[ServerFacts, CtlError], None],
    ) -> None:
        """`failed(server, error)` hears of servers that could not be reached."""
        self._pool = pool
        self._datacenter = datacenter
        self._world = world
        self._failed = failed
        self.bucket = bucket
        self.calls = self.exceeded = self.failures = 0  # since they were last told
        self._shared: dict[Hashable, _Shared] = {}

    def _remote(self, rpc: str) -> Remote:
        self.calls += 1
        if not self.bucket.take(self._world.now()):
            self.exceeded += 1
            raise TooManyRequests("RPC rate limit exceeded")
        remote = REMOTES.get(rpc)
        if remote is None:
            raise Unavailable(f"{rpc} cannot be asked of another server")
        return remote

    async def send(self, server: ServerFacts, rpc: str, work: Question | Command | Errand) -> Any:
        """Have `work` done by `server`; the Answer of a question, or the result. Raises CtlError."""
        remote = self._remote(rpc)
        body = remote.request(work, self._datacenter)
        try:
            reply = await self._pool.call(server, rpc, body)
        except (Unsent, Lost) as error:
            self.failures += 1
            self._failed(server, error)
            raise
        return remote.answer(reply)

    def tell(self, server: ServerFacts, rpc: str, work: Command, done: Callable[[object], None]) -> bool:
        """`send` without a task, where there is a connection: `done(result)` or `done(error)` follows.
        False, and nothing was sent, where there is none. Raises CtlError when it may not be sent."""
        remote = self._remote(rpc)

        def told(reply: object) -> None:
            if isinstance(reply, CtlError):
                if isinstance(reply, Unsent | Lost):
                    self.failures += 1
                    self._failed(server, reply)
                done(reply)
                return
            try:
                done(remote.answer(reply))
            except CtlError as error:
                done(error)

        return self._pool.tell(server, rpc, remote.request(work, self._datacenter), told)

    async def ask(self, server: ServerFacts, question: Question, seconds: float) -> Answer:
        """Ask `server`. Of a blocking question all who ask the same share one call, which waits as long
        as a call may; each of them waits `seconds`."""
        if not question.options.min_query_index:
            return await self._now(server, question)
        options = question.options
        key = (
            question.read.rpc,
            question.args,
            options.datacenter,
            options.min_query_index,
            options.token,
            options.allow_stale,
        )
        shared = self._shared.get(key)
        if shared is None:
            longest = replaced(question, max_query_time=MAX_WAIT)
            task = asyncio.get_running_loop().create_task(self._now(server, longest))
            task.add_done_callback(lambda _: self._forget(key, shared))
            shared = self._shared[key] = _Shared(task)
        shared.waiters += 1
        try:
            done, _ = await asyncio.wait((shared.task,), timeout=seconds)
            if done:
                return shared.task.result()
        finally:
            shared.waiters -= 1
            if not shared.waiters:
                self._forget(key, shared)
                shared.task.cancel()
        return await self._now(server, replaced(question, min_query_index=0))

    async def _now(self, server: ServerFacts, question: Question) -> Answer:
        answer: Answer = await self.send(server, question.read.rpc, question)
        return answer

    def _forget(self, key: Hashable, shared: _Shared | None) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]


def replaced(question: Question, **changes: Any) -> Question:
    """The same question, asked with other options."""
    return replace(question, options=with_options(question.options, **changes))
