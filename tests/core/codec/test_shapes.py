"""Texts are those of Go 1.15's encoding/json."""

from __future__ import annotations

import pytest

from core.codec import gojson, shapes
from core.codec.gojson import JsonError

_SHAPE = shapes.Object(
    "structs.Outer",
    {
        "Name": shapes.STRING,
        "Port": shapes.INT,
        "On": shapes.BOOL,
        "Tags": shapes.STRINGS,
        "Inner": shapes.Object("structs.Inner", {"Port": shapes.INT, "Meta": shapes.STRING_MAP}),
        "Own": shapes.Object("structs.Own", {"TimeToLive": shapes.INT}, translated=True),
    },
    aliases={"on_off": "On"},
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"Colour": 1}', 'unknown field "Colour"'),
        (b'{"Port": "80"}', "cannot unmarshal string into Go struct field Outer.Port of type int"),
        (b'{"Port": 80.5}', "cannot unmarshal number 80.5 into Go struct field Outer.Port of type int"),
        (b'{"Name": 1}', "cannot unmarshal number into Go struct field Outer.Name of type string"),
        (b'{"tags": ["a", true]}', "cannot unmarshal bool into Go struct field Outer.Tags of type string"),
        (b'{"Tags": {}}', "cannot unmarshal object into Go struct field Outer.Tags of type []string"),
        (
            b'{"Inner": {"Port": []}}',
            "cannot unmarshal array into Go struct field Inner.Inner.Port of type int",
        ),
        (
            b'{"Inner": {"Meta": {"a": 1}}, "Port": ""}',
            "cannot unmarshal number into Go struct field Inner.Inner.Meta of type string",
        ),
        (b'{"Inner": 5}', "cannot unmarshal number into Go struct field Outer.Inner of type structs.Inner"),
        (
            b'{"Port": "x", "Own": {"time_to_live": "y"}}',
            "cannot unmarshal string into Go struct field .time_to_live of type int",
        ),
        (b'"text"', "cannot unmarshal string into Go value of type structs.Outer"),
        (b"[1]", "cannot unmarshal array into Go value of type structs.Outer"),
    ],
)
def test_shapes_refuse(body: bytes, text: str) -> None:
    with pytest.raises(JsonError) as caught:
        shapes.fit(gojson.decode(body), _SHAPE)
    assert str(caught.value) == "json: " + text


def test_shapes_fit() -> None:
    body = b'{"NAME": "a", "port": 5, "on_off": true, "Tags": ["x", null],'
    body += b' "Inner": {"meta": {"k": "v"}}, "Own": null}'
    assert shapes.fit(gojson.decode(body), _SHAPE) == {
        "Name": "a",
        "Port": 5,
        "On": True,
        "Tags": ["x", ""],
        "Inner": {"Meta": {"k": "v"}},
    }
    assert shapes.fit(None, _SHAPE) is None


def test_unknown_fields_may_be_ignored() -> None:
    value = gojson.decode(b'{"Name": "a", "Colour": 1, "Own": {"Size": 2, "TimeToLive": 3}}')
    assert shapes.fit(value, _SHAPE, lenient=True) == {"Name": "a", "Own": {"TimeToLive": 3}}
