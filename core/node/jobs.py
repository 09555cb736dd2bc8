"""Runs of actions that a leader knows: who may run what, who has begun, what came of it.

    create -> waiting -> (take) running -> (report) passed | failed | timeout | refused | absent

A node is given its part of a run once, so that nothing runs twice however often it is asked to. A leader
keeps them in memory: after an election they are not known any more, and nobody begins any of them."""

from __future__ import annotations

from msgspec import Struct, field

from core.errors import TooManyRequests
from core.store.structs import go_name

MOST = 16  # runs at a time
OUTPUT = 64 << 10  # bytes kept of one node
OUTPUTS = 16 << 20  # of all nodes of a run
FORGOTTEN_AFTER = 60.0  # seconds without a question from whoever began it
ENDED = frozenset({"passed", "failed", "timeout", "refused", "absent"})


class Part(Struct, rename=go_name):
    """A run on one node. `error`: why it did not run, or was ended. `silent`: seconds since the node was
    heard of."""

    node: str = ""
    state: str = "waiting"
    code: int = 0
    output: str = ""
    error: str = ""
    took: float = 0.0
    silent: float = 0.0


class Order(Struct, frozen=True, rename=go_name):
    """What a node is to run. `judged`: ACLs were on and the caller, whose token `accessor` is, had the
    rights."""

    id: str = ""
    action: str = ""
    args: list[str] = field(default_factory=list)
    judged: bool = False
    accessor: str = ""


class _Run:
    def __init__(self, order: Order, nodes: list[str], now: float) -> None:
        self.order = order
        self.parts = {node: Part(node) for node in nodes}
        self.heard = dict.fromkeys(nodes, now)
        self.asked = now

    @property
    def ended(self) -> bool:
        """On every node."""
        return all(part.state in ENDED for part in self.parts.values())


class Jobs:
    """All runs. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def create(self, order: Order, nodes: list[str], now: float) -> None:
        """Begin one. TooManyRequests."""
        for identity, run in list(self._runs.items()):
            if run.asked + FORGOTTEN_AFTER < now or (run.ended and len(self._runs) >= MOST):
                del self._runs[identity]
        if len(self._runs) >= MOST:
            raise TooManyRequests(f"{MOST} runs of actions are under way; try again when one has ended")
        self._runs[order.id] = _Run(order, nodes, now)

    def take(self, identity: str, node: str, now: float) -> Order | None:
        """What `node` is to run; None when it has no part in it, or has it already."""
        run = self._runs.get(identity)
        part = run.parts.get(node) if run is not None else None
        if run is None or part is None or part.state != "waiting":
            return None
        part.state = "running"
        run.heard[node] = now
        return run.order

    def report(self, identity: str, news: Part, now: float) -> bool:
        """Hear of a part that runs, or has ended; whether it is known here."""
        run = self._runs.get(identity)
        part = run.parts.get(news.node) if run is not None else None
        if run is None or part is None:
            return False
        run.heard[news.node] = now
        if part.state == "running" and news.state in ENDED:
            most = min(OUTPUT, OUTPUTS // len(run.parts))
            news.output = news.output[-most:]
            run.parts[news.node] = news
        return True

    def nodes(self, identity: str) -> list[str]:
        """Who has a part in it; nobody when it is not known."""
        run = self._runs.get(identity)
        return [] if run is None else list(run.parts)

    def parts(self, identity: str, now: float) -> list[Part]:
        """How it stands; nothing when it is not known."""
        run = self._runs.get(identity)
        if run is None:
            return []
        run.asked = now
        for node, part in run.parts.items():
            part.silent = max(0.0, now - run.heard[node])
        return list(run.parts.values())

    def clear(self) -> None:
        """Forget all: another server leads."""
        self._runs.clear()
