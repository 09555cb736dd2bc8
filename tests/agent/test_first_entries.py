"""`config_entries.bootstrap`: what a new leader writes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.first_entries import first_entries, write_first
from agent.logs import get_logger
from core.errors import ConfigError, Invalid
from core.store.fsm import FSM
from tests.harness import Agent, until

DEFAULTS = {"kind": "proxy-defaults", "name": "global", "config": {"protocol": "http"}}
WEB = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


class Log:
    """A log whose commands are applied at once, or refused."""

    def __init__(self) -> None:
        self.fsm = FSM()
        self.index = 0
        self.refusal: Invalid | None = None

    async def apply(self, data: bytes) -> object:
        if self.refusal is not None:
            return self.refusal
        self.index += 1
        return self.fsm.apply(self.index, data)

    def lead(self, *configured: Any) -> None:
        store = self.fsm.store
        asyncio.run(write_first(first_entries(configured), store, self.apply, get_logger("agent")))

    def protocol(self, name: str) -> Any:
        found = self.fsm.store.config_entry("service-defaults", name)[1]
        return found and found["Protocol"]


def test_each_is_written_once() -> None:
    log = Log()
    log.lead(DEFAULTS, WEB)
    assert log.fsm.store.config_entry("proxy-defaults", "global")[1] is not None
    assert (log.protocol("web"), log.index) == ("http", 2)
    log.lead(DEFAULTS, {**WEB, "Protocol": "grpc"}, {**WEB, "Name": "api"})
    assert (log.protocol("web"), log.protocol("api"), log.index) == ("http", "http", 3)


def test_what_is_refused_ends_it() -> None:
    log = Log()
    log.refusal = Invalid("no")
    log.lead(WEB)
    assert log.protocol("web") is None


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"name": "web"}, "Payload does not contain a kind/Kind key at the top level"),
        ({"kind": "nope", "name": "web"}, "invalid config entry kind: nope"),
        ({"kind": "proxy-defaults", "name": "web"}, 'invalid name \\("web"\\), only "global" is supported'),
    ],
)
def test_what_is_no_entry(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^config_entries\.bootstrap\[1\]: .*{text}"):
        first_entries([WEB, entry])


def test_a_leader_writes_them(tmp_path: Path) -> None:
    with Agent(tmp_path, config={"config_entries": {"bootstrap": [DEFAULTS, WEB]}}) as agent:
        until("it is written", lambda: agent.http("GET", "/v1/config/service-defaults/web").status == 200)
        assert agent.get("/v1/config/proxy-defaults/global")["Config"] == {"protocol": "http"}
