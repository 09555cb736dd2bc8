"""Runs of the Raft simulation: one seed, many on all processors, and Rafts that are broken on purpose."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from core.raft import log as raft_log
from core.raft.messages import CONFIGURATION, AppendEntries, Entry, Request, Response
from core.raft.node import Node
from core.raft.ready import Outgoing, Ready
from core.raft.settings import Settings
from tests.sim.raft_cluster import TIMING, Cluster
from tests.sim.raft_member import Disk, Member
from tests.sim.raft_weather import Faults, weather

STORM = 5.0  # seconds of pretend time


class Outcome(NamedTuple):
    """What came of one run. `wrong` is empty when all was well."""

    seed: int
    size: int
    wrong: str
    answered: int
    leaders: int


@dataclass(frozen=True)
class Variant:
    """What is simulated: a Raft, perhaps a broken one, and its weather (drawn from the seed if None)."""

    cluster: type[Cluster] = Cluster
    node: type[Node] = Node
    timing: Settings = TIMING
    faults: Faults | None = None


def run_seed(seed: int, size: int, variant: str = "", trace: Callable[[str], None] | None = None) -> Outcome:
    """One run: a storm, then the calm in which all must be well."""
    chosen = VARIANTS[variant]
    faults, timing = chosen.faults, chosen.timing
    if faults is None:
        chance = random.Random(seed)
        faults, timing = weather(chance), limits(timing, chance)
    # Logs forget their tail early, so that reading from the disk is part of the simulation.
    with patch.object(raft_log, "TAIL_ENTRIES", 16):
        cluster = chosen.cluster(f"{seed}/{size}", size, faults, chosen.node, timing, trace)
        wrong = ""
        try:
            cluster.storm(STORM)
            cluster.calm()
        except AssertionError as error:  # Unsafe, and what the machine itself asserts
            wrong = str(error)
    return Outcome(seed, size, wrong, cluster.answered, len(cluster.leaders))


def limits(timing: Settings, chance: random.Random) -> Settings:
    """Small limits make messages and batches end where they seldom do."""
    return msgspec.structs.replace(
        timing,
        max_entries=chance.choice((1, 2, 64)),
        max_bytes=chance.choice((40, 1 << 20)),
        max_inflight=chance.choice((1, 2, 128)),
        max_apply=chance.choice((1, 3, 512)),
    )


def run_seeds(seeds: Iterable[int], size: int, variant: str = "") -> Generator[Outcome, None, None]:
    """Many runs at a time; outcomes as they come. What has not begun is dropped when nobody asks on."""
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork"))
    try:
        tasks = [pool.submit(run_seed, seed, size, variant) for seed in seeds]
        for task in as_completed(tasks):
            yield task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def replay(outcome: Outcome) -> str:
    """How to see this run again."""
    return f"python -m tests sim --seed {outcome.seed} --servers {outcome.size} --trace"


# Broken on purpose: what the simulation must find


class Forgetful(Cluster):
    """Term and vote are not persisted."""

    def store(self, disk: Disk, ready: Ready) -> None:
        ready.hard_state = None
        disk.store(ready)


class Counting(Node):
    """Entries of old terms are committed because a majority has them (figure 8 of the Raft paper)."""

    def may_commit(self, index: int) -> bool:
        return True


class Hasty(Node):
    """Entries and votes are confirmed before they are durable."""

    def answer(self, to: str, request: Request, response: Response) -> None:
        self._messages.append(Outgoing(to, response, request))


class Trusting(Node):
    """A leader believes without asking that it still leads."""

    def verify(self, token: object, now: float) -> None:
        self.tell_verified(token, self.leader is not None)


class Leaseless(Cluster):
    """A leader answers default reads without looking at its lease."""

    def may_read(self, leader: Member) -> bool:
        return True


class Indulgent(Node):
    """A vote for a candidate whose log is older than the own one."""

    def _is_current(self, last_index: int, last_term: int) -> bool:
        return True


class Reckless(Node):
    """Changes of the configuration do not wait for each other."""

    def change(self, configuration: Any, now: float) -> int:
        leader = self._leading()
        self._now = now
        index = self.append_own(Entry(type=CONFIGURATION, data=configuration.encode()))
        leader.reconfigure(now)
        return index


class Unchecked(Node):
    """A follower appends without comparing the entry before."""

    def receive(self, source: str, message: Any, now: float) -> None:
        if type(message) is AppendEntries and self.log.base < message.prev_index <= self.log.last:
            message = msgspec.structs.replace(message, prev_term=self.log.term(message.prev_index))
        super().receive(source, message, now)


class Credulous(Node):
    """A follower takes its own restored state for what is committed."""

    def _agrees_at_base(self, request: AppendEntries) -> bool:
        return True


_HARSH = Faults(
    loss=0.05, duplicate=0, delay=0.05, slow=0.1, crash=3, partition=3, disk_full=0, slow_disk=0, stall=0,
    jump=0, drift=0, snapshot=0, membership=0, transfer=0, rumour=0, move=0, restore=0,
)  # fmt: skip
_SPLIT = Faults(
    loss=0, duplicate=0, delay=0.005, slow=0, crash=0, partition=1.5, disk_full=0, slow_disk=0, stall=0,
    jump=0, drift=0, snapshot=0, membership=0, transfer=0, rumour=0, move=0, restore=0,
)  # fmt: skip
_CHANGING = msgspec.structs.replace(TIMING, prevote=False)
# One entry a message, so that an old entry can travel without the new term's first one.
_SINGLE = msgspec.structs.replace(TIMING, max_entries=1, max_inflight=1, prevote=False)
_CLINGING = msgspec.structs.replace(TIMING, lease_timeout=1e9)  # leaders that never step down
_LONG_LEASE = msgspec.structs.replace(TIMING, lease_timeout=0.6)


def _with(faults: Faults, **changes: float) -> Faults:
    return Faults(**{**vars(faults), **changes})


BROKEN: dict[str, Variant] = {
    "vote not persisted": Variant(Forgetful, faults=_with(_HARSH, crash=6)),
    "old terms committed by count": Variant(node=Counting, timing=_SINGLE, faults=_HARSH),
    "confirmed before durable": Variant(node=Hasty, faults=_with(_HARSH, crash=6, slow_disk=10)),
    "reads without a quorum": Variant(node=Trusting, timing=_CLINGING, faults=_SPLIT),
    "stale reads without a lease": Variant(Leaseless, timing=_CLINGING, faults=_SPLIT),
    "a lease longer than the time-out": Variant(timing=_LONG_LEASE, faults=_SPLIT),
    "votes for older logs": Variant(node=Indulgent, faults=_HARSH),
    "changes that do not wait": Variant(
        node=Reckless, timing=_CHANGING, faults=_with(_HARSH, membership=30, crash=1, slow=0.02, delay=0.01)
    ),
    "restored states that nobody else has": Variant(node=Credulous, faults=_with(_HARSH, restore=4)),
    "previous entry not compared": Variant(node=Unchecked, faults=_HARSH),
}
VARIANTS: dict[str, Variant] = {
    "": Variant(),
    "harsh": Variant(timing=_SINGLE, faults=_HARSH),
    "split": Variant(faults=_SPLIT),
    **BROKEN,
}
