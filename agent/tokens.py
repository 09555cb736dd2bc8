"""The tokens that this agent itself works with: from its configuration, or set while it runs.

A token that was set at run time wins over the configured one. With acl.enable_token_persistence it is
kept in `acl-tokens.json` in the data directory, under Consul's names, readable by the agent alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from core.api.endpoint import TokenKind
from core.codec import gojson
from core.errors import Unavailable

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World

KINDS: tuple[TokenKind, ...] = get_args(TokenKind)
Tokens = Mapping[TokenKind, str]
FILE = "acl-tokens.json"
_OLD_NAMES = {"agent_master": "agent_recovery"}  # Consul before 1.11


class AgentTokens:
    """TokensDoor. `folder`: where tokens are kept, None when they are not."""

    def __init__(self, configured: Tokens, folder: Path | None, world: World, log: Logger) -> None:
        self._configured = dict(configured)
        self._path = folder / FILE if folder is not None else None
        self._world = world
        self._log = log
        self._writing = asyncio.Lock()
        self.on_change: Callable[[], None] = lambda: None
        self._given: dict[TokenKind, str] = self._load() if self._path is not None else {}
        for kind in self._given:
            if self._configured[kind]:
                log.warn(
                    "token is in the configuration and was set at run time; the latter counts", kind=kind
                )

    def secret(self, kind: TokenKind) -> str:
        """The secret in use, "" when there is none."""
        given = self._given.get(kind)
        return self._configured[kind] if given is None else given

    @property
    def for_agent(self) -> str:
        """The secret for the agent's own work: registering itself, coordinates, sync of what has no other."""
        return self.secret("agent") or self.secret("default")

    @property
    def for_dns(self) -> str:
        """The secret that questions over DNS are asked with."""
        return self.secret("dns") or self.secret("default")

    def reload(self, configured: Tokens) -> None:
        """Take over a new configuration. What changed there counts again, unless run-time tokens are kept."""
        for kind, secret in configured.items():
            if secret != self._configured[kind] and self._path is None:
                self._given.pop(kind, None)
        self._configured = dict(configured)
        self.on_change()

    async def set(self, kind: TokenKind, secret: str) -> None:
        """Use this one from now on. Unavailable when it cannot be stored; it is in use nevertheless."""
        self._given[kind] = secret
        self.on_change()
        path = self._path
        if path is None:
            return
        async with self._writing:
            body = gojson.encode({kind: given for kind, given in self._given.items() if given})
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._world.write_file, path, body)
            except OSError as error:
                text = f"the token is in use but was not kept for a restart: {path}: {error.strerror}"
                raise Unavailable(text) from None

    def _load(self) -> dict[TokenKind, str]:
        assert self._path is not None
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._log.error("cannot read the tokens that were set at run time", file=self._path, error=error)
            return {}
        named = {_OLD_NAMES.get(name, name): secret for name, secret in found.items()}
        return {kind: named[kind] for kind in KINDS if named.get(kind)}
