"""Autopilot: how the servers are, who gets a vote, and which dead servers go (protocols/raft.md section 8).

A machine on monotonic seconds that lives as long as a leader's term. `observe` takes what is known of the
servers and gives a Health; `decide` then says what should be done about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from core.codec import duration
from core.gossip.member import ALIVE, FAILED, LEFT, NONE, Member
from core.node.servers import ServerFacts, server_facts
from core.raft.configuration import NONVOTER, Configuration, Server
from core.store.structs import AutopilotConfig, go_name

HEALTH_INTERVAL = 2.0
CLEANUP_INTERVAL = 10.0
DEFAULTS = AutopilotConfig(
    cleanup_dead_servers=True,
    last_contact_threshold=200 * duration.MILLISECOND,
    max_trailing_logs=250,
    server_stabilization_time=10 * duration.SECOND,
)
_YOUNG = 1.1  # times the stabilization time that autopilot itself must have run


class RaftStats(Struct, frozen=True, rename=go_name):
    """What a server says of its own Raft (RPC Status.RaftStats). `last_contact`: Go duration since it heard
    of the leader, `0` on the leader, `never`."""

    last_contact: str = ""
    last_term: int = 0
    last_index: int = 0


class ServerHealth(Struct, frozen=True):
    """One server as autopilot sees it. `status` is that of gossip, NONE when it is not a member;
    `last_contact` in ns; `stable_since` Unix seconds."""

    id: str
    name: str
    address: str
    status: int
    version: str
    raft_version: int
    leader: bool
    voter: bool
    read_replica: bool
    last_contact: int
    last_term: int
    last_index: int
    healthy: bool
    stable_since: float


class Health(Struct, frozen=True):
    """The judgement of all servers. `failure_tolerance`: how many voters may still fail."""

    healthy: bool = False
    failure_tolerance: int = 0
    leader: str = ""
    voters: tuple[str, ...] = ()
    servers: tuple[ServerHealth, ...] = ()


class Promote(Struct, frozen=True):
    """A server gets a vote."""

    id: str
    text: str


class RemoveStale(Struct, frozen=True):
    """A server of the Raft configuration that is no member goes."""

    id: str
    text: str


class ForceLeave(Struct, frozen=True):
    """A failed member is told to have left, and so leaves Raft too."""

    name: str
    text: str


AutopilotStep = Promote | RemoveStale | ForceLeave


class _Seen(Struct):
    """What is remembered of a server from one round to the next."""

    healthy: bool
    since: float  # monotonic
    since_wall: float
    missing_since: float | None = None


class Autopilot:
    """The autopilot of one leader's term. `me` is its server id. `heartbeat_gap` is how long a follower may
    hear nothing of this leader when all is well: the threshold of the configuration counts from there."""

    def __init__(self, me: str, now: float, heartbeat_gap: float) -> None:
        self.health = Health()
        self._me = me
        self._started = now
        self._gap = int(heartbeat_gap * duration.SECOND)
        self._seen: dict[str, _Seen] = {}
        self._cleaned = now

    # Judging

    def observe(
        self,
        now: float,
        wall: float,
        config: AutopilotConfig,
        members: Iterable[Member],
        configuration: Configuration,
        stats: Mapping[str, RaftStats],
    ) -> Health:
        """Judge the servers. `members` are those of this datacenter; `stats` what the servers that answered
        said, this one too."""
        known = _by_id(members)
        ids = [server.id for server in configuration.servers]
        ids += sorted(id for id, (facts, _) in known.items() if id not in ids and facts.status != LEFT)
        own = stats.get(self._me, RaftStats())
        rows = []
        for server_id in ids:
            facts = known[server_id][0] if server_id in known else None
            stat = stats.get(server_id)
            healthy = facts is not None and facts.alive and stat is not None
            healthy = healthy and stat is not None and self._keeps_up(stat, own, config)
            seen = self._remember(server_id, healthy, facts is None, now, wall)
            rows.append(self._row(configuration.get(server_id), facts, stat or RaftStats(), seen, server_id))
        self._seen = {server_id: self._seen[server_id] for server_id in ids}
        voters = tuple(configuration.voters)
        spare = sum(row.healthy and row.voter for row in rows) - (len(voters) // 2 + 1)
        self.health = Health(all(row.healthy for row in rows), max(spare, 0), self._me, voters, tuple(rows))
        return self.health

    def _keeps_up(self, stat: RaftStats, own: RaftStats, config: AutopilotConfig) -> bool:
        contact = _contact(stat)
        return (
            contact is not None
            and contact <= config.last_contact_threshold + self._gap
            and stat.last_term == own.last_term
            and own.last_index - stat.last_index <= config.max_trailing_logs
        )

    def _remember(self, server_id: str, healthy: bool, missing: bool, now: float, wall: float) -> _Seen:
        seen = self._seen.get(server_id)
        if seen is None or seen.healthy is not healthy:
            before = None if seen is None else seen.missing_since
            seen = self._seen[server_id] = _Seen(healthy, now, wall, before)
        if not missing:
            seen.missing_since = None
        elif seen.missing_since is None:
            seen.missing_since = now
        return seen

    def _row(
        self, server: Server | None, facts: ServerFacts | None, stat: RaftStats, seen: _Seen, server_id: str
    ) -> ServerHealth:
        return ServerHealth(
            id=server_id,
            name=facts.name if facts else "",
            address=server.address if server else facts.target if facts else "",
            status=facts.status if facts else NONE,
            version=facts.version if facts else "",
            raft_version=facts.raft_version if facts else 0,
            leader=server_id == self._me,
            voter=server is not None and server.suffrage != NONVOTER,
            read_replica=facts is not None and facts.nonvoter,
            last_contact=_contact(stat) or 0,
            last_term=stat.last_term,
            last_index=stat.last_index,
            healthy=seen.healthy,
            stable_since=seen.since_wall,
        )

    # Deciding

    def decide(
        self, now: float, config: AutopilotConfig, members: Sequence[Member], configuration: Configuration
    ) -> list[AutopilotStep]:
        """What the last `observe` asks for: votes at any time, removals every ten seconds."""
        steps: list[AutopilotStep] = list(self._promotions(now, config, configuration))
        if config.cleanup_dead_servers and now >= self._cleaned + CLEANUP_INTERVAL and not steps:
            self._cleaned = now
            steps += self._removals(now, config, _by_id(members), configuration)
        return steps

    def _promotions(
        self, now: float, config: AutopilotConfig, configuration: Configuration
    ) -> Iterable[Promote]:
        stable = config.server_stabilization_time / duration.SECOND
        if now - self._started < stable * _YOUNG:
            stable = 0.0  # this leader has not looked for long enough to tell who is stable
        for row in self.health.servers:
            server = configuration.get(row.id)
            if server is None or server.suffrage != NONVOTER or row.read_replica or not row.healthy:
                continue
            if now - self._seen[row.id].since >= stable:
                yield Promote(row.id, "server is healthy and stable, giving it a vote")

    def _removals(
        self,
        now: float,
        config: AutopilotConfig,
        known: Mapping[str, tuple[ServerFacts, Member]],
        configuration: Configuration,
    ) -> Iterable[AutopilotStep]:
        """Dead servers, never so many of the voters that what is left could not do without another one
        (design: pains, the row of rqlite#1293)."""
        patience = config.server_stabilization_time / duration.SECOND
        voters = len(configuration.voters)
        healthy = sum(row.healthy and row.voter for row in self.health.servers)
        removed = 0
        for row in self.health.servers:
            step = self._removal(row, now - patience, known)
            if step is None:
                continue
            if row.voter:
                left = voters - removed - 1
                few = removed >= (voters - 1) // 2 or left < config.min_quorum
                if few or healthy < left // 2 + 1:
                    continue
                removed += 1
            yield step

    def _removal(
        self, row: ServerHealth, before: float, known: Mapping[str, tuple[ServerFacts, Member]]
    ) -> AutopilotStep | None:
        """How to remove a server that has been dead since `before`."""
        if row.id == self._me or row.healthy:
            return None
        if row.status == FAILED:
            facts, member = known.get(row.id, (None, None))
            if facts is None or member is None or facts.status != FAILED or member.since > before:
                return None
            return ForceLeave(member.name, "server has failed, removing it")
        missing = self._seen[row.id].missing_since
        if row.status != NONE or missing is None or missing > before:
            return None
        return RemoveStale(row.id, "server of the Raft configuration is no member, removing it")


def _by_id(members: Iterable[Member]) -> dict[str, tuple[ServerFacts, Member]]:
    """The servers among the members by id; the alive one when several names claim the same."""
    found: dict[str, tuple[ServerFacts, Member]] = {}
    for member in members:
        facts = server_facts(member)
        if facts is None or not facts.id:
            continue
        if facts.id not in found or (facts.status == ALIVE and found[facts.id][0].status != ALIVE):
            found[facts.id] = (facts, member)
    return found


def _contact(stat: RaftStats) -> int | None:
    """Nanoseconds since the leader was heard, None when the server cannot tell."""
    try:
        return duration.parse(stat.last_contact)
    except ValueError:
        return None
