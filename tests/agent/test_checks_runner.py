"""The CheckRunner: schedule, replacement, cancellation, TTL, aliases, overdue services, many checks."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent import checks
from agent.checks import CheckRunner, CheckSettings
from agent.world import World
from core.codec.duration import MILLISECOND, MINUTE, SECOND
from core.errors import Invalid
from core.node.checks import AliasView
from core.node.definitions import CheckDefinition
from core.store.structs import HealthCheck
from tests.agent.check_servers import fixed, http_server
from tests.harness import lives

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run  # type: ignore[return-value]


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _line(self, message: str, **fields: Any) -> None:
        self.lines.append(" ".join([message, *(f"{key}={value}" for key, value in fields.items())]))

    debug = info = warn = error = _line


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log = Lines()
    monkeypatch.setattr(checks, "logger", log)
    return log.lines


class Fixed(random.Random):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


class Pretend(World):
    """A world whose clock can be put forward. First runs come at once, or where `chance` puts them."""

    def __init__(self, chance: float = 0.0) -> None:
        super().__init__()
        self.random = Fixed(chance)
        self.ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead


class Bench:
    """A runner, its world, and what it told."""

    def __init__(self, settings: CheckSettings | None = None, chance: float = 0.0) -> None:
        self.world = Pretend(chance)
        self.results: list[tuple[str, str, str]] = []
        self.runner = CheckRunner(self.world, lambda *result: self.results.append(result), settings)

    def skip(self, seconds: float) -> None:
        """Time passes."""
        self.world.ahead += seconds
        self.runner._tick()

    def last(self, check_id: str) -> tuple[str, str] | None:
        found = [(status, output) for name, status, output in self.results if name == check_id]
        return found[-1] if found else None

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.results
            await asyncio.sleep(0.002)


def script(text: str, **fields: Any) -> CheckDefinition:
    return CheckDefinition(
        args=["/bin/sh", "-c", text], interval=fields.pop("interval", 10 * SECOND), **fields
    )


def test_every_interval_after_the_end_of_the_run(run: Run) -> None:
    async def main() -> None:
        bench = Bench(chance=0.5)
        bench.runner.start("c", script("echo x"))
        bench.skip(4.9)
        await asyncio.sleep(0.05)
        assert bench.results == []
        bench.skip(0.2)
        await bench.until(lambda: bench.results)
        await bench.until(lambda: "c" in bench.runner._due)
        bench.skip(9.5)
        await asyncio.sleep(0.05)
        assert len(bench.results) == 1
        bench.skip(0.6)
        await bench.until(lambda: len(bench.results) == 2)
        assert bench.results == [("c", "passing", "x\n")] * 2
        await bench.runner.stop_all()

    run(main())


def test_interval_below_the_minimum(run: Run, lines: list[str]) -> None:
    async def main() -> None:
        bench = Bench(chance=0.9)
        bench.runner.start("c", script("true", interval=10 * MILLISECOND))
        bench.skip(0.8)
        await asyncio.sleep(0.02)
        assert bench.results == []
        bench.skip(0.2)
        await bench.until(lambda: bench.results)
        await bench.runner.stop_all()

    run(main())
    assert "check has interval below minimum check=c minimum_interval=1s" in lines


def test_thresholds_hold_back_results(run: Run, tmp_path: Path, lines: list[str]) -> None:
    async def main() -> None:
        bench = Bench()
        flag = tmp_path / "flag"
        flag.touch()
        command = f"echo run >> {tmp_path}/runs; test -e {flag} || exit 2"
        definition = script(command, failures_before_critical=3, failures_before_warning=2)
        bench.runner.start("c", definition)
        await bench.until(lambda: bench.results)
        flag.unlink()

        async def again() -> None:
            runs = (tmp_path / "runs").read_text().count("run")
            await bench.until(lambda: "c" in bench.runner._due)
            bench.skip(11)
            await bench.until(lambda: (tmp_path / "runs").read_text().count("run") == runs + 1)
            await bench.until(lambda: "c" in bench.runner._due)

        await again()
        assert [status for _, status, _ in bench.results] == ["passing"]
        bench.runner.start("c", script(command, failures_before_critical=3, failures_before_warning=2))
        await again()
        await again()
        assert [status for _, status, _ in bench.results] == ["passing", "warning", "critical"]
        await bench.runner.stop_all()

    run(main())
    assert lines == [
        "Check is now passing check=c",
        "Check has not reached its threshold check=c status=critical "
        "failure_count=1 warning_threshold=2 failure_threshold=3",
        "Check is now warning check=c",
        "Check is now critical check=c",
    ]


def test_an_equal_definition_is_not_restarted_and_another_is(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        bench.runner.start("c", script("echo one"))
        await bench.until(lambda: bench.results)
        await bench.until(lambda: "c" in bench.runner._due)
        bench.runner.start("c", script("echo one"))
        await asyncio.sleep(0.05)
        assert len(bench.results) == 1
        bench.runner.start("c", script("echo two"))
        await bench.until(lambda: len(bench.results) == 2)
        assert bench.last("c") == ("passing", "two\n")
        assert bench.runner.monitors == 1
        await bench.runner.stop_all()
        assert bench.runner.monitors == 0

    run(main())


def test_stop_ends_a_running_script_and_its_children(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench()
        pids = tmp_path / "pids"
        bench.runner.start("c", script(f"sleep 60 & echo $! >> {pids}; echo $$ >> {pids}; wait"))
        await bench.until(lambda: pids.exists() and pids.read_text().count("\n") == 2)
        bench.runner.stop("c")
        bench.runner.stop("c")
        bench.runner.stop("never there")
        await bench.runner.stop_all()
        # A killed process closes its files just before it counts as dead.
        await bench.until(lambda: not any(lives(int(pid)) for pid in pids.read_text().split()))
        assert bench.results == []

    run(main())


def test_a_replacement_waits_for_the_old_script(run: Run, tmp_path: Path) -> None:
    """The old one ignores TERM for a while: the new one must not run beside it."""

    async def main() -> None:
        bench = Bench()
        log = tmp_path / "log"
        bench.runner.start(
            "c", script(f"trap 'sleep 0.3; echo old >> {log}; exit' TERM; echo up >> {log}; sleep 60 & wait")
        )
        await bench.until(log.exists)
        bench.runner.start("c", script(f"echo new >> {log}"))
        await asyncio.sleep(0.05)
        bench.runner.start("c", script(f"echo newer >> {log}"))
        await bench.until(lambda: bench.results)
        assert log.read_text().split() == ["up", "old", "newer"]
        await bench.runner.stop_all()

    run(main())


def test_runs_never_overlap(run: Run, tmp_path: Path) -> None:
    """A run that was reported at its timeout is not over before its processes are gone."""

    async def main() -> None:
        bench = Bench()
        log = tmp_path / "log"
        definition = script(
            f"trap 'sleep 0.3; echo end >> {log}; exit' TERM; echo begin >> {log}; sleep 60 & wait",
            timeout=200 * MILLISECOND,
        )
        bench.runner.start("c", definition)
        await bench.until(lambda: len(bench.results) == 1)
        assert bench.results[0][2].startswith("Timed out (200ms) running check")
        bench.skip(100)
        await bench.until(lambda: "c" in bench.runner._due)
        bench.skip(100)
        await bench.until(lambda: len(bench.results) == 2)
        await bench.runner.stop_all()
        assert log.read_text().split() == ["begin", "end", "begin", "end"]

    run(main())


def test_one_that_hangs_delays_nobody(run: Run) -> None:
    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        bench = Bench()
        async with http_server(hang) as slow, http_server(fixed(OK)) as quick:
            for number in range(50):
                url = f"http://127.0.0.1:{slow.port}/"
                bench.runner.start(f"slow{number}", CheckDefinition(http=url, interval=SECOND))
            bench.runner.start(
                "quick", CheckDefinition(http=f"http://127.0.0.1:{quick.port}/", interval=SECOND)
            )
            started = time.monotonic()
            await bench.until(lambda: bench.results)
            assert time.monotonic() - started < 8  # the others take 10 s
            assert bench.results[0][:2] == ("quick", "passing")
            await bench.runner.stop_all()

    run(main())


def test_ttl(run: Run) -> None:
    async def main() -> None:
        bench = Bench(CheckSettings(output_max_size=10))
        runner = bench.runner
        runner.start("t", CheckDefinition(ttl=10 * SECOND))
        runner.start("c", script("true"))
        assert (runner.ttls, runner.monitors) == (1, 1)
        runner.ttl_update("t", "passing", "all is well here")
        assert bench.last("t") == ("passing", "all is wel ... (captured 10 of 16 bytes)")
        bench.skip(9)
        runner.ttl_update("t", "warning", "hm")
        bench.skip(9)
        assert bench.last("t") == ("warning", "hm")
        bench.skip(1.1)
        assert bench.last("t") == ("critical", "TTL expired (last output before timeout follows): hm")
        for check_id in ("c", "nobody", ""):
            with pytest.raises(Invalid, match=rf'^CheckID "{check_id}" does not have associated TTL$'):
                runner.ttl_update(check_id, "passing", "")
        runner.stop("t")
        with pytest.raises(Invalid):
            runner.ttl_update("t", "passing", "")
        await runner.stop_all()

    run(main())


def test_ttl_expires_by_the_clock(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        bench.runner.start("far", CheckDefinition(ttl=3600 * SECOND))
        bench.runner.start("near", CheckDefinition(ttl=50 * MILLISECOND))
        await bench.until(lambda: bench.results)
        assert bench.results == [("near", "critical", "TTL expired")]
        await bench.runner.stop_all()

    run(main())


def test_a_definition_of_no_kind(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        with pytest.raises(Invalid, match="Check type is not valid"):
            bench.runner.start("c", CheckDefinition(interval=SECOND))
        with pytest.raises(Invalid, match="alias checks are not available"):
            bench.runner.start("c", CheckDefinition(alias_service="web"))
        await bench.runner.stop_all()

    run(main())


class Door:
    """What aliases look at."""

    def __init__(self) -> None:
        self.checks: list[HealthCheck] = []
        self.wakes: list[Callable[[], None]] = []

    def view(self, node: str, service_id: str) -> AliasView:
        assert (node, service_id) == ("", "web")
        return AliasView(self.checks, exists=True)

    def subscribe(self, node: str, service_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.append(wake)
        return lambda: self.wakes.remove(wake)

    def set(self, status: str, output: str = "") -> None:
        self.checks = [HealthCheck(check_id="w", name="w", service_id="web", status=status, output=output)]
        for wake in self.wakes:
            wake()


def test_alias_follows_its_target(run: Run) -> None:
    async def main() -> None:
        door = Door()
        bench = Bench(CheckSettings(alias=door))
        bench.runner.start("a", CheckDefinition(alias_service="web"))
        await bench.until(lambda: bench.results)
        assert bench.results == [("a", "passing", "No checks found.")]
        door.set("critical", "down")
        door.set("critical", "down")
        await bench.until(lambda: len(bench.results) == 2)
        assert bench.last("a") == ("critical", 'Aliased check "w" failing: down')
        door.set("passing")
        await bench.until(lambda: len(bench.results) == 3)
        assert bench.last("a") == ("passing", "All checks passing.")
        door.checks = []  # and nobody tells
        bench.skip(61)
        assert bench.last("a") == ("passing", "No checks found.")
        bench.runner.stop("a")
        assert door.wakes == []
        await bench.runner.stop_all()

    run(main())


def test_aliases_of_each_other_come_to_rest(run: Run) -> None:
    async def main() -> None:
        door = Door()
        known = {
            name: HealthCheck(check_id=name, name=name, service_id="web", status="passing") for name in "ab"
        }
        known["b"] = HealthCheck(check_id="b", name="b", service_id="web", status="critical", output="seed")
        door.checks = list(known.values())
        told = 0

        def on_result(check_id: str, status: str, output: str) -> None:
            nonlocal told
            told += 1
            check = HealthCheck(
                check_id=check_id, name=check_id, service_id="web", status=status, output=output
            )
            known[check_id] = check
            door.checks = list(known.values())
            for wake in door.wakes:
                wake()

        settings = CheckSettings(alias=door, output_max_size=200)
        runner = CheckRunner(Pretend(), on_result, settings)
        runner.start("a", CheckDefinition(alias_service="web"))
        runner.start("b", CheckDefinition(alias_service="web"))
        before = -1
        while told != before:
            before = told
            await asyncio.sleep(0.05)
        assert told < 50
        await runner.stop_all()

    run(main())


def test_overdue_checks_are_told_until_stopped(run: Run) -> None:
    async def main() -> None:
        overdue: list[str] = []
        bench = Bench(CheckSettings(on_overdue=overdue.append))
        gone = 2 * MINUTE
        bench.runner.start("t", CheckDefinition(ttl=3600 * SECOND, deregister_critical_service_after=gone))
        bench.runner.start("u", CheckDefinition(ttl=3600 * SECOND))
        bench.skip(1000)
        assert overdue == []  # critical at the start is not critical by a result
        bench.runner.ttl_update("t", "critical", "")
        bench.runner.ttl_update("u", "critical", "")
        bench.skip(119)
        assert overdue == []
        bench.skip(31)
        assert overdue == ["t"]
        bench.skip(29)
        assert overdue == ["t"]
        bench.skip(2)
        assert overdue == ["t", "t"]
        bench.runner.stop("t")
        bench.skip(31)
        assert overdue == ["t", "t"]
        assert bench.runner._next_reap is None
        await bench.runner.stop_all()

    run(main())


def test_a_defect_in_a_probe_is_critical_and_the_check_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    async def main() -> None:
        bench = Bench()

        async def broken(report: Any) -> None:
            raise ZeroDivisionError("oops")

        monkeypatch.setattr(bench.runner, "_probe", lambda definition: broken)
        bench.runner.start("c", script("true"))
        await bench.until(lambda: bench.results)
        assert bench.results == [("c", "critical", "check could not be run: ZeroDivisionError('oops')")]
        assert "c" in bench.runner._due
        await bench.runner.stop_all()

    run(main())
    (line,) = [line for line in lines if line.startswith("Check could not be run check=c")]
    assert "ZeroDivisionError: oops" in line


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_two_hundred_at_once_and_nothing_left(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        async with http_server(fixed(OK)) as server:
            address = f"127.0.0.1:{server.port}"
            before = descriptors()
            for number in range(200):
                definition = (
                    CheckDefinition(http=f"http://{address}/", interval=10 * SECOND),
                    CheckDefinition(tcp=address, interval=10 * SECOND),
                    CheckDefinition(tcp="127.0.0.1:1", interval=10 * SECOND),
                    script("echo x; exit 1"),
                )[number % 4]
                bench.runner.start(f"c{number}", definition)
            await bench.until(lambda: len(bench.results) == 200)
            found = {status for _, status, _ in bench.results}
            assert found == {"passing", "warning", "critical"}
            assert sum(status == "passing" for _, status, _ in bench.results) == 100
            await bench.until(lambda: server.open == 0 and descriptors() <= before)
            await bench.runner.stop_all()

    run(main())


def test_stopping_while_everything_runs(run: Run) -> None:
    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        bench = Bench()
        async with http_server(hang) as server:
            address = f"127.0.0.1:{server.port}"
            silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            silent.bind(("127.0.0.1", server.port))
            gc.collect()
            before = descriptors()
            definitions = [
                CheckDefinition(http=f"http://{address}/", interval=SECOND),
                CheckDefinition(http=f"https://{address}/", interval=SECOND),
                CheckDefinition(grpc=address, interval=SECOND),
                CheckDefinition(h2ping=address, h2ping_use_tls=False, interval=SECOND),
                CheckDefinition(udp=address, interval=SECOND),
                script("sleep 60"),
            ]
            for turn in range(3):
                for number in range(30):
                    bench.runner.start(f"c{turn}-{number}", definitions[number % 6])
                await asyncio.sleep(0.1)
                for number in range(30):
                    bench.runner.stop(f"c{turn}-{number}")
            await bench.runner.stop_all()
            assert bench.results == []
            await bench.until(lambda: len(asyncio.all_tasks()) <= 1 + server.open)
            await bench.until(lambda: descriptors() <= before + server.open)
            silent.close()

    run(main())


def test_a_thousand_idle_checks_cost_one_timer(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        bench.world.random = random.Random(1)
        for number in range(1000):
            bench.runner.start(f"c{number}", CheckDefinition(tcp="127.0.0.1:1", interval=3600 * SECOND))
            bench.runner.start(f"t{number}", CheckDefinition(ttl=3600 * SECOND))
        assert len(asyncio.all_tasks()) == 1
        started = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - started < 0.1
        assert len(bench.results) < 5
        await bench.runner.stop_all()

    run(main())


def test_no_checks_no_timer(run: Run) -> None:
    async def main() -> None:
        bench = Bench()
        assert bench.runner._timer is None
        await bench.runner.stop_all()

    run(main())


def test_kinds_are_imported_when_needed() -> None:
    source = Path(checks.__file__).read_text().split("class CheckRunner")[0]
    for heavy in ("h2", "ssl", "httptools", "checks_docker", "checks_http"):
        assert f"import {heavy}" not in source and f"agent.{heavy}" not in source
