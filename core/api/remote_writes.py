"""Writes and errands as RPCs: KVS.Apply, Catalog.*, Status.*, Coordinate.* and Internal.*."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.api import catalog, coordinate, event, keyring, kv, status
from core.api import remote_structs as structs
from core.api.endpoint import Command
from core.api.keyring import KeyringResponse
from core.api.kv import KVChange
from core.api.remote_kinds import ActionRemote, Remote, WriteRemote, here, unrendered
from core.api.remote_structs import DCSpecificRequest, ReadReply, ReadRequest
from core.api.status import Nothing
from core.codec import wire
from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.node.autopilot import RaftStats
from core.store.structs import DeregisterRequest, RegisterRequest

KV_OPERATIONS = frozenset(("set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"))


# --- writes -------------------------------------------------------------------------------------------


def _nothing(_: Any) -> dict[str, Any]:
    """The reply that is an empty struct."""
    return {}


def _none(_: Any) -> None:
    return None


class _KVApply:
    """KVS.Apply, the one method that has to be fast: most forwarded calls are of it."""

    rpc = kv.APPLY.rpc

    def request(self, work: Command, datacenter: str) -> dict[str, Any]:
        change: KVChange = work.args
        return {
            "Datacenter": work.datacenter or datacenter,
            "DirEnt": {
                "CreateIndex": 0,
                "Flags": change.flags,
                "Key": change.key,
                "LockIndex": 0,
                "ModifyIndex": change.cas_index,
                "Session": change.session,
                "Value": change.value,
            },
            "Op": change.op,
            "Token": change.token,
        }

    def accept(self, body: Any) -> Command:
        if type(body) is not dict:
            raise DecodeError("KVS.Apply: a map was expected")
        entry = body.get(b"DirEnt") or {}
        if type(entry) is not dict:
            raise DecodeError("KVS.Apply: DirEnt is not a map")
        op, value = wire.text(body.get(b"Op")), entry.get(b"Value")
        if op not in KV_OPERATIONS:
            raise Invalid(f"Invalid KVS operation '{op}'")
        change = KVChange(
            op,
            wire.raw(entry.get(b"Key")),
            None if value is None else wire.raw(value),
            wire.integer(entry.get(b"Flags")),
            wire.text(entry.get(b"Session")),
            wire.integer(entry.get(b"ModifyIndex")),
            wire.text(body.get(b"Token")),
        )
        return Command(kv.APPLY, change, unrendered, here(wire.text(body.get(b"Datacenter"))))

    def reply(self, outcome: Any) -> bool:
        return outcome is True

    def answer(self, reply: Any) -> bool:
        return reply is True


WRITES: tuple[Remote, ...] = (
    _KVApply(),
    WriteRemote(catalog.REGISTER, RegisterRequest, _nothing, _none),
    WriteRemote(catalog.DEREGISTER, DeregisterRequest, _nothing, _none),
)


# --- errands ------------------------------------------------------------------------------------------


def _texts(reply: Any) -> list[str]:
    if type(reply) is not list:
        raise DecodeError("a list was expected")
    return [wire.text(one) for one in reply]


def _empty(_: Any) -> Nothing:
    return Nothing()


def _as_it_is(value: Any) -> Any:
    return value


def _fields(args: Struct) -> dict[str, Any]:
    """The attributes of a struct by name."""
    return {name: getattr(args, name) for name in args.__struct_fields__}


def _keyring_reply(found: list[KeyringResponse]) -> dict[str, Any]:
    meta = wire.to_wire(ReadReply(known_leader=True))
    return dict(sorted({**meta, "Responses": [wire.to_wire(one) for one in found]}.items()))


def _keyring_answer(reply: Any) -> list[KeyringResponse]:
    if type(reply) is not dict:
        raise DecodeError("a map was expected")
    return wire.from_wire_list(KeyringResponse, reply.get(b"Responses"))


ERRANDS: tuple[Remote, ...] = (
    ActionRemote(status.PING, Nothing, lambda args: {}, _as_it_is, _nothing, _none),
    ActionRemote(
        status.LEADER,
        DCSpecificRequest,
        lambda args: {},
        _empty,
        _as_it_is,
        wire.text,
        needs_datacenter=False,
    ),
    ActionRemote(
        status.PEERS, DCSpecificRequest, lambda args: {}, _empty, _as_it_is, _texts, needs_datacenter=False
    ),
    ActionRemote(
        status.RAFT_STATS,
        Nothing,
        lambda args: {},
        _as_it_is,
        wire.to_wire,
        lambda reply: wire.from_wire(RaftStats, reply),
    ),
    ActionRemote(catalog.LIST_DATACENTERS, ReadRequest, lambda args: {}, _empty, _as_it_is, _texts),
    ActionRemote(coordinate.UPDATE, coordinate.UpdateRequest, _fields, _as_it_is, _nothing, _none),
    ActionRemote(
        coordinate.LIST_DATACENTERS,
        Nothing,
        lambda args: {},
        lambda body: coordinate.DatacentersRequest(),
        lambda maps: [wire.to_wire(one) for one in maps],
        lambda reply: wire.from_wire_list(coordinate.DatacenterMap, reply),
    ),
    ActionRemote(
        event.FIRE,
        structs.EventFireRequest,
        lambda args: {**_fields(args), "allow_stale": True},  # as Consul's agents say it
        lambda body: event.EventFireRequest(body.datacenter, body.name, body.payload),
        lambda result: wire.to_wire(ReadReply(known_leader=True)),
        _none,
    ),
    ActionRemote(
        keyring.OPERATE,
        structs.KeyringRequest,
        _fields,
        lambda body: keyring.KeyringRequest(
            body.operation,
            body.key,
            body.datacenter,
            body.forwarded,
            body.relay_factor,
            body.local_only,
            body.token,
        ),
        _keyring_reply,
        _keyring_answer,
        forwarded=False,  # Consul's servers leave the datacenter empty, also towards other datacenters
    ),
)
