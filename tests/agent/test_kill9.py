"""kill -9 at any point loses no acknowledged write: writing agents die at least fifty times."""

from __future__ import annotations

import base64
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import Agent, until

KILLS = 50
WRITERS = 4
# Snapshots and compaction happen while it is being killed, too.
CONFIG = {"raft_snapshot_threshold": 200, "raft_snapshot_interval": "100ms", "raft_trailing_logs": 50}


class Writer(threading.Thread):
    """Writes new keys, and one key again and again, until the connection dies; knows what was promised."""

    def __init__(self, agent: Agent, name: str) -> None:
        super().__init__(daemon=True)
        self._agent = agent
        self._name = name
        self.kept: dict[str, str] = {}  # key -> value that was acknowledged
        self.counter = (0, 0)  # (acknowledged, attempted) value of the key that is written again
        self.index = 0  # highest index seen
        self.wrong: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._agent.address, self._agent.http_port, timeout=10)
        try:
            for number in range(1, 1_000_000):
                self._write(connection, number)
        except (OSError, http.client.HTTPException):
            return  # the agent was killed
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPConnection, number: int) -> None:
        key, value = f"{self._name}/{number}", f"{number}-{'x' * (number % 50)}"
        if self._put(connection, key, value):
            self.kept[key] = value
        self.counter = (self.counter[0], number)
        if self._put(connection, f"{self._name}/again", str(number)):
            self.counter = (number, number)
        if number % 10 == 0:
            connection.request("GET", f"/v1/kv/{key}")
            answer = connection.getresponse()
            answer.read()
            self.index = max(self.index, int(answer.headers["X-Consul-Index"]))

    def _put(self, connection: http.client.HTTPConnection, key: str, value: str) -> bool:
        connection.request("PUT", f"/v1/kv/{key}", value)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or body != b"true":
            self.wrong.append(f"{key}: {answer.status} {body!r}")
            return False
        return True


def _stored(agent: Agent, prefix: str) -> dict[str, str]:
    answer = agent.http("GET", f"/v1/kv/{prefix}?recurse")
    if answer.status == 404:
        return {}
    return {row["Key"]: base64.b64decode(row["Value"] or "").decode() for row in answer.json()}


def _check(agent: Agent, name: str, writers: list[Writer]) -> dict[str, str]:
    """Everything that was acknowledged in round `name` is there; the values of its keys."""
    stored = _stored(agent, f"{name}-")
    for writer in writers:
        assert not writer.wrong, writer.wrong[:5]
        lost = {key: value for key, value in writer.kept.items() if stored.get(key) != value}
        assert not lost, f"round {name}: lost {len(lost)} acknowledged writes, such as {sorted(lost)[:5]}"
        acknowledged, attempted = writer.counter
        found = int(stored.get(f"{writer._name}/again", "0"))
        assert acknowledged <= found <= attempted, f"round {name}: {acknowledged} <= {found} <= {attempted}"
    index = agent.http("GET", f"/v1/kv/{name}-nothing").consul_index
    assert index >= max(writer.index for writer in writers), "the index went back"
    return stored


def _round(agent: Agent, name: str, seconds: float) -> list[Writer]:
    writers = [Writer(agent, f"{name}-{number}") for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)  # not a wait: it is the moment at which the power goes
    agent.kill9()
    for writer in writers:
        writer.join(15)
        assert not writer.is_alive()
    return writers


def _ordeal(agent: Agent, kills: int, chance: random.Random) -> int:
    """Start, write, kill, start and compare, so many times; how many writes were acknowledged."""
    agent.start()
    everything: dict[str, str] = {}
    acknowledged = 0
    for number in range(kills):
        name = f"r{number:03}"
        writers = _round(agent, name, chance.choice([0.01, 0.05, 0.1, 0.2]) * (0.5 + chance.random()))
        agent.start()
        everything |= _check(agent, name, writers)
        acknowledged += sum(len(writer.kept) for writer in writers)
    stored = _stored(agent, "r")
    assert {key: stored.get(key) for key in everything} == everything, (
        "what one restart kept another one lost"
    )
    assert stored.keys() == everything.keys(), "something came out of nowhere"
    return acknowledged


def test_no_acknowledged_write_is_lost(make_agent: Callable[..., Agent]) -> None:
    agents = [make_agent(dev=False, config=CONFIG) for _ in range(2)]  # at once: most of it is starting
    with ThreadPoolExecutor() as pool:
        ordeals = [
            pool.submit(_ordeal, one, KILLS // 2, random.Random(seed)) for seed, one in enumerate(agents)
        ]
    assert sum(ordeal.result() for ordeal in ordeals) > KILLS * WRITERS, "they were hardly writing"


def test_killed_while_it_starts(make_agent: Callable[..., Agent]) -> None:
    """Recovery itself may be cut short at any point, and again."""
    chance = random.Random(7)
    agent = make_agent(dev=False, config=CONFIG)
    agent.start()
    writers = _round(agent, "r", 0.5)
    for _ in range(12):
        agent.start(wait=False)
        time.sleep(chance.random() * 0.6)
        agent.kill9()
    agent.start()
    _check(agent, "r", writers)


@pytest.fixture
def filled(make_agent: Callable[..., Agent]) -> Iterator[Agent]:
    agent: Agent = make_agent(dev=False)
    agent.start()
    for number in range(20):
        agent.put(f"/v1/kv/keep/{number}", f"value {number}")
    yield agent
    agent.end()


def test_orderly_restart_keeps_everything(filled: Agent) -> None:
    before = _stored(filled, "keep")
    assert len(before) == 20
    filled.stop()
    filled.start()
    assert _stored(filled, "keep") == before


def test_same_node_after_a_restart(filled: Agent) -> None:
    """One node, one server, one `consul` service: a restart is not a new member."""
    identity = filled.get("/v1/agent/self")["Config"]["NodeID"]
    filled.kill9()
    filled.start()
    assert filled.get("/v1/agent/self")["Config"]["NodeID"] == identity
    nodes = until("the node is there", lambda: filled.get("/v1/catalog/nodes"))
    assert [node["ID"] for node in nodes] == [identity]
    assert len(filled.get("/v1/catalog/service/consul")) == 1
