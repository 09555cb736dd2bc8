"""Policies: `/v1/acl/polic*`, and the questions and errands ACL.Policy*."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.acl.hashes import hashed_policy
from core.acl.policy import parse
from core.acl.resolve import not_found as no_such_token
from core.api import acl_render, acl_shapes
from core.api.acl_common import (
    LINKED,
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
    not_found,
    rows_of,
)
from core.api.acl_requests import (
    ACLPolicyDeleteRequest,
    ACLPolicyListStub,
    ACLPolicySetRequest,
    ById,
    ByIds,
)
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
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
from core.codec.duration import quote
from core.errors import BadRequest, Denied, Invalid
from core.store import commands
from core.store.acl import GLOBAL_MANAGEMENT
from core.store.acl_structs import (
    ACLPolicy,
    ACLPolicyBatchDeleteRequest,
    ACLPolicyBatchSetRequest,
    ACLRole,
    ACLToken,
)
from core.store.state import Store
from core.store.watch import Watch

TABLE = "acl-policies"


class Everything(Struct, frozen=True):
    """All of them."""


def _read(view: Store, args: ById, watch: Watch | None) -> Answer:
    if args.id:
        return Answer(*view.acl_get(TABLE, look_up(args.id, "policy"), watch))
    return Answer(*view.acl_named(TABLE, args.name, watch))


def _list(view: Store, args: Everything, watch: Watch | None) -> Answer:
    index, rows = view.acl_list(TABLE, watch)
    rows.sort(key=lambda row: row.id)
    return Answer(index, [stub(row) for row in rows])


def stub(row: ACLPolicy) -> ACLPolicyListStub:
    """A policy without its rules."""
    return ACLPolicyListStub(
        row.id, row.name, row.description, row.datacenters, row.hash, row.create_index, row.modify_index
    )


def _batch(view: Store, args: ByIds, watch: Watch | None) -> Answer:
    view.watch_cell(watch, TABLE)
    return Answer(view.index(TABLE), rows_of(view.acl_policies, args.ids))


def permit_batch(authorizer: Authorizer, args: ByIds, answer: Answer) -> Answer:
    """Rows for whom has acl:read, nothing for others."""
    if authorizer.allows("acl", "", "read"):
        return answer
    return replace(answer, value=[], filtered=bool(answer.value))


def of_token(view: Store, secret: str) -> ACLToken:
    """The token that a request carries. Denied when there is none."""
    token = view.token_by_secret(secret or "anonymous")
    if token is None:
        raise no_such_token()
    return token


def _resolve(view: Store, args: ByIds, watch: Watch | None) -> Answer:
    """Policies by id, of those that a token is linked with, itself or by its roles: a client agent learns
    with it what a token may do. Other ids are refused."""
    view.watch_cell(watch, *LINKED)
    token = of_token(view, args.token)
    roles = rows_of(view.acl_roles, [link.id for link in token.roles or ()])
    owners: tuple[ACLToken | ACLRole, ...] = (token, *roles)
    linked = {link.id.lower() for owner in owners for link in owner.policies or ()}
    if not linked.issuperset(one.lower() for one in args.ids):
        raise Denied("Permission denied")
    found = rows_of(view.acl_policies, args.ids)
    return Answer(0, found, remember=token.expiration_time is None)


READ = Read("ACL.PolicyRead", _read, may_read, acl_only=True)
LIST = Read("ACL.PolicyList", _list, may_read, acl_only=True)
BATCH = Read("ACL.PolicyBatchRead", _batch, permit_batch, acl_only=True)
RESOLVE = Read("ACL.PolicyResolve", _resolve, OPEN, acl_only=True)


async def _set(server: ServerDoor, args: ACLPolicySetRequest) -> ACLPolicy:
    need_acls(server)
    view, policy = server.store, args.policy
    check_name("Policy", policy.name, 128)
    _, named = view.acl_named(TABLE, policy.name)
    if policy.id:
        known = _known(view, policy)
        if named is not None and named.id != known.id:
            raise Invalid(f"Invalid Policy: A policy with name {quote(policy.name)} already exists")
        _check_builtin(known, policy)
        policy = replace(policy, id=known.id)
    elif named is not None:
        raise Invalid(f"Invalid Policy: A Policy with Name {quote(policy.name)} already exists")
    else:
        policy = replace(policy, id=view.hooks.new_id())
    parse(policy.rules, policy.syntax)
    policy = hashed_policy(policy)
    await apply(server, commands.ACL_POLICY_SET, ACLPolicyBatchSetRequest([policy]), "policy upsert")
    _, stored = view.acl_get(TABLE, policy.id)
    return stored or policy


def _known(view: Store, policy: ACLPolicy) -> ACLPolicy:
    """The policy that is to be changed."""
    if not is_uuid(policy.id):
        raise Invalid("Policy ID invalid UUID")
    known: ACLPolicy | None = view.acl_get(TABLE, policy.id)[1]
    if known is None:
        raise Invalid(f"cannot find policy {policy.id}")
    return known


def _check_builtin(known: ACLPolicy, policy: ACLPolicy) -> None:
    """Of the policy that allows everything only the name and the description may change."""
    if known.id != GLOBAL_MANAGEMENT:
        return
    if policy.datacenters is not None:
        what = "Changing the Datacenters of the builtin global-management policy is not permitted"
        raise Invalid(what)
    if policy.rules != known.rules:
        raise Invalid("Changing the Rules for the builtin global-management policy is not permitted")


async def _delete(server: ServerDoor, args: ACLPolicyDeleteRequest) -> str:
    need_acls(server)
    policy: ACLPolicy | None = server.store.acl_get(TABLE, look_up(args.policy_id, "policy"))[1]
    if policy is None:
        return ""
    if policy.id == GLOBAL_MANAGEMENT:
        raise Invalid("Delete operation not permitted on the builtin global-management policy")
    await apply(server, commands.ACL_POLICY_DELETE, ACLPolicyBatchDeleteRequest([policy.id]), "policy delete")
    return policy.name


SET = Action("ACL.PolicySet", _set, permit=may_write)
DELETE = Action("ACL.PolicyDelete", _delete, permit=may_write)


def _asked(request: Request, args: ById) -> Question:
    def body(answer: Answer) -> Reply:
        return not_found() if answer.value is None else json(acl_render.policy(answer.value))

    return Question(READ, args, query_options(request), body)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/policies`."""

    def body(answer: Answer) -> Reply:
        return json([acl_render.policy_stub(row) for row in answer.value])

    return Question(LIST, Everything(), query_options(request), body, each=acl_render.policy_stub)


def by_name(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/policy/name/NAME`."""
    return _asked(request, ById(name=asked_for(request, "policy Name")))


def create(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/policy`."""
    policy = acl_shapes.policy(request.body)
    if policy.id:
        raise BadRequest("Bad request: Cannot specify the ID when creating a new policy")
    return _written(agent, request, policy)


def _written(agent: AgentDoor, request: Request, policy: ACLPolicy) -> Errand:
    args = ACLPolicySetRequest(policy, agent.datacenter, request.token)
    return Errand(SET, args, lambda made: json(acl_render.policy(made)), token=request.token)


def one(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/acl/policy/ID`."""
    if request.method == "PUT":
        policy = acl_shapes.policy(request.body)
        if policy.id not in ("", request.rest):
            raise BadRequest("Bad request: Policy ID in URL and payload do not match")
        return _written(agent, request, replace(policy, id=request.rest))
    policy_id = asked_for(request, "policy ID")
    if request.method == "GET":
        return _asked(request, ById(policy_id))
    args = ACLPolicyDeleteRequest(policy_id, agent.datacenter, request.token)
    return Errand(DELETE, args, lambda _: Reply(body=b"true"), token=request.token)


ROUTES = (
    Route("/v1/acl/policies", ("GET",), enabled(listed)),
    Route("/v1/acl/policy", ("PUT",), enabled(create)),
    Route("/v1/acl/policy/name/", ("GET",), enabled(by_name)),
    Route("/v1/acl/policy/", ("GET", "PUT", "DELETE"), enabled(one)),
)
