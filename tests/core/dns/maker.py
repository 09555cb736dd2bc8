"""Fills a store with nodes and instances, through the store's own door for writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from core.store import commands
from core.store.apply import apply
from core.store.state import Store
from core.store.structs import (
    DeregisterRequest,
    HealthCheck,
    NodeService,
    RegisterRequest,
    ServiceAddress,
    Weights,
)


class Maker:
    """A store and a hand that writes to it."""

    def __init__(self) -> None:
        self.store = Store()
        self.index = 0

    def apply(self, data: bytes) -> None:
        self.index += 1
        result = apply(self.store, self.index, data)
        assert not isinstance(result, Exception), result

    def node(self, name: str, address: str, **fields: Any) -> str:
        self.apply(commands.register(RegisterRequest(datacenter="dc1", node=name, address=address, **fields)))
        return name

    def add(
        self,
        node: str,
        service: str,
        *statuses: str,
        id: str = "",
        address: str = "",
        port: int = 80,
        tags: Sequence[str] = (),
        weights: Weights | None = None,
        tagged: dict[str, ServiceAddress] | None = None,
        node_status: str = "",
    ) -> None:
        """An instance on a node that is there, with one service check per status."""
        id = id or service
        checks = [
            HealthCheck(node=node, check_id=f"{id}:{n}", status=status, service_id=id, service_name=service)
            for n, status in enumerate(statuses)
        ]
        if node_status:
            checks.append(HealthCheck(node=node, check_id=f"{node}:health", status=node_status))
        row = self.store.get_node(node)
        assert row is not None
        request = RegisterRequest(
            datacenter="dc1",
            node=node,
            address=row.address,
            skip_node_update=True,
            service=NodeService(
                id=id,
                service=service,
                address=address,
                port=port,
                tags=list(tags),
                weights=weights or Weights(),
                tagged_addresses=tagged,
            ),
            checks=checks,
        )
        self.apply(commands.register(request))

    def many(self, service: str, count: int, **fields: Any) -> None:
        """`count` instances, each on a node of its own with an address in 10.0.0.0/8."""
        for n in range(1, count + 1):
            node = self.node(f"node{n}", f"10.0.{n // 250}.{n % 250 + 1}")
            self.add(node, service, "passing", **fields)

    def register(self, body: dict[str, Any]) -> None:
        """A body of /v1/catalog/register."""
        request = msgspec.convert({"Datacenter": "dc1", **body}, RegisterRequest)
        service = request.service
        if service is not None:
            weights = service.weights or Weights()
            request = replace(
                request, service=replace(service, id=service.id or service.service, weights=weights)
            )
        if request.check is not None:
            check = replace(request.check, node=request.node)
            if check.service_id:
                row = request.service or self.store.get_service(request.node, check.service_id)
                assert row is not None
                check = replace(check, service_name=row.service)
            request = replace(request, check=check)
        self.apply(commands.register(request))

    def deregister(self, node: str, service_id: str = "") -> None:
        self.apply(commands.deregister(DeregisterRequest(datacenter="dc1", node=node, service_id=service_id)))
