"""Whom to join: addresses as people write them, and trying again for ever."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from agent import joining, retry_join
from agent.joining import Target, Unresolved
from agent.logs import get_logger
from agent.retry_join import (
    EAGER_LONGEST,
    EAGER_TIME,
    LONELY_TIME,
    GaveUp,
    RetryJoin,
    check_addresses,
    start_join,
)
from agent.world import World
from core.errors import ConfigError
from core.gossip.member import ALIVE, FAILED, Member

LOG = get_logger("test")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("10.0.0.1", ("", "10.0.0.1", 8301)),
        ("10.0.0.1:99", ("", "10.0.0.1", 99)),
        ("web.example:99", ("", "web.example", 99)),
        ("n1.dc2/10.0.0.1:8302", ("n1.dc2", "10.0.0.1", 8302)),
        ("n1/[fd00::1]:8302", ("n1", "fd00::1", 8302)),
        ("[fd00::1]:99", ("", "fd00::1", 99)),
        ("[fd00::1]", ("", "fd00::1", 8301)),
        ("fd00::1", ("", "fd00::1", 8301)),
        ("::1", ("", "::1", 8301)),
    ],
)
def test_addresses(address: str, parts: tuple[str, str, int]) -> None:
    assert joining.split(address, 8301) == parts


@pytest.mark.parametrize("address", ["", ":8301", "host:port", "host:0", "host:70000", "n1/", "[]:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(Unresolved, match=r"^Failed to resolve "):
        joining.split(address, 8301)


def test_a_name_stands_for_all_its_addresses() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            return [(0, 0, 0, "", (f"10.0.0.{last}", port)) for last in (1, 2, 1)]

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        found = await joining.resolve("n/servers", 8301, socket.AF_INET)
        assert found == [Target("n", "10.0.0.1", 8301), Target("n", "10.0.0.2", 8301)]

    asyncio.run(scene())


def test_a_name_that_nobody_knows() -> None:
    async def scene() -> None:
        with pytest.raises(
            Unresolved, match=r"^Failed to resolve nowhere\.invalid: lookup nowhere\.invalid: "
        ):
            await joining.resolve("nowhere.invalid", 8301, socket.AF_INET)

    asyncio.run(scene())


def test_errors_are_listed_as_consul_lists_them() -> None:
    assert joining.report(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert joining.report(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"


def test_cloud_discovery_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"retry_join: cloud auto-join \(provider=aws\) is not supported"):
        check_addresses("retry_join", ["provider=aws tag_key=a tag_value=b"])
    with pytest.raises(ConfigError, match="is empty"):
        check_addresses("start_join", [" "])


class Pretend(World):
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        super().__init__(1)
        self.time = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        if self.time > 100_000:
            raise asyncio.CancelledError
        await asyncio.get_running_loop().create_task(_nothing())


async def _nothing() -> None:
    pass


def member(name: str, role: str = "consul", status: int = ALIVE) -> Member:
    return Member(name, "127.0.0.1", 1, {"role": role}, status)


class Pool:
    """Joins as `outcomes` say, the last one for ever; `after[n]` are the members once attempt n was made."""

    def __init__(self, world: Pretend, outcomes: list[int], after: dict[int, tuple[Member, ...]]) -> None:
        self.world, self.outcomes, self.after = world, outcomes, after
        self.attempts: list[float] = []
        self.found: tuple[Member, ...] = (member("self"),)

    def members(self) -> Sequence[Member]:
        return self.found

    async def join(self, addresses: Sequence[str]) -> tuple[int, list[str]]:
        self.attempts.append(self.world.now())
        number = len(self.attempts) - 1
        self.found = self.after.get(number, self.found)
        joined = self.outcomes[min(number, len(self.outcomes) - 1)]
        return joined, [] if joined else ["refused"]


def run(pool: Pool, monkeypatch: pytest.MonkeyPatch, until: float, attempts: int = 0) -> None:
    """Everything that happens in `until` pretended seconds."""
    world = pool.world

    async def sleep(seconds: float) -> None:
        if world.now() >= 100 + until:
            raise asyncio.CancelledError
        await world.sleep(seconds)

    monkeypatch.setattr(retry_join.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    job = RetryJoin(pool, "self", ["10.0.0.1"], 30.0, attempts, world, LOG)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(job.run())


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_the_first_success_is_told_once() -> None:
    async def scene() -> list[str]:
        told: list[str] = []
        pool = Pool(Pretend(), [0, 0, 1, 1], {})
        job = RetryJoin(pool, "self", ["10.0.0.1"], 30.0, 0, pool.world, LOG, lambda: told.append("joined"))
        seen = []
        for _ in range(4):
            await job._attempt()
            seen.append(len(told))
        assert seen == [0, 0, 1, 1]
        return told

    assert asyncio.run(scene()) == ["joined"]


def test_first_attempts_are_quick_then_they_keep_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(Pretend(), [0], {})
    run(pool, monkeypatch, 200)
    quick = [gap for gap in gaps(pool.attempts) if gap <= EAGER_LONGEST]
    assert len(quick) >= EAGER_TIME / EAGER_LONGEST and min(quick) >= 0.2
    assert len(set(quick)) > 5  # by chance, so that agents do not meet again and again
    assert gaps(pool.attempts)[-3:] == [30.0] * 3


def test_it_ends_when_a_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(Pretend(), [0, 0, 1], {2: (member("self"), member("s1"))})
    run(pool, monkeypatch, 5000)
    assert len(pool.attempts) == 3


def test_oneself_and_clients_are_not_enough_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = (member("self"), member("c1", "node"))
    pool = Pool(Pretend(), [1], {0: lonely, 4: (*lonely, member("s1"))})
    run(pool, monkeypatch, 5000)
    assert len(pool.attempts) == 5 and pool.attempts[-1] - pool.attempts[0] < EAGER_TIME


def test_it_joins_again_when_all_servers_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """design: pains row 12: the servers were replaced, and have other addresses now."""
    pool = Pool(Pretend(), [1], {0: (member("self"), member("s1")), 3: (member("self"), member("s2"))})
    world = pool.world
    sleep = world.sleep

    async def fail_later(seconds: float) -> None:
        await sleep(seconds)
        if len(pool.attempts) == 1 and world.now() > 1000:
            pool.found = (member("self"), member("s1", status=FAILED), member("c1", "node"))

    monkeypatch.setattr(world, "sleep", fail_later)
    run(pool, monkeypatch, 5000)
    assert len(pool.attempts) == 4  # and none once s2 was there
    assert 1000 + LONELY_TIME <= pool.attempts[1] <= 1000 + LONELY_TIME + 10


def test_retry_max_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(Pretend(), [0], {})
    with pytest.raises(GaveUp, match="max join retry exhausted"):
        run(pool, monkeypatch, 5000, attempts=4)
    assert len(pool.attempts) == 4


def test_start_join_must_work() -> None:
    asyncio.run(start_join(Pool(Pretend(), [0], {}), [], LOG))
    asyncio.run(start_join(Pool(Pretend(), [2], {}), ["a"], LOG))
    with pytest.raises(ConfigError, match=r"Failed to join the cluster: 1 error occurred:\n\t\* refused"):
        asyncio.run(start_join(Pool(Pretend(), [0], {}), ["a"], LOG))
