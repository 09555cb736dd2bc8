"""Archives of the state, over three servers: saved by any, restored through Raft, refused when damaged."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent import archives
from agent.archives import Archives
from agent.dial import Dialer
from agent.rpc import MULTIPLEX, SNAPSHOT
from agent.snapshot_rpc import restore as restore_over_rpc
from agent.snapshot_rpc import save as save_over_rpc
from agent.tls import RpcTls, TlsFiles, server_context
from agent.tls_halves import end_direction
from core.codec import msgpack
from core.errors import CtlError, Lost, NoLeader, Unavailable
from core.gossip.member import ALIVE
from core.node.servers import ServerFacts
from core.store import archive, commands
from core.store.archive import SnapshotMeta
from core.store.fsm import FSM
from core.store.persist import SnapshotError
from core.store.watch import Watch
from tests.agent.raft_network import CALM, Host, Network, run, until
from tests.agent.rpc_certs import Authority

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "snapshot" / "records.json").read_text()
)["vectors"]
RECORDS = [bytes.fromhex(one["hex"]) for one in RECORDED if "hex" in one]
STATE = msgpack.encode({"LastIndex": 83}) + b"".join(RECORDS)


def archived(state: bytes, index: int = 83) -> bytes:
    return b"".join(archive.write(SnapshotMeta(id="3-83-1", index=index, term=3), state))


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


def value(host: Host, key: bytes) -> bytes | None:
    row = host.fsm.store.kv.get(key)
    return row.value if row is not None else None


async def cluster(folder: Path | None) -> tuple[Network, Host]:
    net = Network(folder, settings=CALM, make_fsm=FSM)
    leader = await net.start()
    for number in range(30):
        await leader.raft.apply(commands.kvs("set", b"k%d" % number, b"v"))
    await net.same()
    return net, leader


@pytest.mark.parametrize("durable", [True, False])
def test_a_saved_state_comes_back_on_all_servers(tmp_path: Path, durable: bool) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path if durable else None)
        follower = net.followers()[0]
        saved = await follower.archives.save("dc1", False, "")  # goes on to the leader
        assert (saved.known_leader, saved.last_contact) == (True, 0)
        data = await whole(saved.stream)
        meta, _ = archive.read(data)
        assert meta.index == saved.index == leader.raft.applied_index
        assert [one.id for one in meta.configuration.servers] == ["a", "b", "c"]
        await leader.raft.apply(commands.kvs("set", b"k1", b"changed"))
        await leader.raft.apply(commands.kvs("set", b"new", b"v"))
        await net.same()
        watches = [Watch() for _ in net.hosts]
        for host, watch in zip(net.hosts.values(), watches, strict=True):
            host.fsm.store.watch_cell(watch, "kvs")
        before, led = leader.raft.last_index, len(leader.led)
        await follower.archives.restore(data, "", "")
        assert leader.raft.last_index > before
        assert leader.led[led:] == [False, True]  # a leader's duties begin anew
        await net.same()
        for host in net.hosts.values():
            assert (value(host, b"k1"), value(host, b"new")) == (b"v", None)
        assert all(watch.fired for watch in watches)
        await leader.raft.apply(commands.kvs("set", b"after", b"v"))
        await net.same()
        assert [value(host, b"after") for host in net.hosts.values()] == [b"v"] * 3
        if durable:
            await net.stop()
            for host in net.hosts.values():
                await host.start()
            await net.leader()
            await net.same()
            for host in net.hosts.values():
                assert (value(host, b"k1"), value(host, b"after")) == (b"v", b"v")
        await net.stop()

    run(test)


def test_a_recorded_archive_is_restored_and_saved_with_the_same_records(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path)
        await leader.archives.restore(archived(STATE), "dc1", "")
        await net.same()
        for host in net.hosts.values():
            saved = await host.archives.save("dc1", True, "")  # stale: each by itself
            _, state = archive.read(await whole(saved.stream))
            assert _records(state) == RECORDS
        await net.stop()

    run(test)


def _records(state: bytes) -> list[bytes]:
    """The records of a state.bin; a recorded one as it was recorded, since maps have no order."""
    reader = msgpack.Reader(state)
    reader.value()
    wanted = {_sorted((raw[0], msgpack.decode(raw[1:]))): raw for raw in RECORDS}
    found = []
    while not reader.at_end:
        record = _sorted((reader.byte(), reader.value()))
        found.append(wanted.get(record, record.encode()))
    return found


def _sorted(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{_sorted(k)}: {_sorted(v)}" for k, v in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_sorted, value)) + "]"
    return repr(value)


def test_a_damaged_archive_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path)
        good = archived(STATE)
        tar = bytearray(gzip.decompress(good))
        tar[tar.index(b"LastIndex") + 40] ^= 1
        before = leader.raft.last_index
        for bad in (b"", b"nonsense", good[:-20], gzip.compress(bytes(tar)), archived(STATE + b"\x63\x80")):
            for host in net.hosts.values():
                with pytest.raises(CtlError):
                    await host.archives.restore(bad, "dc1", "")
        with pytest.raises(SnapshotError, match="hash check failed"):
            await leader.archives.restore(gzip.compress(bytes(tar)), "dc1", "")
        assert value(leader, b"k1") == b"v"
        await leader.raft.apply(commands.kvs("set", b"after", b"v"))
        assert leader.raft.last_index == before + 1
        await net.stop()

    run(test)


def test_writes_during_a_restore_fail_and_are_gone(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path)
        stop = asyncio.Event()
        outcomes: list[object] = []

        async def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    await leader.raft.apply(commands.kvs("set", b"w%d" % number, b"v"))
                    outcomes.append(number)
                except Unavailable as error:
                    outcomes.append(error)
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        await until(lambda: len(outcomes) > 20)
        await leader.archives.restore(archived(STATE), "dc1", "")
        restored = len(outcomes)
        await until(lambda: len(outcomes) > restored + 20)
        stop.set()
        await writer
        await net.same()
        later = [number for number in outcomes[restored:] if isinstance(number, int)]
        assert value(leader, b"w1") is None and later
        for host in net.hosts.values():
            assert all(value(host, b"w%d" % number) == b"v" for number in later[1:])
            assert host.fsm.store.kv.rows == leader.fsm.store.kv.rows
        await net.stop()

    run(test)


def test_without_a_leader_only_stale_snapshots_are_taken(tmp_path: Path) -> None:
    async def test() -> None:
        net, leader = await cluster(tmp_path)
        last, *others = net.followers()
        for host in [leader, *others]:
            await host.kill()
        await until(lambda: not last.raft.leader_id)
        with pytest.raises(NoLeader):
            await last.archives.save("dc1", False, "")
        with pytest.raises(NoLeader):
            await last.archives.restore(archived(STATE), "dc1", "")
        saved = await last.archives.save("dc1", True, "")
        assert not saved.known_leader
        archive.read(await whole(saved.stream))
        with pytest.raises(CtlError, match="No cluster leader"):
            dialer = last.transport._dialer
            here = net.address_of(last.name, "")
            assert here is not None
            await restore_over_rpc(dialer, here, "dc1", "", archived(STATE))
        await net.stop()

    run(test)


def test_a_request_says_where_it_ends() -> None:
    """A follower of Consul's hears it to its end before it asks its leader."""

    async def test() -> None:
        heard = bytearray()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.extend(await reader.read())
            writer.write(msgpack.encode({"Error": "", "Index": 7, "KnownLeader": True}) + b"archive")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        facts = ServerFacts("id", "s1", "dc2", "127.0.0.1", port, ALIVE)
        dialer = Dialer(asyncio.get_running_loop(), None, datacenter="dc1")
        async with asyncio.timeout(10):
            saved = await save_over_rpc(dialer, facts, "dc2", False, "t")
            assert (saved.index, await whole(saved.stream)) == (7, b"archive")
        assert heard[0] == SNAPSHOT
        assert msgpack.decode(bytes(heard[1:]))[b"Datacenter"] == b"dc2"
        server.close()

    run(test)


@pytest.mark.parametrize("ours", [True, False])
def test_within_tls_one_direction_ends_and_the_answer_comes(tmp_path: Path, ours: bool) -> None:
    """As Go's programs do it: after the request there is a close_notify, and TCP stays. Other contexts than
    ours, and ours for all else, take that for the end of the connection."""

    async def test() -> None:
        authority = Authority(tmp_path)
        cert, key = authority.issue("server", "server.dc2.consul")
        files = TlsFiles(cert_file=cert, key_file=key, ca_file=authority.ca_file)
        tls = RpcTls(files, verify_outgoing=True, verify_server_hostname=True, domain="consul", alpn=[])

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)
            await asyncio.sleep(0.1)  # the close_notify is there
            writer.write(b"a" * 300_000)
            writer.close()

        inside = tls.incoming if ours else server_context(files)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=inside)
        port = server.sockets[0].getsockname()[1]
        context, name = tls.outgoing("dc2") or (None, "")
        for byte in (SNAPSHOT, MULTIPLEX):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=name
            )
            writer.write(bytes([byte, 1]))
            end_direction(writer.transport)
            async with asyncio.timeout(10):
                assert len(await reader.read()) == (300_000 if ours and byte == SNAPSHOT else 0)
            writer.close()
        server.close()

    uvloop.run(asyncio.wait_for(test(), 20))


def test_a_save_that_is_lost_before_its_first_byte_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archives, "_PAUSE", 0.0)

    async def test() -> None:
        net, leader = await cluster(None)
        asked: list[str] = []

        async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append("lost")
            writer.close()

        loser = await asyncio.start_server(lose, "127.0.0.1")
        port = loser.sockets[0].getsockname()[1]
        lost = ServerFacts("x", "x", "dc1", "127.0.0.1", port, ALIVE)
        found = net.address_of(leader.name, "")
        assert found is not None
        plan = [lost, lost, found]
        door = Archives(
            None, Dialer(asyncio.get_running_loop(), None), "dc1", lambda dc: plan.pop(0), lambda: None
        )
        saved = await door.save("", False, "")
        assert archive.read(await whole(saved.stream))[0].index == saved.index
        assert (asked, plan) == (["lost", "lost"], [])
        plan += [lost] * 4
        with pytest.raises(Lost):
            await door.save("", False, "")
        assert len(plan) == 1
        loser.close()
        await net.stop()

    run(test)
