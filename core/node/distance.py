"""Sorting by round-trip time, as the coordinate table tells it (protocols/gossip.md section 8).

What has no coordinate comes last; things that are equally far stay in the order that they were in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_high
from typing import TypeVar

from core.gossip.coordinates import Coordinate, distance
from core.store.state import Store
from core.store.structs import Coord

T = TypeVar("T")
_Places = Mapping[str, Coordinate]  # of one node, by network segment


def nearest_first(view: Store, near: str, items: Sequence[T], node_of: Callable[[T], str]) -> Sequence[T]:
    """`items` by the distance of their nodes from the node `near`; as they are when it has no place."""
    if not near or len(items) < 2:
        return items
    start = _places(view, near)
    if not start:
        return items
    known: dict[str, float] = {}

    def far(item: T) -> float:
        node = node_of(item)
        found = known.get(node)
        if found is None:
            found = known[node] = _between(start, _places(view, node))
        return found

    return sorted(items, key=far)


def _places(view: Store, node: str) -> _Places:
    found: dict[str, Coordinate] = {}
    for row in view.node_coordinates(node)[1]:
        place = coordinate(row.coord)
        if place is not None:
            found[row.segment] = place
    return found


def coordinate(coord: Coord | None) -> Coordinate | None:
    """A stored coordinate as gossip reckons with it, None when it is of no use."""
    if coord is None:
        return None
    made = Coordinate(list(coord.vec or ()), coord.error, coord.adjustment, coord.height)
    return made if made.usable else None


def _between(one: _Places, other: _Places) -> float:
    """Seconds between two nodes in a segment that both are in. A node with one place only is a client, or
    there are no segments: its segment counts, as a server is in all of them."""
    segment = ""
    for places in (one, other):
        if len(places) == 1:
            segment = next(iter(places))
    if segment not in one or segment not in other:
        return math.inf
    return distance(one[segment], other[segment])


def datacenters_by_distance(
    own: Coordinate | None, servers: Iterable[tuple[str, Coordinate | None]]
) -> list[str]:
    """Datacenters by the median of the distances to their servers, given as (datacenter, coordinate);
    those without any coordinate last, equally far ones by name."""
    far: dict[str, list[float]] = {}
    for datacenter, place in servers:
        known = far.setdefault(datacenter, [])
        if own is not None and place is not None:
            known.append(distance(own, place))
    return sorted(sorted(far), key=lambda name: median_high(far[name]) if far[name] else math.inf)
