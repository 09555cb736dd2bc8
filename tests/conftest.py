"""What all tests share: running agents, their logs when a test fails, and skips that are seen."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import harness
from tests.harness import Agent

_LOG_TAIL = 6000  # characters


# Machines of tests are slow, shared and busy: how long an example takes says nothing about the program.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

# A shell's background jobs start with SIGINT ignored, and so would every program that a test starts and
# interrupts. A handler here is the default again in what is started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def dev_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One `--dev` agent for all tests that leave no trace behind (or only under names of their own)."""
    with Agent(tmp_path_factory.mktemp("dev")) as running:
        yield running


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Makes agents (`make_agent(dev=False, config={...})`, not started yet) and ends them with the test."""
    made: list[Agent] = []

    def make(**options: Any) -> Agent:
        folder = tmp_path / f"agent{len(made)}"
        folder.mkdir()
        made.append(Agent(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def tool() -> Callable[[str], str]:
    """The path of a program that a test drives; the test is skipped, and counted, without it."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")  # where daemons are
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


_LONG = (
    "sim",
    "cluster",
    "e2e",
    "cli",
    "agent",
    "clients",
    "conformance",
)  # with files of a minute and more


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker begins one when the others are through."""
    rank = {folder: number for number, folder in enumerate(_LONG)}
    root = Path(__file__).parent
    items.sort(key=lambda item: rank.get(item.path.relative_to(root).parts[0], len(rank)))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes may be made by chance, and every worker must know a test by the same name."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report: pytest.TestReport = yield
    if report.failed:
        for one in harness.alive:
            report.sections.append((f"log of agent {one.address}", one.log_text()[-_LOG_TAIL:]))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(
            f"NOT RUN: {len(skipped)} tests were skipped", sep="!", yellow=True, bold=True
        )
