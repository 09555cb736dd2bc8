"""The agent's own tokens: configured, set at run time, kept over restarts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.logs import get_logger
from agent.tokens import KINDS, AgentTokens
from agent.world import World
from core.api.endpoint import TokenKind
from core.errors import Unavailable

log = get_logger("test")


def made(folder: Path | None = None, **configured: str) -> AgentTokens:
    return AgentTokens(every(**configured), folder, World(), log)


def every(**configured: str) -> dict[TokenKind, str]:
    return {kind: configured.get(kind, "") for kind in KINDS}


def test_the_agents_work_goes_by_its_own_token_else_by_the_default_one() -> None:
    tokens = made(default="d")
    assert (tokens.for_agent, tokens.for_dns) == ("d", "d")
    tokens = made(default="d", agent="a", dns="n")
    assert (tokens.for_agent, tokens.for_dns) == ("a", "n")
    assert made().for_agent == ""


def test_what_is_set_counts_and_is_told() -> None:
    tokens = made(default="d")
    told: list[str] = []
    tokens.on_change = lambda: told.append(tokens.secret("default"))
    asyncio.run(tokens.set("default", "x"))
    assert tokens.secret("default") == "x"
    asyncio.run(tokens.set("default", ""))
    assert tokens.secret("default") == ""
    assert told == ["x", ""]


def test_a_changed_configuration_counts_again() -> None:
    tokens = made(default="d", agent="a")
    asyncio.run(tokens.set("default", "x"))
    asyncio.run(tokens.set("agent", "y"))
    tokens.reload(every(default="e", agent="a"))
    assert (tokens.secret("default"), tokens.secret("agent")) == ("e", "y")


def test_tokens_outlast_a_restart(tmp_path: Path) -> None:
    tokens = made(tmp_path, default="d")
    asyncio.run(tokens.set("default", "x"))
    asyncio.run(tokens.set("agent_recovery", "r"))
    file = tmp_path / "acl-tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_bytes()) == {"default": "x", "agent_recovery": "r"}
    again = made(tmp_path, default="d")
    assert (again.secret("default"), again.secret("agent_recovery")) == ("x", "r")
    again.reload(every(default="e"))
    assert again.secret("default") == "x", "what is kept wins over the configuration"


def test_a_file_of_consul_is_read(tmp_path: Path) -> None:
    (tmp_path / "acl-tokens.json").write_text('{"agent_master": "m", "replication": "r", "default": ""}')
    tokens = made(tmp_path, default="d")
    assert [tokens.secret(kind) for kind in ("agent_recovery", "replication", "default")] == ["m", "r", "d"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"default": 1}', "\xff"])
def test_a_damaged_file_is_no_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "acl-tokens.json").write_text(text, "latin-1")
    assert made(tmp_path, default="d").secret("default") == "d"


def test_a_disk_that_fails_is_told_but_the_token_counts(tmp_path: Path) -> None:
    tokens = made(tmp_path / "gone")
    with pytest.raises(Unavailable, match="not kept for a restart"):
        asyncio.run(tokens.set("default", "x"))
    assert tokens.secret("default") == "x"
