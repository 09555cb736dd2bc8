"""Defaults that depend on other options, and the rules that join several options.

Texts are Consul's (reference/config.md section 2)."""

from __future__ import annotations

from ipaddress import ip_network

from core.codec import gobase64
from core.config.actions import actions
from core.config.audit import audit_sinks
from core.config.ciphers import CIPHER_SUITES, suites
from core.config.decode import several
from core.config.identity import datacenter_error, name_warning
from core.config.settings import Config
from core.errors import ConfigError
from core.node.registration import metadata_problem, weights_problem

_DEPLOYMENT = "See https://www.consul.io/docs/internals/consensus.html#deployment-table"
_TLS_SECTIONS = ("internal_rpc", "https", "grpc")
_TLS_VERSIONS = {"tls10": "TLSv1_0", "tls11": "TLSv1_1", "tls12": "TLSv1_2", "tls13": "TLSv1_3"}


def fill_in(config: Config, hostname: str) -> None:
    """Put values where the default is another option's value."""
    values = config.values
    values["datacenter"] = values["datacenter"].lower()
    values["primary_datacenter"] = (values["primary_datacenter"] or values["datacenter"]).lower()
    if "acl_datacenter" in config.given and "acl.enabled" not in config.given:
        values["acl.enabled"] = True  # the old spelling for it
    values["node_id"] = values["node_id"].lower()
    if not values["node_name"]:  # Consul too takes an empty name for none
        values["node_name"] = hostname
    if values["server_name"] is None:
        values["server_name"] = values["node_name"]
    if not values["domain"].endswith("."):
        values["domain"] += "."
    server = values["server"]
    if values["leave_on_terminate"] is None:
        values["leave_on_terminate"] = not server
    if values["skip_leave_on_interrupt"] is None:
        values["skip_leave_on_interrupt"] = server
    if values["bootstrap_expect"] == 1 and server and not values["bootstrap"] and not config.dev:
        values["bootstrap"], values["bootstrap_expect"] = True, 0
        config.warnings.append("BootstrapExpect is set to 1; this is the same as Bootstrap mode.")
    for key in values:
        if key.startswith("tls.") and key.endswith("_min_version"):
            values[key] = _TLS_VERSIONS.get(values[key], values[key])
    for key, value in values.items():
        section = key.split(".")[1] if key.startswith("tls.") else ""
        if value is None and section in _TLS_SECTIONS:
            values[key] = values["tls.defaults." + key.rsplit(".", 1)[1]]


def check_rules(config: Config) -> None:
    """ConfigError for the first rule that is broken; warnings for what is legal but unwise."""
    for error in (
        datacenter_error(config["datacenter"]),
        _node_error(config),
        _bootstrap_error(config),
        _limits_error(config),
        _encrypt_error(config["encrypt"]),
        _ui_error(config),
        _networks_error(config),
        _ciphers_error(config),
        _services_error(config),
    ):
        if error:
            raise ConfigError(error)
    audit_sinks(config["audit.enabled"], config["audit.sink"])
    actions(config["actions"])
    _warn(config)


def _node_error(config: Config) -> str:
    if not config["data_dir"] and not config.dev:
        return "data_dir cannot be empty"
    if not config["node_name"].strip():
        return "node_name cannot be empty"
    error = metadata_problem(config["node_meta"])
    return f"node_meta invalid: {error}" if error else ""


def _bootstrap_error(config: Config) -> str:
    expect, bootstrap, server = config["bootstrap_expect"], config["bootstrap"], config["server"]
    if expect < 0:
        return f"bootstrap_expect cannot be {expect}. Must be greater than or equal to zero"
    if expect and config.dev:
        return "'bootstrap_expect > 0' not allowed in dev mode"
    if expect and bootstrap:
        return "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"
    if expect and not server:
        return "'bootstrap_expect > 0' requires 'server = true'"
    if bootstrap and not server:
        return "'bootstrap = true' requires 'server = true'"
    return ""


def _limits_error(config: Config) -> str:
    multiplier = config["performance.raft_multiplier"]
    if not 1 <= multiplier <= 10:
        return f"performance.raft_multiplier cannot be {multiplier}. Must be between 1 and 10"
    if config["raft_protocol"] != 3:
        return f"raft_protocol version {config['raft_protocol']} is not supported by this version of Consul"
    for key in ("autopilot.max_trailing_logs", "dns_config.a_record_limit", "dns_config.udp_answer_limit"):
        if config[key] < 0:
            return f"{key} cannot be {config[key]}. Must be greater than or equal to zero"
    for key in ("cache.entry_fetch_rate", "cache.entry_fetch_max_burst"):
        if config[key] <= 0:
            return f"{key} must be strictly positive, was: {config[key]:g}"
    if config["check_output_max_size"] < 1:
        return (
            "check_output_max_size must be positive, "
            "to discard check output use the discard_check_output flag"
        )
    return ""


def _encrypt_error(text: str) -> str:
    """Why a gossip key cannot be used."""
    if not text:
        return ""
    try:
        key = gobase64.decode(text)
    except ValueError as error:
        return f"encrypt has invalid key: {error}"
    if len(key) not in (16, 24, 32):
        return "encrypt has invalid key: key size must be 16, 24 or 32 bytes"
    return ""


def _ui_error(config: Config) -> str:
    if config["ui_config.enabled"] and config["ui_config.dir"]:
        return (
            "Both the ui_config.enabled and ui_config.dir (or -ui and -ui-dir) were specified, please "
            "provide only one.\nIf trying to use your own web UI resources, use ui_config.dir or -ui-dir.\n"
            "The web UI is included in the binary so use ui_config.enabled or -ui to enable it"
        )
    path = config["ui_config.content_path"]
    if not all(char.isascii() and (char.isalnum() or char in "-_/") for char in path):
        return f'ui-content-path can only contain alphanumeric, -, _, or /. received: "{path}"'
    return ""


def _networks_error(config: Config) -> str:
    """Networks that are none, in each option's own form of complaint."""
    bad = [text for text in config["http_config.allow_write_http_from"] if not _is_network(text)]
    if bad:
        return several([f"allow_write_http_from: invalid cidr: {text}" for text in bad]).rstrip()
    for key in ("serf_lan_allowed_cidrs", "serf_wan_allowed_cidrs"):
        bad = [text for text in config[key] if not _is_network(text)]
        if bad:
            return f"{key}: " + several([f"invalid cidr: {text}" for text in bad]).rstrip()
    return ""


def _is_network(text: str) -> bool:
    """Whether it is an address, a slash and a number of bits, as Go reads networks."""
    if not text.strip().rpartition("/")[2].isdecimal():
        return False
    try:
        ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True


def _ciphers_error(config: Config) -> str:
    for section in ("defaults", *_TLS_SECTIONS):
        for suite in suites(config[f"tls.{section}.tls_cipher_suites"]):
            if suite not in CIPHER_SUITES:
                text = f'tls_cipher_suites: invalid tls cipher suites: unsupported cipher "{suite}"'
                return several([text]) + f"known are {', '.join(CIPHER_SUITES)}"
    return ""


def _services_error(config: Config) -> str:
    for service in config.services:
        error = weights_problem(service.weights)
        if error:
            return f"Invalid weight definition for service {service.name}: {error}"
        meta = service.meta
        if meta and service.kind == "mesh-gateway":  # may say by itself that it joins datacenters
            meta = {key: value for key, value in meta.items() if key != "consul-wan-federation"}
        error = metadata_problem(meta)
        if error:
            return f"invalid meta for service {service.name}: {error}"
    return ""


def _warn(config: Config) -> None:
    warnings = config.warnings
    expect = config["bootstrap_expect"]
    if config["bootstrap"]:
        warnings.append("bootstrap = true: do not enable unless necessary")
    if expect == 2:
        warnings.append(
            "bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance. " + _DEPLOYMENT
        )
    elif expect and expect % 2 == 0:
        warnings.append(
            "bootstrap_expect is even number: A cluster with an even number of servers does not achieve "
            "optimum fault tolerance. " + _DEPLOYMENT
        )
    if expect:
        warnings.append(f"bootstrap_expect > 0: expecting {expect} servers")
    warnings.append(name_warning("Node name", config["node_name"]))
    warnings += [name_warning("Service name", service.name) for service in config.services if service.name]
    for rule in config["telemetry.prefix_filter"]:
        if not rule:
            warnings.append("Cannot have empty filter rule in prefix_filter")
        elif rule[0] not in ("+", "-"):
            warnings.append(f"Filter rule must begin with either '+' or '-': \"{rule}\"")
    warnings[:] = [warning for warning in dict.fromkeys(warnings) if warning]
