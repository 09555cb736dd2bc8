"""Every server of a datacenter is in the WAN pool too: a server sees to it that the others are.

So it is enough to join one server of each datacenter to another (protocols/gossip.md 9.1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from core.gossip.member import JOIN, MemberEvent
from core.node.servers import ServerFacts, server_facts
from core.node.wan import missing

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
        for facts in missing(self._lan.members(), self._wan.members(), self._datacenter):
            await self._join(facts)

    async def spread(self) -> None:
        """This server has joined others of the WAN: the servers beside it learn what it has learnt at once,
        not when gossip and the next exchange have brought it all (half a minute, with many datacenters)."""
        for facts in missing(self._lan.members(), (), self._datacenter):
            await self._join(facts)

    async def _join(self, facts: ServerFacts) -> None:
        host = f"[{facts.address}]" if ":" in facts.address else facts.address
        place = f"{facts.name}.{self._datacenter}/{host}:{facts.wan_join_port}"
        joined, errors = await self._wan.join([place])
        if joined:
            self._log.debug("successfully performed flood-join for server", server=facts.name)
        else:
            self._log.debug("failed to flood-join server", server=facts.name, error="; ".join(errors))
