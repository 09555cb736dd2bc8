"""`/v1/event/*`: what is fired, what is listed, and how the list blocks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import pytest

from core.api import event as endpoint
from core.api.endpoint import AgentDoor, Errand, Query, Reply, Request, ServerDoor
from core.api.event import EventFireRequest, HeardEvent, index_of, is_meant_for
from core.codec.duration import SECOND
from core.errors import Invalid
from core.gossip import consul_events
from core.gossip.consul_events import ConsulEvent
from core.store.watch import Watch

ID = "a6899c1b-8785-023f-d18e-dab0e8686095"
OTHER = "00000000-0000-0000-0000-000000000007"


class Events:
    def __init__(self) -> None:
        self.found: list[HeardEvent] = []
        self.watches: list[Watch] = []

    def heard(self, watch: Watch | None = None) -> Sequence[HeardEvent]:
        if watch is not None:
            self.watches.append(watch)
        return tuple(self.found)

    def new_id(self) -> str:
        return ID

    def add(self, event: HeardEvent) -> None:
        self.found.append(event)
        watches, self.watches = self.watches, []
        for watch in watches:
            watch.fire()


class Agent:
    """What the endpoints ask of an agent: waiting takes as long as the watch or the (real) time does."""

    datacenter = "dc1"
    permissions = None

    def __init__(self) -> None:
        self.events = Events()
        self.local = self

    def wall(self) -> float:
        return asyncio.get_running_loop().time()

    async def wait(self, watch: Watch, wait_time: int) -> bool:
        fired = asyncio.Event()
        watch.on_fire(fired.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(fired.wait(), wait_time / SECOND)
        return watch.fired


def request(method: str, rest: str = "", query: str = "", body: bytes = b"") -> Request:
    return Request(method, f"/v1/event/{rest}", rest, Query(query.encode()), {}, body)


def fire(rest: str, query: str = "", body: bytes = b"") -> Any:
    return endpoint.fire(cast(AgentDoor, Agent()), request("PUT", rest, query, body))


def body_of(reply: Any) -> Any:
    assert isinstance(reply, Reply) and reply.body is not None
    return json.loads(reply.body)


def test_an_event_is_fired_by_any_server() -> None:
    errand = fire("deploy", "node=web&service=a&tag=b&dc=dc2", b"v42")
    assert isinstance(errand, Errand)
    assert (errand.action.rpc, errand.action.leader, errand.datacenter) == (
        "Internal.EventFire",
        False,
        "dc2",
    )
    sent = consul_events.decode(errand.args.payload)
    assert sent == ConsulEvent(ID, "deploy", "web", b"v42", "a", "b", 1)
    assert body_of(errand.render(None)) == {
        "ID": ID,
        "Name": "deploy",
        "Payload": base64.b64encode(b"v42").decode(),
        "NodeFilter": "web",
        "ServiceFilter": "a",
        "TagFilter": "b",
        "Version": 1,
        "LTime": 0,
    }


def test_the_server_tells_it_to_all() -> None:
    told: list[tuple[str, bytes]] = []

    class Lan:
        async def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None:
            assert coalesce is False
            told.append((name, payload))

    class Server:
        lan = Lan()

    args = EventFireRequest("dc1", "deploy", b"...")
    asyncio.run(cast(Any, endpoint.FIRE.run(cast(ServerDoor, Server()), args)))
    assert told == [("consul:event:deploy", b"...")]


def test_an_empty_payload_is_null() -> None:
    assert body_of(fire("deploy").render(None))["Payload"] is None


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("node=(", "Invalid node filter: error parsing regexp: missing closing ): `(`"),
        ("service=(", "Invalid service filter: error parsing regexp: missing closing ): `(`"),
        ("service=x&tag=(", "Invalid tag filter: error parsing regexp: missing closing ): `(`"),
        ("tag=x", "Cannot provide tag filter without service filter"),
    ],
)
def test_filters_that_cannot_be_used(query: str, text: str) -> None:
    with pytest.raises(Invalid) as error:
        fire("deploy", query)
    assert error.value.text == text


def test_a_name_is_needed() -> None:
    reply = fire("")
    assert (reply.status, reply.body) == (400, b"Missing name")


def test_whom_an_event_is_meant_for() -> None:
    services = [(("web", "web-1"), ("v1", "blue")), (("db", "db"), ())]

    def meant(**filters: Any) -> bool:
        return is_meant_for(ConsulEvent(ID, "x", **filters), "node7", services)

    assert meant()
    assert meant(node_filter="de7$") and not meant(node_filter="de8$")
    assert meant(service_filter="^web$") and meant(service_filter="web-1") and not meant(service_filter="api")
    assert meant(service_filter="web", tag_filter="blu")
    assert not meant(service_filter="db", tag_filter="blu")
    assert not meant(node_filter="x", service_filter="web")


def listed(agent: Agent, query: str = "") -> Any:
    return endpoint.listed(cast(AgentDoor, agent), request("GET", "", query))


def test_listings() -> None:
    agent = Agent()
    reply = listed(agent)
    assert (body_of(reply), reply.index) == ([], 1)
    agent.events.add(HeardEvent(ConsulEvent(OTHER, "a", node_filter="^web"), 5))
    agent.events.add(HeardEvent(ConsulEvent(ID, "b", service_filter="db", tag_filter="blue"), 6))
    reply = listed(agent)
    assert [(one["Name"], one["LTime"]) for one in body_of(reply)] == [("a", 5), ("b", 6)]
    assert reply.index == 0xA6899C1B8785023F ^ 0xD18EDAB0E8686095
    assert listed(agent, "name=a").index == 7
    names = {
        query: [one["Name"] for one in body_of(listed(agent, query))]
        for query in ("name=b", "node=web1", "node=db1", "service=db", "service=api", "service=db&tag=red")
    }
    assert names == {
        "name=b": ["b"],
        "node=web1": ["a", "b"],
        "node=db1": ["b"],
        "service=db": ["a", "b"],
        "service=api": ["a"],
        "service=db&tag=red": ["a"],
    }


def test_the_index_is_never_zero() -> None:
    assert index_of([HeardEvent(ConsulEvent("00000000-0000-0001-0000-000000000001", "a"))]) == 1


def test_a_listing_blocks_until_it_ends_otherwise() -> None:
    async def scene() -> None:
        agent = Agent()
        agent.events.add(HeardEvent(ConsulEvent(OTHER, "a")))
        waiting = asyncio.ensure_future(cast("Awaitable[Reply]", listed(agent, "name=a&index=7&wait=20s")))
        await asyncio.sleep(0)
        agent.events.add(HeardEvent(ConsulEvent(ID, "b")))  # of another name
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done() and agent.events.watches
        agent.events.add(HeardEvent(ConsulEvent(ID, "a")))
        reply = await asyncio.wait_for(waiting, 5)
        assert [one["ID"] for one in body_of(reply)] == [OTHER, ID]
        assert isinstance(listed(agent, "index=7"), Reply)  # does not block: the index is another

    asyncio.run(scene())


def test_a_listing_gives_up_after_its_time() -> None:
    async def scene() -> None:
        agent = Agent()
        began = agent.wall()
        reply = await cast("Awaitable[Reply]", listed(agent, "index=1&wait=50ms"))
        assert body_of(reply) == [] and agent.wall() - began >= 0.04

    asyncio.run(scene())
