"""The ACL objects of the replicated state; rules as in core/store/structs.py. Times are Go's binary form
(`core/codec/msgpack.py`), None when unset."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, field

from core.codec.msgpack import ZERO_TIME
from core.codec.wire import Growing
from core.store.structs import go_name


class ACLLink(Struct, frozen=True, gc=False, rename=go_name):
    """A token's or role's link to a policy or role. The name is filled in when it is stored."""

    id: str = ""
    name: str = ""


class ACLServiceIdentity(Growing, frozen=True, gc=False, rename=go_name):
    """Shorthand for the rules that a service needs."""

    service_name: str = ""
    datacenters: list[str] | None = None


class ACLNodeIdentity(Growing, frozen=True, gc=False, rename=go_name):
    """Shorthand for the rules that an agent needs."""

    node_name: str = ""
    datacenter: str = ""


class ACLTemplateVariables(Growing, frozen=True, gc=False, rename=go_name):
    """What a template is filled with."""

    name: str = ""


class ACLTemplatedPolicy(Growing, frozen=True, gc=False, rename=go_name):
    """A built-in policy template and what it is filled with; of Consul 1.17 and later."""

    template_id: str = ""
    template_name: str = ""
    template_variables: ACLTemplateVariables | None = None
    datacenters: list[str] | None = None


class ACLToken(Growing, frozen=True, gc=False, rename=go_name):
    """A token. `type` and `rules` belong to tokens of the old system."""

    OPTIONAL: ClassVar = frozenset({"templated_policies"})

    accessor_id: str = ""
    secret_id: str = ""
    description: str = ""
    policies: list[ACLLink] | None = None
    roles: list[ACLLink] | None = None
    service_identities: list[ACLServiceIdentity] | None = None
    node_identities: list[ACLNodeIdentity] | None = None
    type: str = ""
    rules: str = ""
    local: bool = False
    auth_method: str = ""
    expiration_time: bytes | None = None
    expiration_ttl: int = field(default=0, name="ExpirationTTL")
    create_time: bytes = ZERO_TIME
    hash: bytes | None = None
    create_index: int = 0
    modify_index: int = 0
    templated_policies: list[ACLTemplatedPolicy] | None = None


class ACLPolicy(Growing, frozen=True, gc=False, rename=go_name):
    """A policy. `syntax`: 0 current, 1 legacy."""

    id: str = ""
    name: str = ""
    description: str = ""
    rules: str = ""
    syntax: int = 0
    datacenters: list[str] | None = None
    hash: bytes | None = None
    create_index: int = 0
    modify_index: int = 0


class ACLRole(Growing, frozen=True, gc=False, rename=go_name):
    """A role: policies and identities under one name."""

    OPTIONAL: ClassVar = frozenset({"templated_policies"})

    id: str = ""
    name: str = ""
    description: str = ""
    policies: list[ACLLink] | None = None
    service_identities: list[ACLServiceIdentity] | None = None
    node_identities: list[ACLNodeIdentity] | None = None
    hash: bytes | None = None
    create_index: int = 0
    modify_index: int = 0
    templated_policies: list[ACLTemplatedPolicy] | None = None


class ACLBindingRule(Growing, frozen=True, gc=False, rename=go_name):
    """What a login through an auth method is given."""

    OPTIONAL: ClassVar = frozenset({"bind_vars"})

    id: str = ""
    description: str = ""
    auth_method: str = ""
    selector: str = ""
    bind_type: str = ""
    bind_name: str = ""
    create_index: int = 0
    modify_index: int = 0
    bind_vars: ACLTemplateVariables | None = None


class ACLAuthMethod(Growing, frozen=True, gc=False, rename=go_name):
    """A trusted issuer of logins. `config` is the method's own map."""

    OPTIONAL: ClassVar = frozenset({"token_name_format"})

    name: str = ""
    type: str = ""
    display_name: str = ""
    description: str = ""
    max_token_ttl: int = field(default=0, name="MaxTokenTTL")
    token_locality: str = ""
    config: dict[str, Any] | None = None
    create_index: int = 0
    modify_index: int = 0
    token_name_format: str | None = None


class ACLTokenBatchSetRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 17."""

    tokens: list[ACLToken] | None = None
    cas: bool = False
    allow_missing_links: bool = False
    prohibit_unprivileged: bool = False
    from_replication: bool = False


class ACLTokenBootstrapRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 11."""

    token: ACLToken = ACLToken()
    reset_index: int = 0


class ACLPolicyBatchSetRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 19."""

    policies: list[ACLPolicy] | None = None


class ACLRoleBatchSetRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 23."""

    roles: list[ACLRole] | None = None
    allow_missing_links: bool = False


class ACLBindingRuleBatchSetRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 25."""

    binding_rules: list[ACLBindingRule] | None = None


class ACLAuthMethodBatchSetRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 27."""

    auth_methods: list[ACLAuthMethod] | None = None


class ACLTokenBatchDeleteRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 18, by accessor."""

    token_ids: list[str] | None = field(default=None, name="TokenIDs")


class ACLPolicyBatchDeleteRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 20."""

    policy_ids: list[str] | None = field(default=None, name="PolicyIDs")


class ACLRoleBatchDeleteRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 24."""

    role_ids: list[str] | None = field(default=None, name="RoleIDs")


class ACLBindingRuleBatchDeleteRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 26."""

    binding_rule_ids: list[str] | None = field(default=None, name="BindingRuleIDs")


class ACLAuthMethodBatchDeleteRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 28."""

    auth_method_names: list[str] | None = None


class LegacyACL(Struct, frozen=True, gc=False, rename=go_name):
    """A token of the old ACL system."""

    id: str = ""
    name: str = ""
    type: str = ""
    rules: str = ""
    create_index: int = 0
    modify_index: int = 0


class LegacyACLRequest(Struct, frozen=True, gc=False, rename=go_name):
    """Log command 4. `op`: bootstrap-init, bootstrap-now, set, force-set, delete."""

    datacenter: str = ""
    op: str = ""
    acl: LegacyACL = LegacyACL()
    token: str = ""
