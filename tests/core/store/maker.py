"""Short ways to write commands and ask questions in the tests of the store."""

from __future__ import annotations

from typing import Any

from core.store import commands
from core.store.fsm import FSM
from core.store.structs import (
    DeregisterRequest,
    HealthCheck,
    NodeService,
    RegisterRequest,
    Session,
    SessionRequest,
)


class Bench:
    """A state machine with a running index."""

    def __init__(self) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.index = 10

    def apply(self, data: bytes) -> Any:
        """Apply a command at the next index."""
        self.index += 1
        return self.fsm.apply(self.index, data)

    def ok(self, data: bytes) -> None:
        result = self.apply(data)
        assert result is None or result is True or isinstance(result, str), result

    def put(self, key: bytes, value: bytes = b"v", **options: Any) -> Any:
        return self.apply(commands.kvs("set", key, value, **options))

    def delete(self, key: bytes) -> Any:
        return self.apply(commands.kvs("delete", key))

    def register(self, node: str = "n1", **fields: Any) -> Any:
        fields.setdefault("address", "10.0.0.1")
        return self.apply(commands.register(RegisterRequest(datacenter="dc1", node=node, **fields)))

    def service(self, node: str, service_id: str, name: str = "web", **fields: Any) -> Any:
        service = NodeService(id=service_id, service=name, **fields)
        return self.register(node, service=service, skip_node_update=True)

    def check(self, node: str, check_id: str, status: str = "passing", service_id: str = "") -> Any:
        check = HealthCheck(node=node, check_id=check_id, status=status, service_id=service_id)
        return self.register(node, check=check, skip_node_update=True)

    def deregister(self, node: str, service_id: str = "", check_id: str = "") -> Any:
        return self.apply(commands.deregister(DeregisterRequest("dc1", node, service_id, check_id)))

    def session(self, session_id: str, node: str = "n1", **fields: Any) -> Any:
        request = SessionRequest("dc1", "create", Session(id=session_id, node=node, **fields))
        return self.apply(commands.session(request))

    def destroy(self, session_id: str) -> Any:
        return self.apply(commands.session(SessionRequest("dc1", "destroy", Session(id=session_id))))

    def moved(self, data: bytes) -> tuple[Any, set[str]]:
        """The result of a command and the names of the indexes that it moved."""
        before = dict(self.store.indexes)
        result = self.apply(data)
        after = self.store.indexes
        return result, {name for name in before | after if before.get(name) != after.get(name)}
