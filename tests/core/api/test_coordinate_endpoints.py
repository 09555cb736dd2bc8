"""`/v1/coordinate/*`: reads of the store, updates for the next batch, the WAN's servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from agent.coordinates import batch_command
from core.api import coordinate as endpoint
from core.api.coordinate import UpdateRequest
from core.api.endpoint import AgentDoor, Errand, Query, Question, Reply, Request, ServerDoor
from core.codec import wire
from core.errors import BadRequest, Invalid, Unauthorized
from core.gossip.member import ALIVE, Member
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import Coord, Coordinate, RegisterRequest

COORD = Coord([0.5] * 8, 1.5, 0.25, 1e-05)


class Agent:
    datacenter = "dc1"
    keeps_coordinates = True


def ask(handler: Any, rest: str = "", query: str = "", body: bytes = b"") -> Any:
    request = Request("GET", "", rest, Query(query.encode()), {}, body, token="t")
    return handler(cast(AgentDoor, Agent()), request)


def store_with(*names: str) -> FSM:
    fsm = FSM()
    for index, name in enumerate(names, 1):
        fsm.apply(index, commands.register(RegisterRequest(node=name, address="127.0.0.1")))
    batch = [Coordinate(name, "", COORD) for name in names]
    fsm.apply(len(names) + 1, batch_command([*batch, Coordinate("nobody", "", COORD)]))
    return fsm


def shown(fsm: FSM, question: Question) -> Reply:
    return question.render(question.read.run(fsm.store, question.args, None))


def test_nodes_and_node() -> None:
    fsm = store_with("n1", "n2")
    value = {"Vec": [0.5] * 8, "Error": 1.5, "Adjustment": 0.25, "Height": 1e-05}
    reply = shown(fsm, ask(endpoint.nodes))
    assert json.loads(reply.body or b"") == [
        {"Node": name, "Segment": "", "Coord": value} for name in ("n1", "n2")
    ]
    assert json.loads(shown(fsm, ask(endpoint.nodes, query="segment=x")).body or b"") == []
    assert len(json.loads(shown(fsm, ask(endpoint.node, "n2")).body or b"")) == 1
    for missing in ("n3", ""):
        reply = shown(fsm, ask(endpoint.node, missing))
        assert (reply.status, reply.body) == (404, None)


def test_an_update_goes_to_the_leader() -> None:
    body = json.dumps({"Node": "n1", "Coord": {"Vec": [1, 2.5], "Error": 1}}).encode()
    errand = ask(endpoint.update, body=body)
    assert isinstance(errand, Errand)
    assert (errand.action.rpc, errand.action.leader) == ("Coordinate.Update", True)
    assert errand.args == UpdateRequest("dc1", "n1", "", Coord([1.0, 2.5], 1.0), "t")
    assert wire.to_wire(errand.args)["Coord"]["Vec"] == [1.0, 2.5]
    assert (errand.render(None).status, errand.render(None).body) == (200, None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Request decode failed: EOF"),
        (
            b'{"Coord": {"Vec": "x"}}',
            "Request decode failed: json: cannot unmarshal string into Go struct field",
        ),
        (b'{"Other": 1}', 'Request decode failed: json: unknown field "Other"'),
        (b'{"Coord": {"Error": 1' + b"0" * 400 + b"}}", "Request decode failed: "),
    ],
)
def test_bodies_that_are_no_update(body: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as error:
        ask(endpoint.update, body=body)
    assert error.value.text.startswith(text)


class Server:
    """A server with a WAN pool of two datacenters."""

    def __init__(self) -> None:
        self.taken: list[Coordinate] = []
        self.coordinates = self
        self.wan = self

    def put(self, coordinate: Coordinate) -> None:
        self.taken.append(coordinate)

    def members(self) -> list[Member]:
        tags = {"role": "consul", "port": "8300", "vsn": "2", "build": "1.9.8:"}
        servers = [("s1", "dc2"), ("s2", "dc1"), ("s3", "dc2"), ("s4", "dc1")]
        made = [Member(f"{name}.{dc}", "127.0.0.1", 1, {**tags, "dc": dc}, ALIVE) for name, dc in servers]
        return [*made, Member("stranger", "127.0.0.1", 1, {}, ALIVE)]

    def coordinate_of(self, name: str) -> Coord | None:
        return None if name.startswith("s4") else COORD


def run(action: Any, server: Server, args: Any) -> Any:
    return asyncio.run(action.run(cast(ServerDoor, server), args))


def test_updates_are_taken_when_they_make_sense() -> None:
    server = Server()
    run(endpoint.UPDATE, server, UpdateRequest("dc1", "n1", "", COORD))
    assert server.taken == [Coordinate("n1", "", COORD)]
    for coord, text in (
        (Coord([0.0] * 7), "incompatible coordinate"),
        (Coord([float("nan")] * 8), "invalid coordinate"),
        (None, "incompatible coordinate"),
    ):
        with pytest.raises(Invalid, match=text):
            run(endpoint.UPDATE, server, UpdateRequest("dc1", "n1", "", coord))
    assert len(server.taken) == 1


def test_servers_by_datacenter() -> None:
    errand = ask(endpoint.datacenters)
    found = json.loads(errand.render(run(errand.action, Server(), errand.args)).body or b"")
    assert [(one["Datacenter"], one["AreaID"]) for one in found] == [("dc1", "wan"), ("dc2", "wan")]
    assert [[item["Node"] for item in one["Coordinates"]] for one in found] == [["s2"], ["s1", "s3"]]


def test_nothing_is_told_where_coordinates_are_disabled() -> None:
    class Without(Agent):
        keeps_coordinates = False

    for route in endpoint.ROUTES:
        request = Request("GET", "", "", Query(b"index=x"), {}, b"")
        with pytest.raises(Unauthorized, match=r"^Coordinate support disabled$"):
            route.handler(cast(AgentDoor, Without()), request)
