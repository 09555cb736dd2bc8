"""Every option of the agent, declared once: key, type, default, help, flag, and what else matters.

File decoding, flags, defaults, merge, reload and the help text are all derived from these rows.
Facts: reference/config.md section 3. Defaults that depend on other options (server or client, node
name, `tls.defaults`) are None here and filled in by `load`."""

from __future__ import annotations

from core.codec.duration import HOUR, MILLISECOND, MINUTE, SECOND
from core.config.schema import Option as O

MESH = "the service mesh is not supported"
ENTERPRISE = "it belongs to Consul Enterprise"
PEERING = "cluster peering is not supported"
CLOUD = "no vendor service is ever called"
NOT_YET = "this version cannot do that yet"
FIXED = "it is not for users to set"

# One row, one or two lines: a table is read by eye.
# fmt: off

IDENTITY = [
    O("node_name", "string", None, "Name of this node, unique in the cluster (default: the host name).",
      "node"),
    O("node_id", "string", "", "Id of this node, a UUID (default: kept in the data directory).", "node-id"),
    O("node_meta", "map", {}, "Metadata of this node, `key:value`; may be repeated.", "node-meta",
      reload=True),
    O("disable_host_node_id", "bool", True, "Use a random node id, not one of the host.",
      "disable-host-node-id"),
    O("datacenter", "string", "dc1", "Name of this agent's datacenter.", "datacenter"),
    O("primary_datacenter", "string", None, "Datacenter that owns the ACLs (default: this one).",
      "primary-datacenter"),
    O("server", "bool", False, "Be a server: hold the replicated state.", "server", dev=True),
    O("bootstrap", "bool", False, "Let this server elect itself; on one server only.", "bootstrap"),
    O("bootstrap_expect", "int", 0, "Number of servers to wait for before the first election.",
      "bootstrap-expect"),
    O("data_dir", "string", "", "Directory that holds the agent's state.", "data-dir"),
    O("pid_file", "string", "", "File to write the process id to.", "pid-file"),
    O("domain", "string", "consul.", "Domain of the DNS names.", "domain"),
    O("alt_domain", "string", "", "A second domain of the DNS names.", "alt-domain"),
    O("locality.region", "string", "", "Region of this node.", since="1.21"),
    O("locality.zone", "string", "", "Zone of this node.", since="1.21"),
    O("server_rejoin_age_max", "duration", 168 * HOUR, "A server that was down longer refuses to rejoin.",
      since="1.21"),
]

ADDRESSES = [
    O("bind_addr", "string", "0.0.0.0", "Address for cluster communication; a template is allowed.", "bind",
      dev="127.0.0.1"),
    O("advertise_addr", "string", "", "Address that is told to other nodes (default: the bind address).",
      "advertise"),
    O("advertise_addr_ipv4", "string", "", "IPv4 address told beside the advertise address."),
    O("advertise_addr_ipv6", "string", "", "IPv6 address told beside the advertise address."),
    O("advertise_addr_wan", "string", "", "Address told on the WAN (default: the advertise address).",
      "advertise-wan"),
    O("advertise_addr_wan_ipv4", "string", "", "IPv4 address told on the WAN."),
    O("advertise_addr_wan_ipv6", "string", "", "IPv6 address told on the WAN."),
    O("client_addr", "string", "127.0.0.1", "Addresses of HTTP, HTTPS, DNS and gRPC, divided by spaces.",
      "client"),
    O("addresses.dns", "string", "", "Addresses of DNS (default: the client addresses)."),
    O("addresses.http", "string", "", "Addresses of HTTP; `unix:///path` for a socket."),
    O("addresses.https", "string", "", "Addresses of HTTPS; `unix:///path` for a socket."),
    O("addresses.grpc", "string", "", "Addresses of gRPC.", unused=MESH),
    O("addresses.grpc_tls", "string", "", "Addresses of gRPC over TLS.", since="1.21", unused=MESH),
    O("unix_sockets.user", "string", "", "Owner of the sockets, a name or a numeric id."),
    O("unix_sockets.group", "string", "", "Group of the sockets, a numeric id."),
    O("unix_sockets.mode", "string", "", "Permissions of the sockets, in octal."),
    O("ports.dns", "port", 8600, "Port of DNS; -1 is off.", "dns-port"),
    O("ports.http", "port", 8500, "Port of the HTTP API; -1 is off.", "http-port"),
    O("ports.https", "port", -1, "Port of the HTTPS API; -1 is off.", "https-port"),
    O("ports.grpc", "port", -1, "Port of gRPC.", "grpc-port", dev=8502, unused=MESH),
    O("ports.grpc_tls", "port", -1, "Port of gRPC over TLS.", "grpc-tls-port", since="1.21", unused=MESH),
    O("ports.serf_lan", "port", 8301, "Port of LAN gossip.", "serf-lan-port"),
    O("ports.serf_wan", "port", 8302, "Port of WAN gossip; -1 is off.", "serf-wan-port"),
    O("ports.server", "port", 8300, "Port of RPC between agents.", "server-port"),
    O("ports.proxy_min_port", "port", 0, "Old range of proxy ports.", unused=MESH),
    O("ports.proxy_max_port", "port", 0, "Old range of proxy ports.", unused=MESH),
    O("ports.sidecar_min_port", "port", 21000, "Range of sidecar ports.", unused=MESH),
    O("ports.sidecar_max_port", "port", 21255, "Range of sidecar ports.", unused=MESH),
    O("ports.expose_min_port", "port", 21500, "Range of exposed ports.", unused=MESH),
    O("ports.expose_max_port", "port", 21755, "Range of exposed ports.", unused=MESH),
    O("serf_lan", "string", "", "Address of LAN gossip (default: the bind address).", "serf-lan-bind"),
    O("serf_wan", "string", "", "Address of WAN gossip (default: the bind address).", "serf-wan-bind"),
    O("serf_lan_allowed_cidrs", "strings", [], "Networks whose members are let in; may be repeated.",
      "serf-lan-allowed-cidrs"),
    O("serf_wan_allowed_cidrs", "strings", [], "Networks whose WAN members are let in; may be repeated.",
      "serf-wan-allowed-cidrs"),
    O("translate_wan_addrs", "bool", False, "Tell WAN addresses to other datacenters."),
    O("tagged_addresses", "map", {}, "Addresses of this node by tag."),
]

JOINING = [
    O("retry_join", "strings", [], "Address to join, tried until it works; may be repeated.", "retry-join"),
    O("retry_interval", "duration", 30 * SECOND, "Time between tries to join.", "retry-interval"),
    O("retry_max", "int", 0, "Number of tries to join; 0 is no limit.", "retry-max"),
    O("retry_join_wan", "strings", [], "Address to join on the WAN; may be repeated.", "retry-join-wan"),
    O("retry_interval_wan", "duration", 30 * SECOND, "Time between tries to join the WAN.",
      "retry-interval-wan"),
    O("retry_max_wan", "int", 0, "Number of tries to join the WAN; 0 is no limit.", "retry-max-wan"),
    O("start_join", "strings", [], "Address to join once at start; may be repeated.", "join"),
    O("start_join_wan", "strings", [], "Address to join once on the WAN; may be repeated.", "join-wan"),
    O("rejoin_after_leave", "bool", False, "Join the known nodes again after a leave.", "rejoin"),
    O("leave_on_terminate", "bool", None, "Leave on SIGTERM (default: clients only)."),
    O("skip_leave_on_interrupt", "bool", None, "Do not leave on SIGINT (default: servers only)."),
    O("reconnect_timeout", "duration", 72 * HOUR, "Time after which a failed node is forgotten."),
    O("reconnect_timeout_wan", "duration", 72 * HOUR, "Time after which a failed WAN server is forgotten."),
    O("advertise_reconnect_timeout", "duration", 0, "Ask others to forget this node after this time."),
    O("performance.leave_drain_time", "duration", 5 * SECOND, "Time to go on serving after a leave."),
    O("performance.raft_multiplier", "int", 5, "Scale of the Raft timers, 1 to 10.", dev=1),
    O("performance.rpc_hold_timeout", "duration", 7 * SECOND, "Time to retry while there is no leader."),
    O("performance.grpc_keepalive_interval", "duration", 30 * SECOND, "gRPC keep-alive.", since="1.21",
      unused=MESH),
    O("performance.grpc_keepalive_timeout", "duration", 20 * SECOND, "gRPC keep-alive.", since="1.21",
      unused=MESH),
]

GOSSIP = [
    O("encrypt", "string", "", "Gossip key: 16, 24 or 32 bytes in base64.", "encrypt", secret=True),
    O("encrypt_verify_incoming", "bool", True, "Refuse gossip that is not encrypted."),
    O("encrypt_verify_outgoing", "bool", True, "Encrypt all gossip that is sent."),
    O("disable_keyring_file", "bool", False, "Do not store the keyring.", "disable-keyring-file", dev=True),
    O("gossip_lan.gossip_nodes", "int", 3, "Nodes told in each round."),
    O("gossip_lan.gossip_interval", "duration", 200 * MILLISECOND, "Time between rounds.",
      dev=100 * MILLISECOND),
    O("gossip_lan.probe_interval", "duration", SECOND, "Time between probes.", dev=100 * MILLISECOND),
    O("gossip_lan.probe_timeout", "duration", 500 * MILLISECOND, "Time to wait for an answer.",
      dev=100 * MILLISECOND),
    O("gossip_lan.suspicion_mult", "int", 4, "Scale of the time before a suspect is failed.", dev=3),
    O("gossip_lan.retransmit_mult", "int", 4, "Scale of the number of retransmissions."),
    O("gossip_wan.gossip_nodes", "int", 3, "Nodes told in each WAN round."),
    O("gossip_wan.gossip_interval", "duration", 500 * MILLISECOND, "Time between WAN rounds.",
      dev=100 * MILLISECOND),
    O("gossip_wan.probe_interval", "duration", 5 * SECOND, "Time between WAN probes.", dev=100 * MILLISECOND),
    O("gossip_wan.probe_timeout", "duration", 3 * SECOND, "Time to wait for a WAN answer.",
      dev=100 * MILLISECOND),
    O("gossip_wan.suspicion_mult", "int", 6, "Scale of the time before a WAN suspect is failed.", dev=3),
    O("gossip_wan.retransmit_mult", "int", 4, "Scale of the number of WAN retransmissions."),
    O("disable_coordinates", "bool", False, "Keep no network coordinates."),
    O("disable_remote_exec", "bool", True, "Refuse remote execution."),
]

RAFT = [
    O("raft_protocol", "int", 3, "Raft protocol version; only 3 is spoken.", "raft-protocol"),
    O("raft_snapshot_threshold", "int", 16384, "Log entries between snapshots.", reload=True),
    O("raft_snapshot_interval", "duration", 30 * SECOND, "Time between looks whether to snapshot.",
      reload=True),
    O("raft_trailing_logs", "int", 10240, "Log entries kept after a snapshot.", reload=True),
    O("raft_prevote_disabled", "bool", False, "Do not ask before an election.", since="1.21"),
    O("raft_logstore.backend", "string", "default", "Kind of log store.", since="1.21",
      unused="ctl has one log store"),
    O("raft_logstore.disable_log_cache", "bool", False, "No cache.", since="1.21",
      unused="ctl has one log store"),
    O("raft_logstore.wal", "any", None, "Log store tuning.", since="1.21", unused="ctl has one log store"),
    O("raft_logstore.boltdb", "any", None, "Log store tuning.", since="1.21", unused="ctl has one log store"),
    O("raft_logstore.verification", "any", None, "Log checks.", since="1.21", unused="ctl has one log store"),
    O("raft_boltdb", "any", None, "Log store tuning.", since="1.21", unused="ctl has one log store"),
    O("autopilot.cleanup_dead_servers", "bool", True, "Remove failed servers when new ones come."),
    O("autopilot.last_contact_threshold", "duration", 200 * MILLISECOND,
      "Silence after which a server is unhealthy."),
    O("autopilot.max_trailing_logs", "int", 250, "Log entries behind which a server is unhealthy."),
    O("autopilot.min_quorum", "uint", 0, "Servers that are never removed."),
    O("autopilot.server_stabilization_time", "duration", 10 * SECOND,
      "Health time before a server may vote."),
    O("autopilot.redundancy_zone_tag", "string", "", "Zone tag.", unused=ENTERPRISE),
    O("autopilot.upgrade_version_tag", "string", "", "Version tag.", unused=ENTERPRISE),
    O("autopilot.disable_upgrade_migration", "bool", False, "No migration.", unused=ENTERPRISE),
    O("session_ttl_min", "duration", 10 * SECOND, "Lowest session TTL."),
    O("protocol", "int", 2, "RPC protocol version.", "protocol"),
    O("read_replica", "bool", False, "Do not vote.", "read-replica", unused=ENTERPRISE),
]

HTTP = [
    O("http_config.block_endpoints", "strings", [], "Path prefixes that are answered with 403."),
    O("http_config.response_headers", "map", {}, "Headers added to every answer."),
    O("http_config.allow_write_http_from", "strings", [], "Networks that may write; may be repeated.",
      "allow-write-http-from"),
    O("http_config.use_cache", "bool", True, "Allow `?cached`."),
    O("http_config.max_header_bytes", "int", 0, "Bytes of headers in a request; 0 is the default limit."),
    O("limits.http_max_conns_per_client", "int", 200, "HTTP connections from one address.", reload=True),
    O("limits.https_handshake_timeout", "duration", 5 * SECOND, "Time for a TLS handshake."),
    O("limits.rpc_handshake_timeout", "duration", 5 * SECOND, "Time for a handshake on the RPC port."),
    O("limits.rpc_max_conns_per_client", "int", 100, "RPC connections from one address.", reload=True),
    O("limits.rpc_rate", "float", -1.0, "RPC calls a second of a client agent; -1 is no limit.", reload=True),
    O("limits.rpc_max_burst", "int", 1000, "RPC calls at once of a client agent.", reload=True),
    O("limits.rpc_client_timeout", "duration", MINUTE, "Time for the answer of an RPC.", reload=True,
      since="1.21"),
    O("limits.request_limits.mode", "string", "disabled", "disabled, permissive or enforcing.", reload=True,
      since="1.21"),
    O("limits.request_limits.read_rate", "float", -1.0, "Reads a second; -1 is no limit.", reload=True,
      since="1.21"),
    O("limits.request_limits.write_rate", "float", -1.0, "Writes a second; -1 is no limit.", reload=True,
      since="1.21"),
    O("limits.kv_max_value_size", "uint", 524288, "Bytes of a value of the KV store."),
    O("limits.txn_max_req_len", "uint", 524288, "Bytes of a transaction."),
    O("default_query_time", "duration", 300 * SECOND, "Wait of a blocking query that asks for none.",
      "default-query-time"),
    O("max_query_time", "duration", 600 * SECOND, "Longest wait of a blocking query.", "max-query-time"),
    O("disable_http_unprintable_char_filter", "bool", False, "Let control characters through in paths."),
    O("ui_config.enabled", "bool", False, "Serve the web UI.", "ui", dev=True),
    O("ui_config.dir", "string", "", "Directory with another web UI.", "ui-dir"),
    O("ui_config.content_path", "string", "/ui/", "Path of the web UI.", "ui-content-path"),
    O("ui_config.metrics_provider", "string", "", "Metrics in the UI.", unused="ctl has no such UI"),
    O("ui_config.metrics_provider_files", "strings", [], "Metrics in the UI.", unused="ctl has no such UI"),
    O("ui_config.metrics_provider_options_json", "string", "", "Metrics in the UI.",
      unused="ctl has no such UI"),
    O("ui_config.metrics_proxy", "any", None, "Metrics in the UI.", unused="ctl has no such UI"),
    O("ui_config.dashboard_url_templates", "map", {}, "Links in the UI.", unused="ctl has no such UI"),
    O("ui_config.hcp_enabled", "bool", False, "Links in the UI.", since="1.21", unused=CLOUD),
    O("ui", "bool", False, "Old spelling.", old="ui_config.enabled"),
    O("ui_dir", "string", "", "Old spelling.", old="ui_config.dir"),
    O("ui_content_path", "string", "", "Old spelling.", old="ui_config.content_path"),
    O("enable_debug", "bool", False, "Serve the profiling endpoints.", dev=True, reload=True),
    O("discovery_max_stale", "duration", 0, "Staleness allowed to catalog reads that ask for none.",
      reload=True),
    O("cache.entry_fetch_rate", "float", float("inf"), "Fetches a second of the agent's cache.", reload=True),
    O("cache.entry_fetch_max_burst", "int", 2, "Fetches at once of the agent's cache.", reload=True),
    O("use_streaming_backend", "bool", False, "Streaming for health reads.", unused="reads are always live"),
    O("rpc.enable_streaming", "bool", False, "Streaming for health reads.", unused="reads are always live"),
]

DNS = [
    O("dns_config.allow_stale", "bool", True, "Let any server answer DNS.", reload=True),
    O("dns_config.max_stale", "duration", 87600 * HOUR, "Staleness allowed to DNS answers.", reload=True),
    O("dns_config.node_ttl", "duration", 0, "TTL of node answers.", reload=True),
    O("dns_config.service_ttl", "durations", {}, "TTL of service answers by name, `prefix*` or `*`.",
      reload=True),
    O("dns_config.only_passing", "bool", False, "Leave out services in warning state too.", reload=True),
    O("dns_config.udp_answer_limit", "int", 3, "Records of an answer over UDP.", reload=True),
    O("dns_config.a_record_limit", "int", 0, "Address records of an answer; 0 is no limit.", reload=True),
    O("dns_config.enable_truncate", "bool", False, "Set TC when records were left out.", reload=True),
    O("dns_config.disable_compression", "bool", False, "Do not compress names.", reload=True),
    O("dns_config.recursor_timeout", "duration", 2 * SECOND, "Time for the answer of a recursor.",
      reload=True),
    O("dns_config.recursor_strategy", "string", "sequential", "sequential or random.", reload=True,
      since="1.21"),
    O("dns_config.soa.refresh", "uint", 3600, "SOA refresh, seconds.", reload=True),
    O("dns_config.soa.retry", "uint", 600, "SOA retry, seconds.", reload=True),
    O("dns_config.soa.expire", "uint", 86400, "SOA expire, seconds.", reload=True),
    O("dns_config.soa.min_ttl", "uint", 0, "SOA minimum: how long negative answers are kept, seconds.",
      reload=True),
    O("dns_config.enable_additional_node_meta_txt", "bool", True, "Add node metadata as TXT records.",
      reload=True),
    O("dns_config.use_cache", "bool", False, "Answer from the agent's cache.", reload=True),
    O("dns_config.cache_max_age", "duration", 0, "Age allowed to cached answers.", reload=True),
    O("dns_config.prefer_namespace", "bool", False, "Names with namespaces.", unused=ENTERPRISE),
    O("recursors", "strings", [], "Server to ask for other names; may be repeated.", "recursor", reload=True),
]

CHECKS = [
    O("enable_script_checks", "bool", False, "Allow script checks from anywhere, the API included.",
      "enable-script-checks"),
    O("enable_local_script_checks", "bool", False, "Allow script checks from configuration files.",
      "enable-local-script-checks"),
    O("actions", "opaque", {}, "What `ctl exec` may run here, by name: args, user, timeout, parameters.",
      reload=True),
    O("actions_without_acl", "bool", False, "Run actions where ACLs are off, for whoever asks.", reload=True),
    O("check_update_interval", "duration", 5 * MINUTE, "How often a change of output alone is synced."),
    O("check_output_max_size", "int", 4096, "Bytes of output kept of a check.", "check_output_max_size"),
    O("discard_check_output", "bool", False, "Keep no output of checks.", reload=True),
    O("enable_agent_tls_for_checks", "bool", False, "Use the agent's certificate in checks."),
    O("enable_central_service_config", "bool", True, "Merge central service defaults.", unused=MESH),
]

ACL = [
    O("acl.enabled", "bool", False, "Ask for tokens."),
    O("acl.default_policy", "string", "allow", "What is not said: allow or deny."),
    O("acl.down_policy", "string", "extend-cache", "When tokens cannot be read: allow, deny, extend-cache or "
      "async-cache."),
    O("acl.token_ttl", "duration", 30 * SECOND, "How long a token is remembered."),
    O("acl.policy_ttl", "duration", 30 * SECOND, "How long a policy is remembered."),
    O("acl.role_ttl", "duration", 0, "How long a role is remembered."),
    O("acl.enable_key_list_policy", "bool", False, "Recursive reads need the list permission."),
    O("acl.enable_token_persistence", "bool", False, "Store tokens that were set through the API."),
    O("acl.enable_token_replication", "bool", False, "Copy tokens from the primary datacenter."),
    O("acl.tokens.initial_management", "string", "", "Secret of the first management token.", secret=True),
    O("acl.tokens.agent_recovery", "string", "", "Local secret for emergencies.", reload=True, secret=True),
    O("acl.tokens.default", "string", "", "Token of requests without one.", reload=True, secret=True),
    O("acl.tokens.agent", "string", "", "Token of the agent's own work.", reload=True, secret=True),
    O("acl.tokens.replication", "string", "", "Token of replication.", reload=True, secret=True),
    O("acl.tokens.config_file_service_registration", "string", "", "Token of services in files.", reload=True,
      since="1.21", secret=True),
    O("acl.tokens.dns", "string", "", "Token of DNS.", reload=True, since="1.21", secret=True),
    O("acl.tokens.managed_service_provider", "any", None, "Managed tokens.", unused=ENTERPRISE, secret=True),
    O("acl.msp_disable_bootstrap", "bool", False, "Managed tokens.", unused=ENTERPRISE),
    O("acl.tokens.master", "string", "", "Old spelling.", old="acl.tokens.initial_management", quiet=True,
      secret=True),
    O("acl.tokens.agent_master", "string", "", "Old spelling.", old="acl.tokens.agent_recovery", quiet=True,
      secret=True),
    O("acl_token", "string", "", "Old spelling.", old="acl.tokens.default", secret=True),
    O("acl_agent_token", "string", "", "Old spelling.", old="acl.tokens.agent", secret=True),
    O("acl_agent_master_token", "string", "", "Old spelling.", old="acl.tokens.agent_recovery", secret=True),
    O("acl_master_token", "string", "", "Old spelling.", old="acl.tokens.initial_management", secret=True),
    O("acl_replication_token", "string", "", "Old spelling.", old="acl.tokens.replication", secret=True),
    O("acl_datacenter", "string", "", "Old spelling.", old="primary_datacenter"),
    O("acl_default_policy", "string", "", "Old spelling.", old="acl.default_policy"),
    O("acl_down_policy", "string", "", "Old spelling.", old="acl.down_policy"),
    O("acl_ttl", "duration", 0, "Old spelling.", old="acl.token_ttl"),
    O("acl_enable_key_list_policy", "bool", False, "Old spelling.", old="acl.enable_key_list_policy"),
    O("enable_acl_replication", "bool", False, "Old spelling.", old="acl.enable_token_replication"),
    O("acl_enforce_version_8", "bool", True, "Removed.", unused="it is always on"),
    O("acl.disabled_ttl", "string", "", "Removed.", unused=FIXED),
    O("acl_disabled_ttl", "string", "", "Removed.", old="acl.disabled_ttl", quiet=True),
]

_TLS = [
    ("ca_file", "string", "", "File of authorities."),
    ("ca_path", "string", "", "Directory of authorities."),
    ("cert_file", "string", "", "Certificate."),
    ("key_file", "string", "", "Key of the certificate."),
    ("tls_min_version", "string", "TLSv1_2", "Lowest version: TLSv1_0 to TLSv1_3."),
    ("tls_cipher_suites", "string", "", "Cipher suites, divided by commas."),
    ("verify_incoming", "bool", False, "Ask callers for a certificate."),
    ("verify_outgoing", "bool", False, "Call with TLS only."),
    ("verify_server_hostname", "bool", False, "Ask servers for a server's certificate."),
]


def _tls(where: str, without: str = "") -> list[O]:
    inherits = where != "defaults"
    return [
        O(f"tls.{where}.{name}", kind, None if inherits else default, f"{help} ({where})", reload=True,
      since="1.21")
        for name, kind, default, help in _TLS
        if name not in without.split()
    ]


TLS = [
    *_tls("defaults"),
    *_tls("internal_rpc"),
    *_tls("https", without="verify_server_hostname"),
    *_tls("grpc", without="verify_server_hostname verify_outgoing"),
    O("tls.grpc.use_auto_cert", "bool", False, "Certificates of the mesh.", since="1.21", unused=MESH),
    O("ca_file", "string", "", "Flat spelling.", old="tls.defaults.ca_file", quiet=True, reload=True),
    O("ca_path", "string", "", "Flat spelling.", old="tls.defaults.ca_path", quiet=True, reload=True),
    O("cert_file", "string", "", "Flat spelling.", old="tls.defaults.cert_file", quiet=True, reload=True),
    O("key_file", "string", "", "Flat spelling.", old="tls.defaults.key_file", quiet=True, reload=True),
    O("tls_min_version", "string", "", "Flat spelling.", old="tls.defaults.tls_min_version", quiet=True,
      reload=True),
    O("tls_cipher_suites", "string", "", "Flat spelling.", old="tls.defaults.tls_cipher_suites", quiet=True,
      reload=True),
    O("verify_incoming", "bool", False, "Flat spelling.", old="tls.defaults.verify_incoming", quiet=True,
      reload=True),
    O("verify_incoming_rpc", "bool", False, "Flat spelling.", old="tls.internal_rpc.verify_incoming",
      quiet=True,
      reload=True),
    O("verify_incoming_https", "bool", False, "Flat spelling.", old="tls.https.verify_incoming", quiet=True,
      reload=True),
    O("verify_outgoing", "bool", False, "Flat spelling.", old="tls.defaults.verify_outgoing", quiet=True,
      reload=True),
    O("verify_server_hostname", "bool", False, "Flat spelling.",
      old="tls.internal_rpc.verify_server_hostname",
      quiet=True, reload=True),
    O("tls_prefer_server_cipher_suites", "bool", False, "Removed.",
      unused="the server's order is always taken"),
    O("server_name", "string", None, "Name in this agent's certificates (default: the node name)."),
    O("auto_encrypt.tls", "bool", False, "Get the client's certificate from the servers.", unused=NOT_YET),
    O("auto_encrypt.allow_tls", "bool", False, "Give certificates to clients.", unused=NOT_YET),
    O("auto_encrypt.dns_san", "strings", [], "Names in the client's certificate."),
    O("auto_encrypt.ip_san", "strings", [], "Addresses in the client's certificate."),
    O("auto_config.enabled", "bool", False, "Get the configuration from the servers.", unused=MESH),
    O("auto_config.intro_token", "string", "", "Introduction.", unused=MESH, secret=True),
    O("auto_config.intro_token_file", "string", "", "Introduction.", unused=MESH),
    O("auto_config.server_addresses", "strings", [], "Servers.", unused=MESH),
    O("auto_config.dns_sans", "strings", [], "Names.", unused=MESH),
    O("auto_config.ip_sans", "strings", [], "Addresses.", unused=MESH),
    O("auto_config.authorization", "any", None, "Who may be introduced.", unused=MESH, secret=True),
    O("connect.enabled", "bool", False, "Certificate authority of the mesh.", dev=True),
    O("connect.ca_provider", "string", "consul", "Kind of certificate authority."),
    O("connect.ca_config", "opaque", {}, "Options of the certificate authority.", secret=True),
    O("connect.enable_mesh_gateway_wan_federation", "bool", False, "Federation through gateways.",
      unused=MESH),
    O("connect.test_ca_leaf_root_change_spread", "string", "", "For tests of Consul.", unused=MESH),
    O("connect.enable_serverless_plugin", "bool", False, "Serverless.", since="1.21", unused=MESH),
    O("connect.default_deregister_critical_service_after", "duration", 0, "Default.", since="1.21",
      unused=MESH),
]

LOGGING = [
    O("log_level", "string", "INFO", "TRACE, DEBUG, INFO, WARN or ERR.", "log-level", dev="DEBUG",
      reload=True),
    O("log_json", "bool", False, "Write the log as JSON.", "log-json"),
    O("log_file", "string", "", "File of the log; a directory when it ends with a slash.", "log-file"),
    O("log_rotate_bytes", "int", 0, "Size after which a new log file is begun.", "log-rotate-bytes"),
    O("log_rotate_duration", "duration", 24 * HOUR, "Time after which a new log file is begun.",
      "log-rotate-duration"),
    O("log_rotate_max_files", "int", 0, "Old log files to keep; 0 is all.", "log-rotate-max-files"),
    O("enable_syslog", "bool", False, "Write to syslog too.", "syslog"),
    O("syslog_facility", "string", "LOCAL0", "Facility in syslog."),
]

_CIRCONUS = (
    "api_app api_token api_url broker_id broker_select_tag check_display_name check_force_metric_activation "
    "check_id check_instance_id check_search_tag check_tags submission_interval submission_url"
)

TELEMETRY = [
    O("telemetry.statsd_address", "string", "", "Address of statsd."),
    O("telemetry.statsite_address", "string", "", "Address of statsite."),
    O("telemetry.dogstatsd_addr", "string", "", "Address of DogStatsD."),
    O("telemetry.dogstatsd_tags", "strings", [], "Tags for DogStatsD."),
    O("telemetry.prometheus_retention_time", "duration", 0,
      "How long metrics are kept for Prometheus; 0 is off."),
    O("telemetry.metrics_prefix", "string", "consul", "First part of the names of metrics."),
    O("telemetry.disable_hostname", "bool", False, "Leave the host name out of the names of gauges."),
    O("telemetry.prefix_filter", "strings", [], "Names to let pass, `+prefix`, or to drop, `-prefix`.",
      reload=True),
    O("telemetry.filter_default", "bool", True, "Let names pass that no filter matches."),
    O("telemetry.enable_host_metrics", "bool", False, "Metrics of the host.", since="1.21"),
    O("telemetry.disable_per_tenancy_usage_metrics", "bool", False, "Fewer metrics.", since="1.21",
      unused=ENTERPRISE),
    O("telemetry.retry_failed_connection", "bool", True, "Go on when a sink cannot be reached.",
      since="1.21"),
    O("telemetry.disable_compat_1.9", "bool", False, "Leave out old names of metrics.",
      unused="no old names are kept"),
    *(
        O(f"telemetry.circonus_{name}", "string", "", "Circonus.", unused="Circonus is not supported",
      secret=True)
        for name in _CIRCONUS.split()
    ),
]

VARIOUS = [
    O("auto_reload_config", "bool", False, "Reload when a configuration file changes.", "auto-reload-config",
      since="1.21"),
    O("config_entries.bootstrap", "opaques", [], "Entries that a new leader writes once."),
    O("disable_update_check", "bool", False, "Do not ask for new versions; ctl never does."),
    O("disable_anonymous_signature", "bool", False, "Do not sign that question.", dev=True),
    O("peering.enabled", "bool", True, "Cluster peering.", since="1.21", unused=PEERING),
    O("xds.update_max_per_second", "float", 250.0, "Mesh updates.", since="1.21", unused=MESH),
    O("primary_gateways", "strings", [], "Gateways of the primary datacenter.", "primary-gateway",
      unused=MESH),
    O("primary_gateways_interval", "duration", 30 * SECOND, "Time between tries.", unused=MESH),
    O("segment", "string", "", "Network segment.", "segment", unused=ENTERPRISE),
    O("segments", "any", None, "Network segments.", unused=ENTERPRISE),
    O("partition", "string", "", "Admin partition.", "partition", since="1.21", unused=ENTERPRISE),
    O("audit.enabled", "bool", False, "Write a line for each request to the API."),
    O("audit.sink", "any", None, "Files for them: path, mode, rotate_bytes, rotate_duration, ..."),
    O("audit.rpc_enabled", "bool", False, "Audit RPC.", since="1.21", unused="only the HTTP API is audited"),
    O("license_path", "string", "", "Licence.", "license-path", since="1.21", unused=ENTERPRISE),
    O("cloud", "any", None, "Vendor cloud.", since="1.21", unused=CLOUD, secret=True),
    O("experiments", "strings", [], "Experiments.", since="1.21", unused="there are none"),
    O("reporting", "any", None, "Reports to the vendor.", since="1.21", unused=CLOUD),
    O("snapshot_agent", "any", None, "The agent for snapshots.", unused=ENTERPRISE),
    # Consul decodes these of its own, and lets nobody set them, or nobody should.
    O("ae_interval", "string", "", "Time between syncs.", unused=FIXED),
    O("check_deregister_interval_min", "string", "", "Least time to deregister after.", unused=FIXED),
    O("check_reap_interval", "string", "", "Time between looks for them.", unused=FIXED),
    O("segment_limit", "int", 0, "Most network segments.", unused=ENTERPRISE),
    O("segment_name_limit", "int", 0, "Longest name of one.", unused=ENTERPRISE),
    O("sync_coordinate_interval_min", "string", "", "Least time between coordinates.", unused=FIXED),
    O("sync_coordinate_rate_target", "float", 0.0, "Coordinates each second.", unused=FIXED),
    O("revision", "string", "", "Of the program.", unused=FIXED),
    O("version", "string", "", "Of the program.", unused=FIXED),
    O("version_prerelease", "string", "", "Of the program.", unused=FIXED),
    O("consul", "any", None, "Timing for tests of Consul.", unused=FIXED),
]

OPTIONS: list[O] = [
    *IDENTITY, *ADDRESSES, *JOINING, *GOSSIP, *RAFT, *HTTP, *DNS, *CHECKS, *ACL, *TLS, *LOGGING, *TELEMETRY,
    *VARIOUS,
]

# fmt: on

BY_KEY: dict[str, O] = {option.key: option for option in OPTIONS}

ALIASES = {"non_voting_server": "read_replica"}

# Flags that are no option: name, type, help.
COMMAND_FLAGS = [
    ("dev", "bool", "Start a server on this machine only, with all state in memory."),
    ("config-file", "strings", "File to read configuration from; may be repeated."),
    ("config-dir", "strings", "Directory to read configuration files from; may be repeated."),
    ("config-format", "string", "Format of all files, whatever their names: hcl, json, toml or yaml."),
    ("hcl", "strings", "A piece of configuration in HCL; may be repeated."),
]

# Old names of flags.
FLAG_ALIASES = {"non-voting-server": "read-replica"}
