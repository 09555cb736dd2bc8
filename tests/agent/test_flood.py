"""Servers of the LAN are brought into the WAN pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.flood import Flood
from agent.logs import get_logger
from core.gossip.member import ALIVE, FAILED, JOIN, LEAVE, Member, MemberEvent
from tests.agent.gossip_pools import make, running, until

TAGS = {"role": "consul", "port": "8300", "vsn": "2", "build": "1.9.8:", "dc": "dc1"}


def server(name: str, ip: str = "10.0.0.1", status: int = ALIVE, **tags: str) -> Member:
    return Member(name, ip, 8301, TAGS | tags, status)


class Pool:
    def __init__(self, *members: Member) -> None:
        self.found = members
        self.joined: list[str] = []

    def members(self) -> Sequence[Member]:
        return self.found

    async def join(self, addresses: Sequence[str]) -> tuple[int, list[str]]:
        self.joined += addresses
        return (1, []) if "10.0.0.1" in addresses[0] else (0, ["refused"])


def test_who_is_joined() -> None:
    lan = Pool(
        server("s1", wan_join_port="8302"),
        server("s2", wan_join_port="8302"),
        server("s3", "fd00::3", wan_join_port="9302"),
        server("s4"),  # has no WAN pool
        server("s5", status=FAILED, wan_join_port="8302"),
        Member("c1", "10.0.0.9", 8301, {"role": "node"}, ALIVE),
    )
    wan = Pool(server("s1.dc1"), server("s2.dc1", status=FAILED))
    asyncio.run(Flood(lan, wan, "dc1", get_logger("test")).flood())
    assert wan.joined == ["s2.dc1/10.0.0.1:8302", "s3.dc1/[fd00::3]:9302"]


def test_a_server_that_comes_is_joined_at_once() -> None:
    async def scene() -> None:
        lan, wan = Pool(), Pool()
        flood = Flood(lan, wan, "dc1", get_logger("test"))
        work = asyncio.ensure_future(flood.run())
        await asyncio.sleep(0)
        came = server("s1", wan_join_port="8302")
        lan.found = (came,)
        for event in (MemberEvent(LEAVE, (came,)), MemberEvent(JOIN, (Member("c", "", 1, {}, ALIVE),))):
            flood.hear(event)
            await asyncio.sleep(0.01)
            assert wan.joined == []
        flood.hear(MemberEvent(JOIN, (came,)))
        await until("it is joined", lambda: len(wan.joined) == 1)
        work.cancel()

    asyncio.run(scene())


def test_two_real_pools_of_two_servers() -> None:
    async def scene() -> None:
        tags = {**TAGS, "wan_join_port": "8302"}
        a, b = (make(name, tags=tags) for name in ("s1", "s2"))
        wide = [
            make(f"{one.pool.settings.name}.dc1", tags=TAGS, bind=one.pool.settings.bind, port=8302)
            for one in (a, b)
        ]
        async with running(a, b), running(*wide, joined=False):
            await Flood(a.pool, wide[0].pool, "dc1", get_logger("test")).flood()
            await until("they met", lambda: all(one.alive() == {"s1.dc1", "s2.dc1"} for one in wide))

    asyncio.run(scene())
