"""Decoding, merging and the recorded error texts (reference/config.md sections 1 and 2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from core.codec.duration import SECOND
from core.config.flags import parse
from core.config.load import Config, Source, load
from core.errors import ConfigError
from core.node.definitions import CheckDefinition
from core.store.structs import ServiceAddress, Weights

WEB = """{ "service": { "name": "web", "tags": ["web1"], "port": 80, "enableTagOverride": false,
  "checks": [ { "id": "api", "name": "HTTP API on port 80", "http": "http://localhost:80/index.html",
                "interval": "10s", "timeout": "1s" } ] } }
"""


def of(text: str, format: str = "hcl", flags: str = "-data-dir /x", **more: Any) -> Config:
    return load([Source("F", format, text)], parse(flags.split()), hostname="host", **more)


def error_of(text: str, format: str = "hcl", flags: str = "-data-dir /x", **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        of(text, format, flags, **more)
    return str(caught.value)


def test_the_example_loads_as_written() -> None:
    config = of(WEB, "json")
    (service,) = config.services
    assert (service.name, service.port, service.tags, service.enable_tag_override) == (
        "web",
        80,
        ["web1"],
        False,
    )
    assert service.checks == [
        CheckDefinition(
            id="api",
            name="HTTP API on port 80",
            http="http://localhost:80/index.html",
            interval=10 * SECOND,
            timeout=SECOND,
        )
    ]
    assert config.warnings == ['F: config key "service.enableTagOverride" is read as "enable_tag_override"']
    assert config.problems == []


def test_strict_refuses_the_example_in_the_words_of_consul() -> None:
    error = error_of(WEB, "json", strict=True)
    assert error.startswith(
        "failed to parse F: 1 error occurred:\n\t* invalid config key service.enableTagOverride\n"
    )
    assert 'did you mean "service.enable_tag_override"?' in error


def test_recorded_merge() -> None:
    flags = parse(
        [
            "-data-dir=/x",
            "-recursor=1.1.1.1",
            "-node=flag",
            "-node-meta=a:flag",
            '-hcl=recursors = ["4.4.4.4"]  node_meta { d = "hcl" }',
        ]
    )
    one = (
        'recursors = ["2.2.2.2"]  node_name = "file"  node_meta { a = "1", b = "1" }  service { name = "s1" }'
    )
    two = (
        'recursors = ["3.3.3.3"]  node_meta { b = "2", c = "2" }  service { name = "s2" }  ports { dns = 1 }'
    )
    config = load([Source("1", "hcl", one), Source("2", "hcl", two)], flags)
    assert config["recursors"] == ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]
    assert config["node_name"] == "flag"
    assert config["node_meta"] == {"a": "flag", "b": "2", "c": "2", "d": "hcl"}
    assert [service.name for service in config.services] == ["s1", "s2"]
    assert (config["ports.dns"], config["ports.http"]) == (1, 8500)
    assert config.given["recursors"] == "flag-0.hcl"


def test_fragments_win_over_flags_and_flags_over_files() -> None:
    config = load(
        [Source("F", "hcl", 'node_name = "file" datacenter = "file"')],
        parse(["-dev", "-node", "flag", "-datacenter", "flag", "-hcl", 'datacenter = "HCL"']),
    )
    assert (config["node_name"], config["datacenter"]) == ("flag", "hcl")


@pytest.mark.parametrize("text", ["", " \n", "{}", '{"ports": {}}', '{"segments": null, "addresses": {}}'])
def test_what_says_nothing_is_accepted(text: str) -> None:
    config = of(text, "json")
    assert config.warnings == config.problems == []
    assert config["addresses.http"] == ""


def test_https_without_certificate_loads() -> None:
    assert of('{"ports": {"https": 8501}}', "json").problems == []


# The texts of section 2, as `consul validate` 1.9.8 gave them.
RECORDED = [
    ("hcl", "service { bogus = 1 }", "1 error occurred:\n\t* invalid config key service.bogus\n"),
    (
        "json",
        '{"a": 1, "ports": {"b": 1}}',
        "2 errors occurred:\n\t* invalid config key a\n\t* invalid config key ports.b",
    ),
    ("json", '{"services": [{"checks": [{"zz": 1}]}]}', "invalid config key services[0].checks[0].zz"),
    ("json", '{"service": {"tagged_addresses": {"lan": {"x": 1}}}}', "service.tagged_addresses[lan].x"),
    (
        "json",
        '{"service": {"port": "80"}}',
        "1 error(s) decoding:\n\n* 'service.port' expected type 'int', got unconvertible type 'string'",
    ),
    ("json", '{"server": "true"}', "* 'server' expected type 'bool', got unconvertible type 'string'"),
    ("json", '{"node_name": 1}', "* 'node_name' expected type 'string', got unconvertible type 'float64'"),
    ("hcl", "node_name = 1", "* 'node_name' expected type 'string', got unconvertible type 'int'"),
    (
        "json",
        '{"node_meta": {"a": 1}}',
        "* 'node_meta[a]' expected type 'string', got unconvertible type 'float64'",
    ),
    ("json", '{"node_name": {}}', "expected type 'string', got unconvertible type 'map[string]interface {}'"),
    ("json", '{"services": {}}', "* 'services': source data must be an array or slice, got map"),
    ("json", '{"retry_join": "a"}', "* 'retry_join': source data must be an array or slice, got string"),
    ("hcl", 'service { name = "a" }\nservice { name = "b" }', "* 'service' expected a map, got 'slice'"),
    ("json", '{"service": [{}, {}]}', "* 'service' expected a map, got 'slice'"),
    ("json", '{"ports": 1}', "* 'ports' expected a map, got 'float64'"),
    ("json", "[]", "* '' expected a map, got 'slice'"),
    (
        "json",
        '{"dns_config": {"soa": {"retry": -1}}}',
        "* cannot parse 'dns_config.soa.retry', -1 overflows uint",
    ),
    (
        "hcl",
        'session_ttl_min = "10"',
        'session_ttl_min: invalid duration: "10": time: missing unit in duration "10"',
    ),
    (
        "hcl",
        'check { id = "a" interval = "1x" }',
        'check[a].interval: invalid duration: "1x": time: unknown unit',
    ),
    (
        "hcl",
        'dns_config { service_ttl { web = "1" } }',
        'dns_config.service_ttl["web"]: invalid duration: "1"',
    ),
    ("hcl", "ports { http = 70000 }", "ports.http: invalid port: 70000"),
    ("json", '{"a": 1,}', "invalid character '}' looking for beginning of object key string"),
    ("json", "{} x", "invalid character 'x' after top-level value"),
    ("json", '{"a": ', "unexpected end of JSON input"),
    ("json", '{"a": NaN}', "invalid character 'N' looking for beginning of value"),
    ("json", '{"a": 1e999}', "json: cannot unmarshal number 1e999 into Go value of type float64"),
    ("hcl", "a\nbogus", "At 2:6: key 'a bogus' expected start of object ('{') or assignment ('=')"),
    ("hcl", "bootstrap_expect = 3", "'bootstrap_expect > 0' requires 'server = true'"),
    (
        "hcl",
        "server = true bootstrap_expect = 3 bootstrap = true",
        "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive",
    ),
    ("hcl", 'encrypt = "?"', "encrypt has invalid key: illegal base64 data at input byte 0"),
    ("hcl", 'encrypt = "AAAA"', "encrypt has invalid key: key size must be 16, 24 or 32 bytes"),
    (
        "hcl",
        'datacenter = "A b"',
        'datacenter can only contain lowercase alphanumeric, - or _ characters. received: "a b"',
    ),
    (
        "hcl",
        "performance { raft_multiplier = 11 }",
        "performance.raft_multiplier cannot be 11. Must be between 1 and 10",
    ),
    ("hcl", "raft_protocol = 2", "raft_protocol version 2 is not supported by this version of Consul"),
    (
        "hcl",
        'node_meta { "a b" = "c" }',
        "node_meta invalid: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
    ),
    (
        "hcl",
        'service { name = "web" weights { passing = 0 } }',
        "Invalid weight definition for service web: Passing must be greater than 0",
    ),
]


@pytest.mark.parametrize(("format", "text", "expected"), RECORDED)
def test_recorded_error(format: str, text: str, expected: str) -> None:
    assert expected in error_of(text, format)


@pytest.mark.parametrize("format", ["json", "hcl", "toml"])
def test_errors_of_one_file_name_it(format: str) -> None:
    text = {"json": '{"bogus": 1}', "hcl": "bogus = 1", "toml": "bogus = 1"}[format]
    assert error_of(text, format).startswith(
        "failed to parse F: 1 error occurred:\n\t* invalid config key bogus\n"
    )


def test_errors_found_after_the_merge_name_the_file() -> None:
    files = [
        Source("one.hcl", "hcl", 'session_ttl_min = "10s"'),
        Source("two.hcl", "hcl", 'session_ttl_min = "1"'),
    ]
    with pytest.raises(ConfigError, match=r"two\.hcl"):
        load(files, parse(["-dev"]))


def test_no_data_directory() -> None:
    assert error_of("", flags="") == "data_dir cannot be empty"
    assert of("", flags="-dev").dev


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("service { prot = 1 }", 'did you mean "service.port"?'),
        ("datacentre = 1", 'did you mean "datacenter"?'),
        ('check { script = "x" }', "args = ["),
        ("dns_config { onlypasing = true }", 'did you mean "dns_config.only_passing"?'),
    ],
)
def test_unknown_keys_get_a_hint(text: str, hint: str) -> None:
    assert hint in error_of(text).partition("invalid config key")[2]


@pytest.mark.parametrize("key", ["Service", "SERVICE", "service"])
def test_any_case_is_no_news(key: str) -> None:
    config = of(f'{{"{key}": {{"Name": "x", "ENABLE_TAG_OVERRIDE": true}}}}', "json", strict=True)
    assert config.services[0].enable_tag_override
    assert config.warnings == []


def test_forgiven_spellings_warn_once_each() -> None:
    text = """{"NodeName": "a", "dnsConfig": {"OnlyPassing": true},
               "services": [{"name": "x", "taggedAddresses": {}}]}"""
    config = of(text, "json")
    assert config["node_name"] == "a"
    assert config["dns_config.only_passing"]
    assert config.warnings == [
        'F: config key "NodeName" is read as "node_name"',
        'F: config key "dnsConfig" is read as "dns_config"',
        'F: config key "dns_config.OnlyPassing" is read as "only_passing"',
        'F: config key "services[0].taggedAddresses" is read as "tagged_addresses"',
    ]
    error = error_of(text, "json", strict=True)
    assert all(key in error for key in ("NodeName", "dnsConfig", "services[0].taggedAddresses"))


@pytest.mark.parametrize(
    "text", ['{"nodeName": "odd", "node_name": "true"}', '{"node_name": "true", "nodeName": "odd"}']
)
def test_the_true_spelling_wins(text: str) -> None:
    assert of(text, "json")["node_name"] == "true"


def test_aliases_of_consul() -> None:
    text = """check { ServiceID = "s" ScriptArgs = ["x"] DockerContainerID = "d" TLSSkipVerify = true
              DeregisterCriticalServiceAfter = "1m" interval = "1s" }
              non_voting_server = true"""
    config = of(text, strict=True)
    check = config.checks[0]
    assert (check.service_id, check.args, check.docker_container_id, check.tls_skip_verify) == (
        "s",
        ["x"],
        "d",
        True,
    )
    assert check.deregister_critical_service_after == 60 * SECOND
    assert config["read_replica"]


def test_lists_of_one_stand_for_their_item() -> None:
    config = of(
        '{"service": [{"name": "a"}], "ports": [{"http": 1}], "node_name": ["n"], "domain": [null]}', "json"
    )
    assert (config.services[0].name, config["ports.http"], config["node_name"]) == ("a", 1, "n")
    assert config["domain"] == "consul."


def test_a_whole_service() -> None:
    config = of(
        """
        services {
          id = "w1" name = "web" address = "10.0.0.1" port = 80.0 token = "t" kind = "" socket_path = ""
          meta { a = "b" }
          tagged_addresses { lan { address = "10.0.0.1" port = 1 } wan = { address = "1.1.1.1" } }
          weights { passing = 5 }
          check { ttl = "30s" }
          checks = [ { args = ["/bin/x", "-a"], interval = "5s" } ]
          checks { http = "http://x/" header { Accept = ["a", "b"] } interval = "1m" h2ping_use_tls = false }
          proxy { config { a { b = [1, 2] } } }
          namespace = "default"
        }"""
    )
    (service,) = config.services
    assert (service.id, service.name, service.port, service.token) == ("w1", "web", 80, "t")
    assert service.meta == {"a": "b"}
    assert service.tagged_addresses == {
        "lan": ServiceAddress("10.0.0.1", 1),
        "wan": ServiceAddress("1.1.1.1", 0),
    }
    assert service.weights == Weights(5, 1)
    assert [check.kind for check in service.checks] == ["script", "http", "ttl"]
    assert service.checks[1].header == {"Accept": ["a", "b"]}
    assert service.proxy == {"config": {"a": {"b": [1, 2]}}}


def test_durations_ports_and_numbers() -> None:
    config = of(
        'raft_snapshot_interval = "1h30m10s500ms" ports { http = 0 https = -5 } limits { rpc_rate = 3 }'
    )
    assert config["raft_snapshot_interval"] == 5_410_500_000_000
    assert (config["ports.http"], config["ports.https"], config["limits.rpc_rate"]) == (-1, -1, 3.0)


def test_roles_decide_defaults() -> None:
    client, server = of(""), of("", flags="-server -data-dir=/x")
    assert (client["leave_on_terminate"], client["skip_leave_on_interrupt"]) == (True, False)
    assert (server["leave_on_terminate"], server["skip_leave_on_interrupt"]) == (False, True)
    assert (client["node_name"], client["server_name"], client["primary_datacenter"]) == (
        "host",
        "host",
        "dc1",
    )


def test_dev_mode() -> None:
    config = of("", flags="-dev -node=n1 -bind=127.0.0.1 -client=127.0.0.1")
    assert config.dev
    assert config["server"]
    assert config["ui_config.enabled"]
    assert config["performance.raft_multiplier"] == 1
    assert config["gossip_lan.probe_interval"] == 100_000_000
    assert of('log_level = "WARN"', flags="-dev")["log_level"] == "WARN"


def test_defaults_are_not_shared() -> None:
    of("", flags="-dev")["node_meta"]["a"] = "b"
    of("", flags="-dev")["retry_join"].append("x")
    config = of("", flags="-dev")
    assert (config["node_meta"], config["retry_join"]) == ({}, [])


@pytest.mark.parametrize(
    ("text", "flags", "warning"),
    [
        (
            "server = true bootstrap = true",
            "-data-dir /x",
            "bootstrap = true: do not enable unless necessary",
        ),
        (
            "server = true bootstrap_expect = 1",
            "-data-dir /x",
            "BootstrapExpect is set to 1; this is the same as Bootstrap mode.",
        ),
        ("server = true bootstrap_expect = 3", "-data-dir /x", "bootstrap_expect > 0: expecting 3 servers"),
        (
            'node_name = "a b"',
            "-dev",
            'Node name "a b" will not be discoverable via DNS due to invalid characters. ',
        ),
        (
            'service { name = "a_b" }',
            "-dev",
            'Service name "a_b" will not be discoverable via DNS due to invalid',
        ),
        (
            'telemetry { prefix_filter = ["bad"] }',
            "-dev",
            "Filter rule must begin with either '+' or '-': \"bad\"",
        ),
        ("ui = true", "-dev", "The 'ui' field is deprecated. Use the 'ui_config.enabled' field instead."),
        ('segment = "x"', "-dev", 'config key "segment" has no effect: it belongs to Consul Enterprise'),
        ('segments = [{ name = "x" }]', "-dev", 'config key "segments" has no effect'),
    ],
)
def test_warnings(text: str, flags: str, warning: str) -> None:
    warnings = of(text, flags=flags).warnings
    assert sum(found.startswith(warning) for found in warnings) == 1, warnings


def test_bootstrap_expect_of_one_is_bootstrap() -> None:
    config = of("", flags="-server -bootstrap-expect=1 -data-dir=/x")
    assert (config["bootstrap"], config["bootstrap_expect"]) == (True, 0)


def test_old_spellings_speak_where_the_new_one_is_silent() -> None:
    config = of(
        'acl_token = "old" acl_ttl = "5s" acl { tokens { default = "new" } } '
        'ca_file = "/ca" tls_min_version = "tls13"'
    )
    assert config["acl.tokens.default"] == "new"
    assert config["acl.token_ttl"] == 5 * SECOND
    assert config["tls.https.ca_file"] == config["tls.defaults.ca_file"] == "/ca"
    assert config["tls.internal_rpc.tls_min_version"] == "TLSv1_3"
    assert "acl_token" not in config.values


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("", False),
        ('acl_datacenter = "DC1"', True),
        ('primary_datacenter = "dc1"', False),
        ('acl_datacenter = "dc1" acl { enabled = false }', False),
        ("acl { enabled = true }", True),
    ],
)
def test_naming_the_datacenter_of_acls_is_an_old_way_to_want_them(text: str, enabled: bool) -> None:
    config = of(text)
    assert config["acl.enabled"] is enabled
    assert config["primary_datacenter"] == "dc1"


def test_toml_and_yaml() -> None:
    toml = 'node_name = "n"\n[[services]]\nname = "a"\n[ports]\nhttp = 1\n'
    yaml = "node_name: n\nservices:\n- name: a\nports: {http: 1}\n"
    for format, text in (("toml", toml), ("yaml", yaml)):
        config = of(text, format)
        assert (config["node_name"], config.services[0].name, config["ports.http"]) == ("n", "a", 1)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("toml", "a = ", "failed to parse F: Invalid value"),
        ("toml", "node_name = 2020-01-01", "a value of type date has no meaning here"),
        ("toml", "retry_max = 99999999999999999999", "does not fit 64 bits"),
        ("yaml", "a: [", "failed to parse F: "),
        ("yaml", "1: a", "a key is not a string"),
        ("yaml", "!!timestamp x", "a value does not fit its tag"),
        ("yaml", "a: &a [*a]", "nested more than 100 levels deep"),
        ("yaml", LAUGHS, "more than"),
        ("yaml", "- a", "expected a map, got 'slice'"),
        ("json", "[" * 100_000, "failed to parse F: "),
        ("json", '{"a":' * 200 + "1" + "}" * 200, "nested more than 100 levels deep"),
        ("json", '{"data_dir": "a\\u0000b"}', "'data_dir' contains a null character"),
        ("json", '{"retry_max": 1e300}', "expected type 'int'"),
    ],
)  # fmt: skip
def test_hostile_files(format: str, text: str, expected: str) -> None:
    assert expected in error_of(text, format)


def test_missing_yaml_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("core.config.formats.import_module", missing)
    assert "YAML files need PyYAML" in error_of("a: 1", "yaml")
