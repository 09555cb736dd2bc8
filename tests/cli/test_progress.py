"""Bars of long commands: on a terminal only, gone afterwards, and scripts see what they always saw."""

import base64
import json
import re

import pytest


def plain(text):
    return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.fixture
def export(tmp_path):
    rows = [{"key": f"k/{n}", "flags": 0, "value": base64.b64encode(b"v").decode()} for n in range(30)]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(rows))
    return f"@{path}"


@pytest.mark.parametrize("columns", [80, 140])
def test_an_import_on_a_terminal(terminal, agent, export, columns):
    result = terminal("kv", "import", export, columns=columns)
    text = plain(result.out)
    assert result.code == 0
    assert "30/30" in text and "Writing" in text
    assert text.endswith("Imported: 30 keys\n")
    assert "Imported: k/3\n" not in text
    assert max(len(line) for line in re.split("[\r\n]", text)) <= columns
    assert len(agent.kv) == 30


def test_an_import_in_a_pipe_tells_every_key(ctl, agent, export):
    result = ctl("kv", "import", export)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [f"Imported: k/{number}" for number in range(30)]


def test_names_on_a_terminal_are_not_mixed_with_a_bar(terminal, agent, export):
    assert terminal("kv", "import", "--quiet", export).out.splitlines() == [f"k/{n}" for n in range(30)]


def test_an_import_that_fails_halfway_says_how_far_it_came(terminal, agent, export):
    agent.failures["/v1/kv/k/7"] = (500, "disk full")
    result = terminal("kv", "import", export)
    text = plain(result.out)
    assert result.code == 1
    assert "Imported: 7 of 30 keys, the last was k/6\n" in text
    assert "Error! Failed writing data for key k/7" in text


def test_an_export_on_a_terminal_is_whole(terminal, agent):
    agent.put("k/a", b"1")
    text = plain(terminal("kv", "export", "k").out)
    assert json.loads(text[text.index("[\n") :])[0]["key"] == "k/a"


def test_snapshots_on_a_terminal(terminal, make_agent, tmp_path):
    agent = make_agent().start()
    path = tmp_path / "saved.snap"
    saved = terminal("snapshot", "save", str(path), env={"CTL_HTTP_ADDR": agent.base})
    assert saved.code == 0, saved.out
    assert re.search(r"Saved and verified snapshot to index \d+\n$", plain(saved.out))
    restored = terminal("snapshot", "restore", "-yes", str(path), env={"CTL_HTTP_ADDR": agent.base})
    assert restored.code == 0, restored.out
    assert "Restoring " in plain(restored.out)
    assert plain(restored.out).endswith("Restored snapshot\n")
