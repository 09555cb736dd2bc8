"""ACL tokens, policies, roles, binding rules and auth methods: reads and writes (protocols/fsm.md section 6).

Ids, times and hashes are the leader's business; they come with the command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from core.codec.duration import quote
from core.codec.msgpack import ZERO_TIME
from core.errors import Invalid
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLBindingRule,
    ACLLink,
    ACLPolicy,
    ACLRole,
    ACLToken,
    ACLTokenBatchSetRequest,
    ACLTokenBootstrapRequest,
    LegacyACLRequest,
)
from core.store.table import Table
from core.store.view import View
from core.store.watch import Watch

ANONYMOUS = "00000000-0000-0000-0000-000000000002"
GLOBAL_MANAGEMENT = "00000000-0000-0000-0000-000000000001"
BOOTSTRAP_INDEX = "acl-token-bootstrap"
Row = TypeVar("Row", ACLToken, ACLPolicy, ACLRole, ACLBindingRule, ACLAuthMethod)


class ACLState(View):
    """The ACL tables; the index and the watch of a read are those of the whole table."""

    def _make_tables(self) -> None:
        super()._make_tables()
        self.acl_tokens: Table[str, ACLToken] = self.add_table(
            "acl-tokens",
            accessor=lambda key, row: row.accessor_id.lower() or None,
            auth_method=lambda key, row: row.auth_method.lower() or None,
            expires=lambda key, row: row.expiration_time not in (None, ZERO_TIME) or None,
        )
        by_name = {"name": lambda key, row: row.name.lower()}
        self.acl_policies: Table[str, ACLPolicy] = self.add_table("acl-policies", **by_name)
        self.acl_roles: Table[str, ACLRole] = self.add_table("acl-roles", **by_name)
        self.acl_binding_rules: Table[str, ACLBindingRule] = self.add_table(
            "acl-binding-rules", auth_method=lambda key, row: row.auth_method.lower()
        )
        self.acl_auth_methods: Table[str, ACLAuthMethod] = self.add_table("acl-auth-methods")

    def acl_list(self, table: str, watch: Watch | None = None) -> tuple[int, list[Any]]:
        """All rows of one of the acl-* tables."""
        self.watch_cell(watch, table)
        return self.index(table), list(self.tables[table].values())

    def acl_get(self, table: str, key: str, watch: Watch | None = None) -> tuple[int, Any]:
        """A row by id (tokens: by accessor; auth methods: by name), None when there is none."""
        self.watch_cell(watch, table)
        if table == "acl-tokens":
            return self.index(table), self.token_by_accessor(key)
        return self.index(table), self.tables[table].rows.get(key.lower())

    def acl_named(self, table: str, name: str, watch: Watch | None = None) -> tuple[int, Any]:
        """A policy or role by its name, None when there is none."""
        self.watch_cell(watch, table)
        keys = self.tables[table].group("name", name.lower())
        return self.index(table), self.tables[table].rows[keys[0]] if keys else None

    def token_by_secret(self, secret: str) -> ACLToken | None:
        """The token that a request carries."""
        return self.acl_tokens.rows.get(secret)

    def token_by_accessor(self, accessor: str) -> ACLToken | None:
        keys = self.acl_tokens.group("accessor", accessor.lower()) if accessor else []
        return self.acl_tokens.rows[keys[0]] if keys else None

    def bootstrap_allowed(self) -> bool:
        """Whether nobody has bootstrapped yet."""
        return BOOTSTRAP_INDEX not in self.indexes


def set_tokens(state: ACLState, index: int, request: ACLTokenBatchSetRequest) -> None:
    """Store tokens; those whose ModifyIndex does not fit (CAS) are left out without a word."""
    for token in request.tokens or ():
        _set_token(state, index, token, request)


def _set_token(
    state: ACLState, index: int, token: ACLToken, how: ACLTokenBatchSetRequest, legacy: bool = False
) -> None:
    if not token.secret_id:
        raise Invalid("Missing ACL Token SecretID")
    if not token.accessor_id and not legacy:
        raise Invalid("Missing ACL Token AccessorID")
    if token.accessor_id:
        original = state.token_by_accessor(token.accessor_id)
    else:
        original = state.token_by_secret(token.secret_id)
    if how.cas and token.modify_index != (original.modify_index if original else 0):
        return
    policies, valid_policies = _links(
        token.policies, state.acl_policies, "policy", "policies", how.allow_missing_links
    )
    roles, valid_roles = _links(token.roles, state.acl_roles, "role", "roles", how.allow_missing_links)
    # A copy comes from a datacenter with auth methods of its own.
    unknown = token.auth_method and token.auth_method.lower() not in state.acl_auth_methods
    if unknown and not how.from_replication:
        raise Invalid(f"No such auth method with Name: {token.auth_method}")
    others = token.service_identities or token.node_identities or token.templated_policies
    if how.prohibit_unprivileged and not (valid_policies or valid_roles or others):
        raise Invalid("Token has no privileges")
    created = index
    if original is not None:
        if original.accessor_id and token.accessor_id != original.accessor_id:
            raise Invalid("The ACL Token AccessorID field is immutable")
        if token.secret_id != original.secret_id:
            raise Invalid("The ACL Token SecretID field is immutable")
        created = original.create_index
    stored = replace(token, policies=policies, roles=roles, create_index=created, modify_index=index)
    state.acl_tokens.put(token.secret_id, stored)
    state.bump("acl-tokens", index)


def delete_token(state: ACLState, index: int, token: ACLToken | None) -> None:
    """Delete a token; nothing when there is none."""
    if token is None:
        return
    if token.accessor_id == ANONYMOUS:
        raise Invalid("Deletion of the builtin anonymous token is not permitted")
    state.acl_tokens.remove(token.secret_id)
    state.bump("acl-tokens", index)


def bootstrap(state: ACLState, index: int, request: ACLTokenBootstrapRequest, legacy: bool = False) -> None:
    """Store the first management token. Again only with the index of the last bootstrap."""
    last = state.indexes.get(BOOTSTRAP_INDEX)
    if last is not None and request.reset_index == 0:
        raise Invalid("ACL bootstrap no longer allowed")
    if last is not None and request.reset_index != last:
        raise Invalid("Invalid ACL bootstrap reset index")
    _set_token(state, index, request.token, ACLTokenBatchSetRequest(), legacy)
    state.bump(BOOTSTRAP_INDEX, index)


def set_policies(state: ACLState, index: int, policies: Sequence[ACLPolicy]) -> None:
    """Store policies. Names are unique; the built-in one keeps its rules."""
    for policy in policies:
        _need(policy.id, "Missing ACL Policy ID")
        _need(policy.name, "Missing ACL Policy Name")
        existing = state.acl_policies.get(policy.id.lower())
        if existing is not None and policy.id == GLOBAL_MANAGEMENT:
            if policy.rules != existing.rules:
                raise Invalid("Changing the Rules for the builtin global-management policy is not permitted")
            if policy.datacenters:
                raise Invalid(
                    "Changing the Datacenters of the builtin global-management policy is not permitted"
                )
        _unique(state.acl_policies, policy, "policy")
        _put(state, index, "acl-policies", policy.id.lower(), policy)


def delete_policy(state: ACLState, index: int, policy_id: str) -> None:
    """Delete a policy; links to it stay and are ignored."""
    if policy_id == GLOBAL_MANAGEMENT:
        raise Invalid("Deletion of the builtin global-management policy is not permitted")
    _remove(state, index, "acl-policies", policy_id.lower())


def set_roles(state: ACLState, index: int, roles: Sequence[ACLRole], allow_missing: bool) -> None:
    """Store roles. Names are unique."""
    for role in roles:
        _need(role.id, "Missing ACL Role ID")
        _need(role.name, "Missing ACL Role Name")
        policies, _ = _links(role.policies, state.acl_policies, "policy", "policies", allow_missing)
        _unique(state.acl_roles, role, "role")
        _put(state, index, "acl-roles", role.id.lower(), replace(role, policies=policies))


def delete_role(state: ACLState, index: int, role_id: str) -> None:
    """Delete a role; links to it stay and are ignored."""
    _remove(state, index, "acl-roles", role_id.lower())


def set_binding_rules(state: ACLState, index: int, rules: Sequence[ACLBindingRule]) -> None:
    """Store binding rules; their auth method must exist."""
    for rule in rules:
        _need(rule.id, "Missing ACL Binding Rule ID")
        _need(rule.auth_method, "Missing ACL Binding Rule Auth Method")
        if rule.auth_method.lower() not in state.acl_auth_methods:
            raise Invalid("failed inserting acl binding rule: auth method not found")
        _put(state, index, "acl-binding-rules", rule.id.lower(), rule)


def delete_binding_rule(state: ACLState, index: int, rule_id: str) -> None:
    """Delete a binding rule; nothing when there is none."""
    _remove(state, index, "acl-binding-rules", rule_id.lower())


def set_auth_methods(state: ACLState, index: int, methods: Sequence[ACLAuthMethod]) -> None:
    """Store auth methods, by name."""
    for method in methods:
        _need(method.name, "Missing ACL Auth Method Name")
        _need(method.type, "Missing ACL Auth Method Type")
        _put(state, index, "acl-auth-methods", method.name.lower(), method)


def delete_auth_method(state: ACLState, index: int, name: str) -> None:
    """Delete an auth method with its binding rules and the tokens it gave out."""
    key = name.lower()
    if key not in state.acl_auth_methods:
        return
    for rule_id in list(state.acl_binding_rules.group("auth_method", key)):
        _remove(state, index, "acl-binding-rules", rule_id)
    for secret in list(state.acl_tokens.group("auth_method", key)):
        _remove(state, index, "acl-tokens", secret)
    _remove(state, index, "acl-auth-methods", key)


def apply_legacy(state: ACLState, index: int, request: LegacyACLRequest) -> object:
    """The one command of the old ACL system: its tokens live among the new ones, without accessor."""
    acl = request.acl
    token = ACLToken(secret_id=acl.id, description=acl.name, type=acl.type, rules=acl.rules)
    if request.op == "bootstrap-init":
        return state.bootstrap_allowed()
    if request.op == "bootstrap-now":
        bootstrap(state, index, ACLTokenBootstrapRequest(token), legacy=True)
        return replace(acl, create_index=index, modify_index=index)
    if request.op in ("set", "force-set"):
        _set_token(state, index, token, ACLTokenBatchSetRequest(), legacy=True)
        return acl.id
    if request.op == "delete":
        delete_token(state, index, state.token_by_secret(acl.id))
        return None
    raise Invalid(f"Invalid ACL operation '{request.op}'")


def _links(
    links: list[ACLLink] | None, table: Table[str, Any], what: str, plural: str, allow_missing: bool
) -> tuple[list[ACLLink] | None, int]:
    """`links` with the names of what they point to, and how many point to something."""
    if links is None:
        return None, 0
    named: list[ACLLink] = []
    valid = 0
    for link in links:
        if not link.id:
            raise Invalid(f"Encountered a Token with {plural} linked by Name in the state store")
        row = table.rows.get(link.id.lower())
        if row is None and not allow_missing:
            raise Invalid(f"No such {what} with ID: {link.id}")
        valid += row is not None
        named.append(link if row is None else ACLLink(link.id, row.name))
    return named, valid


def _unique(table: Table[str, Any], row: ACLPolicy | ACLRole, what: str) -> None:
    for key in table.group("name", row.name.lower()):
        if key != row.id.lower():
            raise Invalid(f"A {what} with name {quote(row.name)} already exists")


def _put(state: ACLState, index: int, table: str, key: str, row: Row) -> None:
    existing = state.tables[table].rows.get(key)
    created = index if existing is None else existing.create_index
    state.tables[table].put(key, replace(row, create_index=created, modify_index=index))
    state.bump(table, index)


def _remove(state: ACLState, index: int, table: str, key: str) -> None:
    if state.tables[table].remove(key) is not None:
        state.bump(table, index)


def _need(value: str, problem: str) -> None:
    if not value:
        raise Invalid(problem)
