"""Every row of the options: in JSON, HCL and as a flag, shown in DebugConfig, compared by reloads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.config.debug import debug_of
from core.config.diff import compare
from core.config.flags import Flags, parse
from core.config.load import Config, Source, load
from core.config.options import BY_KEY, COMMAND_FLAGS, FLAG_ALIASES, OPTIONS
from core.config.schema import LISTS, Option, path

SAMPLES: dict[str, Any] = {
    "string": "text",
    "bool": True,
    "int": 7,
    "uint": 7,
    "float": 2.5,
    "duration": "9s",
    "port": 4321,
    "strings": ["a", "b"],
    "map": {"a": "b"},
    "durations": {"web": "9s"},
    "opaque": {"A": [1]},
    "opaques": [{"Kind": "x"}],
    "any": [{"name": "x"}],
}
LOADED = {**SAMPLES, "duration": 9_000_000_000, "durations": {"web": 9_000_000_000}}
LEGAL: dict[str, Any] = {  # where any text or number will not do
    "bootstrap_expect": 0,
    "raft_protocol": 3,
    "encrypt": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=",
    "ui_config.dir": "",
    "ui_dir": "",
    "bootstrap": False,
    "actions": {"deploy": {"args": ["/bin/deploy"]}},
    "audit.enabled": False,  # needs a sink
    "data_dir": "/x",
    "unix_sockets.mode": "770",
    "unix_sockets.group": "0",
    "serf_lan_allowed_cidrs": ["10.0.0.0/8"],
    "serf_wan_allowed_cidrs": ["10.0.0.0/8"],
    "http_config.allow_write_http_from": ["10.0.0.0/8"],
    **dict.fromkeys(
        [option.key for option in OPTIONS if option.key.endswith("tls_cipher_suites")],
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
}


def sample(option: Option) -> Any:
    return LEGAL.get(option.key, SAMPLES[option.type])


def nested(option: Option) -> dict[str, Any]:
    value: Any = sample(option)
    for name in reversed(path(option.key)):
        value = {name: value}
    return dict(value)


def in_hcl(value: Any) -> str:
    """JSON's values as HCL: `:` is `=` and maps have no commas to need."""
    if isinstance(value, dict):
        return "{ " + " ".join(f"{json.dumps(name)} = {in_hcl(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(in_hcl(item) for item in value) + "]"
    return json.dumps(value)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_accepted_in_json_and_hcl(option: Option) -> None:
    fields = nested(option)
    texts = {"json": json.dumps(fields), "hcl": in_hcl(fields)[1:-1]}
    flags = Flags() if option.key == "data_dir" else parse(["-data-dir=/x"])
    loaded = {
        format: load([Source("F", format, text)], flags, hostname="h", strict=True)
        for format, text in texts.items()
    }
    expected = LEGAL.get(option.key, LOADED[option.type])
    for config in loaded.values():
        key = option.old or option.key
        if option.key != "domain":  # which gets a dot at its end
            assert config[key] == expected
        assert config.given[key] == "F"
        assert any(option.key in warning for warning in config.warnings) == (
            bool(option.unused) or bool(option.old and not option.quiet)
        )
    assert loaded["json"].values == loaded["hcl"].values


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS if option.flag], ids=lambda option: option.flag
)
def test_accepted_as_a_flag(option: Option) -> None:
    value = sample(option)
    texts = value if option.type == "strings" else [_flag_text(option, value)]
    for dash in ("-", "--"):
        flags = parse([f"{dash}{option.flag}={text}" for text in texts])
        assert flags.values == {option.key: value}
        if option.type != "bool":
            spaced = [word for text in texts for word in (dash + option.flag, text)]
            assert parse(spaced) == flags


def _flag_text(option: Option, value: Any) -> str:
    if option.type == "map":
        return ":".join(*value.items())
    return json.dumps(value) if isinstance(value, bool) else str(value)


def test_rows_are_consistent() -> None:
    names = [option.flag for option in OPTIONS if option.flag] + [name for name, _, _ in COMMAND_FLAGS]
    assert len(set(names)) == len(names)
    assert len(BY_KEY) == len(OPTIONS)
    assert set(FLAG_ALIASES.values()) <= set(names)
    for option in OPTIONS:
        assert option.type in SAMPLES, option
        assert option.help.endswith((".", ")")), option
        if option.old:
            assert BY_KEY[option.old].type == option.type
            assert BY_KEY[option.old].secret == option.secret
        if option.type in LISTS:
            assert option.default == [], option


def loaded(flags: str = "-dev", text: str = "") -> Config:
    return load([Source("F", "hcl", text)], parse(flags.split()), hostname="h")


def test_no_value_is_left_open() -> None:
    opened = [key for key, value in loaded().values.items() if value is None and BY_KEY[key].type != "any"]
    assert opened == []


def test_debug_shows_all_and_hides_secrets() -> None:
    secret = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
    config = loaded(
        text=f'encrypt = "{secret}" acl {{ tokens {{ agent = "hush" }} }} service {{ name = "web" }}'
    )
    shown = debug_of(config)
    assert list(shown) == sorted(shown)
    assert len(shown) == len(config.values) + 4  # no two keys have the same name
    assert shown["EncryptKey"] == shown["ACLTokensAgent"] == "hidden"
    assert shown["ACLTokensDefault"] == ""
    assert (shown["ServerMode"], shown["DevMode"], shown["DNSPort"]) == (True, True, 8600)
    assert (shown["DNSSOARefresh"], shown["RaftSnapshotInterval"]) == (3600, "30s")
    assert shown["Services"] == [{"Name": "web", "ID": ""}]
    text = json.dumps(shown, allow_nan=False)
    assert secret not in text
    assert "hush" not in text


def test_reload_applies_what_it_may_and_names_the_rest() -> None:
    old = loaded(text='encrypt = "pUqJrVyVRj5jsiYEkM/tFQ=="')
    new = loaded(
        "-dev -node=other",
        """log_level = "WARN" dns_config { node_ttl = "5s" } ports { http = 1 }
           encrypt = "AUqJrVyVRj5jsiYEkM/tFQ==" service { name = "web" } acl { tokens { agent = "hush" } }""",
    )
    reload = compare(old, new)
    assert {str(change) for change in reload.applied} == {
        'log_level: "DEBUG" -> "WARN"',
        "dns_config.node_ttl: 0s -> 5s",
        'acl.tokens.agent: "" -> <hidden>',
    }
    assert {str(change) for change in reload.restart} == {
        "ports.http: 8500 -> 1",
        'node_name: "h" -> "other"',
        'server_name: "h" -> "other"',
        "encrypt: <hidden> -> <hidden>",
    }
    assert (reload.services, reload.checks, reload.watches, reload.empty) == (True, False, False, False)
    assert reload.config["log_level"] == "WARN"
    assert reload.config["ports.http"] == 8500
    assert reload.config.services == new.services
    again = compare(reload.config, new)
    assert {change.key for change in again.restart} == {change.key for change in reload.restart}
    assert again.applied == []


def test_reload_of_the_same_is_empty() -> None:
    assert compare(loaded(), loaded()).empty


def test_flags_default_to_nothing() -> None:
    assert parse([]) == Flags()
