"""Requests and replies of the methods ACL.* that are not in acl_requests: those of reads."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct, field

from core.api.acl_requests import (
    ACLAuthMethodListStub,
    ACLAuthorizationRequest,
    ACLPolicyListStub,
    ACLTokenListStub,
)
from core.api.remote_structs import DatacenterRead, DCSpecificRequest, ReadReply
from core.store.acl_structs import ACLAuthMethod, ACLBindingRule, ACLPolicy, ACLRole, ACLToken, LegacyACL
from core.store.structs import go_name


class ACLTokenGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """A token; `token_id_type`: accessor or secret."""

    OPTIONAL: ClassVar = frozenset({"expanded"})

    token_id: str = ""
    token_id_type: str = ""
    expanded: bool | None = None


class ACLTokenResponse(ReadReply, frozen=True, rename=go_name):
    """A token, and with `expanded` what it is given."""

    OPTIONAL: ClassVar = frozenset({"expanded_policies", "expanded_roles"})

    token: ACLToken | None = None
    redacted: bool = False
    source_datacenter: str = ""
    expanded_policies: list[ACLPolicy] | None = None
    expanded_roles: list[ACLRole] | None = None


class ACLTokenListRequest(DatacenterRead, frozen=True, rename=go_name):
    """Tokens."""

    OPTIONAL: ClassVar = frozenset({"service_name"})

    include_local: bool = False
    include_global: bool = False
    policy: str = ""
    role: str = ""
    auth_method: str = ""
    service_name: str | None = None


class ACLTokenListResponse(ReadReply, frozen=True, rename=go_name):
    """Tokens without their secrets."""

    tokens: list[ACLTokenListStub] | None = None


class ACLTokenBatchGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """Tokens by accessor."""

    accessor_ids: list[str] | None = field(default=None, name="AccessorIDs")


class ACLTokenBatchResponse(ReadReply, frozen=True, rename=go_name):
    """Tokens; some hidden, or left out."""

    tokens: list[ACLToken] | None = None
    redacted: bool = False
    removed: bool = False


class ACLPolicyGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """A policy by id or name."""

    policy_id: str = ""
    policy_name: str = ""


class ACLPolicyResponse(ReadReply, frozen=True, rename=go_name):
    """A policy."""

    policy: ACLPolicy | None = None


class ACLPolicyListRequest(DatacenterRead, frozen=True, rename=go_name):
    """All policies."""


class ACLPolicyListResponse(ReadReply, frozen=True, rename=go_name):
    """Policies without their rules."""

    policies: list[ACLPolicyListStub] | None = None


class ACLPolicyBatchGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """Policies by id."""

    policy_ids: list[str] | None = field(default=None, name="PolicyIDs")


class ACLPolicyBatchResponse(ReadReply, frozen=True, rename=go_name):
    """Policies."""

    policies: list[ACLPolicy] | None = None


class ACLRoleGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """A role by id or name."""

    role_id: str = ""
    role_name: str = ""


class ACLRoleResponse(ReadReply, frozen=True, rename=go_name):
    """A role."""

    role: ACLRole | None = None


class ACLRoleListRequest(DatacenterRead, frozen=True, rename=go_name):
    """Roles."""

    policy: str = ""


class ACLRoleListResponse(ReadReply, frozen=True, rename=go_name):
    """Roles."""

    roles: list[ACLRole] | None = None


class ACLRoleBatchGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """Roles by id."""

    role_ids: list[str] | None = field(default=None, name="RoleIDs")


class ACLRoleBatchResponse(ReadReply, frozen=True, rename=go_name):
    """Roles."""

    roles: list[ACLRole] | None = None


class ACLAuthMethodGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """An auth method."""

    auth_method_name: str = ""


class ACLAuthMethodResponse(ReadReply, frozen=True, rename=go_name):
    """An auth method."""

    auth_method: ACLAuthMethod | None = None


class ACLAuthMethodListRequest(DatacenterRead, frozen=True, rename=go_name):
    """All auth methods."""


class ACLAuthMethodListResponse(ReadReply, frozen=True, rename=go_name):
    """Auth methods without their configuration."""

    auth_methods: list[ACLAuthMethodListStub] | None = None


class ACLBindingRuleGetRequest(DatacenterRead, frozen=True, rename=go_name):
    """A binding rule."""

    binding_rule_id: str = ""


class ACLBindingRuleResponse(ReadReply, frozen=True, rename=go_name):
    """A binding rule."""

    binding_rule: ACLBindingRule | None = None


class ACLBindingRuleListRequest(DatacenterRead, frozen=True, rename=go_name):
    """Binding rules, those of one auth method where it is named."""

    auth_method: str = ""


class ACLBindingRuleListResponse(ReadReply, frozen=True, rename=go_name):
    """Binding rules."""

    binding_rules: list[ACLBindingRule] | None = None


class ACLSpecificRequest(DatacenterRead, frozen=True, rename=go_name):
    """A token of the old system."""

    acl: str = ""


class IndexedACLs(ReadReply, frozen=True, rename=go_name):
    """Tokens of the old system."""

    acls: list[LegacyACL] | None = field(default=None, name="ACLs")


class RemoteACLAuthorizationRequest(DatacenterRead, frozen=True, rename=go_name):
    """May the token do all these?"""

    requests: list[ACLAuthorizationRequest] | None = None


class ACLInitialTokenBootstrapRequest(DCSpecificRequest, frozen=True, rename=go_name):
    """Make the first token; the secret is of later versions."""

    OPTIONAL: ClassVar = frozenset({"bootstrap_secret"})

    bootstrap_secret: str | None = None


class WhyRequest(Struct, frozen=True, rename=go_name):
    """Why may a token do something, or not? Our own."""

    accessor: str = ""
    resource: str = ""
    name: str = ""
    access: str = ""
    datacenter: str = ""
    token: str = ""


class WhyReply(Struct, frozen=True, rename=go_name):
    """core.acl.access.Decision."""

    allowed: bool = False
    policy: str = ""
    rule: str = ""
    default: str = ""
