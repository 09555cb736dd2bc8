"""Servers that are broken on purpose: what the simulation of datacenters must find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from agent.calls import Calls
from agent.relay import replaced
from core.api.endpoint import Answer, Command, Question
from core.errors import CtlError, Lost
from core.gossip.member import ALIVE
from core.node.servers import ServerFacts
from core.node.wan import Router
from tests.sim.wan_server import Cluster, Server

T = TypeVar("T")


class _Careless(Calls):
    """Answers here what another datacenter is asked."""

    def here(self, question: Question) -> bool:
        return super().here(replaced(question, datacenter=""))


class _Remembering(Calls):
    """Gives the answer of another datacenter again for a while."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[tuple[str, Any], tuple[float, Answer]] = {}

    async def read(self, question: Question) -> Answer:
        place = question.options.datacenter
        if place == self._datacenter:
            return await super().read(question)
        known = self._known.get((place, question.args))
        if known is None or known[0] < self._world.now():
            answer = await super().read(question)
            known = self._known[place, question.args] = (self._world.now() + 15.0, answer)
        return known[1]


class _Stubborn(Calls):
    """Never gives up."""

    async def _held(self, attempt: Callable[[], Awaitable[T]], again: tuple[type[CtlError], ...]) -> T:
        self.settings = replace(self.settings, hold=1e6)
        return await super()._held(attempt, again)


class _Repeating(Calls):
    """Sends a write again that may have been carried out."""

    def tell(self, command: Command, done: Callable[[object], None]) -> None:
        def once_more(result: object) -> None:
            if isinstance(result, Lost):
                self.tell(command, done)
            else:
                done(result)

        super().tell(command, once_more)


class _Faithful(Router):
    """Never gives up a server."""

    def update(self, servers: Iterable[ServerFacts]) -> None:
        super().update(replace(server, status=ALIVE) for server in servers)


class _FaithfulCluster(Cluster):
    def __init__(self, agent: Any, server: Server) -> None:
        super().__init__(agent, server)
        self.router = agent.calls.router = _Faithful(agent.datacenter, agent.world.random, agent.world.now())


class _Alphabetical(Cluster):
    def datacenters(self) -> list[str]:
        return sorted(super().datacenters())


class Careless(Server):
    calls_class = _Careless


class Remembering(Server):
    calls_class = _Remembering


class Stubborn(Server):
    calls_class = _Stubborn


class Repeating(Server):
    calls_class = _Repeating


class Faithful(Server):
    cluster_class = _FaithfulCluster


class Alphabetical(Server):
    cluster_class = _Alphabetical


BROKEN: dict[str, type[Server]] = {
    "answers for another datacenter": Careless,
    "old answers of another datacenter": Remembering,
    "calls that are held for ever": Stubborn,
    "writes that are sent again": Repeating,
    "failed servers that stay listed": Faithful,
    "datacenters by name": Alphabetical,
}
