"""What ACL endpoints ask servers for, and the short forms in lists. Requests that change something travel
as they are (protocols/rpc.md section 8)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from core.codec.msgpack import ZERO_TIME
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLBindingRule,
    ACLLink,
    ACLNodeIdentity,
    ACLPolicy,
    ACLRole,
    ACLServiceIdentity,
    ACLTemplatedPolicy,
    ACLToken,
)
from core.store.structs import go_name

HIDDEN = "<hidden>"  # instead of a secret


class ById(Struct, frozen=True):
    """A policy, role, binding rule or auth method; by `name` where it has no id."""

    id: str = ""
    name: str = ""


class ByIds(Struct, frozen=True):
    """Several rows; `token`: only of those that this token is linked with."""

    ids: tuple[str, ...] = ()
    token: str = ""


class TokenRead(Struct, frozen=True):
    """A token by accessor, or (`secret`) by its secret; `expanded`: with all that it is given."""

    id: str
    secret: bool = False
    expanded: bool = False
    datacenter: str = ""  # where it was asked for, to tell whoever asked


class TokenFound(Struct, frozen=True):
    """A token, None where there is none; and when it was asked for what its links stand for."""

    token: ACLToken | None
    redacted: bool = False
    policies: list[ACLPolicy] | None = None
    roles: list[ACLRole] | None = None
    datacenter: str = ""


class TokenList(Struct, frozen=True):
    """Tokens; at most one of policy, role and auth method. `service`: those of a service identity."""

    policy: str = ""
    role: str = ""
    auth_method: str = ""
    service: str = ""
    local: bool = True
    everywhere: bool = True  # also those that are valid in all datacenters


class ACLTokenListStub(Struct, frozen=True, rename=go_name):
    """A token without its secret."""

    OPTIONAL: ClassVar = frozenset({"templated_policies"})

    accessor_id: str = ""
    description: str = ""
    policies: list[ACLLink] | None = None
    roles: list[ACLLink] | None = None
    service_identities: list[ACLServiceIdentity] | None = None
    node_identities: list[ACLNodeIdentity] | None = None
    local: bool = False
    auth_method: str = ""
    expiration_time: bytes | None = None
    create_time: bytes = ZERO_TIME
    hash: bytes | None = None
    legacy: bool = False
    create_index: int = 0
    modify_index: int = 0
    templated_policies: list[ACLTemplatedPolicy] | None = None


class ACLPolicyListStub(Struct, frozen=True, rename=go_name):
    """A policy without its rules."""

    id: str = ""
    name: str = ""
    description: str = ""
    datacenters: list[str] | None = None
    hash: bytes | None = None
    create_index: int = 0
    modify_index: int = 0


class ACLAuthMethodListStub(Struct, frozen=True, rename=go_name):
    """An auth method without its configuration, which may hold secrets."""

    OPTIONAL: ClassVar = frozenset({"max_token_ttl", "token_locality"})

    name: str = ""
    type: str = ""
    display_name: str = ""
    description: str = ""
    create_index: int = 0
    modify_index: int = 0
    max_token_ttl: int | None = field(default=None, name="MaxTokenTTL")
    token_locality: str | None = None


class ACLTokenSetRequest(Struct, frozen=True, rename=go_name):
    """Make a token (`create`, or without accessor), change one, or copy the one of that accessor."""

    acl_token: ACLToken = field(default=ACLToken(), name="ACLToken")
    create: bool = False
    datacenter: str = ""
    token: str = ""


class ACLTokenDeleteRequest(Struct, frozen=True, rename=go_name):
    """Delete a token by its accessor."""

    token_id: str = ""
    datacenter: str = ""
    token: str = ""


class ACLPolicySetRequest(Struct, frozen=True, rename=go_name):
    """Make a policy, or change the one with that id."""

    policy: ACLPolicy = ACLPolicy()
    datacenter: str = ""
    token: str = ""


class ACLPolicyDeleteRequest(Struct, frozen=True, rename=go_name):
    """Delete a policy."""

    policy_id: str = ""
    datacenter: str = ""
    token: str = ""


class ACLRoleSetRequest(Struct, frozen=True, rename=go_name):
    """Make a role, or change the one with that id."""

    role: ACLRole = ACLRole()
    datacenter: str = ""
    token: str = ""


class ACLRoleDeleteRequest(Struct, frozen=True, rename=go_name):
    """Delete a role."""

    role_id: str = ""
    datacenter: str = ""
    token: str = ""


class ACLAuthMethodSetRequest(Struct, frozen=True, rename=go_name):
    """Make an auth method, or change the one of that name."""

    auth_method: ACLAuthMethod = ACLAuthMethod()
    datacenter: str = ""
    token: str = ""


class ACLAuthMethodDeleteRequest(Struct, frozen=True, rename=go_name):
    """Delete an auth method, its binding rules and its tokens."""

    auth_method_name: str = ""
    datacenter: str = ""
    token: str = ""


class ACLBindingRuleSetRequest(Struct, frozen=True, rename=go_name):
    """Make a binding rule, or change the one with that id."""

    binding_rule: ACLBindingRule = ACLBindingRule()
    datacenter: str = ""
    token: str = ""


class ACLBindingRuleDeleteRequest(Struct, frozen=True, rename=go_name):
    """Delete a binding rule."""

    binding_rule_id: str = ""
    datacenter: str = ""
    token: str = ""


class ACLLoginParams(Struct, frozen=True, rename=go_name):
    """A credential for an auth method; `meta` goes into the token's description."""

    auth_method: str = ""
    bearer_token: str = ""
    meta: dict[str, str] | None = None


class ACLLoginRequest(Struct, frozen=True, rename=go_name):
    """Trade a credential for a token."""

    auth: ACLLoginParams | None = None
    datacenter: str = ""
    token: str = ""


class ACLLogoutRequest(Struct, frozen=True, rename=go_name):
    """Destroy the token that is sent along."""

    datacenter: str = ""
    token: str = ""


class Bootstrap(Struct, frozen=True):
    """Make the first token, with this secret ("": any)."""

    secret: str = ""


class ACLReplicationStatus(Struct, frozen=True, rename=go_name):
    """How replication from the primary datacenter goes."""

    enabled: bool = False
    running: bool = False
    source_datacenter: str = ""
    replication_type: str = ""
    replicated_index: int = 0
    replicated_role_index: int = 0
    replicated_token_index: int = 0
    last_success: bytes = ZERO_TIME
    last_error: bytes = ZERO_TIME


class ACLAuthorizationRequest(Struct, frozen=True, rename=go_name):
    """May this be done? `segment`: the name."""

    resource: str = ""
    segment: str = ""
    access: str = ""


class ACLAuthorizationResponse(Struct, frozen=True, rename=go_name):
    """The question, and whether it may be done."""

    resource: str = ""
    segment: str = ""
    access: str = ""
    allow: bool = False
