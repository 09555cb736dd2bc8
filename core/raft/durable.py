"""What a server has promised to its disk: the log, the vote, and how far each is written.

`log.last` is what the log holds in memory, `handed` what a Ready has carried out to be written,
`durable` what is known to be written. A vote or an entry counts when durable, and committed entries
are handed out for applying when durable here, so a failed write can always be taken back to
`durable` as if the server had crashed before it."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from core.raft import configuration as membership
from core.raft.configuration import Configuration, Configurations
from core.raft.log import Log
from core.raft.messages import CONFIGURATION, Entry, InstallSnapshot, Request, Response
from core.raft.ready import HardState, Outgoing, Ready
from core.raft.settings import Settings


class _Mark:
    """One write on its way: how far the log and the hard state are durable once it is done."""

    __slots__ = ("at", "hard", "last", "number")

    def __init__(self, number: int, last: int, hard: HardState, at: float) -> None:
        self.number, self.last, self.hard, self.at = number, last, hard, at


class Durable:
    """The part of a Raft machine that its roles share: state, outboxes, and the next Ready."""

    def __init__(
        self,
        log: Log,
        hard_state: HardState,
        configurations: Configurations,
        settings: Settings,
        chance: random.Random,
        now: float,
        applied: int,
        applied_term: int,
    ) -> None:
        self.log = log
        self.configurations = configurations
        self.settings = settings
        self.random = chance
        self.term, self.vote = hard_state.term, hard_state.vote
        self.commit = applied
        self.applied = applied  # handed out for applying
        self.durable = log.last
        self.snapshot_index, self.snapshot_term = applied, applied_term
        self.snapshot_configuration = configurations.at(applied)
        self.snapshot_handle: Any = None
        self.wants_snapshot = False  # a follower needs one, and there is none
        self.forked = False  # the log begins behind a restored snapshot that leaders do not know
        self.installing: InstallSnapshot | None = None
        self._install_ready = False
        self._now = now
        self._handed = log.last
        self._hard_durable = hard_state
        self._hard_handed = hard_state
        self._truncated = 0
        self._marks: deque[_Mark] = deque()
        self._mark = 0
        self._messages: list[Outgoing] = []
        self._held: list[Outgoing] = []
        self._verified: list[tuple[Any, bool]] = []

    # The next Ready

    def next_ready(self) -> Ready | None:
        """Everything that must be done now, or None."""
        ceiling = min(self.commit, self.durable)
        to_apply = self.applied < ceiling and self.installing is None
        to_write = (
            self._handed < self.log.last
            or self.term != self._hard_handed.term
            or self.vote != self._hard_handed.vote
        )
        if not (
            to_write or to_apply or self._messages or self._held or self._verified or self._install_ready
        ):
            return None
        ready = Ready()
        if to_write:
            self._hand_out_writes(ready)
        if self._messages:
            ready.messages, self._messages = self._messages, []
        if self._held:
            ready.held, self._held = self._held, []
        if self._install_ready:
            ready.install, self._install_ready = self.installing, False
        if self._verified:
            ready.verified, self._verified = self._verified, []
        if to_apply:
            last = min(ceiling, self.applied + self.settings.max_apply)
            ready.committed = self.log.slice(self.applied + 1, last, self.settings.max_bytes * 8)
            self.applied += len(ready.committed)
            self.log.trim(min(self.applied, self.durable))
        return ready

    def _hand_out_writes(self, ready: Ready) -> None:
        log, hard = self.log, self._hard_handed
        if self.term != hard.term or self.vote != hard.vote:
            hard = ready.hard_state = HardState(self.term, self.vote)
        self._mark += 1
        ready.mark = self._mark
        ready.truncate, self._truncated = self._truncated, 0
        if self._handed < log.last:
            ready.entries = log.slice(self._handed + 1, log.last)
        self._handed, self._hard_handed = log.last, hard
        self._marks.append(_Mark(self._mark, log.last, hard, self._now))

    # What became of writes

    def confirm(self, mark: int) -> None:
        """Everything up to the Ready with this mark is durable."""
        marks = self._marks
        while marks and marks[0].number <= mark:
            done = marks.popleft()
            self.durable = max(self.durable, done.last)
            self._hard_durable = done.hard

    def take_back(self) -> None:
        """Nothing since the last `confirm` was written: back to what is durable."""
        self._marks.clear()
        self._held.clear()
        self.log.truncate(self.durable + 1)
        self.configurations.truncate(self.durable + 1)
        self._truncated = self.durable + 1
        self._handed = self.durable
        self.term, self.vote = self._hard_durable.term, self._hard_durable.vote
        self._hard_handed = self._hard_durable
        self.commit = min(self.commit, self.durable)

    def oldest_write(self) -> float | None:
        """When the oldest write that is still on its way was handed out."""
        return self._marks[0].at if self._marks else None

    @property
    def term_is_durable(self) -> bool:
        return self._hard_durable.term == self.term

    def has_voted_for(self, server_id: str) -> bool:
        """Whether the vote for `server_id` in this term is durable."""
        return self.term_is_durable and self._hard_durable.vote == server_id

    # Changing the log

    def truncate(self, first: int) -> None:
        """Drop entries from `first` on, none of which is committed."""
        if first <= self.commit:
            raise AssertionError(f"asked to drop committed entry {first}, commit index {self.commit}")
        self.log.truncate(first)
        self.configurations.truncate(first)
        if first <= self._handed:
            self._truncated = min(self._truncated, first) if self._truncated else first
        self._handed = min(self._handed, first - 1)
        self.durable = min(self.durable, first - 1)
        for mark in self._marks:
            mark.last = min(mark.last, first - 1)

    def append(self, entries: list[Entry]) -> None:
        """Add entries behind the last one; a configuration counts from now on."""
        self.log.append(entries)
        for entry in entries:
            if entry.type == CONFIGURATION:
                self.configurations.append(entry.index, membership.decode(entry.data or b""))

    def advance_commit(self, index: int) -> None:
        """Everything up to `index` is committed."""
        self.commit = index
        if not self.configurations.is_stable:
            self.configurations.commit(index)

    def restart_behind(self, request: InstallSnapshot, handle: Any) -> None:
        """The state and the log on disk are those of a leader's snapshot now."""
        index, term = request.last_index, request.last_term
        value = (request.configuration_index, membership.decode(request.configuration))
        self.log.reset(index, term)
        self.configurations = Configurations(value[1], value[0])
        self._handed = self.durable = self.commit = self.applied = index
        self._truncated = 0
        self._marks.clear()
        self._hard_durable = self._hard_handed
        self.forked = False
        self.snapshot_taken(index, term, value, handle)

    def snapshot_taken(
        self, index: int, term: int, configuration: tuple[int, Configuration], handle: Any
    ) -> None:
        """The shell holds a durable snapshot at `index`; `handle` travels in InstallSnapshot."""
        self.snapshot_index, self.snapshot_term = index, term
        self.snapshot_configuration, self.snapshot_handle = configuration, handle
        self.wants_snapshot = False
        self.configurations.compact(index)

    def compact(self, index: int) -> None:
        """The shell no longer keeps entries up to `index` (at most the snapshot's)."""
        self.log.compact(min(index, self.snapshot_index))

    # Outboxes

    def answer(self, to: str, request: Request, response: Response) -> None:
        """A response that leaves when everything until now is durable."""
        self._held.append(Outgoing(to, response, request))

    def answer_soon(self, to: str, request: Request, response: Response, match: int) -> None:
        """Answer without waiting for the disk if the answer promises nothing that is on its way there."""
        if match <= self.durable and self.term_is_durable:
            self._messages.append(Outgoing(to, response, request))
        else:
            self.answer(to, request, response)

    def tell_verified(self, token: Any, leading: bool) -> None:
        """The answer to a question of `verify`."""
        self._verified.append((token, leading))
