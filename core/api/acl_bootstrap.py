"""The first token, and how replication goes: `/v1/acl/bootstrap`, `/v1/acl/replication`; and the agent's own
tokens, `/v1/agent/token/KIND`."""

from __future__ import annotations

from typing import Any, Protocol, cast

from core.acl.builtin import management_token
from core.api import acl_render, acl_shapes, decode
from core.api.acl_common import apply, enabled, go_time, is_uuid, json, need_acls
from core.api.acl_requests import ACLReplicationStatus, Bootstrap
from core.api.acl_token_write import resolved
from core.api.agent_common import done, refuse
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
    TokenKind,
)
from core.codec.duration import quote
from core.errors import Denied, Invalid
from core.store import commands
from core.store.acl import BOOTSTRAP_INDEX
from core.store.acl_structs import ACLToken, ACLTokenBootstrapRequest

_DESCRIPTION = "Bootstrap Token (Global Management)"
KINDS: dict[str, TokenKind] = {
    "default": "default",
    "agent": "agent",
    "agent_recovery": "agent_recovery",
    "replication": "replication",
    "config_file_service_registration": "config_file_service_registration",
    "dns": "dns",
    # names of older versions
    "agent_master": "agent_recovery",
    "acl_token": "default",
    "acl_agent_token": "agent",
    "acl_agent_master_token": "agent_recovery",
    "acl_replication_token": "replication",
}


async def _bootstrap(server: ServerDoor, args: Bootstrap) -> ACLToken:
    need_acls(server)
    view = server.store
    reset = 0
    if not view.bootstrap_allowed():
        last = view.indexes[BOOTSTRAP_INDEX]
        reset = server.bootstrap_reset_index()
        if not reset:
            raise Denied(f"Permission denied: ACL bootstrap no longer allowed (reset index: {last})")
        if reset != last:
            raise Invalid(f"Invalid bootstrap reset index (specified {reset}, reset index: {last})")
    if args.secret and not is_uuid(args.secret):
        raise Invalid("Invalid bootstrap secret: not a valid UUID")
    if args.secret and view.token_by_secret(args.secret) is not None:
        raise Invalid("Invalid bootstrap secret: a token has it already")
    secret = args.secret or view.hooks.new_id()
    token = management_token(view.hooks.new_id(), secret, _DESCRIPTION, go_time(server.wall()))
    await apply(server, commands.ACL_BOOTSTRAP, ACLTokenBootstrapRequest(token, reset), "bootstrap")
    return resolved(view, view.token_by_accessor(token.accessor_id) or token)


class _Server(Protocol):
    """What is asked of a server beside the ServerDoor. agent/server.py fulfils it."""

    def replication_status(self) -> ACLReplicationStatus: ...


async def _replication(server: ServerDoor, args: None) -> ACLReplicationStatus:
    """The leader copies, so it knows."""
    return cast(_Server, server).replication_status()


BOOTSTRAP = Action("ACL.BootstrapTokens", _bootstrap, OPEN)
REPLICATION = Action("ACL.ReplicationStatus", _replication, OPEN)


def bootstrap(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/acl/bootstrap`: once, or again with the reset index in the leader's data directory."""

    def body(made: ACLToken) -> Reply:
        return json({"ID": made.secret_id, **acl_render.token(made)})

    return Errand(BOOTSTRAP, Bootstrap(acl_shapes.bootstrap_secret(request.body)), body)


def replication(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/acl/replication`."""

    def body(status: ACLReplicationStatus) -> Reply:
        shown: dict[str, Any] = {
            "Enabled": status.enabled,
            "Running": status.running,
            "SourceDatacenter": status.source_datacenter,
            "ReplicationType": status.replication_type,
            "ReplicatedIndex": status.replicated_index,
            "ReplicatedRoleIndex": status.replicated_role_index,
            "ReplicatedTokenIndex": status.replicated_token_index,
            "LastSuccess": acl_shapes.show_time(status.last_success),
            "LastError": acl_shapes.show_time(status.last_error),
        }
        return json(shown)

    return Errand(REPLICATION, None, body, request.query.get("dc"), request.token)


def agent_token(agent: AgentDoor, request: Request) -> Outcome:
    """`PUT /v1/agent/token/KIND`: agent:write on this agent."""
    request.authorizer.require("agent", agent.node_name, "write")
    secret = decode.agent_token(request.body)
    kind = KINDS.get(request.rest)
    if kind is None:
        return refuse(404, f"Token {quote(request.rest)} is unknown")
    return _set(agent, kind, secret)


async def _set(agent: AgentDoor, kind: TokenKind, secret: str) -> Reply:
    await agent.tokens.set(kind, secret)
    return done()


ROUTES = (
    Route("/v1/acl/bootstrap", ("PUT",), enabled(bootstrap)),
    Route("/v1/acl/replication", ("GET",), enabled(replication)),
    Route("/v1/agent/token/", ("PUT",), enabled(agent_token), guarded=True),
)
