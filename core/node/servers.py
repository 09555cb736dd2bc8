"""What a member's tags say about it: server or client of which datacenter (protocols/gossip.md 9.2)."""

from __future__ import annotations

import re

from msgspec import Struct

from core.gossip.member import ALIVE, Member

_BUILD = re.compile(r"\d+\.\d+\.\d+")


class ServerFacts(Struct, frozen=True):
    """A server as gossip shows it. `address` is where RPC and Raft are reached, `host:port` by `target`."""

    id: str
    name: str  # of the node, without the datacenter that WAN names carry
    datacenter: str
    address: str
    port: int  # RPC
    status: int  # core.gossip.member
    expect: int = 0
    bootstrap: bool = False
    version: str = ""
    raft_version: int = 3
    wan_join_port: int = 0
    use_tls: bool = False
    nonvoter: bool = False
    acls: int = 0

    @property
    def target(self) -> str:
        """`ip:port` as Raft and Consul's API write it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def alive(self) -> bool:
        return self.status == ALIVE


def server_facts(member: Member) -> ServerFacts | None:
    """What a server's tags say; None when the member is no server or says nonsense."""
    tags = member.tags
    if tags.get("role") != "consul":
        return None
    build = _BUILD.search(tags.get("build", ""))
    try:
        port, _ = int(tags["port"]), int(tags["vsn"])
        expect = int(tags.get("expect", "0"))
        raft_version = int(tags.get("raft_vsn", "3"))
        wan_join_port = int(tags.get("wan_join_port", "0"))
        acls = int(tags.get("acls", "0"))
    except (KeyError, ValueError):
        return None
    if build is None or not 0 < port < 65536:
        return None
    datacenter = tags.get("dc", "")
    return ServerFacts(
        id=tags.get("id", ""),
        name=member.name.removesuffix(f".{datacenter}") if datacenter else member.name,
        datacenter=datacenter,
        address=member.address,
        port=port,
        status=member.status,
        expect=expect,
        bootstrap=tags.get("bootstrap") == "1",
        version=build[0],
        raft_version=raft_version,
        wan_join_port=wan_join_port,
        use_tls=tags.get("use_tls") == "1",
        nonvoter="nonvoter" in tags or "read_replica" in tags,
        acls=acls,
    )


def is_client(member: Member) -> bool:
    """Whether the member is a client agent that the catalog should know."""
    return member.tags.get("role") == "node"
