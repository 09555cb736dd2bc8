"""Gossip pools on real sockets: members come, fail and leave, and what they tell each other arrives."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from agent.gossip_sockets import Sockets
from core.errors import ConfigError, Invalid, Unavailable
from core.gossip.member import FAIL, JOIN, LEAVE, UPDATE, MemberEvent, QueryEvent
from tests.agent.gossip_pools import Listener, address, make, running, until
from tests.harness import until as poll


def kinds(listener: Listener, name: str) -> list[str]:
    """What happened to a member, in order."""
    return [
        event.kind
        for event in listener.events
        if isinstance(event, MemberEvent)
        for member in event.members
        if member.name == name
    ]


def test_join_fail_leave() -> None:
    async def scene() -> None:
        a, b, c = make("a"), make("b"), make("c")
        async with running(a, b, c):
            assert {kinds(one, "c")[0] for one in (a, b, c)} == {JOIN}
            await c.pool.stop()  # without a word
            await until("c has failed", lambda: a.statuses()["c"] == b.statuses()["c"] == "failed")
            assert kinds(a, "c") == [JOIN, FAIL]
            assert await b.pool.leave()
            await until("b has left", lambda: a.statuses()["b"] == "left")
            assert kinds(a, "b") == [JOIN, LEAVE]
            await a.pool.force_leave("c", prune=False)
            await until("c was sent off", lambda: a.statuses()["c"] == "left")
            assert a.pool.stats()["failed"] == "0"

    asyncio.run(scene())


def test_prune_erases() -> None:
    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            await b.pool.stop()
            await until("b has failed", lambda: a.statuses()["b"] == "failed")
            await a.pool.force_leave("b", prune=True)
            await until("b is forgotten", lambda: set(a.statuses()) == {"a"})

    asyncio.run(scene())


def test_members_show_what_an_event_says() -> None:
    """When an event is delivered, the list already has it; each list is another tuple."""

    async def scene() -> None:
        a = make("a")
        seen: list[tuple[str, bool]] = []

        def look(event: object) -> None:
            if isinstance(event, MemberEvent):
                names = {member.name for member in a.pool.members()}
                seen.extend((member.name, member.name in names) for member in event.members)

        a.pool._on_event = look
        others = [make(f"n{number}") for number in range(5)]
        async with running(a, *others):
            before, index = a.pool.members(), a.pool.members_index
            await others[0].pool.set_tags({"role": "node", "x": "1"})
            await until("the tag is here", lambda: any(m.tags.get("x") == "1" for m in a.pool.members()))
            assert len(before) == 6 and all("x" not in member.tags for member in before)
            assert a.pool.members_index > index
        assert len(seen) >= 6 and all(there for _, there in seen)

    asyncio.run(scene())


def test_tags_events_and_queries() -> None:
    async def scene() -> None:
        a, b, c = make("a", tags={"role": "x"}), make("b", tags={"role": "y"}), make("c", tags={"role": "y"})

        async def answer(one: Listener) -> None:
            await until("the query came", lambda: any(isinstance(event, QueryEvent) for event in one.events))
            query = next(event for event in one.events if isinstance(event, QueryEvent))
            assert (query.name, query.payload, query.source) == ("load", b"?", "a")
            await one.pool.respond(query, b"of " + one.pool.settings.name.encode())
            with pytest.raises(Invalid, match="already sent"):
                await one.pool.respond(query, b"again")

        async with running(a, b, c):
            await b.pool.set_tags({"role": "z", "build": "2"})
            await until("tags are told", lambda: UPDATE in kinds(a, "b") and UPDATE in kinds(c, "b"))
            assert next(m.tags for m in a.pool.members() if m.name == "b") == {"role": "z", "build": "2"}
            with pytest.raises(Invalid):
                await b.pool.set_tags({"x": "y" * 600})

            await a.pool.user_event("deploy", b"v42")
            await until("all heard it", lambda: all(len(one.user_events()) == 1 for one in (a, b, c)))
            assert c.user_events() == [("deploy", b"v42")]
            with pytest.raises(Invalid, match="user event exceeds"):
                await a.pool.user_event("large", bytes(600))

            answers = asyncio.gather(answer(b), answer(c))
            found = [
                (one.source, one.payload)
                async for one in a.pool.query("load", b"?", nodes=["b", "c"], ack=True, timeout=1.0)
            ]
            await answers
            assert sorted(found, key=str) == sorted(
                [("b", None), ("c", None), ("b", b"of b"), ("c", b"of c")], key=str
            )
            assert not any(isinstance(event, QueryEvent) for event in a.events)
            filtered = [
                one.source async for one in a.pool.query("x", tags={"role": "^z$"}, ack=True, timeout=0.3)
            ]
            assert filtered == ["b"]
            with pytest.raises(Invalid, match="exceeds limit"):
                await anext(a.pool.query("load", bytes(2000)))

    asyncio.run(scene())


def test_coordinates_and_stats() -> None:
    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            await until("a knows where b is", lambda: a.pool.coordinate_of("b") is not None)
            assert len(a.pool.coordinate().vec or ()) == 8
            assert a.pool.coordinate_of("nobody") is None
            await until("figures came", lambda: a.pool.stats().get("members") == "2")
            assert sorted(a.pool.stats()) == [
                *("coordinate_resets", "encrypted", "event_queue", "event_time", "failed", "health_score"),
                *("intent_queue", "left", "member_time", "members", "query_queue", "query_time"),
            ]
            assert (a.pool.stats()["encrypted"], a.pool.encrypted) == ("false", False)

    asyncio.run(scene())


def test_joins_that_fail_say_why() -> None:
    async def scene() -> None:
        a, nobody = make("a"), address()
        with socket.create_server((address(), 8301)) as mute:
            async with running(a):
                place = f"{mute.getsockname()[0]}:8301"
                assert await a.pool.join([nobody]) == (
                    0,
                    [f"Failed to join {nobody}: dial tcp {nobody}:8301: connect: connection refused"],
                )
                joined, errors = await a.pool.join([place, "nowhere.invalid", "[::1]:1"])
                assert joined == 0 and len(errors) == 3
                text = "\n".join(errors)
                assert f"Failed to join {place.split(':')[0]}: read tcp {place}: i/o timeout" in text
                assert "Failed to resolve nowhere.invalid: " in text and "Failed to resolve [::1]:1: " in text

    asyncio.run(scene())


def test_joining_oneself_counts_when_nobody_else_is_asked_for() -> None:
    async def scene() -> None:
        a, b, nobody = make("a"), make("b"), address()
        async with running(a, b, joined=False):
            assert await a.pool.join([a.place]) == (1, [])
            assert await a.pool.join([a.place, b.place]) == (1, [])
            joined, errors = await a.pool.join([a.place, nobody])
            assert joined == 0 and len(errors) == 1
            assert (await a.pool.join([a.place, "nowhere.invalid"]))[0] == 0

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("bind", "advertise"), [("::1", "::1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")]
)
def test_other_families_and_wildcards(bind: str, advertise: str) -> None:
    """Members of a pool on IPv6, and on all addresses of the machine."""
    if ":" in bind and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")

    async def scene() -> None:
        a, b = (make(name, bind=bind, advertise=advertise, port=0) for name in "ab")
        async with running(a, b, joined=False):
            ip, port = a.pool.endpoint
            host = f"[{ip}]" if ":" in ip else ip
            assert await b.pool.join([f"{host}:{port}"]) == (1, [])
            await until("they met", lambda: a.alive() == b.alive() == {"a", "b"})
            assert await a.pool.join([f"{host}:{port}"]) == (1, [])  # itself
            await b.pool.stop()
            await until("b has failed", lambda: a.statuses()["b"] == "failed")

    asyncio.run(scene())


def test_a_host_says_that_nobody_listens() -> None:
    one, other = Sockets("lan", address(), 0), Sockets("lan", address(), 0)
    place, nobody = (other.host, other.port), (address(), one.port)
    try:
        one.send(place, b"heard")
        poll("it arrives", lambda: [packet for _, packet in other.received(1)] == [b"heard"])
        assert not list(one.refusals())
        one.send(nobody, b"unheard")
        assert poll("it is refused", lambda: list(one.refusals())) == [nobody]
        one.send(nobody, b"unheard")
        one.send(place, b"heard")  # the word about the one before keeps none back
        poll("it arrives", lambda: [packet for _, packet in other.received(1)] == [b"heard"])
        assert poll("it is refused", lambda: list(one.refusals())) == [nobody]
    finally:
        one.close()
        other.close()


def test_an_address_in_use() -> None:
    async def scene() -> None:
        place = address()
        for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.bind((place, 8301))
                if kind == socket.SOCK_STREAM:
                    taken.listen()
                with pytest.raises(ConfigError) as error:
                    await make("a", bind=place).pool.start()
                assert error.value.text == (
                    f'Failed to start LAN gossip: Failed to start {name} listener on "{place}" port 8301: '
                    f"listen {name.lower()} {place}:8301: bind: address already in use"
                )
        again = make("a", bind=place)  # nothing of the failed starts is left
        async with running(again):
            assert again.alive() == {"a"}

    asyncio.run(scene())


def test_after_the_stop_nothing_hangs() -> None:
    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            waiting = asyncio.ensure_future(_all(a))
            joining = asyncio.ensure_future(a.pool.join([address() + ":1", "127.0.0.1:1"]))
            await asyncio.sleep(0)
            await a.pool.stop()
            assert await asyncio.wait_for(waiting, 5) >= 0
            await asyncio.wait_for(asyncio.gather(joining, return_exceptions=True), 5)
            with pytest.raises(Unavailable, match="not running"):
                await a.pool.user_event("x", b"")
            assert {member.name for member in a.pool.members()} == {"a", "b"}
            await a.pool.stop()

    async def _all(one: Listener) -> int:
        try:
            return len([response async for response in one.pool.query("x", timeout=30.0)])
        except Unavailable:
            return 0

    threads = threading.active_count()
    asyncio.run(scene())
    assert threading.active_count() <= threads


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_agent_does_not_look_failed(busy: bool) -> None:
    """The agent's loop is held for 3 s, by computing or by a call that blocks: nobody is even suspected."""

    async def scene() -> None:
        listeners = [make(name) for name in "abc"]
        async with running(*listeners):
            for one in listeners:
                one.events.clear()
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                if busy:
                    sum(range(10_000))
                else:
                    time.sleep(0.5)
            await asyncio.sleep(0.1)
            assert [one.events for one in listeners] == [[], [], []]
            assert [one.pool.stats()["health_score"] for one in listeners] == ["0"] * 3

    asyncio.run(scene())


def test_rejoin_by_the_snapshot(tmp_path: Path) -> None:
    async def scene() -> None:
        a, b = make("a"), make("b", data_dir=tmp_path)
        place = b.pool.settings.bind
        async with running(a, b):
            await a.pool.user_event("before", b"")
            await until("heard", lambda: b.user_events() == [("before", b"")])
            await b.pool.stop()
            text = (tmp_path / "serf" / "local.snapshot").read_text()
            assert f"alive: a {a.place}\n" in text and "event-clock: 1\n" in text
            again = make("b", data_dir=tmp_path, bind=place)
            async with running(again):
                await until("b found a again", lambda: again.alive() == {"a", "b"})
                await a.pool.user_event("after", b"")
                await until("new ones arrive", lambda: len(again.user_events()) > 0)
                assert again.user_events() == [("after", b"")]
                assert await again.pool.leave()
            left = make("b", data_dir=tmp_path, bind=place)
            async with running(left):  # who left does not come back by itself
                await asyncio.sleep(0.3)
                assert left.alive() == {"b"}

    asyncio.run(scene())


def test_rejoin_after_leave_when_it_is_wanted(tmp_path: Path) -> None:
    async def scene() -> None:
        a, b = make("a"), make("b", data_dir=tmp_path, rejoin_after_leave=True)
        async with running(a, b):
            assert await b.pool.leave()
            await b.pool.stop()
            again = make("b", data_dir=tmp_path, rejoin_after_leave=True, bind=b.pool.settings.bind)
            async with running(again):
                await until("b found a again", lambda: again.alive() == {"a", "b"} == a.alive())

    asyncio.run(scene())


def test_admission() -> None:
    """Who is refused is no member, though its join is answered (protocols/gossip.md 9.3)."""

    async def scene() -> None:
        def only_nodes(members: object) -> str:
            assert isinstance(members, (list, tuple))
            bad = [one.name for one in members if one.tags.get("role") != "node"]
            return f"Member '{bad[0]}' is no node" if bad else ""

        a, b = make("a", admission=only_nodes), make("b", tags={"role": "other"})
        async with running(a, b, joined=False):
            assert await b.pool.join([a.place]) == (1, [])
            await asyncio.sleep(0.3)
            assert a.alive() == {"a"}

    asyncio.run(scene())


def test_large_clusters_of_small_ones() -> None:
    async def scene() -> None:
        one, other = [make(f"a{n}") for n in range(4)], [make(f"b{n}") for n in range(4)]
        async with running(*one), running(*other):
            assert await one[0].pool.join([other[0].place]) == (1, [])
            everyone = [*one, *other]
            names = {listener.pool.settings.name for listener in everyone}
            await until("they are one", lambda: all(listener.alive() == names for listener in everyone))

    asyncio.run(scene())
