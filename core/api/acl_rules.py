"""What rules say: old rules in today's words, templates of policies, whether a token may do something, and
why. `/v1/acl/rules/*`, `/v1/acl/templated-polic*`, `/v1/internal/acl/*`."""

from __future__ import annotations

from typing import Any, cast, get_args

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Access, Authorizer, Decision, Resource
from core.acl.identities import TEMPLATES, Template, templated_policy
from core.acl.translate import translate
from core.api import acl_render, acl_shapes
from core.api.acl_common import check_templated, enabled, json, need_acls, not_found
from core.api.acl_requests import (
    ACLAuthorizationRequest,
    ACLAuthorizationResponse,
    TokenFound,
    TokenRead,
)
from core.api.acl_tokens import READ
from core.api.agent_common import refuse
from core.api.blocking import query_options
from core.api.endpoint import (
    OPEN,
    TEXT,
    Action,
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    Question,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec.duration import quote
from core.errors import BadRequest, Denied, Invalid
from core.store.acl_structs import ACLTemplatedPolicy, ACLTemplateVariables

MAX_QUESTIONS = 64
_RESOURCES: tuple[str, ...] = get_args(Resource)
_LEVELS = ("read", "list", "write")
_SCHEMA = (
    '{"type": "object", "properties": {"Name": {"type": "string", "minLength": 1}}, "required": ["Name"]}'
)

# --- old rules ---------------------------------------------------------------------------------------


def translated(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/acl/rules/translate`: acl:read, so that nobody else makes this agent work."""
    request.authorizer.require("acl", "", "read")
    try:
        text = translate(request.body.decode("utf-8", "replace"))
    except Invalid as error:
        raise BadRequest(f"Bad request: {error}") from None
    return Reply(body=text.encode(), content_type=TEXT) if text else Reply()


def translated_token(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/rules/translate/ACCESSOR`: the rules of an old token."""
    if not request.rest:
        raise BadRequest("Bad request: Missing token ID")
    options = query_options(request)
    options.min_query_index = 0

    def body(answer: Answer) -> Reply:
        found: TokenFound = answer.value
        if found.token is None:
            return not_found()
        if not found.token.rules:
            return refuse(500, "The specified token does not have any rules set")
        try:
            return Reply(body=translate(found.token.rules).encode(), content_type=TEXT)
        except Invalid as error:
            return refuse(500, f"Failed to parse legacy rules: {error}")

    return Question(READ, TokenRead(request.rest), options, body)


# --- templates of policies ---------------------------------------------------------------------------


def _shown(template: Template) -> dict[str, str]:
    variables = {"name": '"{{.Name}}"', "sidecar": '"{{.Name}}-sidecar-proxy"'}
    return {
        "TemplateName": template.name,
        "Schema": _SCHEMA if template.needs_name else "",
        "Template": template.text.format(**variables),
        "Description": template.description,
    }


def _template(request: Request) -> Template | Reply:
    request.authorizer.require("acl", "", "read")
    if not request.rest:
        raise BadRequest("Bad request: Missing templated policy Name")
    return TEMPLATES.get(request.rest) or refuse(404, f"Invalid templated policy Name: {request.rest}")


def templates(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/templated-policies`."""
    request.authorizer.require("acl", "", "read")
    return json({name: _shown(TEMPLATES[name]) for name in sorted(TEMPLATES)})


def template(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/templated-policy/name/NAME`."""
    found = _template(request)
    return found if isinstance(found, Reply) else json(_shown(found))


def preview(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/acl/templated-policy/preview/NAME`: the policy that a template gives."""
    found = _template(request)
    if isinstance(found, Reply):
        return found
    name = acl_shapes.template_name(request.body)
    filled = ACLTemplatedPolicy(found.id, found.name, ACLTemplateVariables(name) if name else None)
    try:
        check_templated(filled, "preview")
    except Invalid as error:
        raise BadRequest(f"Bad request: {error}") from None
    return json(acl_render.policy(templated_policy(filled)))


# --- may this token? ---------------------------------------------------------------------------------


class Authorize(Struct, frozen=True):
    """Whether the token that is sent along may do all these."""

    requests: tuple[ACLAuthorizationRequest, ...] = ()
    token: str = ""


class Why(Struct, frozen=True):
    """Why the token of an accessor may do something, or not."""

    accessor: str = ""
    resource: str = ""
    name: str = ""
    access: str = ""


def asked(resource: str, access: str) -> tuple[Resource, Access]:
    """Words of a question that mean something. Invalid has Consul's text."""
    if resource not in _RESOURCES:
        raise Invalid(f"Invalid ACL resource requested: {quote(resource)}")
    if access not in _LEVELS or (access == "list" and resource != "key"):
        raise Invalid(f"Invalid access level for {resource} resource: {access}")
    return cast(Resource, resource), cast(Access, access)


def _answers(
    authorizer: Authorizer, requests: tuple[ACLAuthorizationRequest, ...]
) -> list[ACLAuthorizationResponse]:
    found = []
    for one in requests:
        resource, access = asked(one.resource, one.access)
        allow = authorizer.allows(resource, one.segment, access)
        found.append(ACLAuthorizationResponse(one.resource, one.segment, one.access, allow))
    return found


async def _authorize(server: ServerDoor, args: Authorize) -> list[ACLAuthorizationResponse]:
    need_acls(server)
    assert server.permissions is not None
    return _answers(await server.permissions.find(args.token), args.requests)


async def _why(server: ServerDoor, args: Why) -> Decision:
    need_acls(server)
    assert server.permissions is not None
    token = server.store.token_by_accessor(args.accessor)
    if token is None:
        raise Denied("ACL not found")
    authorizer = await server.permissions.find(token.secret_id)
    resource, access = asked(args.resource, args.access)
    return authorizer.explain(resource, args.name, access)


def _may_ask(authorizer: Authorizer, args: Any) -> None:
    authorizer.require("acl", "", "read")


AUTHORIZE = Action("ACL.Authorize", _authorize, OPEN, leader=False)
WHY = Action("ACL.Why", _why, leader=False, permit=_may_ask)


def authorize(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/internal/acl/authorize`."""
    rows = [ACLAuthorizationRequest(*row) for row in acl_shapes.questions(request.body)]
    if len(rows) > MAX_QUESTIONS:
        limit = f"Refusing to process more than {MAX_QUESTIONS} authorizations at once"
        raise BadRequest(f"Bad request: {limit}")
    datacenter = request.query.get("dc")
    if datacenter not in ("", agent.datacenter):
        args = Authorize(tuple(rows), request.token)
        return Errand(AUTHORIZE, args, _authorized, datacenter, request.token)
    try:
        return _authorized(_answers(request.authorizer, tuple(rows)))
    except Invalid as error:
        raise BadRequest(f"Bad request: {error}") from None


def _authorized(found: list[ACLAuthorizationResponse]) -> Reply:
    return json(
        [
            {"Resource": one.resource, "Segment": one.segment, "Access": one.access, "Allow": one.allow}
            for one in found
        ]
    )


def why(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/internal/acl/why?resource=key&name=a/b&access=write`: the rule that decides, for the token of
    this request, or with acl:read for that of `accessor`."""
    query = request.query
    args = Why(query.get("accessor"), query.get("resource"), query.get("name"), query.get("access"))
    try:
        resource, access = asked(args.resource, args.access)
    except Invalid as error:
        raise BadRequest(f"Bad request: {error}") from None

    def body(decision: Decision) -> Reply:
        whose = args.accessor or request.authorizer.accessor
        return json(_explained(replace(args, accessor=whose), decision))

    if args.accessor:
        return Errand(WHY, args, body, query.get("dc"), request.token)
    return body(request.authorizer.explain(resource, args.name, access))


def _explained(args: Why, decision: Decision) -> dict[str, Any]:
    return {
        "Allowed": decision.allowed,
        "AccessorID": args.accessor,
        "Resource": args.resource,
        "Name": args.name,
        "Access": args.access,
        "Policy": decision.policy,
        "Rule": decision.rule,
        "Default": decision.default,
    }


ROUTES = (
    Route("/v1/acl/rules/translate", ("POST",), enabled(translated), guarded=True),
    Route("/v1/acl/rules/translate/", ("GET",), enabled(translated_token)),
    Route("/v1/acl/templated-policies", ("GET",), enabled(templates), guarded=True),
    Route("/v1/acl/templated-policy/name/", ("GET",), enabled(template), guarded=True),
    Route("/v1/acl/templated-policy/preview/", ("POST",), enabled(preview), guarded=True),
    Route("/v1/internal/acl/authorize", ("POST",), enabled(authorize), guarded=True),
    Route("/v1/internal/acl/why", ("GET",), enabled(why), guarded=True),
)
