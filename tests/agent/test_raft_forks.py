"""A restored state whose leader dies before others have it: the others go on, and it comes to their state."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.raft_state import open_state
from agent.snapshots import DiskSnapshots, SnapshotMeta
from agent.wal import Wal
from agent.world import World
from core.raft.configuration import Configuration
from core.raft.messages import Entry
from core.raft.ready import HardState, Ready
from core.store import archive, commands
from core.store.archive import SnapshotMeta as ArchiveMeta
from core.store.fsm import FSM
from tests.agent.raft_network import CALM, Host, Network, run, until

SETTINGS = replace(CALM, snapshot_interval=0.2)


def archived(index: int) -> bytes:
    fsm = FSM()
    fsm.apply(index - 1, commands.kvs("set", b"old", b"restored"))
    state = b"".join(fsm.snapshot())
    return b"".join(archive.write(ArchiveMeta(id=f"1-{index}-1", index=index, term=1), state))


def rows(host: Host) -> object:
    return host.fsm.store.kv.rows


@pytest.mark.parametrize("index", [5, 90000], ids=["just behind the log", "far behind it"])
def test_a_restore_that_only_its_leader_knows(tmp_path: Path, index: int) -> None:
    async def test() -> None:
        net = Network(tmp_path, settings=SETTINGS, make_fsm=FSM)
        lost = await net.start()
        for number in range(10):
            await lost.raft.apply(commands.kvs("set", b"k%d" % number, b"v"))
        await net.same()
        others = net.followers()
        for host in others:
            await host.kill()
        await lost.raft._snapshotter.restore(archived(index))
        base = lost.raft.node.log.base
        await lost.kill()
        for host in others:
            await host.start()
        leader = await net.leader()
        await leader.raft.apply(commands.kvs("set", b"new", b"v"))
        await lost.start()
        assert lost.raft.node.log.base == base > leader.raft.last_index - 5
        await until(lambda: rows(lost) == rows(leader))
        await leader.raft.apply(commands.kvs("set", b"newer", b"v"))
        await net.same()
        assert rows(lost) == rows(leader)
        assert not lost.raft.node.forked
        await lost.kill()  # and it stays so
        await lost.start()
        await leader.raft.apply(commands.kvs("set", b"newest", b"v"))
        await net.same()
        assert rows(lost) == rows(leader)
        await net.stop()

    run(test)


def test_the_log_may_be_taken_back_behind_an_earlier_entry(tmp_path: Path) -> None:
    def reopened() -> Wal:
        return Wal(tmp_path, World(1).random, segment_size=1 << 13)

    wal = reopened()
    wal.append(Ready(hard_state=HardState(2, "a"), entries=[Entry(i, 1, data=b"x") for i in range(1, 4)]))
    for index, term, entries in ((90000, 2, 2), (4, 3, 5)):
        frame = wal.prepare_mark(index, term, replace=True)
        wal.write(frame)
        wal.finish(frame)
        wal.append(Ready(entries=[Entry(index + 1 + i, term, data=b"y") for i in range(entries)]))
    wal.close()
    wal = reopened()
    found = wal.recovered
    assert (found.base, found.base_term, found.last, found.hard) == (4, 3, 9, HardState(2, "a"))
    assert [entry.term for entry in wal.read(5, 9)] == [3] * 5
    wal.remove(wal.take_unused())
    wal.close()


def test_a_stop_between_the_later_state_and_the_log_behind_it(tmp_path: Path) -> None:
    folder = tmp_path / "raft"
    wal = Wal(folder / "wal", World(1).random)
    frame = wal.prepare_mark(90000, 2, replace=True)
    wal.write(frame)
    wal.finish(frame)
    wal.close()
    snapshots = DiskSnapshots(folder / "snapshots")
    state = b"".join(FSM().snapshot())
    for index, term in ((90000, 2), (5, 3)):
        writer = snapshots.create(SnapshotMeta(f"{term}-{index}-1", index, term, Configuration(), 0))
        writer.write(state)
        writer.finish()

    async def test() -> None:
        opened = await open_state(folder, FSM(), World(1), None)
        assert (opened.log.base, opened.log.base_term, opened.log.last) == (5, 3, 5)
        assert (opened.applied, opened.applied_term) == (5, 3)
        opened.log_store.close()

    run(test)
