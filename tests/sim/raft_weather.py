"""What goes wrong in a simulated cluster, how often, and how it is done."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from core.errors import CtlError

if TYPE_CHECKING:
    from tests.sim.raft_cluster import Cluster
    from tests.sim.raft_member import Member


@dataclass
class Faults:
    """Shares of messages, and events a second in the whole cluster."""

    loss: float = 0.05
    duplicate: float = 0.05
    delay: float = 0.01  # seconds, the longest of most messages
    slow: float = 0.02  # share of messages that take up to half a second
    crash: float = 0.8
    partition: float = 1.0
    disk_full: float = 0.2
    slow_disk: float = 0.2
    stall: float = 0.4  # a server does nothing for a while
    jump: float = 0.2  # the clock of a server jumps forward
    drift: float = 0.05  # clocks run so much too fast or too slow
    snapshot: float = 1.0
    membership: float = 1.5
    transfer: float = 0.5
    rumour: float = 0.3  # a follower hears that its leader is dead, which is not true
    move: float = 0.2  # share of starts with another address
    restore: float = 0.1  # an operator replaces the state by that of an archive


CALM = Faults(*([0.0] * len(fields(Faults))))
CALM.delay = 0.002


def weather(chance: random.Random) -> Faults:
    """Each kind of trouble comes seldom, often, or (a third) not at all: what hides in the shadow of
    one kind shows where that is missing."""
    usual = Faults()
    values = {
        field.name: getattr(usual, field.name) * chance.choice((0, 0.5, 1, 1, 2, 3))
        for field in fields(Faults)
    }
    values["delay"] = max(values["delay"], 0.001)
    if not values["jump"]:
        values["drift"] = min(values["drift"], 0.04)  # as much as the lease allows for
    return Faults(**values)


class Storm:
    """Trouble at random moments until `over`."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self.cluster = cluster
        self.faults = faults
        self.chance = cluster.random
        self.over = self.restored = False
        for kind, action in {
            "crash": self.crash,
            "partition": self.partition,
            "disk_full": self.disk_full,
            "slow_disk": self.slow_disk,
            "stall": self.stall,
            "jump": self.jump,
            "snapshot": self.snapshot,
            "membership": self.membership,
            "transfer": self.transfer,
            "rumour": self.rumour,
            "restore": self.restore,
        }.items():
            self.recur(getattr(faults, kind), action)

    def recur(self, rate: float, action: Callable[[], None]) -> None:
        if not rate:
            return

        def strike(_: object) -> None:
            if not self.over:
                action()
                self.recur(rate, action)

        self.cluster.later(self.chance.expovariate(rate), strike)

    def victim(self) -> Member:
        """Anyone, and often whoever leads: that is where it hurts."""
        leaders = list(self.cluster.leading())
        if leaders and self.chance.random() < 0.5:
            return self.chance.choice(leaders)
        return self.chance.choice(list(self.cluster.members.values()))

    def say(self, member: Member, text: str) -> None:
        if self.cluster.trace is not None:
            self.cluster.trace(f"{member.name}: {text}")

    def crash(self) -> None:
        member, chance = self.victim(), self.chance
        everyone = chance.random() < 0.05  # the power of all fails
        for one in list(self.cluster.members.values()) if everyone else [member]:
            if one.node is not None:
                one.crash()
                self.say(one, "crashes")
                self.spread_news(one)
                self.cluster.later(chance.uniform(0.01, 0.5), self.start_again, argument=one)

    def spread_news(self, gone: Member) -> None:
        """Some notice at once that a process is gone: its connections end, its port refuses."""

        def noticed(member: Member) -> None:
            if member.node is not None:
                member.node.leader_gone(gone.name, member.clock())
                member.settle()

        for member in self.cluster.members.values():
            if member.node is not None and self.chance.random() < 0.5:
                self.cluster.later(self.chance.uniform(0, 0.02), noticed, member, member)

    def start_again(self, member: Member) -> None:
        if member.node is None and self.cluster.members.get(member.name) is member:
            if self.chance.random() < self.faults.move:
                member.address = f"{member.name}:{self.chance.randrange(9000, 9999)}"
            self.say(member, f"starts at {member.address}")
            member.start()

    def partition(self) -> None:
        cluster, chance = self.cluster, self.chance
        first = self.victim().name
        names = [name for name in cluster.members if name != first]
        chance.shuffle(names)
        half = [first, *names[: chance.choice((0, chance.randrange(len(names))))]]
        names.append(first)
        cut = [(a, b) for a in half for b in names if b not in half]
        both = chance.random() < 0.6
        if both:
            cut += [(b, a) for a, b in cut]
        if cluster.trace is not None:
            cluster.trace(f"partition: {' '.join(half)} {'|' if both else '|>'} others")
        cluster.cut.update(cut)
        cluster.later(chance.uniform(0.05, 0.8), lambda _: cluster.cut.subtract(cut))

    def disk_full(self) -> None:
        member = self.victim()
        member.disk.full = True
        self.say(member, "disk full")
        self.cluster.later(self.chance.uniform(0.05, 1), lambda _: setattr(member.disk, "full", False))

    def slow_disk(self) -> None:
        member = self.victim()
        member.disk.slow = True
        self.say(member, "disk slow")
        self.cluster.later(self.chance.uniform(0.05, 1), lambda _: setattr(member.disk, "slow", False))

    def stall(self) -> None:
        member = self.victim()
        member.busy_until = self.cluster.now + self.chance.choice((0.05, 0.2, 1.0)) * self.chance.random()
        self.say(member, f"stalls until {member.busy_until:.3f}")

    def jump(self) -> None:
        member, seconds = self.victim(), self.chance.choice((0.1, 0.5, 3600.0))
        self.say(member, f"clock jumps {seconds:g} s")
        member.jump(seconds)

    def snapshot(self) -> None:
        member = self.victim()
        if member.node is not None:
            self.say(member, f"snapshot at {member.applied}")
            member.take_snapshot()

    def transfer(self) -> None:
        for leader in self.cluster.leading():
            try:
                chosen = leader.node.transfer("", leader.clock())
            except CtlError:
                continue
            self.say(leader, f"transfers to {chosen}")
            leader.settle()

    def rumour(self) -> None:
        """A shell that is wrong about its leader's death does no harm."""
        member = self.victim()
        if member.node is not None and member.node.leader is None and member.node.leader_id:
            self.say(member, f"hears that {member.node.leader_id} is dead")
            member.node.leader_gone(member.node.leader_id, member.clock())
            member.settle()

    def restore(self) -> None:
        """Once: whoever has a restored state when its leader is lost waits for those that have not, and there
        must be enough of them."""
        for leader in [] if self.restored else self.cluster.leading():
            if leader.is_leader and leader.begin_restore(self.chance.choice((0, 0, 1000))):
                self.say(leader, f"restores an archive, of the state at {leader.applied}")
                self.restored = True
                return

    # Membership

    def membership(self) -> None:
        """One step: add without a vote, promote, demote, remove, replace what is gone, move."""
        if self.chance.random() < 0.3:
            self.cluster.replace_retired()
        for leader in self.cluster.leading():
            try:
                self.change(leader)
            except CtlError:
                continue
            leader.settle()

    def change(self, leader: Member) -> None:
        chance, cluster = self.chance, self.cluster
        latest = leader.node.configurations.latest
        name = chance.choice(list(cluster.members))
        address = cluster.members[name].address
        if latest.get(name) is None:
            what, new = "adds", latest.with_nonvoter(name, address)
        elif not latest.votes(name):
            what, new = "promotes", latest.with_voter(name, address)
        elif chance.random() < 0.2:
            address = cluster.members[name].address = f"{name}:{chance.randrange(8000, 9000)}"
            what, new = "moves", latest.with_voter(name, address)
        elif len(latest.voters) > 2:
            removes = chance.random() < 0.6
            what, new = ("removes", latest.without(name)) if removes else ("demotes", latest.demoted(name))
        else:
            return
        leader.node.change(new, leader.clock())
        self.say(leader, f"{what} {name}")
