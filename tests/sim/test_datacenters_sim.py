"""Three datacenters of three servers: cut links, crashes, a datacenter that is lost and returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.sim import wan_run

SEEDS = 24


def test_seeds() -> None:
    wrong, answered, refused = [], 0, 0
    for run in wan_run.run_seeds(range(SEEDS)):
        answered += run.answered
        refused += run.refused
        if run.wrong:
            wrong.append(f"{wan_run.replay(run)}\n{run.wrong}")
    assert not wrong, "\n".join(wrong)
    # Most is answered, and what cannot be is refused.
    assert answered > 200 * SEEDS
    assert refused > 10 * SEEDS


@pytest.mark.parametrize("variant", wan_run.BROKEN)
def test_what_is_broken_is_caught(variant: str) -> None:
    runs = wan_run.run_seeds(range(30), variant)
    assert any(run.wrong for run in runs)
    runs.close()


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = wan_run.run_seeds([1, 1])
    assert one == other


def test_a_seed_can_be_seen_again_by_hand() -> None:
    command = [sys.executable, "-m", "tests", "sim", "--wan", "--seed", "1", "--trace"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "LEADER of term" in done.stdout
    assert "is lost" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("seed 1, three datacenters: ok")
