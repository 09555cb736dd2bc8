"""One call of one command: what was typed, the agent to ask, and where results go."""

from __future__ import annotations

import os
import sys

from cli.client import Client, boolean
from cli.command import Command, Usage
from cli.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.client import Response
    from cli.parse import Parsed
    from cli.wire import Query


class Call:
    """Handed to every command function. `name` is the word this program was called by."""

    def __init__(self, command: Command, parsed: Parsed, name: str) -> None:
        self.command = command
        self.values = parsed.values
        self.arguments = parsed.arguments
        self.name = name
        self.out = Output(parsed.values)
        self._client: Client | None = None

    # flags

    def text(self, flag: str, default: str = "") -> str:
        value = self.values.get(flag, default)
        return value if isinstance(value, str) else default

    def yes(self, flag: str, default: bool = False) -> bool:
        return bool(self.values.get(flag, default))

    def number(self, flag: str, default: int = 0) -> int:
        value = self.values.get(flag, default)
        return value if isinstance(value, int) else default

    def many(self, flag: str) -> list[str]:
        value = self.values.get(flag)
        return value if isinstance(value, list) else []

    def pairs(self, flag: str) -> dict[str, str]:
        value = self.values.get(flag)
        return value if isinstance(value, dict) else {}

    def argument(self, position: int, default: str = "") -> str:
        return self.arguments[position] if position < len(self.arguments) else default

    # the agent

    @property
    def client(self) -> Client:
        if self._client is None:
            for tenancy in ("namespace", "partition"):
                if self.text(tenancy) not in ("", "default"):
                    raise Usage(f"Error: -{tenancy} is a feature of Consul Enterprise; only `default` exists")
            self._client = Client(self.values)
        return self._client

    def query(self, *more: tuple[str, str]) -> Query:
        """The common query parameters that the flags ask for, and `more`."""
        query = list(more)
        if not self.command.server:
            return query
        datacenter = self.text("datacenter") or os.environ.get("CTL_DATACENTER", "")
        if datacenter:
            query.append(("dc", datacenter))
        if self.yes("stale"):
            query.append(("stale", ""))
        return query

    def get(self, path: str, *query: tuple[str, str]) -> Response:
        return self.client.get(path, self.query(*query))

    def fetch(self, path: str, *query: tuple[str, str]) -> Any:
        """The decoded answer of a GET; ServerError unless it is 200."""
        return self.get(path, *query).checked().json()

    def send(self, path: str, *query: tuple[str, str], body: bytes = b"") -> Response:
        """A PUT that must succeed."""
        return self.client.put(path, self.query(*query), body).checked()


def strict_exit(values: dict[str, Any]) -> bool:
    """Whether finer exit codes are wanted (`--strict-exit` or CTL_STRICT_EXIT)."""
    if "strict-exit" in values:
        return bool(values["strict-exit"])
    return boolean(os.environ.get("CTL_STRICT_EXIT", ""), "CTL_STRICT_EXIT", default=False)


def note(text: str) -> None:
    """A line for the person, not for the pipe: stderr."""
    sys.stderr.write(text + "\n")
