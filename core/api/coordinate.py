"""Network coordinates: `/v1/coordinate/*`, and the questions and errands Coordinate.*."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

from msgspec import Struct

from core.acl.access import Authorizer
from core.api import permits
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    Action,
    AgentDoor,
    Answer,
    Errand,
    Handler,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import gojson
from core.codec.gojson import JsonError
from core.codec.shapes import ANY, STRING, Errors, ListOf, Object, Shape, fit
from core.errors import BadRequest, Invalid, Unauthorized
from core.node.servers import server_facts
from core.store.operator import DIMENSIONS
from core.store.state import Store
from core.store.structs import Coord, Coordinate, go_name
from core.store.watch import Watch


class NodesRequest(Struct, frozen=True):
    """structs.DCSpecificRequest: the coordinates of all nodes."""


class NodeRequest(Struct, frozen=True):
    """structs.NodeSpecificRequest: the coordinates of one node."""

    node: str


class UpdateRequest(Struct, frozen=True, rename=go_name):
    """structs.CoordinateUpdateRequest: where a node says that it is."""

    datacenter: str = ""
    node: str = ""
    segment: str = ""
    coord: Coord | None = None
    token: str = ""


class DatacentersRequest(Struct, frozen=True):
    """Coordinate.ListDatacenters has no arguments."""


class DatacenterMap(Struct, frozen=True, rename=go_name):
    """structs.DatacenterMap: the servers of one datacenter in the WAN pool."""

    datacenter: str = ""
    area_id: str = "wan"
    coordinates: list[Coordinate] = []


class Updates(Protocol):
    """Where a server collects updates until they are written together (agent/coordinates.py)."""

    def put(self, coordinate: Coordinate) -> None: ...


class _Pool(Protocol):
    def coordinate_of(self, name: str) -> Coord | None: ...


class _Server(Protocol):
    @property
    def coordinates(self) -> Updates: ...


# --- at the servers ---------------------------------------------------------------------------------


def _list_nodes(view: Store, args: NodesRequest, watch: Watch | None) -> Answer:
    return Answer(*view.coordinate_list(watch))


def _node(view: Store, args: NodeRequest, watch: Watch | None) -> Answer:
    return Answer(*view.node_coordinates(args.node, watch))


async def _update(server: ServerDoor, args: UpdateRequest) -> None:
    """Take an update for the next batch; the log has it a few seconds later."""
    coord = args.coord or Coord()
    numbers = (*(coord.vec or ()), coord.error, coord.adjustment, coord.height)
    if not all(map(math.isfinite, numbers)):
        raise Invalid("invalid coordinate")
    if len(coord.vec or ()) != DIMENSIONS:
        raise Invalid("incompatible coordinate")
    cast(_Server, server).coordinates.put(Coordinate(args.node, args.segment, coord))


async def _list_datacenters(server: ServerDoor, args: DatacentersRequest) -> list[DatacenterMap]:
    """The servers of every datacenter that the WAN pool knows, with coordinates."""
    found: dict[str, list[Coordinate]] = {}
    pool = server.wan
    if pool is not None:
        for member in pool.members():
            facts = server_facts(member)
            coord = cast(_Pool, pool).coordinate_of(member.name) if facts is not None else None
            if facts is not None and coord is not None:
                found.setdefault(facts.datacenter, []).append(Coordinate(facts.name, "", coord))
    return [DatacenterMap(name, "wan", found[name]) for name in sorted(found)]


def _sees(authorizer: Authorizer, item: Coordinate) -> bool:
    return authorizer.allows("node", item.node, "read")


def _permit_node(authorizer: Authorizer, args: NodeRequest, answer: Answer) -> Answer:
    """By the name given and the one that is found: the case of letters counts for rules alone."""
    for name in dict.fromkeys((args.node, *(item.node for item in answer.value))):
        authorizer.require("node", name, "read")
    return answer


def _may_update(authorizer: Authorizer, args: UpdateRequest) -> None:
    authorizer.require("node", args.node, "write")


LIST_NODES = Read("Coordinate.ListNodes", _list_nodes, permits.listing(_sees))
NODE = Read("Coordinate.Node", _node, _permit_node)
UPDATE = Action("Coordinate.Update", _update, permit=_may_update)
LIST_DATACENTERS = Action("Coordinate.ListDatacenters", _list_datacenters, leader=False, permit=OPEN)


# --- over HTTP --------------------------------------------------------------------------------------


def _show(item: Coordinate) -> dict[str, Any]:
    coord = item.coord or Coord()
    shown = {
        "Vec": coord.vec,
        "Error": coord.error,
        "Adjustment": coord.adjustment,
        "Height": coord.height,
    }
    return {"Node": item.node, "Segment": item.segment, "Coord": shown}


def datacenters(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/coordinate/datacenters`."""
    return Errand(LIST_DATACENTERS, DatacentersRequest(), _datacenters, token=request.token)


def _datacenters(maps: list[DatacenterMap]) -> Reply:
    shown = [
        {
            "Datacenter": one.datacenter,
            "AreaID": one.area_id,
            "Coordinates": [_show(item) for item in one.coordinates],
        }
        for one in maps
    ]
    return Reply(body=gojson.encode(shown))


def _in_segment(request: Request, answer: Answer) -> list[dict[str, Any]]:
    found: list[Coordinate] = answer.value
    if request.query.has("segment"):
        found = [item for item in found if item.segment == request.query.get("segment")]
    return [_show(item) for item in found]


def nodes(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/coordinate/nodes`."""

    def render(answer: Answer) -> Reply:
        return Reply(body=gojson.encode(_in_segment(request, answer)))

    return Question(LIST_NODES, NodesRequest(), query_options(request), render)


def node(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/coordinate/node/NAME`; 404 when it has none."""

    def render(answer: Answer) -> Reply:
        shown = _in_segment(request, answer)
        return Reply(body=gojson.encode(shown)) if shown else Reply(404)

    return Question(NODE, NodeRequest(request.rest), query_options(request), render)


class _Float(Shape):
    """A float64."""

    zero = 0.0

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        errors.mismatch(value, self.go)
        return self.zero


_FLOAT = _Float("float64")
_COORD = Object(
    "coordinate.Coordinate",
    {"Vec": ListOf(_FLOAT), "Error": _FLOAT, "Adjustment": _FLOAT, "Height": _FLOAT},
)
_UPDATE = Object(
    "structs.CoordinateUpdateRequest",
    {
        "Datacenter": STRING,
        "Node": STRING,
        "Segment": STRING,
        "Coord": _COORD,
        "Token": STRING,
        "Partition": ANY,
    },
)


def update(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/coordinate/update`."""
    try:
        fields = fit(gojson.decode(request.body), _UPDATE) or {}
    except (JsonError, OverflowError) as error:
        raise BadRequest(f"Request decode failed: {error}") from None
    given = fields.get("Coord") or {}
    coord = Coord(
        given.get("Vec"), given.get("Error", 0.0), given.get("Adjustment", 0.0), given.get("Height", 0.0)
    )
    datacenter = request.query.get("dc") or fields.get("Datacenter") or agent.datacenter
    args = UpdateRequest(
        datacenter,
        fields.get("Node", ""),
        fields.get("Segment", ""),
        coord,
        request.token or fields.get("Token", ""),
    )
    return Errand(UPDATE, args, _done, datacenter, args.token)


def _done(_: object) -> Reply:
    return Reply()


def _where_kept(handler: Handler) -> Handler:
    """Refuses to answer where coordinates are disabled."""

    def answer(agent: AgentDoor, request: Request) -> Outcome:
        if not agent.keeps_coordinates:
            raise Unauthorized("Coordinate support disabled")
        return handler(agent, request)

    return answer


ROUTES = (
    Route("/v1/coordinate/datacenters", ("GET",), _where_kept(datacenters)),
    Route("/v1/coordinate/nodes", ("GET",), _where_kept(nodes)),
    Route("/v1/coordinate/node/", ("GET",), _where_kept(node)),
    Route("/v1/coordinate/update", ("PUT",), _where_kept(update)),
)
READS = (LIST_NODES, NODE)
ACTIONS = (UPDATE, LIST_DATACENTERS)
