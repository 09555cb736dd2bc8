"""The methods ACL.* as RPCs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple, replace

from core.acl.access import Decision
from core.api import (
    acl_bootstrap,
    acl_legacy,
    acl_login,
    acl_methods,
    acl_policies,
    acl_roles,
    acl_rules,
    acl_token_write,
)
from core.api import acl_requests as requests
from core.api import acl_tokens as tokens
from core.api import remote_acl_structs as structs
from core.api.acl_requests import ById, ByIds, TokenFound, TokenList, TokenRead
from core.api.endpoint import Action, Question
from core.api.remote_kinds import ActionRemote, ReadRemote, Remote
from core.api.remote_structs import DCSpecificRequest
from core.codec import wire
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLBindingRule,
    ACLPolicy,
    ACLRole,
    ACLToken,
    LegacyACLRequest,
)


class _TokenRead(ReadRemote[structs.ACLTokenGetRequest, structs.ACLTokenResponse]):
    """By accessor, which needs a right, or by secret, which needs none."""

    def accept(self, body: Any) -> Question:
        question = super().accept(body)
        question.read = tokens.SELF if question.args.secret else tokens.READ
        question.args = replace(question.args, datacenter=question.options.datacenter)
        return question


def _token_asked(args: TokenRead) -> dict[str, Any]:
    kind = "secret" if args.secret else "accessor"
    return {"token_id": args.id, "token_id_type": kind, "expanded": args.expanded or None}


def _token_found(found: TokenFound) -> dict[str, Any]:
    return {
        "token": found.token,
        "redacted": found.redacted,
        "source_datacenter": found.datacenter,
        "expanded_policies": found.policies,
        "expanded_roles": found.roles,
    }


def _ids(args: ByIds) -> list[str] | None:
    return list(args.ids) or None


def _rows(name: str) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Any], Any]]:
    """From a list to the attribute of a reply and back."""
    return (lambda found: {name: found or None}), (lambda reply: getattr(reply, name) or [])


def _row(name: str) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Any], Any]]:
    """The same for one row, or none."""
    return (lambda found: {name: found}), (lambda reply: getattr(reply, name))


def _same(action: Action, body: type[Struct], shown: Any, value: Any) -> ActionRemote[Any]:
    """An action whose arguments travel as they are."""
    names = body.__struct_fields__
    return ActionRemote(
        action,
        body,
        lambda args: {name: getattr(args, name) for name in names},
        lambda asked: asked,
        shown,
        value,
    )


def _struct(kind: type[Struct]) -> Callable[[Any], Any]:
    return lambda reply: wire.from_wire(kind, reply)


READS: tuple[Remote, ...] = (
    _TokenRead(
        tokens.READ,
        structs.ACLTokenGetRequest,
        _token_asked,
        lambda body: TokenRead(body.token_id, body.token_id_type != "accessor", bool(body.expanded)),
        structs.ACLTokenResponse,
        _token_found,
        lambda reply: TokenFound(
            reply.token,
            reply.redacted,
            reply.expanded_policies,
            reply.expanded_roles,
            reply.source_datacenter,
        ),
    ),
    ReadRemote(
        tokens.LIST,
        structs.ACLTokenListRequest,
        lambda args: {
            "include_local": args.local,
            "include_global": args.everywhere,
            "policy": args.policy,
            "role": args.role,
            "auth_method": args.auth_method,
            "service_name": args.service or None,
        },
        lambda body: TokenList(
            body.policy,
            body.role,
            body.auth_method,
            body.service_name or "",
            body.include_local,
            body.include_global,
        ),
        structs.ACLTokenListResponse,
        *_rows("tokens"),
    ),
    ReadRemote(
        tokens.BATCH,
        structs.ACLTokenBatchGetRequest,
        lambda args: {"accessor_ids": _ids(args)},
        lambda body: ByIds(tuple(body.accessor_ids or ())),
        structs.ACLTokenBatchResponse,
        lambda found: {
            "tokens": found or None,
            "redacted": any(one.secret_id == requests.HIDDEN for one in found),
        },
        lambda reply: reply.tokens or [],
    ),
    ReadRemote(
        acl_policies.READ,
        structs.ACLPolicyGetRequest,
        lambda args: {"policy_id": args.id, "policy_name": args.name},
        lambda body: ById(body.policy_id, body.policy_name),
        structs.ACLPolicyResponse,
        *_row("policy"),
    ),
    ReadRemote(
        acl_policies.LIST,
        structs.ACLPolicyListRequest,
        lambda args: {},
        lambda body: acl_policies.Everything(),
        structs.ACLPolicyListResponse,
        *_rows("policies"),
    ),
    *(
        ReadRemote(
            read,
            structs.ACLPolicyBatchGetRequest,
            lambda args: {"policy_ids": _ids(args)},
            lambda body: ByIds(tuple(body.policy_ids or ()), body.token),
            structs.ACLPolicyBatchResponse,
            *_rows("policies"),
            indexed=read is acl_policies.BATCH,
        )
        for read in (acl_policies.BATCH, acl_policies.RESOLVE)
    ),
    ReadRemote(
        acl_roles.READ,
        structs.ACLRoleGetRequest,
        lambda args: {"role_id": args.id, "role_name": args.name},
        lambda body: ById(body.role_id, body.role_name),
        structs.ACLRoleResponse,
        *_row("role"),
    ),
    ReadRemote(
        acl_roles.LIST,
        structs.ACLRoleListRequest,
        lambda args: {"policy": args.policy},
        lambda body: acl_roles.RoleList(body.policy),
        structs.ACLRoleListResponse,
        *_rows("roles"),
    ),
    *(
        ReadRemote(
            read,
            structs.ACLRoleBatchGetRequest,
            lambda args: {"role_ids": _ids(args)},
            lambda body: ByIds(tuple(body.role_ids or ()), body.token),
            structs.ACLRoleBatchResponse,
            *_rows("roles"),
            indexed=read is acl_roles.BATCH,
        )
        for read in (acl_roles.BATCH, acl_roles.RESOLVE)
    ),
    ReadRemote(
        acl_methods.READ_METHOD,
        structs.ACLAuthMethodGetRequest,
        lambda args: {"auth_method_name": args.name},
        lambda body: ById(name=body.auth_method_name),
        structs.ACLAuthMethodResponse,
        *_row("auth_method"),
    ),
    ReadRemote(
        acl_methods.LIST_METHODS,
        structs.ACLAuthMethodListRequest,
        lambda args: {},
        lambda body: acl_methods.MethodList(),
        structs.ACLAuthMethodListResponse,
        *_rows("auth_methods"),
    ),
    ReadRemote(
        acl_methods.READ_RULE,
        structs.ACLBindingRuleGetRequest,
        lambda args: {"binding_rule_id": args.id},
        lambda body: ById(body.binding_rule_id),
        structs.ACLBindingRuleResponse,
        *_row("binding_rule"),
    ),
    ReadRemote(
        acl_methods.LIST_RULES,
        structs.ACLBindingRuleListRequest,
        lambda args: {"auth_method": args.auth_method},
        lambda body: acl_methods.RuleList(body.auth_method),
        structs.ACLBindingRuleListResponse,
        *_rows("binding_rules"),
    ),
    ReadRemote(
        acl_legacy.GET,
        structs.ACLSpecificRequest,
        lambda args: {"acl": args.secret},
        lambda body: acl_legacy.OneAcl(body.acl),
        structs.IndexedACLs,
        *_rows("acls"),
    ),
    ReadRemote(
        acl_legacy.LIST,
        DCSpecificRequest,
        lambda args: {},
        lambda body: acl_legacy.AllAcls(),
        structs.IndexedACLs,
        *_rows("acls"),
    ),
)

_TOKEN = (wire.to_wire, _struct(ACLToken))
_FLAG = (bool, bool)
CHANGES: tuple[Remote, ...] = (
    _same(acl_token_write.SET, requests.ACLTokenSetRequest, *_TOKEN),
    _same(acl_token_write.CLONE, requests.ACLTokenSetRequest, *_TOKEN),
    _same(acl_token_write.DELETE, requests.ACLTokenDeleteRequest, str, wire.text),
    _same(acl_policies.SET, requests.ACLPolicySetRequest, wire.to_wire, _struct(ACLPolicy)),
    _same(acl_policies.DELETE, requests.ACLPolicyDeleteRequest, str, wire.text),
    _same(acl_roles.SET, requests.ACLRoleSetRequest, wire.to_wire, _struct(ACLRole)),
    _same(acl_roles.DELETE, requests.ACLRoleDeleteRequest, str, wire.text),
    _same(acl_methods.SET_METHOD, requests.ACLAuthMethodSetRequest, wire.to_wire, _struct(ACLAuthMethod)),
    _same(acl_methods.DELETE_METHOD, requests.ACLAuthMethodDeleteRequest, *_FLAG),
    _same(acl_methods.SET_RULE, requests.ACLBindingRuleSetRequest, wire.to_wire, _struct(ACLBindingRule)),
    _same(acl_methods.DELETE_RULE, requests.ACLBindingRuleDeleteRequest, *_FLAG),
    _same(acl_login.LOGIN, requests.ACLLoginRequest, *_TOKEN),
    _same(acl_login.LOGOUT, requests.ACLLogoutRequest, *_FLAG),
    _same(acl_legacy.APPLY, LegacyACLRequest, str, wire.text),
)

OTHERS: tuple[Remote, ...] = (
    ActionRemote(
        acl_bootstrap.BOOTSTRAP,
        structs.ACLInitialTokenBootstrapRequest,
        lambda args: {"bootstrap_secret": args.secret or None},
        lambda body: requests.Bootstrap(body.bootstrap_secret or ""),
        *_TOKEN,
    ),
    ActionRemote(
        acl_bootstrap.REPLICATION,
        DCSpecificRequest,
        lambda args: {},
        lambda body: None,
        wire.to_wire,
        _struct(requests.ACLReplicationStatus),
    ),
    ActionRemote(
        acl_rules.AUTHORIZE,
        structs.RemoteACLAuthorizationRequest,
        lambda args: {"requests": list(args.requests)},
        lambda body: acl_rules.Authorize(tuple(body.requests or ()), body.token),
        lambda found: [wire.to_wire(one) for one in found],
        lambda reply: wire.from_wire_list(requests.ACLAuthorizationResponse, reply),
    ),
    ActionRemote(
        acl_rules.WHY,
        structs.WhyRequest,
        lambda args: {name: getattr(args, name) for name in ("accessor", "resource", "name", "access")},
        lambda body: acl_rules.Why(body.accessor, body.resource, body.name, body.access),
        lambda decision: wire.to_wire(structs.WhyReply(*astuple(decision))),
        lambda reply: Decision(*astuple(wire.from_wire(structs.WhyReply, reply))),
    ),
)

ACLS: tuple[Remote, ...] = (*READS, *CHANGES, *OTHERS)
