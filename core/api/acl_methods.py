"""Auth methods and binding rules: `/v1/acl/auth-method*`, `/v1/acl/binding-rule*`, and the questions and
errands ACL.AuthMethod* and ACL.BindingRule*."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from core.acl import jwt
from core.api import acl_binding, acl_keys, acl_render, acl_shapes
from core.api.acl_common import (
    apply,
    asked_for,
    check_name,
    enabled,
    is_uuid,
    json,
    look_up,
    may_read,
    may_write,
    need_acls,
)
from core.api.acl_requests import (
    ACLAuthMethodDeleteRequest,
    ACLAuthMethodListStub,
    ACLAuthMethodSetRequest,
    ACLBindingRuleDeleteRequest,
    ACLBindingRuleSetRequest,
    ById,
)
from core.api.blocking import query_options
from core.api.endpoint import (
    Action,
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import duration
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.store import commands
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLAuthMethodBatchDeleteRequest,
    ACLAuthMethodBatchSetRequest,
    ACLBindingRule,
    ACLBindingRuleBatchDeleteRequest,
    ACLBindingRuleBatchSetRequest,
)
from core.store.state import Store
from core.store.watch import Watch

METHODS, RULES = "acl-auth-methods", "acl-binding-rules"
_NO_KUBERNETES = (
    "Invalid Auth Method: Type kubernetes is not offered here: this server cannot ask a Kubernetes API to"
    " review tokens. Use Type jwt with OIDCDiscoveryURL or JWTValidationPubKeys of the cluster's issuer of"
    " service account tokens"
)


class MethodList(Struct, frozen=True):
    """All auth methods."""


class RuleList(Struct, frozen=True):
    """Binding rules, those of an auth method where one is named."""

    auth_method: str = ""


# --- reads -------------------------------------------------------------------------------------------


def _read_method(view: Store, args: ById, watch: Watch | None) -> Answer:
    return Answer(*view.acl_get(METHODS, args.name, watch))


def _list_methods(view: Store, args: MethodList, watch: Watch | None) -> Answer:
    index, rows = view.acl_list(METHODS, watch)
    return Answer(index, [stub(row) for row in sorted(rows, key=lambda row: row.name.lower())])


def stub(row: ACLAuthMethod) -> ACLAuthMethodListStub:
    """An auth method without its configuration."""
    return ACLAuthMethodListStub(
        row.name,
        row.type,
        row.display_name,
        row.description,
        row.create_index,
        row.modify_index,
        row.max_token_ttl or None,
        row.token_locality or None,
    )


def _read_rule(view: Store, args: ById, watch: Watch | None) -> Answer:
    return Answer(*view.acl_get(RULES, look_up(args.id, "binding rule"), watch))


def _list_rules(view: Store, args: RuleList, watch: Watch | None) -> Answer:
    index, rows = view.acl_list(RULES, watch)
    name = args.auth_method.lower()
    found = [row for row in rows if not name or row.auth_method.lower() == name]
    return Answer(index, sorted(found, key=lambda row: row.id))


READ_METHOD = Read("ACL.AuthMethodRead", _read_method, may_read, acl_only=True)
LIST_METHODS = Read("ACL.AuthMethodList", _list_methods, may_read, acl_only=True)
READ_RULE = Read("ACL.BindingRuleRead", _read_rule, may_read, acl_only=True)
LIST_RULES = Read("ACL.BindingRuleList", _list_rules, may_read, acl_only=True)

# --- what the leader does ----------------------------------------------------------------------------


async def _set_method(server: ServerDoor, args: ACLAuthMethodSetRequest) -> ACLAuthMethod:
    need_acls(server)
    view, method = server.store, args.auth_method
    check_name("Auth Method", method.name, 128)
    known: ACLAuthMethod | None = view.acl_get(METHODS, method.name)[1]
    if known is not None:
        if method.type not in ("", known.type):
            raise Invalid("the Type field of an Auth Method is immutable")
        method = replace(method, type=known.type)
    _check_method(server, method)
    await acl_keys.find(server, jwt.read_config(method.config))  # what cannot be reached is told now
    request = ACLAuthMethodBatchSetRequest([method])
    await apply(server, commands.ACL_AUTH_METHOD_SET, request, "auth method upsert")
    return view.acl_get(METHODS, method.name)[1] or method


def _check_method(server: ServerDoor, method: ACLAuthMethod) -> None:
    if method.type == "kubernetes":
        raise Invalid(_NO_KUBERNETES)
    if method.type != "jwt":
        raise Invalid("Invalid Auth Method: Type should be one of: [jwt kubernetes]")
    limits, ttl = server.acl, duration.show(method.max_token_ttl)
    if method.max_token_ttl and method.max_token_ttl > limits.max_expiration:
        raise Invalid(f"MaxTokenTTL {ttl} cannot be more than {duration.show(limits.max_expiration)}")
    if method.max_token_ttl and method.max_token_ttl < limits.min_expiration:
        raise Invalid(f"MaxTokenTTL {ttl} cannot be less than {duration.show(limits.min_expiration)}")
    if method.token_locality not in ("", "local", "global"):
        raise Invalid("Invalid Auth Method: TokenLocality should be one of 'local' or 'global'")


async def _delete_method(server: ServerDoor, args: ACLAuthMethodDeleteRequest) -> bool:
    need_acls(server)
    method: ACLAuthMethod | None = server.store.acl_get(METHODS, args.auth_method_name)[1]
    if method is None:
        return False
    request = ACLAuthMethodBatchDeleteRequest([method.name])
    await apply(server, commands.ACL_AUTH_METHOD_DELETE, request, "auth method delete")
    return True


async def _set_rule(server: ServerDoor, args: ACLBindingRuleSetRequest) -> ACLBindingRule:
    need_acls(server)
    view = server.store
    rule = _identified(view, args.binding_rule)
    if not rule.auth_method:
        raise Invalid("Invalid Binding Rule: no AuthMethod is set")
    method: ACLAuthMethod | None = view.acl_get(METHODS, rule.auth_method)[1]
    if method is None:
        raise Invalid(f"cannot find auth method with name {quote(rule.auth_method)}")
    acl_binding.check(rule, jwt.blank(jwt.read_config(method.config)))
    request = ACLBindingRuleBatchSetRequest([replace(rule, auth_method=method.name)])
    await apply(server, commands.ACL_BINDING_RULE_SET, request, "binding rule upsert")
    return view.acl_get(RULES, rule.id)[1] or rule


def _identified(view: Store, rule: ACLBindingRule) -> ACLBindingRule:
    """The rule with its id: a new one, or that of the rule that is to be changed."""
    if not rule.id:
        return replace(rule, id=view.hooks.new_id())
    if not is_uuid(rule.id):
        raise Invalid("Binding Rule ID invalid UUID")
    known: ACLBindingRule | None = view.acl_get(RULES, rule.id)[1]
    if known is None:
        raise Invalid(f"cannot find binding rule {rule.id}")
    if rule.auth_method not in ("", known.auth_method):
        raise Invalid("the AuthMethod field of an Binding Rule is immutable")
    return replace(rule, id=known.id, auth_method=known.auth_method)


async def _delete_rule(server: ServerDoor, args: ACLBindingRuleDeleteRequest) -> bool:
    need_acls(server)
    rule_id = look_up(args.binding_rule_id, "binding rule")
    if server.store.acl_get(RULES, rule_id)[1] is None:
        return False
    request = ACLBindingRuleBatchDeleteRequest([rule_id])
    await apply(server, commands.ACL_BINDING_RULE_DELETE, request, "binding rule delete")
    return True


SET_METHOD = Action("ACL.AuthMethodSet", _set_method, permit=may_write)
DELETE_METHOD = Action("ACL.AuthMethodDelete", _delete_method, permit=may_write)
SET_RULE = Action("ACL.BindingRuleSet", _set_rule, permit=may_write)
DELETE_RULE = Action("ACL.BindingRuleDelete", _delete_rule, permit=may_write)

# --- HTTP --------------------------------------------------------------------------------------------


def methods(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/auth-methods`."""

    def body(answer: Answer) -> Reply:
        return json([acl_render.auth_method_stub(row) for row in answer.value])

    return Question(LIST_METHODS, MethodList(), query_options(request), body)


def method_written(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/auth-method`, `PUT /v1/acl/auth-method/NAME`."""
    method = acl_shapes.auth_method(request.body)
    if request.rest:
        if method.name not in ("", request.rest):
            raise BadRequest("Bad request: AuthMethod Name in URL and payload do not match")
        method = replace(method, name=request.rest)
    args = ACLAuthMethodSetRequest(method, agent.datacenter, request.token)
    return Errand(SET_METHOD, args, lambda made: json(acl_render.auth_method(made)), token=request.token)


def method(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/acl/auth-method/NAME`."""
    if request.method == "PUT":
        return method_written(agent, request)
    name = asked_for(request, "auth method name")
    if request.method == "DELETE":
        args = ACLAuthMethodDeleteRequest(name, agent.datacenter, request.token)
        return Errand(DELETE_METHOD, args, lambda _: Reply(body=b"true"), token=request.token)

    def body(answer: Answer) -> Reply:
        return Reply(404) if answer.value is None else json(acl_render.auth_method(answer.value))

    return Question(READ_METHOD, ById(name=name), query_options(request), body)


def rules(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/binding-rules`."""

    def body(answer: Answer) -> Reply:
        return json([acl_render.binding_rule(row) for row in answer.value])

    return Question(LIST_RULES, RuleList(request.query.get("authmethod")), query_options(request), body)


def rule_written(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/binding-rule`, `PUT /v1/acl/binding-rule/ID`."""
    rule = acl_shapes.binding_rule(request.body)
    if rule.id not in ("", request.rest):
        raise BadRequest("Bad request: BindingRule ID in URL and payload do not match")
    args = ACLBindingRuleSetRequest(replace(rule, id=request.rest), agent.datacenter, request.token)
    return Errand(SET_RULE, args, lambda made: json(acl_render.binding_rule(made)), token=request.token)


def rule(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/acl/binding-rule/ID`."""
    if request.method == "PUT":
        return rule_written(agent, request)
    rule_id = asked_for(request, "binding rule ID")
    if request.method == "DELETE":
        args = ACLBindingRuleDeleteRequest(rule_id, agent.datacenter, request.token)
        return Errand(DELETE_RULE, args, lambda _: Reply(body=b"true"), token=request.token)

    def body(answer: Answer) -> Reply:
        return Reply(404) if answer.value is None else json(acl_render.binding_rule(answer.value))

    return Question(READ_RULE, ById(rule_id), query_options(request), body)


ROUTES = (
    Route("/v1/acl/auth-methods", ("GET",), enabled(methods)),
    Route("/v1/acl/auth-method", ("PUT",), enabled(method_written)),
    Route("/v1/acl/auth-method/", ("GET", "PUT", "DELETE"), enabled(method)),
    Route("/v1/acl/binding-rules", ("GET",), enabled(rules)),
    Route("/v1/acl/binding-rule", ("PUT",), enabled(rule_written)),
    Route("/v1/acl/binding-rule/", ("GET", "PUT", "DELETE"), enabled(rule)),
)
