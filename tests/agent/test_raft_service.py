from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.raft import RaftService, RaftSettings
from agent.raft_waiting import MAX_WAITING
from agent.snapshots import DiskSnapshots
from agent.wal_recovery import CorruptLog
from agent.world import World
from core.errors import CtlError, NoLeader, StorageFull, Unavailable
from core.raft.chunking import CHUNK, chunk
from core.raft.configuration import Configuration, Server
from core.raft.messages import Request, Response
from core.raft.settings import Settings
from core.store.fsm import ChunkingSuccess, read_chunk_info
from tests.agent.raft_writer_process import Numbers
from tests.agent.wal_disk import IO_ERROR, NO_SPACE, FlakyFiles

SETTINGS = RaftSettings(trailing_logs=20, segment_size=1 << 16, timing=Settings(campaign_pause=0.02))


def service(
    folder: Path | None, fsm: Any = None, settings: RaftSettings = SETTINGS, **more: Any
) -> RaftService:
    return RaftService("n1", "127.0.0.1:8300", folder, fsm or Numbers(), settings, World(3), **more)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(limited())


async def lead(raft: RaftService) -> None:
    """Start as a cluster of one; the first entry is applied (a slow disk may take a moment)."""
    await raft.start(True)
    await until(lambda: raft.is_leader)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "this should have happened long ago"
        await asyncio.sleep(0.001)


def test_a_sole_voter_leads_at_once_and_then_needs_no_timer(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        heard: list[bool] = []
        raft.on_leader(heard.append)
        await lead(raft)
        assert raft.is_leader and heard == [True]
        assert (raft.leader_id, raft.leader_address, raft.state) == ("n1", "127.0.0.1:8300", "Leader")
        assert (raft.term, raft.last_index, raft.commit_index, raft.applied_index) == (2, 2, 2, 2)
        assert raft.node.deadline() is None
        assert raft.configuration == Configuration((Server("n1", "127.0.0.1:8300"),))
        await raft.stop()
        assert not raft.is_leader

    run(test)


def test_without_bootstrap_there_is_no_leader(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        assert (raft.is_leader, raft.leader_address, raft.stats()["state"]) == (False, "", "Follower")
        await raft.start(False)
        results: list[object] = []
        raft.propose(b"x", results.append)
        assert isinstance(results[0], NoLeader)
        with pytest.raises(NoLeader):
            await raft.apply(b"x")
        with pytest.raises(NoLeader):
            await raft.barrier()
        with pytest.raises(NoLeader):
            await raft.verify_leader()
        assert raft.node.deadline() is None
        await raft.stop()

    run(test)


@pytest.mark.parametrize("durable", [True, False])
def test_a_turn_shares_one_write(tmp_path: Path, durable: bool) -> None:
    async def test() -> None:
        files = FlakyFiles()
        raft = service(tmp_path if durable else None, files=files)
        await lead(raft)
        before = files.writes
        results: list[object] = []
        for number in range(100):
            raft.propose(b"%d" % number, results.append)
        await raft.barrier()
        assert results == list(range(3, 103))
        assert files.writes == before + (1 if durable else 0)
        await raft.stop()

    run(test)


def test_a_restart_brings_everything_back(tmp_path: Path) -> None:
    async def test() -> None:
        wanted: list[bytes] = []
        for life in range(4):
            fsm = Numbers()
            raft = service(tmp_path, fsm)
            await lead(raft)
            await raft.barrier()
            assert fsm.numbers == wanted
            for number in range(30):
                wanted.append(b"%d-%d" % (life, number))
                await raft.apply(wanted[-1])
            if life % 2:
                await raft.snapshot()
            await raft.stop()

    run(test)


def test_a_new_address_enters_the_configuration(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        await raft.stop()
        raft = RaftService("n1", "127.0.0.9:8300", tmp_path, Numbers(), SETTINGS, World())
        await raft.start(True)
        await until(lambda: raft.configuration.servers == (Server("n1", "127.0.0.9:8300"),))
        assert raft.leader_address == "127.0.0.9:8300"
        await until(lambda: raft.applied_index == raft.last_index)
        await raft.stop()

    run(test)


def test_the_log_is_cut_after_a_second_snapshot(tmp_path: Path) -> None:
    async def test() -> None:
        fsm = Numbers()
        raft = service(tmp_path, fsm)
        await lead(raft)
        for number in range(100):
            await raft.apply(b"%0999d" % number)
        await raft.snapshot()
        assert raft.node.log.base == 0  # a damaged snapshot can still be replaced by the log
        for number in range(100):
            await raft.apply(b"%0999d" % number)
        count = len(list((tmp_path / "wal").glob("*.seg")))
        await raft.snapshot()
        assert raft.node.log.base == 102
        assert len(list((tmp_path / "wal").glob("*.seg"))) < count
        for _ in range(3):
            await raft.apply(b"more")
            await raft.snapshot()
        assert len(list((tmp_path / "snapshots").iterdir())) == 2
        assert raft.node.log.base == raft.last_index - 20
        await raft.stop()

    run(test)


def test_a_damaged_newest_snapshot_is_passed_over(tmp_path: Path) -> None:
    async def test() -> None:
        wanted = [b"%d" % number for number in range(60)]
        raft = service(tmp_path)
        await lead(raft)
        for position, number in enumerate(wanted):
            await raft.apply(number)
            if position in (20, 40):
                await raft.snapshot()
        await raft.stop()
        store = DiskSnapshots(tmp_path / "snapshots")
        newest, _ = store.list()
        state = tmp_path / "snapshots" / newest.id / "state.bin"
        state.write_bytes(state.read_bytes()[:-1] + b"?")
        fsm = Numbers()
        raft = service(tmp_path, fsm)
        await raft.start(False)
        await raft.barrier()
        assert fsm.numbers == wanted
        await raft.stop()

    run(test)


def test_a_log_without_its_snapshot_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        for number in range(100):
            await raft.apply(b"%d" % number)
            if number % 40 == 39:
                await raft.snapshot()
        assert raft.node.log.base > 0
        await raft.stop()
        for meta in (tmp_path / "snapshots").glob("*/meta.json"):
            meta.unlink()
        with pytest.raises(CorruptLog, match="entries are missing"):
            await service(tmp_path).start(False)

    run(test)


@pytest.mark.parametrize("number", [NO_SPACE, IO_ERROR])
def test_a_full_disk_gives_errors_and_heals(tmp_path: Path, number: int) -> None:
    async def test() -> None:
        files, fsm = FlakyFiles(), Numbers()
        raft = service(tmp_path, fsm, files=files)
        await lead(raft)
        await raft.apply(b"before")
        files.fail_write = files.fail_create = number
        for _ in range(5):
            with pytest.raises(StorageFull, match="the Raft log cannot be written"):
                await raft.apply(b"never")
        assert raft.is_leader  # alone: what was there can still be read
        with pytest.raises(StorageFull):
            await raft.barrier()
        files.fail_write = files.fail_create = 0
        await raft.apply(b"after")
        assert fsm.numbers == [b"before", b"after"]
        await raft.stop()
        fsm = Numbers()
        raft = service(tmp_path, fsm)
        await raft.start(False)
        await raft.barrier()
        assert fsm.numbers == [b"before", b"after"]
        await raft.stop()

    run(test)


def test_a_disk_that_is_full_at_start_heals(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        await raft.stop()
        files = FlakyFiles()
        raft = service(tmp_path, files=files)
        recovering = files.write

        def after_recovery(descriptor: int, data: bytes, offset: int) -> None:
            recovering(descriptor, data, offset)
            files.fail_write = NO_SPACE  # the last frame was rewritten; now the disk fills up

        files.write = after_recovery  # type: ignore[method-assign]
        files.fail_create = NO_SPACE
        await raft.start(False)
        assert not raft.is_leader
        files.write = recovering  # type: ignore[method-assign]
        files.fail_write = files.fail_create = 0
        await until(lambda: raft.is_leader)
        await raft.apply(b"2")
        await raft.stop()

    run(test)


def test_a_slow_disk_is_written_from_a_thread(tmp_path: Path) -> None:
    async def test() -> None:
        files, fsm = FlakyFiles(), Numbers()
        raft = service(tmp_path, fsm, files=files)
        await lead(raft)
        quick = files.write

        def slow(descriptor: int, data: bytes, offset: int) -> None:
            time.sleep(0.15)
            quick(descriptor, data, offset)

        files.write = slow  # type: ignore[method-assign]
        await raft.apply(b"first")  # this one is still written on the loop
        results: list[object] = []
        raft.propose(b"a", results.append)
        await asyncio.sleep(0)
        longest = 0.0
        await asyncio.sleep(0.002)
        raft.propose(b"b", results.append)  # while the first is being written
        raft.propose(b"c", results.append)
        while len(results) < 3:
            start = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - start)
        assert longest < 0.12, "the loop was held up"
        assert fsm.numbers == [b"first", b"a", b"b", b"c"]
        files.write = quick  # type: ignore[method-assign]
        for number in range(40):
            await raft.apply(b"%d" % number)
        assert raft.log.mean < 0.05  # it is quick again
        await raft.stop()

    run(test)


def test_large_kv_commands_come_in_chunks(tmp_path: Path) -> None:
    class Joining(Numbers):
        parts: list[bytes] = []

        def apply(self, index: int, data: bytes, extensions: bytes, term: int) -> object:
            if not extensions:
                return super().apply(index, data, extensions, term)
            _, position, count = read_chunk_info(extensions)
            assert position == len(self.parts) and term == 2
            self.parts.append(data)
            return None if len(self.parts) < count else ChunkingSuccess("joined")

    async def test() -> None:
        fsm = Joining()
        raft = service(tmp_path, fsm)
        await lead(raft)
        large = b"\x02" + b"v" * (CHUNK * 2 + 5)
        assert await raft.apply(large) == "joined"
        assert b"".join(fsm.parts) == large and len(fsm.parts) == 3
        await raft.apply(b"\x08" + large)  # no KV command: one entry
        assert len(fsm.numbers) == 1
        await raft.stop()

    run(test)


def test_chunks_carry_consuls_extensions() -> None:
    class Known(Random):
        def getrandbits(self, k: int) -> int:
            number, shift = 0, 0
            for byte in bytes.fromhex("8485c699bdc798b5c401"):
                number |= (byte & 0x7F) << shift
                shift += 7
            return number

    entries = chunk(b"\x02" + bytes(CHUNK), Known()) or []
    assert [(e.extensions or b"").hex() for e in entries] == [
        "088485c699bdc798b5c4011802",
        "088485c699bdc798b5c40110011802",
    ]
    assert chunk(b"\x02" + bytes(CHUNK - 1), Random()) is None


def test_too_many_waiting_proposals_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        results: list[object] = []
        for _ in range(MAX_WAITING + 10):
            raft.propose(b"x", results.append)
        assert len(results) == 10
        assert all(isinstance(result, Unavailable) for result in results)
        await until(lambda: len(results) == MAX_WAITING + 10)
        assert await raft.apply(b"y")
        await raft.stop()

    run(test)


def test_a_caller_that_breaks_does_not_stop_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)

        def broken(result: object) -> None:
            raise RuntimeError("I am broken")

        results: list[object] = []
        raft.propose(b"a", broken)
        raft.propose(b"b", results.append)
        await raft.barrier()
        assert results == [4]
        await raft.stop()

    run(test)
    assert "failed to take its result" in "".join(capfd.readouterr())


def test_an_entry_that_cannot_be_applied_ends_the_service(tmp_path: Path) -> None:
    class Picky(Numbers):
        def apply(self, index: int, data: bytes, extensions: bytes, term: int) -> object:
            if data == b"bad":
                raise CtlError("unknown command")
            return super().apply(index, data, extensions, term)

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        fsm = Picky()
        raft = service(tmp_path, fsm)
        heard: list[bool] = []
        raft.on_leader(heard.append)
        await lead(raft)
        results: list[object] = []
        for data in (b"good", b"bad", b"later"):
            raft.propose(data, results.append)
        await until(lambda: len(results) == 3)
        assert results[0] == 3 and isinstance(results[1], Unavailable) and isinstance(results[2], Unavailable)
        assert (fsm.numbers, raft.is_leader, heard) == ([b"good"], False, [True, False])
        assert str(raft.failure) == "unknown command"
        await raft.stop()

    run(test)


def test_stopping_answers_everyone(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        results: list[object] = []
        raft.propose(b"x", results.append)
        await raft.stop()
        assert isinstance(results[0], Unavailable)
        await raft.stop()

    run(test)


def test_stats_are_consuls(tmp_path: Path) -> None:
    async def test() -> None:
        raft = service(tmp_path)
        await lead(raft)
        assert raft.stats() == {
            "applied_index": "2",
            "commit_index": "2",
            "fsm_pending": "0",
            "last_contact": "0",
            "last_log_index": "2",
            "last_log_term": "2",
            "last_snapshot_index": "0",
            "last_snapshot_term": "0",
            "latest_configuration": "[{Suffrage:Voter ID:n1 Address:127.0.0.1:8300}]",
            "latest_configuration_index": "0",
            "num_peers": "0",
            "protocol_version": "3",
            "protocol_version_max": "3",
            "protocol_version_min": "0",
            "snapshot_version_max": "1",
            "snapshot_version_min": "0",
            "state": "Leader",
            "term": "2",
        }
        await raft.stop()

    run(test)


def test_snapshots_are_taken_when_the_log_has_grown(tmp_path: Path) -> None:
    async def test() -> None:
        settings = RaftSettings(snapshot_interval=0.005, snapshot_threshold=50, trailing_logs=5)
        raft = service(tmp_path, settings=settings)
        await lead(raft)
        for number in range(40):
            await raft.apply(b"%d" % number)
        await asyncio.sleep(0.03)
        assert raft.node.snapshot_index == 0
        for number in range(20):
            await raft.apply(b"%d" % number)
        await until(lambda: raft.node.snapshot_index > 0)
        await raft.stop()

    run(test)


class Wire:
    """Connects services in one process; answers find the question that they belong to."""

    def __init__(self) -> None:
        self.services: dict[str, RaftService] = {}
        self.down: set[str] = set()

    def of(self, name: str) -> Port:
        return Port(self, name)


class Port:
    def __init__(self, wire: Wire, name: str) -> None:
        self.wire, self.name = wire, name
        self.sources: dict[int, str] = {}

    def attach(self, raft: RaftService) -> None:
        """The wire knows its services."""

    def forget(self) -> None:
        """A lost answer is only late here: leaders ask again."""

    def close(self) -> None:
        """Nothing is open."""

    def send(self, to: str, address: str, request: Request) -> None:
        wire = self.wire
        if not {to, self.name} & wire.down and to in wire.services:
            wire.services[to]._transport.sources[id(request)] = self.name  # type: ignore[union-attr]
            handle = getattr(request, "handle", None)
            if handle is not None:
                request.handle = received(wire.services[self.name], wire.services[to], request)  # type: ignore[union-attr]
            asyncio.get_running_loop().call_soon(wire.services[to].deliver, self.name, request)

    def answer(self, request: Request, response: Response) -> None:
        response.request = request
        source = self.sources.pop(id(request), "")
        if not {source, self.name} & self.wire.down and source in self.wire.services:
            asyncio.get_running_loop().call_soon(self.wire.services[source].deliver, self.name, response)


def received(leader: RaftService, follower: RaftService, request: Any) -> Any:
    """What the network will do: the leader's state in a writer of the follower's."""
    data = leader._snapshotter.store.load(request.handle)
    meta = type(request.handle)(
        f"{request.last_term}-{request.last_index}-1",
        request.last_index,
        request.last_term,
        request.handle.configuration,
        request.handle.configuration_index,
    )
    writer = follower._snapshotter.store.create(meta)
    writer.write(data)
    return writer


TIMING = Settings(heartbeat_timeout=0.1, election_timeout=0.1, lease_timeout=0.05, heartbeat_interval=0.01)
CLUSTER = RaftSettings(timing=TIMING, trailing_logs=5, segment_size=1 << 16)


def test_three_services_agree_and_a_newcomer_gets_a_snapshot(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire()
        machines: dict[str, Numbers] = {}

        async def start(name: str, bootstrap: bool) -> RaftService:
            machines[name] = Numbers()
            raft = RaftService(
                name,
                f"{name}:8300",
                tmp_path / name,
                machines[name],
                CLUSTER,
                World(),
                transport=wire.of(name),
            )
            await raft.start(bootstrap)
            wire.services[name] = raft
            return raft

        first = await start("a", True)
        for number in range(30):
            await first.apply(b"%d" % number)
            if number in (10, 20, 29):
                await first.snapshot()
        assert first.node.log.base > 0
        for name in ("b", "c"):
            await start(name, False)
            await first.change(first.configuration.with_nonvoter(name, f"{name}:8300"))
            await first.change(first.configuration.with_voter(name, f"{name}:8300"))
        await first.apply(b"to all")
        await first.verify_leader()
        await until(lambda: all(m.numbers[-1:] == [b"to all"] for m in machines.values()))
        assert machines["b"].numbers == machines["a"].numbers
        # the leader is cut off: another one takes over, and the old one says so
        wire.down.add("a")
        lost = asyncio.ensure_future(first.apply(b"lost"))
        await until(lambda: any(wire.services[n].is_leader for n in "bc"))
        with pytest.raises(Unavailable, match="leadership lost"):
            await lost
        second = next(wire.services[n] for n in "bc" if wire.services[n].is_leader)
        await second.apply(b"without a")
        wire.down.clear()
        await until(lambda: machines["a"].numbers[-1:] == [b"without a"])
        assert b"lost" not in machines["a"].numbers
        target = next(n for n in "abc" if n != second.node_id)
        await until(lambda: second.node.leader is not None)
        second.transfer(target)
        await until(lambda: wire.services[target].is_leader)
        for raft in wire.services.values():
            await raft.stop()

    run(test)
