"""Command lines: Go's flag rules, exit codes, common flags."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command import Argument, Command, Flag, Usage
from cli.parse import HelpWanted, check_arguments, leading_flags, parse

FLAGS = (
    Flag("name", "string", ""),
    Flag("shout", "bool", ""),
    Flag("count", "int", ""),
    Flag("size", "uint", ""),
    Flag("after", "duration", ""),
    Flag("tag", "list", ""),
    Flag("meta", "map", ""),
    Flag("mode", "string", "", short="m", choices=("a", "b")),
)
PLAIN = Command("x", "", lambda call: 0, flags=FLAGS, arguments=(Argument("A", ""),), example=())


def read(*words, **options):
    command = Command("x", "", lambda call: 0, flags=FLAGS, **options)
    parsed = parse(command, list(words))
    return parsed.values, parsed.arguments


@pytest.mark.parametrize(
    "words",
    [["-name", "v"], ["--name", "v"], ["-name=v"], ["--name=v"]],
)
def test_four_spellings(words):
    assert read(*words, "rest") == ({"name": "v"}, ["rest"])


@pytest.mark.parametrize(("text", "value"), [("", True), ("=true", True), ("=f", False), ("=0", False)])
def test_bool_never_takes_the_next_word(text, value):
    assert read(f"-shout{text}", "false") == ({"shout": value}, ["false"])


@pytest.mark.parametrize(
    ("text", "number"),
    [("31", 31), ("0x1F", 31), ("0b11111", 31), ("0o37", 31), ("037", 31), ("3_1", 31), ("0", 0), ("00", 0)],
)
def test_numbers_in_go_s_notations(text, number):
    assert read(f"-size={text}") == ({"size": number}, [])
    assert read(f"-count=-{text}") == ({"count": -number}, [])


@pytest.mark.parametrize("word", ["-=x", "--=x", "---name=x", "---"])
def test_bad_syntax(word):
    with pytest.raises(Usage, match=f"^bad flag syntax: {word}$"):
        read(word)


@pytest.mark.parametrize("text", ["08", "_1", "1_", "0x", "1 ", "+1", "٣", "1.0", "1e3"])
def test_what_is_no_number(text):
    with pytest.raises(Usage, match=r"for flag -size: parse error$"):
        read(f"-size={text}")


def test_values_of_every_kind():
    values, _ = read(
        "-count=-5",
        "-size",
        "18446744073709551615",
        "-after=1h30m",
        "-tag=a",
        "-tag",
        "b",
        "-meta=k=v=w",
        "-m",
        "b",
    )
    assert values == {
        "count": -5,
        "size": 2**64 - 1,
        "after": 5400 * 10**9,
        "tag": ["a", "b"],
        "meta": {"k": "v=w"},
        "mode": "b",
    }


def test_flags_may_follow_arguments_until_two_dashes():
    assert read("a", "-shout", "--", "-name", "--") == ({"shout": True}, ["a", "-name", "--"])
    assert read("-", "-name=-") == ({"name": "-"}, ["-"])
    assert read("-name", "-shout") == ({"name": "-shout"}, [])


def test_children_and_data_are_not_flags():
    assert read("-shout", "ls", "-name", stops=True) == ({"shout": True}, ["ls", "-name"])
    assert read("key", "-shout", "-name=v", literal=1) == ({"name": "v"}, ["key", "-shout"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-bad"], "flag provided but not defined: -bad"),
        (["--bad=1"], "flag provided but not defined: -bad"),
        (["-name"], "flag needs an argument: -name"),
        (["-size=abc"], 'invalid value "abc" for flag -size: parse error'),
        (["-size=-1"], 'invalid value "-1" for flag -size: parse error'),
        (
            ["-size=18446744073709551616"],
            'invalid value "18446744073709551616" for flag -size: value out of range',
        ),
        (["-count=١"], 'invalid value "١" for flag -count: parse error'),
        (["-after=10"], 'invalid value "10" for flag -after: parse error'),
        (["-shout=maybe"], 'invalid boolean value "maybe" for -shout: parse error'),
        (["-meta=k"], 'invalid value "k" for flag -meta: Missing "=" value in argument: k'),
        (["-mode=c"], 'invalid value "c" for flag -mode: must be one of a, b'),
    ],
)
def test_errors_are_go_s(words, text):
    with pytest.raises(Usage) as caught:
        read(*words)
    assert str(caught.value) == text
    assert caught.value.show


@pytest.mark.parametrize("word", ["-h", "-help", "--help", "--h"])
def test_help_is_wanted(word):
    with pytest.raises(HelpWanted):
        read("-shout", word)


def test_counts_of_arguments():
    check_arguments(PLAIN, ["a"])
    with pytest.raises(Usage, match=r"^Too many arguments \(expected 1, got 3\)$"):
        check_arguments(PLAIN, ["a", "b", "c"])
    with pytest.raises(Usage, match="missing argument A"):
        check_arguments(PLAIN, [])


def test_common_flags_before_the_command():
    assert leading_flags(["-o", "json", "--quiet", "kv", "-o"]) == (["-o", "json", "--quiet"], ["kv", "-o"])
    assert leading_flags(["-http-addr=x", "members"]) == (["-http-addr=x"], ["members"])
    assert leading_flags(["--version"]) == ([], ["--version"])


@given(st.lists(st.text("-=ab \x00shoutname", max_size=8), max_size=6))
def test_any_words_parse_or_are_refused(words):
    try:
        parsed = parse(PLAIN, words)
    except (Usage, HelpWanted):
        return
    assert all(name in {flag.name for flag in PLAIN.all_flags()} for name in parsed.values)


# through the whole program


@pytest.mark.parametrize(
    ("words", "code", "start"),
    [
        ([], 127, "Usage: ctl"),
        (["nosuch"], 127, 'Error: no such command: "nosuch"'),
        (["membres"], 127, 'Error: no such command: "membres"; did you mean `ctl members`?'),
        (["namespace", "list"], 127, "Error: no such command"),
        (["kv"], 1, "Usage: ctl kv <command>"),
        (["kv", "nosuch"], 1, 'Error: no such command: "kv nosuch"\n\nUsage: ctl kv <command>'),
        (
            ["services", "nosuch"],
            1,
            'Error: no such command: "services nosuch"\n\nUsage: ctl services <command>',
        ),
        (["members", "-badflag"], 1, "flag provided but not defined: -badflag\nUsage: ctl members"),
        (
            ["kv", "put", "-modify-index=abc", "k"],
            1,
            'invalid value "abc" for flag -modify-index: parse error\n',
        ),
    ],
)
def test_exit_codes(ctl, words, code, start):
    result = ctl(*words)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(start)


def test_strict_exit(ctl, agent, monkeypatch):
    agent.put("a", b"1")
    agent.failures["/v1/kv/secret"] = (403, "Permission denied")
    cases = {
        2: ["kv", "get", "-bad"],
        3: ["kv", "get", "nosuch"],
        4: ["kv", "get", "secret"],
        6: ["kv", "put", "-cas", "a", "2"],
    }
    assert [ctl(*words).code for words in cases.values()] == [1, 1, 1, 1]
    monkeypatch.setenv("CTL_STRICT_EXIT", "1")
    for code, words in cases.items():
        assert ctl(*words).code == code
    assert ctl("kv", "get", "--strict-exit=false", "nosuch").code == 1
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    assert ctl("members").code == 5
    assert ctl("members", "-status=zz").code == 5


def test_enterprise_flags(ctl, agent):
    assert ctl("members", "-namespace=default").code == 0
    result = ctl("members", "-partition=x")
    assert (result.code, "Enterprise" in result.err) == (1, True)


def test_flags_before_the_command(ctl, agent):
    assert json.loads(ctl("-o", "json", "catalog", "datacenters").out) == ["dc1"]


def test_consul_is_another_name(ctl, agent):
    assert ctl("nosuch", name="consul").err.splitlines()[2].startswith("Usage: consul")
    assert ctl("version", name="consul").out.startswith("Consul v1.9.8\nProtocol 2 spoken by default")


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["-version"], ["version"], ["version", "extra"]])
def test_version(ctl, words):
    result = ctl(*words)
    assert (result.code, result.out.splitlines()[0]) == (0, "Consul v1.9.8")


def test_version_as_a_document(ctl):
    document = json.loads(ctl("version", "--format", "json").out)
    assert document["Version"] == "1.9.8"
    assert document["CtlVersion"]


def test_keygen(ctl):
    first, second = ctl("keygen", "ignored").out, ctl("keygen").out
    assert len(first) == 45
    assert first != second
