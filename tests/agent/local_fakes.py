"""A catalog in memory, and an agent that has nothing but its local services and checks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

from agent.local import LocalAgent, LocalSettings
from agent.logs import get_logger
from agent.world import World
from core.api import agent as endpoints
from core.api.endpoint import Permissions, Query, Reply, Request, unescape
from core.api.router import Router
from core.errors import CtlError, NoLeader
from core.metrics import Metrics
from core.store.structs import DeregisterRequest, HealthCheck, Node, NodeService, RegisterRequest

NODE = Node(id="u", node="n1", address="127.0.0.1", datacenter="dc1", tagged_addresses={}, meta={})


class FakeCatalog:
    """A CatalogDoor. `error` is raised by everything while it is set."""

    def __init__(self) -> None:
        self.error: CtlError | None = None
        self.node: Node | None = None
        self.services: dict[str, NodeService] = {}
        self.checks: dict[str, HealthCheck] = {}

    def _may_fail(self) -> None:
        if self.error is not None:
            raise self.error

    async def register(self, request: RegisterRequest) -> None:
        self._may_fail()
        self.node = Node(
            request.id, request.node, request.address, "dc1", request.tagged_addresses, request.node_meta
        )
        if request.service is not None:
            self.services[request.service.id] = request.service
        for check in request.checks or ([request.check] if request.check else []):
            self.checks[check.check_id] = check

    async def deregister(self, request: DeregisterRequest) -> None:
        self._may_fail()
        self.services.pop(request.service_id, None)
        self.checks.pop(request.check_id, None)
        for check_id, check in list(self.checks.items()):
            if request.service_id and check.service_id == request.service_id:
                del self.checks[check_id]

    async def node_services(self, node: str) -> tuple[Node | None, list[NodeService]]:
        self._may_fail()
        return self.node, list(self.services.values()) if node == "n1" else []

    async def node_checks(self, node: str) -> list[HealthCheck]:
        self._may_fail()
        return list(self.checks.values()) if node == "n1" else []


class FakeTokens:
    """The agent's own tokens, as a test sets them."""

    for_agent = ""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def secret(self, kind: str) -> str:
        return self.kinds.get(kind, "")


class FakeLog:
    """A log that says two lines."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    def close(self) -> None:
        self.closed = True


class FakeAgent:
    """An AgentDoor with a real LocalAgent behind it."""

    node_name = "n1"
    datacenter = "dc1"
    kv_max_value_size = 512
    prometheus_enabled = False
    keeps_coordinates = True
    translate_wan_addrs = False
    permissions: Permissions | None = None
    max_query_time = 600_000_000_000

    def __init__(
        self, data_dir: Path | None = None, catalog: FakeCatalog | None = None, **settings: Any
    ) -> None:
        self.world = World(1)
        self.catalog = catalog or FakeCatalog()
        self.tokens = FakeTokens()
        self.local = LocalAgent(
            self.world,
            NODE,
            self.catalog,
            self.tokens,
            data_dir,
            LocalSettings(**settings),
            get_logger("test"),
        )
        self.metrics = Metrics(0.0)
        self.calls: list[tuple[Any, ...]] = []
        self.log = FakeLog()
        self._router = Router(endpoints.ROUTES)

    def wall(self) -> float:
        return time.time()

    def known_datacenters(self) -> list[str]:
        return ["dc1"]

    def members(self, wan: bool) -> list[dict[str, Any]]:
        return [{"Name": "n1.dc1" if wan else "n1"}]

    def self_description(self) -> dict[str, Any]:
        return {"Config": {"NodeName": "n1"}}

    def leader_address(self) -> str:
        return ""

    async def host_facts(self) -> dict[str, Any]:
        return {"Errors": None}

    def follow_log(self, level: str, as_json: bool) -> FakeLog:
        from agent.logs import parse_level

        parse_level(level)
        return self.log

    async def join(self, address: str, wan: bool) -> None:
        self.calls.append(("join", address, wan))

    async def leave(self, destroy_quorum: bool = False) -> None:
        self.calls.append(("leave",))

    async def force_leave(self, node: str, prune: bool, wan: bool = False) -> None:
        self.calls.append(("force_leave", node, prune))

    async def reload(self) -> list[str]:
        self.calls.append(("reload",))
        return []

    async def ask(self, what: str, body: Any = b"", **headers: str) -> Reply:
        """The reply to `PUT /v1/...?query`; errors become replies as the HTTP door makes them."""
        method, _, target = what.partition(" ")
        path, _, query = target.partition("?")
        path = unescape(path.encode(), plus=False)
        found = self._router.find(path)
        assert found is not None, path
        route, rest = found
        assert method in route.methods, (method, route)
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = Request(method, path, rest, Query(query.encode()), headers, body)
        try:
            outcome = route.handler(self, request)
            if isawaitable(outcome):
                outcome = await outcome
        except CtlError as error:
            return Reply(error.status, error.text.encode(), "text/plain; charset=utf-8")
        assert isinstance(outcome, Reply)
        return outcome


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition; AssertionError when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        await asyncio.sleep(0.005)


def no_leader() -> CtlError:
    return NoLeader()
