from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from agent.raft_state import open_state
from agent.world import World
from tests.agent.raft_writer_process import Numbers

ROOT = Path(__file__).parents[2]
KILLS = 50


def recovered(folder: Path) -> list[int]:
    """What a restart would apply: the snapshot, then the whole log (one voter: all of it commits)."""
    fsm = Numbers()
    opened = asyncio.run(open_state(folder, fsm, World(), None))
    for entry in opened.log.slice(opened.applied + 1, opened.log.last):
        if entry.data and not entry.type:
            fsm.apply(entry.index, entry.data, b"", entry.term)
    opened.log_store.close()
    return [int(number) for number in fsm.numbers]


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(9)
    acknowledged: set[int] = set()
    first = 0
    snapshots = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.raft_writer_process", str(tmp_path), str(first)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        output = process.stdout.readline()  # it writes: now the clock of its death starts
        time.sleep(chance.uniform(0.02, 0.15))
        process.kill()
        output += process.stdout.read()
        process.wait()
        process.stdout.close()
        assert output, "the writer did not start"
        acknowledged.update(int(line) for line in output.split(b"\n")[:-1])
        numbers = recovered(tmp_path)
        assert len(numbers) == len(set(numbers)), "something was applied twice"
        assert acknowledged <= set(numbers)
        first = max(numbers) + 1
        snapshots += len(list((tmp_path / "snapshots").glob("*"))) if (tmp_path / "snapshots").exists() else 0
    assert len(acknowledged) > KILLS * 10
    assert snapshots > 0
