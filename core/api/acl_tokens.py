"""Tokens: `/v1/acl/token*`, and the questions and errands ACL.Token*."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from core.acl.access import Authorizer
from core.acl.identities import synthetic_policies
from core.api import acl_render, acl_shapes
from core.api.acl_common import (
    LINKED,
    alive,
    asked_for,
    enabled,
    expired,
    json,
    look_up,
    may_read,
    not_found,
    rows_of,
)
from core.api.acl_requests import (
    HIDDEN,
    ACLTokenDeleteRequest,
    ACLTokenListStub,
    ACLTokenSetRequest,
    ByIds,
    TokenFound,
    TokenList,
    TokenRead,
)
from core.api.acl_token_write import CLONE, DELETE, SET, resolved
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    Question,
    Read,
    Reply,
    Request,
    Route,
)
from core.errors import BadRequest, Invalid
from core.store.acl_structs import (
    ACLLink,
    ACLPolicy,
    ACLRole,
    ACLToken,
)
from core.store.state import Store
from core.store.watch import Watch

_ONE_FILTER = "can only filter by one of: policy, role, auth method"

# --- reads -------------------------------------------------------------------------------------------


def _read(view: Store, args: TokenRead, watch: Watch | None) -> Answer:
    if args.secret:
        view.watch_cell(watch, *LINKED)
        token = view.token_by_secret(args.id)
    else:
        look_up(args.id, "token")
        view.watch_cell(watch, *LINKED)
        token = view.token_by_accessor(args.id)
    if token is None:
        return Answer(view.index("acl-tokens"), TokenFound(None, datacenter=args.datacenter))
    policies, roles = _expanded(view, token) if args.expanded else (None, None)
    found = TokenFound(resolved(view, token), False, policies, roles, args.datacenter)
    return Answer(view.index("acl-tokens"), found, remember=token.expiration_time is None)


def _expanded(view: Store, token: ACLToken) -> tuple[list[ACLPolicy], list[ACLRole]]:
    """All policies and roles that a token is given."""
    roles = rows_of(view.acl_roles, [link.id for link in token.roles or ()])
    policies: dict[str, ACLPolicy] = {}
    owners: tuple[ACLToken | ACLRole, ...] = (token, *roles)
    for owner in owners:
        linked = rows_of(view.acl_policies, [link.id for link in owner.policies or ()])
        for policy in (*linked, *synthetic_policies(owner)):
            policies.setdefault(policy.id, policy)
    named = [replace(role, policies=alive(view.acl_policies, role.policies)) for role in roles]
    return list(policies.values()), named


def _permit_read(authorizer: Authorizer, args: TokenRead, answer: Answer) -> Answer:
    """acl:read; the secret only with acl:write. Who knows a secret may see what it is good for."""
    found: TokenFound = answer.value
    if args.secret:
        return answer
    authorizer.require("acl", "", "read")
    if found.token is None or authorizer.allows("acl", "", "write"):
        return answer
    hidden = replace(found, token=replace(found.token, secret_id=HIDDEN), redacted=True)
    return replace(answer, value=hidden, filtered=True)


def _list(view: Store, args: TokenList, watch: Watch | None) -> Answer:
    if sum(map(bool, (args.policy, args.role, args.auth_method))) > 1:
        raise Invalid(_ONE_FILTER)
    policy, role = args.policy.lower(), args.role.lower()
    view.watch_cell(watch, *LINKED)
    if args.auth_method:
        keys = view.acl_tokens.group("auth_method", args.auth_method.lower())
        rows = [view.acl_tokens.rows[key] for key in keys]
    else:
        rows = list(view.acl_tokens.values())
    found = [
        stub(resolved(view, row))
        for row in sorted(rows, key=lambda row: row.accessor_id)
        if row.accessor_id
        and (args.local if row.local else args.everywhere)
        and (not policy or _linked(row.policies, policy))
        and (not role or _linked(row.roles, role))
        and (not args.service or _is_for(row, args.service))
    ]
    ends = any(one.expiration_time is not None for one in found)
    return Answer(view.index("acl-tokens"), found, remember=not ends)


def _linked(given: list[ACLLink] | None, key: str) -> bool:
    return any(link.id.lower() == key for link in given or ())


def _is_for(row: ACLToken, service: str) -> bool:
    if any(one.service_name == service for one in row.service_identities or ()):
        return True
    return any(
        one.template_name == "builtin/service"
        and one.template_variables is not None
        and one.template_variables.name == service
        for one in row.templated_policies or ()
    )


def stub(row: ACLToken) -> ACLTokenListStub:
    """A token without its secret."""
    return ACLTokenListStub(
        accessor_id=row.accessor_id,
        description=row.description,
        policies=row.policies,
        roles=row.roles,
        service_identities=row.service_identities,
        node_identities=row.node_identities,
        templated_policies=row.templated_policies,
        local=row.local,
        auth_method=row.auth_method,
        expiration_time=row.expiration_time,
        create_time=row.create_time,
        hash=row.hash,
        legacy=bool(row.rules),
        create_index=row.create_index,
        modify_index=row.modify_index,
    )


def _batch(view: Store, args: ByIds, watch: Watch | None) -> Answer:
    view.watch_cell(watch, *LINKED)
    rows = [row for one in args.ids if (row := view.token_by_accessor(one)) is not None]
    return Answer(view.index("acl-tokens"), [resolved(view, row) for row in rows])


def _permit_batch(authorizer: Authorizer, args: ByIds, answer: Answer) -> Answer:
    if authorizer.allows("acl", "", "write"):
        return answer
    may = authorizer.allows("acl", "", "read")
    hidden = [replace(row, secret_id=HIDDEN) for row in answer.value] if may else []
    return replace(answer, value=hidden, filtered=bool(answer.value))


READ = Read("ACL.TokenRead", _read, _permit_read, acl_only=True)
SELF = Read("ACL.TokenRead", _read, OPEN, acl_only=True)  # by secret: who has it needs no right
LIST = Read("ACL.TokenList", _list, may_read, acl_only=True)
BATCH = Read("ACL.TokenBatchRead", _batch, _permit_batch, acl_only=True)

# --- HTTP --------------------------------------------------------------------------------------------


def _asked(agent: AgentDoor, request: Request, read: Read, token_id: str) -> Question:
    args = TokenRead(token_id, read is SELF, _is_on(request, "expanded"))

    def body(answer: Answer) -> Reply:
        found: TokenFound = answer.value
        if found.token is None or expired(found.token, agent.wall()):
            return not_found()
        return json(acl_render.token(found.token) | (_expansion(agent, found) if args.expanded else {}))

    return Question(read, args, query_options(request), body)


def _is_on(request: Request, name: str) -> bool:
    """A boolean parameter; one without a value is on."""
    return request.query.has(name) and request.query.get(name).lower() not in ("false", "0", "f")


def _expansion(agent: AgentDoor, found: TokenFound) -> dict[str, Any]:
    settings = agent.acl
    return {
        "ExpandedPolicies": [acl_render.policy(one) for one in found.policies or ()],
        "ExpandedRoles": [acl_render.role(one) for one in found.roles or ()],
        "NamespaceDefaultPolicyIDs": None,
        "NamespaceDefaultRoleIDs": None,
        "AgentACLDefaultPolicy": settings.default_policy,
        "AgentACLDownPolicy": settings.down_policy,
        "ResolvedByAgent": agent.node_name,
    }


def own(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/token/self`."""
    return _asked(agent, request, SELF, request.token)


def create(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/token`."""
    return _written(agent, request, acl_shapes.token(request.body), create=True)


def _written(agent: AgentDoor, request: Request, token: ACLToken, create: bool) -> Errand:
    args = ACLTokenSetRequest(token, create, agent.datacenter, request.token)
    return Errand(SET, args, lambda made: json(acl_render.token(made)), token=request.token)


def one(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/acl/token/ACCESSOR`, and `PUT .../clone`."""
    if request.method == "PUT":
        accessor, slash, rest = request.rest.rpartition("/")
        return _copied(agent, request, accessor) if slash and rest == "clone" else _updated(agent, request)
    accessor = asked_for(request, "token ID")
    if request.method == "GET":
        return _asked(agent, request, READ, accessor)
    args = ACLTokenDeleteRequest(accessor, agent.datacenter, request.token)
    return Errand(DELETE, args, lambda _: Reply(body=b"true"), token=request.token)


def _updated(agent: AgentDoor, request: Request) -> Errand:
    token = acl_shapes.token(request.body)
    if token.accessor_id not in ("", request.rest):
        raise BadRequest("Bad request: Token Accessor ID in URL and payload do not match")
    return _written(agent, request, replace(token, accessor_id=request.rest), create=False)


def _copied(agent: AgentDoor, request: Request, accessor: str) -> Errand:
    wanted = replace(acl_shapes.token(request.body), accessor_id=accessor)
    args = ACLTokenSetRequest(wanted, True, agent.datacenter, request.token)
    return Errand(CLONE, args, lambda made: json(acl_render.token(made)), token=request.token)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/tokens`."""
    query = request.query
    args = TokenList(
        query.get("policy"), query.get("role"), query.get("authmethod"), query.get("servicename")
    )

    def body(answer: Answer) -> Reply:
        now = agent.wall()
        return json([acl_render.token_stub(one) for one in answer.value if not expired(one, now)])

    return Question(LIST, args, query_options(request), body)


ROUTES = (
    Route("/v1/acl/tokens", ("GET",), enabled(listed)),
    Route("/v1/acl/token", ("PUT",), enabled(create)),
    Route("/v1/acl/token/self", ("GET",), enabled(own)),
    Route("/v1/acl/token/", ("GET", "PUT", "DELETE"), enabled(one)),
)
