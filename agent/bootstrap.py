"""`bootstrap_expect`: the first servers find each other and begin a cluster (protocols/raft.md section 8).

Each of the expected servers does this by itself, whenever the LAN members change, until its log has
anything in it: when enough servers with the same expectation are there, and none of them has been
part of a cluster, it writes the first log entry with all of them as voters.

All must write the very same entry: entry 1 of term 1 is then one entry, as Raft's log matching
demands, whoever wrote it. So the servers are sorted by id, and not in the order of whichever member
list, and when there are more than expected the first ones are taken; the leader adds the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from agent.logs import get_logger
from core.errors import CtlError
from core.node.servers import ServerFacts
from core.raft.configuration import Configuration, Server

if TYPE_CHECKING:
    from agent.raft import RaftService

# Seconds between attempts to ask the others: they may be just starting. Consul waits 1, 2, 4 ... s.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 2.0, 4.0, 8.0)

_log = get_logger("agent.bootstrap")


class Bootstrap:
    """`consider()` is to be called when the LAN members have changed; it never raises.

    `servers()` are the servers of this datacenter as gossip shows them, this one included;
    `peers(server)` asks one `Status.Peers`, raises CtlError."""

    def __init__(
        self,
        expect: int,
        raft: RaftService,
        servers: Callable[[], Sequence[ServerFacts]],
        peers: Callable[[ServerFacts], Awaitable[Sequence[str]]],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._expect, self._raft = expect, raft
        self._servers, self._peers = servers, peers
        self._pauses = pauses
        self._task: asyncio.Task[None] | None = None
        self._over = expect <= 0
        self._said = ""

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do: the cluster has begun, here or elsewhere."""
        return self._over

    def consider(self) -> None:
        """Begin the cluster if everybody is there who is expected."""
        if not self._over and self._raft.is_empty:
            if self._task is None and self._expected() is not None:
                self._task = asyncio.get_running_loop().create_task(self._begin())
        else:
            self._over = True

    def stop(self) -> None:
        """Give up what is under way."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def _expected(self) -> list[ServerFacts] | None:
        """Those who will be asked and become the first servers; None while it cannot begin."""
        servers = [server for server in self._servers() if server.alive]
        for server in servers:
            if server.expect != self._expect and not server.nonvoter:
                self._explain(f"server {server.name} expects {server.expect}, not {self._expect}")
                return None
            if server.bootstrap:
                self._explain(f"server {server.name} has bootstrap mode on")
                return None
        self._said = ""
        voters = [server for server in servers if not server.nonvoter]
        return sorted(servers, key=lambda server: server.id) if len(voters) >= self._expect else None

    def _explain(self, why: str) -> None:
        if why != self._said:
            _log.error("the cluster cannot begin: all servers must expect the same", reason=why)
        self._said = why

    async def _begin(self) -> None:
        try:
            for pause in (*self._pauses, None):
                servers = self._expected()
                if servers is None or not self._raft.is_empty:
                    return
                error = await self._ask(servers)
                if not error:
                    self._write(servers)
                    return
                if pause is None:
                    _log.error("cannot ask the other servers whether there is a cluster", error=error)
                else:
                    await asyncio.sleep(pause)
        finally:
            self._task = None

    async def _ask(self, servers: list[ServerFacts]) -> str:
        """Ask all at once whether they are part of a cluster. An error means: not known yet."""
        answers = await asyncio.gather(*map(self._peers, servers), return_exceptions=True)
        error = ""
        for server, answer in zip(servers, answers, strict=True):
            if isinstance(answer, CtlError):
                error = f"{server.name}: {answer}"
            elif isinstance(answer, BaseException):
                raise answer
            elif answer:
                _log.info("a cluster exists already: waiting to be added to it", server=server.name)
                self._over = True
        return "" if self._over else error

    def _write(self, servers: list[ServerFacts]) -> None:
        if self._over or not self._raft.is_empty:
            return
        self._over = True
        voters = [server for server in servers if not server.nonvoter]
        first = tuple(Server(server.id, server.target) for server in voters[: self._expect])
        if self._raft.node_id not in {server.id for server in first}:
            return
        try:
            self._raft.bootstrap(Configuration(first))
        except CtlError as error:
            _log.error("the cluster cannot begin", error=error)
        else:
            _log.info("the cluster begins", servers=",".join(server.address for server in first))
