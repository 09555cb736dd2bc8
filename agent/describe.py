"""What the agent says of itself: `/v1/agent/self`, its member entry, its statistics, its banner."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from core.version import CONSUL_VERSION, VERSION

if TYPE_CHECKING:
    from agent.agent import Agent
    from core.gossip.member import Member
    from core.store.structs import Coord

# As Go names machines.
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}


def tags(agent: Agent, wan: bool = False) -> dict[str, str]:
    """The gossip tags (protocols/gossip.md 9.2 and 9.3): clients of the API read them too."""
    config = agent.config
    found = {
        "acls": "1" if agent.acl.enabled else "0",
        "build": f"{CONSUL_VERSION}:",
        "dc": agent.datacenter,
        "id": agent.node_id,
        "segment": "",
        "vsn": "2",
        "vsn_max": "3",
        "vsn_min": "2",
    }
    if not config["server"]:
        return {**found, "role": "node"}
    found |= {
        "ft_fs": "1",
        "ft_si": "1",
        "port": str(config["ports.server"]),
        "raft_vsn": "3",
        "role": "consul",
    }
    if not wan and config["ports.serf_wan"] > 0:
        found["wan_join_port"] = str(config["ports.serf_wan"])
    if agent.tls is not None and agent.tls.outgoing(agent.datacenter) is not None:
        found["use_tls"] = "1"
    if config["bootstrap"] or config.dev:
        found["bootstrap"] = "1"
    elif config["bootstrap_expect"]:
        found["expect"] = str(config["bootstrap_expect"])
    return found


def member(one: Member, rpc: str = "") -> dict[str, Any]:
    """An entry of the member list; `rpc` says what is wrong with calls of this agent to that server."""
    ours = {"Ctl": {"RPC": rpc}} if rpc else {}
    return {
        "Name": one.name,
        "Addr": one.address,
        "Port": one.port,
        "Tags": dict(sorted(one.tags.items())),
        "Status": one.status,
        "ProtocolMin": one.protocol[0],
        "ProtocolMax": one.protocol[1],
        "ProtocolCur": one.protocol[2],
        "DelegateMin": one.delegate[0],
        "DelegateMax": one.delegate[1],
        "DelegateCur": one.delegate[2],
        **ours,
    }


def _own(agent: Agent) -> dict[str, Any]:
    """This agent's entry in the member list."""
    for one in agent.cluster.lan.members():
        if one.name == agent.node_name:
            return member(one)
    return {}


def stats(agent: Agent) -> dict[str, dict[str, str]]:
    """`consul info`: every value is text."""
    server = agent.config["server"]
    consul = {"acl": "enabled" if agent.acl.enabled else "disabled", "server": "true" if server else "false"}
    found = {
        "agent": agent.local.counts(),
        "build": {"prerelease": "", "revision": "", "version": CONSUL_VERSION},
        "consul": consul,
        "ctl": {"version": VERSION, "http_connections": str(agent.http.connections)},
        "runtime": {
            "arch": _GO_ARCHITECTURES.get(platform.machine(), platform.machine()),
            "cpu_count": str(os.cpu_count() or 1),
            "goroutines": str(len(asyncio.all_tasks())),
            "max_procs": str(
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            ),
            "os": sys.platform,
            "version": f"python{platform.python_version()}",
        },
        "serf_lan": agent.cluster.lan.stats(),
    }
    if server:
        consul |= {
            "bootstrap": "true" if agent.config["bootstrap"] or agent.config.dev else "false",
            "known_datacenters": str(len(agent.known_datacenters())),
            "leader": "true" if agent.is_leader else "false",
            "leader_addr": agent.leader_address(),
        }
        found["raft"] = agent.raft_stats()
        if agent.cluster.wan is not None:
            found["serf_wan"] = agent.cluster.wan.stats()
    else:
        consul["known_servers"] = str(len(agent.calls.servers))
    return found


def about(agent: Agent) -> dict[str, Any]:
    """`GET /v1/agent/self`."""
    config = agent.config
    return {
        "Config": {
            "Datacenter": agent.datacenter,
            "NodeName": agent.node_name,
            "NodeID": agent.node_id,
            "Revision": "",
            "Server": config["server"],
            "Version": CONSUL_VERSION,
        },
        "DebugConfig": config.to_debug(),
        "Coord": _coordinate(agent.cluster.lan.coordinate()),
        "Member": _own(agent),
        "Stats": stats(agent),
        "Meta": {**config["node_meta"], "consul-network-segment": ""},
        "Ctl": {"Version": VERSION},
    }


def _coordinate(coord: Coord) -> dict[str, Any]:
    return {
        "Vec": coord.vec,
        "Error": coord.error,
        "Adjustment": coord.adjustment,
        "Height": coord.height,
    }


def banner(agent: Agent) -> str:
    """What stands above the log when the agent starts."""
    config, addresses = agent.config, agent.addresses
    bootstrap = "true" if config["bootstrap"] or config.dev else "false"
    rows = (
        ("Version", f"'{CONSUL_VERSION}' (ctl {VERSION})"),
        ("Node ID", f"'{agent.node_id}'"),
        ("Node name", f"'{agent.node_name}'"),
        ("Datacenter", f"'{agent.datacenter}' (Segment: '{'<all>' if config['server'] else ''}')"),
        ("Server", f"{'true' if config['server'] else 'false'} (Bootstrap: {bootstrap})"),
        (
            "Client Addr",
            f"[{' '.join(addresses.client)}] (HTTP: {config['ports.http']}, HTTPS: {config['ports.https']}, "
            f"gRPC: -1, DNS: {config['ports.dns']})",
        ),
        (
            "Cluster Addr",
            f"{addresses.advertise} (LAN: {config['ports.serf_lan']}, WAN: {config['ports.serf_wan']})",
        ),
    )
    lines = ["==> Starting ctl agent..."]
    lines += [f"{name:>17}: {value}" for name, value in rows]
    return "\n".join([*lines, "", "==> Log data will now stream in as it occurs:", "", ""])
