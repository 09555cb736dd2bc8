"""The agent's flags in Go's syntax, as harnesses, packages and unit files write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.flags import FlagError, Flags, help_text, parse
from core.config.options import COMMAND_FLAGS, OPTIONS


def test_a_test_harness() -> None:
    flags = parse(["-dev", "-node=n1", "-bind=127.0.0.1", "-client=127.0.0.1"])
    assert flags == Flags({"node_name": "n1", "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1"}, dev=True)


def test_files_in_order() -> None:
    words = "-config-file a.json --config-dir=/d -config-file b.hcl -config-format hcl"
    flags = parse(words.split())
    assert flags.config_paths == ["a.json", "/d", "b.hcl"]
    assert flags.config_format == "hcl"


def test_a_unit_file() -> None:
    flags = parse(["-server", "-bootstrap", "-data-dir", "/d", "-pid-file", "/p", "--bootstrap-expect", "3"])
    assert flags.values == {
        "server": True,
        "bootstrap": True,
        "data_dir": "/d",
        "pid_file": "/p",
        "bootstrap_expect": 3,
    }


def test_repetition() -> None:
    joins = ["-retry-join=x", "--retry-join", "provider=aws tag=y"]
    metas = ["-node-meta", "k:v:w", "-node-meta=l:"]
    flags = parse(["-node=a", "-node", "b", *joins, *metas, "-hcl", "a = 1", "-hcl=b = 2"])
    assert flags.values["node_name"] == "b"
    assert flags.values["retry_join"] == ["x", "provider=aws tag=y"]
    assert flags.values["node_meta"] == {"k": "v:w", "l": ""}
    assert flags.hcl == ["a = 1", "b = 2"]


@pytest.mark.parametrize("text", ["1", "t", "TRUE", "True", "true"])
def test_booleans(text: str) -> None:
    assert parse([f"-server={text}", "-dev=false"]) == Flags({"server": True})


def test_old_names() -> None:
    assert parse(["-non-voting-server"]).values == {"read_replica": True}


@pytest.mark.parametrize("words", [["-help"], ["--help"], ["-h"], ["-dev", "-h", "-bogus"]])
def test_help(words: list[str]) -> None:
    assert parse(words).help


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-bogus"], "flag provided but not defined: -bogus"),
        (["--bogus=1"], "flag provided but not defined: -bogus"),
        (["-data_dir", "x"], "flag provided but not defined: -data_dir\ndid you mean -data-dir?"),
        (["-bootstrap-expect=x"], 'invalid value "x" for flag -bootstrap-expect: parse error'),
        (["-http-port", ""], 'invalid value "" for flag -http-port: parse error'),
        (["-http-port", "+-1"], 'invalid value "+-1" for flag -http-port: parse error'),
        (["-dev=x"], 'invalid boolean value "x" for -dev: parse error'),
        (["-node-meta", "x"], 'invalid value "x" for flag -node-meta: missing ":"'),
        (["-node"], "flag needs an argument: -node"),
        (["---node"], "bad flag syntax: ---node"),
        (["-=x"], "bad flag syntax: -=x"),
        (["-server", "true"], "Unexpected extra arguments: [true]"),
        (["-dev", "a", "-b"], "Unexpected extra arguments: [a -b]"),
        (["--", "a"], "Unexpected extra arguments: [a]"),
        (["-"], "Unexpected extra arguments: [-]"),
    ],
)
def test_error(words: list[str], error: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(words)
    assert str(caught.value).startswith(error)


def test_negative_port() -> None:
    assert parse(["-http-port", "-1", "-https-port=+8501"]).values == {"ports.http": -1, "ports.https": 8501}


def test_help_names_every_flag_and_fits() -> None:
    text = help_text(80)
    words = set(text.split())
    for name in [option.flag for option in OPTIONS if option.flag] + [name for name, _, _ in COMMAND_FLAGS]:
        assert any(word == f"-{name}" or word.startswith(f"-{name}=") for word in words), name
    assert max(map(len, text.splitlines())) <= 80


NAMES = st.sampled_from(
    [option.flag for option in OPTIONS if option.flag] + ["dev", "hcl", "bogus", "", "-", "h"]
)
WORDS = st.one_of(
    st.text(max_size=8),
    st.builds(
        lambda dash, name, rest: dash + name + rest,
        st.sampled_from(["-", "--"]),
        NAMES,
        st.sampled_from(["", "=", "=1"]),
    ),
)


@given(st.lists(WORDS, max_size=6))
def test_any_words_give_flags_or_an_error(words: list[str]) -> None:
    try:
        assert isinstance(parse(words), Flags)
    except FlagError as error:
        assert str(error)
