"""Logins: `/v1/acl/login` and `/v1/acl/logout`, and the errands ACL.Login and ACL.Logout.

The leader fetches what it needs to judge the credential, judges it, and makes a token with what the
binding rules of the auth method give."""

from __future__ import annotations

import re

from core.acl import jwt
from core.acl.jwt import Identity, JwtConfig, UnknownKey
from core.acl.resolve import not_found as no_such_token
from core.api import acl_keys, acl_render, acl_shapes
from core.api.acl_binding import Bindings, bind
from core.api.acl_common import enabled, json, need_acls
from core.api.acl_requests import ACLLoginParams, ACLLoginRequest, ACLLogoutRequest
from core.api.acl_token_write import delete_token, store_token
from core.api.endpoint import (
    OPEN,
    Action,
    AgentDoor,
    Errand,
    Outcome,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import gojson
from core.codec.duration import quote
from core.errors import Denied, Invalid
from core.store.acl_structs import ACLAuthMethod, ACLToken

_VARIABLE = re.compile(r"\$\{\s*([^}]*?)\s*\}")


async def _login(server: ServerDoor, args: ACLLoginRequest) -> ACLToken:
    need_acls(server)
    auth = args.auth
    if auth is None:
        raise Invalid("Invalid Login request: Missing auth parameters")
    method: ACLAuthMethod | None = server.store.acl_get("acl-auth-methods", auth.auth_method)[1]
    if method is None:
        raise Denied(f"ACL not found: auth method {quote(auth.auth_method)} not found")
    if method.type != "jwt":
        raise Invalid(f"auth method {quote(method.name)} is of type {method.type}, not jwt")
    identity = await _proved(server, jwt.read_config(method.config), auth.bearer_token)
    bindings = bind(server.store, method, identity, server.datacenter)
    if not bindings:
        which = f"no binding rule of auth method {quote(method.name)}"
        raise Denied(f"Permission denied: {which} gives anything to this login")
    token = _token(method, bindings, _description(method, auth, identity))
    return await store_token(server, token, create=True, from_login=True)


async def _proved(server: ServerDoor, config: JwtConfig, bearer: str) -> Identity:
    """Who logs in. An issuer may have changed its keys: they are fetched anew before it is told that none
    fits."""
    keys, config = await acl_keys.find(server, config)
    try:
        claims = jwt.verify(bearer, config, keys, server.wall())
    except UnknownKey:
        if config.pub_keys:
            raise
        keys, config = await acl_keys.find(server, config, fresh=True)
        claims = jwt.verify(bearer, config, keys, server.wall())
    return jwt.identity(claims, config)


def _token(method: ACLAuthMethod, bindings: Bindings, description: str) -> ACLToken:
    return ACLToken(
        description=description,
        local=method.token_locality != "global",
        auth_method=method.name,
        service_identities=bindings.services,
        node_identities=bindings.nodes,
        policies=bindings.policies,
        roles=bindings.roles,
        templated_policies=bindings.templated,
        expiration_ttl=method.max_token_ttl,
    )


def _description(method: ACLAuthMethod, auth: ACLLoginParams, identity: Identity) -> str:
    """What the method's TokenNameFormat makes of `${auth_method_type}-${value.NAME}`, else as Consul has it
    with the meta of the login."""
    if method.token_name_format:
        known = {
            **identity.variables,
            "auth_method_type": method.type.upper(),
            "auth_method_name": method.name,
        }
        return _VARIABLE.sub(lambda match: known.get(match[1], ""), method.token_name_format)
    text = "token created via login"
    if auth.meta:
        text += f": {gojson.encode(dict(sorted(auth.meta.items()))).decode()}"
    return text


async def _logout(server: ServerDoor, args: ACLLogoutRequest) -> bool:
    need_acls(server)
    token = server.store.token_by_secret(args.token) if args.token else None
    if token is None:
        raise no_such_token()
    if not token.auth_method:
        raise Denied("Permission denied: this token does not come from a login; delete it to be rid of it")
    await delete_token(server, token)
    return True


# Who knows a credential, or the secret of a token, needs no other right.
LOGIN = Action("ACL.Login", _login, OPEN)
LOGOUT = Action("ACL.Logout", _logout, OPEN)


def login(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/acl/login`."""
    given = acl_shapes.login(request.body)
    datacenter = request.query.get("dc")
    params = None if given is None else ACLLoginParams(given[0], given[1], given[2] or None)
    args = ACLLoginRequest(params, datacenter or agent.datacenter)
    return Errand(LOGIN, args, lambda made: json(acl_render.token(made)), datacenter)


def logout(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/acl/logout`."""
    if not request.token:
        raise no_such_token()
    datacenter = request.query.get("dc")
    args = ACLLogoutRequest(datacenter or agent.datacenter, request.token)
    return Errand(LOGOUT, args, lambda _: Reply(body=b"true"), datacenter, request.token)


ROUTES = (
    Route("/v1/acl/login", ("POST",), enabled(login)),
    Route("/v1/acl/logout", ("POST",), enabled(logout)),
)
