"""What goes wrong on a planet of datacenters, at random moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.wan_planet import Planet
    from tests.sim.wan_server import Server

_RATES = {"cut": 0.10, "isolate": 0.05, "split": 0.04, "crash": 0.10, "stall": 0.05, "disk": 0.05}


class Storm:
    """Trouble until `end`, which heals all and starts all again."""

    def __init__(self, planet: Planet) -> None:
        self.planet, self.chance = planet, planet.random
        self._over = False
        self._heals: list[Callable[[], None]] = []
        for kind, rate in _RATES.items():
            self._recur(rate * self.chance.choice((0, 0.5, 1, 2)), getattr(self, kind))

    def _recur(self, rate: float, action: Callable[[], None]) -> None:
        if not rate:
            return

        def strike() -> None:
            if not self._over:
                action()
                self._recur(rate, action)

        self._after(self.chance.expovariate(rate), strike)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self.planet.time.later(self.planet.time.now + seconds, call)

    def end(self) -> None:
        """All is well again."""
        self.planet.say("the storm is over")
        self._over = True
        for heal in list(self._heals):
            heal()
        for server in self.planet.servers.values():
            server.seat.disk.full = server.seat.disk.slow = False
            self.planet.start(server)

    def _cut_off(self, ones: list[str], others: list[str], seconds: float) -> None:
        both = self.chance.random() < 0.6
        self.planet.say(f"cut: {' '.join(ones)} {'|' if both else '|>'} {' '.join(others)}")
        undo = self.planet.cut_off(ones, others, both)

        def heal() -> None:
            if heal in self._heals:
                self._heals.remove(heal)
                undo()

        self._heals.append(heal)
        self._after(seconds, heal)

    def _names(self, datacenter: str) -> list[str]:
        return [server.name for server in self.planet.of(datacenter)]

    def _victim(self) -> Server:
        """Anyone, and often a leader."""
        running = self.planet.running()
        leaders = [server for server in running if server.raft.is_leader]
        if leaders and self.chance.random() < 0.4:
            return self.chance.choice(leaders)
        return self.chance.choice(running or list(self.planet.servers.values()))

    # --- kinds of trouble

    def cut(self) -> None:
        """The link between two datacenters."""
        one, other = self.chance.sample(self.planet.names, 2)
        self._cut_off(self._names(one), self._names(other), self.chance.uniform(0.5, 30))

    def isolate(self) -> None:
        """All links of a datacenter."""
        lost = self._names(self.chance.choice(self.planet.names))
        others = [name for name in self.planet.servers if name not in lost]
        ends = (lost, others) if self.chance.random() < 0.5 else (others, lost)
        self._cut_off(*ends, self.chance.uniform(0.5, 40))

    def split(self) -> None:
        """One server from those beside it, and perhaps from all."""
        lost = self._victim()
        others = [one.name for one in self.planet.of(lost.datacenter) if one is not lost]
        if self.chance.random() < 0.5:
            others = [name for name in self.planet.servers if name != lost.name]
        self._cut_off([lost.name], others, self.chance.uniform(0.5, 15))

    def crash(self) -> None:
        """One server, or a whole datacenter; for a moment or longer."""
        victim, chance = self._victim(), self.chance
        victims = self.planet.of(victim.datacenter) if chance.random() < 0.1 else [victim]
        dark = chance.random() < 0.4
        for server in victims:
            self.planet.crash(server, dark)
            self._after(chance.uniform(0.1, 15), lambda server=server: self._start(server))  # type: ignore[misc]

    def _start(self, server: Server) -> None:
        if not self._over:
            self.planet.start(server)

    def stall(self) -> None:
        """A server does nothing for a while."""
        victim = self._victim()
        if victim.running:
            until = self.planet.time.now + self.chance.choice((0.2, 1.0, 8.0)) * self.chance.random()
            self.planet.say(f"{victim.name} stalls until {until:.3f}")
            victim.stall(until)

    def disk(self) -> None:
        """A disk is slow, or full."""
        victim = self._victim()
        kind = self.chance.choice(("slow", "full"))
        self.planet.say(f"the disk of {victim.name} is {kind}")
        setattr(victim.seat.disk, kind, True)
        self._after(self.chance.uniform(0.1, 5), lambda: setattr(victim.seat.disk, kind, False))
