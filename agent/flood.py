"""Every server of a datacenter is in the WAN pool too: a server sees to it that the others are.

So it is enough to join one server of each datacenter to another (protocols/gossip.md 9.1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from core.gossip.member import ALIVE, JOIN, MemberEvent
from core.node.servers import ServerFacts, server_facts

if TYPE_CHECKING:
    from agent.logs import Logger
    from core.gossip.member import GossipEvent, Member

INTERVAL = 60.0


class Pool(Protocol):
    """What flooding needs of a gossip pool."""

    def members(self) -> Sequence[Member]: ...

    async def join(self, addresses: Sequence[str]) -> tuple[int, list[str]]: ...


class Flood:
    """Joins the servers of the LAN that are missing in the WAN: every minute, and when one comes."""

    def __init__(self, lan: Pool, wan: Pool, datacenter: str, log: Logger) -> None:
        self._lan, self._wan, self._datacenter, self._log = lan, wan, datacenter, log
        self._wanted = asyncio.Event()

    def hear(self, event: GossipEvent) -> None:
        """An event of the LAN pool."""
        if isinstance(event, MemberEvent) and event.kind == JOIN and any(map(server_facts, event.members)):
            self._wanted.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.flood()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._wanted.wait()
            self._wanted.clear()

    async def flood(self) -> None:
        """Join the missing ones, once each; who cannot be reached is tried again the next time."""
        for facts in self._missing():
            host = f"[{facts.address}]" if ":" in facts.address else facts.address
            place = f"{facts.name}.{self._datacenter}/{host}:{facts.wan_join_port}"
            joined, errors = await self._wan.join([place])
            if joined:
                self._log.debug("successfully performed flood-join for server", server=facts.name)
            else:
                self._log.debug("failed to flood-join server", server=facts.name, error="; ".join(errors))

    def _missing(self) -> list[ServerFacts]:
        there = {member.name for member in self._wan.members() if member.status == ALIVE}
        servers = [server_facts(member) for member in self._lan.members() if member.status == ALIVE]
        return [
            facts
            for facts in servers
            if facts is not None
            and facts.datacenter == self._datacenter
            and facts.wan_join_port > 0
            and f"{facts.name}.{self._datacenter}" not in there
        ]
