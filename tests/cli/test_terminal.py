"""What a person sees: tables, colour, formats, on a pseudo-terminal of 80 and 140 columns."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.help import tree
from cli.output import Table
from cli.terminal import clean
from cli.yamltext import to_yaml
from tests.cli.conftest import N1

GREEN, RED, RESET = "\x1b[32m", "\x1b[1;31m", "\x1b[0m"
COMMANDS = (
    ["members"],
    ["members", "-detailed"],
    ["services"],
    ["services", "show", "db"],
    ["checks"],
    ["nodes"],
    ["nodes", "show", "n1"],
    ["catalog", "nodes", "-detailed"],
    ["catalog", "services", "-tags"],
    ["dc"],
    ["kv", "get", "-recurse", "a"],
    ["kv", "list"],
    ["watch", "service", "db", "--once"],
    ["watch", "keyprefix", "a", "--once"],
    ["watch", "checks", "--once"],
    ["info"],
    ["agent", "status"],
    ["version"],
    ["--help"],
    ["kv", "put", "--help"],
)


@pytest.mark.parametrize("columns", [80, 140])
def test_every_command_fits(terminal, agent, columns):
    agent.put("a/long", b"word " * 60)
    for words in COMMANDS:
        result = terminal(*words, columns=columns, env={"NO_COLOR": "1"})
        assert result.code == 0, words
        assert result.out.strip(), words
        if words not in (["catalog", "nodes", "-detailed"],):  # whole ids are wider than that
            lines = re.sub("\x1b\\[[0-9;]*m", "", result.out).splitlines()
            assert max(len(line) for line in lines) <= columns, words
        assert "\x1b[3" not in result.out, words


def test_members_in_colour(terminal, agent):
    out = terminal("members").out
    assert f"{GREEN}alive" in out
    assert "Segment" in out
    agent.answers["/v1/agent/members"][0]["Status"] = 4
    assert f"{RED}failed" in terminal("members").out


@pytest.mark.parametrize(
    ("env", "flag", "coloured"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"CTL_COLOR": "never"}, [], False),
        ({"CTL_COLOR": "always", "NO_COLOR": "1"}, [], True),
        ({"CTL_COLOR": "always"}, ["--no-color"], False),
        ({"TERM": "dumb"}, [], False),
    ],
)
def test_when_there_is_colour(terminal, agent, env, flag, coloured):
    assert (GREEN in terminal("members", *flag, env=env).out) is coloured


def test_colour_in_a_pipe_only_when_forced(ctl, agent, monkeypatch):
    assert "\x1b" not in ctl("members", "--format=table").out
    monkeypatch.setenv("CTL_COLOR", "always")
    assert GREEN in ctl("members", "--format=table").out
    assert "\x1b" not in ctl("members").out
    monkeypatch.setenv("CTL_COLOR", "sometimes")
    assert ctl("members", "--format=table").code == 1


def test_ids_are_never_cut(terminal, agent):
    agent.answers["/v1/catalog/nodes"][0]["Node"] = "n" * 60
    try:
        out = terminal("catalog", "nodes", "-detailed").out
        assert "n" * 60 in out
        assert N1 in out
    finally:
        agent.answers["/v1/catalog/nodes"][0]["Node"] = "n1"


def test_plain_on_a_terminal_is_consul_s_text(terminal, ctl, agent):
    assert terminal("members", "-o", "plain").out == ctl("members").out
    assert terminal("members", env={"CTL_FORMAT": "pretty"}).out == ctl("members").out
    assert json.loads(terminal("members", env={"CTL_FORMAT": "json"}).out)[0]["Name"] == "n1"


def test_the_hint_is_for_people(terminal, ctl, monkeypatch):
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    shown = terminal("members").out.splitlines()
    assert len(shown) == 2
    assert "ctl agent start" in shown[1]
    assert len(ctl("members").err.splitlines()) == 1


def test_values_cannot_steer_the_terminal(terminal, agent):
    agent.put("evil", b"\x1b]0;owned\x07")
    assert "\x1b]0" not in terminal("kv", "get", "-recurse", "evil").out
    assert clean("a\x1b[31m\nb\u202e") == "a\ufffd[31m b\ufffd"


def test_bad_format(ctl, agent, monkeypatch):
    result = ctl("members", "-o", "xml")
    assert (result.code, result.out) == (1, "")
    monkeypatch.setenv("CTL_FORMAT", "xml")
    assert (
        ctl("members").err
        == 'Error: CTL_FORMAT is "xml", it must be one of table, plain, json, yaml, pretty\n'
    )


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5))
def test_plain_columns_start_where_the_header_says(rows):
    lines = Table(("A", "B", "C"), rows).plain().splitlines() if rows else []
    for line, row in zip(lines[1:], rows, strict=True) if len(lines) == len(rows) + 1 else ():
        assert line[lines[0].index("B") :].startswith(row[1])
        assert line[lines[0].index("C") :] == row[2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_yaml_reads_back(document):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(to_yaml(document)) == document


def test_every_help_page_fits(terminal):
    """But for examples, which are to be copied as they stand."""
    for path, command in tree().items():
        if path == "agent start":
            continue  # its flags are those of `consul agent`
        text = re.sub("\x1b\\[[0-9;]*m", "", terminal(*path.split(), "--help", columns=80).out)
        lines = [line for line in text.splitlines() if line.strip() not in command.example]
        assert max(map(len, lines)) <= 80, path
        assert "Examples:" in text, path


def test_a_wrong_word_does_not_fill_the_screen(terminal):
    assert terminal("membres").out == (
        'Error: no such command: "membres"; did you mean `ctl members`?\n`ctl --help` lists the commands.\n'
    )
    shown = terminal("kv", "gte", "a").out
    assert shown.startswith('Error: no such command: "kv gte"; did you mean `ctl kv get`?\n\nUsage: ctl kv ')
    assert terminal("acl", "tokn").out.startswith(
        'Error: no such command: "acl tokn"; did you mean `ctl acl token`?\n'
    )


def test_a_person_is_told_of_nothing(agent, terminal, ctl):
    agent.answers["/v1/event/list"] = []
    assert terminal("event", "list").out == "None.\n"
    assert ctl("event", "list").out.count("\n") <= 1
    assert terminal("members", "-status=left").out == "No member matches.\n"
    assert ctl("members", "-status=left").err == ""
