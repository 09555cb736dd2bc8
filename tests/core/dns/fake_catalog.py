"""A catalog in two lists, for tests of the DNS rooms: the reads of the store, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.store.structs import CheckServiceNode, HealthCheck, Node, NodeService, Weights
from core.store.watch import Watch


@dataclass
class FakeCatalog:
    """`change` is to be called by whoever changed the lists; it fires every watch that was handed in."""

    node_list: list[Node] = field(default_factory=list)
    instances: list[CheckServiceNode] = field(default_factory=list)
    cells: dict[object, set[Watch]] = field(default_factory=dict)  # type: ignore[type-arg]

    def add_node(self, name: str, address: str, **fields: object) -> Node:
        node = Node(node=name, address=address, datacenter="dc1", **fields)  # type: ignore[arg-type]
        self.node_list = [other for other in self.node_list if other.node != name] + [node]
        return node

    def add(
        self,
        node: Node | str,
        service: str,
        *statuses: str,
        address: str = "",
        port: int = 80,
        tags: Sequence[str] = (),
        weights: Weights | None = None,
        node_status: str = "passing",
    ) -> CheckServiceNode:
        """An instance with one service check per status."""
        if isinstance(node, str):
            node = self.add_node(node, f"10.0.0.{len(self.instances) + 1}")
        instance = CheckServiceNode(
            node=node,
            service=NodeService(
                id=f"{service}-{len(self.instances)}",
                service=service,
                address=address,
                port=port,
                tags=list(tags),
                weights=weights or Weights(),
            ),
            checks=[HealthCheck(node=node.node, check_id="serfHealth", status=node_status)]
            + [HealthCheck(check_id=f"c{n}", service_name=service, status=s) for n, s in enumerate(statuses)],
        )
        self.instances.append(instance)
        return instance

    def change(self) -> None:
        for group in list(self.cells.values()):
            for watch in list(group):
                watch.fire()

    def _enter(self, watch: Watch | None) -> None:
        if watch is not None:
            watch.enter(self.cells, "all")  # type: ignore[arg-type]

    def check_service_nodes(
        self, name: str, tags: Sequence[str], watch: Watch | None
    ) -> tuple[int, list[CheckServiceNode]]:
        self._enter(watch)
        return 1, [
            instance
            for instance in self.instances
            if instance.service.service.lower() == name.lower()
            and {tag.lower() for tag in tags} <= {tag.lower() for tag in instance.service.tags or ()}
        ]

    def node(self, name_or_id: str, watch: Watch | None) -> tuple[int, Node | None]:
        self._enter(watch)
        wanted = name_or_id.lower()
        return 1, next((node for node in self.node_list if node.node.lower() == wanted), None)

    def nodes_by_address(self, address: str) -> list[Node]:
        return [node for node in self.node_list if node.address == address]

    def services_by_address(self, address: str) -> list[NodeService]:
        return [i.service for i in self.instances if i.service.address == address]
