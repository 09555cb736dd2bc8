"""The guard of an agent's children: it acts when the agent cannot, and another takes its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT, until

AGENT = """
import asyncio, sys
from agent import process

async def life():
    first = process.spawn("sleep 1000 & exec sleep 1000")
    short = process.spawn("true")
    await short.wait()
    guard = process._guard._process
    if sys.argv[1] == "killed":
        guard.kill()
        guard.wait()
    second = process.spawn("exec sleep 1000")
    print(first.pid, second.pid, process._guard._process.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(life())
"""


def groups() -> set[int]:
    """Process groups with somebody in them."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                found.add(int(fields[2]))
    return found


def _killed_agent(how: str) -> None:
    words = [sys.executable, "-c", AGENT, how]
    agent = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert agent.stdout is not None
        numbers = set(map(int, agent.stdout.readline().split()))
        assert numbers <= groups()
    finally:
        os.killpg(agent.pid, signal.SIGKILL)
        agent.communicate()
    until("all are gone", lambda: not numbers & groups())


def test_children_of_a_killed_agent_end() -> None:
    _killed_agent("well")


def test_a_guard_that_was_killed_is_replaced() -> None:
    """The next one knows the children of the one before."""
    _killed_agent("killed")
