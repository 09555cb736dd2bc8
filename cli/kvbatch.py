"""Several keys at once: what is there, what shall be, and the transactions that lead from one to the other.

Every operation is tied to what was read before (CAS), so that nobody's change is lost; one transaction is
carried out whole or not at all."""

from __future__ import annotations

from cli.command import Failure
from cli.wire import decode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cli.call import Call

MOST = 64  # operations of a transaction, the servers' limit


class Entry:
    """A key as it was read."""

    __slots__ = ("flags", "index", "key", "value")

    def __init__(self, key: str, value: bytes, flags: int = 0, index: int = 0) -> None:
        """`index` is the ModifyIndex, 0 of one that is not there."""
        self.key, self.value, self.flags, self.index = key, value, flags, index


def read(call: Call, prefix: str, recurse: bool = True) -> dict[str, Entry]:
    """The keys that begin with `prefix`, or the key itself, with their values."""
    import binascii

    query = [("recurse", "")] if recurse else []
    response = call.get("/v1/kv/" + prefix, *query)
    if response.status == 404:
        return {}
    found = {}
    for row in response.checked().json():
        value = binascii.a2b_base64(row["Value"] or "")
        found[row["Key"]] = Entry(row["Key"], value, row["Flags"], row["ModifyIndex"])
    return found


def put(new: Entry, old: Entry | None) -> dict[str, Any]:
    """The operation that writes `new` over what was read."""
    import binascii

    value = binascii.b2a_base64(new.value, newline=False).decode()
    index = old.index if old is not None else 0
    return {"Verb": "cas", "Key": new.key, "Value": value, "Flags": new.flags, "Index": index}


def delete(old: Entry) -> dict[str, Any]:
    """The operation that deletes what was read."""
    return {"Verb": "delete-cas", "Key": old.key, "Index": old.index}


def carry_out(call: Call, steps: Sequence[Sequence[dict[str, Any]]], batches: bool) -> None:
    """Carry out the operations; those of one step belong together. Failure, and nothing is done, when they
    are too many for one transaction, unless `batches` allows several."""
    count = sum(map(len, steps))
    if count > MOST and not batches:
        raise Failure(
            f"Error! {count} operations do not fit in one transaction of {MOST}; with --batches they are "
            "done in several, and an interruption may leave half of them"
        )
    batch: list[dict[str, Any]] = []
    done = 0
    for step in steps:
        if batch and len(batch) + len(step) > MOST:
            _commit(call, batch, done)
            done += len(batch)
            batch = []
        batch += step
    if batch:
        _commit(call, batch, done)


def _commit(call: Call, operations: list[dict[str, Any]], done: int) -> None:
    import json

    body = json.dumps([{"KV": operation} for operation in operations]).encode("utf-8", "surrogateescape")
    response = call.client.put("/v1/txn", call.query(), body)
    if response.status == 409:
        errors = decode_json(response.body)["Errors"] or []
        keys = sorted({operations[error["OpIndex"]]["Key"] for error in errors})
        after = f" ({done} operations before it were done)" if done else ""
        raise Failure(f"Error! Changed by somebody else meanwhile: {', '.join(keys)}{after}", kind="conflict")
    response.checked()
