"""Whatever happened to a cluster, once it is left in peace all agree on who lives and what they say."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from tests.core.gossip.memberlist_fixture import SETTINGS, Cluster


class Chaos:
    """Seven nodes and what may happen to them, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = Cluster(seed, replace(SETTINGS, push_pull_interval=10.0))
        self.names = self.cluster.build(7)

    @property
    def living(self) -> list[str]:
        return [name for name in self.names if name not in self.cluster.down]

    def partition(self) -> None:
        side = set(self.rng.sample(self.names, 3))
        self.cluster.cut = lambda a, b: (a in side) != (b in side)

    def heal(self) -> None:
        self.cluster.cut = lambda a, b: False

    def kill(self) -> None:
        if len(self.cluster.down) < 2:
            self.cluster.kill(self.rng.choice(self.living))

    def restart(self) -> None:
        for name in sorted(self.cluster.down)[:1]:
            seed = self.rng.choice(self.living)
            self.cluster.add(name, self.cluster.address(name)[0])
            self.cluster.join(name, seed)

    def freeze(self) -> None:
        name = self.rng.choice(self.living)
        self.cluster.frozen.add(name)
        self.cluster.run(self.rng.uniform(0.5, 8))
        self.cluster.thaw(name)

    def retag(self) -> None:
        name = self.rng.choice(self.living)
        self.cluster.delegates[name].meta = b"%d" % self.rng.randrange(99)
        self.cluster.nodes[name].update_meta(self.cluster.now)
        self.cluster.settle(name)

    def peace(self) -> None:
        """The network is whole, and everyone has met somebody since."""
        self.heal()
        self.cluster.loss = 0.0
        for _ in range(2):
            for name in self.living[1:]:
                self.cluster.join(name, self.living[0])
            self.cluster.run(3)
        self.cluster.run(70)


@pytest.mark.parametrize("seed", range(12))
def test_all_agree_in_the_end(seed: int) -> None:
    chaos = Chaos(seed)
    cluster = chaos.cluster
    deeds = [chaos.partition, chaos.heal, chaos.kill, chaos.restart, chaos.freeze, chaos.retag]
    for _ in range(8):
        chaos.rng.choice(deeds)()
        cluster.loss = chaos.rng.choice([0.0, 0.1, 0.3])
        cluster.run(chaos.rng.uniform(1, 15))
    chaos.peace()
    for name in chaos.living:
        assert cluster.alive(name) == set(chaos.living)
        for other in chaos.living:
            known = cluster.nodes[name].get(other)
            assert known is not None
            assert known.meta == cluster.delegates[other].meta
            assert known.incarnation == cluster.nodes[other].local_node.incarnation
