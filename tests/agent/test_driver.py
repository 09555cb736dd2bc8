from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
import uvloop

from agent.driver import Driver


class Patient:
    """A machine that counts what it is told, and in which order."""

    def __init__(self, due: float) -> None:
        self.due: float | None = due
        self.told: list[str] = []

    def receive(self, source: Any, message: Any, now: float) -> None:
        self.told.append(message)
        self.due = now + 60

    def tick(self, now: float) -> None:
        self.told.append("time is up")
        self.due = None

    def deadline(self) -> float | None:
        return self.due

    def drain(self) -> None:
        return None


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("message", [True, False])
def test_who_was_asleep_listens_before_it_believes_in_silence(runner: Any, message: bool) -> None:
    async def test() -> None:
        machine = Patient(time.monotonic() + 0.05)
        driver = Driver(machine, lambda ready: None, time.monotonic)
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        loop.add_reader(here, lambda: driver.receive("them", here.recv(100).decode()))
        driver.run()
        await asyncio.sleep(0)
        if message:
            there.send(b"we are here")
        time.sleep(0.3)  # the whole process sleeps
        end = time.monotonic() + 5
        while not machine.told and time.monotonic() < end:
            await asyncio.sleep(0.001)
        assert machine.told == ["we are here" if message else "time is up"]
        driver.close()
        loop.remove_reader(here)
        here.close()
        there.close()

    runner(test())
