"""The list of user events that an agent keeps, and its coordinate on the way to the catalog."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest

from agent import coordinates
from agent.coordinates import BATCH_SIZE, BATCHES, CoordinateBatch, CoordinateSender, batch_command
from agent.events import KEPT, EventLog
from agent.logs import get_logger, hub
from agent.world import World
from core.api.endpoint import Errand
from core.codec import msgpack
from core.errors import NoLeader
from core.gossip import consul_events
from core.gossip.consul_events import ConsulEvent
from core.gossip.member import ALIVE, Member, UserEvent
from core.node.local import LocalState
from core.store.structs import Coord, Coordinate, Node, NodeService
from core.store.watch import Watch

ID = "a6899c1b-8785-023f-d18e-dab0e8686095"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(hub, "emit", lambda level, name, message, fields: lines.append(message))
    return lines


def log_of(*services: NodeService, leaders: list[str] | None = None) -> EventLog:
    local = LocalState(Node(node="n1"), random.Random(1))
    for service in services:
        local.add_service(service, "")
    on_leader = (leaders if leaders is not None else []).append
    return EventLog("n1", local, World(1), get_logger("test"), on_leader)


def user_event(event: ConsulEvent, ltime: int = 1) -> UserEvent:
    return UserEvent(ltime, event.serf_name, consul_events.encode(event))


def test_what_is_meant_for_this_node_is_kept() -> None:
    log = log_of(NodeService(id="web-1", service="web", tags=["v1"]))
    watch = Watch()
    assert log.heard(watch) == ()
    log.take(user_event(ConsulEvent(ID, "other", node_filter="n2")))
    log.take(user_event(ConsulEvent(ID, "other", service_filter="db")))
    log.take(user_event(ConsulEvent(ID, "other", service_filter="web", tag_filter="v2")))
    assert not watch.fired
    log.take(user_event(ConsulEvent(ID, "ours", service_filter="^web$", tag_filter="v1"), 9))
    assert watch.fired
    log.take(user_event(ConsulEvent(ID, "all"), 10))
    assert [(one.event.name, one.ltime) for one in log.heard()] == [("ours", 9), ("all", 10)]


def test_the_last_ones_are_kept() -> None:
    log = log_of()
    for number in range(KEPT + 10):
        log.take(user_event(ConsulEvent(ID, "e", payload=str(number).encode()), number))
    assert [one.ltime for one in log.heard()] == list(range(10, KEPT + 10))


def test_events_of_others_and_unknown_ones(told: list[str]) -> None:
    leaders: list[str] = []
    log = log_of(leaders=leaders)
    log.take(UserEvent(1, "deploy", b""))
    assert told == []
    log.take(UserEvent(1, "consul:new-leader", b"s1"))
    log.take(UserEvent(1, "consul:something", b""))
    log.take(user_event(ConsulEvent(ID, "_rexec")))
    assert leaders == ["s1"] and log.heard() == ()
    assert told == ["new leader elected", "unhandled event"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"\x80",
        consul_events.encode(ConsulEvent("not-an-id", "x")),
        consul_events.encode(ConsulEvent("{" + ID + "}", "x")),
        consul_events.encode(ConsulEvent(ID, "x", node_filter="(")),
        consul_events.encode(ConsulEvent(ID, "x", service_filter="(")),
    ],
)
def test_events_that_make_no_sense(payload: bytes, told: list[str]) -> None:
    log = log_of(NodeService(id="web", service="web"))
    log.take(UserEvent(1, "consul:event:x", payload))
    assert log.heard() == () and len(told) == 1


def test_ids_are_random_uuids() -> None:
    log = log_of()
    found = {log.new_id() for _ in range(100)}
    assert len(found) == 100 and all(str(uuid.UUID(one)) == one for one in found)


# --- coordinates

SOMEONE = Member("n", "127.0.0.1", 8301, {}, ALIVE)
COORD = Coord([0.5] * 8, 1.5, 0.25, 1e-05)


def sender(members: int, run: Any) -> CoordinateSender:
    world = World(3)
    return CoordinateSender(
        "n1",
        "dc1",
        lambda: COORD,
        lambda: [SOMEONE] * members,
        run,
        lambda: "secret",
        world,
        get_logger("test"),
    )


@pytest.mark.parametrize(("members", "least"), [(1, 15.0), (960, 15.0), (6400, 100.0)])
def test_how_often_it_is_sent(members: int, least: float) -> None:
    """64 a second over the whole cluster, at most every 15 s each (protocols/rpc.md section 6)."""
    one = sender(members, None)
    found = [one.interval() for _ in range(200)]
    assert least <= min(found) < least * 1.1 and least * 1.9 < max(found) <= least * 2


def test_what_is_sent(told: list[str]) -> None:
    sent: list[Errand] = []

    async def run(errand: Errand) -> None:
        sent.append(errand)
        if len(sent) == 2:
            raise NoLeader

    async def scene() -> None:
        one = sender(3, run)
        await one.send()
        await one.send()

    asyncio.run(scene())
    assert sent[0].action.rpc == "Coordinate.Update" and sent[0].token == "secret"
    assert (sent[0].args.node, sent[0].args.coord, sent[0].args.datacenter) == ("n1", COORD, "dc1")
    assert told == ["coordinate update failed"]


def test_batches(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    """The last update of a node counts; 128 to a command; what is beyond five commands is dropped."""
    monkeypatch.setattr(coordinates, "BATCH_INTERVAL", 0.01)
    written: list[list[str]] = []

    async def apply(data: bytes) -> None:
        assert data[0] == 134  # 6, and 128: to be skipped by who does not know it
        written.append([row[b"Node"].decode() for row in msgpack.decode(data[1:])])

    async def scene() -> None:
        batch = CoordinateBatch(apply, get_logger("test"))
        for name in ("n1", "n2", "n1"):
            batch.put(Coordinate(name, "", COORD))
        while not written:
            await asyncio.sleep(0.01)
        assert [sorted(names) for names in written] == [["n1", "n2"]]
        written.clear()
        for number in range(BATCHES * BATCH_SIZE + 7):
            batch.put(Coordinate(f"n{number}", "", COORD))
        while len(written) < BATCHES:
            await asyncio.sleep(0.01)
        assert [len(names) for names in written] == [BATCH_SIZE] * BATCHES
        batch.put(Coordinate("n1", "", COORD))
        batch.stop()
        await asyncio.sleep(0.03)
        assert len(written) == BATCHES

    asyncio.run(scene())
    assert told == ["discarded coordinate updates"]


def test_a_leader_that_lost_its_office_drops_them(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    monkeypatch.setattr(coordinates, "BATCH_INTERVAL", 0.01)

    async def refuse(data: bytes) -> None:
        raise NoLeader

    async def scene() -> None:
        batch = CoordinateBatch(refuse, get_logger("test"))
        batch.put(Coordinate("n1", "", COORD))
        while not told:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scene(), 10))
    assert told == ["coordinate batch was not written"]


def test_the_command_is_a_list_of_coordinates() -> None:
    data = batch_command([Coordinate("n1", "", COORD)])
    assert msgpack.decode(data[1:]) == [
        {
            b"Node": b"n1",
            b"Segment": b"",
            b"Coord": {b"Vec": [0.5] * 8, b"Error": 1.5, b"Adjustment": 0.25, b"Height": 1e-05},
        }
    ]
