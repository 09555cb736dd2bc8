"""Tokens and their judges, as this agent knows them (endpoint.Permissions): a server looks into its own
state, a client agent asks a server and remembers what it was told (agent/acl_client.py)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import TYPE_CHECKING

from core.acl.builtin import ANONYMOUS_SECRET
from core.acl.resolve import not_found
from core.errors import NoLeader
from core.store.watch import Watch

if TYPE_CHECKING:
    from agent.tokens import AgentTokens
    from agent.world import World
    from core.acl.authorizer import Judge
    from core.acl.resolve import Judges
    from core.store.acl_structs import ACLPolicy, ACLRole, ACLToken
    from core.store.state import Store

_MAX_JUDGES = 8192


class ServerPermissions:
    """Permissions of a server: all tokens are in its state. `changed()` is called after a change of ACLs:
    what was answered to a token before may no longer be given to it."""

    def __init__(
        self,
        store: Store,
        judges: Judges,
        tokens: AgentTokens,
        world: World,
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._judges = judges
        self._tokens = tokens
        self._world = world
        self._changed = changed
        self._known: dict[str, tuple[ACLToken | None, Judge]] = {}
        self._hear(self.forget, "acl-policies", "acl-roles")
        self._hear(self._tokens_changed, "acl-tokens")

    def token(self, given: str) -> str:
        """The token that counts: the one given with a request, else the agent's default token."""
        return given or self._tokens.secret("default")

    def known(self, token: str) -> Judge:
        """The judge of a token (`""`: the anonymous one). Denied ("ACL not found") when there is none."""
        known = self._known.get(token)
        if known is None:
            if len(self._known) >= _MAX_JUDGES:
                self.forget()
            known = self._known[token] = self._resolve(token)
        judge = known[1]
        if judge.expires_at and judge.expires_at <= self._world.wall():
            raise not_found()
        return judge

    def has(self, token: str) -> bool:
        """Whether the token is in the state, or the agent's own recovery token."""
        if self._row(token) is not None:
            return True
        return self._judges.recovery(token, self._tokens.secret("agent_recovery")) is not None

    def latest(self, token: str) -> None:
        """Nothing is known that `known` does not tell."""

    async def find(self, token: str) -> Judge:
        """The same: a server needs to ask nobody."""
        return self.known(token)

    def role(self, role_id: str) -> ACLRole | None:
        """A role by its id."""
        return self._store.acl_roles.rows.get(role_id.lower())

    def policy(self, policy_id: str) -> ACLPolicy | None:
        """A policy by its id."""
        return self._store.acl_policies.rows.get(policy_id.lower())

    def _resolve(self, token: str) -> tuple[ACLToken | None, Judge]:
        """The row of a token and its judge."""
        judge = self._judges.recovery(token, self._tokens.secret("agent_recovery"))
        row = self._row(token)
        if judge is not None:
            return row, judge
        if row is not None:
            return row, self._judges.of(row, self)
        if token:
            raise NoLeader() if self._is_awaited(token) else not_found()
        return None, self._judges.of_nobody()

    def _is_awaited(self, token: str) -> bool:
        """Whether this is the first management token, which the first leader has not made yet: the
        anonymous token is the last thing that it makes."""
        wanted = self._judges.settings.initial_management.encode()
        given = token.encode("utf-8", "surrogateescape")
        return bool(wanted) and compare_digest(given, wanted) and self._row("") is None

    def _row(self, token: str) -> ACLToken | None:
        return self._store.token_by_secret(token or ANONYMOUS_SECRET)

    def forget(self) -> None:
        """What was known holds no longer."""
        self._known.clear()
        self._changed()

    def _tokens_changed(self) -> None:
        """Forget the tokens that are not what they were. New ones, which every login makes, have not been
        answered to yet and cost the others nothing."""
        changed = [token for token, (row, _) in self._known.items() if self._row(token) is not row]
        for token in changed:
            del self._known[token]
        if changed:
            self._changed()

    def _hear(self, callback: Callable[[], None], *tables: str) -> None:
        """Call whenever one of the tables has changed, after the whole command."""

        def fired() -> None:
            self._hear(callback, *tables)
            callback()

        watch = Watch()
        self._store.watch_cell(watch, *tables)
        watch.on_fire(fired)
