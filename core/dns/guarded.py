"""The state as a token may see it: for names, what may not be read does not exist (reference/dns.md,
"ACLs")."""

from __future__ import annotations

from collections.abc import Sequence

from core.acl.access import Authorizer
from core.api import permits
from core.dns.answer import Catalog
from core.store.structs import CheckServiceNode, Node, NodeService
from core.store.watch import Watch


class Guarded:
    """core/dns's Catalog, behind the judge of the token that names are looked up with."""

    def __init__(self, catalog: Catalog, authorizer: Authorizer) -> None:
        self._catalog = catalog
        self._authorizer = authorizer

    def check_service_nodes(
        self, name: str, tags: Sequence[str], watch: Watch | None
    ) -> tuple[int, list[CheckServiceNode]]:
        index, found = self._catalog.check_service_nodes(name, tags, watch)
        return index, [one for one in found if permits.sees_instance(self._authorizer, one)]

    def check_mesh_nodes(self, name: str, watch: Watch | None) -> tuple[int, list[CheckServiceNode]]:
        index, found = self._catalog.check_mesh_nodes(name, watch)
        if not self._authorizer.allows("service", name, "read"):  # what serves it may have another name
            return index, []
        return index, [one for one in found if permits.sees_instance(self._authorizer, one)]

    def node(self, name_or_id: str, watch: Watch | None) -> tuple[int, Node | None]:
        index, found = self._catalog.node(name_or_id, watch)
        return index, found if found is not None and permits.sees_node(self._authorizer, found) else None

    def nodes_by_address(self, address: str, watch: Watch | None) -> Sequence[Node]:
        found = self._catalog.nodes_by_address(address, watch)
        return [node for node in found if permits.sees_node(self._authorizer, node)]

    def services_by_address(self, address: str, watch: Watch | None) -> Sequence[tuple[Node, NodeService]]:
        found = self._catalog.services_by_address(address, watch)
        return [pair for pair in found if permits.sees_pair(self._authorizer, pair)]
