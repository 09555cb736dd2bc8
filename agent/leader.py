"""Does what a leader owes the cluster: the catalog follows the members (decided in core/node/leader.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.api.catalog import REGISTER
from core.api.endpoint import Command, Reply
from core.errors import CtlError
from core.node import leader

if TYPE_CHECKING:
    from agent.calls import Calls
    from agent.logs import Logger
    from core.store.structs import RegisterRequest

RECONCILE_SECONDS = 60.0
RETRY_SECONDS = 2.0


class LeaderDuties:
    """Runs while this server leads: reconciles at once, then every minute."""

    def __init__(
        self, calls: Calls, members: Callable[[], list[leader.MemberFacts]], datacenter: str, logger: Logger
    ) -> None:
        self._calls = calls
        self._members = members
        self._datacenter = datacenter
        self._log = logger
        self._task: asyncio.Task[None] | None = None

    def leading(self, is_leader: bool) -> None:
        """Leadership was won or lost."""
        if is_leader and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._lead())
        elif not is_leader and self._task is not None:
            self._task.cancel()
            self._task = None

    def stop(self) -> None:
        """End the duties with the agent."""
        self.leading(False)

    async def _lead(self) -> None:
        while True:
            pause = RECONCILE_SECONDS
            try:
                for member in self._members():
                    request = leader.alive(self._calls.store, member, self._datacenter)
                    if request is not None:
                        await self._register(request)
                        self._log.info("member joined, marking health alive", member=member.name)
            except CtlError as error:
                pause = RETRY_SECONDS
                self._log.error("failed to reconcile members", error=str(error))
            await asyncio.sleep(pause)

    async def _register(self, request: RegisterRequest) -> None:
        await self._calls.apply(Command(REGISTER, request, lambda _: Reply()))
