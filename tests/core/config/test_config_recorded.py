"""What Consul 1.9.8 accepts and refuses, as recorded from it, and our verdict on the same text."""

from __future__ import annotations

import pytest

from agent import listeners, settings
from core.config.ciphers import CIPHER_SUITES, openssl_names
from core.config.flags import parse
from core.config.load import Source, load
from core.config.settings import Config
from core.errors import ConfigError


def of(text: str, form: str = "hcl") -> Config:
    return load([Source("F", form, text)], parse(["-data-dir=/x"]), hostname="h")


@pytest.mark.parametrize(
    "text",
    [
        'acl { disabled_ttl = "5s" }',
        'acl_disabled_ttl = "x"',
        "connect { enable_mesh_gateway_wan_federation = true enabled = true }",
        'connect { test_ca_leaf_root_change_spread = "5s" }',
        "snapshot_agent { a = 1 }",
        'ae_interval = "5s"',
        'check_deregister_interval_min = "1s"',
        'check_reap_interval = "1s"',
        'consul { coordinate { update_batch_size = 1 } raft { election_timeout = "5s" } }',
        'revision = "x"',
        "segment_limit = 3",
        "segment_name_limit = 3",
        'sync_coordinate_interval_min = "5s"',
        "sync_coordinate_rate_target = 3.5",
        'version = "1"',
        'version_prerelease = "x"',
        'node_name = ""',
        "cache { entry_fetch_rate = 0.5 }",
        'http_config { allow_write_http_from = ["10.0.0.1/8 ", "::ffff:1.2.3.4/100"] }',
        'serf_lan_allowed_cidrs = ["10.0.0.1/8", "1::/4"]',
        'tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"',
        'service { name = "m" kind = "mesh-gateway" meta { consul-wan-federation = "1" } }',
        'service { name = "m" weights { warning = 5 } }',
    ],
)
def test_accepted(text: str) -> None:
    of(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"ports": []}', "'ports' expected a map, got 'slice'"),
        ('{"service": []}', "'service' expected a map, got 'slice'"),
        ('{"node_meta": []}', "'node_meta' expected a map, got 'slice'"),
        ('{"node_name": []}', "'node_name' expected type 'string', got unconvertible type '[]interface {}'"),
        ('{"server": []}', "'server' expected type 'bool', got unconvertible type '[]interface {}'"),
        ('{"acl": {"tokens": []}}', "'acl.tokens' expected a map, got 'slice'"),
        ('{"service": {"name": "a", "check": []}}', "'service.check' expected a map, got 'slice'"),
        ('{"cache": {"entry_fetch_rate": 0}}', "cache.entry_fetch_rate must be strictly positive, was: 0"),
        ('{"cache": {"entry_fetch_rate": -1}}', "cache.entry_fetch_rate must be strictly positive, was: -1"),
        (
            '{"cache": {"entry_fetch_max_burst": 0}}',
            "cache.entry_fetch_max_burst must be strictly positive, was: 0",
        ),
        (
            '{"serf_wan_allowed_cidrs": ["10.0.0.1/8", "x", "10.0.0.1"]}',
            "serf_wan_allowed_cidrs: 2 errors occurred:\n\t* invalid cidr: x\n\t* invalid cidr: 10.0.0.1",
        ),
        (
            '{"http_config": {"allow_write_http_from": ["x", "010.0.0.1/8", "10.0.0.0/255.0.0.0"]}}',
            "3 errors occurred:\n\t* allow_write_http_from: invalid cidr: x\n"
            "\t* allow_write_http_from: invalid cidr: 010.0.0.1/8\n"
            "\t* allow_write_http_from: invalid cidr: 10.0.0.0/255.0.0.0",
        ),
        (
            '{"tls_cipher_suites": "x,y"}',
            '1 error occurred:\n\t* tls_cipher_suites: invalid tls cipher suites: unsupported cipher "x"',
        ),
        (
            '{"service": {"name": "m", "meta": {"consul-wan-federation": "1"}}}',
            "invalid meta for service m: ",
        ),
        *[
            (f'{{"encrypt": "{text}"}}', f"encrypt has invalid key: illegal base64 data at input byte {at}")
            for text, at in (
                ("x", 0),
                ("xxx", 0),
                ("xxxxxx", 4),
                ("x=", 1),
                ("xx=", 3),
                ("xxxx=", 4),
                ("xx=x", 2),
                ("a$b", 1),
            )
        ],
    ],
)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(text, "json")
    assert error in str(caught.value)


def test_an_empty_node_name_is_the_host_s() -> None:
    assert of('node_name = ""')["node_name"] == "h"


def test_empty_filter_rules_are_warned_of_in_their_own_words() -> None:
    assert of('telemetry { prefix_filter = ["", "x", "+a"] }').warnings == [
        "Cannot have empty filter rule in prefix_filter",
        "Filter rule must begin with either '+' or '-': \"x\"",
    ]


def test_networks_lose_the_bits_of_a_host() -> None:
    config = of(
        'serf_lan_allowed_cidrs = ["10.0.0.1/8"] http_config { allow_write_http_from = ["10.1.2.3/16 "] }'
    )
    assert [str(network) for network in settings.front(config).write_networks] == ["10.1.0.0/16"]


def test_cipher_suites_become_openssl_s() -> None:
    import ssl

    named = openssl_names(" TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA")
    assert named == "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA"
    for suite in CIPHER_SUITES:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(openssl_names(suite) + ":@SECLEVEL=0")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('unix_sockets { mode = "999" }', "invalid mode specified: 999"),
        ('unix_sockets { group = "users" }', "invalid group specified: users"),
        ("ports { serf_lan = 0 }", "ports.serf_lan cannot be off: agents find each other there"),
        (
            "server = true ports { server = -1 }",
            "ports.server cannot be off on a server: agents ask it there",
        ),
    ],
)
def test_what_no_agent_can_run_with(text: str, problem: str) -> None:
    assert of(text).problems == [problem]


def test_the_owner_of_a_socket_by_name() -> None:
    assert listeners._user_id("root") == listeners._user_id("0") == 0
    with pytest.raises(ConfigError, match="failed to look up user nosuch: unknown user nosuch"):
        listeners._user_id("nosuch")
