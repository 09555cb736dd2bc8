"""Sorting by round-trip time: who is near, what has no coordinate, segments, datacenters."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from core.codec import msgpack, wire
from core.gossip.coordinates import Coordinate as Place
from core.gossip.coordinates import distance
from core.node.distance import coordinate, datacenters_by_distance, nearest_first
from core.store.structs import Coord, Coordinate
from tests.core.store.maker import Bench

COORDINATE_BATCH = b"\x06"


def at(milliseconds: float, **more: float) -> Coord:
    """A place so far from the origin, on the first axis."""
    return Coord(
        [milliseconds / 1000] + [0.0] * 7, 0.1, more.get("adjustment", 0.0), more.get("height", 1e-5)
    )


def bench(places: dict[str, Coord | None], segment: str = "") -> Bench:
    """Nodes at these places; None: without a coordinate."""
    made = Bench()
    for name in places:
        made.register(name)
    batch = [Coordinate(name, segment, place) for name, place in places.items() if place is not None]
    made.ok(COORDINATE_BATCH + msgpack.encode([wire.to_wire(one) for one in batch]))
    return made


def order(made: Bench, near: str, names: list[str]) -> str:
    return " ".join(nearest_first(made.store, near, names, lambda name: name))


def test_near_ones_come_first_and_unknown_ones_last() -> None:
    made = bench({"a": at(0), "b": at(50), "c": at(10), "d": None, "e": at(-20)})
    assert order(made, "a", ["d", "b", "e", "c", "a", "x"]) == "a c e b d x"
    assert order(made, "b", ["x", "a", "b", "c", "d", "e"]) == "b c a e x d"
    assert order(made, "A", ["b", "c"]) == "c b"


def test_without_a_place_to_start_from_nothing_moves() -> None:
    made = bench({"a": at(0), "b": at(50), "d": None})
    for near in ("", "d", "nobody"):
        assert order(made, near, ["b", "a"]) == "b a"


def test_equally_far_ones_stay_in_their_order() -> None:
    made = bench({"a": at(0), "b": at(5), "c": at(-5), "d": at(5)})
    assert order(made, "a", ["d", "c", "b"]) == "d c b"
    assert order(made, "a", ["b", "c", "d"]) == "b c d"


def test_segments_count() -> None:
    made = bench({"server": at(0), "client": at(1), "far": at(9)}, "alpha")
    batch = [Coordinate("server", "", at(0)), Coordinate("other", "", at(1))]
    made.register("other")
    made.ok(COORDINATE_BATCH + msgpack.encode([wire.to_wire(one) for one in batch]))
    # A client of alpha is near to what is in alpha; other is not in it.
    assert order(made, "client", ["other", "far", "server"]) == "server far other"
    assert order(made, "server", ["client", "far", "other"]) == "client other far"


def test_a_coordinate_that_is_of_no_use_is_none() -> None:
    assert coordinate(None) is None
    assert coordinate(Coord([0.0] * 3)) is None
    assert coordinate(Coord([math.nan] * 8)) is None
    assert coordinate(at(1)) == Place([0.001] + [0.0] * 7, 0.1, 0.0, 1e-5)


MILLISECONDS = st.floats(-500, 500, allow_nan=False)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.none() | MILLISECONDS, max_size=8),
    st.data(),
)
def test_the_order_is_that_of_the_distances(places: dict[str, float | None], data: st.DataObject) -> None:
    made = bench({"me": at(0), **{name: None if ms is None else at(ms) for name, ms in places.items()}})
    names = data.draw(st.permutations(sorted(places)))
    far = {name: math.inf if ms is None else distance(_place(0), _place(ms)) for name, ms in places.items()}
    found = list(nearest_first(made.store, "me", names, lambda name: name))
    assert sorted(found) == sorted(names)
    expected = [name for _, _, name in sorted((far[name], names.index(name), name) for name in names)]
    assert found == expected


def _place(milliseconds: float) -> Place:
    found = coordinate(at(milliseconds))
    assert found is not None
    return found


def test_datacenters_by_the_median_of_their_servers() -> None:
    servers = [
        ("far", _place(80)),
        ("near", _place(10)),
        ("near", _place(500)),
        ("near", _place(12)),
        ("unknown", None),
        ("beta", None),
        ("middle", _place(40)),
        ("middle", None),
    ]
    expected = ["near", "middle", "far", "beta", "unknown"]
    assert datacenters_by_distance(_place(0), servers) == expected
    assert datacenters_by_distance(_place(0), servers[::-1]) == expected
    assert datacenters_by_distance(None, servers) == ["beta", "far", "middle", "near", "unknown"]
