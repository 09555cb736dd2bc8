"""The agents of `ctl dev cluster`: processes of their own on loopback addresses, watched and ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.client import Client, TransportError
from cli.command import Failure

PORTS = (8300, 8301, 8302, 8500, 8600)
LEAVE_WAIT = 6.0  # seconds for client agents to say goodbye
STOP_WAIT = 10.0
_ANSWER_WAIT = 1.0
_PR_SET_PDEATHSIG = 1
ALIVE = 1  # core/gossip/member.py


class DevAgent:
    """One agent: where it is, and its process once it runs."""

    def __init__(self, name: str, address: str, folder: Path, *, server: bool) -> None:
        self.name, self.address, self.folder, self.server = name, address, folder, server
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        return f"http://{self.address}:8500"

    @property
    def socket(self) -> str:
        return f"unix://{self.folder}/ctl/ctl.sock"

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def start(self, flags: list[str]) -> None:
        """Start the process. It gets a TERM of its own when this one dies, however that happens."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = [sys.executable, "-m", "cli", "agent", "start", "-node", self.name, "-bind", self.address]
        words += ["-client", self.address, "-data-dir", str(self.folder / "data"), *flags]
        package = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "PYTHONPATH": path}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),
            )

    def ask(self, path: str) -> Any:
        """A decoded answer, None while there is none."""
        client = Client({"http-addr": self.http}, {})
        client.deadline = time.monotonic() + _ANSWER_WAIT
        try:
            return client.get(path).checked().json()
        except TransportError:
            return None
        finally:
            client.close()

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def wait(self, deadline: float) -> bool:
        """Whether it has ended by then."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes an agent, where the system can (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return prepare


class DevCluster:
    """All agents. `folder` holds one folder for each, with its data, its log and its socket."""

    def __init__(self, folder: Path, servers: int, clients: int, flags: list[str]) -> None:
        self.folder = folder
        self.flags = flags
        count = servers + clients
        network = _network(folder, servers, count)
        first_client = 10 * (servers // 10 + 1) + 1
        self.servers = [
            DevAgent(f"s{n}", f"{network}.{n}", folder / f"s{n}", server=True) for n in range(1, servers + 1)
        ]
        self.clients = [
            DevAgent(f"c{n + 1}", f"{network}.{first_client + n}", folder / f"c{n + 1}", server=False)
            for n in range(clients)
        ]

    @property
    def agents(self) -> list[DevAgent]:
        return self.servers + self.clients

    def start(self) -> None:
        """Start all. Failure when a process cannot be made."""
        joins = [flag for server in self.servers for flag in ("-retry-join", server.address)]
        expect = ["-server", "-bootstrap-expect", str(len(self.servers))]
        try:
            for agent in self.agents:
                agent.start([*(expect if agent.server else ["-server=false"]), *joins, *self.flags])
        except OSError as error:
            raise Failure(f"Error: cannot start an agent: {error}") from None

    def dead(self) -> DevAgent | None:
        """An agent that has ended although nobody asked it to."""
        return next((a for a in self.agents if a.process is not None and a.process.poll() is not None), None)

    def members(self) -> list[dict[str, Any]]:
        """The members as the first agent that answers sees them."""
        for agent in self.agents:
            found = agent.ask("/v1/agent/members")
            if found is not None:
                return list(found)
        return []

    def leader(self) -> str:
        """RPC address of the leader, `` while there is none."""
        for agent in self.servers:
            found = agent.ask("/v1/status/leader")
            if found:
                return str(found)
        return ""

    def lacking(self) -> str:
        """What is missing until every agent sees all members alive and a leader, and the catalog has every
        node; `` when nothing is."""
        names = {agent.name for agent in self.agents}
        for agent in self.agents:
            members = agent.ask("/v1/agent/members")
            if members is None:
                return f"{agent.name} does not answer"
            unseen = names - {member["Name"] for member in members if member["Status"] == ALIVE}
            if unseen:
                return f"{agent.name} does not see {', '.join(sorted(unseen))} alive"
            if not agent.ask("/v1/status/leader"):
                return f"{agent.name} knows no leader"
        last = self.agents[-1]
        unknown = names - {node["Node"] for node in last.ask("/v1/catalog/nodes") or ()}
        return f"the catalog lacks {', '.join(sorted(unknown))}, says {last.name}" if unknown else ""

    def stop(self) -> None:
        """Client agents leave, then the servers end; whoever does not is killed."""
        for agents, wait in ((self.clients, LEAVE_WAIT), (self.servers, STOP_WAIT)):
            deadline = time.monotonic() + wait
            for agent in agents:
                agent.signal(signal.SIGTERM)
            for agent in agents:
                if not agent.wait(deadline):
                    agent.signal(signal.SIGKILL)
                    agent.wait(time.monotonic() + STOP_WAIT)


def _network(folder: Path, servers: int, count: int) -> str:
    """The first three numbers of the addresses: those of the last time, or a free range."""
    kept = folder / "cluster.json"
    if kept.exists():
        try:
            return str(json.loads(kept.read_text())["Network"])
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(f"Error: {kept} is damaged ({error}); remove it to get new addresses") from None
    chance = random.SystemRandom()
    last = 10 * (servers // 10 + 1) + count + 1
    if last > 254:
        raise Failure("Error: so many agents do not fit into one range of addresses")
    for _ in range(100):
        network = f"127.{chance.randint(1, 254)}.{chance.randint(0, 254)}"
        if all(_is_free(f"{network}.{host}", port) for host in (1, last) for port in PORTS):
            kept.write_text(json.dumps({"Network": network}) + "\n")
            return network
    raise Failure("Error: no loopback addresses are free: is 127.0.0.0/8 there? (macOS has 127.0.0.1 alone)")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
