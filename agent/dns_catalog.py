"""The catalog for names, where it is not at hand: a client agent asks the servers and keeps the answers.

`core/dns` looks things up at once. What is not there yet is raised as Absent; the DNS server then has
it fetched and answers again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agent.cache import Cache
from core.api import catalog, health
from core.api.endpoint import Answer, QueryOptions, Question, Read, Reply
from core.store.structs import CheckServiceNode, Node, NodeService
from core.store.view import plain_address
from core.store.watch import Watch


class Source(Protocol):
    """Where an absent answer comes from."""

    async def fetch(self, question: Question) -> None:
        """Have it at hand. Raises CtlError."""


class Absent(Exception):  # no error: a question that must be asked first
    """`question` has no answer here yet; `catalog` can fetch it."""

    def __init__(self, question: Question, catalog: Source) -> None:
        super().__init__(question.read.rpc)
        self.question, self.catalog = question, catalog


def _unrendered(_: Answer) -> Reply:
    return Reply()


class CachedCatalog:
    """core/dns's Catalog over a Cache."""

    def __init__(
        self,
        cache: Cache,
        allow_stale: bool,
        max_stale: int,
        token: Callable[[], str] = lambda: "",
        datacenter: str = "",
    ) -> None:
        """`max_stale` in ns: how old a server's word may be (dns_config.max_stale). `token()`: what the
        servers are asked with. `datacenter`: another one than ours."""
        self.cache = cache
        self._datacenter = datacenter
        self._token = token
        self.allow_stale, self.max_stale = allow_stale, max_stale

    async def fetch(self, question: Question) -> None:
        """Have an absent answer at hand. Raises CtlError."""
        await self.cache.get(question)

    def _find(self, read: Read, args: Any, watch: Watch | None) -> Answer:
        options = QueryOptions(
            token=self._token(),
            datacenter=self._datacenter,
            allow_stale=self.allow_stale,
            max_stale_duration=self.max_stale,
        )
        question = Question(read, args, options, _unrendered)
        if self._datacenter and self.cache.forget_failing(question):
            raise Absent(question, self)  # nobody knows what became of a datacenter that is out of reach
        answer = self.cache.peek(question, watch)
        if answer is None:
            raise Absent(question, self)
        return answer

    def check_service_nodes(
        self, name: str, tags: Sequence[str], watch: Watch | None
    ) -> tuple[int, list[CheckServiceNode]]:
        answer = self._find(health.SERVICE_NODES, catalog.ServiceRequest(name, tuple(tags)), watch)
        return answer.index, answer.value

    def check_mesh_nodes(self, name: str, watch: Watch | None) -> tuple[int, list[CheckServiceNode]]:
        answer = self._find(health.SERVICE_NODES, catalog.ServiceRequest(name, connect=True), watch)
        return answer.index, answer.value

    def node(self, name_or_id: str, watch: Watch | None) -> tuple[int, Node | None]:
        answer = self._find(catalog.NODE_SERVICES, catalog.NameRequest(name_or_id), watch)
        return answer.index, answer.value[0]

    def nodes_by_address(self, address: str, watch: Watch | None) -> Sequence[Node]:
        answer = self._find(catalog.LIST_NODES, catalog.NodesRequest(), watch)
        return [node for node in answer.value if plain_address(node.address) == address]

    def services_by_address(self, address: str, watch: Watch | None) -> Sequence[tuple[Node, NodeService]]:
        found: list[tuple[Node, NodeService]]
        found = self._find(catalog.SERVICE_NODES, catalog.ServiceRequest("", address=address), watch).value
        return found
