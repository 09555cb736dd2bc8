"""`make bench`: ctl beside a bare responder and beside what Consul 1.9.8 does, in one table.

Each figure is the median of several measurements, taken in turns with its yardstick in the same run,
since a shared machine is never as fast twice. Consul's figures are published ones from a quiet machine
of two cores on which the bare responder does 100,000/s (150,000/s for DNS); as ratios to the yardstick
they can be compared across machines. The load generator runs on the same machine."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import acl, beside, cluster, gossip, load
from tests.bench.reference import appends_per_second
from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, own_address, until

RESPONDER = 100_000.0  # requests a second of the bare responder where Consul's figures were taken
RENEWALS = 10_000.0  # session renewals a second that there must be on that machine
PACKETS = 150_000.0  # remembered DNS packets a second there
INSTANCES = 8
PORT = 8500
CONFIG = {"limits": {"http_max_conns_per_client": 2000}}  # all load comes from one address


class Row(NamedTuple):
    """One line. `ratio` and `consul` are shares of the yardstick, `aim` the least (or most) that will do."""

    what: str
    ctl: str
    yardstick: str
    ratio: str
    consul: str
    verdict: str


class Bench:
    """A running agent, a running yardstick, and how often and long to measure."""

    def __init__(self, agent: Agent, reference: str, seconds: float, rounds: int) -> None:
        self.agent = agent
        self.reference = reference
        self.seconds = seconds
        self.rounds = rounds

    def pair(self, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
        """Medians of both, measured in turns."""
        both = [(ours(), theirs()) for _ in range(self.rounds)]
        return statistics.median(a for a, _ in both), statistics.median(b for _, b in both)

    def throughput(
        self, what: str, ours: Callable[[], float], theirs: Callable[[], float], consul: float, full: float
    ) -> Row:
        """`consul` of `full` a second is Consul's share; the aim is twice that."""
        mine, yardstick = self.pair(ours, theirs)
        ratio, share = mine / yardstick, consul / full
        shown = f"{share:.3f} ({consul:,.0f}/s)"
        return Row(
            what,
            f"{mine:,.0f}/s",
            f"{yardstick:,.0f}/s",
            f"{ratio:.3f}",
            shown,
            f"{ratio / share:.1f}x Consul",
        )

    def http(self, what: str, path: str, connections: int, consul: float, put: bool = False) -> Row:
        """wrk on `path` of both."""
        bases = (self.agent.base, f"http://{self.reference}:{PORT}")
        if put:
            script = load.PUT_SCRIPT.replace("{path}", path)
            runs = [lambda b=base: load.wrk(b, connections, self.seconds, script) for base in bases]
        else:
            runs = [lambda b=base: load.wrk(b + path, connections, self.seconds) for base in bases]
        return self.throughput(what, runs[0], runs[1], consul, RESPONDER)

    def dns(self, what: str, query: str, consul: float) -> Row:
        """dnsperf with one question to both."""
        return self.throughput(
            what,
            lambda: load.dnsperf(self.agent.address, self.agent.dns_port, [query], self.seconds),
            lambda: load.dnsperf(self.reference, PORT, [query], self.seconds),
            consul,
            PACKETS,
        )


def _time_row(what: str, mine: float, yardstick: float, consul: float, aim: float) -> Row:
    """A time in seconds: Consul's, and the most that will do."""
    verdict = "meets" if mine <= aim else "misses"
    ratio = f"{mine / yardstick:.1f}"
    return Row(what, _ms(mine), _ms(yardstick), ratio, _ms(consul), f"{verdict} the aim of {_ms(aim)}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def http_rows(bench: Bench) -> Iterator[Row]:
    """Reads at 32 connections, durable writes at 1, 32 and 200."""
    bench.agent.put("/v1/kv/bench/key", "Hello World")
    yield bench.http("KV GET, 32 connections", "/v1/kv/bench/key", 32, 40_000)
    yield bench.http("health ?passing, 8 instances, 32", "/v1/health/service/bench?passing", 32, 10_000)
    for connections, consul in ((1, 1_700), (32, 9_600), (200, 10_000)):
        yield bench.http(f"durable KV PUT, {connections}", "/v1/kv/put/", connections, consul, put=True)


def renew_row(bench: Bench) -> Row:
    """Renewals of as many sessions as there are connections."""
    made = [bench.agent.put("/v1/session/create", {"TTL": "60s"}).json()["ID"] for _ in range(32)]
    script = load.RENEW_SCRIPT.replace("{ids}", ", ".join(f'"{one}"' for one in made))
    bases = (bench.agent.base, f"http://{bench.reference}:{PORT}")
    mine, yardstick = bench.pair(*[lambda b=base: load.wrk(b, 32, bench.seconds, script) for base in bases])
    ratio, aim = mine / yardstick, RENEWALS / RESPONDER
    verdict = f"{'meets' if ratio >= aim else 'misses'} the aim of {aim:.3f} ({RENEWALS:,.0f}/s)"
    return Row("session renewals, 32", f"{mine:,.0f}/s", f"{yardstick:,.0f}/s", f"{ratio:.3f}", "-", verdict)


def dns_rows(bench: Bench) -> Iterator[Row]:
    """A and SRV of eight instances, and a node."""
    node = bench.agent.get("/v1/agent/self")["Config"]["NodeName"]
    yield bench.dns("DNS A, 8 instances", "bench.service.consul A", 20_000)
    yield bench.dns("DNS SRV, 8 instances", "bench.service.consul SRV", 11_000)
    yield bench.dns("DNS A, node", f"{node}.node.consul A", 35_000)


def disk_row(bench: Bench) -> Row:
    """One writer's PUTs beside bare appends, each synced."""
    script = load.PUT_SCRIPT.replace("{path}", "/v1/kv/disk/")
    mine, yardstick = bench.pair(
        lambda: load.wrk(bench.agent.base, 1, bench.seconds, script),
        lambda: appends_per_second(bench.agent.folder, bench.seconds / 2),
    )
    what = "durable KV PUT, 1, beside pwrite+fdatasync"
    return Row(what, f"{mine:,.0f}/s", f"{yardstick:,.0f}/s", f"{mine / yardstick:.3f}", "-", "-")


def wake_row(bench: Bench) -> Row:
    """500 blocked queries woken by one write."""
    agent = bench.agent

    def ours() -> float:
        agent.put("/v1/kv/woken", "before")
        index = agent.http("GET", "/v1/kv/woken").consul_index
        blocked = f"/v1/kv/woken?index={index}&wait=60s"
        return load.wake((agent.address, agent.http_port), blocked, "/v1/kv/woken")

    mine, yardstick = bench.pair(ours, lambda: load.wake((bench.reference, PORT), "/wait", "/write"))
    return _time_row("500 blocked queries, one write", mine, yardstick, 0.017, 0.017)


def process_row(bench: Bench) -> Row:
    """`ctl kv get` as a process beside an interpreter that does nothing."""
    installed = Path(sys.executable).with_name("ctl")
    ctl = [str(installed)] if installed.exists() else list(CTL)
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": bench.agent.base}
    many = Bench(bench.agent, bench.reference, bench.seconds, bench.rounds * 5)
    mine, yardstick = many.pair(
        lambda: load.process_seconds([*ctl, "kv", "get", "bench/key"], environment, ROOT),
        lambda: load.process_seconds([sys.executable, "-c", "pass"], environment, ROOT),
    )
    return _time_row("`ctl kv get`, beside `python -c pass`", mine, yardstick, 0.045, 0.045)


def start_row(folder: Path, rounds: int) -> Row:
    """From exec to the first acknowledged durable write."""

    def ours(number: int) -> float:
        place = folder / f"start{number}"
        place.mkdir()
        agent = Agent(place, dev=False)
        began = time.perf_counter()
        agent.start(wait=False)
        try:
            until("the first write", lambda: _written(agent), pause=0.005)
            return time.perf_counter() - began
        finally:
            agent.end()

    def theirs() -> float:
        began = time.perf_counter()
        with _responder():
            return time.perf_counter() - began

    mine = statistics.median(ours(number) for number in range(rounds))
    return _time_row(
        "start to first durable write", mine, statistics.median(theirs() for _ in range(rounds)), 9.0, 4.5
    )


def _written(agent: Agent) -> bool:
    try:
        return agent.http("PUT", "/v1/kv/first", b"1").status == 200
    except OSError:
        return False


def idle_rows(agent: Agent, seconds: float) -> Iterator[Row]:
    """Memory and processor time of a fresh agent to which nothing happens."""
    time.sleep(2)  # what follows a start is over
    before = agent.cpu()
    time.sleep(seconds)
    share = (agent.cpu() - before) / seconds * 100
    memory = agent.resident() / 1e6
    shown = "meets" if memory <= 53 else "misses"
    yield Row("memory, idle", f"{memory:.0f} MB", "-", "-", "53 MB", f"{shown} the aim of 53 MB")
    shown = "meets" if share <= 0.3 else "misses"
    yield Row("processor, idle", f"{share:.2f} %", "-", "-", "0.3 %", f"{shown} the aim of 0.3 %")


@contextmanager
def _responder() -> Iterator[str]:
    address = own_address()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.reference", address, str(PORT)], cwd=ROOT)
    try:
        until("the responder answers", lambda: _accepts(address), pause=0.005)
        yield address
    finally:
        process.kill()
        process.wait()


def _accepts(address: str) -> bool:
    import socket

    try:
        socket.create_connection((address, PORT), 1).close()
    except OSError:
        return False
    return True


def _show(row: Row) -> None:
    widths = (44, 14, 14, 8, 22)
    print(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip(),
        flush=True,
    )


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="how long each load lasts")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--consul", default="", help="a consul to measure beside instead")
    chosen = parser.parse_args()
    if chosen.consul:
        _show(Row("what", "ctl", "consul", "ratio", "", ""))
        with tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench") as name:
            for line in beside.rows(Path(name), chosen.consul, chosen.seconds, chosen.rounds):
                _show(Row(*line))
        return
    _show(Row("what", "ctl", "yardstick", "ratio", "Consul 1.9.8", "verdict"))
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench") as name:
        folder = Path(name)
        (folder / "agent").mkdir()
        with _responder() as reference, Agent(folder / "agent", dev=False, config=CONFIG) as agent:
            for row in idle_rows(agent, 10):
                _show(row)
            _register(agent)
            bench = Bench(agent, reference, chosen.seconds, chosen.rounds)
            _measure(bench)
        _show(start_row(folder, chosen.rounds))
        if load.has("wrk"):
            for line in acl.rows(folder, chosen.seconds, chosen.rounds):
                _show(Row(*line))
        (folder / "cluster").mkdir()
        for line in cluster.rows(folder / "cluster", chosen.seconds, chosen.rounds):
            _show(Row(*line))
    for line in gossip.rows():
        _show(Row(*line))


def _register(agent: Agent) -> None:
    for number in range(INSTANCES):
        name = f"bench{number}"
        service = {"ID": name, "Service": "bench", "Port": 8000 + number}
        check = {"CheckID": f"{name}-up", "Name": "up", "ServiceID": name, "Status": "passing"}
        node = {"Node": name, "Address": f"10.0.0.{number + 1}", "Service": service, "Check": check}
        agent.put("/v1/catalog/register", node)


def _measure(bench: Bench) -> None:
    if load.has("wrk"):
        for row in http_rows(bench):
            _show(row)
        _show(renew_row(bench))
        _show(disk_row(bench))
    else:
        print("NOT MEASURED: wrk is not installed", flush=True)
    if load.has("dnsperf"):
        for row in dns_rows(bench):
            _show(row)
    else:
        print("NOT MEASURED: dnsperf is not installed", flush=True)
    _show(wake_row(bench))
    _show(process_row(bench))


if __name__ == "__main__":
    main()
