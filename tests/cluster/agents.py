"""Agents of one cluster: started, killed, stopped, moved."""

from __future__ import annotations

import contextlib
import http.client
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.network import Network
from tests.harness import DEADLINE, Agent, Response, own_address, until


class Node(Agent):
    """One agent of a cluster. Its address may change between two starts."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        server: bool,
        config: Mapping[str, Any] | None,
        data_dir: Path | None,
    ) -> None:
        folder = cluster.folder / name
        folder.mkdir()
        super().__init__(folder, dev=False, address=cluster.new_address())
        self.cluster, self.name, self.is_server = cluster, name, server
        self.command = cluster.command
        self.data_dir = data_dir or folder / "data"
        self.config = config
        self.options: list[str] = []  # more flags, for the next start

    def start(self, wait: bool = True) -> Node:
        """Start the process; `wait` until it takes part."""
        role = (
            ["--server", "--bootstrap-expect", str(len(self.cluster.servers))]
            if self.is_server
            else ["--server=false"]
        )
        self._flags = [*role, "--node", self.name, "--data-dir", str(self.data_dir)]
        self._flags += ["--bind", self.address, "--client", self.address]
        for server in self.cluster.servers:
            self._flags += ["--retry-join", server.address]
        if self.config is not None:
            self.write_config(self.config)
            self._flags += ["--config-file", str(self.config_file)]
        self._flags += self.options
        network = self.cluster.network
        self.prefix = () if network is None else network.prefix(self.address)
        super().start(wait)
        return self

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        network: Network | None = self.cluster.network
        if network is None:
            return super().connection(timeout)
        return network.connection(self.address, self.http_port, timeout)

    @property
    def is_running(self) -> bool:
        return self.process is not None

    def answer(self, path: str, timeout: float = 2.0) -> Response | None:
        """What it says; None when it does not."""
        try:
            return self.http("GET", path, timeout=timeout)
        except (OSError, http.client.HTTPException):
            return None

    def members(self) -> dict[str, str]:
        """Status by name, as it sees the others."""
        found = self.answer("/v1/agent/members")
        return {one["Name"]: STATUS[one["Status"]] for one in found.json()} if found else {}

    def raft(self) -> dict[str, str]:
        """Its own view of Raft."""
        found = self.answer("/v1/agent/self")
        stats: dict[str, str] = found.json()["Stats"]["raft"] if found and found.status == 200 else {}
        return stats

    def wait_end(self) -> int:
        """Until it has ended by itself; the exit code."""
        return self._reap(DEADLINE)

    def sleep(self) -> None:
        """SIGSTOP: it does nothing, and its kernel keeps its connections."""
        self.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.send_signal(signal.SIGCONT)


STATUS = {0: "none", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}


class Cluster:
    """Some servers that expect each other, and client agents that join them."""

    def __init__(
        self,
        folder: Path,
        servers: int = 3,
        clients: int = 0,
        config: Mapping[str, Any] | None = None,
        network: Network | None = None,
        data_dirs: Mapping[str, Path] | None = None,
        command: Sequence[str] = Agent.command,
    ) -> None:
        self.folder = folder
        self.command = command
        self.network = network
        self.servers: list[Node] = []
        self.clients: list[Node] = []
        places = data_dirs or {}
        for number in range(1, servers + 1):
            name = f"s{number}"
            self.servers.append(Node(self, name, True, config, places.get(name)))
        for number in range(1, clients + 1):
            self.clients.append(Node(self, f"c{number}", False, config, None))

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def new_address(self) -> str:
        return own_address() if self.network is None else self.network.new_address()

    @property
    def agents(self) -> list[Node]:
        return [*self.servers, *self.clients]

    @property
    def running(self) -> list[Node]:
        return [agent for agent in self.agents if agent.is_running]

    def __getitem__(self, name: str) -> Node:
        return next(agent for agent in self.agents if agent.name == name)

    # Life

    def start(self, wait: bool = True) -> Cluster:
        """Start whoever does not run; `wait` until all take part."""
        for agent in self.agents:
            if not agent.is_running:
                agent.start(wait=False)
        if wait:
            self.settle()
        return self

    def settle(self, deadline: float = 30.0) -> Node:
        """Until all that run see each other alive, and follow one leader; gives the leader."""
        for agent in self.running:
            agent.wait_http()
        leader = self.wait_leader(deadline)
        names = {agent.name for agent in self.running}

        def all_see_all() -> bool:
            return all(
                {name for name, status in agent.members().items() if status == "alive"} == names
                for agent in self.running
            )

        until("all see all members", all_see_all, deadline)
        for agent in self.running:
            agent.wait_leader(deadline)
        until("all agents are in the catalog", lambda: names <= set(self.catalog(leader)), deadline)
        return leader

    def catalog(self, asked: Node) -> dict[str, str]:
        """Status of serfHealth by node."""
        found = asked.answer("/v1/health/state/any")
        checks = found.json() if found and found.status == 200 else []
        return {check["Node"]: check["Status"] for check in checks if check["CheckID"] == "serfHealth"}

    def end(self) -> None:
        for agent in self.agents:
            if agent.is_running:
                with contextlib.suppress(ProcessLookupError):
                    agent.wake()  # a stopped one would not end
                agent.end()
        if self.network is not None:
            self.network.close()

    # Who leads

    def leader(self) -> Node | None:
        """The server that leads with the highest term, as far as the servers that answer say."""
        found: list[tuple[int, Node]] = []
        for server in self.servers:
            if server.is_running and server not in self._asleep:
                stats = server.raft()
                if stats.get("state") == "Leader":
                    found.append((int(stats["term"]), server))
        return max(found, key=lambda one: one[0])[1] if found else None

    def wait_leader(self, deadline: float = 20.0, other_than: Node | None = None) -> Node:
        """The leader, once there is one (and it is not `other_than`) that the others follow."""

        def elected() -> Node | None:
            leader = self.leader()
            if leader is None or leader is other_than:
                return None
            return leader

        found: Node = until("there is a leader", elected, deadline)
        return found

    def followers(self) -> list[Node]:
        leader = self.wait_leader()
        return [server for server in self.servers if server.is_running and server is not leader]

    # What may happen to them

    @property
    def _asleep(self) -> list[Node]:
        return [agent for agent in self.running if _state(agent.pid) == "T"]

    def kill9(self, agents: Sequence[Node]) -> None:
        """All at once, as a power cut would."""
        for agent in agents:
            agent.send_signal(signal.SIGKILL)
        for agent in agents:
            agent.kill9()

    def move(self, agents: Sequence[Node]) -> None:
        """New addresses for agents that do not run."""
        for agent in agents:
            assert not agent.is_running
            agent.address = self.new_address()

    @contextlib.contextmanager
    def asleep(self, agent: Node, seconds: float) -> Iterator[None]:
        """It is stopped for so long at least."""
        agent.sleep()
        end = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            agent.wake()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
