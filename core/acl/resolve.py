"""From a token to its judge: its policies, those of its roles, and what its identities stand for.

Pure; where the rows come from is told by a `Source` (the store, or what a client agent was told).
Judges of tokens with the same policies share their rights."""

from __future__ import annotations

from collections.abc import Iterator
from hmac import compare_digest
from typing import Protocol

from core.acl.authorizer import Default, Judge
from core.acl.builtin import MANAGEMENT_RULES
from core.acl.identities import in_datacenter, synthetic_policies
from core.acl.policy import CURRENT, LEGACY, Policy, parse
from core.acl.rights import Rights
from core.acl.settings import AclSettings
from core.codec.duration import quote
from core.codec.msgpack import ZERO_TIME, decode_time
from core.errors import Denied, Invalid
from core.store.acl import ANONYMOUS
from core.store.acl_structs import ACLPolicy, ACLRole, ACLToken

_MAX_SETS = 4096  # of policies whose rights are kept
MANAGEMENT, CLIENT = "management", "client"  # types of tokens of the old system

_Set = tuple[tuple[str, str, int], ...]  # name, rules, syntax of each policy


class Source(Protocol):
    """Where roles and policies are found, None when there is none of that id."""

    def role(self, role_id: str) -> ACLRole | None: ...

    def policy(self, policy_id: str) -> ACLPolicy | None: ...


def not_found() -> Denied:
    """There is no such token, or no more."""
    return Denied("ACL not found")


def expiry(token: ACLToken) -> float:
    """When a token ends, Unix seconds; 0 for never."""
    if token.expiration_time is None or token.expiration_time == ZERO_TIME:
        return 0.0
    seconds, nanoseconds, _ = decode_time(token.expiration_time)
    return seconds + nanoseconds / 1e9


def policies_of(token: ACLToken, source: Source, datacenter: str) -> list[ACLPolicy]:
    """All policies that hold for a token in this datacenter, each once, in the order of its links.
    Links to what is gone are passed over."""
    found: dict[tuple[str, str], ACLPolicy] = {}
    for policy in _linked(token, source):
        if in_datacenter(policy.datacenters, datacenter):
            found.setdefault((policy.name, policy.rules), policy)
    return list(found.values())


def _linked(token: ACLToken, source: Source) -> Iterator[ACLPolicy]:
    roles = [role for link in token.roles or () if (role := source.role(link.id)) is not None]
    owners: list[ACLToken | ACLRole] = [token, *roles]
    for owner in owners:
        for link in owner.policies or ():
            policy = source.policy(link.id)
            if policy is not None:
                yield policy
        yield from synthetic_policies(owner)
    if token.type == MANAGEMENT:
        yield ACLPolicy(name="legacy-management", rules=MANAGEMENT_RULES)
    elif token.rules:
        yield ACLPolicy(name="legacy-rules", rules=token.rules, syntax=LEGACY)


class Judges:
    """Makes judges. One per agent."""

    def __init__(self, settings: AclSettings, node_name: str) -> None:
        self.settings = settings
        self._node_name = node_name
        self._sets: dict[_Set, Rights] = {}

    def of(self, token: ACLToken, source: Source) -> Judge:
        """The judge of a token. Whether it has expired is the caller's business."""
        policies = policies_of(token, source, self.settings.datacenter)
        return self._judge(token.accessor_id, self._rights(policies), expires_at=expiry(token))

    def of_nobody(self) -> Judge:
        """The judge of requests without a token where the anonymous token does not exist (yet)."""
        return self._judge(ANONYMOUS, self._rights([]))

    def recovery(self, given: str, secret: str) -> Judge | None:
        """The judge of the agent's own recovery token, if that is what was given: it may do anything to
        this agent and see all nodes, even where no server can be asked."""
        if not secret or not compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode()):
            return None
        rules = f'agent {quote(self._node_name)} {{ policy = "write" }} node_prefix "" {{ policy = "read" }}'
        policy = ACLPolicy(name="agent-recovery", rules=rules)
        return self._judge(f"agent-recovery:{self._node_name}", self._rights([policy]))

    def when_down(self) -> Judge:
        """The judge of a token that no server could be asked about (acl.down_policy)."""
        default: Default = "allow" if self.settings.down_policy == "allow" else "deny"
        return self._judge("", self._rights([]), default)

    def _judge(
        self, accessor: str, rights: Rights, default: Default | None = None, expires_at: float = 0.0
    ) -> Judge:
        settings = self.settings
        default = default or (settings.default_policy if rights.whole else "deny")
        return Judge(accessor, rights, default, self._node_name, settings.key_list, expires_at)

    def _rights(self, policies: list[ACLPolicy]) -> Rights:
        key = tuple(sorted((policy.name, policy.rules, policy.syntax) for policy in policies))
        rights = self._sets.get(key)
        if rights is None:
            if len(self._sets) >= _MAX_SETS:
                self._sets.clear()
            named = [(name, _parsed(text, syntax)) for name, text, syntax in key]
            rights = self._sets[key] = Rights(named)
        return rights


def _parsed(text: str, syntax: int) -> Policy | None:
    """The rules of a stored policy, None where they cannot be read (another version may have taken them)."""
    try:
        return parse(text, LEGACY if syntax == LEGACY else CURRENT)
    except Invalid:
        return None
