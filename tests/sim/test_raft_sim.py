"""Raft on pretend time. `python -m tests sim --seed N --servers K --trace` shows a run again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from core.raft.settings import Settings
from tests.harness import ROOT
from tests.sim import raft_run
from tests.sim.raft_cluster import Cluster
from tests.sim.raft_member import Member
from tests.sim.raft_weather import CALM, Faults

SEEDS = {1: 15, 3: 100, 5: 60, 7: 45}  # of each size


@pytest.mark.parametrize("size", SEEDS)
def test_seeds(size: int) -> None:
    wrong, answered, leaders = [], 0, 0
    for outcome in raft_run.run_seeds(range(SEEDS[size]), size):
        answered += outcome.answered
        leaders += outcome.leaders
        if outcome.wrong:
            wrong.append(f"{raft_run.replay(outcome)}\n{outcome.wrong}")
    assert not wrong, "\n".join(wrong)
    # The weather is bad, but not so bad that nothing happens.
    assert answered > 150 * SEEDS[size]
    assert leaders > 3 * SEEDS[size]


@pytest.mark.parametrize("variant", ["harsh", "split"])
def test_weather_that_finds_what_is_broken_finds_nothing_else(variant: str) -> None:
    wrong = [outcome for outcome in raft_run.run_seeds(range(20), 3, variant) if outcome.wrong]
    assert not wrong


@pytest.mark.parametrize("variant", raft_run.BROKEN)
def test_a_broken_raft_is_caught(variant: str) -> None:
    outcomes = raft_run.run_seeds(range(200), 3, variant)
    assert any(outcome.wrong for outcome in outcomes)
    outcomes.close()


def test_the_same_seed_gives_the_same_run() -> None:
    runs: list[list[str]] = [[], []]
    for lines in runs:
        raft_run.run_seed(5, 3, trace=lines.append)
    assert len(runs[0]) > 1000
    assert runs[0] == runs[1]


def test_a_seed_can_be_seen_again_by_hand() -> None:
    command = [sys.executable, "-m", "tests", "sim", "--seed", "5", "--servers", "3", "--trace"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "LEADER of term" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("seed 5, 3 servers: ok")


# Nothing is wrong, but everyone is busy


def busy(cluster: Cluster, longest: float, pause: float) -> None:
    """Each server does nothing for up to `longest` seconds, again and again."""

    def stall(member: Member) -> None:
        member.busy_until = cluster.now + cluster.random.uniform(0, longest)
        again(member)

    def again(member: Member) -> None:
        cluster.later(longest + cluster.random.expovariate(1 / pause), stall, argument=member)

    for member in cluster.members.values():
        again(member)


def test_an_hour_on_busy_processors_needs_no_election() -> None:
    faults = Faults(**{**vars(CALM), "delay": 0.005, "drift": 0.01})
    cluster = Cluster("an hour", 3, faults, timing=Settings().scaled(5), pace=4.0, patience=10.0, spare=0)
    cluster.write_times = (0.03, 0.03)
    cluster.run(5)
    (first,) = cluster.leading()
    busy(cluster, 0.3, 1.5)
    cluster.storm(3600)
    assert cluster.leaders == {first.node.term: first.name}
    assert list(cluster.leading()) == [first]
    assert cluster.answered > 5000
    cluster.calm()
