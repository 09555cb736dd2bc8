"""Network coordinates: the reference client's doubles, bit by bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from core.gossip.coordinates import DIMENSION, Coordinate, CoordinateClient, distance

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "gossip" / "vivaldi.json").read_text())


def coordinate(wire: dict[str, float]) -> Coordinate:
    return Coordinate([float(x) for x in wire["Vec"]], wire["Error"], wire["Adjustment"], wire["Height"])  # type: ignore[attr-defined]


def test_bit_identical_to_the_reference() -> None:
    client = CoordinateClient(Random(1))
    client.coordinate = coordinate(VECTOR["start"])
    for step in VECTOR["steps"]:
        other = coordinate(step["Other"])
        assert client.observe(step["Node"], other, step["RttNs"] / 1e9)
        assert client.coordinate == coordinate(step["Result"])
        assert round(distance(client.coordinate, other) * 1e9) == step["DistNs"]
        assert client.of(step["Node"]) == other
    assert len(VECTOR["steps"]) == 30


def test_median_of_three_round_trips() -> None:
    """One slow answer moves nothing."""
    calm, shaken = CoordinateClient(Random(1)), CoordinateClient(Random(1))
    place = Coordinate([0.01] + [0.0] * 7, 0.5)
    for rtt, other in ((0.010, 0.010), (0.010, 0.010), (0.010, 5.0)):
        calm.observe("a", place, rtt)
        shaken.observe("a", place, other)
    assert calm.coordinate == shaken.coordinate
    shaken.forget("a")
    shaken.observe("a", place, 5.0)
    assert calm.coordinate != shaken.coordinate


def test_impossible_round_trips_change_nothing() -> None:
    client = CoordinateClient(Random(1))
    for rtt in (-0.001, 10.1, math.nan):
        assert not client.observe("a", Coordinate(), rtt)
    assert not client.observe("a", Coordinate([0.0]), 0.1)
    assert not client.observe("a", Coordinate([math.inf] * DIMENSION), 0.1)
    assert client.coordinate == Coordinate()
    assert client.of("a") is None


floats = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(st.lists(floats, min_size=8, max_size=8), floats, floats, floats, st.floats(0, 10)))
)
def test_never_unusable(others: list[tuple[list[float], float, float, float, float]]) -> None:
    client = CoordinateClient(Random(1))
    for vec, error, adjustment, height, rtt in others:
        client.observe("a", Coordinate(vec, error, adjustment, height), rtt)
        assert client.coordinate.usable


def test_finds_the_places_of_a_line() -> None:
    """Four nodes, 10 ms apart in a line: estimates come close to the measured times."""
    clients = [CoordinateClient(Random(number)) for number in range(4)]
    rng = Random(7)
    for _ in range(3000):
        a, b = rng.sample(range(4), 2)
        clients[a].observe(str(b), clients[b].coordinate, 0.010 * abs(a - b))
    for a in range(4):
        for b in range(a):
            estimate = distance(clients[a].coordinate, clients[b].coordinate)
            assert abs(estimate - 0.010 * (a - b)) < 0.002
