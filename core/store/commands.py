"""The bytes of log commands: one type byte, then msgpack (protocols/fsm.md section 1)."""

from __future__ import annotations

import msgspec

from core.codec import msgpack, wire
from core.store.structs import (
    DeregisterRequest,
    RegisterRequest,
    SessionRequest,
    TombstoneRequest,
    TxnRequest,
)

REGISTER = 0
DEREGISTER = 1
KVS = 2
SESSION = 3
ACL = 4
TOMBSTONE = 5
COORDINATES = 6
PREPARED_QUERY = 7
TXN = 8
AUTOPILOT = 9
ACL_BOOTSTRAP = 11
INTENTION = 12
CONNECT_CA = 13
CA_PROVIDER_STATE = 14
CA_CONFIG = 15
INDEX = 16
ACL_TOKEN_SET = 17
ACL_TOKEN_DELETE = 18
ACL_POLICY_SET = 19
ACL_POLICY_DELETE = 20
CA_LEAF = 21
CONFIG_ENTRY = 22
ACL_ROLE_SET = 23
ACL_ROLE_DELETE = 24
ACL_BINDING_RULE_SET = 25
ACL_BINDING_RULE_DELETE = 26
ACL_AUTH_METHOD_SET = 27
ACL_AUTH_METHOD_DELETE = 28
CHUNKING_STATE = 29
FEDERATION_STATE = 30
SYSTEM_METADATA = 31
IGNORE_UNKNOWN = 128

_BYTES = [bytes([number]) for number in range(256)]


def command(kind: int, request: msgspec.Struct) -> bytes:
    """The log bytes of any command whose value is a struct."""
    return _BYTES[kind] + wire.pack(request)


def kvs(
    op: str,
    key: bytes,
    value: bytes | None = None,
    flags: int = 0,
    session: str = "",
    cas_index: int = 0,
    datacenter: str = "",
    token: str = "",
) -> bytes:
    """A KVSRequest. `cas_index` is the ModifyIndex to compare with, for cas and delete-cas."""
    request = {
        "Datacenter": datacenter,
        "DirEnt": {
            "CreateIndex": 0,
            "Flags": flags,
            "Key": key,
            "LockIndex": 0,
            "ModifyIndex": cas_index,
            "Session": session,
            "Value": value,
        },
        "Op": op,
        "Token": token,
    }
    return b"\x02" + msgpack.encode(request)


def register(request: RegisterRequest) -> bytes:
    """A catalog registration."""
    return command(REGISTER, request)


def deregister(request: DeregisterRequest) -> bytes:
    """A catalog deregistration."""
    return command(DEREGISTER, request)


def session(request: SessionRequest) -> bytes:
    """The creation or the end of a session."""
    return command(SESSION, request)


def txn(request: TxnRequest) -> bytes:
    """A transaction."""
    return command(TXN, request)


def tombstone_reap(index: int, datacenter: str = "", token: str = "") -> bytes:
    """Forget the tombstones up to `index`."""
    return command(TOMBSTONE, TombstoneRequest(datacenter, "reap", index, token))
