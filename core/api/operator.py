"""What operators ask of the servers and change: `/v1/operator/raft/*`, `/v1/operator/autopilot/*`, and the
errands Operator.*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api import permits
from core.api.blocking import parse_uint, query_options
from core.api.endpoint import (
    Action,
    AgentDoor,
    Command,
    Errand,
    Outcome,
    Reply,
    Request,
    Route,
    ServerDoor,
    Write,
)
from core.api.operator_shapes import (
    AutopilotHealthReply,
    AutopilotState,
    RaftConfigurationResponse,
    RaftServer,
    health_reply,
    read_autopilot_config,
    show_autopilot_config,
    show_health,
    show_raft_configuration,
    show_state,
    state_reply,
)
from core.codec import gojson
from core.errors import BadRequest, Invalid
from core.node.autopilot import DEFAULTS
from core.node.servers import server_facts
from core.store import commands
from core.store.state import Store
from core.store.structs import AutopilotConfig, AutopilotSetConfigRequest, go_name

UNKNOWN = "(unknown)"


class OperatorRead(Struct, frozen=True):
    """A question about the servers. `stale`: any server may answer it, not only the leader."""

    stale: bool = False


class RemovePeer(Struct, frozen=True, rename=go_name):
    """The server that Raft should forget, by address or by id."""

    address: str = ""
    id: str = ""


class TransferLeader(Struct, frozen=True, rename=go_name):
    """The server that should lead; without an id the one that knows most."""

    id: str = ""


# --- what the leader does ----------------------------------------------------------------------------


async def _raft_configuration(server: ServerDoor, args: OperatorRead) -> RaftConfigurationResponse:
    known = {
        facts.id: facts for member in server.lan.members() if (facts := server_facts(member)) is not None
    }
    raft = server.raft
    servers = []
    for one in raft.configuration.servers:
        facts = known.get(one.id)
        servers.append(
            RaftServer(
                id=one.id,
                node=facts.name if facts is not None else UNKNOWN,
                address=one.address,
                leader=one.id == raft.leader_id,
                protocol_version=str(facts.raft_version) if facts is not None else "unknown",
                voter=raft.configuration.votes(one.id),
            )
        )
    return RaftConfigurationResponse(servers=servers)


async def _remove_by_address(server: ServerDoor, args: RemovePeer) -> None:
    known = server.raft.configuration.by_address(args.address)
    if known is None:
        raise Invalid(f'address "{args.address}" was not found in the Raft configuration')
    await server.raft.change(server.raft.configuration.without(known.id))


async def _remove_by_id(server: ServerDoor, args: RemovePeer) -> None:
    if server.raft.configuration.get(args.id) is None:
        raise Invalid(f'id "{args.id}" was not found in the Raft configuration')
    await server.raft.change(server.raft.configuration.without(args.id))


async def _transfer(server: ServerDoor, args: TransferLeader) -> bool:
    if len(server.raft.configuration.voters) < 2:
        raise Invalid("cannot transfer leadership: there is no other voter")
    await server.transfer_leader(args.id)
    return True


async def _autopilot_configuration(server: ServerDoor, args: OperatorRead) -> AutopilotConfig:
    return server.store.autopilot_config() or DEFAULTS


async def _health(server: ServerDoor, args: OperatorRead) -> AutopilotHealthReply:
    return health_reply(server.autopilot_health())


async def _state(server: ServerDoor, args: OperatorRead) -> AutopilotState:
    return state_reply(server.autopilot_health(), server.store)


def _prepare_autopilot(view: Store, args: AutopilotSetConfigRequest) -> bytes:
    return commands.command(commands.AUTOPILOT, args)


_READ, _WRITE = permits.needs("operator", "read"), permits.needs("operator", "write")
_READ_SAID, _WRITE_SAID = permits.needs_said("operator", "read"), permits.needs_said("operator", "write")


def _may_set_autopilot(authorizer: Authorizer, view: Store, args: AutopilotSetConfigRequest) -> None:
    _WRITE_SAID(authorizer, args)


RAFT_CONFIGURATION = Action("Operator.RaftGetConfiguration", _raft_configuration, permit=_READ)
REMOVE_BY_ADDRESS = Action("Operator.RaftRemovePeerByAddress", _remove_by_address, permit=_WRITE)
REMOVE_BY_ID = Action("Operator.RaftRemovePeerByID", _remove_by_id, permit=_WRITE)
TRANSFER_LEADER = Action("Operator.TransferLeader", _transfer, permit=_WRITE)
AUTOPILOT_CONFIGURATION = Action(
    "Operator.AutopilotGetConfiguration", _autopilot_configuration, permit=_READ_SAID
)
SERVER_HEALTH = Action("Operator.ServerHealth", _health, permit=_READ_SAID)
AUTOPILOT_STATE = Action("Operator.AutopilotState", _state, permit=_READ_SAID)
SET_AUTOPILOT = Write("Operator.AutopilotSetConfiguration", _prepare_autopilot, _may_set_autopilot)


def reading(action: Action, stale: bool) -> Action:
    """The action as it is done for a read that any server may answer, or only the leader."""
    return replace(action, leader=False) if stale else action


# --- HTTP --------------------------------------------------------------------------------------------


def _read(action: Action, request: Request, render: Callable[[Any], Reply]) -> Errand:
    options = query_options(request)
    stale = options.allow_stale
    args = OperatorRead(stale)
    return Errand(reading(action, stale), args, render, options.datacenter, request.token)


def raft_configuration(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/operator/raft/configuration`: the servers, who leads and who votes."""
    return _read(
        RAFT_CONFIGURATION, request, lambda found: Reply(body=gojson.encode(show_raft_configuration(found)))
    )


def raft_peer(agent: AgentDoor, request: Request) -> Outcome:
    """`DELETE /v1/operator/raft/peer`: let Raft forget a server, by `id` or `address`."""
    server_id, address = request.query.get("id"), request.query.get("address")
    if not server_id and not address:
        raise BadRequest(
            "Bad request: Must specify either ?id with the server's ID or ?address with IP:port "
            "of peer to remove"
        )
    if server_id and address:
        raise BadRequest("Bad request: Must specify only one of ?id or ?address")
    action = REMOVE_BY_ID if server_id else REMOVE_BY_ADDRESS
    args = RemovePeer(address, server_id)
    return Errand(action, args, lambda _: Reply(), request.query.get("dc"), request.token)


def transfer_leader(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/operator/raft/transfer-leader`: hand leadership to the server `id`, or to any other."""
    args = TransferLeader(request.query.get("id"))
    return Errand(
        TRANSFER_LEADER,
        args,
        lambda success: Reply(body=gojson.encode({"Success": success})),
        request.query.get("dc"),
        request.token,
    )


def autopilot_configuration(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/operator/autopilot/configuration`: GET it, PUT another one (`cas`)."""
    if request.method == "GET":
        return _read(
            AUTOPILOT_CONFIGURATION,
            request,
            lambda found: Reply(body=gojson.encode(show_autopilot_config(found))),
        )
    config = read_autopilot_config(request.body)
    cas = request.query.has("cas")
    index = 0
    if cas:
        try:
            index = parse_uint(request.query.get("cas"))
        except ValueError as error:
            raise BadRequest(f"Bad request: Error parsing cas value: {error}") from None
    datacenter = request.query.get("dc")
    args = AutopilotSetConfigRequest(
        datacenter or agent.datacenter, replace(config, modify_index=index), cas, request.token
    )
    return Command(
        SET_AUTOPILOT,
        args,
        lambda done: Reply(body=b"true" if done is True or not cas else b"false"),
        datacenter,
    )


def autopilot_health(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/operator/autopilot/health`: how the servers are; 429 unless all is well."""

    def render(found: AutopilotHealthReply) -> Reply:
        return Reply(200 if found.healthy else 429, gojson.encode(show_health(found)))

    return _read(SERVER_HEALTH, request, render)


def autopilot_state(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/operator/autopilot/state`: all that autopilot knows."""
    return _read(AUTOPILOT_STATE, request, lambda found: Reply(body=gojson.encode(show_state(found))))


ROUTES = (
    Route("/v1/operator/raft/configuration", ("GET",), raft_configuration),
    Route("/v1/operator/raft/peer", ("DELETE",), raft_peer),
    Route("/v1/operator/raft/transfer-leader", ("POST", "PUT"), transfer_leader),
    Route("/v1/operator/autopilot/configuration", ("GET", "PUT"), autopilot_configuration),
    Route("/v1/operator/autopilot/health", ("GET",), autopilot_health),
    Route("/v1/operator/autopilot/state", ("GET",), autopilot_state),
)
ACTIONS = (
    RAFT_CONFIGURATION,
    REMOVE_BY_ADDRESS,
    REMOVE_BY_ID,
    TRANSFER_LEADER,
    AUTOPILOT_CONFIGURATION,
    SERVER_HEALTH,
    AUTOPILOT_STATE,
)
