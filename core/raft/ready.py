"""What the machine wants done, in order of obligation: persist, send, apply, tell."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.raft.messages import Entry, InstallSnapshot, Request, Response


class HardState(Struct, frozen=True):
    """What must be durable before anyone hears of it. `vote` is a server id, "" for none."""

    term: int = 0
    vote: str = ""


class Outgoing(Struct):
    """A message to server `to`; `answers` is the request that a response belongs to."""

    to: str
    message: Request | Response
    answers: Request | None = None


class Ready(Struct):
    """Do in this order:

    1. send `messages` (they promise nothing that is not durable yet);
    2. make `hard_state`, `truncate` and `entries` durable, all or nothing, then call
       `Node.persisted(mark)`, or `Node.write_failed()` if it could not be done;
    3. send `held` once everything handed out so far, in this Ready and before, is durable;
    4. if `install` is set: store that snapshot, restart the log behind it, restore the state, then
       call `Node.installed`;
    5. apply `committed`; 6. tell whoever asked about `verified`.
    """

    mark: int = 0  # 0: nothing to persist
    hard_state: HardState | None = None
    truncate: int = 0  # drop stored entries from this index on (before storing `entries`); 0: none
    entries: list[Entry] = []
    messages: list[Outgoing] = []
    held: list[Outgoing] = []
    install: InstallSnapshot | None = None
    committed: list[Entry] = []
    verified: list[tuple[Any, bool]] = []  # (what the caller gave to verify(), still leader?)
