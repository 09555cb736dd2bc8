"""Where alias checks look: at this agent's own services, or at another node's through the catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.sync import CatalogDoor
from core.errors import CtlError
from core.node.checks import AliasView
from core.node.local import LocalState

_EVERY = 2.0  # seconds between looks at another node


class Aliases:
    """The AliasDoor of agent/checks.py."""

    def __init__(self, state: LocalState, door: CatalogDoor) -> None:
        self._state = state
        self._door = door
        self._nodes: dict[str, _OtherNode] = {}

    def view(self, node: str, service_id: str) -> AliasView:
        """What is known now."""
        if not node:
            exists = not service_id or self._state.service(service_id) is not None
            return AliasView(self._state.checks_of(service_id, with_node=True), exists)
        other = self._nodes.get(node)
        return other.view(service_id) if other is not None else AliasView(error="not looked at yet")

    def subscribe(self, node: str, service_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when the view may have changed, until the function returned is called."""
        if not node:
            return self._state.listen(service_id, wake)
        other = self._nodes.get(node)
        if other is None:
            other = self._nodes[node] = _OtherNode(node, self._door)
        other.listeners.append(wake)

        def cancel() -> None:
            if wake in other.listeners:
                other.listeners.remove(wake)
            if not other.listeners and self._nodes.get(node) is other:
                del self._nodes[node]
                other.task.cancel()

        return cancel


class _OtherNode:
    """A node that aliases look at, asked for every two seconds."""

    def __init__(self, name: str, door: CatalogDoor) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._name = name
        self._door = door
        self._services: frozenset[str] = frozenset()
        self._view = AliasView()
        self.task = asyncio.get_running_loop().create_task(self._follow())

    def view(self, service_id: str) -> AliasView:
        return AliasView(self._view.checks, not service_id or service_id in self._services, self._view.error)

    async def _follow(self) -> None:
        while True:
            services, view = await self._look()
            if (services, view) != (self._services, self._view):
                self._services, self._view = services, view
                for wake in list(self.listeners):
                    wake()
            await asyncio.sleep(_EVERY)

    async def _look(self) -> tuple[frozenset[str], AliasView]:
        try:
            _, services = await self._door.node_services(self._name)
            checks = await self._door.node_checks(self._name)
        except (CtlError, OSError) as error:
            return frozenset(), AliasView(error=str(error))
        return frozenset(service.id for service in services), AliasView(checks)
