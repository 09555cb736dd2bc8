"""Finding the cluster, at the start and whenever it was lost: retry_join and start_join.

Three things that hurt elsewhere are done otherwise here (design: pains row 12): names are looked up at
each attempt, for ever; joining oneself is no success while other addresses are given; and an agent that
has seen no server for a while starts again, since all of them may have been replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from agent import joining
from core.errors import ConfigError
from core.gossip.member import ALIVE, Member

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World

# Servers that are started at the same moment find no one listening at their first attempt, and each would
# sit out a whole retry_interval while nothing is wrong. So the first attempts come quickly, with chance so
# that they do not meet again and again.
EAGER_TIME = 10.0
EAGER_SHORTEST, EAGER_LONGEST = 0.2, 1.0

LOOK_INTERVAL = 5.0  # between looks at the members once joined
LONELY_TIME = 30.0  # without another server: Serf's reconnects (every 30 s) had their chance


class Pool(Protocol):
    """What joining needs of a gossip pool."""

    def members(self) -> Sequence[Member]: ...

    async def join(self, addresses: Sequence[str]) -> tuple[int, list[str]]:
        """How many were joined, and why others were not. Oneself counts when nobody else is asked for."""


class GaveUp(Exception):
    """`retry_max` attempts failed: the agent ends with an error, as Consul's does."""


def check_addresses(option: str, addresses: Sequence[str]) -> None:
    """ConfigError for what no version of ctl can join: cloud discovery, or nothing."""
    for address in addresses:
        if "provider=" in address:
            raise ConfigError(
                f"{option}: cloud auto-join ({address.partition(' ')[0]}) is not supported; "
                "give host names or addresses, a name may stand for many addresses"
            )
        if not address.strip():
            raise ConfigError(f"{option}: an address is empty")


async def start_join(pool: Pool, addresses: Sequence[str], log: Logger) -> None:
    """Join once, at the start. ConfigError, which ends the start, when nobody could be joined."""
    if not addresses:
        return
    log.info("Joining cluster...", addresses=addresses)
    joined, errors = await pool.join(addresses)
    if not joined:
        raise ConfigError(f"Failed to join the cluster: {joining.report(errors)}")
    log.info("Join completed. Initial agents synced with", agent_count=joined)


class RetryJoin:
    """Joins `addresses` until it works, watches over it, and joins again when no server is left."""

    def __init__(
        self,
        pool: Pool,
        own_name: str,
        addresses: Sequence[str],
        interval: float,
        attempts: int,
        world: World,
        log: Logger,
        told: Callable[[], None] | None = None,
    ) -> None:
        """`attempts` 0: as often as it takes. Times in seconds. `told` is called at the first success.
        ConfigError as in `check_addresses`."""
        check_addresses("retry_join", addresses)
        self._pool, self._own_name = pool, own_name
        self._addresses = list(addresses)
        self._interval, self._attempts = interval, attempts
        self._world, self._log, self._told = world, log, told
        self._joined = False

    async def run(self) -> None:
        """For ever. GaveUp."""
        if not self._addresses:
            return
        self._log.info("Joining cluster", addresses=self._addresses)
        await self._join()
        while True:
            await self._until_lonely()
            self._log.debug("no other server is alive, joining again", addresses=self._addresses)
            await self._attempt()
            await asyncio.sleep(self._interval)

    async def _join(self) -> None:
        """Until someone is joined. If that is no server, or only this agent itself, the others may be just
        about to start or to be found under the same name: tried again while that is likely."""
        began = self._world.now()
        failed = 0
        while True:
            joined = await self._attempt()
            elapsed = self._world.now() - began
            if joined and (self._has_company() or elapsed >= EAGER_TIME):
                return
            failed += not joined
            if self._attempts and failed >= self._attempts:
                raise GaveUp("max join retry exhausted, exiting")
            await asyncio.sleep(self._pause(elapsed))

    def _pause(self, elapsed: float) -> float:
        if elapsed >= EAGER_TIME:
            return self._interval
        eager = EAGER_SHORTEST + (EAGER_LONGEST - EAGER_SHORTEST) * self._world.random.random()
        return min(eager, self._interval)

    async def _attempt(self) -> bool:
        joined, errors = await self._pool.join(self._addresses)
        if not joined:
            self._log.warn("Join cluster failed, will retry", error="; ".join(errors))
        elif not self._joined or self._has_company():
            if self._told is not None and not self._joined:
                self._told()
            self._joined = True
            self._log.info("Join cluster completed. Synced with initial agents", num_agents=joined)
        return joined > 0

    async def _until_lonely(self) -> None:
        since = self._world.now()
        while True:
            now = self._world.now()
            if self._has_company():
                since = now
            elif now - since >= LONELY_TIME:
                return
            await asyncio.sleep(LOOK_INTERVAL)

    def _has_company(self) -> bool:
        return any(
            member.status == ALIVE and member.tags.get("role") == "consul" and member.name != self._own_name
            for member in self._pool.members()
        )
