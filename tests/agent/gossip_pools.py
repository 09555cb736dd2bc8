"""Gossip pools for tests: several in one process, each on a loopback address and a thread of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent.gossip import GossipPool, PoolSettings
from agent.logs import get_logger
from agent.world import World
from core.gossip.member import GossipEvent, UserEvent
from core.gossip.settings import LAN, GossipSettings

DEADLINE = 10.0
# Everything five times as quick as LAN, so that a failure shows in a second and a leave in half of one.
QUICK = replace(
    LAN,
    probe_interval=0.2,
    probe_timeout=0.1,
    gossip_interval=0.02,
    push_pull_interval=2.0,
    suspicion_mult=3,
    broadcast_timeout=2.0,
    leave_propagate_delay=0.2,
    reconnect_interval=0.5,
    stream_timeout=2.0,
)


def address() -> str:
    """A loopback address that nobody else is likely to have."""
    return f"127.{random.randint(2, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"


class Listener:
    """A pool and all that it told."""

    def __init__(self, pool: GossipPool) -> None:
        self.pool = pool
        self.events: list[GossipEvent] = []

    def statuses(self) -> dict[str, str]:
        return {member.name: member.status_name for member in self.pool.members()}

    def alive(self) -> set[str]:
        return {name for name, status in self.statuses().items() if status == "alive"}

    def user_events(self) -> list[tuple[str, bytes]]:
        return [(event.name, event.payload) for event in self.events if isinstance(event, UserEvent)]

    @property
    def place(self) -> str:
        """Where it can be joined."""
        ip, port = self.pool.endpoint
        return f"{ip}:{port}"


def make(
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    timing: GossipSettings = QUICK,
    encrypt: str = "",
    data_dir: Path | None = None,
    bind: str = "",
    **more: Any,
) -> Listener:
    settings = PoolSettings(
        name=name,
        bind=bind or address(),
        port=more.pop("port", 8301),
        tags=tags or {"role": "node"},
        timing=timing,
        encrypt=encrypt,
        data_dir=data_dir,
        **more,
    )
    found: list[Listener] = []
    pool = GossipPool(
        "lan", settings, World(), get_logger("test"), lambda event: found[0].events.append(event)
    )
    found.append(Listener(pool))
    return found[0]


@asynccontextmanager
async def running(*listeners: Listener, joined: bool = True) -> AsyncIterator[None]:
    """All started, and in one cluster if `joined`; all stopped at the end."""
    try:
        for listener in listeners:
            await listener.pool.start()
        if joined and len(listeners) > 1:
            for other in listeners[1:]:
                assert await other.pool.join([listeners[0].place]) == (1, [])
            everyone = {listener.pool.settings.name for listener in listeners}
            await until("all see all", lambda: all(one.alive() == everyone for one in listeners))
        yield
    finally:
        await asyncio.gather(*(listener.pool.stop() for listener in listeners))


async def until(what: str, holds: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Until `holds`."""
    end = time.monotonic() + deadline
    while not holds():
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        await asyncio.sleep(0.01)
