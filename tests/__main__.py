"""What tests can do by hand: `python -m tests sim --seed N` runs one Raft simulation again,
`--wan` one of three datacenters; `python -m tests compare --consul PATH` asks a Consul and an agent of ours
the same."""

from __future__ import annotations

import argparse
import sys

from tests.compare import run as compare_run
from tests.sim import raft_run, wan_run
from tests.sim.raft_run import Outcome


def main() -> int:
    """Run what is asked for; 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    commands = parser.add_subparsers(required=True)
    sim = commands.add_parser("sim", help="simulate clusters of servers on pretend time")
    sim.add_argument(
        "--wan", action="store_true", help="three datacenters, with gossip and calls between them"
    )
    sim.add_argument("--seed", type=int, default=0, help="the first seed")
    sim.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    sim.add_argument("--servers", type=int, default=3, help="voters at the start")
    broken = [*raft_run.VARIANTS, *wan_run.BROKEN]
    sim.add_argument("--variant", choices=broken, default="", help="servers that are broken")
    sim.add_argument("--trace", action="store_true", help="print all that happens")
    sim.set_defaults(run=simulate)
    compare_run.add_arguments(
        commands.add_parser("compare", help="ask a Consul and an agent the same, and print how they differ")
    )
    chosen = parser.parse_args()
    return int(chosen.run(chosen))


def simulate(chosen: argparse.Namespace) -> int:
    """One line for each run, the whole story with --trace."""
    seeds = range(chosen.seed, chosen.seed + chosen.count)
    if chosen.wan:
        return simulate_wan(chosen, seeds)
    wrong = 0
    if chosen.trace:
        runs = (raft_run.run_seed(seed, chosen.servers, chosen.variant, print) for seed in seeds)
    else:
        runs = raft_run.run_seeds(seeds, chosen.servers, chosen.variant)
    for outcome in runs:
        wrong += bool(outcome.wrong)
        print(_line(outcome), flush=True)
    return 1 if wrong else 0


def simulate_wan(chosen: argparse.Namespace, seeds: range) -> int:
    """`simulate` for three datacenters."""
    wrong = 0
    if chosen.trace:
        runs = (wan_run.run_seed(seed, chosen.variant, print) for seed in seeds)
    else:
        runs = wan_run.run_seeds(seeds, chosen.variant)
    for run in runs:
        wrong += bool(run.wrong)
        verdict = f"WRONG\n{run.wrong}" if run.wrong else f"ok {run.answered} answers, {run.refused} refusals"
        print(f"seed {run.seed}, three datacenters: {verdict}", flush=True)
    return 1 if wrong else 0


def _line(outcome: Outcome) -> str:
    verdict = "ok" if not outcome.wrong else f"WRONG\n{outcome.wrong}"
    what = f"{outcome.answered} answers, {outcome.leaders} leaders" if not outcome.wrong else ""
    return f"seed {outcome.seed}, {outcome.size} servers: {verdict} {what}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
