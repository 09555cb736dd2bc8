"""Imports point one way (core/README.md), and small commands stay small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import HOUSES, ROOT, imports, python_files

LEAVES = {"errors", "machine", "version"}
# room of core -> rooms that it may import, besides itself and the leaves
DIRECTION = {
    "errors": set(),
    "machine": set(),
    "version": set(),
    "metrics": set(),
    "certs": set(),
    "codec": set(),
    "raft": {"codec"},
    "store": {"codec"},
    "acl": {"codec", "store"},
    "gossip": {"codec"},
    "node": {"store", "gossip", "raft", "codec"},
    "config": {"codec", "node", "store"},  # node.definitions and store.structs: what files define
    "api": {"node", "acl", "gossip", "raft", "store", "codec", "metrics"},
    "watch": {"codec"},
    "template": {"codec"},
    "dns": {"api", "acl", "node", "store", "codec"},
}
# Of other rooms than `codec` and the leaves, configuration sees what it decodes only: shapes and their rules.
CONFIG_SEES = {"core.node.definitions", "core.node.registration", "core.store.structs"}
OUTSIDE = {"core": {"msgspec", "msgpack", "sortedcontainers", "cryptography", "jwt", "jinja2"}}


@pytest.mark.parametrize("path", python_files("core"), ids=str)
def test_core_imports_point_one_way(path: Path) -> None:
    room = path.parts[1].removesuffix(".py")
    if room == "__init__":
        return
    for name, line in imports(path):
        house, _, rest = name.partition(".")
        assert house not in ("agent", "cli", "tests"), f"{path}:{line}: core imports {name}"
        if house == "core":
            other = rest.split(".")[0]
            allowed = DIRECTION[room] | LEAVES | {room}
            assert other in allowed, f"{path}:{line}: {room} imports {name}"
            if room == "config" and other in ("node", "store"):
                assert name in CONFIG_SEES, f"{path}:{line}: config imports {name}"
        else:
            known = house in sys.stdlib_module_names or house in OUTSIDE["core"]
            assert known, f"{path}:{line}: core imports {name}"


@pytest.mark.parametrize("path", python_files("agent"), ids=str)
def test_agent_does_not_import_cli(path: Path) -> None:
    for name, line in imports(path):
        assert name.split(".")[0] not in ("cli", "tests"), f"{path}:{line}: agent imports {name}"


@pytest.mark.parametrize("path", python_files("cli"), ids=str)
def test_cli_loads_agent_within_commands_only(path: Path) -> None:
    for name, line in imports(path, top_only=True):
        assert name.split(".")[0] not in ("agent", "tests"), f"{path}:{line}: cli imports {name}"
    for name, line in imports(path):
        if name.split(".")[0] == "agent":
            assert path.name in LOAD_AGENT, f"{path}:{line}: imports {name}"


def test_every_room_is_in_the_picture() -> None:
    rooms = {path.parts[1].removesuffix(".py") for path in python_files("core")} - {"__init__"}
    assert rooms == set(DIRECTION)


def test_houses_are_packages() -> None:
    for path in python_files(*HOUSES):
        assert (ROOT / path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


HEAVY = {
    *("asyncio", "typer", "rich", "httpx", "pydantic", "inspect", "dataclasses", "msgspec"),
    *("cryptography", "yaml", "tomllib", "email", "http.client", "jinja2"),
}
# The daemon itself, and what reads configuration files as the daemon does.
LOAD_AGENT = {"agent.py", "template.py", "definitions.py", "recover.py", "doctorfacts.py"}
RARE = {
    *(
        "typer",
        "rich",
        "httpx",
        "h2",
        "cryptography",
        "yaml",
        "jinja2",
        "tomllib",
        "http.client",
        "email",
        "sqlite3",
        "jwt",
    ),
}


def _loaded(code: str) -> set[str]:
    program = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_small_command_imports_nothing_heavy() -> None:
    """`ctl kv get` must cost little more than Python's own start."""
    loaded = _loaded("import cli.main, cli.kv")
    assert not loaded & HEAVY


def test_the_daemon_imports_only_what_every_daemon_needs() -> None:
    """HTTP answers within a second of exec, two starting at once: rare features load when used."""
    assert not _loaded("import agent.main") & RARE
