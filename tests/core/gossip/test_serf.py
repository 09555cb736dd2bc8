"""Small Serf clusters on pretend time: members, events, queries, keys, leaving, pruning."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from core.errors import Invalid
from core.gossip import snapshot
from core.gossip.member import QueryEvent, UserEvent
from core.gossip.queries import QueryParams
from core.gossip.serf_messages import JoinIntent, LeaveIntent, QueryMessage, encode
from core.gossip.settings import LAN
from tests.sim.gossip_cluster import Host, World

KEY_1, KEY_2 = bytes(range(32)), bytes(range(100, 116))


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def queries(host: Host) -> list[QueryEvent]:
    return [event for event in host.events if isinstance(event, QueryEvent)]


def responses(host: Host) -> list[tuple[str, bytes]]:
    return sorted((r.source, r.payload) for _, r in host.answers if r.payload is not None)


def acks(host: Host) -> list[str]:
    return sorted(response.source for _, response in host.answers if response.payload is None)


# --- members


def test_everyone_sees_everyone_with_tags() -> None:
    world = World(1)
    a, b = world.add("a", {"role": "web"}), world.add("b", {"role": "db"})
    world.join(b, a)
    world.until(lambda: a.statuses() == b.statuses() == {"a": "alive", "b": "alive"}, 5)
    (seen,) = [member for member in a.serf.members() if member.name == "b"]
    assert (seen.tags, seen.address, seen.port) == ({"role": "db"}, "10.0.0.1", 7946)
    assert seen.delegate == (2, 5, 4)
    assert b.joins == [""]
    assert b.of_kind("join") == ["b", "a"]
    world.do(b, b.serf.set_tags, {"role": "cache"})
    world.until(lambda: a.of_kind("update") == ["b"], 5)
    assert a.serf.roster.get("b").tags == {"role": "cache"}  # type: ignore[union-attr]
    with pytest.raises(Invalid):
        b.serf.set_tags({"role": "x" * 600}, world.now)
    assert b.serf.roster.get("b").tags == {"role": "cache"}  # type: ignore[union-attr]


def test_members_is_the_same_until_it_changes() -> None:
    world = World(1)
    a, b = world.build(2)
    before = a.serf.members()
    world.run(3)
    assert a.serf.members() is before
    world.kill(b)
    world.until(lambda: a.status("n1") == "failed", 30)
    assert a.serf.members() is not before


def test_a_join_that_meets_nobody() -> None:
    world = World(1)
    a, b = world.add("a"), world.add("b")
    world.kill(a)
    world.join(b, a)
    world.run(1)
    assert b.joins == ["connection refused"]
    assert b.serf.stats()["member_time"] == "1"


def test_leaving_is_not_failing() -> None:
    world = World(2)
    hosts = world.build(5)
    quitter, killed, watcher = hosts[1], hosts[2], hosts[0]
    world.do(quitter, quitter.serf.leave)
    took = world.until(lambda: quitter.left, 20)
    assert took < 6
    world.kill(quitter)
    world.kill(killed)
    world.until(lambda: all(host.status("n2") == "failed" for host in (watcher, hosts[3], hosts[4])), 30)
    for host in (watcher, hosts[3], hosts[4]):
        assert host.status("n1") == "left"
        assert host.of_kind("leave") == ["n1"]
        assert host.of_kind("failed") == ["n2"]
    stats = watcher.serf.stats()
    assert (stats["members"], stats["left"], stats["failed"]) == ("5", "1", "1")


def test_leaving_alone_takes_no_time() -> None:
    world = World(1)
    host = world.add("a")
    world.do(host, host.serf.leave)
    assert world.until(lambda: host.left, 1) < 0.1


def test_leaving_ends_although_nobody_answers() -> None:
    world = World(1)
    a, b = world.build(2)
    world.kill(b)
    world.do(a, a.serf.leave)
    limits = 2 * LAN.broadcast_timeout + LAN.leave_propagate_delay
    assert world.until(lambda: a.left, limits + 1) <= limits + 0.1


def test_a_node_that_comes_back_after_leaving_is_alive() -> None:
    world = World(3)
    hosts = world.build(3)
    world.do(hosts[1], hosts[1].serf.leave)
    world.until(lambda: hosts[1].left, 20)
    world.kill(hosts[1])
    world.run(5)
    again = world.add("n1")
    world.join(again, hosts[0])
    everyone = [hosts[0], again, hosts[2]]
    world.until(lambda: all(host.status("n1") == "alive" for host in everyone), 10)


def test_force_leave_turns_failed_into_left() -> None:
    world = World(4)
    hosts = world.build(4)
    world.kill(hosts[3])
    living = hosts[:3]
    world.until(lambda: all(host.status("n3") == "failed" for host in living), 30)
    world.do(hosts[0], hosts[0].serf.force_leave, "n3", False)
    world.until(lambda: all(host.status("n3") == "left" for host in living), 5)
    assert all(host.of_kind("leave") == ["n3"] for host in living)


def test_a_living_node_objects_to_being_forced() -> None:
    for prune in (False, True):
        world = World(5)
        hosts = world.build(4)
        world.do(hosts[0], hosts[0].serf.force_leave, "n3", prune)
        assert hosts[0].status("n3") == "leaving"
        world.until(lambda hosts=hosts: all(host.status("n3") == "alive" for host in hosts), 5)  # type: ignore[misc]
        world.run(30)
        assert all(host.status("n3") == "alive" for host in hosts)
        assert not any(host.of_kind("reap") for host in hosts)


def test_prune_of_a_leaving_node_waits_for_it() -> None:
    world = World(6)
    hosts = world.build(3)
    world.do(hosts[2], hosts[2].serf.leave)
    world.until(lambda: hosts[0].status("n2") == "leaving", 5)
    world.do(hosts[0], hosts[0].serf.force_leave, "n2", True)
    world.run(LAN.leave_propagate_delay)
    assert hosts[0].status("n2") == "left"
    world.run(LAN.broadcast_timeout + 1)
    assert hosts[0].status("n2") == hosts[1].status("n2") == ""


def test_reaper_and_a_member_s_own_limit() -> None:
    settings = replace(LAN, reconnect_timeout=600.0, tombstone_timeout=300.0)
    world = World(7, settings)
    hosts = [world.add(f"n{i}", {"rc_tm": "40s"} if i == 3 else {}) for i in range(4)]
    for host in hosts[1:]:
        world.join(host, hosts[0])
    world.until(lambda: all(len(host.statuses()) == 4 for host in hosts), 10)
    world.do(hosts[1], hosts[1].serf.leave)
    world.until(lambda: hosts[1].left, 20)
    for host in hosts[1:]:
        world.kill(host)
    watcher = hosts[0]
    world.until(
        lambda: watcher.statuses() == {"n0": "alive", "n1": "left", "n2": "failed", "n3": "failed"}, 60
    )
    world.run(60)
    assert watcher.statuses() == {"n0": "alive", "n1": "left", "n2": "failed"}
    world.run(300)
    assert watcher.statuses() == {"n0": "alive", "n2": "failed"}
    world.run(300)
    assert watcher.statuses() == {"n0": "alive"}
    assert watcher.of_kind("reap") == ["n3", "n1", "n2"]


def test_a_failed_node_is_asked_whether_it_is_back() -> None:
    """Both sides of a partition find each other again without anybody's help."""
    world = World(8)
    hosts = world.build(4)
    world.cut = lambda a, b: (a in ("n0", "n1")) != (b in ("n0", "n1"))
    world.until(lambda: hosts[0].status("n3") == "failed" and hosts[3].status("n0") == "failed", 60)
    world.run(120)
    world.cut = None
    alive = dict.fromkeys(world.hosts, "alive")
    world.until(lambda: all(host.statuses() == alive for host in hosts), 300)


def test_push_pull_tells_who_left_and_of_events() -> None:
    """One node was cut off while another left: for it that one failed, until it talks to somebody."""
    world = World(22)
    hosts = world.build(4)
    alone, quitter, rest = hosts[3], hosts[2], hosts[:2]
    world.cut = lambda a, b: "n3" in (a, b)
    world.do(quitter, quitter.serf.leave)
    world.until(lambda: quitter.left, 20)
    world.kill(quitter)
    world.do(hosts[0], hosts[0].serf.user_event, "missed", b"", False)
    world.until(lambda: alone.status("n2") == "failed", 60)
    for other in rest:
        other.serf.memberlist._delegate.events.prune(0)  # type: ignore[attr-defined]
        other.serf.memberlist._delegate.intents.prune(0)  # type: ignore[attr-defined]
    world.cut = None
    world.join(alone, hosts[0])
    world.run(0.1)
    assert alone.status("n2") == "left"
    assert alone.of_kind("leave") == ["n2"]
    assert alone.user_events() == [("missed", b"")]


def test_nothing_is_kept_of_members_that_are_gone() -> None:
    world = World(23)
    hosts = world.build(3)
    world.until(lambda: hosts[0].serf.coordinate_of("n2") is not None, 30)
    world.kill(hosts[2])
    world.until(lambda: hosts[0].status("n2") == "failed", 60)
    world.do(hosts[0], hosts[0].serf.force_leave, "n2", True)
    assert hosts[0].serf.coordinate_of("n2") is None
    assert hosts[0].serf.coordinate_of("n0") == hosts[0].serf.coordinate


def test_admission_refuses_on_both_ways_in() -> None:
    world = World(9)

    def no_strangers(members: Any) -> str:
        strange = [member.name for member in members if member.tags.get("role") == "stranger"]
        return f"Member '{strange[0]}' is strange" if strange else ""

    hosts = [world.add(f"n{i}", admission=no_strangers) for i in range(3)]
    for host in hosts[1:]:
        world.join(host, hosts[0])
    world.until(lambda: all(len(host.statuses()) == 3 for host in hosts), 10)
    stranger = world.add("x", {"role": "stranger"})
    world.join(stranger, hosts[0])
    world.run(60)
    assert not any(host.status("x") for host in hosts)
    assert any("Member 'x' is strange" in line for _, line in hosts[0].log)


def test_messages_that_make_no_sense_are_survived() -> None:
    world = World(10)
    a, b = world.build(2)
    mad = [b"", b"\x00", b"\xff", b"\x09\xc0", b"\x04" + b"\xc1", encode(JoinIntent(2**64 - 1, "n0"))]
    mad += [encode(LeaveIntent(2**64 - 1, "n0", True)), encode(LeaveIntent(0, ""))]
    mad += [encode(QueryMessage(2**64 - 1, 5, b"abc", filters=[b"\x07", b""], name="x"))]
    mad += [encode(QueryMessage(7, 6, b"\0\0\0\0", filters=[b"\x01\x82\xa4Expr\xa1(\xa3Tag\xa1x"], name="x"))]
    for message in mad:
        b.serf.memberlist.send_to(a.endpoint, message)
    world.settle(b)
    world.run(30)
    assert a.statuses() == {"n0": "alive", "n1": "alive"}
    world.do(a, a.serf.user_event, "still", b"here", False)
    world.until(lambda: b.user_events() == [("still", b"here")], 5)


# --- events


def test_user_events_reach_all_once_and_late_comers_on_request() -> None:
    world = World(11)
    hosts = world.build(6)
    for number in range(20):
        world.do(hosts[number % 6], hosts[number % 6].serf.user_event, f"e{number}", b"p", False)
    world.run(5)
    expected = sorted((f"e{number}", b"p") for number in range(20))
    assert all(sorted(host.user_events()) == expected for host in hosts)
    curious, busy = world.add("curious"), world.add("busy")
    world.join(curious, hosts[0])
    world.join(busy, hosts[0], True)
    world.run(70)
    assert sorted(curious.user_events()) == expected
    assert busy.user_events() == []
    world.do(curious, curious.serf.user_event, "new", b"", True)
    everyone = world.hosts.values()
    world.until(lambda: all(("new", b"") in host.user_events() for host in everyone), 5)
    world.run(70)
    assert all(host.user_events().count(("new", b"")) == 1 for host in everyone)
    assert [e.coalesce for e in hosts[0].events if isinstance(e, UserEvent) and e.name == "new"] == [True]


def test_user_event_sizes() -> None:
    world = World(1)
    host = world.add("a")
    with pytest.raises(Invalid, match="exceeds configured limit of 512 bytes before encoding"):
        host.serf.user_event("deploy", bytes(507), False, world.now)
    with pytest.raises(Invalid, match="exceeds configured limit of 512 bytes after encoding"):
        host.serf.user_event("deploy", bytes(506), False, world.now)
    generous = world.add("b", settings=replace(LAN, user_event_size_limit=20_000))
    with pytest.raises(Invalid, match="exceeds sane limit of 9216 bytes before encoding"):
        generous.serf.user_event("deploy", bytes(9216), False, world.now)
    assert host.user_events() == generous.user_events() == []


def test_what_happened_before_a_restart_is_not_told_again() -> None:
    world = World(12)
    hosts = world.build(3)
    world.do(hosts[0], hosts[0].serf.user_event, "old", b"", False)
    world.until(lambda: len(hosts[2].user_events()) == 1, 5)
    world.run(1)
    world.kill(hosts[2])
    known = snapshot.parse("".join(f"{line}\n" for line in hosts[2].lines))
    assert known.alive == {f"n{i}": f"10.0.0.{i}:7946" for i in range(3)}
    assert (known.event_clock, known.left) == (1, False)
    again = world.add("n2", previous=known)
    world.join(again, hosts[0])
    world.do(hosts[0], hosts[0].serf.user_event, "new", b"", False)
    world.run(60)
    assert again.user_events() == [("new", b"")]


# --- queries


def test_query_with_answers_and_acks() -> None:
    world = World(13)
    hosts = world.build(4)
    id = world.do(hosts[0], hosts[0].serf.query, "uptime", b"?", QueryParams(ack=True))
    world.until(lambda: all(queries(host) for host in hosts), 3)
    for host in hosts:
        (query,) = queries(host)
        assert (query.name, query.payload, query.source) == ("uptime", b"?", "n0")
        world.do(host, host.serf.respond, query, host.name.encode())
        with pytest.raises(Invalid, match="response already sent"):
            host.serf.respond(query, b"again", world.now)
    world.run(1)
    assert responses(hosts[0]) == [(f"n{i}", f"n{i}".encode()) for i in range(4)]
    assert acks(hosts[0]) == ["n0", "n1", "n2", "n3"]
    assert {number for number, _ in hosts[0].answers} == {id}
    assert hosts[0].ended == []
    world.run(16 * 0.2 * 1)
    assert hosts[0].ended == [id]


def test_late_and_large_answers() -> None:
    world = World(14)
    a, b = world.build(2)
    world.do(a, a.serf.query, "q", b"", QueryParams(timeout=1.0))
    world.until(lambda: bool(queries(b)), 1)
    (query,) = queries(b)
    with pytest.raises(Invalid, match="response exceeds limit of 1024 bytes"):
        b.serf.respond(query, bytes(1025), world.now)
    with pytest.raises(Invalid, match="response is past the deadline"):
        b.serf.respond(query, b"", query.deadline + 0.01)
    with pytest.raises(Invalid, match="query exceeds limit of 1024 bytes"):
        a.serf.query("q", bytes(1000), QueryParams(), world.now)
    with pytest.raises(Invalid, match="_serf_"):
        a.serf.query("_serf_list-keys", b"", QueryParams(), world.now)


def test_query_filters() -> None:
    world = World(15)
    hosts = [world.add(f"n{i}", {"role": "web" if i % 2 else "db"}) for i in range(5)]
    for host in hosts[1:]:
        world.join(host, hosts[0])
    world.until(lambda: all(len(host.statuses()) == 5 for host in hosts), 10)
    world.run(3)
    params = QueryParams(nodes=["n1", "n2", "n3"], tags={"role": "^w.b$"})
    world.do(hosts[0], hosts[0].serf.query, "q", b"", params)
    world.run(3)
    assert [host.name for host in hosts if queries(host)] == ["n1", "n3"]
    world.do(hosts[0], hosts[0].serf.query, "bad", b"", QueryParams(tags={"role": "("}))
    world.run(3)
    assert not any(query.name == "bad" for host in hosts for query in queries(host))
    assert any("cannot be judged" in line for _, line in hosts[1].log)


def test_relayed_answers_arrive_where_straight_ones_cannot() -> None:
    world = World(17)  # gossip is chance: of some seeds, one node never hears
    hosts = world.build(6)
    world.do(hosts[0], hosts[0].serf.query, "q", b"", QueryParams(relay_factor=3))
    world.until(lambda: bool(queries(hosts[1])), 3)
    world.cut = lambda source, target: (source, target) == ("n1", "n0")
    (query,) = queries(hosts[1])
    world.do(hosts[1], hosts[1].serf.respond, query, b"here")
    world.run(0.5)
    assert responses(hosts[0]) == [("n1", b"here")]


# --- keys


def test_key_rotation() -> None:
    world = World(16)
    hosts = world.build(4, keys=[KEY_1])
    asker = hosts[0]

    def operate(operation: str, key: bytes = b"") -> Any:
        id = world.do(asker, asker.serf.operate_keys, operation, text(key), 0)
        world.until(lambda: id in asker.key_results, 10)
        return asker.key_results[id]

    result = operate("install", KEY_2)
    assert (result.error, result.nodes, result.messages) == ("", 4, {})
    listed = operate("list")
    assert dict(listed.keys) == {text(KEY_1): 4, text(KEY_2): 4}
    assert dict(listed.primary_keys) == {text(KEY_1): 4}
    assert operate("use", KEY_2).error == ""
    refused = operate("remove", KEY_2)
    assert refused.error == "4/4 nodes reported failure"
    assert set(refused.messages.values()) == {"Removing the primary key is not allowed"}
    assert operate("remove", KEY_1).error == ""
    listed = operate("list")
    assert (dict(listed.keys), dict(listed.primary_keys)) == ({text(KEY_2): 4}, {text(KEY_2): 4})
    assert all(host.serf.memberlist.keyring.keys == [KEY_2] for host in hosts)  # type: ignore[union-attr]
    world.run(60)
    assert all(host.statuses() == dict.fromkeys(world.hosts, "alive") for host in hosts)
    unknown = operate("use", bytes(16))
    assert set(unknown.messages.values()) == {"Requested key is not in the keyring"}
    with pytest.raises(Invalid):
        asker.serf.operate_keys("install", "no base64!", 0, world.now)


def test_keys_of_an_open_cluster() -> None:
    world = World(18)
    hosts = world.build(2)
    id = world.do(hosts[0], hosts[0].serf.operate_keys, "list", "", 0)
    world.until(lambda: id in hosts[0].key_results, 10)
    result = hosts[0].key_results[id]
    assert result.error == "2/2 nodes reported failure"
    assert set(result.messages.values()) == {"Keyring is empty (encryption not enabled)"}


def test_keys_when_a_node_does_not_answer() -> None:
    world = World(19)
    hosts = world.build(3, keys=[KEY_1])
    world.kill(hosts[2])
    id = world.do(hosts[0], hosts[0].serf.operate_keys, "list", "", 0)
    world.until(lambda: id in hosts[0].key_results, 10)
    assert hosts[0].key_results[id].error == "2/3 nodes reported success"


def test_a_long_list_of_keys_is_cut() -> None:
    world = World(20)
    many = [bytes([number]) * 32 for number in range(60)]
    (host,) = world.build(1, keys=many)
    id = world.do(host, host.serf.operate_keys, "list", "", 0)
    world.until(lambda: id in host.key_results, 10)
    result = host.key_results[id]
    shown = len(result.keys)
    assert result.error == ""
    assert 15 < shown < 25
    assert result.messages == {"n0": f"truncated key list response, showing first {shown} of 60 keys"}


# --- conflicts


@pytest.mark.parametrize("resolve", [True, False])
def test_the_second_of_a_name_gives_up(resolve: bool) -> None:
    settings = replace(LAN, resolve_conflicts=resolve)
    world = World(21, settings)
    hosts = world.build(4)
    second = world.add("impostor")
    world.hosts.pop("impostor")
    twin = world.add("n1", address="10.0.9.9")
    world.hosts["twin"] = twin
    world.hosts["n1"] = hosts[1]
    world.kill(second)
    world.join(twin, hosts[0])
    world.run(40)
    assert twin.name_lost == resolve
    assert not hosts[1].name_lost
    assert any("both claim the name 'n1'" in line for _, line in twin.log)
