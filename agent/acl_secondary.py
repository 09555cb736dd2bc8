"""Permissions of a server outside of the primary datacenter that keeps no copies of its tokens: tokens of
its own state first, all others the primary datacenter is asked about (agent/acl_client.py), with
acl.down_policy when that is out of reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from core.acl.authorizer import Judge

if TYPE_CHECKING:
    from agent.acl import ServerPermissions
    from agent.acl_client import ClientPermissions
    from agent.world import World
    from core.acl.access import Authorizer

_FOUND_SECONDS = 1.0  # that a judge serves whoever waited for it, also one that may not be remembered
_MAX_FOUND = 8192


J = TypeVar("J", "Authorizer", "Authorizer | None")


def _passing(judge: J) -> J:
    """Nobody tells this server when such a token is changed: what it was given is not to be kept."""
    if isinstance(judge, Judge) and not judge.expires_at:
        judge.expires_at = math.inf
    return judge


class SecondaryPermissions:
    """endpoint.Permissions. `here` knows our own tokens, `there` asks the primary datacenter."""

    def __init__(self, here: ServerPermissions, there: ClientPermissions, world: World) -> None:
        self._here, self._there, self._world = here, there, world
        self._found: dict[str, tuple[Authorizer, float]] = {}

    def token(self, given: str) -> str:
        """The token that counts: the one given with a request, else the agent's default token."""
        return self._here.token(given)

    def known(self, token: str) -> Authorizer | None:
        """The judge of a token, None when the primary datacenter must be asked. Denied."""
        if self._here.has(token):
            return self._here.known(token)
        judge = _passing(self._there.known(token))
        if judge is None:
            found = self._found.get(token)
            if found is not None and self._world.now() < found[1]:
                return found[0]
        return judge

    def latest(self, token: str) -> Authorizer | None:
        """The last judge that was found, for those who have waited long and cannot wait again."""
        found = self._found.get(token)
        return None if found is None else found[0]

    async def find(self, token: str) -> Authorizer:
        """The judge of a token. Denied when there is none."""
        if self._here.has(token):
            return self._here.known(token)
        judge = _passing(await self._there.find(token))
        if len(self._found) >= _MAX_FOUND:
            self._found.clear()
        self._found[token] = (judge, self._world.now() + _FOUND_SECONDS)
        return judge
