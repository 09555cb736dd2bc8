"""Network coordinates: round-trip times of pairs that never talk, from those that do (protocols/gossip.md
section 8). The arithmetic is that of Vivaldi in the reference client, operation by operation in its order,
so that equal inputs give equal doubles."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from msgspec import Struct, field

from core.codec import wire
from core.codec.msgpack import DecodeError

DIMENSION = 8
ERROR_MAX = 1.5
HEIGHT_MIN = 1e-5
_CE = _CC = 0.25
_WINDOW = 20
_FILTER = 3  # round-trip times per peer, of which the median counts
_RHO = 150.0
_ZERO = 1e-6
_RTT_MAX = 10.0
_LONGEST = 9.2e9  # seconds, as far as a duration of nanoseconds reaches
_VERSION = b"\x01"

Vector = Sequence[float]


class Coordinate(Struct, frozen=True):
    """A place in the space of round-trip times, in seconds."""

    vec: list[float] = field(name="Vec", default_factory=lambda: [0.0] * DIMENSION)
    error: float = field(name="Error", default=ERROR_MAX)
    adjustment: float = field(name="Adjustment", default=0.0)
    height: float = field(name="Height", default=HEIGHT_MIN)

    @property
    def usable(self) -> bool:
        """Whether it is finite and of our dimension."""
        parts = (*self.vec, self.error, self.adjustment, self.height)
        return len(self.vec) == DIMENSION and all(map(math.isfinite, parts))


def encode(coordinate: Coordinate) -> bytes:
    """The payload of an ack."""
    return _VERSION + wire.pack(coordinate)


def decode(payload: bytes) -> Coordinate:
    """The coordinate in an ack's payload. DecodeError when it is none, or none that can be used."""
    if payload[:1] != _VERSION:
        raise DecodeError(f"coordinate of unknown version {payload[:1].hex() or 'none'}")
    coordinate = wire.unpack(Coordinate, memoryview(payload)[1:])
    if not coordinate.usable:
        raise DecodeError("coordinate is not finite or of another dimension")
    return coordinate


def distance(a: Coordinate, b: Coordinate) -> float:
    """The round-trip time to expect between two places, in seconds, whole nanoseconds."""
    raw = _raw_distance(a, b)
    adjusted = raw + a.adjustment + b.adjustment
    return _whole_nanoseconds(adjusted if adjusted > 0.0 else raw)


def _whole_nanoseconds(seconds: float) -> float:
    """As a Go duration holds it, read back as Go's Duration.Seconds does."""
    if not abs(seconds) < _LONGEST:  # peers may say anything
        return _LONGEST
    whole, part = divmod(int(abs(seconds) * 1e9), 1_000_000_000)
    return math.copysign(float(whole) + part / 1e9, seconds)


def _raw_distance(a: Coordinate, b: Coordinate) -> float:
    return _length(_difference(a.vec, b.vec)) + a.height + b.height


def _difference(a: Vector, b: Vector) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _length(vec: Vector) -> float:
    total = 0.0
    for x in vec:  # not sum(): newer Pythons compensate
        total += x * x
    return math.sqrt(total)


class CoordinateClient:
    """Our own place, moved by each measured round trip, and the places of others."""

    def __init__(self, rng: random.Random) -> None:
        self.coordinate = Coordinate()
        self.resets = 0
        self._rng = rng
        self._samples = [0.0] * _WINDOW
        self._next_sample = 0
        self._round_trips: dict[str, list[float]] = {}
        self._others: dict[str, Coordinate] = {}

    def of(self, peer: str) -> Coordinate | None:
        """Where a peer said it is."""
        return self._others.get(peer)

    def forget(self, peer: str) -> None:
        """The peer is no member any more."""
        self._others.pop(peer, None)
        self._round_trips.pop(peer, None)

    def observe(self, peer: str, other: Coordinate, rtt: float) -> bool:
        """A round trip to a peer took `rtt` seconds. False when that cannot be, and changes nothing."""
        if not 0.0 <= rtt <= _RTT_MAX or not other.usable:
            return False
        self._others[peer] = other
        rtt = self._median(peer, rtt)
        moved = self._vivaldi(self.coordinate, other, rtt)
        moved = self._adjust(moved, other, rtt)
        moved = self._gravity(moved)
        if not moved.usable:
            self.resets += 1
            moved = Coordinate()
        self.coordinate = moved
        return True

    def _median(self, peer: str, rtt: float) -> float:
        last = self._round_trips.setdefault(peer, [])
        last.append(rtt)
        del last[:-_FILTER]
        return sorted(last)[len(last) // 2]

    def _vivaldi(self, own: Coordinate, other: Coordinate, rtt: float) -> Coordinate:
        expected = distance(own, other)
        rtt = max(rtt, _ZERO)
        wrongness = abs(expected - rtt) / rtt
        weight = own.error / max(own.error + other.error, _ZERO)
        error = min(_CE * weight * wrongness + own.error * (1.0 - _CE * weight), ERROR_MAX)
        own = Coordinate(own.vec, error, own.adjustment, own.height)
        return self._pushed(own, _CC * weight * (rtt - expected), other)

    def _adjust(self, own: Coordinate, other: Coordinate, rtt: float) -> Coordinate:
        self._samples[self._next_sample] = rtt - _raw_distance(own, other)
        self._next_sample = (self._next_sample + 1) % _WINDOW
        total = 0.0
        for sample in self._samples:
            total += sample
        return Coordinate(own.vec, own.error, total / (2.0 * _WINDOW), own.height)

    def _gravity(self, own: Coordinate) -> Coordinate:
        """Pull everything gently to the origin, or the whole space drifts."""
        origin = Coordinate()
        force = -1.0 * math.pow(distance(origin, own) / _RHO, 2.0) if own.usable else math.nan
        return self._pushed(own, force, origin)

    def _pushed(self, own: Coordinate, force: float, other: Coordinate) -> Coordinate:
        """`own` moved by `force` away from `other`."""
        unit, apart = self._direction(own.vec, other.vec)
        vec = [x + u * force for x, u in zip(own.vec, unit, strict=True)]
        height = own.height
        if apart > _ZERO:
            height = max((own.height + other.height) * force / apart + own.height, HEIGHT_MIN)
        return Coordinate(vec, own.error, own.adjustment, height)

    def _direction(self, to: Vector, start: Vector) -> tuple[list[float], float]:
        """Unit vector and length; two points in the same place are pushed apart at random."""
        vec = _difference(to, start)
        length = _length(vec)
        if length > _ZERO:
            return [x * (1.0 / length) for x in vec], length
        vec = [self._rng.random() - 0.5 for _ in to]
        length = _length(vec)
        if length > _ZERO:
            return [x * (1.0 / length) for x in vec], 0.0
        return [1.0] + [0.0] * (len(vec) - 1), 0.0
