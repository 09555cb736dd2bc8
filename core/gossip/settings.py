"""How gossip waits, spreads and forgets (protocols/gossip.md 4.12 and 7.4). Times in seconds."""

from __future__ import annotations

from msgspec import Struct

ALONE = 5  # times longer between two looks while there is nobody to probe or to tell
META_LIMIT = 512  # bytes of a node's meta (its tags)
NAME_LIMIT = 512  # bytes of a node's name: with its meta it still fits into a packet


class GossipSettings(Struct, frozen=True, kw_only=True):
    """One pool's constants. The defaults are the LAN profile with Serf's and Consul's values; a changed copy
    comes from `msgspec.structs.replace`."""

    # --- memberlist (4.12)
    stream_timeout: float = 10.0  # TCPTimeout: for each read, write and connection
    indirect_checks: int = 3
    retransmit_mult: int = 4
    suspicion_mult: int = 4
    suspicion_max_timeout_mult: int = 6
    push_pull_interval: float = 30.0  # 0: never
    probe_timeout: float = 0.5
    probe_interval: float = 1.0  # 0: never
    awareness_max_multiplier: int = 8
    gossip_nodes: int = 3
    gossip_interval: float = 0.2
    gossip_to_the_dead: float = 30.0
    dead_node_reclaim: float = 30.0  # 0: never; Consul's value, Serf's is 0
    packet_size: int = 1400  # UDPBufferSize: what a packet is filled up to
    tcp_pings: bool = True
    allowed_networks: tuple[str, ...] = ()  # CIDRs whose members are let in; empty: all
    label: bytes = b""
    verify_incoming: bool = True  # refuse plaintext when there is a keyring
    verify_outgoing: bool = True  # encrypt when there is a keyring
    vsn: tuple[int, int, int, int, int, int] = (1, 5, 2, 2, 5, 4)  # protocol, delegate: min, max, current

    # --- Serf (7.4)
    broadcast_timeout: float = 5.0
    leave_propagate_delay: float = 3.0
    reap_interval: float = 15.0
    reconnect_interval: float = 30.0
    reconnect_timeout: float = 72 * 3600.0
    tombstone_timeout: float = 24 * 3600.0
    recent_intent_timeout: float = 300.0
    event_buffer: int = 512
    query_buffer: int = 512
    query_timeout_mult: int = 16
    query_size_limit: int = 1024
    query_response_size_limit: int = 1024
    user_event_size_limit: int = 512
    queue_check_interval: float = 30.0
    min_queue_depth: int = 4096
    resolve_conflicts: bool = False  # ask everyone who owns a disputed name; Serf's agent does, Consul not
    coordinates: bool = True


LAN = GossipSettings()

WAN = GossipSettings(
    stream_timeout=30.0,
    suspicion_mult=6,
    push_pull_interval=60.0,
    probe_timeout=3.0,
    probe_interval=5.0,
    gossip_nodes=3,  # memberlist says 4, Consul's configuration 3 (9.1)
    gossip_interval=0.5,
    gossip_to_the_dead=60.0,
)

LOCAL = GossipSettings(
    stream_timeout=1.0,
    indirect_checks=1,
    retransmit_mult=2,
    suspicion_mult=3,
    push_pull_interval=15.0,
    probe_timeout=0.2,
    gossip_interval=0.1,
    gossip_to_the_dead=15.0,
)
