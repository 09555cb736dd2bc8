"""Runs of actions as RPCs of ours, Internal.Exec*: Consul's servers do not know them."""

from __future__ import annotations

from msgspec import structs

from core.api import actions
from core.api.actions import ReportRequest, RunRequest, StartRequest
from core.api.remote_kinds import ActionRemote, Remote
from core.codec import wire
from core.node.jobs import Order, Part

EXEC: tuple[Remote, ...] = (
    ActionRemote(
        actions.START, StartRequest, structs.asdict, lambda body: body, lambda made: made, wire.text
    ),
    ActionRemote(
        actions.RESULTS,
        RunRequest,
        structs.asdict,
        lambda body: body,
        lambda parts: [wire.to_wire(part) for part in parts],
        lambda reply: wire.from_wire_list(Part, reply),
    ),
    ActionRemote(
        actions.TAKE,
        RunRequest,
        structs.asdict,
        lambda body: body,
        lambda order: None if order is None else wire.to_wire(order),
        lambda reply: None if reply is None else wire.from_wire(Order, reply),
    ),
    ActionRemote(actions.REPORT, ReportRequest, structs.asdict, lambda body: body, bool, bool),
)
