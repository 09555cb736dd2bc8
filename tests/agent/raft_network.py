"""RaftServices that talk over real loopback TCP, in one process: their listeners, dialers and addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from agent.archives import Archives
from agent.dial import Dialer
from agent.raft import RaftService, RaftSettings
from agent.raft_transport import RaftTransport, configured
from agent.rpc import RAFT, SNAPSHOT, RpcLimits, RpcListener
from agent.world import World
from core.errors import NoLeader
from core.node.servers import ServerFacts
from core.raft.configuration import Configuration, Server
from core.raft.settings import Settings
from tests.agent.raft_writer_process import Numbers

FAST = Settings(
    heartbeat_timeout=0.3,
    election_timeout=0.2,
    lease_timeout=0.27,
    heartbeat_interval=0.02,
    write_timeout=0.3,
    succession_pause=0.03,
    retry_limit=0.2,
)
SETTINGS = RaftSettings(timing=FAST, trailing_logs=20, segment_size=1 << 16)
# For tests that want their leader to stay, on a machine that is busy with other tests too.
CALM = replace(SETTINGS, timing=replace(FAST, heartbeat_timeout=0.9, lease_timeout=0.85, write_timeout=2.0))


def run(test: Callable[[], Awaitable[None]], seconds: float = 20) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await test()

    asyncio.run(limited())


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this should have happened long ago"
        await asyncio.sleep(0.002)


class Host:
    """One server: its data, and the service while it runs."""

    def __init__(self, network: Network, name: str) -> None:
        self.network, self.name = network, name
        self.folder = network.folder / name if network.folder else None
        self.host = f"127.{network.subnet}.{len(network.hosts) + 1}"
        self.fsm: Any = None
        self.files: Any = None
        self.raft: RaftService = None  # type: ignore[assignment]
        self.transport: RaftTransport = None  # type: ignore[assignment]
        self.archives: Archives = None  # type: ignore[assignment]
        self.listener: RpcListener | None = None
        self.led: list[bool] = []

    @property
    def address(self) -> str:
        return f"{self.host}:{self.network.port}"

    async def start(self, **more: Any) -> None:
        network = self.network
        loop = asyncio.get_running_loop()
        self.fsm = network.make_fsm()
        dialer = Dialer(loop, None)
        self.transport = RaftTransport(dialer, network.address_of)
        self.raft = RaftService(
            self.name,
            self.address,
            self.folder,
            self.fsm,
            network.settings,
            World(network.random.getrandbits(32)),
            transport=self.transport,
            files=self.files,
            **more,
        )
        self.archives = Archives(self.raft, dialer, "dc1", self._leader, lambda: None)
        self.raft.on_leader(self.led.append)
        await self.raft.start(False)
        self.listen()

    def _leader(self, datacenter: str) -> ServerFacts:
        facts = self.network.address_of(self.raft.leader_id, "")
        if self.raft.leader_id == "" or facts is None:
            raise NoLeader()
        return facts

    def listen(self) -> None:
        self.listener = RpcListener(
            asyncio.get_running_loop(),
            self.host,
            self.network.port,
            {RAFT: self.transport.protocol, SNAPSHOT: self.archives.protocol},
            None,
            RpcLimits(max_conns_per_client=0),
        )
        self.listener.open()

    async def stop(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        await self.raft.stop()

    async def kill(self) -> None:
        """As the kernel does it: all sockets close at once."""
        await self.stop()


class Network:
    """Some hosts; gossip is a table of who lives where."""

    def __init__(
        self,
        folder: Path | None,
        names: str = "abc",
        settings: RaftSettings = SETTINGS,
        make_fsm: Callable[[], Any] = Numbers,
        seed: int = 1,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.make_fsm = make_fsm
        self.random = Random(seed)
        self.subnet = f"{Random().randrange(20, 250)}.{Random().randrange(250)}"
        self.port = Random().randrange(20000, 30000)
        self.hosts: dict[str, Host] = {}
        for name in names:
            self.hosts[name] = Host(self, name)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def address_of(self, server_id: str, address: str) -> ServerFacts | None:
        host = self.hosts.get(server_id)
        return configured(server_id, host.address if host else address, "dc1")

    def configuration(self, names: str = "") -> Configuration:
        return Configuration(tuple(Server(n, self.hosts[n].address) for n in names or self.hosts))

    @property
    def leaders(self) -> list[Host]:
        running = [host for host in self.hosts.values() if host.listener is not None]
        return [host for host in running if host.raft.is_leader]

    async def start(self, bootstrap: bool = True) -> Host:
        """Start all of them as one cluster; gives the leader."""
        for host in self.hosts.values():
            await host.start()
        if bootstrap:
            for host in self.hosts.values():
                host.raft.bootstrap(self.configuration())
        return await self.leader()

    async def leader(self) -> Host:
        """The one leader, once all running hosts agree."""

        def agreed() -> bool:
            running = [host for host in self.hosts.values() if host.listener is not None]
            ids = {host.raft.leader_id for host in running if host.raft.configuration.votes(host.name)}
            return len(self.leaders) == 1 and ids == {self.leaders[0].name}

        await until(agreed)
        return self.leaders[0]

    async def same(self) -> None:
        """Wait until all running hosts have applied the same."""
        running = [host for host in self.hosts.values() if host.listener is not None]
        await until(lambda: len({host.raft.applied_index for host in running}) == 1)

    def followers(self) -> list[Host]:
        leader = self.leaders[0]
        return [h for h in self.hosts.values() if h is not leader and h.listener is not None]

    async def stop(self) -> None:
        for host in self.hosts.values():
            if host.listener is not None:
                await host.stop()
