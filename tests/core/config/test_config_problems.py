"""What stops an agent's start but not `validate` (reference/config.md sections 2 and 4 to 6, watch.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.config.flags import parse
from core.config.identity import name_warning, node_id_error
from core.config.load import Source, load
from core.config.problems import go_syntax


def problems(text: str, flags: str = "-dev") -> list[str]:
    return load([Source("F", "hcl", text)], parse(flags.split()), hostname="h").problems


SCRIPTS = (
    "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or "
    "'enable_local_script_checks' to true"
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'log_level = "zork"',
            "Invalid log level: zork. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]",
        ),
        ('acl { default_policy = "zork" }', "Unsupported default ACL policy: zork"),
        (
            'node_id = "zork"',
            "Failed to setup node ID: specified NodeID is invalid: uuid string is wrong length",
        ),
        ("service { port = 1 }", 'Failed to register service "": Service name missing'),
        ('check { ttl = "1s" }', "Failed to register check '': CheckID missing"),
        (
            'check { id = "a" ttl = "1s" service_id = "nosuch" }',
            "Failed to register check 'a': ServiceID \"nosuch\" does not exist",
        ),
        (
            'check { name = "a" }',
            "Failed to register check 'a': Check is not valid: TTL must be > 0 for TTL checks",
        ),
        (
            'check { id = "a" tcp = "x:1" }',
            "Failed to register check 'a': Check is not valid: "
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            'service { name = "w" check { ttl = "1s" interval = "1s" } }',
            'Failed to register service "w": Check is not valid: Interval and TTL cannot both be specified',
        ),
        ('check { id = "a" args = ["x"] interval = "1s" }', f"Failed to register check 'a': {SCRIPTS}"),
    ],
)
def test_problem(text: str, problem: str) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    "text",
    [
        'check { id = "a" args = ["x"] interval = "1s" } enable_script_checks = true',
        'check { id = "a" args = ["x"] interval = "1s" } enable_local_script_checks = true',
        'check { id = "a" tcp = "x:1" http = "http://x" interval = "1s" }',
        'check { id = "a" alias_service = "w" } service { name = "w" }',
        'check { id = "a" service_id = "w1" ttl = "1s" status = "zz" } service { id = "w1" name = "w" }',
        'check { id = "a" udp = "x:1" interval = "1s" }',
        'log_level = "warn"',
    ],
)
def test_no_problem(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("watch", "error"),
    [
        ({}, "Watch type must be specified"),
        ({"type": "zork"}, "Unsupported watch type: zork"),
        ({"type": "key"}, "Must specify a single key to watch"),
        ({"type": "keyprefix"}, "Must specify a single prefix to watch"),
        ({"type": "service"}, "Must specify a single service to watch"),
        ({"type": "checks", "service": "a", "state": "any"}, "Cannot specify service and state"),
        ({"type": "nodes", "x": 1}, "Invalid parameters: [x]"),
        ({"type": "key", "key": 1}, "Expecting key to be a string"),
        ({"type": "nodes", "stale": "x"}, "Expecting stale to be a boolean"),
    ],
)
def test_bad_watch(watch: dict[str, Any], error: str) -> None:
    config = load([Source("F", "json", json.dumps({"watches": [watch]}))], parse(["-dev"]), hostname="h")
    assert config.problems == [f"Failed to parse watch ({go_syntax(watch)}): {error}"]


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("", "Must define a watch handler"),
        ('args = ["x"] handler = "x"', "Only one watch handler allowed"),
        ('handler_type = "http"', "Handler type 'http' requires 'http_handler_config' to be set"),
        ('args = "x"', "Watch args must be a list of strings"),
        ('handler_type = "zork" args = ["x"]', "Handler type 'zork' not recognized"),
    ],
)
def test_bad_handler(handler: str, error: str) -> None:
    assert problems(f'watches {{ type = "key" key = "k" {handler} }}') == [error]


def test_good_watches() -> None:
    text = """watches { type = "key" key = "k" args = ["one"] }
              watches = [{ type = "service", service = "w", tag = ["a", "b"], handler = "x" }]
              watches { type = "event" handler_type = "http" http_handler_config { path = "http://x" } }"""
    config = load([Source("F", "hcl", text)], parse(["-dev"]), hostname="h")
    assert config.problems == []
    assert config.watches == [
        {"type": "key", "key": "k", "args": ["one"]},
        {"type": "service", "service": "w", "tag": ["a", "b"], "handler": "x"},
        {"type": "event", "handler_type": "http", "http_handler_config": {"path": "http://x"}},
    ]


def test_go_syntax() -> None:
    value = {"b": [1, "x"], "a": {"t": True, "f": 1.0, "n": None}}
    assert go_syntax(value) == (
        'map[string]interface {}{"a":map[string]interface {}{"f":1, "n":interface {}(nil), "t":true}, '
        '"b":[]interface {}{1, "x"}}'
    )


def test_names_and_ids() -> None:
    assert node_id_error("11111111-2222-3333-4444-555555555555") == ""
    assert node_id_error("1111111122223333-4444-555555555555----").endswith("wrong length")
    assert node_id_error("11111111-2222-3333-4444-55555555555g").endswith("improperly formatted")
    assert name_warning("Node name", "n-1") == ""
    assert "being too long" in name_warning("Node name", "n" * 64)
