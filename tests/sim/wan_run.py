"""Runs of the simulation of three datacenters: one seed, many on all processors, and what is broken on
purpose.

    storm     links are cut, one way or both, servers crash, stall and lose power, whole datacenters too
    lost      all is well again, but one datacenter is cut off: the others notice, and nobody is held up
    returned  it is back: who asks it is answered again"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple
from unittest.mock import patch

from agent.dial import FAR_DIAL_SECONDS, FAR_SILENCE_SECONDS
from agent.logs import LogHub
from agent.pool import PoolSettings
from tests.sim.gossip_cluster import predicted_rounds
from tests.sim.raft_cluster import Unsafe
from tests.sim.wan_broken import BROKEN
from tests.sim.wan_clients import Client, Outcome, is_clear
from tests.sim.wan_planet import FAR, POOL, SIZE, Planet
from tests.sim.wan_server import Server
from tests.sim.wan_weather import Storm

HOLD = 7.0  # performance.rpc_hold_timeout
CALL = 60.0  # limits.rpc_client_timeout
STORM = 30.0
LOST = 35.0
SLACK = 1.0
EVERYONE = SIZE * SIZE
# A call to a datacenter that is lost: held, then one more try at each of its servers, which do not take the
# connection, or do not answer on the one that there is.
_FAR = PoolSettings().far
GIVES_UP = (
    HOLD + SIZE * max(FAR_DIAL_SECONDS, FAR_SILENCE_SECONDS, _FAR.keep_alive + _FAR.ping_timeout) + SLACK
)
# Any call: held, then one more try, and it takes that to be held up and the call's time at the other side.
ENDS = HOLD + CALL + SLACK
QUICK = 2.0  # what happens within one datacenter
# A silent server is probed in turn by eight others, suspected for so long at most; then news spread.
NEWS = predicted_rounds(EVERYONE, POOL.gossip_nodes, 0.05) * (POOL.gossip_interval + 1.1 * FAR)
DETECTED = (
    EVERYONE * POOL.probe_interval * POOL.awareness_max_multiplier
    + POOL.suspicion_max_timeout_mult
    * POOL.suspicion_mult
    * max(1.0, math.log10(EVERYONE))
    * POOL.probe_interval
    + NEWS
)
# Whoever failed is called again at every such interval (by one out of all that failed), from both sides;
# what gossip misses is exchanged.
RETURNS = 2 * POOL.reconnect_interval + POOL.push_pull_interval + NEWS

# Coordinates of servers that were restarted find their places, in so many rounds of probes of all others.
PLACED = 8 * EVERYONE * POOL.probe_interval


class Run(NamedTuple):
    """What came of one seed. `wrong` is empty when all was well."""

    seed: int
    wrong: str
    answered: int
    refused: int
    returned: float


class Story:
    """The phases of one run, and what is asked of them."""

    def __init__(self, planet: Planet) -> None:
        self.planet = planet
        self.clients = [Client(planet, name, number, 0.8) for name in planet.names for number in range(2)]
        self.returned = 0.0

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for client in self.clients for outcome in client.outcomes]

    def tell(self) -> None:
        planet = self.planet
        for server in planet.servers.values():
            planet.start(server)
        self.until(lambda: planet.agree() and planet.leaders(), 60, "begins")
        storm = Storm(planet)
        self.run(STORM)
        storm.end()
        well = RETURNS + DETECTED
        self.until(lambda: planet.agree() and planet.leaders() and planet.trust(), well, "is well again")
        self.lose()
        self.after()

    def run(self, seconds: float) -> None:
        """Let time pass, and nobody wait too long."""
        self.planet.time.run(seconds)
        now = self.planet.time.now
        for client in self.clients:
            work = client.work
            if work is not None and work.server.running and now - work.operation.called > ENDS:
                raise Unsafe(f"{work.server.name} for {work.target}: no answer to {work.operation} at {now}")
        if self.planet.defects:
            raise Unsafe(self.planet.defects[0])

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        began = self.planet.time.now
        while not condition():
            if self.planet.time.now - began > seconds:
                raise Unsafe(f"the planet not {what} within {seconds:.0f} s: {self.describe()}")
            self.run(0.25)
        return self.planet.time.now - began

    def describe(self) -> str:
        return self.wrong_order() + "; ".join(
            f"{server.name} follows {server.raft.leader_id or 'nobody'}, asks {server.listed()}"
            for server in self.planet.running()
        )

    # --- one datacenter is lost

    def lose(self) -> None:
        planet = self.planet
        for server in planet.running():
            server.flush()
        self.run(5.0)  # what was begun in the storm is over
        lost = planet.random.choice(planet.names)
        both = planet.random.random() < 0.6
        inside = [server.name for server in planet.of(lost)]
        outside = [name for name in planet.servers if name not in inside]
        ends = (inside, outside) if both or planet.random.random() < 0.5 else (outside, inside)
        planet.say(f"{lost} is lost: {ends[0][0]}... {'|' if both else '|>'} {ends[1][0]}...")
        began = planet.time.now
        heal = planet.cut_off(*ends, both)
        self.run(LOST)
        if both and planet.random.random() < 0.4:  # it takes long
            self.until(lambda: self.noticed(lost), DETECTED - LOST, f"notices that {lost} is lost")
        planet.say(f"{lost} is back")
        ended = planet.time.now
        heal()
        self.check_lost(lost, began, ended)
        self.returned = self.until(lambda: self.works_again(ended), RETURNS, f"reaches {lost} again")

    def noticed(self, lost: str) -> bool:
        """Whether nobody tries to call servers that cannot be called."""
        planet = self.planet
        return all(
            not servers
            for server in planet.running()
            for name, servers in server.listed().items()
            if lost in (name, server.datacenter)
        )

    def check_lost(self, lost: str, began: float, ended: float) -> None:
        """Within datacenters, and between those that are not lost, all goes on; who asks for what is lost
        is told so, in time."""
        for client in self.clients:
            work = client.work
            if work is not None and began <= work.operation.called < ended - GIVES_UP:
                raise Unsafe(f"no word for more than {GIVES_UP} s that {lost} is lost: {work.operation}")
        for outcome in self.outcomes:
            if not (outcome.began >= began and outcome.began + outcome.took <= ended):
                continue
            far = outcome.source != outcome.target
            if far and lost in (outcome.source, outcome.target):
                if outcome.error is None:
                    raise Unsafe(f"an answer from a datacenter that is cut off: {outcome}")
                if not is_clear(outcome.error):
                    raise Unsafe(f"the error does not say that {lost} is lost: {outcome}")
                if outcome.took > GIVES_UP:
                    raise Unsafe(f"the error comes after more than {GIVES_UP} s: {outcome}")
            elif outcome.error is not None or outcome.took > QUICK + self.lossy(outcome):
                raise Unsafe(f"{lost} is cut off, and elsewhere: {outcome}")

    def lossy(self, outcome: Outcome) -> float:
        """What lost packets may cost a call between datacenters."""
        return 10.0 if outcome.source != outcome.target and self.planet.loss else 0.0

    def works_again(self, since: float) -> bool:
        """Whether all routers list all servers. A call that is asked when they do must be answered."""
        return self.planet.agree()

    # --- at last

    def after(self) -> None:
        planet = self.planet
        began = planet.time.now
        self.run(10.0)
        for client in self.clients:
            client.resting = True
        self.run(QUICK)
        self.until(lambda: all(client.work is None for client in self.clients), ENDS, "rests")
        for outcome in self.outcomes:
            if outcome.began > began and outcome.error is not None:
                raise Unsafe(f"all is well, but: {outcome}")
        for datacenter in planet.datacenters.values():
            datacenter.check_history()
            datacenter.check_progress()
        self.until(lambda: not self.wrong_order(), PLACED, "knows distances")

    def wrong_order(self) -> str:
        """Whose datacenters are not in the order of their distance, there and back."""
        planet = self.planet
        for server in planet.running():
            own = server.datacenter
            others = [name for name in planet.names if name != own]
            right = [own, *sorted(others, key=lambda name: planet.trip(own, name))]
            if server.cluster.datacenters() != right:
                trips = {name: round(planet.trip(own, name), 4) for name in others}
                return f"{server.name} sorts {server.cluster.datacenters()}: {trips}"
        return ""


VARIANTS: dict[str, type[Server]] = {"": Server, **BROKEN}


def run_seed(seed: int, variant: str = "", trace: Callable[[str], None] | None = None) -> Run:
    """One run."""
    planet = Planet(seed, VARIANTS[variant], trace)
    story = Story(planet)

    def log(hub: Any, level: int, name: str, message: str, fields: dict[str, Any]) -> None:
        planet.say(f"log {name}: {message} {fields}")

    wrong = ""
    with patch.object(LogHub, "emit", log):
        try:
            story.tell()
        except AssertionError as error:  # Unsafe, and what the machines themselves assert
            wrong = str(error) or repr(error)
    refused = sum(outcome.error is not None for outcome in story.outcomes)
    return Run(seed, wrong, sum(d.answered for d in planet.datacenters.values()), refused, story.returned)


def run_seeds(seeds: Iterable[int], variant: str = "") -> Generator[Run, None, None]:
    """Many runs at a time; as they come. What has not begun is dropped when nobody asks on."""
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork"))
    try:
        tasks = [pool.submit(run_seed, seed, variant) for seed in seeds]
        for task in as_completed(tasks):
            yield task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def replay(run: Run) -> str:
    """How to see this run again."""
    return f"python -m tests sim --wan --seed {run.seed} --trace"
