"""`ctl doctor`: the agent's machine (clock, disk, address) and the cluster (leader, peers, versions)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from cli import doctorprobe
from cli.client import Client, TransportError, error_text
from cli.doctorfacts import ALIVE, FAIL, LEFT, OK, SKIP, WARN, Facts, Finding, fetch
from cli.members import STATES

SKEW = 2.0  # seconds; a Date header tells whole ones
SYNCS = 20
SLOW_SYNC, LONG_SYNC, DEADLY_SYNC = 0.020, 0.100, 0.500  # seconds; the leader's lease is half a second
_ANSWER_WAIT = 1.0


def check_leader(facts: Facts) -> Iterator[Finding]:
    """Whether the cluster can take writes."""
    leader, problem = fetch(facts, "/v1/status/leader")
    if leader:
        name = next((s.name for s in facts.servers if leader == _target(s.address, s.port)), "")
        yield Finding(OK, "leader", f"{name or 'a server'} ({leader}) leads")
        return
    servers = [server for server in facts.servers if server.status != LEFT]
    if not servers:
        yield Finding(FAIL, "leader", "this agent knows no server, so no leader", "see `rpc` below")
        return
    if problem and "No cluster leader" not in problem:
        yield Finding(FAIL, "leader", f"the servers cannot be asked: {problem}", "see `rpc` below")
        return
    alive = sum(server.status == ALIVE for server in servers)
    text = f"there is no leader; gossip calls {alive} of {len(servers)} servers alive"
    fix = (
        f"{len(servers) // 2 + 1} must be, and reach each other (`rpc` below): start the others again. "
        "When they are gone for good: `ctl operator raft recover`. At a first start: does "
        "bootstrap_expect match the number of servers?"
    )
    yield Finding(FAIL, "leader", text, fix)


def _target(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def check_peers(facts: Facts) -> Iterator[Finding]:
    """The servers that Raft counts beside those that gossip knows."""
    answer, problem = fetch(facts, "/v1/operator/raft/configuration", ("stale", ""))
    if answer is None:
        yield Finding(SKIP, "raft peers", f"they cannot be had: {problem}")
        return
    peers = answer["Servers"] or []
    members = {server.id: server for server in facts.servers}
    voters = [peer for peer in peers if peer["Voter"]]
    alive = [peer for peer in voters if peer["ID"] in members and members[peer["ID"]].status == ALIVE]
    quorum = len(voters) // 2 + 1
    for peer in peers:
        server = members.get(peer["ID"])
        state = STATES[server.status] if server else "no member"
        if server is None or server.status != ALIVE:
            fix = (
                f"start it again; when it is gone for good: `ctl operator raft remove-peer -id={peer['ID']}`"
            )
            status = FAIL if len(alive) < quorum else WARN
            text = f"Raft counts {peer['Node']} ({peer['Address']}), which gossip calls {state}"
            yield Finding(status, "raft peers", text, fix)
    known = {peer["ID"] for peer in peers}
    for server in facts.servers:
        if server.status == ALIVE and server.id not in known:
            text = f"{server.name} is an alive server that Raft does not count"
            fix = "the leader adds it within seconds; if not, its log and the leader's say why"
            yield Finding(WARN, "raft peers", text, fix)
    if len(alive) == len(voters):
        spare = len(voters) - quorum
        text = f"{len(voters)} voter{'s' * (len(voters) != 1)}, all alive; {spare or 'none'} may fail"
        fix = "" if spare else "three servers bear the loss of one"
        yield Finding(OK if spare else WARN, "raft peers", text, fix)


def check_versions(facts: Facts) -> Iterator[Finding]:
    """Whether all members run the same version."""
    builds: dict[str, list[str]] = {}
    for member in facts.members:
        if member["Status"] == ALIVE:
            build = member["Tags"].get("build", "").partition(":")[0] or "unknown"
            builds.setdefault(build, []).append(member["Name"])
    if len(builds) > 1:
        text = "; ".join(f"{build}: {', '.join(sorted(names))}" for build, names in sorted(builds.items()))
        yield Finding(WARN, "versions", f"members differ: {text}", "end the upgrade, servers first")
    else:
        yield Finding(OK, "versions", f"all members that are alive say {next(iter(builds), 'nothing')}")


def check_clock(facts: Facts) -> Iterator[Finding]:
    """This machine's clock against the agents' whose HTTP API can be reached from here."""
    yield _clock(facts.node, facts.date, facts.date_seen)
    place = facts.call.client.place
    if place.unix or place.tls:
        return  # where the others listen cannot be guessed from that
    for member in facts.members:
        if member["Status"] == ALIVE and member["Name"] != facts.node:
            client = Client({"http-addr": f"http://{_target(member['Addr'], place.port)}"}, {})
            client.deadline = time.monotonic() + _ANSWER_WAIT
            try:
                date = client.get("/v1/status/leader").headers.get("date", "")
            except TransportError:
                continue  # most listen on their loopback address only
            finally:
                client.close()
            yield _clock(member["Name"], date, time.time())


def _clock(name: str, date: str, seen: float) -> Finding:
    try:
        there = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Finding(SKIP, "clock", f"{name} does not tell its time")
    skew = there + 0.5 - seen  # the header cuts fractions off
    if abs(skew) <= SKEW:
        return Finding(OK, "clock", f"{name} and this machine agree")
    way = "ahead of" if skew > 0 else "behind"
    fix = "run a time service on both; certificates and logs go by the clock"
    return Finding(WARN, "clock", f"{name} is {abs(skew):.0f} s {way} this machine", fix)


def check_address(facts: Facts) -> Iterator[Finding]:
    """Whether what the agent tells others as its address leads to it."""
    own = facts.own
    if own is None:
        yield Finding(FAIL, "address", f"{facts.node} is not among its own members", "look at its log")
        return
    address = own["Addr"]
    where = _target(address, own["Port"])
    far = [m["Name"] for m in facts.members if not m["Addr"].startswith("127.") and m["Addr"] != "::1"]
    if far and (address.startswith("127.") or address == "::1"):
        text = f"it advertises {address}, which is no address for {', '.join(sorted(far)[:3])}"
        yield Finding(FAIL, "address", text, "set advertise_addr to an address that the others can reach")
        return
    problem = doctorprobe.tcp(address, own["Port"])
    if problem:
        text = f"the advertised address {where} does not lead to the agent: {problem}"
        yield Finding(FAIL, "address", text, "set bind_addr and advertise_addr; open the port")
    elif facts.local and not doctorprobe.can_bind(address):
        text = f"the advertised address {where} answers, but is not one of this machine (NAT?)"
        yield Finding(WARN, "address", text, "fine when the router maps the same ports, TCP and UDP")
    else:
        yield Finding(OK, "address", f"the advertised address {where} leads to the agent")


def check_disk(facts: Facts) -> Iterator[Finding]:
    """How long the disk of the data directory takes to make bytes last: each write waits for that."""
    folder = facts.settings.get("DataDir") or ""
    if facts.settings.get("DevMode") or not folder:
        yield Finding(SKIP, "disk", "the agent keeps nothing on disk")
        return
    if not facts.local:
        yield Finding(SKIP, "disk", "the agent runs elsewhere")
        return
    try:
        times = measure_syncs(folder)
    except OSError as error:
        yield Finding(SKIP, "disk", f"{folder}: {error_text(error)}")
        return
    median, worst = statistics.median(times), max(times)
    text = f"{folder}: fsync takes {median * 1000:.1f} ms, at worst {worst * 1000:.1f} ms"
    if not facts.is_server or (median < SLOW_SYNC and worst < LONG_SYNC):
        yield Finding(OK, "disk", text)
    elif median >= SLOW_SYNC and worst < DEADLY_SYNC:
        yield Finding(
            WARN, "disk", f"{text}; every write waits for it", "use a faster disk, or one of its own"
        )
    elif worst < DEADLY_SYNC:
        yield Finding(WARN, "disk", f"{text}; some writes wait for it", "see who else writes there")
    else:
        fix = "use a faster disk; a leader that cannot write in time steps down"
        yield Finding(FAIL, "disk", f"{text}; that is longer than a leader's lease", fix)


def measure_syncs(folder: str) -> list[float]:
    """Seconds of each of some appends that are made to last. OSError."""
    path = os.path.join(folder, f".doctor-{os.getpid()}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    times = []
    try:
        for _ in range(SYNCS):
            start = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        os.unlink(path)
    return times
