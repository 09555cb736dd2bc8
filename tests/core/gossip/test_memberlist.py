"""Small clusters on pretend time: who finds out what, and when."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from core.gossip import messages
from core.gossip.messages import Alive, Dead, Suspect, encode_alive, encode_dead, encode_suspect
from core.gossip.nodes import ALIVE, DEAD, LEFT, SUSPECT
from core.gossip.settings import LAN
from tests.core.gossip.memberlist_fixture import PORT, SETTINGS, Cluster

KEY1, KEY2 = bytes(range(32)), bytes(range(16))


def test_three_nodes_meet() -> None:
    cluster = Cluster()
    names = cluster.build(3)
    assert cluster.joins == [("n1", ""), ("n2", "")]
    for name in names:
        assert cluster.alive(name) == set(names)
        assert [len(cluster.delegates[name].what("join", other)) for other in names] == [1, 1, 1]
    cluster.run(20)
    assert all(not cluster.delegates[name].what("dead", other) for name in names for other in names)
    assert {(name, payload) for name, _, payload in cluster.delegates["n0"].pings} == {
        ("n1", b"payload"),
        ("n2", b"payload"),
    }
    assert all(0.001 <= rtt <= 0.004 for _, rtt, _ in cluster.delegates["n0"].pings)


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_node_of_three_is_dead_exactly_four_seconds_after_suspicion(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.build(3)
    cluster.run(5)
    cluster.kill("n2")
    survivors = ("n0", "n1")
    cluster.until(lambda: any(cluster.state(name, "n2") == SUSPECT for name in survivors), 10)
    (first,) = [name for name in survivors if cluster.state(name, "n2") == SUSPECT]
    took = cluster.until(lambda: cluster.state(first, "n2") == DEAD, 10)
    assert took == pytest.approx(4.0, abs=1e-6)
    cluster.until(lambda: all(cluster.state(name, "n2") == DEAD for name in survivors), 2)
    assert [len(cluster.delegates[name].what("dead", "n2")) for name in survivors] == [1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_whose_host_refuses_for_it_is_suspected_at_once(seed: int) -> None:
    """Packets and streams are refused to all: nobody waits for the end of a probe."""
    cluster = Cluster(seed)
    names = cluster.build(5)
    cluster.run(5)
    cluster.kill("n4")
    cluster.refuses = lambda source, target: target == "n4"
    rest = names[:-1]
    cluster.nodes["n0"].look_at(cluster.address("n4")[0], cluster.now)  # its connections broke
    cluster.settle("n0")
    took = cluster.until(lambda: cluster.state("n0", "n4") == SUSPECT, 10)
    assert took < 1.5  # no later than the probe that was under way
    lived = took + cluster.until(lambda: all(cluster.state(name, "n4") == DEAD for name in rest), 10)
    assert 4.0 < lived < 6.0
    assert all(cluster.nodes[name].health_score == 0 for name in rest)  # nobody doubts itself for it


def test_refused_to_one_but_reached_by_others_is_not_suspected() -> None:
    """A firewall that rejects between two nodes: the others' word counts."""
    cluster = Cluster()
    cluster.build(4)
    cluster.refuses = lambda source, target: {source, target} == {"n0", "n1"}
    cluster.run(60)
    assert not any("suspect" in text for _, text in cluster.log)
    assert not cluster.delegates["n0"].what("dead", "n1")


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_node_of_ten_dies_within_bounds_everywhere(seed: int) -> None:
    cluster = Cluster(seed)
    names = cluster.build(10)
    cluster.run(5)
    killed = cluster.now
    cluster.kill("n7")
    rest = [name for name in names if name != "n7"]
    cluster.until(lambda: all(cluster.state(name, "n7") == DEAD for name in rest), 60)
    for name in rest:
        (when,) = cluster.delegates[name].what("dead", "n7")
        # Never sooner than the shortest suspicion after a failed probe, never later than a round of
        # probes, the longest suspicion and the spreading of the news.
        assert killed + 4.0 + 0.9 < when < killed + 2 * 10 + 24 + 3
    assert all(cluster.alive(name) == set(rest) for name in rest)


def test_losing_a_third_of_all_packets_kills_nobody() -> None:
    """Indirect probes and probes by stream make up for it; whoever is suspected defends itself."""
    cluster = Cluster(3)
    names = cluster.build(8)
    cluster.loss = 0.33
    cluster.run(120)
    assert all(cluster.alive(name) == set(names) for name in names)
    assert not [heard for name in names for heard in cluster.delegates[name].heard if heard[1] == "dead"]


def test_one_cut_between_two_is_bridged_by_the_others() -> None:
    cluster = Cluster()
    cluster.build(4)
    cluster.cut = lambda a, b: {a, b} == {"n0", "n1"}
    cluster.run(60)
    assert cluster.state("n0", "n1") == ALIVE
    assert not cluster.delegates["n0"].what("dead", "n1")
    assert cluster.nodes["n0"].health_score == 0


def test_only_streams_pass_between_two_nodes() -> None:
    cluster = Cluster()
    cluster.build(2)
    cluster.udp_cut = lambda a, b: True
    cluster.run(30)
    assert cluster.state("n0", "n1") == ALIVE
    assert any("over TCP but UDP probes failed" in text for _, text in cluster.log)
    cluster.cut = lambda a, b: True
    cluster.until(lambda: cluster.state("n0", "n1") == DEAD, 60)


def test_halves_lose_and_find_each_other() -> None:
    cluster = Cluster(2, replace(SETTINGS, push_pull_interval=5.0))
    names = cluster.build(6)
    left = set(names[:3])
    cluster.cut = lambda a, b: (a in left) != (b in left)
    cluster.until(lambda: all(cluster.alive(n) in (left, set(names) - left) for n in names), 120)
    cluster.cut = lambda a, b: False
    cluster.join("n0", "n5")
    cluster.until(lambda: all(cluster.alive(name) == set(names) for name in names), 30)


def test_a_suspect_defends_itself() -> None:
    cluster = Cluster()
    cluster.build(3)
    cluster.run(5)
    cluster.nodes["n0"].receive(("10.0.0.9", PORT), encode_suspect(Suspect(1, "n2", "ghost")), cluster.now)
    assert cluster.state("n0", "n2") == SUSPECT
    cluster.until(lambda: cluster.state("n0", "n2") == ALIVE, 3)
    node = cluster.nodes["n0"].get("n2")
    assert node is not None
    assert node.incarnation == 2
    assert cluster.nodes["n2"].local_node.incarnation == 2
    cluster.run(30)
    assert not cluster.delegates["n0"].what("dead", "n2")


def test_the_accused_learns_of_it_with_the_next_probe() -> None:
    """A probe of a suspect carries the accusation (buddy system): no gossip is needed for the defence."""
    cluster = Cluster()
    cluster.build(2, gossip_interval=0)
    cluster.nodes["n0"].receive(("10.0.0.9", PORT), encode_suspect(Suspect(1, "n1", "ghost")), cluster.now)
    cluster.until(lambda: cluster.nodes["n1"].local_node.incarnation == 2, 1.1)


def test_who_is_accused_feels_less_well() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    for incarnation in (1, 5, 9):
        node.receive(("10.0.0.9", PORT), encode_dead(Dead(incarnation, "n0", "ghost")), cluster.now)
    assert node.local_node.incarnation == 10
    assert node.health_score == 3
    assert node.local_node.state == ALIVE


def test_leaving_is_told_and_not_mistaken_for_death() -> None:
    cluster = Cluster()
    names = cluster.build(4)
    leaver = cluster.nodes["n3"]
    leaver.leave(cluster.now)
    assert leaver.leaving
    assert not leaver.leave_sent
    cluster.settle("n3")
    cluster.until(lambda: leaver.leave_sent, 5)
    cluster.until(lambda: all(cluster.state(name, "n3") == LEFT for name in names), 5)
    cluster.kill("n3")
    cluster.run(40)
    for name in names[:3]:
        assert cluster.alive(name) == {"n0", "n1", "n2"}
        assert len(cluster.delegates[name].what("left", "n3")) == 1
        assert not cluster.delegates[name].what("dead", "n3")


def test_leaving_alone_is_done_at_once() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    assert not node.leave_sent
    node.leave(cluster.now)
    assert node.leave_sent


def test_who_leaves_is_not_called_back() -> None:
    """An alive message about itself that arrives while leaving must not undo it (4.4 step 1)."""
    cluster = Cluster()
    node = cluster.add("n0")
    facts = node.local_node.facts
    node.leave(cluster.now)
    node.receive(("10.0.0.9", PORT), encode_alive(replace(facts, incarnation=9)), cluster.now)
    assert node.local_node.state == LEFT


@pytest.mark.parametrize("how", ["dead", "left", "alive"])
def test_a_node_comes_back_under_its_name(how: str) -> None:
    """Its incarnation starts anew, lower than what the others remember: the reply to its join tells it."""
    cluster = Cluster()
    cluster.build(3)
    for _ in range(3):
        cluster.nodes["n2"].update_meta(cluster.now)
    cluster.run(3)
    address = cluster.address("n2")[0]
    if how == "left":
        cluster.nodes["n2"].leave(cluster.now)
        cluster.run(5)
    cluster.kill("n2")
    if how == "dead":
        cluster.until(lambda: cluster.state("n0", "n2") == cluster.state("n1", "n2") == DEAD, 30)
    back = cluster.add("n2", address, meta=b"new life")
    cluster.join("n2", "n0")
    cluster.until(lambda: all(cluster.alive(name) == {"n0", "n1", "n2"} for name in cluster.nodes), 5)
    cluster.run(10)
    assert back.local_node.incarnation == 5
    for name in ("n0", "n1"):
        node = cluster.nodes[name].get("n2")
        assert node is not None
        assert (node.state, node.incarnation, node.meta) == (ALIVE, 5, b"new life")
        assert len(cluster.delegates[name].what("join", "n2")) == (1 if how == "alive" else 2)


def test_a_dead_name_may_move_after_a_while_only() -> None:
    cluster = Cluster(settings=replace(SETTINGS, dead_node_reclaim=10.0))
    cluster.build(3)
    cluster.kill("n2")
    cluster.until(lambda: cluster.state("n0", "n2") == cluster.state("n1", "n2") == DEAD, 30)
    cluster.add("n2", "10.0.0.77")
    cluster.join("n2", "n0")
    cluster.run(1)
    assert cluster.state("n0", "n2") == DEAD
    assert cluster.delegates["n0"].conflicts
    cluster.run(10)
    cluster.join("n2", "n0")
    cluster.until(lambda: all("n2" in cluster.alive(name) for name in ("n0", "n1")), 5)
    node = cluster.nodes["n1"].get("n2")
    assert node is not None
    assert node.address == "10.0.0.77"


def test_a_name_that_left_may_move_at_once() -> None:
    cluster = Cluster(settings=replace(SETTINGS, dead_node_reclaim=0))
    cluster.build(3)
    cluster.nodes["n2"].leave(cluster.now)
    cluster.settle("n2")
    cluster.run(5)
    cluster.kill("n2")
    cluster.add("n2", "10.0.0.77")
    cluster.join("n2", "n0")
    cluster.until(lambda: all("n2" in cluster.alive(name) for name in ("n0", "n1")), 5)


def test_an_agent_that_shows_its_id_may_move_while_others_believe_it_alive() -> None:
    cluster = Cluster(settings=replace(SETTINGS, dead_node_reclaim=1000.0))
    cluster.build(3, meta=b"id=2")
    cluster.nodes["n2"].update_meta(cluster.now)  # the others know a high incarnation
    cluster.settle("n2")
    cluster.run(2)
    cluster.kill("n2")
    cluster.add("n2", "10.0.0.77", meta=b"id=2")
    cluster.join("n2", "n0")

    def moved() -> bool:
        return all(cluster.nodes[name].get("n2").address == "10.0.0.77" for name in ("n0", "n1"))  # type: ignore[union-attr]

    cluster.until(moved, 3)
    cluster.run(60)  # and nobody goes back to what was
    assert moved()
    for name in ("n0", "n1"):
        assert "n2" in cluster.alive(name)
        assert cluster.delegates[name].what("update", "n2")
        assert not cluster.delegates[name].what("dead", "n2")


def test_two_living_nodes_of_one_name_conflict() -> None:
    cluster = Cluster()
    cluster.build(2)
    thief = encode_alive(Alive(7, "n1", "10.0.0.66", PORT, b"", bytes(LAN.vsn)))
    for name in ("n0", "n1"):
        cluster.nodes[name].receive(("10.0.0.66", PORT), thief, cluster.now)
        assert cluster.delegates[name].conflicts == [("10.0.0.2", "10.0.0.66")]
        assert cluster.nodes[name].get("n1").address == "10.0.0.2"  # type: ignore[union-attr]


def test_new_meta_reaches_all() -> None:
    cluster = Cluster()
    names = cluster.build(5)
    cluster.delegates["n3"].meta = b"changed"
    cluster.nodes["n3"].update_meta(cluster.now)
    cluster.settle("n3")
    cluster.until(lambda: all(cluster.nodes[n].get("n3").meta == b"changed" for n in names), 3)  # type: ignore[union-attr]
    assert all(len(cluster.delegates[name].what("update", "n3")) == 1 for name in names)
    cluster.delegates["n3"].meta = bytes(513)
    with pytest.raises(ValueError, match="longer than 512"):
        cluster.nodes["n3"].update_meta(cluster.now)


def test_push_pull_repairs_what_gossip_missed() -> None:
    cluster = Cluster(settings=replace(SETTINGS, push_pull_interval=5.0))
    names = cluster.build(4)
    cluster.udp_cut = lambda a, b: True
    cluster.delegates["n3"].meta = b"changed"
    cluster.delegates["n0"].state = b"user state"
    cluster.nodes["n3"].update_meta(cluster.now)
    cluster.until(lambda: all(cluster.nodes[n].get("n3").meta == b"changed" for n in names), 60)  # type: ignore[union-attr]
    cluster.until(lambda: (b"user state", False) in cluster.delegates["n1"].states, 60)


def test_user_messages_are_gossiped_and_sent() -> None:
    cluster = Cluster()
    cluster.build(3)
    cluster.delegates["n0"].broadcasts = [b"to all"] * 4
    cluster.nodes["n0"].send_to(cluster.address("n1"), b"to n1")
    cluster.nodes["n0"].send_to(cluster.nodes["n0"].get("n2"), b"to n2")  # type: ignore[arg-type]
    cluster.settle("n0")
    cluster.run(2)
    assert b"to n1" in cluster.delegates["n1"].messages
    assert b"to n2" in cluster.delegates["n2"].messages
    assert b"to all" in cluster.delegates["n1"].messages + cluster.delegates["n2"].messages


def test_foreign_networks_stay_out() -> None:
    cluster = Cluster(settings=replace(SETTINGS, allowed_networks=("10.0.0.0/24", "fd00::/8")))
    cluster.build(2)
    for address, come_in in (("10.1.0.1", False), ("10.0.0.77", True), ("fd00::7", True), ("fe80::1", False)):
        alive = Alive(1, f"of {address}", address, PORT, b"", bytes(LAN.vsn))
        cluster.nodes["n0"].receive(("10.0.0.2", PORT), encode_alive(alive), cluster.now)
        assert (cluster.nodes["n0"].get(alive.node) is not None) == come_in


def test_the_delegate_decides_who_comes_in() -> None:
    cluster = Cluster()
    cluster.add("n0", refuse=lambda node: node.meta == b"bad")
    cluster.add("n1", meta=b"bad")
    cluster.join("n1", "n0")
    cluster.run(3)
    assert cluster.joins == [("n1", "")]  # a refusal cannot be seen from outside (11.7)
    assert cluster.alive("n0") == {"n0"}
    assert any("n1 is not wanted" in text for _, text in cluster.log)
    cluster.delegates["n1"].refuse_merge = True
    cluster.nodes["n1"].join([cluster.address("n0")], cluster.now)
    cluster.settle("n1")
    cluster.run(1)
    assert cluster.joins[-1] == ("n1", "no merging")


def test_versions_that_do_not_fit_are_not_merged() -> None:
    cluster = Cluster()
    cluster.build(2)
    cluster.add("n2", vsn=(1, 5, 2, 2, 5, 9))
    cluster.join("n2", "n0")
    cluster.run(0.01)
    # Its own side finds the same fault.
    assert "delegate protocol version (9) is incompatible: [2, 5]" in cluster.joins[-1][1]
    assert cluster.nodes["n0"].get("n2") is None


@pytest.mark.parametrize("vsn", [b"", bytes((1, 5)), bytes((0, 5, 2, 2, 5, 4)), bytes((6, 5, 6, 2, 5, 4))])
def test_odd_versions_are_ignored(vsn: bytes) -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    alive = Alive(1, "odd", "10.0.0.9", PORT, b"", vsn)
    node.receive(("10.0.0.9", PORT), encode_alive(alive), cluster.now)
    state = messages.encode_push_pull(False, [(alive, 1, ALIVE)], b"")
    request = node.inbound().feed(state)
    assert request is not None
    assert node.answer_stream(request, cluster.now)
    assert node.get("odd") is None


def test_a_node_without_a_port_has_ours() -> None:
    cluster = Cluster()
    node = cluster.add("n0")
    alive = Alive(1, "old", "10.0.0.9", 0, b"", bytes(LAN.vsn))
    node.receive(("10.0.0.9", PORT), encode_alive(alive), cluster.now)
    assert node.get("old").endpoint == ("10.0.0.9", PORT)  # type: ignore[union-attr]


def test_dead_nodes_are_forgotten_after_a_round() -> None:
    cluster = Cluster()
    cluster.build(3)
    cluster.kill("n2")
    cluster.until(lambda: cluster.state("n0", "n2") == DEAD, 30)
    assert cluster.nodes["n0"].num_nodes == 3
    cluster.run(LAN.gossip_to_the_dead + 5)
    assert cluster.nodes["n0"].num_nodes == 2
    assert cluster.nodes["n0"].get("n2") is None


def test_encrypted_nodes_rotate_their_key() -> None:
    cluster = Cluster(keys=[KEY1])
    names = cluster.build(3)
    for step in ("add", "use", "remove"):
        for name in names:
            keyring = cluster.nodes[name].keyring
            assert keyring is not None
            getattr(keyring, step)(KEY1 if step == "remove" else KEY2)
            cluster.run(2)
    cluster.run(10)
    assert all(cluster.alive(name) == set(names) for name in names)
    assert not [text for level, text in cluster.log if level == "warn"]
    cluster.add("stranger", keys=[KEY1])
    cluster.join("stranger", "n0")
    cluster.run(2)
    assert "no installed keys could decrypt" in cluster.joins[-1][1]
    assert cluster.alive("stranger") == {"stranger"}


def test_plain_and_encrypted_nodes_refuse_each_other() -> None:
    cluster = Cluster()
    cluster.add("plain")
    cluster.add("secret", keys=[KEY1])
    cluster.join("plain", "secret")
    cluster.join("secret", "plain")
    cluster.run(2)
    # "secret" cannot read the plain error of "plain"; "plain" cannot read the encrypted one of "secret".
    assert dict(cluster.joins) == {
        "secret": "Encryption is configured but remote state is not encrypted",
        "plain": "Remote state is encrypted and encryption is not configured",
    }
    assert cluster.alive("plain") == {"plain"}
    assert cluster.alive("secret") == {"secret"}


def test_encryption_can_be_turned_on_in_a_running_cluster() -> None:
    """Without verification keys may be rolled out one node after the other (2.7)."""
    cluster = Cluster()
    cluster.add("plain")
    cluster.add("half", keys=[KEY1], verify_incoming=False, verify_outgoing=False)
    cluster.add("sender", keys=[KEY1], verify_incoming=False)
    cluster.join("half", "plain")
    cluster.join("sender", "half")
    cluster.run(5)
    assert cluster.alive("half") == {"plain", "half", "sender"}


def test_labels_keep_pools_apart() -> None:
    cluster = Cluster(settings=replace(SETTINGS, label=b"red"))
    cluster.build(2)
    cluster.add("blue", label=b"blue")
    cluster.join("blue", "n0")
    cluster.nodes["blue"].send_to(cluster.address("n0"), b"hello")
    cluster.settle("blue")
    cluster.run(2)
    assert cluster.joins[-1][1]
    assert cluster.alive("n0") == {"n0", "n1"}
    assert not cluster.delegates["n0"].messages


def test_who_stood_still_judges_nobody() -> None:
    """Packets wait while a node is frozen for 10 s: longer than any suspicion among three nodes."""
    cluster = Cluster()
    cluster.build(3, probe_timeout=0.5)
    cluster.run(5.3)
    for _ in range(6):
        cluster.packets.clear()
        cluster.until(lambda: any(p[1] == "n0" and p[3][0] == messages.PING for p in cluster.packets), 5)
        cluster.frozen.add("n0")  # its probe is not answered yet
        cluster.run(10)
        cluster.thaw("n0")
        cluster.run(3)
    assert not [text for _, text in cluster.log if text.startswith(("suspect n1", "suspect n2"))]
    assert not [heard for heard in cluster.delegates["n0"].heard if heard[1] == "dead"]
    assert any("stood still" in text for _, text in cluster.log)
    assert cluster.alive("n0") == {"n0", "n1", "n2"}


def test_health_suffers_from_standing_still_and_recovers() -> None:
    cluster = Cluster()
    cluster.build(3)
    cluster.run(5)
    node = cluster.nodes["n0"]
    cluster.frozen.add("n0")
    cluster.run(2)
    cluster.thaw("n0")
    assert node.health_score >= 1
    cluster.run(20)
    assert node.health_score == 0


def test_a_suspect_has_its_whole_time_although_we_stood_still() -> None:
    cluster = Cluster()
    cluster.build(2)
    node = cluster.nodes["n0"]
    node.receive(("10.0.0.9", PORT), encode_suspect(Suspect(1, "n1", "ghost")), cluster.now)
    cluster.kill("n1")
    cluster.frozen.add("n0")
    cluster.run(3.9)
    cluster.thaw("n0")
    assert 3.7 < cluster.until(lambda: cluster.state("n0", "n1") == DEAD, 20) < 4.1


def test_an_overheard_confirmation_shortens_the_suspicion() -> None:
    cluster = Cluster()
    names = cluster.build(6)
    cluster.run(3)
    cluster.cut = lambda a, b: True
    node = cluster.nodes["n0"]
    for source in names[1:4]:
        node.receive(("10.0.0.9", PORT), encode_suspect(Suspect(1, "n5", source)), cluster.now)
    took = cluster.until(lambda: cluster.state("n0", "n5") == DEAD, 30)
    assert took == pytest.approx(4.0, abs=0.001)
