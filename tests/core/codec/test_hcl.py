"""HCL 1 against the recorded decoder, and against anything that may be thrown at it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec.hcl import MAX_DEPTH, HclError, parse

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "hcl1.json").read_text())["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(HclError) as caught:
            parse(case["input"])
        assert str(caught.value) == case["error"]
    else:
        assert parse(case["input"]) == case["value"]


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 63


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('x = "\\x41\\102\\U0001F600"', {"x": "AB\U0001f600"}),
        ('x = "\\ud800"', {"x": "\ufffd"}),
        ('x = "${a\\n{}}"', {"x": "${a\\n{}}"}),
        ("x = .5", {"x": 0.5}),
        ("x = 0", {"x": 0}),
        ("x = 0.5", {"x": 0.5}),
        ("x =", {}),
        ("x = <<-E\n a\n   E\n", {"x": " a\n"}),
        ("x = <<E\nE\n", {"x": ""}),
        ("/* a */ x = 1 // b", {"x": 1}),
        ("a { b = 1, c { }, }", {"a": [{"b": 1, "c": [{}]}]}),
        ('a "b" { x = 1 }\na "c" { x = 2 }', {"a": [{"b": [{"x": 1}]}, {"c": [{"x": 2}]}]}),
        ('{"a": {"b": [{"c": {}}], "n": null}}', {"a": [{"b": [{"c": [{}]}]}]}),
    ],
)
def test_value(text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = 018", "illegal octal number"),
        ("x = 0x", "illegal hexadecimal number"),
        ("x = 1e", "invalid syntax"),
        ("x = 1e999", "value out of range"),
        ("x = " + "9" * 10_000, "value out of range"),
        ('x = "\\q"', "illegal char escape"),
        ('x = "\\777"', "invalid escape"),
        ("x = /", "expected '/' for comment"),
        ("/* x", "comment not terminated"),
        ("x = <E\nE\n", "expected second '<'"),
        ("x = <<\n", "zero-length heredoc anchor"),
        ("x = <<a b\n", "invalid characters in heredoc anchor"),
        ("a { b }", "expected start of object"),
        ("a = [1", "expected comma or list end, got: EOF"),
        ("a = [=]", "unexpected token while parsing list: ASSIGN"),
        ("a = [1]\na = 2", "a list and a single value"),
        ("{} ]", "Extra data"),
        ('{"a": NaN}', "invalid number NaN"),
    ],
)
def test_error(text: str, error: str) -> None:
    with pytest.raises(HclError) as caught:
        parse(text)
    assert error in str(caught.value)


@pytest.mark.parametrize("opening", ["[", "a {", "{", '{"a":', "a = [", "a = {"])
def test_depth_is_limited(opening: str) -> None:
    for count in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(HclError):
            parse("x = " * (opening == "[") + opening * count)


def test_long_texts_take_linear_time() -> None:
    started = time.perf_counter()
    parse("\n".join(f'k{n} = "v" # comment' for n in range(20_000)))
    parse('x = "' + "\\n" * 100_000 + '"')
    for text in ('x = "' * 20_000, "x = <<E\n" * 5_000, "# \n" * 100_000, "<<E\n" + "  \n" * 100_000):
        with contextlib.suppress(HclError):
            parse(text)
    assert time.perf_counter() - started < 5


PIECES = st.sampled_from(
    [
        *'{}[]=,"\\$-+.#/*\n\r\0 ',
        *(
            "a",
            "b.c",
            "é",
            "true",
            "null",
            "0x1f",
            "010",
            "1e3",
            "-1",
            '"x"',
            "${",
            "\ufeff",
            "\ud800",
            "\\u00e9",
        ),
        *("<<E\n", "E\n", "<<-E\n", "//", "/*", "*/"),
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_any_text_gives_a_value_or_an_error(text: str) -> None:
    try:
        value = parse(text)
    except HclError as error:
        assert str(error)
    else:
        assert isinstance(value, dict)


PLAIN = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0$")),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True), PLAIN, max_size=5))
def test_written_values_are_read_back(values: dict[str, Any]) -> None:
    """JSON's literals are HCL's, so that a value written as JSON reads back the same."""
    names = {key for key in values if key in ("true", "false")}
    text = "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    if names:
        return
    assert parse(text) == values
