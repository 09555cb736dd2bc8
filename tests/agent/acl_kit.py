"""A pretended clock, a state that takes commands, and servers that tell of it, for tests of permissions."""

from __future__ import annotations

from typing import Any

from agent.logs import get_logger
from agent.tokens import KINDS, AgentTokens
from agent.world import World
from core.acl.settings import AclSettings
from core.codec import msgpack, wire
from core.errors import CtlError
from core.store import commands
from core.store.acl_structs import (
    ACLLink,
    ACLPolicy,
    ACLPolicyBatchSetRequest,
    ACLRole,
    ACLRoleBatchSetRequest,
    ACLToken,
    ACLTokenBatchDeleteRequest,
    ACLTokenBatchSetRequest,
)
from core.store.fsm import FSM

SETTINGS = AclSettings(enabled=True, default_policy="deny")
log = get_logger("test")


class Clock(World):
    """Time goes when it is told to."""

    def __init__(self) -> None:
        super().__init__(1)
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class State:
    """The replicated state of pretended servers."""

    def __init__(self) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.index = 0

    def apply(self, data: bytes) -> object:
        self.index += 1
        result = self.fsm.apply(self.index, data)
        if isinstance(result, Exception):
            raise result
        return result

    def policy(self, name: str, rules: str) -> None:
        request = ACLPolicyBatchSetRequest([ACLPolicy(id=name, name=name, rules=rules)])
        self.apply(commands.command(commands.ACL_POLICY_SET, request))

    def role(self, name: str, *policies: str) -> None:
        request = ACLRoleBatchSetRequest([ACLRole(id=name, name=name, policies=_links(policies))])
        self.apply(commands.command(commands.ACL_ROLE_SET, request))

    def token(self, secret: str, *policies: str, role: str = "", ends: float = 0.0) -> None:
        token = ACLToken(
            accessor_id=f"acc-{secret}",
            secret_id=secret,
            policies=_links(policies),
            roles=_links((role,)) if role else None,
            expiration_time=msgpack.encode_time(int(ends)) if ends else None,
        )
        self.apply(commands.command(commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest([token])))

    def drop(self, secret: str) -> None:
        request = ACLTokenBatchDeleteRequest([f"acc-{secret}"])
        self.apply(commands.command(commands.ACL_TOKEN_DELETE, request))


def _links(ids: tuple[str, ...]) -> list[ACLLink]:
    return [ACLLink(one) for one in ids]


class Servers:
    """Answers a client agent's questions from the state, as they would arrive over the wire."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.asked: list[str] = []
        self.down: CtlError | None = None

    async def ask(self, method: str, body: dict[str, Any]) -> Any:
        self.asked.append(method)
        if self.down is not None:
            raise self.down
        store = self.state.store
        assert body["AllowStale"] is True and body["Datacenter"] == "dc1"
        reply: dict[str, Any]
        if method == "ACL.TokenRead":
            assert body["TokenIDType"] == "secret"
            token = store.token_by_secret(body["TokenID"])
            reply = {"Token": None if token is None else wire.to_wire(token)}
        elif method == "ACL.RoleResolve":
            rows = [store.acl_roles.get(role_id) for role_id in body["RoleIDs"]]
            reply = {"Roles": [wire.to_wire(row) for row in rows if row is not None]}
        else:
            assert method == "ACL.PolicyResolve"
            found = [store.acl_policies.get(policy_id) for policy_id in body["PolicyIDs"]]
            reply = {"Policies": [wire.to_wire(row) for row in found if row is not None]}
        return msgpack.decode(msgpack.encode(reply))


def tokens(clock: World, **configured: str) -> AgentTokens:
    """The agent's own tokens."""
    every = {kind: configured.get(kind, "") for kind in KINDS}
    return AgentTokens(every, None, clock, log)
