"""Where a question or a command is carried out: here, at the leader, or in another datacenter.

With one server that is here. Reads run on the loop against the store; writes go through the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.api.endpoint import Answer, Command, Question
from core.errors import CtlError, NoLeader, Unavailable
from core.store.watch import Watch

if TYPE_CHECKING:
    from agent.raft import RaftService
    from core.store.state import Store


class Calls:
    """Runs questions and commands for every door (HTTP, DNS, the agent itself)."""

    def __init__(self, store: Store, raft: RaftService | None, datacenter: str) -> None:
        self.store = store
        self._raft = raft
        self._datacenter = datacenter

    def _must_be_here(self, datacenter: str) -> None:
        if datacenter and datacenter != self._datacenter:
            raise Unavailable("No path to datacenter")

    def _servers(self) -> RaftService:
        if self._raft is None:
            raise Unavailable("No known Consul servers")
        return self._raft

    def ask(self, question: Question, watch: Watch | None = None) -> Answer:
        """Answer a read now. Raises CtlError; `watch` is registered in what the answer was made of."""
        options = question.options
        self._must_be_here(options.datacenter)
        raft = self._servers()
        if not raft.is_leader and not options.allow_stale:
            raise NoLeader()
        return question.read.run(self.store, question.args, watch)

    async def verify(self) -> None:
        """Confirm the leadership with a quorum, for `?consistent` reads."""
        await self._servers().verify_leader()

    def tell(self, command: Command, done: Callable[[object], None]) -> None:
        """Carry out a write; `done(result)` or `done(error)` follows, never from within this call's raise."""
        self._must_be_here(command.datacenter)
        self._servers().propose(command.write.prepare(self.store, command.args), done)

    async def apply(self, command: Command) -> object:
        """Carry out a write and wait for its result; raises what the state machine refused."""
        self._must_be_here(command.datacenter)
        result = await self._servers().apply(command.write.prepare(self.store, command.args))
        if isinstance(result, CtlError):
            raise result
        return result
