"""A pruned member does not come back by hearsay, and does come back by itself (design/pains.md 10)."""

from __future__ import annotations

from core.gossip.messages import Alive, Dead, encode_alive, encode_dead
from core.gossip.suspicion import push_pull_interval
from tests.sim.gossip_cluster import PORT, Host, World

DEAD = 500


def announce(host: Host, name: str, address: str, incarnation: int = 1) -> None:
    """A packet says that the node is alive."""
    vsn = bytes((1, 5, 2, 2, 5, 4))
    packet = encode_alive(Alive(incarnation, name, address, PORT, b"", vsn))
    host.serf.receive(("10.9.9.9", PORT), packet, host.world.now)


def known(host: Host, prefix: str = "dead") -> list[str]:
    return [name for name in host.statuses() if name.startswith(prefix)]


def cluster_with_dead(seed: int, living: int, dead: int) -> tuple[World, list[Host]]:
    """`living` nodes that have seen `dead` others come; nobody answers for those."""
    world = World(seed)
    hosts = world.build(living)
    for number in range(dead):
        for host in hosts:
            announce(host, f"dead{number}", f"10.1.{number >> 8}.{number & 255}")
    for host in hosts:
        world.settle(host)
        assert len(known(host)) == dead
    return world, hosts


def test_500_pruned_members_stay_away() -> None:
    """One node was stopped and takes them for alive, one was cut off and takes them for failed."""
    world, hosts = cluster_with_dead(1, 8, DEAD)
    stopped, cut_off, others = hosts[6], hosts[7], hosts[:6]
    world.kill(stopped)
    names = [f"dead{number}" for number in range(DEAD)]
    for host in (*others, cut_off):
        for name in names:
            host.serf.receive(("10.9.9.9", PORT), encode_dead(Dead(1, name, "n6")), world.now)
        world.settle(host)
        assert host.serf.stats()["failed"] == str(DEAD)
    world.run(40)  # gossip to those that died is over
    world.cut = lambda a, b: "n7" in (a, b)
    for name in names:
        world.do(hosts[0], hosts[0].serf.force_leave, name, True)
    round = push_pull_interval(world.settings.push_pull_interval, DEAD + len(hosts))
    world.until(lambda: not any(known(host) for host in others), 2 * round)
    assert len(known(cut_off)) == DEAD
    for host in hosts:
        host.events.clear()
    world.cut = None
    world.thaw(stopped)
    for number in range(5):  # others come and go meanwhile
        new = world.add(f"new{number}")
        world.join(new, hosts[number])
        world.run(2 * round / 5)
        world.do(new, new.serf.leave)
        world.run(5)
        world.kill(new)
    assert not any(known(host) for host in hosts)
    for host in others:
        assert not [name for name in host.of_kind("join") if name.startswith("dead")]
    world.run(900)  # tombstones stand as long as somebody tells of the dead
    assert not any(known(host) for host in hosts)
    assert all(host.status(other.name) == "alive" for host in hosts for other in hosts)
    assert hosts[0].serf.stats()["intent_queue"] == "0"


def test_a_pruned_node_that_really_starts_again_is_back_at_once() -> None:
    world = World(2)
    hosts = world.build(5)
    world.kill(hosts[4])
    rest = hosts[:4]
    world.until(lambda: all(host.status("n4") == "failed" for host in rest), 60)
    world.do(hosts[0], hosts[0].serf.force_leave, "n4", True)
    world.until(lambda: not any(host.status("n4") for host in rest), 10)
    world.run(40)  # memberlist has forgotten it too
    again = world.add("n4")
    world.join(again, hosts[1])
    world.until(lambda: all(host.status("n4") == "alive" for host in rest), 3)
    assert all(host.of_kind("reap") == ["n4"] for host in rest)


def test_an_answer_to_a_probe_proves_life() -> None:
    """It was pruned while it was stopped, and nobody told it: it goes on without joining again."""
    world = World(3)
    hosts = world.build(4)
    world.kill(hosts[3])
    rest = hosts[:3]
    world.until(lambda: all(host.status("n3") == "failed" for host in rest), 60)
    world.do(hosts[0], hosts[0].serf.force_leave, "n3", True)
    world.run(60)
    assert not any(host.status("n3") for host in rest)
    world.thaw(hosts[3])
    world.until(lambda: all(host.status("n3") == "alive" for host in rest), 120)


def test_hearsay_is_a_ghost_until_it_proves_life() -> None:
    world, hosts = cluster_with_dead(4, 3, 1)
    world.until(lambda: all(host.status("dead0") == "failed" for host in hosts), 60)
    world.do(hosts[0], hosts[0].serf.force_leave, "dead0", True)
    world.until(lambda: not any(known(host) for host in hosts), 10)
    world.run(60)
    announce(hosts[0], "dead0", "10.1.0.0")
    world.settle(hosts[0])
    assert hosts[0].serf.memberlist.get("dead0") is not None
    assert known(hosts[0]) == []
    world.run(60)
    assert not any(known(host) for host in hosts)
    assert hosts[0].of_kind("failed") == ["dead0"]
    announce(hosts[0], "dead0", "10.1.0.0", incarnation=5)
    world.settle(hosts[0])
    assert hosts[0].status("dead0") == "alive"  # it has refuted something since
