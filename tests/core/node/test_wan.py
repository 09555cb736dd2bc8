"""The servers of other datacenters, and which of them is asked."""

from __future__ import annotations

import random

import pytest

from core.errors import Unavailable
from core.gossip.member import ALIVE, FAILED
from core.node.servers import ServerFacts
from core.node.wan import Router


def server(name: str, datacenter: str, status: int = ALIVE) -> ServerFacts:
    return ServerFacts(f"id-{name}", name, datacenter, "10.0.0.1", 8300, status)


def router(*servers: ServerFacts) -> Router:
    made = Router("dc1", random.Random(1), 0.0)
    made.update(servers)
    return made


def test_each_datacenter_has_its_own_servers() -> None:
    made = router(server("a", "dc1"), server("b", "dc2"), server("c", "dc2"), server("d", "dc3"))
    assert made.datacenters == ["dc1", "dc2", "dc3"]
    assert made.target("dc2").name in ("b", "c")
    assert made.target("dc3").name == "d"


def test_who_failed_is_asked_last() -> None:
    made = router(server("b", "dc2"), server("c", "dc2"))
    first = made.target("dc2")
    made.failed(first)
    assert made.target("dc2") != first
    made.failed(made.target("dc2"))
    assert made.target("dc2") == first


@pytest.mark.parametrize("datacenter", ["dc1", "nowhere"])
def test_no_path(datacenter: str) -> None:
    with pytest.raises(Unavailable, match="No path to datacenter"):
        router(server("a", "dc1"), server("b", "dc2")).target(datacenter)


def test_known_but_gone() -> None:
    with pytest.raises(Unavailable, match="Remote DC has no server currently reachable"):
        router(server("b", "dc2", FAILED)).target("dc2")


def test_a_datacenter_that_was_forgotten_has_no_path() -> None:
    made = router(server("b", "dc2"))
    made.update([server("a", "dc1")])
    assert made.datacenters == ["dc1"]
    with pytest.raises(Unavailable, match="No path"):
        made.target("dc2")


def test_every_server_gets_its_share() -> None:
    made = router(*(server(f"s{number}", "dc2") for number in range(5)))
    seen = set()
    for minute in range(1, 60):
        made.rebalance(minute * 300.0, 10)
        seen.add(made.target("dc2").name)
    assert len(seen) == 5
