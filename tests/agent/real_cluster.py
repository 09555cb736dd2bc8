"""A cluster of real processes, and clients that note what they asked for and what they got."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Agent, own_address, until
from tests.sim.linearizable import CAS, GET, PUT, Operation


class Cluster:
    """Servers and client agents by name. `asked` answers what the tests want to know."""

    def __init__(self, factory: pytest.TempPathFactory, servers: int, clients: int) -> None:
        self.servers = [f"s{number + 1}" for number in range(servers)]
        self.clients = [f"c{number + 1}" for number in range(clients)]
        self.folders = {name: factory.mktemp(name) for name in (*self.servers, *self.clients)}
        self.agents: dict[str, Agent] = {}
        self.asked = ""

    def start(self) -> None:
        """Start all agents, on addresses that no agent of this cluster has had before."""
        addresses = {name: own_address() for name in self.folders}
        joins = [flag for name in self.servers for flag in ("--retry-join", addresses[name])]
        for name, folder in self.folders.items():
            expect = ("--bootstrap-expect", str(len(self.servers)))
            role = expect if name in self.servers else ("--server=false",)
            flags = ("--bootstrap=false", *role, "--node", name, *joins)
            self.agents[name] = Agent(folder, dev=False, address=addresses[name], flags=flags)
            self.agents[name].start(wait=False)
        for agent in self.agents.values():
            agent.wait_http(20.0)
            agent.wait_leader(20.0)
        self.asked = self.servers[0]

    def end(self) -> None:
        for agent in self.agents.values():
            agent.end()

    def get(self, path: str, at: str = "") -> Any:
        """What a GET answers with 200, else None."""
        try:
            answer = self.agents[at or self.asked].http("GET", path, timeout=10)
        except (OSError, http.client.HTTPException):
            return None
        return answer.json() if answer.status == 200 else None

    def members(self, at: str) -> dict[str, int]:
        """Status by name, as one agent sees it."""
        return {one["Name"]: one["Status"] for one in self.get("/v1/agent/members", at) or []}

    def leader(self) -> str:
        """Name of the leader, "" when there is none."""
        address = self.get("/v1/status/leader") or ""
        found = (name for name, agent in self.agents.items() if address == f"{agent.address}:8300")
        return next(found, "")


@contextlib.contextmanager
def running(factory: pytest.TempPathFactory, servers: int, clients: int) -> Iterator[Cluster]:
    """A cluster that has started, and ends with the block."""
    cluster = Cluster(factory, servers, clients)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


class Load:
    """Clients that put, get (consistent) and compare-and-set a few keys through any agent, until `stop`.

    What failed may have happened: only what was answered with 200 is certain."""

    def __init__(self, cluster: Cluster, clients: int = 4, keys: int = 3, seed: int = 1) -> None:
        self.history: list[Operation] = []
        self._cluster, self._keys = cluster, keys
        self._over = threading.Event()
        self._numbers = itertools.count(1)
        self._threads = [
            threading.Thread(target=self._work, args=(f"client{number}", random.Random(seed + number)))
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def acknowledged(self) -> int:
        """How many writes were answered."""
        return sum(one.is_certain and one.kind == PUT for one in list(self.history))

    def await_progress(self, writes: int = 20) -> None:
        """Wait until so many more writes were answered."""
        wanted = self.acknowledged() + writes
        until(f"{writes} more writes are answered", lambda: self.acknowledged() >= wanted, 30.0)

    def _work(self, client: str, chance: random.Random) -> None:
        names = [*self._cluster.servers, *self._cluster.clients]
        while not self._over.is_set():
            agent = self._cluster.agents[chance.choice(names)]
            kind = chance.choices((PUT, GET, CAS), (5, 3, 2))[0]
            operation = Operation(
                kind, f"load{chance.randrange(self._keys)}", time.monotonic(), client=client
            )
            try:
                self._ask(agent, operation)
            except (OSError, http.client.HTTPException, _Failed):
                time.sleep(0.02)
            self.history.append(operation)

    def _ask(self, agent: Agent, operation: Operation) -> None:
        path = f"/v1/kv/{operation.key}"
        if operation.kind == GET:
            found = agent.http("GET", f"{path}?consistent", timeout=10)
            if found.status not in (200, 404):
                raise _Failed
            operation.result = _value(found) if found.status == 200 else None
        elif operation.kind == PUT:
            operation.value = f"v{next(self._numbers)}"
            if agent.http("PUT", path, operation.value, timeout=10).status != 200:
                raise _Failed
        else:
            self._compare(agent, operation, path)
        operation.returned = time.monotonic()

    def _compare(self, agent: Agent, operation: Operation, path: str) -> None:
        """Compare-and-set by the index of the value that was read before the call."""
        operation.expected, operation.value = "never stored", None
        found = agent.http("GET", f"{path}?consistent", timeout=10)
        if found.status != 200:
            raise _Failed
        operation.expected, operation.value = _value(found), f"v{next(self._numbers)}"
        index = found.json()[0]["ModifyIndex"]
        answer = agent.http("PUT", f"{path}?cas={index}", operation.value, timeout=10)
        if answer.status != 200:
            raise _Failed
        operation.result = answer.json()


class _Failed(Exception):
    """The agent answered with an error."""


def _value(response: Any) -> str:
    return base64.b64decode(response.json()[0]["Value"]).decode()
