"""`ctl kv` tree, cp, mv, diff, grep, edit, apply against a real agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.harness import Agent


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("kvtools")) as found:
        yield found


@pytest.fixture(autouse=True)
def keys(agent: Agent) -> None:
    agent.http("DELETE", "/v1/kv/?recurse")
    for key, value in (("a/x", "one\ntwo"), ("a/y", "2"), ("a/deep/z", "3"), ("b", "4")):
        agent.put(f"/v1/kv/{key}?flags=7", value)


def ctl(agent: Agent, *words: str, code: int = 0, **more: str) -> str:
    done: CompletedProcess[bytes] = agent.ctl("kv", *words, **more)
    assert done.returncode == code, done.stderr
    return (done.stdout if code == 0 or done.stdout else done.stderr).decode()


def state(agent: Agent) -> dict[str, str]:
    rows = agent.get("/v1/kv/?recurse")
    return {row["Key"]: agent.http("GET", f"/v1/kv/{row['Key']}?raw").text for row in rows}


def test_tree(agent: Agent) -> None:
    assert ctl(agent, "tree") == "├── a/\n│   ├── deep/\n│   │   └── z\n│   ├── x\n│   └── y\n└── b\n"
    assert ctl(agent, "tree", "none/") == ""


def test_copy(agent: Agent) -> None:
    before = state(agent)
    assert "Copied 1 key to: c" in ctl(agent, "cp", "b", "c")
    assert "Copied 3 keys to: d/" in ctl(agent, "cp", "-r", "a/", "d/")
    copied = {"c": "4", "d/x": "one\ntwo", "d/y": "2", "d/deep/z": "3"}
    assert state(agent) == {**before, **copied}
    assert {row["Flags"] for row in agent.get("/v1/kv/?recurse")} == {7}
    assert "a key already: c" in ctl(agent, "cp", "a/y", "c", code=1)
    ctl(agent, "cp", "--force", "a/y", "c")
    assert state(agent)["c"] == "2"
    assert "No key is named: none" in ctl(agent, "cp", "none", "x", code=1)


def test_move(agent: Agent) -> None:
    ctl(agent, "mv", "-r", "a/", "new/")
    assert state(agent) == {"b": "4", "new/x": "one\ntwo", "new/y": "2", "new/deep/z": "3"}
    assert "below themselves" in ctl(agent, "mv", "-r", "new/", "new/more/", code=1)


def test_a_large_move_is_refused_or_goes_in_batches(agent: Agent) -> None:
    for number in range(40):
        agent.put(f"/v1/kv/many/{number:02}", "x")
    before = state(agent)
    assert "80 operations do not fit" in ctl(agent, "mv", "-r", "many/", "moved/", code=1)
    assert state(agent) == before
    ctl(agent, "mv", "-r", "--batches", "many/", "moved/")
    after = state(agent)
    assert sum(key.startswith("moved/") for key in after) == 40
    assert not any(key.startswith("many/") for key in after)


def test_diff(agent: Agent, tmp_path: Path) -> None:
    ctl(agent, "cp", "-r", "a/", "c/")
    assert ctl(agent, "diff", "a/", "c/") == ""
    agent.put("/v1/kv/c/x", "one\nTWO")
    agent.http("DELETE", "/v1/kv/c/y")
    told = ctl(agent, "diff", "a/", "c/", code=1)
    assert "-two\n+TWO\n" in told and "--- y\n+++ /dev/null\n" in told
    (tmp_path / "x").write_text("one\ntwo")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "z").write_text("3")
    (tmp_path / "y").write_bytes(b"\xff")
    assert ctl(agent, "diff", "a/", str(tmp_path), code=1) == "Binary values differ: y\n"


def test_grep(agent: Agent) -> None:
    assert ctl(agent, "grep", "^t.o") == "a/x: two\n"
    assert ctl(agent, "grep", "-i", "TWO", "a/") == "a/x: two\n"
    assert ctl(agent, "grep", "-k", "z$") == "a/deep/z\n"
    assert ctl(agent, "grep", "nothing", code=1) == ""
    assert "Not a regular expression" in ctl(agent, "grep", "(", code=1)


def edited(agent: Agent, tmp_path: Path, script: str, key: str, code: int = 0) -> str:
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o755)
    return ctl(agent, "edit", key, code=code, VISUAL="", EDITOR=str(editor))


def test_edit(agent: Agent, tmp_path: Path) -> None:
    assert "Data written to: b" in edited(agent, tmp_path, 'printf new > "$1"', "b")
    assert state(agent)["b"] == "new"
    assert "Nothing changed" in edited(agent, tmp_path, "true", "b")
    assert "nothing was written" in edited(agent, tmp_path, "exit 3", "b", code=1)
    edited(agent, tmp_path, 'printf made > "$1"', "made")
    assert state(agent)["made"] == "made"


def test_what_changed_during_an_edit_is_not_written_over(agent: Agent, tmp_path: Path) -> None:
    change = f'printf mine > "$1"; curl -s -X PUT -d theirs {agent.base}/v1/kv/b > /dev/null'
    told = edited(agent, tmp_path, change, "b", code=1)
    assert state(agent)["b"] == "theirs"
    kept = Path(told.strip().rpartition("kept in ")[2])
    assert kept.read_text() == "mine"
    kept.unlink()


def test_apply(agent: Agent, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    (folder / "deep").mkdir(parents=True)
    (folder / "x").write_text("one\ntwo")
    (folder / "new").write_text("n")
    (folder / "deep" / "z").write_text("changed")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("no")
    words = ("apply", str(folder), "--prefix", "a/")
    before = state(agent)
    told = ctl(agent, *words, "--dry", "--delete", code=1)
    assert "+changed" in told and "+++ new" in told and "--- y" in told
    assert state(agent) == before
    assert "2 written, 0 deleted, 1 as they were" in ctl(agent, *words)
    assert state(agent)["a/y"] == "2"
    assert "0 written, 1 deleted" in ctl(agent, *words, "--delete")
    assert state(agent) == {"a/x": "one\ntwo", "a/new": "n", "a/deep/z": "changed", "b": "4"}
    assert ctl(agent, *words, "--dry", "--delete") == ""
    assert "Not a directory" in ctl(agent, "apply", str(folder / "x"), code=1)
