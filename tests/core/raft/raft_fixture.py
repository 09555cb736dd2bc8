"""One machine in the hands of a test: what it is told, what it wants done."""

from __future__ import annotations

import random
from typing import Any

from core.raft.configuration import NONVOTER, VOTER, Configuration, Configurations, Server
from core.raft.log import Log
from core.raft.messages import COMMAND, CONFIGURATION, AppendEntries, Entry, Request, Response, Unreachable
from core.raft.node import Node
from core.raft.ready import HardState, Outgoing, Ready
from core.raft.settings import Settings

SETTINGS = Settings()


def servers(voters: str, nonvoters: str = "") -> Configuration:
    """`servers("abc", "d")`: three voters and one server without a vote."""
    return Configuration(
        tuple(
            [Server(name, f"{name}:1", VOTER) for name in voters]
            + [Server(name, f"{name}:1", NONVOTER) for name in nonvoters]
        )
    )


def commands(first: int, terms: list[int]) -> list[Entry]:
    """Entries from `first` on, one for each term."""
    return [Entry(first + i, term, COMMAND, b"%d.%d" % (first + i, term)) for i, term in enumerate(terms)]


class Store:
    """What a disk would hold."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.hard = HardState()

    def read(self, first: int, last: int) -> list[Entry]:
        return [self.entries[index] for index in range(first, last + 1)]


class Machine:
    """Node "a", its disk and everything that it did. Writes succeed at once unless `writing` is off."""

    def __init__(
        self,
        conf: Configuration,
        terms: list[int] | None = None,
        hard: HardState | None = None,
        settings: Settings = SETTINGS,
        base: tuple[int, int] = (0, 0),
        name: str = "a",
        restarted: bool = False,
    ) -> None:
        """A log of commands with these terms behind `base`; the configuration comes from a snapshot. Unless
        it is just `restarted`, it has waited long enough to vote."""
        self.now = 100.0
        self.disk = Store()
        entries = commands(base[0] + 1, terms or [])
        self.disk.entries = {entry.index: entry for entry in entries}
        runs: list[tuple[int, int]] = []
        for entry in entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        last = base[0] + len(entries)
        log = Log(self.disk, base[0], base[1], last, runs)
        self.disk.hard = hard or HardState(max([base[1], *(terms or [])]), "")
        self.node = Node(
            name,
            f"{name}:1",
            log,
            self.disk.hard,
            Configurations(conf, base[0]),
            settings,
            random.Random(1),
            self.now,
            base[0],
            base[1],
        )
        if not restarted:
            self.node._no_votes_until = self.now
        self.writing = True
        self.writes: list[Ready] = []
        self.sent: list[Outgoing] = []
        self.waiting: list[Outgoing] = []
        self.committed: list[Entry] = []
        self.verified: list[tuple[Any, bool]] = []
        self.readies: list[Ready] = []

    def settle(self) -> None:
        while (ready := self.node.drain()) is not None:
            self.readies.append(ready)
            self.sent += ready.messages
            if ready.mark:
                self.writes.append(ready)
            self.waiting += ready.held
            self.committed += ready.committed
            self.verified += ready.verified
            if self.writing:
                self.write()

    def write(self) -> None:
        """The writes on their way succeed."""
        for ready in self.writes:
            self.disk.hard = ready.hard_state or self.disk.hard
            if ready.truncate:
                for index in [i for i in self.disk.entries if i >= ready.truncate]:
                    del self.disk.entries[index]
            self.disk.entries |= {entry.index: entry for entry in ready.entries}
            self.node.persisted(ready.mark, self.now)
        self.writes = []
        self.sent += self.waiting
        self.waiting = []

    def finish(self) -> None:
        """The writes succeed, and what follows from that."""
        self.write()
        self.settle()

    def fail(self) -> None:
        """The writes on their way fail."""
        self.writes, self.waiting = [], []
        self.node.write_failed(self.now)
        self.settle()

    def told(self, source: str, message: Request | Response | Unreachable) -> Any:
        """Receive a message; gives the response if it was a request and was answered."""
        before = len(self.sent)
        self.node.receive(source, message, self.now)
        self.settle()
        answers = [out.message for out in self.sent[before:] if out.answers is message]
        return answers[0] if answers else None

    def wait(self, seconds: float) -> None:
        """Time passes; every deadline is kept."""
        end = self.now + seconds
        while (due := self.node.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.node.tick(self.now)
            self.settle()
        self.now = end

    def take(self, kind: type) -> list[Any]:
        """(to, message) of everything of this kind that was sent, which is then forgotten."""
        found = [(out.to, out.message) for out in self.sent if isinstance(out.message, kind)]
        self.sent = [out for out in self.sent if not isinstance(out.message, kind)]
        return found

    def append(
        self,
        previous: tuple[int, int],
        entries: list[Entry],
        commit: int = 0,
        term: int = 0,
        source: str = "b",
    ) -> Any:
        """AppendEntries from leader `source`."""
        term = term or self.node.term
        return self.told(
            source, AppendEntries(term, f"{source}:1", previous[0], previous[1], entries, commit)
        )

    @property
    def log(self) -> list[tuple[int, int]]:
        log = self.node.log
        return [(i, log.term(i) or 0) for i in range(log.first, log.last + 1)]


def configuration_entry(index: int, term: int, conf: Configuration) -> Entry:
    return Entry(index, term, CONFIGURATION, conf.encode())
