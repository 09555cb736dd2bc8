"""TCP between simulated processes: bytes come in order, late, and not at all while a link is cut. Who
hears nothing back gives up as the kernel does; who is dead refuses, or is silent when its power is gone."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol, TypeVar

from agent.dial import FAR_SILENCE_SECONDS, Dialer
from agent.rpc import Peer
from tests.sim.pretend import ProcessLoop, Time

_RETRY = 0.2  # seconds until a segment that was lost is sent again, doubled each time
_LONGEST_RETRY = 120.0
_SILENCE = 900.0  # seconds without an answer until the kernel gives up by itself
_SYN_RETRY = 1.0

P = TypeVar("P", bound=asyncio.Protocol)
Way = Callable[[str, str], tuple[float, float]]


class Process(Protocol):
    """A server as the network sees it."""

    name: str
    address: str
    loop: ProcessLoop
    running: bool
    ends: list[End]
    dark: bool  # its machine has no power, so nobody refuses for it

    def accept(self, first_byte: int, peer: Peer) -> asyncio.Protocol:
        """The protocol of a connection that comes in."""


class Network:
    """All machines by address, and the state of the links between them: `cut` counts, by both names."""

    def __init__(
        self,
        time: Time,
        chance: Random,
        way: Way,
        loss: Callable[[str, str], float],
        cut: Counter[tuple[str, str]],
    ) -> None:
        """`way(source, target)`: the least and the longest delay between two names; `loss`: of packets."""
        self.time, self.chance, self.cut = time, chance, cut
        self.machines: dict[str, Process] = {}
        self._way, self._loss = way, loss

    def delay(self, source: Process, target: Process) -> float:
        """Seconds for one packet."""
        low, high = self._way(source.name, target.name)
        return low + (high - low) * self.chance.random()

    def is_cut(self, source: Process, target: Process) -> bool:
        return self.cut.get((source.name, target.name), 0) > 0

    def passes(self, source: Process, target: Process) -> bool:
        """Whether a packet that is sent now arrives."""
        return not self.is_cut(source, target) and not self.is_lost(source, target)

    def is_lost(self, source: Process, target: Process) -> bool:
        """Whether a packet that is sent now gets lost by chance."""
        share = self._loss(source.name, target.name)
        return share > 0 and self.chance.random() < share


class Dial(Dialer):
    """The agent's dialer, on this network."""

    def __init__(self, network: Network, process: Process, datacenter: str) -> None:
        super().__init__(process.loop, None, datacenter=datacenter)
        self._network, self._process = network, process

    async def _connect(
        self, address: str, port: int, first_byte: int, make: Callable[[], P], datacenter: str
    ) -> tuple[asyncio.Transport, P]:
        target = self._network.machines[address]
        await self._shake_hands(target)
        silence = FAR_SILENCE_SECONDS if datacenter != self._datacenter else _SILENCE
        near = End(self._network, self._process, target, silence)
        far = End(self._network, target, self._process, _SILENCE)
        near.peer, far.peer = far, near
        near.send("open", bytes([first_byte]))
        protocol = make()
        near.protocol = protocol
        protocol.connection_made(near)
        return near, protocol

    async def _shake_hands(self, target: Process) -> None:
        """Greet until there is an answer; who waits too long is cancelled by `connect`."""
        network, here, pause = self._network, self._process, _SYN_RETRY
        while True:
            there, back = network.delay(here, target), network.delay(target, here)
            if network.passes(here, target) and not (target.dark and not target.running):
                await asyncio.sleep(there)
                if network.passes(target, here):
                    refused = not target.running
                    await asyncio.sleep(back)
                    if refused:
                        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                    return
            await asyncio.sleep(pause)
            pause *= 2


class End(asyncio.Transport):
    """One end of a connection, in one life of its process."""

    peer: End

    def __init__(self, network: Network, process: Process, other: Process, silence: float) -> None:
        super().__init__()
        self.protocol: Any = None
        self._network, self._process, self._other = network, process, other
        self._loop, self._other_loop = process.loop, other.loop
        self._silence = silence
        self._queue: deque[tuple[str, bytes]] = deque()  # what has not arrived yet
        self._arrives = 0.0  # when the last of it does
        self._stuck = False  # until it is sent again
        self._waiting_since: float | None = None  # for a sign that it has arrived
        self._closed = self._gone = False
        process.ends.append(self)

    # --- what protocols ask of a transport

    def write(self, data: Any) -> None:
        if data and not self._closed:
            self.send("data", bytes(data))

    def is_closing(self) -> bool:
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        if not self._closed:
            self.send("fin", b"")
            self._lose(None)

    def abort(self) -> None:
        if not self._closed:
            self._gone = True
            self._lose(None)
            self.reset_peer()

    # --- on the way

    def send(self, kind: str, data: bytes) -> None:
        network, now = self._network, self._network.time.now
        self._queue.append((kind, data))
        if self._waiting_since is None:
            self._wait()
        if self._stuck:
            return
        if network.is_lost(self._process, self._other):
            self._stick(1)
        else:
            self._arrives = max(self._arrives, now + network.delay(self._process, self._other))
            network.time.later(self._arrives, self._land)

    def _land(self) -> None:
        """The first letter comes to the other side, if it can."""
        if self._queue and not self._stuck:
            self._deliver(1, 1)

    def _stick(self, attempt: int) -> None:
        self._stuck = True
        network = self._network
        network.time.later(network.time.now + _pause(attempt), self._again, attempt)

    def _again(self, attempt: int) -> None:
        self._stuck = False
        self._deliver(len(self._queue), attempt + 1)

    def _deliver(self, count: int, attempt: int) -> None:
        other, network = self._other, self._network
        if self._gone or not (self._process.running and self._process.loop is self._loop):
            return
        if network.is_cut(self._process, other) or (other.dark and not other.running):
            self._stick(attempt)
        elif other.running and other.loop is self._other_loop:
            for _ in range(count):
                self.peer.hear(*self._queue.popleft())
            self._acknowledge(1)
        else:
            self.peer.reset_peer()  # says the kernel that is there now

    def _acknowledge(self, attempt: int) -> None:
        """The other kernel says that it has all; once more whenever it is sent again."""
        network, now = self._network, self._network.time.now
        if network.passes(self._other, self._process):
            network.time.later(now + network.delay(self._other, self._process), self._arrived)
        else:
            network.time.later(now + _pause(attempt), self._acknowledge, attempt + 1)

    def _arrived(self) -> None:
        self._waiting_since = None
        if self._queue:
            self._wait()

    def _wait(self) -> None:
        now = self._waiting_since = self._network.time.now
        self._network.time.later(now + self._silence, self._look, now)

    def _look(self, since: float) -> None:
        if self._waiting_since == since:
            self.broken(errno.ETIMEDOUT)

    def reset_peer(self) -> None:
        """A reset is sent once; it may get lost."""
        network = self._network
        if network.passes(self._process, self._other):
            when = network.time.now + network.delay(self._process, self._other)
            network.time.later(when, self.peer.broken, errno.ECONNRESET)

    # --- at this side

    def hear(self, kind: str, data: bytes) -> None:
        """A letter from the other side."""
        self._loop.call_soon(self._take, kind, data)

    def _take(self, kind: str, data: bytes) -> None:
        if self._closed:
            if kind == "data":
                self.reset_peer()
        elif kind == "open":
            self.protocol = self._process.accept(data[0], Peer(self._other.address, 40000))
            self.protocol.connection_made(self)
        elif kind == "data":
            self.protocol.data_received(data)
        else:
            self.protocol.eof_received()
            self.close()

    def broken(self, number: int) -> None:
        """The connection is over."""
        self._gone = True
        if not self._closed:
            self._lose(OSError(number, os.strerror(number)))

    def _lose(self, error: OSError | None) -> None:
        self._closed = True
        self._loop.call_soon(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        if self.protocol is not None:
            self.protocol.connection_lost(error)

    def kill(self) -> None:
        """The process of this side is dead, its machine is not: the kernel says so."""
        if not self._closed:
            self._closed = self._gone = True
            self.reset_peer()


def _pause(attempt: int) -> float:
    return float(min(_LONGEST_RETRY, _RETRY * 2**attempt))
