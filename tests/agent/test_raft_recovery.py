"""peers.json after a lost quorum, and looking into data directories (protocols/raft.md section 8)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.raft_recovery import inspect, wanted_peers, write_peers
from core.errors import CtlError, Invalid, NotFound
from core.raft.configuration import NONVOTER, Configuration, Server
from tests.agent.raft_network import Network, run, until


async def broken_cluster(folder: Path) -> Network:
    """Three servers, of which only one's data survives."""
    net = Network(folder)
    leader = await net.start()
    for number in range(30):
        await leader.raft.apply(b"%d" % number)
        if number == 20:
            await net.same()
            for host in net.hosts.values():
                await host.raft.snapshot()
    await net.same()
    await net.stop()
    return net


def data_dir(net: Network, name: str) -> Path:
    """As an agent has it: Raft's folder is `raft` within."""
    assert net.folder is not None
    folder = net.folder / f"data-{name}"
    folder.mkdir(exist_ok=True)
    if not (folder / "raft").exists():
        (folder / "raft").symlink_to(net.folder / name)
    return folder


def test_one_server_goes_on_alone_and_with_new_ones(tmp_path: Path) -> None:
    async def test() -> None:
        net = await broken_cluster(tmp_path)
        survivor = net["a"]
        before = inspect(data_dir(net, "a"))
        assert before.last_index == 32 and before.configuration == net.configuration()
        assert not (before.running or before.pending_recovery)
        write_peers(data_dir(net, "a"), [Server("a", survivor.address)])
        assert inspect(data_dir(net, "a")).pending_recovery
        await survivor.start()
        await until(lambda: survivor.raft.is_leader)
        assert survivor.fsm.numbers == [b"%d" % number for number in range(30)]
        assert survivor.raft.configuration.voters == ["a"]
        assert not (tmp_path / "a" / "peers.json").exists()
        assert inspect(data_dir(net, "a")).running
        for name in "de":
            host = net.hosts[name] = type(survivor)(net, name)
            await host.start()
            await survivor.raft.change(survivor.raft.configuration.with_voter(name, host.address))
        await survivor.raft.apply(b"new")
        await until(lambda: net["d"].fsm.numbers == net["e"].fsm.numbers == survivor.fsm.numbers)
        await survivor.stop()
        await survivor.start()  # the recovery is over and does not come back
        assert len(survivor.raft.configuration.voters) == 3
        await net.stop()

    run(test)


def test_entries_count_that_nobody_knows_to_be_committed(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path)
        leader = await net.start()
        await leader.raft.apply(b"1")
        await net.same()
        for host in net.followers():
            await host.kill()
        leader.raft.propose(b"perhaps", lambda result: None)
        await until(lambda: leader.raft.last_index == 4 and not leader.raft.is_leader)
        await leader.stop()
        write_peers(data_dir(net, leader.name), [Server(leader.name, leader.address)])
        await leader.start()
        await until(lambda: leader.raft.is_leader)
        assert leader.fsm.numbers == [b"1", b"perhaps"]
        await net.stop()

    run(test)


def test_all_servers_recover_with_the_same_file(tmp_path: Path) -> None:
    async def test() -> None:
        net = await broken_cluster(tmp_path)
        servers = [Server(name, net[name].address) for name in "ab"]
        servers.append(Server("c", net["c"].address, NONVOTER))
        for name in "abc":
            write_peers(data_dir(net, name), servers)
        for host in net.hosts.values():
            await host.start()
        leader = await net.leader()
        assert leader.raft.configuration == Configuration(tuple(servers))
        await leader.raft.apply(b"new")
        await net.same()
        assert {tuple(host.fsm.numbers) for host in net.hosts.values()} == {tuple(leader.fsm.numbers)}
        await net.stop()

    run(test)


def test_inspecting_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        net = await broken_cluster(tmp_path)

        def content() -> dict[str, bytes]:
            return {str(p): p.read_bytes() for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()}

        segment = next((tmp_path / "a" / "wal").glob("*.seg"))
        with segment.open("r+b") as file:  # a torn batch, as after a crash
            file.seek(segment.stat().st_size - 100)
            file.write(b"torn")
        before = content()
        seen = inspect(data_dir(net, "a"))
        assert (seen.last_index, seen.snapshot_index, seen.last_term) == (32, 23, 2)
        assert content() == before

    run(test)


def test_what_is_no_servers_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not the data directory of a server"):
        inspect(tmp_path)
    with pytest.raises(NotFound):
        write_peers(tmp_path, [Server("a", "127.0.0.1:8300")])
    (tmp_path / "raft").mkdir()
    assert inspect(tmp_path).last_index == 0
    one = Server("a", "127.0.0.1:8300")
    for servers in ([], [one, one], [one, Server("b", one.address)], [Server("a", "x:1", NONVOTER)]):
        with pytest.raises(Invalid):
            write_peers(tmp_path, servers)


def test_a_file_from_before_the_first_start_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text("[]")
    assert wanted_peers(tmp_path) is None
    assert not (tmp_path / "peers.json").exists() and (tmp_path / "peers.info").exists()
    assert wanted_peers(tmp_path) is None
    (tmp_path / "peers.json").write_text(json.dumps(["10.0.0.1:8300"]))  # protocol 2
    assert wanted_peers(tmp_path) == Configuration((Server("10.0.0.1:8300", "10.0.0.1:8300"),))
    for bad in ("", "{", "[]", '[{"id": "a"}]', '[{"id": "a", "address": ""}]', "[1]"):
        (tmp_path / "peers.json").write_text(bad)
        with pytest.raises(CtlError, match=r"recovery failed to parse peers\.json"):
            wanted_peers(tmp_path)


def test_nothing_can_be_recovered_from_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        net = Network(tmp_path, "a")
        await net["a"].start()
        await net["a"].stop()
        write_peers(data_dir(net, "a"), [Server("a", net["a"].address)])
        with pytest.raises(CtlError, match="refused to recover cluster with no initial state"):
            await net["a"].start()

    run(test)
