"""The keyring's and the snapshot's file: what a start finds, and what damage costs."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from agent.gossip_keys import KeyringFile
from agent.gossip_snapshot import SnapshotFile
from agent.logs import get_logger, hub
from agent.world import World
from core.errors import ConfigError

LOG = get_logger("test")
KEYS = [bytes([number]) * size for number, size in ((1, 16), (2, 24), (3, 32))]
TEXTS = [base64.b64encode(key).decode() for key in KEYS]


def keyring(folder: Path) -> KeyringFile:
    return KeyringFile(folder / "serf" / "local.keyring", World(), LOG)


def warnings(capture: list[str]) -> str:
    return "\n".join(capture)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    def emit(level: int, name: str, message: str, fields: dict[str, object]) -> None:
        if name == "test":
            lines.append(message)

    monkeypatch.setattr(hub, "emit", emit)
    return lines


def test_the_first_start_writes_the_key(tmp_path: Path) -> None:
    file = keyring(tmp_path)
    assert file.load(TEXTS[2]) == [KEYS[2]]
    assert file.path is not None and json.loads(file.path.read_text()) == [TEXTS[2]]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert keyring(tmp_path).load("") == [KEYS[2]]


def test_without_a_key_nothing_is_written(tmp_path: Path) -> None:
    assert keyring(tmp_path).load("") == []
    assert not (tmp_path / "serf").exists()


def test_the_file_wins_and_another_key_is_told_of(tmp_path: Path, told: list[str]) -> None:
    keyring(tmp_path).save(KEYS[:2])
    assert keyring(tmp_path).load(TEXTS[0]) == KEYS[:2]
    assert told == []
    assert keyring(tmp_path).load(TEXTS[2]) == KEYS[:2]
    assert "not in the keyring file" in told[0]


def test_without_a_file_keys_stay_in_memory(tmp_path: Path) -> None:
    file = KeyringFile(None, World(), LOG)
    assert file.load(TEXTS[0]) == [KEYS[0]]
    file.save(KEYS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '["x"]', '["AAAA"]', "[", '["\u00fc"]'])
def test_a_broken_keyring_ends_the_start(tmp_path: Path, text: str) -> None:
    file = keyring(tmp_path)
    assert file.path is not None
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(ConfigError, match="keyring"):
        file.load(TEXTS[0])


@pytest.mark.parametrize("text", ["x", "AAAA", "!" * 24, TEXTS[0][:-1]])
def test_keys_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="Invalid encryption key"):
        keyring(tmp_path).load(text)


def test_a_keyring_that_cannot_be_saved_is_told_of(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "serf").write_text("in the way")
    keyring(tmp_path).save(KEYS)
    assert told == ["keyring was not saved"]


def snapshot(folder: Path) -> SnapshotFile:
    return SnapshotFile(folder / "serf" / "local.snapshot", World(), LOG)


def test_lines_come_back(tmp_path: Path) -> None:
    file = snapshot(tmp_path)
    assert file.load(False).alive == {}
    file.append(["alive: n1 127.0.0.1:8301", "clock: 7"])
    file.append(["alive: n\udcff 127.0.0.2:8301", "event-clock: 3"])
    file.close()
    again = snapshot(tmp_path)
    state = again.load(False)
    assert state.alive == {"n1": "127.0.0.1:8301", "n\udcff": "127.0.0.2:8301"}
    assert (state.clock, state.event_clock) == (7, 3)
    assert again.size == file.size == again.path.stat().st_size


def test_a_torn_last_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = snapshot(tmp_path)
    file.append(["alive: n1 127.0.0.1:8301"])
    file.close()
    with file.path.open("ab") as torn:
        torn.write(b"alive: n2 127.")
    again = snapshot(tmp_path)
    again.load(False)
    again.append(["alive: n3 127.0.0.3:8301"])
    again.close()
    assert set(snapshot(tmp_path).load(False).alive) == {"n1", "n2", "n3"}


def test_compaction_replaces_the_file(tmp_path: Path) -> None:
    file = snapshot(tmp_path)
    file.append(["clock: 1"] * 1000)
    file.replace("clock: 2\n")
    assert (file.path.read_text(), file.size) == ("clock: 2\n", 9)
    file.append(["clock: 3"])
    assert file.path.read_text() == "clock: 2\nclock: 3\n"
    file.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path, told: list[str]) -> None:
    file = snapshot(tmp_path)
    file.append(["clock: 1"])
    file.close()
    damaged = b"clock: 1\n" + bytes(4096)
    file.path.write_bytes(damaged)
    assert snapshot(tmp_path).load(False).clock == 0
    assert not file.path.exists() and told == ["snapshot is damaged and was set aside"]
    assert (file.path.parent / "local.snapshot.damaged").read_bytes() == damaged


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\n", b"alive:\n", b"alive: x\n", b"clock: -1\nclock: 1e9\n", b"\r\n"]
)
def test_nonsense_is_skipped(tmp_path: Path, data: bytes) -> None:
    file = snapshot(tmp_path)
    file.path.parent.mkdir()
    file.path.write_bytes(data + b"alive: n1 127.0.0.1:8301\n")
    assert set(file.load(False).alive) == {"n1"}


def test_a_disk_that_takes_nothing_is_told_of_once(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "serf").write_text("in the way")
    file = snapshot(tmp_path)
    assert file.load(False).alive == {}
    told.clear()
    for _ in range(3):
        file.append(["clock: 1"])
    file.replace("clock: 1\n")
    assert told == ["snapshot was not written"]
    os.remove(tmp_path / "serf")
    file.append(["clock: 2"])
    assert snapshot(tmp_path).load(False).clock == 2
    file.close()
