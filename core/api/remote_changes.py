"""The stream of changes as an RPC of ours, Internal.Changes: Consul's servers do not know it."""

from __future__ import annotations

from core.api.changes import CHANGES, ChangesRequest, Stretch, Told
from core.api.remote_kinds import ReadRemote, Remote
from core.api.remote_structs import DatacenterRead, ReadReply
from core.store.structs import go_name


class ChangesBody(DatacenterRead, frozen=True, rename=go_name):
    """Which changes."""

    since: int = 0
    kinds: list[str] | None = None
    prefix: str = ""


class ChangesReply(ReadReply, frozen=True, rename=go_name):
    """Some of them, in order."""

    changes: list[Told] | None = None
    reset: bool = False


STREAM: tuple[Remote, ...] = (
    ReadRemote(
        CHANGES,
        ChangesBody,
        lambda args: {"since": args.since, "kinds": list(args.kinds), "prefix": args.prefix},
        lambda body: ChangesRequest(body.since, tuple(body.kinds or ()), body.prefix),
        ChangesReply,
        lambda value: {"changes": value.changes or None, "reset": value.reset},
        lambda reply: Stretch(reply.changes or [], reply.reset),
    ),
)
