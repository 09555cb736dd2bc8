"""`ctl doctor`: whether gossip gets through, by UDP and TCP, from here and back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cli import doctorprobe
from cli.doctorfacts import ALIVE, FAIL, FAILED, OK, SKIP, WARN, Facts, Finding, fetch, gossip_keys

if TYPE_CHECKING:
    from core.gossip.packet import Envelope

PARALLEL = 16


def check_gossip(facts: Facts) -> Iterator[Finding]:
    """Every member that gossip believes alive, in the order of names."""
    own = facts.own
    others = [member for member in facts.members if member["Name"] != facts.node]
    for member in others:
        if member["Status"] == FAILED:
            yield _failed(member)
    keys, problem = gossip_keys(facts) if facts.encrypted else ([], "")
    if facts.encrypted and not keys:
        yield Finding(SKIP, "gossip", f"it is encrypted and the key is not at hand: {problem}")
        return
    if not facts.local:
        yield Finding(WARN, "gossip", "the agent runs elsewhere: what follows is true for paths from here")
    seal = doctorprobe.envelope(keys)
    alive = [member for member in others if member["Status"] == ALIVE]
    with ThreadPoolExecutor(PARALLEL) as pool:
        for found in pool.map(lambda member: _member(member, own, seal), alive):
            yield from found


def _failed(member: dict[str, Any]) -> Finding:
    problem = doctorprobe.tcp(member["Addr"], member["Port"])
    where = f"{member['Name']} ({member['Addr']}:{member['Port']})"
    if problem:
        fix = f"start it again, or `ctl force-leave {member['Name']}` if it is gone for good"
        return Finding(WARN, "gossip", f"{where} is failed, and its port does not answer: {problem}", fix)
    fix = "let UDP through both ways between the two, or look whether that machine is overloaded"
    return Finding(FAIL, "gossip", f"{where} is failed although its TCP port answers", fix)


def _member(member: dict[str, Any], own: dict[str, Any] | None, seal: Envelope) -> list[Finding]:
    """One member: there by UDP, there and back by TCP, and from there to us by UDP."""
    name, address, port = member["Name"], member["Addr"], member["Port"]
    where = f"{name} ({address}:{port})"
    found = []
    udp = doctorprobe.ping(address, port, name, seal)
    stream = doctorprobe.stream_ping(address, port, name, seal)
    if isinstance(udp, float):
        found.append(Finding(OK, "gossip udp", f"{where} answers in {udp * 1000:.1f} ms"))
    else:
        fix = doctorprobe.remedy(
            udp, f"let UDP port {port} through to {address}; its keys and ours must be the same"
        )
        found.append(Finding(FAIL, "gossip udp", f"{where}: {udp}", fix))
    if isinstance(stream, float):
        found.append(Finding(OK, "gossip tcp", f"{where} answers in {stream * 1000:.1f} ms"))
    else:
        fix = doctorprobe.remedy(stream, f"let TCP port {port} through to {address}")
        found.append(Finding(FAIL, "gossip tcp", f"{where}: {stream}", fix))
    if own is not None and isinstance(udp, float):
        found.append(_back(member, own, seal))
    return found


def _back(member: dict[str, Any], own: dict[str, Any], seal: Envelope) -> Finding:
    """Has the member ping our agent: the way back that a firewall may close alone."""
    name = member["Name"]
    back = doctorprobe.ping_through(
        (member["Addr"], member["Port"]), (own["Addr"], own["Port"]), own["Name"], seal
    )
    where = f"{own['Addr']}:{own['Port']}"
    if isinstance(back, float):
        return Finding(OK, "gossip udp", f"{name} reaches this agent at {where}")
    fix = f"let UDP port {own['Port']} through from {member['Addr']} to {own['Addr']}"
    return Finding(FAIL, "gossip udp", f"{name} cannot reach this agent at {where}: {back}", fix)


def check_keys(facts: Facts) -> Iterator[Finding]:
    """Whether all members have the primary key, and the same one."""
    if not facts.encrypted:
        yield Finding(SKIP, "keys", "gossip is not encrypted (`encrypt` is not set)")
        return
    answers, problem = fetch(facts, "/v1/operator/keyring")
    if answers is None:
        yield Finding(SKIP, "keys", f"the agent cannot list keys: {problem}", "ask a server")
        return
    for answer in answers:
        yield from _pool(answer)


def _pool(answer: dict[str, Any]) -> Iterator[Finding]:
    pool = "WAN" if answer["WAN"] else "LAN"
    total = answer["NumNodes"]
    for node, text in sorted((answer.get("Messages") or {}).items()):
        yield Finding(FAIL, "keys", f"{pool}: {node}: {text}")
    primary = answer.get("PrimaryKeys") or {}
    keys = answer.get("Keys") or {}
    lacking = {key: count for key, count in keys.items() if key in primary and count < total}
    for key, count in sorted(lacking.items()):
        fix = f"`ctl keyring install {key}` gives it to the others"
        yield Finding(
            FAIL, "keys", f"{pool}: {count} of {total} members have the primary key {key[:6]}...", fix
        )
    if len(primary) > 1:
        text = f"{pool}: members encrypt with {len(primary)} different keys"
        yield Finding(WARN, "keys", text, "a change of keys stopped half-way? `ctl keyring use KEY` ends it")
    elif primary and not lacking:
        yield Finding(OK, "keys", f"{pool}: all {total} members have the primary key")
