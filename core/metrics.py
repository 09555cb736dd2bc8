"""Counters, gauges and timings of this agent, in intervals of ten seconds and over its whole life.

    incr, sample, samples, gauge   called where things happen; an event is one `list.append`
    register_collector(collect)    for what is cheaper to ask for than to report: `collect(metrics)` runs
                                   before every look, and when an interval ends
    snapshot(now)                  the last whole interval as `/v1/agent/metrics` shows it
    prometheus(now)                all of its life as Prometheus text

Events wait in lists and are folded into sums after at most `_BATCH` of them; nobody needs to wake up
for that. `on_activity` is called at the first event of an interval, so that whoever owns a clock can
call `roll` when the interval ends; an interval that nobody ended simply lasted longer, and `Rate` is
reckoned over the time that it really took. Times are Unix seconds, samples milliseconds.

Not for several threads: events must come from one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
Collector = Callable[["Metrics"], None]
# (kind, full name, values, labels) with kind "c", "g" or "ms": what a statsd sink wants to hear
Listener = Callable[[str, str, Sequence[float], Labels], None]

INTERVAL = 10.0
_BATCH = 512  # events before they are folded: bounds memory, keeps quantiles fresh
_RECENT = 512  # values that quantiles are taken from
_FORGET = 60.0  # a series without events for this long (or for the retention time) is dropped
_QUANTILES = (0.5, 0.9, 0.99)
_PROMETHEUS_NAMES = str.maketrans(dict.fromkeys(" .=-/:", "_"))


class Aggregate:
    """Count, sum, sum of squares and extremes of the events of one interval."""

    __slots__ = ("count", "high", "low", "squares", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: Sequence[float]) -> None:
        self.count += len(values)
        self.total += sum(values)
        self.squares += sum([value * value for value in values])
        self.low = min(self.low, min(values))
        self.high = max(self.high, max(values))

    def stddev(self) -> float:
        divisor = self.count * (self.count - 1)
        if not divisor:
            return 0.0
        return math.sqrt(max(0.0, self.count * self.squares - self.total * self.total) / divisor)


class _Series:
    """One name with one set of labels: what waits, this interval, the one before, and its life."""

    __slots__ = ("current", "finished", "life_count", "life_total", "pending", "recent", "touched")

    def __init__(self, now: float) -> None:
        self.pending: list[float] = []
        self.current = Aggregate()
        self.finished = Aggregate()
        self.life_count = 0
        self.life_total = 0.0
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self.touched = now

    def fold(self, now: float) -> list[float]:
        """Add what waits to the sums; returns it."""
        values = self.pending[:]
        self.pending.clear()
        if values:
            self.current.add(values)
            self.life_count += len(values)
            self.life_total += sum(values)
            self.recent.extend(values)
            self.touched = now
        return values

    def quantiles(self, stale: bool) -> list[float]:
        """`_QUANTILES` of the recent values; NaN when there are none or they are too old to mean much."""
        ordered = sorted(self.recent)
        if stale or not ordered:
            return [math.nan] * len(_QUANTILES)
        return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in _QUANTILES]


def _ignore(value: float) -> None:
    """Where the events of filtered names go."""


class _Family:
    """All series of one kind. `append` is the hot path: key -> the pending list's own `append`."""

    __slots__ = ("append", "kind", "series")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.append: dict[Key, Callable[[float], None]] = {}
        self.series: dict[Key, _Series] = {}


class Metrics:
    """The registry. `host` is put into gauge names (`consul.HOST.runtime...`), empty to leave it out.

    `retention` is Prometheus' retention time in seconds, `filters` are `+prefix` and `-prefix` of full
    names (the longest that matches decides, `filter_default` when none does)."""

    def __init__(
        self,
        now: float,
        *,
        prefix: str = "consul",
        host: str = "",
        retention: float = 0.0,
        filters: Iterable[str] = (),
        filter_default: bool = True,
    ) -> None:
        self.on_activity: Callable[[], None] | None = None
        self.listener: Listener | None = None
        self._prefix = f"{prefix}." if prefix else ""
        self._gauge_prefix = self._prefix + (f"{host}." if host else "")
        self.retention = retention
        self._forget = max(_FORGET, retention)
        self._filters = _read_filters(filters)
        self._filter_default = filter_default
        self._collectors: list[Collector] = []
        self._counters = _Family("c")
        self._samples = _Family("ms")
        self._gauges: dict[Key, float] = {}
        self._now = self._start = now
        self._finished_start = now
        self._finished_length = 0.0
        self._left = 0  # events until the next fold; 0 after a roll, so that the first one tells
        self._quiet = True

    def leave_out_host(self) -> None:
        """From now on names of gauges are without the host."""
        self._gauge_prefix = self._prefix

    def incr(self, name: str, n: float = 1, labels: Labels = ()) -> None:
        """Count `n` more of `name` (without prefix, `raft.apply`)."""
        try:
            self._counters.append[name, labels](n)
        except KeyError:
            self._new_series(self._counters, (name, labels))(n)
        self._left -= 1
        if self._left < 0:
            self._busy()

    def sample(self, name: str, value: float, labels: Labels = ()) -> None:
        """One measurement, in milliseconds where it is a time."""
        try:
            self._samples.append[name, labels](value)
        except KeyError:
            self._new_series(self._samples, (name, labels))(value)
        self._left -= 1
        if self._left < 0:
            self._busy()

    def samples(self, name: str, values: Sequence[float], labels: Labels = ()) -> None:
        """Many measurements at once: for hot paths that keep a list of their own."""
        if not values:
            return
        key = (name, labels)
        if key not in self._samples.append:
            self._new_series(self._samples, key)
        series = self._samples.series.get(key)
        if series is not None:
            series.pending.extend(values)
            self._left -= len(values)
            if self._left < 0:
                self._busy()

    def gauge(self, name: str, value: float, labels: Labels = ()) -> None:
        """The present value of `name`; kept until it is set again."""
        key = (name, labels)
        if key in self._gauges or self._allows(name):
            self._gauges[key] = value

    def register_collector(self, collect: Collector) -> None:
        """Have `collect(metrics)` called before every look, to report what was counted elsewhere."""
        self._collectors.append(collect)

    def set_filters(self, filters: Iterable[str], filter_default: bool) -> None:
        """Change what passes (a reload); filtered names disappear at once."""
        self._filters = _read_filters(filters)
        self._filter_default = filter_default
        for family in (self._counters, self._samples):
            family.append.clear()
            for key in [key for key in family.series if not self._allows(key[0])]:
                del family.series[key]
            for key, series in family.series.items():
                family.append[key] = series.pending.append
        self._gauges = {key: value for key, value in self._gauges.items() if self._allows(key[0])}

    def deadline(self) -> float:
        """When the interval under way is over."""
        return self._start + INTERVAL

    def roll(self, now: float) -> None:
        """Collect, and end the interval if its time is over."""
        self._now = max(now, self._start)  # a wall clock may step back
        for collect in self._collectors:
            collect(self)
        self._fold()
        if self._now < self.deadline():
            return
        for family in (self._counters, self._samples):
            for key, series in list(family.series.items()):
                series.finished, series.current = series.current, Aggregate()
                if self._now - series.touched > self._forget:
                    del family.series[key], family.append[key]
        self._finished_start, self._finished_length = self._start, self._now - self._start
        self._start = self._now - self._now % INTERVAL
        self._left = 0
        self._quiet = True

    def tell_gauges(self) -> None:
        """Report every gauge to the listener."""
        if self.listener is not None:
            for (name, labels), value in list(self._gauges.items()):
                self.listener("g", self._gauge_prefix + name, (value,), labels)

    def snapshot(self, now: float) -> dict[str, Any]:
        """The last whole interval (before there is one, the running one), in Consul's JSON form."""
        self.roll(now)
        whole = self._finished_length > 0
        start = self._finished_start if whole else self._start
        length = max(INTERVAL, self._finished_length)
        return {
            "Timestamp": datetime.fromtimestamp(round(start), UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
            "Gauges": [
                {"Name": self._gauge_prefix + name, "Value": _plain(value), "Labels": dict(labels)}
                for (name, labels), value in sorted(self._gauges.items())
            ],
            "Points": [],
            "Counters": self._rows(self._counters, whole, length),
            "Samples": self._rows(self._samples, whole, length),
        }

    def prometheus(self, now: float) -> str:
        """Everything since the start, in the text format 0.0.4; quantiles are of recent values only."""
        self.roll(now)
        lines: list[str] = []
        written = ""
        for (name, labels), value in sorted(self._gauges.items()):
            full = _prometheus_name(self._gauge_prefix + name)
            written = _head(lines, written, full, "gauge")
            lines.append(f"{full}{_prometheus_labels(labels)} {_number(value)}")
        for (name, labels), series in sorted(self._counters.series.items(), key=lambda item: item[0]):
            full = _prometheus_name(self._prefix + name)
            written = _head(lines, written, full, "counter")
            lines.append(f"{full}{_prometheus_labels(labels)} {_number(series.life_total)}")
        for (name, labels), series in sorted(self._samples.series.items(), key=lambda item: item[0]):
            full = _prometheus_name(self._prefix + name)
            written = _head(lines, written, full, "summary")
            stale = self._now - series.touched >= 2 * INTERVAL
            for share, value in zip(_QUANTILES, series.quantiles(stale), strict=True):
                labelled = _prometheus_labels((*labels, ("quantile", str(share))))
                lines.append(f"{full}{labelled} {_number(value)}")
            lines.append(f"{full}_sum{_prometheus_labels(labels)} {_number(series.life_total)}")
            lines.append(f"{full}_count{_prometheus_labels(labels)} {series.life_count}")
        lines.append("")
        return "\n".join(lines)

    def _busy(self) -> None:
        if self._quiet:
            self._quiet = False
            if self.on_activity is not None:
                self.on_activity()
        else:
            self._fold()
        self._left = _BATCH

    def _fold(self) -> None:
        for family in (self._counters, self._samples):
            for (name, labels), series in family.series.items():
                values = series.fold(self._now)
                if values and self.listener is not None:
                    self.listener(family.kind, self._prefix + name, values, labels)

    def _new_series(self, family: _Family, key: Key) -> Callable[[float], None]:
        if not self._allows(key[0]):
            family.append[key] = _ignore
            return _ignore
        series = family.series[key] = _Series(self._now)
        family.append[key] = series.pending.append
        return series.pending.append

    def _allows(self, name: str) -> bool:
        full = self._prefix + name
        for prefix, allowed in self._filters:  # longest first
            if full.startswith(prefix):
                return allowed
        return self._filter_default

    def _rows(self, family: _Family, whole: bool, length: float) -> list[dict[str, Any]]:
        rows = []
        for (name, labels), series in sorted(family.series.items(), key=lambda item: item[0]):
            found = series.finished if whole else series.current
            if not found.count:
                continue
            rows.append(
                {
                    "Name": self._prefix + name,
                    "Count": found.count,
                    "Rate": _plain(found.total / length),
                    "Sum": _plain(found.total),
                    "Min": _plain(found.low),
                    "Max": _plain(found.high),
                    "Mean": _plain(found.total / found.count),
                    "Stddev": _plain(found.stddev()),
                    "Labels": dict(labels),
                }
            )
        return rows


def _read_filters(rules: Iterable[str]) -> list[tuple[str, bool]]:
    """`+prefix`, `-prefix` -> (prefix, allowed), longest first. Rules without a sign were warned of."""
    found = {rule[1:]: rule[0] == "+" for rule in rules if rule[:1] in ("+", "-")}
    return sorted(found.items(), key=lambda item: -len(item[0]))


def _plain(value: float) -> float | int:
    """A whole number without `.0`, as Go writes floats in JSON."""
    return int(value) if math.isfinite(value) and value == int(value) else value


def _head(lines: list[str], written: str, full: str, kind: str) -> str:
    if full != written:
        lines.append(f"# HELP {full} {full}")
        lines.append(f"# TYPE {full} {kind}")
    return full


def _prometheus_name(name: str) -> str:
    return name.translate(_PROMETHEUS_NAMES)


def _prometheus_labels(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = []
    for name, value in labels:
        escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        pairs.append(f'{_prometheus_name(name)}="{escaped}"')
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(_plain(value))
