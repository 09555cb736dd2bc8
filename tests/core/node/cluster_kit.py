"""Members as gossip would tell of them, and plans carried out on a Store."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import CtlError
from core.gossip.member import ALIVE, Member
from core.node.cluster import Cluster, Me
from core.node.leader import CatalogStep, plan_catalog, plan_forgotten
from core.node.peers import AddServer, RemoveServer, ServerStep
from core.raft.configuration import Configuration
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import RegisterRequest

ME = Me("id-s1", "s1", "dc1")


def client(
    name: str, status: int = ALIVE, address: str = "10.0.0.9", since: float = 0.0, **tags: str
) -> Member:
    """A client agent; `tags` replace the usual ones, an empty one is left out."""
    every = {"role": "node", "dc": "dc1", "id": f"id-{name}", "build": "1.9.8:", **tags}
    kept = {tag: value for tag, value in every.items() if value}
    return Member(name, address, 8301, kept, status, since=since)


def server(
    name: str, status: int = ALIVE, address: str = "10.0.0.1", since: float = 0.0, **tags: str
) -> Member:
    """A server."""
    usual = {"role": "consul", "port": "8300", "vsn": "2", "raft_vsn": "3"}
    return client(name, status, address, since, **{**usual, **tags})


class Catalog:
    """A replicated state of its own, with its log."""

    def __init__(self) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.log: list[bytes] = []

    def apply(self, data: bytes) -> object:
        self.log.append(data)
        return self.fsm.apply(len(self.log), data)

    def register(self, request: RegisterRequest) -> None:
        result = self.apply(commands.register(request))
        assert not isinstance(result, CtlError), result

    def take(self, steps: Iterable[CatalogStep]) -> list[CtlError]:
        """Carry steps out; what was refused is returned."""
        refused = []
        for step in steps:
            request = step.request
            is_registration = isinstance(request, RegisterRequest)
            result = self.apply(
                commands.register(request) if is_registration else commands.deregister(request)  # type: ignore[arg-type]
            )
            if isinstance(result, CtlError):
                refused.append(result)
        return refused

    def plan(self, members: Iterable[Member], gone: Iterable[Member] = ()) -> list[CatalogStep]:
        """The whole plan, as for a leader whose list of members is complete."""
        cluster = Cluster(members, "dc1", gone)
        known = plan_catalog(self.store, cluster, cluster.by_name, ME)
        return known + plan_forgotten(self.store, cluster, ME)

    def follow(self, members: Iterable[Member], gone: Iterable[Member] = ()) -> list[str]:
        """Plan, do it, and see that nothing is left to do. What was done is returned."""
        members, gone = list(members), list(gone)
        steps = self.plan(members, gone)
        assert self.take(steps) == []
        assert self.plan(members, gone) == []
        return [f"{step.request.node}: {step.text}" for step in steps]

    def health(self, name: str) -> str:
        """The status of serfHealth, "" without a node."""
        check = self.store.get_check(name, "serfHealth")
        return "" if check is None else check.status


def changed(configuration: Configuration, steps: Iterable[ServerStep]) -> Configuration:
    """The configuration after the steps; each of them must be possible."""
    for step in steps:
        if isinstance(step, AddServer):
            configuration = configuration.with_nonvoter(step.id, step.address)
        elif isinstance(step, RemoveServer):
            assert configuration.get(step.id) is not None
            configuration = configuration.without(step.id)
    return configuration
