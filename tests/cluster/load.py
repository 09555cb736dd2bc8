"""KV clients that write down what they did and saw, and the judgement of it."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any

from tests.cluster.agents import Node
from tests.harness import until
from tests.sim.linearizable import CAS, DELETE, GET, PUT, Operation, violation

TIMEOUT = 5.0  # seconds until a client no longer waits for an answer


class Load:
    """Threads that put, get, compare and delete at random agents until `stop`.

    Every second they go on with new keys, so that none has a history that takes long to judge."""

    def __init__(
        self,
        agents: Sequence[Node],
        clients: int = 4,
        reads: Sequence[str] = ("?consistent", ""),
        pause: float = 0.01,
        timeout: float = TIMEOUT,
    ) -> None:
        """`reads` are the modes that must be linearizable."""
        self.agents = list(agents)
        self.reads, self.pause, self.timeout = reads, pause, timeout
        self.history: list[Operation] = []
        self.errors: dict[str, int] = {}
        self._prefix = f"load/{random.SystemRandom().getrandbits(32):x}"
        self._values = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=_Client(self, number).run, daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def key(self, chance: random.Random) -> str:
        return f"{self._prefix}/{int(time.monotonic() - self._began)}/{chance.randrange(3)}"

    def begin(self, operation: Operation) -> None:
        with self._lock:
            self._values += 1
            if operation.kind in (PUT, CAS):
                operation.value = f"{self._values}"
            self.history.append(operation)

    def failed(self, text: str) -> None:
        with self._lock:
            self.errors[text[:80]] = self.errors.get(text[:80], 0) + 1

    # Looking at it

    def acknowledged(self) -> list[float]:
        """When writes were acknowledged, in order."""
        with self._lock:
            return sorted(o.returned for o in self.history if o.kind != GET and o.is_certain)

    def until_acknowledged(self, count: int = 20, deadline: float = 20.0) -> float:
        """Wait for `count` more acknowledged writes; gives how long the first took."""
        began = time.monotonic()

        def fresh() -> list[float]:
            return [when for when in self.acknowledged() if when > began]

        until("writes are acknowledged", lambda: len(fresh()) >= count, deadline)
        return fresh()[0] - began

    def longest_pause(self) -> float:
        """The longest time without an acknowledged write."""
        times = self.acknowledged()
        return max((b - a for a, b in pairwise(times)), default=0.0)

    def check(self, asked: Node, least: int = 40) -> None:
        """Read all keys once more, then judge: nothing acknowledged is lost, all is linearizable."""
        called = time.monotonic()
        found = asked.http("GET", f"/v1/kv/{self._prefix}?recurse&consistent")
        assert found.status in (200, 404), found.text
        entries = found.json() if found.status == 200 else []
        values = {entry["Key"]: _decoded(entry) for entry in entries}
        last = [
            Operation(GET, key, called, result=values.get(key), returned=time.monotonic(), client="last")
            for key in sorted({operation.key for operation in self.history})
        ]
        count = len(self.acknowledged())
        assert count >= least, f"{count} writes acknowledged, errors: {self.errors}"
        wrong = violation([*self.history, *last])
        assert not wrong, wrong


class _Client:
    """One thread: one operation at a time, over one connection at a time."""

    def __init__(self, load: Load, number: int) -> None:
        self.load, self.name = load, f"k{number}"
        self.chance = random.Random()
        self.connection: http.client.HTTPConnection | None = None
        self.known: dict[str, tuple[int, str | None]] = {}  # ModifyIndex and value seen last

    def run(self) -> None:
        while not self.load.stopping:
            self.step()
            time.sleep(self.load.pause * self.chance.random() * 2)
        self.close()

    def step(self) -> None:
        load, chance = self.load, self.chance
        key = load.key(chance)
        kind = chance.choice((PUT, PUT, GET, GET, CAS, DELETE) if key in self.known else (PUT, GET))
        mode = chance.choice(load.reads) if kind == GET else ""
        operation = Operation(kind, key, 0.0, client=self.name)
        path = f"/v1/kv/{key}{mode}"
        if kind == CAS:
            index, operation.expected = self.known[key]
            path += f"?cas={index}"
        load.begin(operation)
        method = {GET: "GET", DELETE: "DELETE"}.get(kind, "PUT")
        operation.called = time.monotonic()
        try:
            status, body = self.ask(method, path, operation.value)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            load.failed(f"{type(error).__name__}: {error}")
            return
        if status == 200 or (status == 404 and kind == GET):
            self.note(operation, status, json.loads(body) if body else None)
            operation.returned = time.monotonic()
        else:
            load.failed(f"{status} {body.decode(errors='replace')}")
            self.close()  # and ask another one

    def note(self, operation: Operation, status: int, answer: Any) -> None:
        if operation.kind == GET:
            found = None if status == 404 else _decoded(answer[0])
            operation.result = found
            self.known[operation.key] = (0 if status == 404 else answer[0]["ModifyIndex"], found)
        elif operation.kind == CAS:
            operation.result = answer
        else:
            assert answer is True, answer

    def ask(self, method: str, path: str, value: str | None) -> tuple[int, bytes]:
        if self.connection is None or self.chance.random() < 0.02:
            self.close()
            agents = [agent for agent in self.load.agents if agent.is_running] or self.load.agents
            self.connection = self.chance.choice(agents).connection(self.load.timeout)
        self.connection.request(method, path, value)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def _decoded(entry: dict[str, Any]) -> str:
    return base64.b64decode(entry["Value"] or "").decode()
