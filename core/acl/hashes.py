"""The hashes of tokens, policies and roles: BLAKE2b over what a user may change, by which replication sees
that something differs (protocols/fsm.md section 6; checked against recorded commands)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from msgspec.structs import replace

from core.store.acl_structs import ACLLink, ACLPolicy, ACLRole, ACLToken


def hashed_policy(policy: ACLPolicy) -> ACLPolicy:
    """The policy with its hash."""
    pieces = (policy.name, policy.description, policy.rules, *(policy.datacenters or ()))
    return replace(policy, hash=_hash(pieces))


def hashed_role(role: ACLRole) -> ACLRole:
    """The role with its hash."""
    return replace(role, hash=_hash((role.name, role.description, *_ids(role.policies), *_identities(role))))


def hashed_token(token: ACLToken) -> ACLToken:
    """The token with its hash."""
    pieces = (
        token.description,
        token.type,
        token.rules,
        "local" if token.local else "global",
        *_ids(token.policies),
        *_ids(token.roles),
        *_identities(token),
    )
    return replace(token, hash=_hash(pieces))


def _ids(links: list[ACLLink] | None) -> list[str]:
    return [link.id for link in links or ()]


def _identities(owner: ACLToken | ACLRole) -> Iterator[str]:
    for service in owner.service_identities or ():
        yield service.service_name
        yield from service.datacenters or ()
    for node in owner.node_identities or ():
        yield node.node_name
        yield node.datacenter
    for template in owner.templated_policies or ():
        yield template.template_name
        yield template.template_variables.name if template.template_variables else ""
        yield from template.datacenters or ()


def _hash(pieces: Iterable[str]) -> bytes:
    return blake2b("".join(pieces).encode("utf-8", "surrogateescape"), digest_size=32).digest()
