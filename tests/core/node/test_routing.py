"""The list of servers that an agent asks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from core.gossip.member import ALIVE, FAILED, Member
from core.node.routing import MIN_REBALANCE, ServerList
from core.node.servers import ServerFacts, is_client, server_facts

TAGS = {
    "role": "consul",
    "dc": "dc1",
    "id": "i1",
    "port": "8300",
    "vsn": "2",
    "build": "1.9.8:",
    "expect": "3",
    "wan_join_port": "8302",
}


def member(name: str = "n1", status: int = ALIVE, **tags: str) -> Member:
    return Member(name, "127.0.0.1", 8301, {**TAGS, **tags}, status)


def server(number: int, status: int = ALIVE) -> ServerFacts:
    return ServerFacts(f"id{number}", f"n{number}", "dc1", f"127.0.0.{number}", 8300, status)


def test_a_server_is_read_from_its_tags() -> None:
    facts = server_facts(member("n1.dc1", use_tls="1", bootstrap="1"))
    assert facts is not None
    assert (facts.name, facts.target, facts.expect, facts.version) == ("n1", "127.0.0.1:8300", 3, "1.9.8")
    assert facts.use_tls and facts.bootstrap and facts.wan_join_port == 8302 and facts.alive


def test_what_is_no_server_or_says_nonsense_is_none() -> None:
    assert server_facts(member(role="node")) is None
    assert is_client(member(role="node")) and not is_client(member())
    for nonsense in ({"port": "x"}, {"port": "0"}, {"build": "new"}, {"vsn": ""}, {"expect": "many"}):
        assert server_facts(member(**nonsense)) is None


def test_one_server_is_asked_until_it_fails() -> None:
    servers = ServerList(random.Random(1), 0.0)
    assert servers.first() is None
    assert servers.update([server(1), server(2), server(3), server(4, FAILED)])
    assert len(servers) == 3 and servers.by_id("id4") is None
    first = servers.first()
    assert first is not None
    assert not servers.update([server(3), server(2), server(1)]) and servers.first() == first
    servers.failed(first)
    assert servers.first() != first and list(servers)[-1] == first
    servers.failed(server(9))  # gone meanwhile
    assert len(servers) == 3


def test_the_list_is_shuffled_now_and_then() -> None:
    servers = ServerList(random.Random(1), 0.0)
    servers.update([server(n) for n in range(1, 6)])
    assert not servers.rebalance(MIN_REBALANCE - 1, 100)
    assert servers.rebalance(MIN_REBALANCE, 100)
    assert not servers.rebalance(MIN_REBALANCE * 2 - 1, 100)
    assert servers.rebalance(MIN_REBALANCE * 3, 1_000_000)
    assert not servers.rebalance(MIN_REBALANCE * 10, 1_000_000)  # 320 a second would be too many


@given(st.lists(st.sets(st.integers(1, 9)), max_size=20), st.randoms(use_true_random=False))
def test_the_list_holds_who_is_alive_and_keeps_its_order(
    rounds: list[set[int]], chance: random.Random
) -> None:
    servers = ServerList(chance, 0.0)
    before: list[str] = []
    for alive in rounds:
        servers.update([server(n) for n in alive])
        now = [one.id for one in servers]
        assert set(now) == {f"id{n}" for n in alive} and len(now) == len(alive)
        kept = [name for name in before if name in now]
        assert now[: len(kept)] == kept
        before = now
