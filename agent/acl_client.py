"""Permissions of a client agent: it asks a server for tokens, roles and policies and remembers them
(protocols/rpc.md section 6). When no server answers, acl.down_policy says what then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

from core.acl.access import UNLIMITED, Authorizer
from core.acl.builtin import ANONYMOUS_SECRET
from core.acl.resolve import not_found
from core.api.remote_structs import DatacenterRead
from core.codec import wire
from core.codec.duration import SECOND
from core.codec.msgpack import DecodeError
from core.errors import CtlError, Denied, Unauthorized, Unavailable
from core.store.acl_structs import ACLPolicy, ACLRole, ACLToken

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.tokens import AgentTokens
    from agent.world import World
    from core.acl.resolve import Judges

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]
Row = TypeVar("Row", ACLRole, ACLPolicy)

_MAX_TOKENS = 8192
_SHORTLY = 5.0  # seconds until servers are asked again that did not answer, or knew no such token


class _Known(Struct):
    """What is known of a token: its judge, or None when there is no such token; good until then."""

    judge: Authorizer | None
    until: float
    expires_at: float = 0.0


class _Rows(Generic[Row]):
    """Rows of one table that servers told of; None for what is not there."""

    def __init__(self, ttl: int) -> None:
        self.ttl = ttl / SECOND
        self._rows: dict[str, tuple[Row | None, float]] = {}

    def get(self, row_id: str) -> Row | None:
        return self._rows.get(row_id, (None, 0.0))[0]

    def missing(self, wanted: Iterable[str], now: float) -> list[str]:
        """Those of `wanted` that are not known (any more)."""
        return [row_id for row_id in dict.fromkeys(wanted) if self._rows.get(row_id, (None, 0.0))[1] <= now]

    def take(self, asked: Iterable[str], rows: Iterable[Row], now: float) -> None:
        """What a server answered when it was asked for these."""
        found = {row.id: row for row in rows}
        for row_id in asked:
            self._rows.pop(row_id, None)
            self._rows[row_id] = (found.get(row_id), now + self.ttl)
        while len(self._rows) > _MAX_TOKENS:  # the oldest go
            del self._rows[next(iter(self._rows))]

    def until(self, wanted: Iterable[str]) -> float:
        """Until when all of these are good."""
        return min((self._rows.get(row_id, (None, 0.0))[1] for row_id in wanted), default=float("inf"))


class ClientPermissions:
    """endpoint.Permissions. `ask(method, body)` calls a server; it raises CtlError."""

    def __init__(
        self,
        judges: Judges,
        tokens: AgentTokens,
        ask: Ask,
        world: World,
        logger: Logger,
        datacenter: str = "",
    ) -> None:
        """`datacenter`: which one is asked, unless it is the agent's own."""
        self._judges = judges
        self._tokens = tokens
        self._ask = ask
        self._world = world
        self._log = logger
        settings = judges.settings
        self._datacenter = datacenter or settings.datacenter
        self._token_ttl = settings.token_ttl / SECOND
        self._down_policy = settings.down_policy
        self._known: dict[str, _Known] = {}
        self._roles: _Rows[ACLRole] = _Rows(settings.role_ttl)
        self._policies: _Rows[ACLPolicy] = _Rows(settings.policy_ttl)
        self._asking: dict[str, asyncio.Task[Authorizer]] = {}

    def token(self, given: str) -> str:
        """The token that counts: the one given with a request, else the agent's default token."""
        return given or self._tokens.secret("default")

    def known(self, token: str) -> Authorizer | None:
        """The judge of a token, None when a server must be asked first. Denied when there is none."""
        judge = self._judges.recovery(token, self._tokens.secret("agent_recovery"))
        if judge is not None:
            return judge
        known = self._known.get(token)
        if known is None:
            return None
        if known.until <= self._world.now():
            if self._down_policy != "async-cache" or known.judge is None:
                return None
            self._begin(token)  # what was known serves until the answer is here
        return self._given(known)

    def latest(self, token: str) -> Authorizer | None:
        """The last judge of a token, good or not."""
        known = self._known.get(token)
        return None if known is None else known.judge

    async def find(self, token: str) -> Authorizer:
        """The judge of a token, asking a server where needed; those who wait for it share a call."""
        known = self.known(token)
        return known if known is not None else await asyncio.shield(self._begin(token))

    def role(self, role_id: str) -> ACLRole | None:
        """A role that a server told of."""
        return self._roles.get(role_id)

    def policy(self, policy_id: str) -> ACLPolicy | None:
        """A policy that a server told of."""
        return self._policies.get(policy_id)

    def _given(self, known: _Known) -> Authorizer:
        if known.judge is None or 0 < known.expires_at <= self._world.wall():
            raise not_found()
        return known.judge

    def _begin(self, token: str) -> asyncio.Task[Authorizer]:
        task = self._asking.get(token)
        if task is None:
            task = self._asking[token] = asyncio.get_running_loop().create_task(self._find(token))
            task.add_done_callback(lambda ended: self._ended(token, ended))
        return task

    def _ended(self, token: str, task: asyncio.Task[Authorizer]) -> None:
        del self._asking[token]
        if not task.cancelled():
            task.exception()  # those who wait hear of it; without any it is no news

    async def _find(self, token: str) -> Authorizer:
        old = self._known.get(token)
        try:
            known = await self._asked(token)
        except Denied as error:
            if "ACL not found" not in error.text:
                raise
            known = _Known(None, self._world.now() + min(self._token_ttl, _SHORTLY))
        except Unauthorized:
            # Servers without ACLs protect nothing, so there is nothing that this agent could.
            self._log.warn("ACLs are on here and off at the servers: nothing is protected")
            known = _Known(UNLIMITED, self._world.now() + self._token_ttl)
        except CtlError as error:
            return self._down(token, old, error)
        if len(self._known) >= _MAX_TOKENS:
            self._known.clear()
        self._known[token] = known
        return self._given(known)

    def _down(self, token: str, old: _Known | None, error: CtlError) -> Authorizer:
        """No server said anything of use."""
        self._log.error("cannot resolve a token", error=error.text)
        if old is not None and old.judge is not None and self._down_policy in ("extend-cache", "async-cache"):
            old.until = self._world.now() + min(self._token_ttl, _SHORTLY)
            return self._given(old)
        return self._judges.when_down()

    async def _asked(self, secret: str) -> _Known:
        """What the servers say of a token now."""
        began = self._world.now()
        row = await self._read_token(secret)
        role_ids = [link.id for link in row.roles or ()]
        await self._fill(self._roles, ACLRole, "Role", role_ids, secret, began)
        owners: list[ACLToken | ACLRole] = [row]
        owners += [role for role_id in role_ids if (role := self.role(role_id)) is not None]
        policy_ids = [link.id for owner in owners for link in owner.policies or ()]
        await self._fill(self._policies, ACLPolicy, "Policy", policy_ids, secret, began)
        until = min(began + self._token_ttl, self._roles.until(role_ids), self._policies.until(policy_ids))
        judge = self._judges.of(row, self)
        return _Known(judge, until, judge.expires_at)

    async def _read_token(self, secret: str) -> ACLToken:
        body = {"TokenID": secret or ANONYMOUS_SECRET, "TokenIDType": "secret"}
        reply = await self._call("ACL.TokenRead", body, secret)
        found = reply.get(b"Token")
        if found is None:
            if secret:
                raise not_found()
            return ACLToken(accessor_id=self._judges.of_nobody().accessor)
        token: ACLToken = self._understood(ACLToken, [found])[0]
        return token

    async def _fill(
        self, rows: _Rows[Row], cls: type[Row], what: str, wanted: list[str], secret: str, now: float
    ) -> None:
        """Learn of those rows that are not known (any more)."""
        missing = rows.missing(wanted, now)
        if missing:
            plural = "Policies" if what == "Policy" else "Roles"
            reply = await self._call(f"ACL.{what}Resolve", {f"{what}IDs": missing}, secret)
            rows.take(missing, self._understood(cls, reply.get(plural.encode())), now)

    def _understood(self, cls: type[Any], rows: Any) -> list[Any]:
        try:
            return wire.from_wire_list(cls, rows)
        except DecodeError as error:
            raise Unavailable(f"rpc error making call: {error}") from None

    async def _call(self, method: str, body: dict[str, Any], secret: str) -> dict[bytes, Any]:
        options = DatacenterRead(token=secret, allow_stale=True, datacenter=self._datacenter)
        reply = await self._ask(method, dict(sorted((wire.to_wire(options) | body).items())))
        if not isinstance(reply, dict):
            raise Unavailable(f"rpc error making call: {method}: the reply is no map")
        return reply
