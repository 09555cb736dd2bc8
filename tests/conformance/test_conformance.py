"""The conformance kit against fresh agents, one test per scenario and target (README.md has the table)."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness import Agent

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE / "scenarios"

# What this version offers. Other areas come with the features they are about.
AREAS = (
    *(
        "acl/*",
        "agent/*",
        "blocking/*",
        "catalog/*",
        "config/*",
        "coordinate/*",
        "dns/*",
        "event/*",
        "health/*",
        "http/*",
        "kv/*",
    ),
    *("operator/*", "query/*", "session/*", "snapshot/*", "status/*", "txn/*"),
)
LATER: tuple[str, ...] = ()
# Rows of tables of endpoints that come with those areas.
LATER_PATHS: tuple[str, ...] = ()
FOUND = {"server", "single", "no-acl", "no-keyring"}  # what the kit finds out by asking
TARGETS: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "dev": (FOUND | {"no-prometheus"}, ("*",)),
    "single": (FOUND | {"no-prometheus"}, ("*",)),
    "tuned": (
        (FOUND - {"no-keyring"}) | {"keyring", "prometheus", "tuned"},
        ("*/tuned-*", "http/block-endpoints"),
    ),
    "acl": ((FOUND - {"no-acl"}) | {"acl", "no-prometheus"}, ("*",)),
}


def _kit() -> ModuleType:
    """The script `run` as a module."""
    loader = SourceFileLoader("conformance_kit", str(HERE / "run"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


KIT = _kit()
FILES = {
    path.relative_to(SCENARIOS).with_suffix("").as_posix(): path for path in sorted(SCENARIOS.rglob("*.yaml"))
}


def _meant_for(target: str) -> Iterator[str]:
    have, globs = TARGETS[target]
    for name, path in FILES.items():
        if any(fnmatch.fnmatch(name, area) for area in AREAS) and name not in LATER:
            needs = set(KIT.load(path).get("needs") or [])
            if needs <= have and any(fnmatch.fnmatch(name, glob) for glob in globs):
                yield name


CASES = [
    pytest.param(target, name, id=f"{target}-{name}") for target in TARGETS for name in _meant_for(target)
]


def _scenario(name: str) -> Any:
    """The scenario without the rows about endpoints of later areas."""
    document = KIT.load(FILES[name])
    for step in document["steps"]:
        if "each" in step:
            step["each"] = [row for row in step["each"] if not row.get("p", "").startswith(LATER_PATHS)]
            assert step["each"], f"{name}: no row is left"
    return document


class Running:
    """The agent of the target under test; a new target ends the one before."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._name = ""
        self._agent: Agent | None = None
        self.kit: Any = None

    def at(self, name: str) -> Any:
        if name != self._name:
            self.end()
            self._name = name
            self._agent = self._start(name)
            dns = f"{self._agent.address}:{self._agent.dns_port}"
            told = {"tuned"} if name == "tuned" else set()
            self.kit = KIT.Target(self._agent.base, dns, self._agent.token or None, told)
            self.kit.probe()
        return self.kit

    def end(self) -> None:
        if self._agent is not None:
            self._agent.end()
            self._agent = None

    def _start(self, name: str) -> Agent:
        folder = self._factory.mktemp(name)
        if name == "dev":
            return Agent(folder).start()
        file = HERE / "targets" / f"{name}.json"
        config = json.loads(file.read_text()) if file.exists() else None
        token = config["acl"]["tokens"]["master"] if name == "acl" else ""
        return Agent(folder, dev=False, config=config, token=token).start()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    targets = Running(tmp_path_factory)
    yield targets
    targets.end()


def test_enough_scenarios_are_meant() -> None:
    counts = {target: len(list(_meant_for(target))) for target in TARGETS}
    assert counts["dev"] == counts["single"] >= 62
    assert counts["tuned"] == 2
    assert set(LATER) <= set(FILES)


@pytest.mark.parametrize(("target", "name"), CASES)
def test_scenario(running: Running, target: str, name: str) -> None:
    kit = running.at(target)
    failure, steps = KIT.Runner(kit).scenario(_scenario(name))
    assert failure is None, failure
    assert steps


@pytest.mark.parametrize("target", TARGETS)
def test_the_kit_finds_what_the_target_is(running: Running, target: str) -> None:
    assert running.at(target).have == TARGETS[target][0]
