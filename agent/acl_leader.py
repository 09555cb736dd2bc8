"""What a leader owes the ACL system: the built-in policy and tokens are there, expired tokens go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from core.acl.builtin import ANONYMOUS_SECRET, anonymous_token, management_policy, management_token
from core.acl.expiry import BATCH, expired
from core.codec.msgpack import encode_time
from core.errors import CtlError, Invalid
from core.store import commands
from core.store.acl import GLOBAL_MANAGEMENT
from core.store.acl_structs import (
    ACLPolicyBatchSetRequest,
    ACLToken,
    ACLTokenBatchDeleteRequest,
    ACLTokenBatchSetRequest,
    ACLTokenBootstrapRequest,
)

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.acl.settings import AclSettings
    from core.store.state import Store

_LOOK = 30.0  # seconds between looks for expired tokens; none lives shorter than a minute


class AclDuties:
    """ACL work of the leader. `apply` writes a log command and raises what the state machine refused."""

    def __init__(
        self,
        settings: AclSettings,
        store: Store,
        apply: Callable[[bytes], Awaitable[object]],
        world: World,
        logger: Logger,
    ) -> None:
        self._settings = settings
        self._store = store
        self._apply = apply
        self._world = world
        self._log = logger

    async def take_office(self) -> None:
        """Make what is missing of the built-in policy and tokens (protocols/fsm.md section 9)."""
        settings, store = self._settings, self._store
        if not settings.enabled or settings.datacenter != settings.primary_datacenter:
            return
        if store.acl_policies.get(GLOBAL_MANAGEMENT) is None:
            policies = ACLPolicyBatchSetRequest([management_policy()])
            await self._apply(commands.command(commands.ACL_POLICY_SET, policies))
            self._log.info("created the policy global-management")
        if settings.initial_management and store.token_by_secret(settings.initial_management) is None:
            await self._make_management_token(settings.initial_management)
        if store.token_by_secret(ANONYMOUS_SECRET) is None:
            await self._set(anonymous_token(self._time()))
            self._log.info("created the anonymous token")

    async def _make_management_token(self, secret: str) -> None:
        token = management_token(self._world.uuid(), secret, "Initial Management Token", self._time())
        if self._store.bootstrap_allowed():
            try:
                request = ACLTokenBootstrapRequest(token)
                await self._apply(commands.command(commands.ACL_BOOTSTRAP, request))
            except Invalid as error:  # somebody was faster
                self._log.warn("the initial management token does not count as bootstrap", error=str(error))
            else:
                self._log.info("bootstrapped the initial management token from the configuration")
                return
        await self._set(token)
        self._log.info("created the initial management token from the configuration")

    async def _set(self, token: ACLToken) -> None:
        await self._apply(commands.command(commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest([token])))

    def _time(self) -> bytes:
        nanoseconds = int(self._world.wall() * 1e9)
        return encode_time(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)

    async def reap_expired(self) -> None:
        """Delete tokens that have ended, for as long as this server leads."""
        while True:
            copies = self._settings.datacenter != self._settings.primary_datacenter
            accessors, pause = expired(self._store, self._world.wall(), _LOOK, local_only=copies)
            try:
                for start in range(0, len(accessors), BATCH):
                    request = ACLTokenBatchDeleteRequest(accessors[start : start + BATCH])
                    await self._apply(commands.command(commands.ACL_TOKEN_DELETE, request))
            except CtlError as error:
                self._log.error("failed to delete expired tokens", error=str(error))
            else:
                if accessors:
                    self._log.info("deleted expired tokens", number=len(accessors))
            await asyncio.sleep(pause)
