"""A real `serf` agent, driven by its own commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

from tests.agent.gossip_pools import address

DEADLINE = 15.0
# Every event as a line, with its payload; a query is answered with its payload in capitals.
_HANDLER = """#!/bin/sh
payload=$(cat)
name="${SERF_USER_EVENT:-$SERF_QUERY_NAME}"
echo "$SERF_EVENT $name" $payload >> "$1"
if [ "$SERF_EVENT" = query ]; then printf %s "$payload" | tr a-z A-Z; fi
"""


class SerfAgent:
    """One agent on an address of its own, with the timing of the LAN."""

    def __init__(self, program: str, folder: Path, name: str, *options: str) -> None:
        self.program, self.name, self.options = program, name, options
        self.address = address()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._handled = folder / f"{name}.events"

    @property
    def place(self) -> str:
        return f"{self.address}:7946"

    async def start(self) -> None:
        script = self._folder / "handler.sh"
        script.write_text(_HANDLER)
        script.chmod(0o755)
        with (self._folder / f"{self.name}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self.program,
                "agent",
                f"-node={self.name}",
                f"-bind={self.place}",
                f"-rpc-addr={self.address}:7373",
                f"-event-handler={script} {self._handled}",
                "-profile=lan",
                "-log-level=debug",
                *self.options,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(500):
            if (await self.run("info"))[0] == 0:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"serf does not start:\n{self.log()}")

    async def run(self, command: str, *words: str) -> tuple[int, str]:
        """A command of the CLI: its exit code, and what it printed."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            command,
            f"-rpc-addr={self.address}:7373",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
        return process.returncode or 0, output.decode()

    async def ok(self, command: str, *words: str) -> str:
        code, output = await self.run(command, *words)
        assert code == 0, f"serf {command} {words}: {code}\n{output}\n{self.log()}"
        return output

    async def members(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Status and tags by name."""
        found = json.loads(await self.ok("members", "-format=json"))
        return {one["name"]: (one["status"], one["tags"] or {}) for one in found["members"]}

    async def statuses(self) -> dict[str, str]:
        return {name: status for name, (status, _) in (await self.members()).items()}

    def handled(self) -> list[str]:
        """What the event handler was called with."""
        return self._handled.read_text().splitlines() if self._handled.exists() else []

    def log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text(errors="replace")[-6000:]

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)

    async def end(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
