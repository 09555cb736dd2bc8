"""Network coordinates on their way to the catalog: an agent sends its own, the leader writes many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from core.api.coordinate import UPDATE, UpdateRequest
from core.api.endpoint import Errand, Reply
from core.codec import msgpack, wire
from core.errors import CtlError
from core.store import commands

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.gossip.member import Member
    from core.store.structs import Coord, Coordinate

# protocols/rpc.md section 6: all agents of a datacenter together send at most 64 updates a second.
SENDS_PER_SECOND = 64.0
SHORTEST_INTERVAL = 15.0

# protocols/fsm.md section 6: what the leader writes at most every five seconds.
BATCH_INTERVAL = 5.0
BATCH_SIZE = 128
BATCHES = 5


def _nothing(_: object) -> Reply:
    return Reply()


class CoordinateSender:
    """Sends this agent's coordinate to the servers, every 15 to 30 s, less often in large clusters."""

    def __init__(
        self,
        node: str,
        datacenter: str,
        coordinate: Callable[[], Coord],
        members: Callable[[], Sequence[Member]],
        run: Callable[[Errand], Awaitable[object]],
        token: Callable[[], str],
        world: World,
        log: Logger,
    ) -> None:
        """`run` carries out an errand at the leader; `token` is the agent's own."""
        self._node, self._datacenter = node, datacenter
        self._coordinate, self._members = coordinate, members
        self._run, self._token = run, token
        self._world, self._log = world, log
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def interval(self) -> float:
        """Seconds until the next one: scaled with the members, and up to twice that by chance, so that
        agents that started together do not send together."""
        scaled = max(SHORTEST_INTERVAL, len(self._members()) / SENDS_PER_SECOND)
        return scaled * (1 + self._world.random.random())

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.interval())
            await self.send()

    async def send(self) -> None:
        """Send it now; a failure is logged, the next one comes soon enough."""
        token = self._token()
        args = UpdateRequest(self._datacenter, self._node, "", self._coordinate(), token)
        try:
            await self._run(Errand(UPDATE, args, _nothing, self._datacenter, token))
        except CtlError as error:
            self._log.warn("coordinate update failed", error=error.text)


class CoordinateBatch:
    """The updates that a leader was sent, written together: one command for up to 128 nodes.

    Of several updates of one node the last counts. Beyond five batches in five seconds updates are
    dropped: coordinates are advice, and the next ones are on their way."""

    def __init__(self, apply: Callable[[bytes], Awaitable[object]], log: Logger) -> None:
        """`apply` puts a command into the log."""
        self._apply, self._log = apply, log
        self._pending: dict[tuple[str, str], Coordinate] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, coordinate: Coordinate) -> None:
        """Take an update for the next batch."""
        self._pending[coordinate.node, coordinate.segment] = coordinate
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_INTERVAL, self._due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._pending.clear()

    def _due(self) -> None:
        self._timer = None
        pending, self._pending = list(self._pending.values()), {}
        if len(pending) > BATCHES * BATCH_SIZE:
            self._log.warn("discarded coordinate updates", number=len(pending) - BATCHES * BATCH_SIZE)
        self._task = asyncio.get_running_loop().create_task(self._write(pending[: BATCHES * BATCH_SIZE]))

    async def _write(self, pending: list[Coordinate]) -> None:
        for start in range(0, len(pending), BATCH_SIZE):
            try:
                await self._apply(batch_command(pending[start : start + BATCH_SIZE]))
            except CtlError as error:  # a new leader is sent the next ones
                self._log.warn("coordinate batch was not written", error=error.text)
                return


def batch_command(batch: Sequence[Coordinate]) -> bytes:
    """The log bytes of a batch: servers that do not know the command skip it (protocols/fsm.md section 1)."""
    kind = commands.COORDINATES | commands.IGNORE_UNKNOWN
    return bytes([kind]) + msgpack.encode([wire.to_wire(coordinate) for coordinate in batch])
