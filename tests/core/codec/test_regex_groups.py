"""Groups of regular expressions: what Go finds, judged by Python's own engine where both say the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import regex, regex_groups
from core.codec.regex import RegexError


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("^(.*?)-(.*)$", "prod-web-1", ["prod-web-1", "prod", "web-1"]),
        ("^(.*)-(.*)$", "prod-web-1", ["prod-web-1", "prod-web", "1"]),
        ("(a)|(b)", "xb", ["b", "", "b"]),
        ("(?P<env>[a-z]+)[0-9]?", "!prod7", ["prod7", "prod"]),
        ("(?:a+)(b)", "caab", ["aab", "b"]),
        ("(?U)(a+)(a*)", "aaa", ["a", "a", ""]),
        ("(a{2,3}?)(a*)", "aaaa", ["aaaa", "aa", "aa"]),
        ("((a)(b)?)+", "aba", ["aba", "a", "a", "b"]),
        ("", "abc", [""]),
        ("$", "abc", [""]),
        ("b", "abc", ["b"]),
        ("x", "abc", None),
        ("(é+)", "caféé!", ["éé", "éé"]),
    ],
)
def test_what_groups_hold(pattern: str, text: str, expected: list[str] | None) -> None:
    assert regex_groups.compile(pattern)(text) == expected


def test_what_is_wrong_is_said_in_the_words_of_go() -> None:
    with pytest.raises(RegexError, match=r"error parsing regexp: missing closing \): `\(`"):
        regex_groups.compile("(")
    with pytest.raises(RegexError, match="too large"):
        regex_groups.compile("((a{100}){100}){100}")


def test_what_makes_others_try_for_ever_is_through_at_once() -> None:
    found = regex_groups.compile("^(a+)+$")
    assert found("a" * 2000) == ["a" * 2000, "a" * 2000]
    assert found("a" * 2000 + "!") is None


_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "(a)", "(b|a)", "(?:ab)", "(a*)b", "(a+?)"])
_PIECES = st.tuples(_ATOMS, st.sampled_from(["", "?", "??"])).map("".join)


@given(st.lists(_PIECES, min_size=1, max_size=5).map("".join), st.text("abc", max_size=12))
def test_groups_are_those_of_another_engine(pattern: str, text: str) -> None:
    other = re.search(pattern, text)
    found = regex_groups.compile(pattern)(text)
    if other is None:
        assert found is None
    else:
        assert found == [other.group(0), *(group or "" for group in other.groups())]
    assert (found is not None) == regex.compile(pattern)(text)
