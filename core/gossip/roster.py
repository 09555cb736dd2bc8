"""The table of members: who is alive, leaving, left or failed, and how each word changes it
(protocols/gossip.md 7.2).

Memberlist says who can be reached; intents say what nodes want. Only both together tell a leave from a
failure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct, structs

from core.codec import duration
from core.gossip import member as status_of
from core.gossip.intents import RecentIntents, Tombstones
from core.gossip.member import ALIVE, FAILED, LEAVING, LEFT, Member, MemberEvent
from core.gossip.nodes import Node
from core.gossip.settings import GossipSettings
from core.gossip.tags import decode_tags

RECONNECT_TAG = "rc_tm"
TOMBSTONE_LEAST = 3600.0  # seconds without a word of it; more when push/pull takes longer to go round
GHOSTS_LEAST, GHOSTS_SHARE = 4, 0.1  # at a time: that many, or that share of the living
RETELL_AFTER = 30.0  # seconds between two reminders of the same prune
RETELL_AT_ONCE = 512  # reminders from one push/pull

_tags_of = lru_cache(8192)(decode_tags)  # shared: nobody changes a member's tags


def describe(node: Node, status: int, now: float) -> Member:
    """A memberlist node as a member."""
    facts = node.facts
    protocol, delegate = node.protocol, node.delegate
    return Member(
        facts.node, facts.address, facts.port, _tags_of(facts.meta), status, protocol, delegate, now
    )


class _Entry(Struct):
    """A member and the Lamport time of the last intent about it. `node` is memberlist's, kept when that has
    forgotten it: it has the last incarnation. `prune_at`: when to erase it."""

    member: Member
    node: Node
    ltime: int = 0
    prune_at: float | None = None


class Roster:
    """All members of the pool, the own one too."""

    def __init__(
        self,
        name: str,
        settings: GossipSettings,
        find: Callable[[str], Node | None],
        tell: Callable[[MemberEvent], None],
    ) -> None:
        """`name` is ours; `find` gives memberlist's node of a name; `tell` takes what happens."""
        self._name = name
        self._settings = settings
        self._find = find
        self._take = tell
        self._entries: dict[str, _Entry] = {}
        self._intents = RecentIntents(settings.recent_intent_timeout)
        self._stones = Tombstones()
        self._counts = [0] * len(status_of.STATUS_NAMES)
        self._prunes: set[str] = set()
        self._sorted: tuple[Member, ...] | None = None

    # --- looking

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> Member | None:
        """The member of that name."""
        entry = self._entries.get(name)
        return entry.member if entry is not None else None

    def members(self) -> tuple[Member, ...]:
        """All of them; the same tuple until something changes."""
        if self._sorted is None:
            self._sorted = tuple(entry.member for entry in self._entries.values())
        return self._sorted

    def count(self, status: int) -> int:
        """How many members have that status."""
        return self._counts[status]

    def failed(self) -> list[Member]:
        """Those that failed."""
        return [entry.member for entry in self._entries.values() if entry.member.status == FAILED]

    def status_times(self) -> tuple[dict[str, int], list[str]]:
        """For push/pull: the Lamport time of each member, and the names of those that left."""
        times = {name: entry.ltime for name, entry in self._entries.items()}
        return times, [name for name, entry in self._entries.items() if entry.member.status == LEFT]

    def pruned(self) -> dict[str, int]:
        """For push/pull: the erased members, with the Lamport times of their tombstones."""
        return self._stones.times()

    def time_of(self, name: str) -> int:
        """The Lamport time of the last intent about a member."""
        entry = self._entries.get(name)
        return entry.ltime if entry is not None else 0

    # --- what memberlist says

    def joined(self, node: Node, now: float) -> None:
        """The node can be reached."""
        stone = self._stones.get(node.name)
        if stone is not None and node.incarnation <= stone.incarnation:
            stone.heard = now
            self._stones.ghosts.add(node.name)  # perhaps an echo: wait for a proof of life
            return
        ltime = stone.ltime if stone is not None else 0
        self._stones.lift(node.name)
        self._enter(node, ltime, now)

    def left(self, node: Node, now: float) -> None:
        """The node cannot be reached any more: it left if it said so before."""
        self._stones.ghosts.discard(node.name)
        entry = self._entries.get(node.name)
        if entry is None:
            return
        if entry.member.status == LEAVING:
            self._set(entry, LEFT, now)
            self._tell(status_of.LEAVE, entry)
        elif entry.member.status == ALIVE:
            self._set(entry, FAILED, now)
            self._tell(status_of.FAIL, entry)

    def updated(self, node: Node) -> None:
        """The node announced other tags, address or versions."""
        entry = self._entries.get(node.name)
        if entry is not None:
            entry.member, entry.node = describe(node, entry.member.status, entry.member.since), node
            self._sorted = None
            self._tell(status_of.UPDATE, entry)

    def answered(self, name: str, now: float) -> None:
        """The node answered our own probe: it is no ghost."""
        if name in self._stones.ghosts:
            self._resurrect(name, 0, now)

    def _resurrect(self, name: str, ltime: int, now: float) -> None:
        """It lives: show it, if memberlist has it."""
        stone, node, ghost = self._stones.get(name), self._find(name), name in self._stones.ghosts
        self._stones.lift(name)
        if ghost and node is not None and stone is not None:
            self._enter(node, max(ltime, stone.ltime), now)

    def is_unwanted_echo(self, node: Node, now: float) -> bool:
        """Whether somebody tells of an erased member while there are ghosts enough: many dead nodes among
        few living ones would take most of their gossip."""
        stone = self._stones.get(node.name)
        if stone is None or node.incarnation > stone.incarnation or node.name in self._stones.ghosts:
            return False
        stone.heard = now
        return len(self._stones.ghosts) >= max(GHOSTS_LEAST, self._counts[ALIVE] * GHOSTS_SHARE)

    def _enter(self, node: Node, ltime: int, now: float) -> None:
        entry = self._entries.get(node.name)
        if entry is not None:
            entry.member, entry.node = describe(node, entry.member.status, now), node
            self._set(entry, ALIVE, now)
        else:
            member = describe(node, ALIVE, now)
            entry = self._entries[node.name] = _Entry(member, node, ltime)
            self._counts[ALIVE] += 1
            self._sorted = None
            intent = self._intents.get(node.name)
            if intent is not None and intent.ltime >= ltime:
                entry.ltime = intent.ltime
                if not intent.join:
                    self._set(entry, LEAVING, now)
        self._tell(status_of.JOIN, entry)

    # --- what intents say; True: pass it on

    def join_intent(self, name: str, ltime: int, now: float) -> bool:
        """A node says that it is here."""
        entry = self._entries.get(name)
        if entry is None:
            return self._join_of_unknown(name, ltime, now)
        if ltime <= entry.ltime:
            return False
        entry.ltime = ltime
        if entry.member.status == LEAVING and name != self._name:
            self._set(entry, ALIVE, now)
            self._prunes.discard(name)
            entry.prune_at = None
        return True

    def _join_of_unknown(self, name: str, ltime: int, now: float) -> bool:
        stone = self._stones.get(name)
        if stone is None:
            return self._intents.note(name, ltime, True, now)
        if ltime <= stone.ltime:
            return False
        self._intents.note(name, ltime, True, now)
        self._resurrect(name, ltime, now)
        return True

    def leave_intent(self, name: str, ltime: int, prune: bool, now: float) -> bool:
        """A node says that it leaves, or an operator says so of it. Not for ourselves while we stay."""
        entry = self._entries.get(name)
        if entry is None:
            stone = self._stones.get(name)
            if stone is None:
                return self._intents.note(name, ltime, False, now)
            newer = ltime > stone.ltime
            stone.ltime = max(stone.ltime, ltime)
            return newer
        if ltime <= entry.ltime:
            return False
        entry.ltime = ltime
        if entry.member.status == ALIVE:
            self._set(entry, LEAVING, now)
        elif entry.member.status == FAILED:
            self._set(entry, LEFT, now)
            self._tell(status_of.LEAVE, entry)
        if prune and name != self._name:
            self._prune(entry, now)
        return True

    def _prune(self, entry: _Entry, now: float) -> None:
        """Erase a member that is gone; one that is leaving gets the time to do so, or to object."""
        if entry.member.status == LEAVING:
            if entry.prune_at is None:
                delays = self._settings.broadcast_timeout + self._settings.leave_propagate_delay
                entry.prune_at = now + delays
                self._prunes.add(entry.member.name)
            return
        self._erase(entry, now)

    def _erase(self, entry: _Entry, now: float, remember: bool = True) -> None:
        name = entry.member.name
        del self._entries[name]
        self._prunes.discard(name)
        self._counts[entry.member.status] -= 1
        self._sorted = None
        if remember:
            node = self._find(name)
            self._stones.set(name, entry.ltime, entry.node.incarnation, now)
            if node is not None and not node.gone:
                self._stones.ghosts.add(name)
        self._tell(status_of.REAP, entry)

    def merge(self, times: dict[str, int], gone: list[str], now: float) -> None:
        """A peer's members by push/pull: the times of all, and who left. Of those only the time of the join
        is told; the leave came after it."""
        left = set(gone)
        for name in gone:
            known = self.get(name)
            if name in times and (known is None or known.status != LEFT) and name != self._name:
                self._merge_left(name, times[name] + 1, now)
        for name, ltime in times.items():
            if name not in left:
                self.join_intent(name, ltime, now)

    def _merge_left(self, name: str, ltime: int, now: float) -> None:
        if self._stones.get(name) is None:
            self.leave_intent(name, ltime, False, now)

    def unheard_prunes(self, times: dict[str, int], gone: list[str], now: float) -> list[tuple[str, int]]:
        """After `merge`: names that the peer still has and we have erased, with the time for a new leave
        intent. Not all at once, and not all the time."""
        found: list[tuple[str, int]] = []
        if not len(self._stones):
            return found
        left = set(gone)
        for name, ltime in times.items():
            stone = self._stones.get(name)
            if stone is None:
                continue
            stone.heard = now
            if now - stone.told < RETELL_AFTER or len(found) >= RETELL_AT_ONCE:
                continue
            if name in left:
                stone.ltime = max(stone.ltime, ltime + 1)
            stone.told = now
            found.append((name, stone.ltime))
        return found

    # --- time

    def due_prunes(self) -> float | None:
        """When the next leaving member is to be erased."""
        return min(
            (at for name in self._prunes if (at := self._entries[name].prune_at) is not None), default=None
        )

    def prune_due(self, now: float) -> None:
        """Erase those whose time to leave is over."""
        for name in list(self._prunes):
            entry = self._entries[name]
            if entry.prune_at is None or entry.prune_at > now:
                continue
            if entry.member.status == ALIVE:
                entry.prune_at = None
                self._prunes.discard(name)
            else:
                self._erase(entry, now)

    def reap(self, now: float, push_pull_round: float) -> None:
        """Erase members that have been gone for long, and forget old words."""
        settings = self._settings
        for entry in list(self._entries.values()):
            if entry.member.status == FAILED:
                limit = settings.reconnect_timeout
            elif entry.member.status == LEFT:
                limit = settings.tombstone_timeout
            else:
                continue
            if now - entry.member.since > _own_limit(entry.member, limit):
                self._erase(entry, now, remember=False)
        self._intents.expire(now)
        self._stones.expire(now, max(TOMBSTONE_LEAST, 3 * push_pull_round))

    # --- changing

    def _set(self, entry: _Entry, status: int, now: float) -> None:
        before = entry.member.status
        self._counts[before] -= 1
        self._counts[status] += 1
        entry.member = structs.replace(entry.member, status=status, since=now)
        self._sorted = None

    def _tell(self, kind: str, entry: _Entry) -> None:
        self._take(MemberEvent(kind, (entry.member,)))


def _own_limit(member: Member, limit: float) -> float:
    """A member may say itself after how long it is given up."""
    told = member.tags.get(RECONNECT_TAG)
    if told is None:
        return limit
    try:
        return duration.parse(told) / duration.SECOND
    except ValueError:
        return limit
