"""Is the leader's process gone? A follower need not wait for a time-out to find out.

When a process dies its connections are closed by the kernel, and nobody listens at its port any more:
then the machine is told, and may ask for a pre-vote at once. If a firewall only made it look so, the
others still hear their leader and refuse: nothing happens. A machine that lost its power, or its
network, closes nothing; then the time-out decides."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.raft import RaftService

# Seconds between two looks: the kernel closes connections and listener one after the other, and a
# leader that only dropped a connection dials again.
_LOOKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
_PATIENCE = 0.5  # seconds for an answer to a dial


class LeaderWatch:
    """Looks for a leader whose connections have all been closed."""

    def __init__(self, raft: RaftService) -> None:
        self._raft = raft
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def suspect(self, leader: str, address: str, port: int) -> None:
        """The last connection from this leader is gone."""
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._look(leader, address, port))

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self, leader: str, address: str, port: int) -> None:
        for pause in _LOOKS:
            await asyncio.sleep(pause)
            if self._raft.leader_id != leader:
                return
            if await self._refused(address, port):
                self._raft.leader_gone(leader)
                return

    async def _refused(self, address: str, port: int) -> bool:
        """Whether nobody listens there: a bare connection, closed before the first byte."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._loop.sock_connect(sock, (address, port))
            except ConnectionRefusedError:
                return True
            except (OSError, TimeoutError):
                return False
        return False
