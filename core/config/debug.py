"""A Config as `/v1/agent/self` shows it under DebugConfig: one flat map with Go's names.

The names are Consul's where clients are known to look (`ServerMode`, `DNSPort`, ...) and derived from
the key elsewhere. Durations are Go's text; secrets are `hidden`."""

from __future__ import annotations

from typing import Any

from core.codec.duration import show
from core.config.options import BY_KEY
from core.config.settings import Config
from core.store.structs import go_name

HIDDEN = "hidden"

_NAMES = {
    "server": "ServerMode",
    "acl.enabled": "ACLsEnabled",
    "advertise_addr": "AdvertiseAddrLAN",
    "advertise_addr_wan": "AdvertiseAddrWAN",
    "client_addr": "ClientAddrs",
    "domain": "DNSDomain",
    "alt_domain": "DNSAltDomain",
    "leave_on_terminate": "LeaveOnTerm",
    "skip_leave_on_interrupt": "SkipLeaveOnInt",
    "ports.serf_lan": "SerfPortLAN",
    "ports.serf_wan": "SerfPortWAN",
    "recursors": "DNSRecursors",
    "retry_join": "RetryJoinLAN",
    "retry_join_wan": "RetryJoinWAN",
    "retry_interval": "RetryJoinIntervalLAN",
    "retry_interval_wan": "RetryJoinIntervalWAN",
    "retry_max": "RetryJoinMaxAttemptsLAN",
    "retry_max_wan": "RetryJoinMaxAttemptsWAN",
    "start_join": "StartJoinAddrsLAN",
    "start_join_wan": "StartJoinAddrsWAN",
    "encrypt": "EncryptKey",
    "log_level": "LogLevel",
    "enable_syslog": "EnableSyslog",
    "enable_script_checks": "EnableRemoteScriptChecks",
    "enable_local_script_checks": "EnableLocalScriptChecks",
    "ui_config.enabled": "EnableUI",
}
_PREFIXES = {
    "dns_config": "DNS",
    "http_config": "HTTP",
    "gossip_lan": "GossipLAN",
    "gossip_wan": "GossipWAN",
    "limits": "",
    "performance": "",
}
_WORDS = {"Tls": "TLS", "Soa": "SOA", "Rpc": "RPC", "Wan": "WAN", "Https": "HTTPS", "Ui": "UI", "Kv": "KV"}


def debug_of(config: Config) -> dict[str, Any]:
    """DebugConfig, sorted by name."""
    out: dict[str, Any] = {"DevMode": config.dev}
    for key, value in config.values.items():
        out[_name(key)] = _shown(key, value)
    out["Services"] = [{"Name": service.name, "ID": service.id} for service in config.services]
    out["Checks"] = [{"Name": check.name, "ID": check.id} for check in config.checks]
    out["Watches"] = [str(watch.get("type", "")) for watch in config.watches]
    return dict(sorted(out.items()))


def _name(key: str) -> str:
    if key in _NAMES:
        return _NAMES[key]
    first, dot, rest = key.partition(".")
    if first == "ports":
        return _words(rest.removesuffix("_port")) + "Port"
    if dot and first in _PREFIXES:
        return _PREFIXES[first] + _words(rest)
    return _words(key)


def _words(text: str) -> str:
    parts = text.replace(".", "_").split("_")
    return "".join(_WORDS.get(part, part) for part in (go_name(part) for part in parts))


def _shown(key: str, value: Any) -> Any:
    """One value as people may see it."""
    option = BY_KEY[key]
    if option.secret:
        return HIDDEN if value else value
    if option.type == "duration":
        return show(value)
    if option.type == "durations":
        return {name: show(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and value - value != 0 else value
