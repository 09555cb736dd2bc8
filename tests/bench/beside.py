"""`make bench CONSUL=PATH`: every figure of ctl beside the same figure of a Consul on this machine.

Both are measured in turns by the same load generator, on default settings of durable servers; a ratio
above 1 says that ctl is better (faster, or sooner, or smaller)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import load
from tests.cluster import Cluster, Load, Node
from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, until

Row = tuple[str, str, str, str, str, str]
Figure = Callable[[Agent], float]
# All load comes from one address; nothing is asked of the world outside.
CONFIG = {"limits": {"http_max_conns_per_client": 2000}, "disable_update_check": True}
INSTANCES = 8
PUT = load.PUT_SCRIPT.replace("{path}", "/v1/kv/put/")


class Pair:
    """A ctl and a Consul, and how often each figure is taken of them."""

    def __init__(self, folder: Path, consul: str, seconds: float, rounds: int) -> None:
        self.folder, self.consul, self.seconds, self.rounds = folder, consul, seconds, rounds
        self.commands = {"ctl": Agent.command, "consul": (consul, "agent")}

    def rate(self, what: str, agents: tuple[Agent, Agent], figure: Figure) -> Row:
        """More is better."""
        ours, theirs = self._medians(agents, figure)
        return what, f"{ours:,.0f}/s", f"{theirs:,.0f}/s", f"{ours / theirs:.2f}", "", ""

    def span(self, what: str, agents: tuple[Agent, Agent], figure: Figure) -> Row:
        """Seconds: less is better."""
        ours, theirs = self._medians(agents, figure)
        return what, f"{ours * 1e3:,.1f} ms", f"{theirs * 1e3:,.1f} ms", f"{theirs / ours:.2f}", "", ""

    def _medians(self, agents: tuple[Agent, Agent], figure: Figure) -> tuple[float, float]:
        found = [(figure(agents[0]), figure(agents[1])) for _ in range(self.rounds)]
        return statistics.median(a for a, _ in found), statistics.median(b for _, b in found)

    def agents(self, stack: ExitStack, name: str) -> tuple[Agent, Agent]:
        """One durable server of each, running."""
        both = []
        for kind, command in self.commands.items():
            folder = self.folder / f"{name}-{kind}"
            folder.mkdir()
            agent = Agent(folder, dev=False, config=CONFIG)
            agent.command = command
            both.append(stack.enter_context(agent))
        return both[0], both[1]


def rows(folder: Path, consul: str, seconds: float, rounds: int) -> Iterator[Row]:
    """One line for each figure."""
    pair = Pair(folder, consul, seconds, rounds)
    with ExitStack() as stack:
        agents = pair.agents(stack, "one")
        for agent in agents:
            _fill(agent)
        yield from _http(pair, agents)
        yield from _dns(pair, agents)
        yield from _waits(pair, agents)
    yield from _starts(pair)
    yield from _clusters(pair)


def _fill(agent: Agent) -> None:
    for number in range(INSTANCES):
        name = f"bench{number}"
        check = {"CheckID": f"{name}-up", "Name": "up", "ServiceID": name, "Status": "passing"}
        service = {"ID": name, "Service": "bench", "Port": 8000 + number}
        node = {"Node": name, "Address": f"10.0.0.{number + 1}", "Service": service, "Check": check}
        agent.put("/v1/catalog/register", node)
    agent.put("/v1/kv/bench/key", "Hello World")
    for number in range(1000):
        agent.put(f"/v1/kv/tree/{number}", "Hello World")


def _http(pair: Pair, agents: tuple[Agent, Agent]) -> Iterator[Row]:
    def get(path: str, connections: int) -> Figure:
        return lambda agent: load.wrk(agent.base + path, connections, pair.seconds)

    def put(connections: int) -> Figure:
        return lambda agent: load.wrk(agent.base, connections, pair.seconds, PUT)

    yield pair.rate("KV GET, 1 connection", agents, get("/v1/kv/bench/key", 1))
    yield pair.rate("KV GET, 32", agents, get("/v1/kv/bench/key", 32))
    yield pair.rate("KV GET ?consistent, 32", agents, get("/v1/kv/bench/key?consistent", 32))
    yield pair.rate("KV GET ?recurse, 1,000 keys, 4", agents, get("/v1/kv/tree/?recurse", 4))
    yield pair.rate("health ?passing, 8 instances, 32", agents, get("/v1/health/service/bench?passing", 32))
    yield pair.rate("catalog services, 32", agents, get("/v1/catalog/services", 32))
    for connections in (1, 32, 200):
        yield pair.rate(f"durable KV PUT, {connections}", agents, put(connections))
    yield pair.rate("session renewals, 32", agents, lambda agent: _renewals(agent, pair.seconds))


def _renewals(agent: Agent, seconds: float) -> float:
    made = [agent.put("/v1/session/create", {"TTL": "600s"}).json()["ID"] for _ in range(32)]
    script = load.RENEW_SCRIPT.replace("{ids}", ", ".join(f'"{one}"' for one in made))
    return load.wrk(agent.base, 32, seconds, script)


def _dns(pair: Pair, agents: tuple[Agent, Agent]) -> Iterator[Row]:
    def ask(query: str) -> Figure:
        return lambda agent: load.dnsperf(agent.address, agent.dns_port, [query], pair.seconds)

    for what, query in (("A", "bench.service.consul A"), ("SRV", "bench.service.consul SRV")):
        yield pair.rate(f"DNS {what}, 8 instances", agents, ask(query))


def _waits(pair: Pair, agents: tuple[Agent, Agent]) -> Iterator[Row]:
    def woken(agent: Agent) -> float:
        agent.put("/v1/kv/woken", "before")
        index = agent.http("GET", "/v1/kv/woken").consul_index
        return load.wake((agent.address, agent.http_port), f"/v1/kv/woken?index={index}", "/v1/kv/woken")

    def registered(agent: Agent) -> float:
        """From a registration at the agent to the answer of who waits for the service."""
        name = f"svc{time.monotonic_ns()}"
        index = agent.http("GET", f"/v1/health/service/{name}").consul_index
        with agent.connect() as waiting:
            path = f"/v1/health/service/{name}?index={index}"
            waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            began = time.perf_counter()
            agent.put("/v1/agent/service/register", {"Name": name, "Port": 1})
            waiting.recv(65536)
            return time.perf_counter() - began

    yield pair.span("500 blocked queries, one write", agents, woken)
    yield pair.span("service registered, watcher told", agents, registered)
    clis = {agents[0].base: CTL, agents[1].base: (pair.consul,)}
    for words in (("kv", "get", "bench/key"), ("members",)):
        what = f"`{' '.join(words)}` as a process"
        yield pair.span(what, agents, lambda agent, w=words: _process(agent, clis[agent.base], w))
    ours, theirs = [agent.resident() / 1e6 for agent in agents]
    yield (
        "memory after all this",
        f"{ours:.0f} MB",
        f"{theirs:.0f} MB",
        f"{theirs / ours:.2f}",
        "",
        "",
    )


def _process(agent: Agent, command: Sequence[str], words: Sequence[str]) -> float:
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": agent.base}
    return load.process_seconds([*command, *words], environment, ROOT)


def _starts(pair: Pair) -> Iterator[Row]:
    numbers = iter(range(1000))

    def start(kind: str) -> float:
        folder = pair.folder / f"start{next(numbers)}"
        folder.mkdir()
        agent = Agent(folder, dev=False, config=CONFIG)
        agent.command = pair.commands[kind]
        began = time.monotonic()
        agent.start(wait=False)
        try:
            until("the first write", lambda: _writes(agent), 60, 0.005)
            return time.monotonic() - began
        finally:
            agent.end()

    found = [(start("ctl"), start("consul")) for _ in range(pair.rounds)]
    yield _seconds("one server: start to first durable write", found)


def _writes(agent: Agent) -> bool:
    try:
        return agent.http("PUT", "/v1/kv/first", b"1").status == 200
    except OSError:
        return False


def _seconds(what: str, found: list[tuple[float, float]]) -> Row:
    ours, theirs = statistics.median(a for a, _ in found), statistics.median(b for _, b in found)
    return what, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.2f}", "", ""


def _clusters(pair: Pair) -> Iterator[Row]:
    with ExitStack() as stack:
        both = []
        started = []
        for kind, command in pair.commands.items():
            folder = pair.folder / f"three-{kind}"
            folder.mkdir()
            cluster = Cluster(folder, servers=3, config=CONFIG, command=command)
            stack.callback(cluster.end)
            began = time.monotonic()
            for server in cluster.servers:
                server.start(wait=False)
            until("the first write", lambda c=cluster: _writes(c.servers[0]), 60, 0.01)
            started.append(time.monotonic() - began)
            both.append(cluster)
        yield _seconds("three servers: start to first durable write", [(started[0], started[1])])
        leaders = [cluster.wait_leader() for cluster in both]
        followers = [cluster.followers()[0] for cluster in both]
        for agent in leaders:
            agent.put("/v1/kv/bench/key", "Hello World")

        def write(agent: Agent) -> float:
            return load.wrk(agent.base, 32, pair.seconds, PUT)

        def stale(agent: Agent) -> float:
            return load.wrk(f"{agent.base}/v1/kv/bench/key?stale", 32, pair.seconds)

        def plain(agent: Agent) -> float:
            return load.wrk(f"{agent.base}/v1/kv/bench/key", 32, pair.seconds)

        yield pair.rate("three servers: PUT at the leader, 32", (leaders[0], leaders[1]), write)
        yield pair.rate("three servers: PUT at a follower, 32", (followers[0], followers[1]), write)
        yield pair.rate("three servers: stale GET at a follower, 32", (followers[0], followers[1]), stale)
        yield pair.rate("three servers: GET at a follower, 32", (followers[0], followers[1]), plain)
        found = [(_failover(both[0]), _failover(both[1])) for _ in range(pair.rounds)]
        yield _seconds("leader killed, next acknowledged write", found)


def _failover(cluster: Cluster) -> float:
    leader: Node = cluster.settle()
    with Load([server for server in cluster.servers if server is not leader]) as work:
        work.until_acknowledged()
        leader.kill9()
        spent = work.until_acknowledged(1)
        leader.start(wait=False)
    return spent
