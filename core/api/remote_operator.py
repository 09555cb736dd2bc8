"""The errands Operator.* as RPCs. Operator.TransferLeader is our own name: Consul 1.9 has no such method."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.api import operator
from core.api.endpoint import Action, Errand
from core.api.operator_shapes import AutopilotHealthReply, AutopilotState, RaftConfigurationResponse
from core.api.remote_kinds import ActionRemote, Remote, WriteRemote, here, unrendered
from core.api.remote_structs import DCSpecificRequest
from core.codec import wire
from core.codec.msgpack import DecodeError
from core.store.structs import AutopilotConfig, AutopilotSetConfigRequest, go_name


class RaftRemovePeerRequest(Struct, frozen=True, rename=go_name):
    """A server to be removed, by address or id."""

    datacenter: str = ""
    address: str = ""
    id: str = ""
    token: str = ""


class TransferLeaderRequest(Struct, frozen=True, rename=go_name):
    """The server that should lead, any if it has no id."""

    datacenter: str = ""
    id: str = ""
    token: str = ""


class _OperatorRead(ActionRemote[DCSpecificRequest]):
    """A question about the servers, which any of them may answer when it may be stale."""

    def __init__(self, action: Action, reply: type[Struct]) -> None:
        super().__init__(
            action,
            DCSpecificRequest,
            lambda args: {"allow_stale": args.stale},
            lambda body: operator.OperatorRead(body.allow_stale),
            wire.to_wire,
            lambda found: wire.from_wire(reply, found),
        )

    def accept(self, body: Any) -> Errand:
        asked = wire.from_wire(DCSpecificRequest, body)
        action = operator.reading(self._action, asked.allow_stale)
        return Errand(action, self._args(asked), unrendered, here(asked.datacenter), asked.token)


def _removal(action: Action) -> Remote:
    return ActionRemote(
        action,
        RaftRemovePeerRequest,
        lambda args: {"address": args.address, "id": args.id},
        lambda body: operator.RemovePeer(body.address, body.id),
        lambda _: {},
        lambda _: None,
    )


def _truth(reply: Any) -> bool:
    if type(reply) is not bool:
        raise DecodeError("a bool was expected")
    return reply


OPERATOR: tuple[Remote, ...] = (
    _OperatorRead(operator.RAFT_CONFIGURATION, RaftConfigurationResponse),
    _OperatorRead(operator.AUTOPILOT_CONFIGURATION, AutopilotConfig),
    _OperatorRead(operator.SERVER_HEALTH, AutopilotHealthReply),
    _OperatorRead(operator.AUTOPILOT_STATE, AutopilotState),
    _removal(operator.REMOVE_BY_ADDRESS),
    _removal(operator.REMOVE_BY_ID),
    WriteRemote(operator.SET_AUTOPILOT, AutopilotSetConfigRequest, lambda done: done is True, _truth),
    ActionRemote(
        operator.TRANSFER_LEADER,
        TransferLeaderRequest,
        lambda args: {"id": args.id},
        lambda body: operator.TransferLeader(body.id),
        lambda done: done is True,
        _truth,
    ),
)
