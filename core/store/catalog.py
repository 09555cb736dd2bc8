"""Reads of nodes, services and checks, with the index of each per protocols/fsm.md section 2.

Results are ordered by node name, then service or check id. The watch of a read covers its value; where
the index can move without it, the read says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.store.register import instances_cell, mesh_cell, service_index
from core.store.structs import CheckServiceNode, HealthCheck, Node, NodeService
from core.store.view import NodeKey, View, plain_address
from core.store.watch import Watch

MIN_ID_PREFIX = 2
ANY = "any"


class CatalogReads(View):
    """Reads of the catalog and of health."""

    def nodes(
        self, watch: Watch | None = None, node_meta: Mapping[str, str] | None = None
    ) -> tuple[int, list[Node]]:
        """All nodes that have the given metadata."""
        self.watch_cell(watch, "nodes")
        found = [node for node in self.node_rows.values() if _has_meta(node.meta, node_meta)]
        return self.index("nodes"), found

    def node(self, name_or_id: str, watch: Watch | None = None) -> tuple[int, Node | None]:
        """A node by name or by a unique id prefix. The index is that of all nodes and services, which
        moves without firing the watch."""
        return self.index("nodes", "services"), self._find_node(name_or_id, watch)

    def services(
        self, watch: Watch | None = None, node_meta: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, list[str]]]:
        """Service names with the sorted union of their tags; only those on nodes with the metadata."""
        self.watch_cell(watch, "services")
        if node_meta:
            self.watch_cell(watch, "nodes")
        tags: dict[str, set[str]] = {}
        nodes = self.node_rows.rows
        for key, service in self.service_rows.rows.items():
            if not node_meta or _has_meta(nodes[key[0]].meta, node_meta):
                tags.setdefault(service.service, set()).update(service.tags or ())
        index = self.index("nodes", "services") if node_meta else self.index("services")
        return index, {name: sorted(tags[name]) for name in sorted(tags)}

    def service_nodes(
        self, name: str, tags: Sequence[str] = (), watch: Watch | None = None
    ) -> tuple[int, list[tuple[Node, NodeService]]]:
        """The instances of a service that have all `tags`. The index is the service's own, which checks move
        without firing the watch (unless it is a whole one); if there is no instance it is
        service_last_extinction, or that of nodes and services, which move without firing any."""
        self.watch_narrowly(watch, service_index(name), instances_cell(name))
        index = self._service_index(name, "nodes", "services")
        rows, nodes = self.service_rows.rows, self.node_rows.rows
        return index, [(nodes[key[0]], rows[key]) for key in self._instances(name, tags)]

    def check_service_nodes(
        self, name: str, tags: Sequence[str] = (), watch: Watch | None = None
    ) -> tuple[int, list[CheckServiceNode]]:
        """As `service_nodes`, with the checks of each instance: those of its node, then its own."""
        self.watch_cell(watch, service_index(name))
        index = self._service_index(name, "nodes", "services", "checks")
        return index, [self._instance(key) for key in self._instances(name, tags)]

    def mesh_nodes(self, name: str, watch: Watch | None = None) -> tuple[int, list[tuple[Node, NodeService]]]:
        """The instances that take mesh connections for a service: its proxies, and those of its own that
        do it themselves. The index is that of the service, as in `service_nodes`."""
        self.watch_cell(watch, mesh_cell(name))
        if watch is not None and watch.whole:
            self.watch_cell(watch, service_index(name))
        keys = self.service_rows.group("mesh", name.lower())
        extinction = 0 if keys else self.indexes.get("service_last_extinction", 0)
        index = extinction or self.indexes.get(service_index(name)) or self.index("nodes", "services")
        rows, nodes = self.service_rows.rows, self.node_rows.rows
        return index, [(nodes[key[0]], rows[key]) for key in keys]

    def check_mesh_nodes(self, name: str, watch: Watch | None = None) -> tuple[int, list[CheckServiceNode]]:
        """As `mesh_nodes`, with checks. Index and watch are those of the services that the instances are
        of; without any the index is service_last_extinction, or that of the service, or of the catalog."""
        self.watch_cell(watch, mesh_cell(name))
        keys = self.service_rows.group("mesh", name.lower())
        rows = self.service_rows.rows
        names = {service_index(rows[key].service) for key in keys}
        self.watch_cell(watch, *names)
        extinction = 0 if keys else self.indexes.get("service_last_extinction", 0)
        index = extinction or self.index(*names, *(() if keys else (service_index(name),)))
        index = index or self.index("nodes", "services", "checks")
        return index, [self._instance(key) for key in keys]

    def node_services(
        self, name_or_id: str, watch: Watch | None = None
    ) -> tuple[int, tuple[Node | None, list[NodeService]]]:
        """A node, found as in `node`, with its services by id. Index as for `node`."""
        index, node = self.node(name_or_id, watch)
        if node is None:
            return index, (None, [])
        rows = self.service_rows.rows
        return index, (node, [rows[key] for key in self.service_rows.group("node", node.node.lower())])

    def node_checks(self, node: str, watch: Watch | None = None) -> tuple[int, list[HealthCheck]]:
        """The checks on a node, of its services too. The index is that of all checks, which moves
        without firing the watch."""
        self.watch_cell(watch, ("node", node.lower()))
        return self.index("checks"), self._checks("node", node.lower())

    def service_checks(
        self, name: str, watch: Watch | None = None, node_meta: Mapping[str, str] | None = None
    ) -> tuple[int, list[HealthCheck]]:
        """The service-level checks of all instances of a service, on nodes with the metadata. The index
        is that of all checks, which moves without firing the watch."""
        self.watch_cell(watch, service_index(name))
        return self.index("checks"), self._on(self._checks("service", name.lower()), node_meta)

    def checks_in_state(
        self, state: str, watch: Watch | None = None, node_meta: Mapping[str, str] | None = None
    ) -> tuple[int, list[HealthCheck]]:
        """All checks in `state`; `any` means all."""
        self.watch_cell(watch, "checks")
        if node_meta:
            self.watch_cell(watch, "nodes")
        found = list(self.check_rows.values()) if state == ANY else self._checks("status", state)
        return self.index("checks"), self._on(found, node_meta)

    def nodes_by_address(self, address: str, watch: Watch | None = None) -> list[Node]:
        """The nodes with this address, however it is written."""
        self.watch_cell(watch, "nodes")
        rows = self.node_rows.rows
        return [rows[key] for key in self.node_rows.group("address", plain_address(address))]

    def services_by_address(self, address: str, watch: Watch | None = None) -> list[tuple[Node, NodeService]]:
        """The instances with exactly this service address."""
        self.watch_cell(watch, "services", "nodes")
        rows, nodes = self.service_rows.rows, self.node_rows.rows
        keys = self.service_rows.group("address", address)
        return [(nodes[key[0]], rows[key]) for key in keys]

    def node_dump(
        self, name: str = "", watch: Watch | None = None
    ) -> tuple[int, list[tuple[Node, list[NodeService], list[HealthCheck]]]]:
        """All nodes, or the one called `name`, each with its services and checks."""
        self.watch_cell(watch, "nodes", "services", "checks")
        index = self.index("nodes", "services", "checks")
        keys = [name.lower()] if name else list(self.node_rows)
        rows, services = self.node_rows.rows, self.service_rows
        return index, [
            (
                rows[key],
                [services.rows[one] for one in services.group("node", key)],
                self._checks("node", key),
            )
            for key in keys
            if key in rows
        ]

    def service_dump(
        self, kind: str | None = None, watch: Watch | None = None
    ) -> tuple[int, list[CheckServiceNode]]:
        """All instances with their checks, or those of a kind (`` for plain services)."""
        self.watch_cell(watch, "nodes", "services", "checks")
        rows = self.service_rows.rows
        keys = [key for key in self.service_rows if kind is None or rows[key].kind == kind]
        index = self.index("nodes", "services", "checks")
        if kind is not None:
            index = self.index(f"service_kind.{kind or 'typical'}")
        return index, [self._instance(key) for key in keys]

    # plain lookups, without index

    def get_node(self, name: str) -> Node | None:
        """A node by its name."""
        return self.node_rows.rows.get(name.lower())

    def get_node_by_id(self, node_id: str) -> Node | None:
        """A node by its whole id."""
        keys = self.node_rows.group("id", node_id.lower()) if node_id else []
        return self.node_rows.rows[keys[0]] if keys else None

    def get_service(self, node: str, service_id: str) -> NodeService | None:
        """An instance by node and service id."""
        return self.service_rows.rows.get((node.lower(), service_id.lower()))

    def get_check(self, node: str, check_id: str) -> HealthCheck | None:
        """A check by node and check id."""
        return self.check_rows.rows.get((node.lower(), check_id.lower()))

    def _find_node(self, name_or_id: str, watch: Watch | None) -> Node | None:
        key = name_or_id.lower()
        self.watch_cell(watch, ("node", key))
        node = self.node_rows.rows.get(key)
        if node is not None:
            return node
        self.watch_cell(watch, "nodes")
        prefix = key[: len(key) // 2 * 2] if "-" not in key else key  # Consul compares whole bytes
        if len(prefix) < MIN_ID_PREFIX:
            return None
        prefix = prefix.replace("-", "")
        found = [one for one in self.node_rows.group_names("id") if one.replace("-", "").startswith(prefix)]
        if len(found) != 1:
            return None
        key = self.node_rows.group("id", found[0])[0]
        self.watch_cell(watch, ("node", key))
        return self.node_rows.rows[key]

    def _service_index(self, name: str, *otherwise: str) -> int:
        if not self.service_rows.group("name", name.lower()):
            return self.indexes.get("service_last_extinction") or self.index(*otherwise)
        return self.indexes.get(service_index(name)) or self.index(*otherwise)

    def _instances(self, name: str, tags: Sequence[str]) -> list[NodeKey]:
        keys = self.service_rows.group("name", name.lower())
        if not tags:
            return keys
        rows = self.service_rows.rows
        wanted = {tag.lower() for tag in tags}
        return [key for key in keys if wanted.issubset(tag.lower() for tag in rows[key].tags or ())]

    def _instance(self, key: NodeKey) -> CheckServiceNode:
        checks = self._checks("instance", (key[0], "")) + self._checks("instance", key)
        return CheckServiceNode(self.node_rows.rows[key[0]], self.service_rows.rows[key], checks)

    def _checks(self, index: str, group: object) -> list[HealthCheck]:
        rows = self.check_rows.rows
        return [rows[key] for key in self.check_rows.group(index, group)]

    def _on(self, checks: list[HealthCheck], node_meta: Mapping[str, str] | None) -> list[HealthCheck]:
        if not node_meta:
            return checks
        nodes = self.node_rows.rows
        return [check for check in checks if _has_meta(nodes[check.node.lower()].meta, node_meta)]


def _has_meta(meta: Mapping[str, str] | None, wanted: Mapping[str, str] | None) -> bool:
    return not wanted or (meta is not None and all(meta.get(key) == value for key, value in wanted.items()))
