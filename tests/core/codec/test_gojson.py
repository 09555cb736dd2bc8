"""Texts are those of Go 1.15's encoding/json."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import gojson
from core.codec.gojson import JsonError


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b" \r\n\t", "EOF"),
        (b'{"broken":', "unexpected EOF"),
        (b'{"a":1', "unexpected EOF"),
        (b'"abc', "unexpected EOF"),
        (b'"abc\\', "unexpected EOF"),
        (b'"\\u12', "unexpected EOF"),
        (b"[1,", "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"1.", "unexpected EOF"),
        (b"1e", "unexpected EOF"),
        (b"tru", "unexpected EOF"),
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
        (b"fals ", "invalid character ' ' in literal false (expecting 'e')"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"{1:2}", "invalid character '1' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"{\"a\":'b'}", "invalid character '\\'' looking for beginning of value"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"[1}", "invalid character '}' after array element"),
        (b"banana", "invalid character 'b' looking for beginning of value"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b'"a\x01b"', "invalid character '\\x01' in string literal"),
        (b'"a\x08b"', "invalid character '\\b' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"-a", "invalid character 'a' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1ex", "invalid character 'x' in exponent of numeric literal"),
        (b"[01]", "invalid character '1' after array element"),
        (b"\xef\xbb\xbf{}", "invalid character '\u00ef' looking for beginning of value"),
        (b"\xa0", "invalid character '\\u00a0' looking for beginning of value"),
        (b"[" * 300 + b"]" * 300, "invalid character '[' exceeded max depth"),
        (b"1e400", "json: cannot unmarshal number 1e400 into Go value of type float64"),
    ],
)
def test_error_texts(body: bytes, text: str) -> None:
    with pytest.raises(JsonError) as caught:
        gojson.decode(body)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1} trailing', {"a": 1}),
        (b"{}}", {}),
        (b"null x", None),
        (b"5}", 5),
        (b'"a" "b"', "a"),
        (b"0123", 0),
        (b" [1, 2.5, -3, true, false, null] ", [1, 2.5, -3, True, False, None]),
        (b'"\xff\xe4"', "\ufffd\ufffd"),
        (b'"\\ud800x"', "\ufffdx"),
        (b'"\\ud83d\\ude00" ;', "\U0001f600"),
        (b"18446744073709551615", 18446744073709551615),
        (b"18446744073709551616", 18446744073709551616.0),
        (b"-9223372036854775808", -9223372036854775808),
        (b"-9223372036854775809", -9223372036854775809.0),
    ],
)
def test_values(body: bytes, value: object) -> None:
    got = gojson.decode(body)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "<b>&\u2028\u2029"}, b'{"a":"\\u003cb\\u003e\\u0026\\u2028\\u2029"}'),
        ("\b\f\n\r\t\x01\x7f\\b\\f", b'"\\u0008\\u000c\\n\\r\\t\\u0001\x7f\\\\b\\\\f"'),
        ("caf\udce9", rb'"caf\ufffd"'),
        ({"k\udcff": ["\udcff"]}, rb'{"k\ufffd":["\ufffd"]}'),
        ("\udcff\ufdd0\ufffd", b'"\\ufffd\xef\xb7\x90\xef\xbf\xbd"'),
        (b"abc", b'"YWJj"'),
        (
            [1.0, 0.5, 1e20, 1e21, 1e-6, 1e-7, -0.0, 1.25e-9],
            b"[1,0.5,100000000000000000000,1e+21,0.000001,1e-7,-0,1.25e-9]",
        ),
        ([2.0**60, -12345678901234567890.0], b"[1152921504606847000,-12345678901234567000]"),
        (3.0, b"3"),
        (123456789.125, b"123456789.125"),
        ({"a": "1.0", "b": "1e5,", "c": 2.0}, b'{"a":"1.0","b":"1e5,","c":2}'),
        ({"s": ".0,", "t": '\\".0,'}, b'{"s":".0,","t":"\\\\\\".0,"}'),
        ([], b"[]"),
        (None, b"null"),
    ],
)
def test_encode(value: object, expected: bytes) -> None:
    assert gojson.encode(value) == expected


def test_pretty() -> None:
    assert gojson.encode({"a": [], "b": [1, {"c": "x"}], "d": {}}, pretty=True) == (
        b'{\n    "a": [],\n    "b": [\n        1,\n        {\n            "c": "x"\n        }\n    ],\n'
        b'    "d": {}\n}\n'
    )


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(_JSON, st.booleans(), st.sampled_from([b"", b" ", b"}", b"\n{"]))
def test_round_trip(value: object, pretty: bool, tail: bytes) -> None:
    raw = gojson.encode(value, pretty)
    assert json.loads(raw, parse_int=float) == _floats(value)  # another implementation reads the same
    if not isinstance(value, int | float):
        raw += tail
    assert _floats(gojson.decode(raw)) == _floats(value)


def _floats(value: object) -> object:
    """All numbers as floats: a large one is written without a point."""
    return json.loads(json.dumps(value), parse_int=float)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_value_and_use_exponents_like_go(number: float) -> None:
    shown = gojson.show_float(number)
    assert float(shown) == number
    assert ("e" in shown) == (number != 0 and not 1e-6 <= math.fabs(number) < 1e21)
    assert not shown.endswith(".0")


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0123e+-.tfn ', max_size=30).map(str.encode))
def test_any_bytes_decode_or_give_a_go_text(body: bytes) -> None:
    try:
        value = gojson.decode(body)
    except JsonError as error:
        assert str(error)
    else:
        gojson.encode(value)


@given(_JSON)
def test_every_cut_of_an_object_is_an_unexpected_end(value: object) -> None:
    raw = gojson.encode({"v": value})
    for end in range(1, len(raw)):
        with pytest.raises(JsonError, match=r"^unexpected EOF$"):
            gojson.decode(raw[:end])


def test_structs_are_encoded_by_their_wire_names() -> None:
    class Thing(msgspec.Struct, rename="pascal"):
        some_name: str

    assert gojson.encode([Thing("\udcff<")]) == rb'[{"SomeName":"\ufffd\u003c"}]'
