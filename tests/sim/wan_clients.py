"""Clients of simulated datacenters: each asks servers of its own datacenter, for keys of any datacenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.api import kv
from core.api.endpoint import Answer, Command, QueryOptions, Question, Reply
from core.api.kv import KeyRequest, KVChange
from core.errors import CtlError, NoLeader, Unavailable, Unsent
from core.node.wan import NO_PATH, NONE_REACHABLE
from tests.sim.linearizable import CAS, DELETE, GET, PUT, Operation

if TYPE_CHECKING:
    from tests.sim.wan_planet import Planet
    from tests.sim.wan_server import Server

_OPERATIONS = {PUT: "set", CAS: "cas", DELETE: "delete"}


@dataclass
class Outcome:
    """What became of one call. `error` None: it was answered. `lost`: the server that was asked died."""

    source: str  # the datacenter of the server that was asked
    target: str
    began: float
    took: float
    error: Exception | None = None
    lost: bool = False


class Work:
    """One call that is under way at a server."""

    def __init__(self, client: Client, server: Server, target: str, operation: Operation, index: int) -> None:
        self.client, self.server, self.target = client, server, target
        self.operation, self.index = operation, index
        self.confirmed = client.planet.random.random() < 0.5  # or the leader's lease is enough
        self.question = client.planet.datacenters[target].asked = client.planet.datacenters[target].asked + 1
        self._over = False
        server.work[self] = None
        server.loop.call_soon(self._begin)

    def _begin(self) -> None:
        operation, calls = self.operation, self.server.calls
        key = operation.key.encode()
        if operation.kind == GET:
            options = QueryOptions(datacenter=self.target, require_consistent=self.confirmed)
            self.server.loop.create_task(self._read(Question(kv.GET, KeyRequest(key), options, _unrendered)))
            return
        change = KVChange(_OPERATIONS[operation.kind], key, operation.value, cas_index=self.index)
        try:
            calls.tell(Command(kv.APPLY, change, _unrendered, self.target), self._ended)
        except CtlError as error:
            self._ended(error)

    async def _read(self, question: Question) -> None:
        result: object
        try:
            result = await self.server.calls.read(question)
        except CtlError as error:
            result = error
        self._ended(result)

    def lost(self) -> None:
        """The server died."""
        self._end(None, True)

    def _ended(self, result: object) -> None:
        self._end(result, False)

    def _end(self, result: object, lost: bool) -> None:
        assert not self._over, "a call was answered twice"
        self._over = True
        self.server.work.pop(self, None)
        self.client.note(self, result, lost)


class Client:
    """One operation at a time."""

    def __init__(self, planet: Planet, datacenter: str, number: int, pace: float, home: float = 0.5) -> None:
        """It asks every `pace` seconds, for a key of its own datacenter in a share of `home`."""
        self.planet, self.datacenter, self.pace, self.home = planet, datacenter, pace, home
        self.name = f"{datacenter}-c{number}"
        self.known: dict[tuple[str, str], tuple[int, Any]] = {}
        self.outcomes: list[Outcome] = []
        self.work: Work | None = None
        self.resting = False
        self.later()

    def later(self) -> None:
        self.planet.time.later(self.planet.time.now + self.planet.random.expovariate(1 / self.pace), self.ask)

    def ask(self) -> None:
        planet, chance = self.planet, self.planet.random
        servers = planet.running(self.datacenter)
        if self.resting or not servers:
            self.later()
            return
        others = [name for name in planet.names if name != self.datacenter]
        target = self.datacenter if chance.random() < self.home else chance.choice(others)
        datacenter = planet.datacenters[target]
        key = chance.choice(datacenter.keys)
        kind = chance.choice((PUT, GET, GET, CAS, DELETE) if (target, key) in self.known else (PUT, GET))
        operation = Operation(kind, key, planet.time.now, client=self.name)
        index = 0
        if kind in (PUT, CAS):
            datacenter.values += 1
            operation.value = b"%d in %s" % (datacenter.values, target.encode())
        if kind == CAS:
            index, operation.expected = self.known[target, key]
        self.work = Work(self, chance.choice(servers), target, operation, index)
        datacenter.history[self.work.question] = operation

    def note(self, work: Work, result: object, lost: bool) -> None:
        """A call is over."""
        planet, operation = self.planet, work.operation
        now = planet.time.now
        self.work = None
        datacenter = planet.datacenters[work.target]
        error = result if isinstance(result, Exception) else None
        outcome = Outcome(self.datacenter, work.target, operation.called, now - operation.called, error, lost)
        self.outcomes.append(outcome)
        if error is not None:
            if _never_was(error):
                datacenter.history.pop(work.question)
        elif not lost:
            operation.returned = now
            datacenter.answered += 1
            self._learn(work, result)
        if planet.trace is not None:
            what = "its server died" if lost else repr(error) if error is not None else "ok"
            planet.say(f"{work.server.name} for {work.target} {operation} {what}")
        self.later()

    def _learn(self, work: Work, result: object) -> None:
        operation = work.operation
        if operation.kind == GET:
            assert isinstance(result, Answer)
            entry = result.value
            operation.result = None if entry is None else entry.value
            index = 0 if entry is None else entry.modify_index
            self.known[work.target, operation.key] = index, operation.result
        elif operation.kind == CAS:
            operation.result = result


def _unrendered(_: object) -> Reply:
    return Reply()


def _never_was(error: Exception) -> bool:
    """Whether such an error promises that the write was not carried out."""
    return isinstance(error, NoLeader | Unsent) or str(error) in (NO_PATH, NONE_REACHABLE)


def is_clear(error: Exception) -> bool:
    """Whether it says that something cannot be reached, not that the caller did wrong."""
    return isinstance(error, Unavailable) and bool(str(error))
