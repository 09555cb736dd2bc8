"""The configuration as each room wants it: one function a room, nothing decided here."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent import identity, logs, telemetry
from agent.calls import CallSettings
from agent.checks import CheckSettings
from agent.checks_net import AgentTls
from agent.front import FrontSettings
from agent.gossip import PoolSettings as GossipSettings
from agent.leader import LeaderSettings
from agent.local import LocalSettings
from agent.pool import PoolSettings
from agent.raft import RaftSettings
from agent.rpc import ALPN_NAMES, RpcLimits
from agent.tls import RpcTls, TlsFiles
from agent.tokens import KINDS, Tokens
from core.acl.settings import AclSettings
from core.codec.duration import SECOND
from core.config.audit import audit_sinks
from core.dns.settings import DnsSettings, Soa
from core.gossip.admission import lan_admission, wan_admission
from core.gossip.settings import LAN, WAN
from core.metrics import Metrics
from core.raft.settings import Settings as Timing
from core.store.structs import AutopilotConfig

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.audit import Audit
    from core.config.addresses import Addresses
    from core.config.settings import Config

OTHER_BODIES = 8 << 20  # bytes; what an endpoint takes that has no limit of its own


# Seconds until an unused RPC connection is closed (protocols/rpc.md section 5).
CLIENT_IDLE, SERVER_IDLE = 127.0, 120.0


def seconds(nanoseconds: int) -> float:
    return nanoseconds / SECOND


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks without the bits of a host, which a configuration may have."""
    return tuple(str(ip_network(text.strip(), strict=False)) for text in texts)


def audit(config: Config) -> Audit | None:
    """The log of requests, None where it is off. ConfigError."""
    sinks = audit_sinks(config["audit.enabled"], config["audit.sink"])
    if not sinks:
        return None
    from agent.audit import Audit

    return Audit(sinks, config["node_name"], config["datacenter"])


def front(config: Config) -> FrontSettings:
    return FrontSettings(
        block_endpoints=tuple(config["http_config.block_endpoints"]),
        allow_write_http_from=_networks(config["http_config.allow_write_http_from"]),
        default_query_time=config["default_query_time"],
        max_query_time=config["max_query_time"],
        max_body=OTHER_BODIES,
    )


def response_headers(config: Config) -> dict[str, str]:
    """Headers of every answer beside those that say how it was made."""
    headers: dict[str, str] = config["http_config.response_headers"]
    if config["translate_wan_addrs"]:
        return {"X-Consul-Translate-Addresses": "true", **headers}
    return headers


def acl(config: Config) -> AclSettings:
    return AclSettings(
        enabled=config["acl.enabled"],
        datacenter=config["datacenter"],
        primary_datacenter=config["primary_datacenter"],
        default_policy=config["acl.default_policy"],
        down_policy=config["acl.down_policy"],
        token_ttl=config["acl.token_ttl"],
        policy_ttl=config["acl.policy_ttl"],
        role_ttl=config["acl.role_ttl"],
        key_list=config["acl.enable_key_list_policy"],
        initial_management=config["acl.tokens.initial_management"],
        token_replication=config["acl.enable_token_replication"],
        token_persistence=config["acl.enable_token_persistence"],
    )


def acl_tokens(config: Config) -> Tokens:
    return {kind: config[f"acl.tokens.{kind}"] for kind in KINDS}


def calls(config: Config) -> CallSettings:
    return CallSettings(
        hold=seconds(config["performance.rpc_hold_timeout"]),
        default_query_time=config["default_query_time"],
        max_query_time=config["max_query_time"],
    )


def dns(config: Config) -> DnsSettings:
    def ttl(nanoseconds: int) -> int:
        return nanoseconds // SECOND

    return DnsSettings(
        node_name=config["node_name"],
        datacenter=config["datacenter"],
        domain=config["domain"],
        alt_domain=config["alt_domain"],
        node_ttl=ttl(config["dns_config.node_ttl"]),
        service_ttl={name: ttl(value) for name, value in config["dns_config.service_ttl"].items()},
        only_passing=config["dns_config.only_passing"],
        enable_truncate=config["dns_config.enable_truncate"],
        disable_compression=config["dns_config.disable_compression"],
        udp_answer_limit=config["dns_config.udp_answer_limit"],
        a_record_limit=config["dns_config.a_record_limit"],
        enable_additional_node_meta_txt=config["dns_config.enable_additional_node_meta_txt"],
        translate_wan=config["translate_wan_addrs"],
        soa=Soa(
            refresh=config["dns_config.soa.refresh"],
            retry=config["dns_config.soa.retry"],
            expire=config["dns_config.soa.expire"],
            min_ttl=config["dns_config.soa.min_ttl"],
        ),
        recursors=tuple(config["recursors"]),
        recursor_strategy=config["dns_config.recursor_strategy"],
        recursor_timeout=seconds(config["dns_config.recursor_timeout"]),
    )


def log(config: Config) -> logs.Settings:
    return logs.Settings(
        level=config["log_level"],
        json=config["log_json"],
        file=config["log_file"],
        rotate_bytes=config["log_rotate_bytes"],
        rotate_duration=seconds(config["log_rotate_duration"]),
        rotate_max_files=config["log_rotate_max_files"],
        syslog=config["enable_syslog"],
        syslog_facility=config["syslog_facility"],
    )


def sinks(config: Config) -> telemetry.Settings:
    return telemetry.Settings(
        statsd_address=config["telemetry.statsd_address"],
        statsite_address=config["telemetry.statsite_address"],
        dogstatsd_addr=config["telemetry.dogstatsd_addr"],
        dogstatsd_tags=config["telemetry.dogstatsd_tags"],
    )


def metrics(config: Config, wall: float) -> Metrics:
    return Metrics(
        wall,
        prefix=config["telemetry.metrics_prefix"],
        host="" if config["telemetry.disable_hostname"] else identity.host_name(),
        retention=seconds(config["telemetry.prometheus_retention_time"]),
        filters=config["telemetry.prefix_filter"],
        filter_default=config["telemetry.filter_default"],
    )


def https(config: Config) -> TlsFiles:
    """The files of HTTPS; `load` has filled in what is inherited from `tls.defaults`."""
    return TlsFiles(
        cert_file=config["tls.https.cert_file"],
        key_file=config["tls.https.key_file"],
        ca_file=config["tls.https.ca_file"],
        ca_path=config["tls.https.ca_path"],
        verify_incoming=config["tls.https.verify_incoming"],
        min_version=config["tls.https.tls_min_version"],
        cipher_suites=config["tls.https.tls_cipher_suites"],
    )


def raft(config: Config) -> RaftSettings:
    return RaftSettings(
        timing=replace(
            Timing().scaled(config["performance.raft_multiplier"]),
            prevote=not config["raft_prevote_disabled"],
        ),
        snapshot_interval=seconds(config["raft_snapshot_interval"]),
        snapshot_threshold=config["raft_snapshot_threshold"],
        trailing_logs=config["raft_trailing_logs"],
    )


def local(config: Config) -> LocalSettings:
    everywhere: bool = config["enable_script_checks"]
    return LocalSettings(
        scripts_from_files=everywhere or config["enable_local_script_checks"],
        scripts_from_api=everywhere,
        check_update_interval=config["check_update_interval"],
        discard_check_output=config["discard_check_output"],
        checks=CheckSettings(output_max_size=config["check_output_max_size"], agent_tls=_check_tls(config)),
    )


def _check_tls(config: Config) -> AgentTls | None:
    """The agent's own certificate, for checks of services that demand one."""
    if not config["enable_agent_tls_for_checks"]:
        return None
    return AgentTls(
        ca_file=config["tls.defaults.ca_file"],
        ca_path=config["tls.defaults.ca_path"],
        cert_file=config["tls.defaults.cert_file"],
        key_file=config["tls.defaults.key_file"],
    )


def rpc_files(config: Config) -> TlsFiles:
    """The files of RPC between agents."""
    return TlsFiles(
        cert_file=config["tls.internal_rpc.cert_file"],
        key_file=config["tls.internal_rpc.key_file"],
        ca_file=config["tls.internal_rpc.ca_file"],
        ca_path=config["tls.internal_rpc.ca_path"],
        verify_incoming=config["tls.internal_rpc.verify_incoming"],
        min_version=config["tls.internal_rpc.tls_min_version"],
        cipher_suites=config["tls.internal_rpc.tls_cipher_suites"],
    )


def rpc_tls(config: Config) -> RpcTls | None:
    """TLS between agents, None when nothing of it is configured. ConfigError."""
    files = rpc_files(config)
    verifies = config["tls.internal_rpc.verify_outgoing"] or config["tls.internal_rpc.verify_server_hostname"]
    if not (files.complete or files.verify_incoming or verifies):
        return None
    return RpcTls(
        files,
        verify_outgoing=config["tls.internal_rpc.verify_outgoing"],
        verify_server_hostname=config["tls.internal_rpc.verify_server_hostname"],
        domain=config["domain"],
        alpn=ALPN_NAMES,
    )


def rpc_limits(config: Config) -> RpcLimits:
    return RpcLimits(
        handshake_timeout=seconds(config["limits.rpc_handshake_timeout"]),
        max_conns_per_client=config["limits.rpc_max_conns_per_client"],
    )


def pool(config: Config) -> PoolSettings:
    return PoolSettings(
        call_timeout=seconds(config["limits.rpc_client_timeout"]),
        hold=seconds(config["performance.rpc_hold_timeout"]),
        idle=SERVER_IDLE if config["server"] else CLIENT_IDLE,
    )


def gossip(
    config: Config, addresses: Addresses, data_dir: Path | None, tags: dict[str, str], wan: bool
) -> GossipSettings:
    """One gossip pool."""
    name, place = ("wan", "serf_wan") if wan else ("lan", "serf_lan")
    profile = f"gossip_{name}"
    timing = replace(
        WAN if wan else LAN,
        gossip_nodes=config[f"{profile}.gossip_nodes"],
        gossip_interval=seconds(config[f"{profile}.gossip_interval"]),
        probe_interval=seconds(config[f"{profile}.probe_interval"]),
        probe_timeout=seconds(config[f"{profile}.probe_timeout"]),
        suspicion_mult=config[f"{profile}.suspicion_mult"],
        retransmit_mult=config[f"{profile}.retransmit_mult"],
        reconnect_timeout=seconds(config["reconnect_timeout_wan" if wan else "reconnect_timeout"]),
        allowed_networks=_networks(config[f"{place}_allowed_cidrs"]),
        verify_incoming=config["encrypt_verify_incoming"],
        verify_outgoing=config["encrypt_verify_outgoing"],
        coordinates=not config["disable_coordinates"],
    )
    node, datacenter = config["node_name"], config["datacenter"]
    return GossipSettings(
        name=f"{node}.{datacenter}" if wan else node,
        bind=addresses.serf_wan if wan else addresses.serf_lan,
        port=config[f"ports.{place}"],
        tags=tags,
        timing=timing,
        advertise=addresses.advertise_wan if wan else addresses.advertise,
        encrypt=config["encrypt"],
        data_dir=data_dir,
        keyring_file=not config["disable_keyring_file"],
        rejoin_after_leave=config["rejoin_after_leave"],
        admission=wan_admission if wan else lan_admission(node, tags["id"], datacenter),
    )


def leader(config: Config) -> LeaderSettings:
    """What a leader does, and with what autopilot begins."""
    timing = raft(config).timing
    return LeaderSettings(
        autopilot=AutopilotConfig(
            cleanup_dead_servers=config["autopilot.cleanup_dead_servers"],
            last_contact_threshold=config["autopilot.last_contact_threshold"],
            max_trailing_logs=config["autopilot.max_trailing_logs"],
            min_quorum=config["autopilot.min_quorum"],
            server_stabilization_time=config["autopilot.server_stabilization_time"],
        ),
        heartbeat_gap=2 * timing.heartbeat_interval,
    )
