"""The small parts of Serf: clocks, rings, filters, the snapshot's text, Consul's admission."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec.msgpack import DecodeError
from core.codec.regex import compile as compile_regex
from core.gossip import snapshot
from core.gossip.admission import lan_admission, wan_admission
from core.gossip.clocks import LAST, LamportClock
from core.gossip.events import MAX_PER_TIME, Ring
from core.gossip.keys import KeyResult, operate
from core.gossip.member import LEFT, Member
from core.gossip.queries import QueryParams, default_timeout, passes
from core.gossip.serf_messages import KeyRequest, KeyResponse, encode
from core.gossip.snapshot import Snapshot, SnapshotState

VECTORS = Path(__file__).parents[2] / "vectors" / "gossip"


# --- clocks and rings


def test_lamport_clock() -> None:
    clock = LamportClock()
    assert (clock.time, clock.increment(), clock.time) == (1, 1, 2)
    clock.witness(1)
    assert clock.time == 2
    clock.witness(2)
    assert clock.time == 3
    clock.witness(LAST)
    assert (clock.time, clock.increment(), clock.time) == (LAST, LAST, LAST)


def test_ring() -> None:
    ring: Ring[str] = Ring(512)
    assert ring.is_new(5, "a", 6)
    assert not ring.is_new(5, "a", 6)
    assert ring.is_new(5, "b", 6)
    assert ring.is_new(517, "a", 518)  # the same slot, another time
    assert not ring.is_new(5, "c", 518)  # it may have been delivered before
    ring.minimum = 600
    assert not ring.is_new(599, "x", 600)
    assert ring.is_new(600, "x", 601)
    assert sorted(ring) == [(517, ["a"]), (600, ["x"])]


def test_a_liar_does_not_fill_the_memory() -> None:
    ring: Ring[int] = Ring(512)
    assert sum(ring.is_new(7, number, 8) for number in range(3 * MAX_PER_TIME)) == MAX_PER_TIME


@given(st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 2)), max_size=200))
def test_ring_never_delivers_twice(events: list[tuple[int, int]]) -> None:
    ring: Ring[int] = Ring(64)
    clock, delivered = LamportClock(), set()
    for ltime, key in events:
        clock.witness(ltime)
        if ring.is_new(ltime, key, clock.time):
            assert (ltime, key) not in delivered
            delivered.add((ltime, key))


# --- queries


def test_filters() -> None:
    tags = {"role": "web", "empty": ""}

    def pass_(**params: object) -> bool:
        filters = QueryParams(**params).filters() or []  # type: ignore[arg-type]
        return passes(filters, "n1", tags, compile_regex)

    assert pass_()
    assert pass_(nodes=["n0", "n1"])
    assert not pass_(nodes=["n0"])
    assert pass_(tags={"role": "e"})  # found anywhere
    assert not pass_(tags={"role": "^e"})
    assert pass_(tags={"absent": "^$"})
    assert not pass_(nodes=["n1"], tags={"role": "db"})
    with pytest.raises(DecodeError, match="missing closing"):
        pass_(tags={"role": "("})


@pytest.mark.parametrize(
    ("alive", "seconds"), [(1, 3.2), (9, 3.2), (10, 6.4), (99, 6.4), (100, 9.6), (5000, 12.8)]
)
def test_default_timeout(alive: int, seconds: float) -> None:
    assert default_timeout(0.2, 16, alive) == pytest.approx(seconds)


# --- keys


def test_key_answers_are_counted() -> None:
    result = KeyResult(4)
    result.add("a", encode(KeyResponse(True, keys=["k"], primary_key="k")))
    result.add("b", encode(KeyResponse(True, "truncated", ["k", "l"], "l")))
    result.add("c", encode(KeyResponse(False, "no")))
    assert not result.complete
    result.add("d", b"\x07\x80")
    assert result.complete
    assert result.error == "2/4 nodes reported failure"
    assert (dict(result.keys), dict(result.primary_keys)) == ({"k": 2, "l": 1}, {"k": 1, "l": 1})
    assert result.messages == {
        "b": "truncated",
        "c": "no",
        "d": "Invalid key query response type: [7, 128]",
    }


def test_keys_without_encryption() -> None:
    no_keyring = KeyResponse(message="No keyring to modify (encryption not enabled)")
    assert operate(None, "install", encode(KeyRequest(bytes(16)))) == no_keyring


# --- the snapshot's text


def test_recorded_snapshot_file() -> None:
    text = json.loads((VECTORS / "serf_snapshot_file.json").read_text())["text"]
    state = snapshot.parse(text)
    assert state == SnapshotState({"node-a": "127.0.11.1:7946", "node-b": "127.0.11.2:7946"}, 11, 1, 4, False)


def test_what_is_written_is_read_again() -> None:
    kept = Snapshot()
    kept.alive("a b", "10.0.0.1:7946")  # names are not validated
    kept.alive("c", "[::1]:7946")
    kept.clock(1)
    kept.clock(5)
    kept.clock(5)
    kept.event(7)
    kept.event(6)
    kept.query(2)
    kept.not_alive("c")
    kept.alive("bad\nname", "10.0.0.1:1")
    lines = kept.take_lines()
    assert lines == [
        *("alive: a b 10.0.0.1:7946", "alive: c [::1]:7946"),
        *("clock: 4", "event-clock: 7", "query-clock: 2", "not-alive: c"),
    ]
    assert kept.take_lines() == []
    state = snapshot.parse("".join(f"{line}\n" for line in lines))
    assert state == SnapshotState({"a b": "10.0.0.1:7946"}, 4, 7, 2)
    assert snapshot.parse(kept.compacted()).clock == 4


def test_leave_clears_unless_it_shall_rejoin() -> None:
    for rejoin in (False, True):
        kept = Snapshot(rejoin_after_leave=rejoin)
        kept.alive("a", "10.0.0.1:1")
        kept.event(3)
        kept.leave()
        kept.not_alive("a")
        lines = kept.take_lines()
        assert lines[-1] == "leave"
        for text in ("\n".join(lines), kept.compacted()):
            state = snapshot.parse(text, rejoin)
            assert state.alive == ({"a": "10.0.0.1:1"} if rejoin else {})
            assert state.left == (not rejoin)
            assert state.event_clock == (3 if rejoin else 0)


def test_limit_grows_with_the_members() -> None:
    kept = Snapshot(SnapshotState({f"n{number}": "10.0.0.1:1" for number in range(1000)}))
    assert (Snapshot().limit, kept.limit) == (128 * 1024, 256_000)


lines = st.lists(
    st.sampled_from(("alive: ", "not-alive: ", "clock: ", "event-clock: ", "leave", "coordinate: ", "# ", ""))
    | st.text(alphabet="ab .:18\ud800é\r"),
    max_size=20,
)


@given(st.lists(lines, max_size=8))
def test_any_text_is_read(file: list[list[str]]) -> None:
    state = snapshot.parse("\n".join("".join(line) for line in file))
    assert snapshot.parse(Snapshot(state).compacted()).alive == state.alive


# --- admission


def member(name: str, status: int = 1, /, **tags: str) -> Member:
    return Member(name, "10.0.0.1", 8301, tags, status)


SERVER = {"role": "consul", "dc": "dc1", "port": "8300", "vsn": "2", "build": "1.9.8:"}


def test_lan_admission() -> None:
    refusal = lan_admission("me", "ID-1", "dc1")
    assert refusal([member("me", id="ID-1", **SERVER), member("x", role="node", dc="dc1")]) == ""
    assert refusal([member("x")]) == ""  # no agent of Consul's: listed, not cataloged
    assert refusal([member("x", role="node", dc="dc2")]) == "Member 'x' part of wrong datacenter 'dc2'"
    assert refusal([member("x", role="consul")]) == "Member 'x' part of wrong datacenter ''"
    assert (
        refusal([member("x", role="node", dc="dc1", segment="alpha")])
        == "Member 'x' part of wrong segment 'alpha' (expected '')"
    )
    clash = "Member 'x' has conflicting node ID 'id-1' with this agent's ID"
    assert refusal([member("x", id="id-1", **SERVER)]) == clash
    assert refusal([member("x", LEFT, id="id-1", **SERVER)]) == ""


def test_two_newcomers_with_one_id() -> None:
    refusal = lan_admission("me", "ID-1", "dc1")
    pair = [member("a", id="2", **SERVER), member("b", id="2", **SERVER)]
    assert refusal(pair) == "Member 'b' has conflicting node ID '2' with member 'a'"
    assert refusal([pair[0], pair[0]]) == ""
    old = SERVER | {"build": "0.8.4:"}
    assert refusal([pair[0], member("b", id="2", **old)]) == ""
    assert refusal([pair[0], member("b", LEFT, id="2", **SERVER)]) == ""


def test_wan_admission() -> None:
    assert wan_admission([member("s.dc2", **SERVER)]) == ""
    for broken in ({"role": "node"}, {"port": "x"}, {"build": ""}, {"expect": "three"}, {"grpc_port": ""}):
        assert wan_admission([member("s", **(SERVER | broken))]) == "Member 's' is not a server"
    for missing in ("port", "vsn", "build"):
        tags = {tag: value for tag, value in SERVER.items() if tag != missing}
        assert wan_admission([member("s", **tags)]) == "Member 's' is not a server"
