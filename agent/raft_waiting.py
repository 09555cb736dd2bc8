"""The proposals that wait for their entry to be applied: who to tell, and how much they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.logs import get_logger
from core.errors import CtlError

_log = get_logger("agent.raft")

MAX_WAITING = 16384  # proposals that may wait for the disk or for other servers
MAX_WAITING_BYTES = 128 << 20

Done = Callable[[object], None]


class Waiting:
    """Proposals by the index of their entry."""

    __slots__ = ("_bytes", "_sizes", "_told")

    def __init__(self) -> None:
        self._told: dict[int, Done] = {}
        self._sizes: dict[int, int] = {}
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more may wait."""
        return len(self._told) >= MAX_WAITING or self._bytes > MAX_WAITING_BYTES

    def add(self, index: int, size: int, done: Done) -> None:
        """`done(result)` is to be called when the entry at `index` is applied."""
        self._told[index] = done
        self._sizes[index] = size
        self._bytes += size

    def future(self, index: int) -> asyncio.Future[object]:
        """A future for the result of the entry at `index`."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.add(index, 0, lambda result: None if future.done() else future.set_result(result))
        return future

    def tell(self, index: int, result: object) -> None:
        """The entry at `index` is applied, or never will be."""
        done = self._told.pop(index, None)
        if done is None:
            return
        self._bytes -= self._sizes.pop(index)
        try:
            done(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the log goes on
            _log.error("a waiting request failed to take its result", error=repr(error))

    def fail(self, above: int, error: CtlError) -> None:
        """Nothing after the entry `above` will be applied on this server's word."""
        for index in [index for index in self._told if index > above]:
            self.tell(index, error)


def raised(result: object) -> object:
    """A result, raised if it is an exception."""
    if isinstance(result, Exception):
        raise result
    return result


def unchunked(done: Done) -> Done:
    """The state machine wraps the result of a command that came in chunks."""
    from core.store.fsm import ChunkingSuccess

    return lambda result: done(result.response if isinstance(result, ChunkingSuccess) else result)
