"""The write door: a committed log entry changes the state here and nowhere else.

`apply` decodes, finds the command's function in `COMMANDS`, runs it, and fires the watches when all is
done. A command that fails leaves no trace: its changes are taken back and the error is its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import CtlError, Invalid
from core.store import commands, kv, register, sessions
from core.store.state import Store
from core.store.structs import DeregisterRequest, DirEntry, RegisterRequest, SessionRequest, TombstoneRequest

Handler = Callable[[Store, int, Any], object]
COMMANDS: dict[int, Handler] = {}


class UnknownCommand(CtlError):
    """A committed command that this version does not know and may not skip. Going on would let the
    state differ from the other servers'."""


class CorruptCommand(CtlError):
    """A committed command whose bytes cannot be decoded."""


def handles(kind: int) -> Callable[[Handler], Handler]:
    """Register a function for a command byte. It gets (store, index, decoded msgpack value)."""

    def add(handler: Handler) -> Handler:
        if kind in COMMANDS:
            raise ValueError(f"command {kind} has a handler already")
        COMMANDS[kind] = handler
        return handler

    return add


def apply(store: Store, index: int, data: bytes) -> object:
    """Apply the log entry `data` at raft `index`. The result is what the caller of the command gets:
    None, bool, int, str, a TxnResponse, or an Invalid (returned, not raised) when it was refused.
    UnknownCommand and CorruptCommand are raised: the server must stop."""
    if not data:
        raise CorruptCommand(f"log entry {index} is empty")
    handler = COMMANDS.get(data[0] & 127)
    if handler is None:
        if data[0] & commands.IGNORE_UNKNOWN:
            store.applied = index
            return None
        raise UnknownCommand(f"log entry {index} has unknown type {data[0]}; a newer version wrote it")
    try:
        result = handler(store, index, msgpack.decode(data[1:]))
    except Invalid as error:
        store.rollback()
        result = error
    except DecodeError as error:
        store.rollback()
        raise CorruptCommand(f"log entry {index} of type {data[0]}: {error}") from error
    else:
        store.commit()
    store.applied = index
    store.flush_watches()
    return result


@handles(commands.REGISTER)
def _register(store: Store, index: int, value: Any) -> None:
    register.register(store, index, wire.from_wire(RegisterRequest, value))


@handles(commands.DEREGISTER)
def _deregister(store: Store, index: int, value: Any) -> None:
    register.deregister(store, index, wire.from_wire(DeregisterRequest, value))


@handles(commands.KVS)
def _kvs(store: Store, index: int, value: Any) -> bool | None:
    # by hand, since this is the hot path; the general decoder takes twice as long
    if type(value) is not dict or type(entry := value.get(b"DirEnt")) is not dict:
        raise DecodeError("not a KVSRequest")
    decoded = DirEntry(
        wire.raw(entry.get(b"Key")),
        None if (content := entry.get(b"Value")) is None else wire.raw(content),
        wire.integer(entry.get(b"Flags")),
        wire.integer(entry.get(b"LockIndex")),
        wire.text(entry.get(b"Session")),
        0,
        wire.integer(entry.get(b"ModifyIndex")),
    )
    op = wire.text(value.get(b"Op"))
    return kv.apply_op(store, index, op, decoded)


@handles(commands.SESSION)
def _session(store: Store, index: int, value: Any) -> str | None:
    request = wire.from_wire(SessionRequest, value)
    if request.op == "create":
        return sessions.create(store, index, request.session)
    if request.op == "destroy":
        sessions.destroy(store, index, request.session.id)
        return None
    raise Invalid(f"Invalid Session operation '{request.op}'")


@handles(commands.TOMBSTONE)
def _tombstone(store: Store, index: int, value: Any) -> None:
    request = wire.from_wire(TombstoneRequest, value)
    if request.op != "reap":
        raise Invalid(f"Invalid Tombstone operation '{request.op}'")
    kv.reap(store, request.reap_index)
