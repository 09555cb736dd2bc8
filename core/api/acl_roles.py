"""Roles: `/v1/acl/role*`, and the questions and errands ACL.Role*."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from core.acl.hashes import hashed_role
from core.api import acl_render, acl_shapes
from core.api.acl_common import (
    LINKED,
    alive,
    apply,
    asked_for,
    check_identities,
    check_name,
    enabled,
    is_uuid,
    json,
    links,
    look_up,
    may_read,
    may_write,
    need_acls,
    rows_of,
    unique_nodes,
    unique_services,
    unique_templated,
)
from core.api.acl_policies import of_token, permit_batch
from core.api.acl_requests import ACLRoleDeleteRequest, ACLRoleSetRequest, ById, ByIds
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
from core.store.acl_structs import ACLRole, ACLRoleBatchDeleteRequest, ACLRoleBatchSetRequest
from core.store.state import Store
from core.store.watch import Watch

TABLE = "acl-roles"
_SHOWN_FROM = ("acl-roles", "acl-policies")


class RoleList(Struct, frozen=True):
    """Roles, those with a policy (by id) where one is named."""

    policy: str = ""


def resolved(view: Store, role: ACLRole) -> ACLRole:
    """A role with the names that its links have today."""
    return replace(role, policies=alive(view.acl_policies, role.policies))


def _read(view: Store, args: ById, watch: Watch | None) -> Answer:
    view.watch_cell(watch, *_SHOWN_FROM)
    if args.id:
        index, role = view.acl_get(TABLE, look_up(args.id, "role"))
    else:
        index, role = view.acl_named(TABLE, args.name)
    return Answer(index, None if role is None else resolved(view, role))


def _list(view: Store, args: RoleList, watch: Watch | None) -> Answer:
    policy = args.policy.lower()
    view.watch_cell(watch, *_SHOWN_FROM)
    index, rows = view.acl_list(TABLE)
    found = [
        resolved(view, row)
        for row in sorted(rows, key=lambda row: row.id)
        if not policy or any(link.id.lower() == policy for link in row.policies or ())
    ]
    return Answer(index, found)


def _batch(view: Store, args: ByIds, watch: Watch | None) -> Answer:
    view.watch_cell(watch, *_SHOWN_FROM)
    rows = rows_of(view.acl_roles, args.ids)
    return Answer(view.index(TABLE), [resolved(view, row) for row in rows])


def _resolve(view: Store, args: ByIds, watch: Watch | None) -> Answer:
    """Roles by id, of those that a token is linked with; other ids are refused."""
    view.watch_cell(watch, *LINKED)
    token = of_token(view, args.token)
    linked = {link.id.lower() for link in token.roles or ()}
    if not linked.issuperset(one.lower() for one in args.ids):
        raise Denied("Permission denied")
    rows = rows_of(view.acl_roles, args.ids)
    return Answer(0, [resolved(view, row) for row in rows], remember=token.expiration_time is None)


READ = Read("ACL.RoleRead", _read, may_read, acl_only=True)
LIST = Read("ACL.RoleList", _list, may_read, acl_only=True)
BATCH = Read("ACL.RoleBatchRead", _batch, permit_batch, acl_only=True)
RESOLVE = Read("ACL.RoleResolve", _resolve, OPEN, acl_only=True)


async def _set(server: ServerDoor, args: ACLRoleSetRequest) -> ACLRole:
    need_acls(server)
    view, role = server.store, args.role
    check_name("Role", role.name, 256)
    role = replace(role, id=_id(view, role))
    check_identities(role, "role")
    role = replace(
        role,
        policies=links(view.acl_policies, role.policies, "policy", of_role=True),
        service_identities=unique_services(role.service_identities),
        node_identities=unique_nodes(role.node_identities),
        templated_policies=unique_templated(role.templated_policies),
    )
    role = hashed_role(role)
    await apply(server, commands.ACL_ROLE_SET, ACLRoleBatchSetRequest([role]), "role upsert")
    _, stored = view.acl_get(TABLE, role.id)
    return resolved(view, stored or role)


def _id(view: Store, role: ACLRole) -> str:
    """The id of the role that is to be changed, or a new one. Invalid when the name is taken."""
    _, named = view.acl_named(TABLE, role.name)
    if not role.id:
        if named is not None:
            raise Invalid(f"Invalid Role: A Role with Name {quote(role.name)} already exists")
        return view.hooks.new_id()
    if not is_uuid(role.id):
        raise Invalid("Role ID invalid UUID")
    known: ACLRole | None = view.acl_get(TABLE, role.id)[1]
    if known is None:
        raise Invalid(f"cannot find role {role.id}")
    if named is not None and named.id != known.id:
        raise Invalid(f"Invalid Role: A role with name {quote(role.name)} already exists")
    return known.id


async def _delete(server: ServerDoor, args: ACLRoleDeleteRequest) -> str:
    need_acls(server)
    role: ACLRole | None = server.store.acl_get(TABLE, look_up(args.role_id, "role"))[1]
    if role is None:
        return ""
    await apply(server, commands.ACL_ROLE_DELETE, ACLRoleBatchDeleteRequest([role.id]), "role delete")
    return role.name


SET = Action("ACL.RoleSet", _set, permit=may_write)
DELETE = Action("ACL.RoleDelete", _delete, permit=may_write)


def _asked(request: Request, args: ById) -> Question:
    def body(answer: Answer) -> Reply:
        return Reply(404) if answer.value is None else json(acl_render.role(answer.value))

    return Question(READ, args, query_options(request), body)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/roles`."""

    def body(answer: Answer) -> Reply:
        return json([acl_render.role(row) for row in answer.value])

    args = RoleList(request.query.get("policy"))
    return Question(LIST, args, query_options(request), body, each=acl_render.role)


def by_name(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/role/name/NAME`."""
    return _asked(request, ById(name=asked_for(request, "role Name")))


def written(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/role`, `PUT /v1/acl/role/ID`."""
    role = acl_shapes.role(request.body)
    if role.id not in ("", request.rest):
        raise BadRequest("Bad request: Role ID in URL and payload do not match")
    args = ACLRoleSetRequest(replace(role, id=request.rest), agent.datacenter, request.token)
    return Errand(SET, args, lambda made: json(acl_render.role(made)), token=request.token)


def one(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/acl/role/ID`."""
    if request.method == "PUT":
        return written(agent, request)
    role_id = asked_for(request, "role ID")
    if request.method == "GET":
        return _asked(request, ById(role_id))
    args = ACLRoleDeleteRequest(role_id, agent.datacenter, request.token)
    return Errand(DELETE, args, lambda _: Reply(body=b"true"), token=request.token)


ROUTES = (
    Route("/v1/acl/roles", ("GET",), enabled(listed)),
    Route("/v1/acl/role", ("PUT",), enabled(written)),
    Route("/v1/acl/role/name/", ("GET",), enabled(by_name)),
    Route("/v1/acl/role/", ("GET", "PUT", "DELETE"), enabled(one)),
)
