"""Which servers Raft comes to name, in what order, and when a server had better not leave."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.gossip.member import ALIVE, FAILED, LEFT, Member
from core.node.cluster import Cluster, Refusal
from core.node.peers import AddServer, RemoveServer, ServerStep, leave_refusal, plan_servers
from core.raft.configuration import NONVOTER, VOTER, Configuration, Server
from core.store.state import Store
from tests.core.node.cluster_kit import ME, changed, client, server


def config(*servers: str) -> Configuration:
    """`s1@10.0.0.1` is a voter, `-s1@10.0.0.1` is not."""
    made = []
    for text in servers:
        name, _, address = text.lstrip("-").partition("@")
        made.append(Server(f"id-{name}", f"{address}:8300", NONVOTER if text[0] == "-" else VOTER))
    return Configuration(tuple(made))


def plan(
    configuration: Configuration, members: list[Member], gone: tuple[Member, ...] = ()
) -> list[ServerStep]:
    return plan_servers(Store(), Cluster(members, "dc1", gone), configuration, ME)


def told(steps: list[ServerStep]) -> list[str]:
    out = []
    for step in steps:
        if isinstance(step, AddServer):
            out.append(f"{step.id.removeprefix('id-')}={step.address.removesuffix(':8300')}")
        elif isinstance(step, RemoveServer):
            out.append(f"-{step.id.removeprefix('id-')}")
        else:
            out.append("refused")
    return out


S1, S2, S3 = (server(f"s{n}", address=f"10.0.0.{n}") for n in (1, 2, 3))
THREE = config("s1@10.0.0.1", "s2@10.0.0.2", "s3@10.0.0.3")


@pytest.mark.parametrize(
    ("configuration", "members", "expected"),
    [
        (THREE, [S1, S2, S3], []),
        (config("s1@10.0.0.1"), [S1, S2, client("a")], ["s2=10.0.0.2"]),
        # a known id with another address; the leader itself, too
        (THREE, [S1, S2, server("s3", address="10.0.0.7")], ["s3=10.0.0.7"]),
        (THREE, [server("s1", address="10.0.0.7"), S2, S3], ["s1=10.0.0.7"]),
        # only the alive are added; the failed stay (autopilot's matter), those that left go
        (config("s1@10.0.0.1"), [S1, server("s2", FAILED), server("s3", LEFT)], []),
        (THREE, [S1, S2, server("s3", FAILED, "10.0.0.3")], []),
        (THREE, [S1, S2, server("s3", LEFT, "10.0.0.3")], ["-s3"]),
        # an id that left under one name and is alive under another
        (THREE, [S1, S2, server("old", LEFT, id="id-s3"), S3], []),
        # the leader that was removed is about to step down
        (config("s2@10.0.0.2"), [S1, S2], []),
        (THREE, [server("s1", LEFT), S2, S3], []),
        # the same address with another id: the old one first
        (
            THREE,
            [S1, S2, server("new", address="10.0.0.3"), server("s3", FAILED, "10.0.0.3")],
            ["-s3", "new=10.0.0.3"],
        ),
        (
            config("s1@10.0.0.1", "-s2@10.0.0.2"),
            [S1, server("new", address="10.0.0.2")],
            ["-s2", "new=10.0.0.2"],
        ),
        # who moves away makes room first, whatever the order
        (
            THREE,
            [S1, server("s2", address="10.0.0.3"), server("s3", address="10.0.0.4")],
            ["s3=10.0.0.4", "s2=10.0.0.3"],
        ),
        # addresses that changed hands in a circle: one server goes and comes back
        (
            THREE,
            [S1, server("s2", address="10.0.0.3"), server("s3", address="10.0.0.2")],
            ["-s3", "s2=10.0.0.3", "s3=10.0.0.2"],
        ),
        (
            THREE,
            [
                server("s1", address="10.0.0.2"),
                server("s2", address="10.0.0.3"),
                server("s3", address="10.0.0.1"),
            ],
            ["-s2", "s1=10.0.0.2", "s3=10.0.0.1", "s2=10.0.0.3"],
        ),
        # two are dead already: the third may not be taken out before its replacement votes
        (THREE, [S1, server("new", address="10.0.0.3"), server("s2", FAILED)], ["refused"]),
        (config("s1@10.0.0.1"), [S1, server("s2", id="", address="10.0.0.2")], ["refused"]),
        (config("s1@10.0.0.1"), [server("s1", address="10.0.0.1", bootstrap="1"), S2], ["s2=10.0.0.2"]),
        (
            config("s1@10.0.0.1"),
            [
                server("s1", address="10.0.0.1", bootstrap="1"),
                server("s2", address="10.0.0.2", bootstrap="1"),
            ],
            ["refused"],
        ),
        (config("s1@10.0.0.1"), [S1, server("s2", address="10.0.0.2", dc="dc2")], []),
        (config("s1@10.0.0.1"), [S1, server("s6", address="fd00::6")], ["s6=[fd00::6]"]),
    ],
)
def test_plans(configuration: Configuration, members: list[Member], expected: list[str]) -> None:
    steps = plan(configuration, members)
    assert told(steps) == expected
    after = changed(configuration, steps)
    assert told(plan(after, members)) == [one for one in expected if one == "refused"]


def test_a_reaped_server_leaves_raft() -> None:
    assert told(plan(THREE, [S1, S2], gone=(server("s3", FAILED, "10.0.0.3"),))) == ["-s3"]


def test_addresses_keep_the_right_to_vote() -> None:
    steps = plan(THREE, [S1, S2, server("s3", address="10.0.0.7")])
    assert changed(THREE, steps).votes("id-s3")
    assert not changed(config("s1@10.0.0.1"), plan(config("s1@10.0.0.1"), [S1, S2])).votes("id-s2")


def test_refusals_say_what_to_do() -> None:
    both = [server("s1", address="10.0.0.1", bootstrap="1"), server("s2", address="10.0.0.2", bootstrap="1")]
    (refusal,) = plan(config("s1@10.0.0.1"), both)
    assert isinstance(refusal, Refusal)
    assert 'node "s2" (10.0.0.2) is in bootstrap mode, as is node "s1" (10.0.0.1)' in refusal.text
    assert "Start it without -bootstrap" in refusal.text


NAMES = ("s1", "s2", "s3", "s4", "s5")
ADDRESSES = st.permutations([f"10.0.0.{n}" for n in range(1, 8)])


@settings(max_examples=300)
@given(
    ADDRESSES,
    ADDRESSES,
    st.lists(st.sampled_from((ALIVE, ALIVE, ALIVE, FAILED, LEFT, None)), min_size=5, max_size=5),
    st.lists(st.sampled_from((VOTER, VOTER, NONVOTER, None)), min_size=5, max_size=5),
)
def test_servers_that_moved_anyhow_are_found(
    now: list[str], before: list[str], statuses: list[int | None], suffrages: list[int | None]
) -> None:
    """Every step is possible, one server is changed at a time, the quorum is never left without its alive
    voters, and in the end Raft has all servers where they are unless it says that it cannot."""
    statuses[0], suffrages[0] = ALIVE, VOTER
    rows = zip(NAMES, now, statuses, strict=False)
    members = [server(name, status, address) for name, address, status in rows if status is not None]
    configuration = Configuration(
        tuple(
            Server(f"id-{name}", f"{address}:8300", suffrage)
            for name, address, suffrage in zip(NAMES, before, suffrages, strict=False)
            if suffrage is not None
        )
    )
    alive = {f"id-{member.name}" for member in members if member.status == ALIVE}
    able = len(alive & set(configuration.voters)) >= configuration.quorum
    steps = plan(configuration, members)
    for step in steps:
        configuration = changed(configuration, [step])
        if able:
            assert len(alive & set(configuration.voters)) >= configuration.quorum
    assert all(isinstance(step, Refusal) for step in plan(configuration, members))
    if able and not any(isinstance(step, Refusal) for step in steps):
        for member in members:
            known = configuration.get(f"id-{member.name}")
            if member.status == ALIVE:
                assert known is not None and known.address == f"{member.address}:8300"
            elif member.status == LEFT:
                assert known is None


# May this server leave?


@pytest.mark.parametrize(
    ("configuration", "alive", "refusal"),
    [
        (THREE, "s1 s2 s3", ""),
        (config("s1@10.0.0.1", "s2@10.0.0.2"), "s1 s2", ""),
        (config("s2@10.0.0.2"), "s1 s2", ""),
        (config("-s1@10.0.0.1", "s2@10.0.0.2"), "s1", ""),
        (config("s1@10.0.0.1"), "s1", ""),
        (config("s1@10.0.0.1", "-s2@10.0.0.2"), "s1 s2", "this is the last voter"),
        (THREE, "s1 s2", "1 of the 2 other voters is alive, and they need 2"),
        (THREE, "s1", "0 of the 2 other voters are alive, and they need 2"),
    ],
)
def test_leaving(configuration: Configuration, alive: str, refusal: str) -> None:
    ids = {f"id-{name}" for name in alive.split()}
    text = leave_refusal(configuration, "id-s1", ids.__contains__)
    assert text.startswith(refusal) and bool(text) == bool(refusal)
    if refusal:
        assert "SIGTERM" in text and "ctl leave --yes-destroy-quorum" in text
