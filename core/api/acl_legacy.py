"""The endpoints of the ACL system before Consul 1.4, as 1.9.8 answers them: tokens with rules of their own,
known by their secret alone."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.acl.builtin import ANONYMOUS_SECRET
from core.acl.policy import LEGACY, parse
from core.api import acl_render, acl_shapes
from core.api.acl_common import enabled, json, may_write, need_acls
from core.api.agent_common import refuse
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
from core.codec.duration import MILLISECOND
from core.errors import CtlError, Denied, Invalid
from core.store import commands
from core.store.acl_structs import ACLToken, LegacyACL, LegacyACLRequest
from core.store.state import Store
from core.store.watch import Watch

_TYPES = ("client", "management")
_ROOTS = ("allow", "deny", "manage")


class OneAcl(Struct, frozen=True):
    """A token by its secret."""

    secret: str


class AllAcls(Struct, frozen=True):
    """All tokens of the old form."""


def old_form(token: ACLToken) -> LegacyACL | None:
    """A token as the old system shows it, None when it has none of its types: the first management tokens
    have one, beside their policy."""
    if token.type not in _TYPES:
        return None
    return LegacyACL(
        token.secret_id,
        token.description,
        token.type,
        token.rules,
        token.create_index,
        token.modify_index,
    )


def _get(view: Store, args: OneAcl, watch: Watch | None) -> Answer:
    view.watch_cell(watch, "acl-tokens")
    token = view.token_by_secret(args.secret)
    acl = old_form(token) if token is not None else None
    return Answer(view.index("acl-tokens"), [] if acl is None else [acl])


def _list(view: Store, args: AllAcls, watch: Watch | None) -> Answer:
    view.watch_cell(watch, "acl-tokens")
    found = [acl for token in view.acl_tokens.values() if (acl := old_form(token)) is not None]
    return Answer(view.index("acl-tokens"), found)


def _may_list(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
    authorizer.require("acl", "", "write")  # secrets are shown
    return answer


async def _apply(server: ServerDoor, args: LegacyACLRequest) -> str:
    """Store or delete a token; the secret of one that was stored."""
    need_acls(server)
    # The secret that asked is nobody's business in the log.
    checked = replace(args, acl=_checked(server.store, args), token="")
    result = await server.raft.apply(commands.command(commands.ACL, checked))
    if isinstance(result, CtlError):
        raise Invalid(str(result))
    return checked.acl.id if args.op == "set" else ""


def _checked(view: Store, args: LegacyACLRequest) -> LegacyACL:
    acl = args.acl
    if args.op == "delete":
        if not acl.id:
            raise Invalid("Missing ACL ID")
        if acl.id == ANONYMOUS_SECRET:
            raise Denied("Permission denied: Cannot delete anonymous token")
        return acl
    if args.op != "set":
        raise Invalid("Invalid ACL Operation")
    if acl.type not in _TYPES:
        raise Invalid("Invalid ACL Type")
    known = view.token_by_secret(acl.id)
    if known is not None and _is_modern(known):
        raise Invalid("Cannot use legacy endpoint to modify a non-legacy token")
    if acl.id in _ROOTS:
        raise Denied("Permission denied: Cannot modify root ACL")
    try:
        parse(acl.rules, LEGACY)
    except Invalid as error:
        raise Invalid(f"ACL rule compilation failed: {error}") from None
    return replace(acl, id=acl.id or view.hooks.new_id())


def _is_modern(token: ACLToken) -> bool:
    """Whether the old system does not know what the token is."""
    links = token.policies or token.roles or token.service_identities or token.node_identities
    return bool(links or not token.type or token.expiration_time is not None or token.auth_method)


GET = Read("ACL.Get", _get, OPEN, acl_only=True)  # the id is the secret
LIST = Read("ACL.List", _list, _may_list, acl_only=True)
APPLY = Action("ACL.Apply", _apply, may_write)


def _change(agent: AgentDoor, request: Request, op: str, acl: LegacyACL) -> Errand:
    args = LegacyACLRequest(agent.datacenter, op, acl, request.token)

    def done(made: Any) -> Reply:
        return json({"ID": made}) if op == "set" else Reply(body=b"true")

    return Errand(APPLY, args, done, token=request.token)


def create(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/create`."""
    return _change(agent, request, "set", acl_shapes.legacy(request.body))


def update(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/update`."""
    acl = acl_shapes.legacy(request.body)
    return _change(agent, request, "set", acl) if acl.id else refuse(400, "ACL ID must be set")


def destroy(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/destroy/ID`."""
    if not request.rest:
        return refuse(400, "Missing ACL")
    return _change(agent, request, "delete", LegacyACL(id=request.rest))


def _shown(answer: Answer) -> Reply:
    return json([acl_render.legacy(acl) for acl in answer.value])


def info(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/info/ID`."""
    if not request.rest:
        return refuse(400, "Missing ACL")
    return Question(GET, OneAcl(request.rest), query_options(request), _shown)


def listed(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/list`."""
    return Question(LIST, AllAcls(), query_options(request), _shown)


def clone(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/clone/ID`."""
    return _clone(agent, request) if request.rest else refuse(400, "Missing ACL")


async def _clone(agent: AgentDoor, request: Request) -> Reply:
    answer = await agent.ask(Question(GET, OneAcl(request.rest), query_options(request), _shown))
    if not answer.value:  # also for who may not clone: ids are secrets
        raise Denied("Permission denied")
    errand = _change(agent, request, "set", replace(answer.value[0], id=""))
    reply = errand.render(await agent.run(errand))
    reply.index = max(answer.index, 1)
    reply.headers = {
        "X-Consul-KnownLeader": "true" if answer.known_leader else "false",
        "X-Consul-LastContact": str(answer.last_contact // MILLISECOND),
    }
    return reply


ROUTES = (
    Route("/v1/acl/create", ("PUT",), enabled(create)),
    Route("/v1/acl/update", ("PUT",), enabled(update)),
    Route("/v1/acl/destroy/", ("PUT",), enabled(destroy)),
    Route("/v1/acl/info/", ("GET",), enabled(info)),
    Route("/v1/acl/clone/", ("PUT",), enabled(clone)),
    Route("/v1/acl/list", ("GET",), enabled(listed)),
)
