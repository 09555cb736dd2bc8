"""Any text in any format gives a Config or a ConfigError: no crash, no hang."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.config.flags import parse
from core.config.formats import FORMATS, Source
from core.config.load import load
from core.config.options import OPTIONS
from core.errors import ConfigError

FLAGS = parse(["-dev"])


def attempt(format: str, text: str) -> None:
    try:
        config = load([Source("F", format, text)], FLAGS, hostname="h")
    except ConfigError as error:
        assert str(error)
    else:
        json.dumps(config.to_debug(), allow_nan=False)
        for text in [*config.warnings, *config.problems]:
            text.encode()


PIECES = st.sampled_from(
    [
        *"{}[]=:,\"'\\\n \t#-&*!|>",
        *(
            "service",
            "check",
            "ports",
            "node_meta",
            "true",
            "null",
            "1",
            "-1",
            "1e400",
            '"x"',
            "10s",
            "\0",
            "\ufeff",
        ),
        *("!!int ", "!!timestamp x", "<<", "&a ", "*a", "[[", "]]", "1979-05-27", "0x", "inf", "\ud800"),
    ]
)


@given(st.sampled_from(FORMATS), st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join)))
@settings(max_examples=400)
def test_any_text(format: str, text: str) -> None:
    attempt(format, text)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["10s", "1", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    sorted(
        {option.key.partition(".")[0] for option in OPTIONS}
        | {"service", "services", "check", "checks", "watches"}
    )
)
SERVICE_FIELDS = st.sampled_from(
    ["name", "id", "port", "checks", "check", "meta", "weights", "tagged_addresses"]
)
OTHER_FIELDS = st.sampled_from(["interval", "args", "header", "http", "type", "dns", "soa", "tokens"])
FIELDS = st.one_of(SERVICE_FIELDS, OTHER_FIELDS)


@given(st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(FIELDS, VALUES, max_size=3)), max_size=4))
@settings(max_examples=400)
def test_any_value_of_known_keys(values: dict[str, Any]) -> None:
    attempt("json", json.dumps(values))
