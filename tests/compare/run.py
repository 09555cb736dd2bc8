"""The command: `python -m tests compare --consul PATH`."""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.compare import chance, systematic, wakes
from tests.compare.differ import WORDS, Difference
from tests.compare.pair import Pair, started
from tests.compare.steps import Scenario, Step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `compare` can be told."""
    parser.add_argument("--consul", type=Path, required=True, help="the program to compare with")
    parser.add_argument("--seed", type=int, default=1, help="the first scenario by chance")
    parser.add_argument("--cases", type=int, default=50, help="how many scenarios by chance")
    parser.add_argument("--only", default="*", help="scenarios with names like this, such as 'txn *'")
    parser.add_argument("--words", action="store_true", help="also tell where our errors only say more")
    parser.add_argument("--each", type=int, default=3, help="how often alike differences are printed")
    parser.set_defaults(run=compare)


def compare(chosen: argparse.Namespace) -> int:
    """Print the differences; 1 if there are any."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that both agents are ended
    report = Report(chosen.each, chosen.words)
    scenarios = [one for one in _scenarios(chosen) if fnmatch.fnmatch(one.name, chosen.only)]
    with tempfile.TemporaryDirectory() as folder, started(chosen.consul, Path(folder)) as pair:
        for scenario in scenarios:
            report.scenario(scenario, pair)
        if fnmatch.fnmatch("wakes", chosen.only):
            for line in wakes.compare(pair):
                report.line(line)
    print(report.summary())
    return 1 if report.differences else 0


def _scenarios(chosen: argparse.Namespace) -> Iterator[Scenario]:
    return itertools.chain(systematic.all_of(), chance.scenarios(chosen.seed, chosen.cases))


class Report:
    """Prints differences, alike ones only a few times."""

    def __init__(self, each: int, words: bool) -> None:
        self._each, self._words = each, words
        self._alike: Counter[tuple[str, ...]] = Counter()
        self.steps = self.differences = 0

    def scenario(self, scenario: Scenario, pair: Pair) -> None:
        self.steps += len(scenario.steps)
        for step, found in pair.compare(scenario):
            told = [one for one in found if self._words or one.kind != WORDS]
            if told:
                self._tell(scenario, step, told)

    def _tell(self, scenario: Scenario, step: Step, found: list[Difference]) -> None:
        self.differences += 1
        place = step.target.partition("?")[0].split("/")[:4]
        key = (step.method, *place, *(part[:20] for one in found for part in one))
        self._alike[key] += 1
        if self._alike[key] <= self._each:
            print("\n  ".join([f"{scenario.name}: {step}", *map(str, found)]), flush=True)

    def line(self, text: str) -> None:
        self.differences += 1
        print(text, flush=True)

    def summary(self) -> str:
        return f"{self.steps} requests, {self.differences} differences of {len(self._alike)} kinds"
