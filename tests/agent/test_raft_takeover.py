"""A server starts on the data directory of a Consul server (protocols/snapshot.md section 4)."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import gzip
import json
import shutil
from pathlib import Path
from random import Random

import pytest

from agent.raft import RaftService, RaftSettings
from agent.raft_recovery import inspect
from agent.raft_state import Opened, open_state
from agent.raft_takeover import MAKING, TAKEN, take_over
from agent.wal_files import Files
from agent.wal_recovery import CorruptLog
from agent.world import World
from core.errors import CtlError
from core.raft.ready import HardState
from core.store.fsm import FSM
from tests.agent.raft_network import run, until

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "raft" / "raft_folder.json").read_text())[
    "files"
]
ID, ADDRESS = "00112233-4455-6677-8899-aabbccddeeff", "127.77.7.7:8300"
SEGMENT = 1 << 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The Raft folder as Consul left it."""
    for name, packed in RECORDED.items():
        path = tmp_path / "raft" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.decompress(base64.b64decode(packed)))
    (tmp_path / "raft" / "peers.info").write_text("Consul's")
    return tmp_path / "raft"


def opened(folder: Path) -> tuple[Opened, FSM]:
    fsm = FSM()
    return asyncio.run(open_state(folder, fsm, World(1), None, SEGMENT)), fsm


def close(state: Opened) -> None:
    state.log_store.close()


def test_entries_term_and_vote_go_on(folder: Path) -> None:
    state, fsm = opened(folder)
    # 49 marks the beginning: what an entry before the first is like nobody could say.
    assert (state.log.base, state.log.base_term, state.log.last, state.log.last_term) == (49, 2, 98, 2)
    assert state.hard == HardState(2, ID)
    assert (state.applied, state.applied_term) == (68, 2)
    assert state.configurations.latest.voters == [ID]
    assert [entry.index for entry in state.log.slice(50, 98, 1 << 30)] == list(range(50, 99))
    assert fsm.store.kv_get(b"k/00")[1] is not None
    assert fsm.store.kv_get(b"k/89")[1] is None  # is in the log
    close(state)
    assert sorted(path.name for path in folder.iterdir()) == ["peers.info", TAKEN, "snapshots", "wal"]
    again, _ = opened(folder)
    assert (again.log.last, again.hard) == (98, state.hard)
    close(again)


def test_the_server_leads_with_all_that_was_acknowledged(folder: Path) -> None:
    async def test() -> None:
        fsm = FSM()
        raft = RaftService(ID, ADDRESS, folder, fsm, RaftSettings(), World(1))
        await raft.start(True)
        await until(lambda: raft.is_leader)
        for number in range(90):
            row = fsm.store.kv_get(b"k/%02d" % number)[1]
            assert row is not None and row.value == b"v%d" % number * 8
        assert raft.node.term == 3
        await raft.stop()

    run(test)


@pytest.mark.parametrize("renamed", [False, True])
def test_it_goes_on_wherever_it_was_stopped(folder: Path, renamed: bool) -> None:
    (folder / MAKING).mkdir()
    if renamed:
        source = (folder / "raft.db").read_bytes()
        close(opened(folder)[0])
        (folder / "wal").rename(folder / MAKING)
    else:
        (folder / MAKING / f"{1:016x}.seg").write_bytes(b"half a segment")
        (folder / "wal").mkdir()
        source = b""
    state, _ = opened(folder)
    assert (state.log.last, state.hard) == (98, HardState(2, ID))
    close(state)
    assert not (folder / MAKING).exists()
    assert not renamed or (folder / TAKEN).read_bytes() == source


def test_two_logs_are_one_too_many(folder: Path) -> None:
    close(opened(folder)[0])
    shutil.copy(folder / TAKEN, folder / "raft.db")
    with pytest.raises(CtlError, match=r"both .*raft\.db and .*wal hold a Raft log"):
        opened(folder)


def test_while_consul_runs_nothing_is_touched(folder: Path) -> None:
    with (folder / "raft.db").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CtlError, match="in use: stop the Consul agent first"):
            opened(folder)
    close(opened(folder)[0])


@pytest.mark.parametrize("how", ["empty", "nonsense", "damaged"])
def test_what_cannot_be_read_is_left_alone(folder: Path, how: str) -> None:
    path = folder / "raft.db"
    whole = path.read_bytes()
    data = {"empty": b"", "nonsense": b"no" * 9999, "damaged": whole.replace(b"\xa5Index", b"\xa5Ondex")}[how]
    path.write_bytes(data)
    with pytest.raises(CtlError, match=r"raft\.db"):
        opened(folder)
    assert path.read_bytes() == data and not (folder / "wal").exists()


def test_entries_that_are_missing_are_missed(folder: Path) -> None:
    shutil.rmtree(folder / "snapshots")
    with pytest.raises(CorruptLog, match="starts with entry 50"):
        opened(folder)


def test_a_snapshot_that_reaches_beyond_the_log(folder: Path) -> None:
    """As after InstallSnapshot: entries at or before it are of no use, nor those before a gap."""
    (snapshot,) = (folder / "snapshots").iterdir()
    meta = json.loads((snapshot / "meta.json").read_text())
    meta["Index"], meta["ID"] = 200, "2-200-1"
    (snapshot / "meta.json").write_text(json.dumps(meta))
    snapshot.rename(folder / "snapshots" / "2-200-1")
    take_over(folder, Random(1), Files(), SEGMENT)
    state, _ = opened(folder)
    assert (state.log.base, state.log.last, state.hard.term) == (200, 200, 2)
    close(state)


def test_looking_into_the_directory_says_what_to_do(folder: Path) -> None:
    with pytest.raises(CtlError, match="ctl takes it over when it starts there"):
        inspect(folder.parent)
