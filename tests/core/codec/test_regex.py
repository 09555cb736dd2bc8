from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import regex
from core.codec.regex import RegexError


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "xabcx", True),
        ("", "", True),
        ("^$", "", True),
        ("^$", "a", False),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("(?i)WEB", "my-web-1", True),
        ("(?i:w)eb", "WEb", False),
        ("(?i:w)eb", "Web", True),
        ("^b", "a\nb", False),
        ("(?m)^b$", "a\nb\nc", True),
        (r"\bfoo\b", "a foo b", True),
        (r"\bfoo\b", "afoo", False),
        (r"\Bfoo", "afoo", True),
        (r"\d{2,3}", "a1", False),
        (r"\d{2,3}", "a12", True),
        (r"^a{2}$", "aa", True),
        (r"^a{2}$", "aaa", False),
        (r"^a{2,}$", "aaaa", True),
        (r"x{,2}", "x{,2}", True),
        ("[a-c]+[^0-9]", "b!", True),
        ("[]a]", "]", True),
        ("[^]a]", "]", False),
        ("[[:digit:]-]", "-", True),
        ("[[:^alpha:]]", "abc", False),
        (r"[\w.]+@", "a.b@", True),
        (r"\x41\x{1F600}", "A\U0001f600", True),
        (r"\Qa.b\E+", "a.bb", True),
        (r"\Qa.b", "axb", False),
        (r"\.", "a", False),
        ("(?P<name>a|b)c", "bc", True),
        ("(a|)b?c*?d+?", "ad", True),
        ("(?:ab)+$", "xabab", True),
        (r"\Aab\z", "ab", True),
    ],
)
def test_matches(pattern: str, text: str, expected: bool) -> None:
    assert regex.compile(pattern)(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("\\", "trailing backslash at end of expression: ``"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\pL", r"invalid escape sequence: `\p`"),
        (r"(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:bogus:]]", "invalid character class range: `[:bogus:]`"),
    ],
)
def test_refuses(pattern: str, text: str) -> None:
    with pytest.raises(RegexError) as caught:
        regex.compile(pattern)
    assert str(caught.value) == "error parsing regexp: " + text


def test_sizes_are_bounded() -> None:
    with pytest.raises(RegexError, match="too large"):
        regex.compile("((a{1000}){1000}){1000}")
    with pytest.raises(RegexError, match="nests"):
        regex.compile("(" * 5000)


_PIECES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "^", "$", r"\b", "(?i:A)"]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        )
    ),
    max_leaves=6,
)


@given(_PIECES, st.text("abA1 ", max_size=6))
def test_agrees_with_a_backtracking_matcher(pattern: str, text: str) -> None:
    expected = re.search(pattern.replace("$", r"\Z"), text) is not None
    assert regex.compile(pattern)(text) == expected


@given(st.text(alphabet="ab(|)[]{}*+?\\^$.-:,1Qx", max_size=20), st.text("ab", max_size=5))
def test_any_pattern_answers_or_is_refused(pattern: str, text: str) -> None:
    try:
        found = regex.compile(pattern)
    except RegexError as error:
        assert str(error)
    else:
        assert found(text) in (True, False)
