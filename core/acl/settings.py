"""What the configuration says of ACLs (block `acl`; reference/config.md section 3.9)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Default = Literal["allow", "deny"]
DownPolicy = Literal["allow", "deny", "extend-cache", "async-cache"]


class AclSettings(Struct, frozen=True):
    """The ACL options of one agent; durations in ns."""

    enabled: bool = False
    datacenter: str = "dc1"
    primary_datacenter: str = "dc1"
    default_policy: Default = "allow"
    down_policy: DownPolicy = "extend-cache"
    token_ttl: int = 30_000_000_000
    policy_ttl: int = 30_000_000_000
    role_ttl: int = 0
    key_list: bool = False  # acl.enable_key_list_policy
    initial_management: str = ""
    token_replication: bool = False
    token_persistence: bool = False
    min_expiration: int = 60_000_000_000  # how far ahead a token may expire
    max_expiration: int = 86_400_000_000_000
