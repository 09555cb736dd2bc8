"""Raft between servers: over the RPC port, first byte 1 (protocols/raft.md section 1).

    out   per server three lanes (heartbeats | entries | votes), dialled when needed, and a connection
          of its own for each snapshot
    in    any number of connections; every answer goes back where its request came from

Servers are told apart by id. Where one lives is asked anew at every dial: addresses change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from agent.logs import get_logger
from agent.raft_inbound import Inbound
from agent.raft_lane import Connect, Lane
from agent.raft_receive import Receiving
from agent.raft_send import send_snapshot
from agent.raft_watch import LeaderWatch
from agent.rpc import RAFT, Peer
from core.errors import CtlError, Unsent
from core.node.servers import ServerFacts
from core.raft.messages import (
    AppendEntries,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    Request,
    RequestPreVote,
    Response,
    Unreachable,
    encode_request,
    encode_response,
    header,
)

if TYPE_CHECKING:
    from agent.dial import Dialer
    from agent.raft import RaftService

DIAL_TIMEOUT = 2.0  # seconds
_ASK_TIMEOUT = 1.0  # seconds that a server may take to name its leader

AddressOf = Callable[[str, str], "ServerFacts | None"]

_log = get_logger("agent.raft.transport")


class RaftTransport:
    """Fulfils agent/raft.py's Transport. `protocol` is what RpcListener wants for byte 1.

    `address_of(server id, configured address)` says where a server is: gossip's word, else
    `configured(...)`; None if nobody knows."""

    def __init__(self, dialer: Dialer, address_of: AddressOf) -> None:
        self._dialer = dialer
        self._address_of = address_of
        self._loop = asyncio.get_running_loop()
        self._peers: dict[str, _Peer] = {}
        self._inbound: set[Inbound] = set()
        self._asked: dict[int, Inbound] = {}  # id of a request -> where it came from
        self._raft: RaftService
        self._watch: LeaderWatch
        self._header: dict[str, object] = {}
        self._closed = False
        # What a server names as its leader, "" if it has none. Raises CtlError.
        self.leader_of: Callable[[ServerFacts], Awaitable[str]] | None = None
        self.on_gone: Callable[[str], None] = lambda address: None  # a connection from there has ended

    def attach(self, raft: RaftService) -> None:
        """Begin to work for this service."""
        self._raft = raft
        self._watch = LeaderWatch(raft)
        self._header = header(raft.node_id, raft.address)

    def protocol(self, peer: Peer) -> asyncio.Protocol:
        """What a connection that begins with byte 1 goes on with."""
        inbound = Inbound(self, peer.address)
        self._inbound.add(inbound)
        return inbound

    def close(self) -> None:
        """Hang up everywhere."""
        self._closed = True
        self._watch.close()
        for peer in self._peers.values():
            peer.close()
        for inbound in list(self._inbound):
            inbound.abort()

    def addresses_changed(self) -> None:
        """Gossip knows new addresses: servers that could not be reached are dialled at once."""
        for peer in self._peers.values():
            peer.addresses_changed()

    def errors(self) -> dict[str, str]:
        """By id of the server: why it could not be reached the last time; "" if it can."""
        return {server_id: peer.error for server_id, peer in self._peers.items()}

    # Out (agent/raft.py, Transport)

    def send(self, to: str, address: str, request: Request) -> None:
        """A request of the machine to the server `to`, whose address in the configuration is `address`."""
        peer = self._peers.get(to)
        if peer is None:
            peer = self._peers[to] = _Peer(self, to, self._loop)
        peer.send(address, request)

    def answer(self, request: Request, response: Response) -> None:
        """The machine's answer to a request that came in."""
        inbound = self._asked.pop(id(request), None)
        if inbound is not None:
            inbound.answer(request, response)
        if isinstance(request, InstallSnapshot) and request.handle is not None:
            # If it was installed it was finished, and this does nothing.
            self._loop.run_in_executor(None, request.handle.abandon)

    def forget(self) -> None:
        """What was asked and not answered yet was lost with a failed write: nobody will answer it."""
        for inbound in list(self._inbound):
            if inbound.waits:
                inbound.abort()

    def locate(self, server_id: str, address: str) -> ServerFacts | None:
        """Where the server is now."""
        return self._address_of(server_id, address)

    def connect(self, server_id: str, address: str) -> Connect:
        """How to dial a server. The address is looked up when it is dialled."""

        async def dial(make: Callable[[], asyncio.Protocol]) -> object:
            target = self.locate(server_id, address)
            if target is None:
                raise Unsent(f"the address of server {server_id} is not known")
            return await self._dialer.connect(
                target.address, target.port, RAFT, make, target.datacenter, DIAL_TIMEOUT
            )

        return dial

    def deliver(self, source: str, message: Request | Response | Unreachable) -> None:
        if not self._closed:
            self._raft.deliver(source, message)

    async def would_grant(self, server_id: str, address: str, request: RequestPreVote) -> bool:
        """What a server that knows no pre-vote would answer: it refuses votes while it follows a leader.

        Taking it for granted instead (as raft 1.7 does) would let every restart of ours depose a leader
        of an older version, which is slow to call again those who were away."""
        target = self.locate(server_id, address)
        if target is None or self.leader_of is None:
            return True
        try:
            async with asyncio.timeout(_ASK_TIMEOUT):
                return await self.leader_of(target) in ("", request.candidate)
        except (CtlError, TimeoutError):
            return True  # it does not even say that: then it shall not stand in the way

    def encode_request(self, request: Request) -> bytes:
        return encode_request(request, self._header)

    async def send_snapshot(self, server_id: str, address: str, request: InstallSnapshot) -> InstallReply:
        store = self._raft.snapshot_store
        return await send_snapshot(request, store, self.encode_request, self.connect(server_id, address))

    # In (agent/raft_inbound.py, Follower)

    def source(self, sender: str, address: str) -> str:
        """Consul's servers before raft 1.7 only say their address."""
        if sender or not address:
            return sender
        known = self._raft.configuration.by_address(address)
        if known is not None:
            return known.id
        for server in self._raft.configuration.servers:  # one that moved
            facts = self.locate(server.id, server.address)
            if facts is not None and facts.target == address:
                return server.id
        return address

    def take(self, source: str, request: Request, inbound: Inbound) -> None:
        if self._closed or self._raft.failure is not None:
            inbound.abort()
            return
        self._asked[id(request)] = inbound
        self._raft.deliver(source, request)

    def receive(self, request: InstallSnapshot, inbound: Inbound) -> Receiving:
        def done(error: str) -> None:
            inbound.resume()
            if error:
                inbound.refuse(request, error)
                inbound.abort()  # the rest of the state is still in the pipe
            else:
                self.take(inbound.source, request, inbound)

        return Receiving(request, self._raft.snapshot_store, self._raft.wall(), inbound.pause, done)

    def gone(self, inbound: Inbound) -> None:
        self._inbound.discard(inbound)
        self.on_gone(inbound.address)
        for number in [number for number, asked in self._asked.items() if asked is inbound]:
            del self._asked[number]
        if self._closed or inbound.source != self._raft.leader_id or not inbound.source:
            return
        if not any(other.source == inbound.source for other in self._inbound):
            server = self._raft.configuration.get(inbound.source)
            target = self.locate(inbound.source, server.address if server else "")
            if target is not None:
                self._watch.suspect(inbound.source, target.address, target.port)

    def encode(self, response: Response) -> bytes:
        return encode_response(response, header=self._header)


class _Peer:
    """The way to one other server."""

    def __init__(self, transport: RaftTransport, server_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._id = transport, server_id
        self._beats = Lane(self, loop)
        self._entries = Lane(self, loop)
        self._votes = Lane(self, loop)
        self._snapshot: asyncio.Task[None] | None = None
        self._pre_vote: asyncio.Task[None] | None = None
        self._target: ServerFacts | None = None
        self._address = ""
        self._loop = loop

    @property
    def error(self) -> str:
        return self._beats.error or self._entries.error or self._votes.error

    def send(self, address: str, request: Request) -> None:
        self._address = address
        connect = self._transport.connect(self._id, address)
        if isinstance(request, AppendEntries):
            lane = self._entries if request.sequence else self._beats
            lane.send(request, connect)
        elif isinstance(request, InstallSnapshot):
            if self._snapshot is None:
                self._snapshot = self._loop.create_task(self._send_snapshot(address, request))
            else:
                self._loop.call_soon(self.heard, Unreachable(request))
        else:
            self._votes.send(request, connect)

    def heard(self, message: Response | Unreachable) -> None:
        self._transport.deliver(self._id, message)

    def knows_no_pre_vote(self, request: RequestPreVote) -> None:
        self._pre_vote = self._loop.create_task(self._answer_pre_vote(request))

    async def _answer_pre_vote(self, request: RequestPreVote) -> None:
        granted = await self._transport.would_grant(self._id, self._address, request)
        self.heard(PreVoteReply(request.term - 1, granted, request=request))

    def encode(self, request: Request) -> bytes:
        return self._transport.encode_request(request)

    def addresses_changed(self) -> None:
        target = self._transport.locate(self._id, self._address)
        moved = (
            target is not None
            and self._target is not None
            and (target.address, target.port) != (self._target.address, self._target.port)
        )
        self._target = target
        for lane in (self._beats, self._entries, self._votes):
            if moved or lane.error:
                lane.redial()

    def close(self) -> None:
        for lane in (self._beats, self._entries, self._votes):
            lane.close()
        for task in (self._snapshot, self._pre_vote):
            if task is not None:
                task.cancel()

    async def _send_snapshot(self, address: str, request: InstallSnapshot) -> None:
        message: Response | Unreachable
        try:
            message = await self._transport.send_snapshot(self._id, address, request)
        except (CtlError, OSError, ValueError) as error:
            _log.warn("a snapshot could not be sent", server=self._id, error=str(error))
            message = Unreachable(request)
        finally:
            self._snapshot = None
        self.heard(message)


def configured(server_id: str, address: str, datacenter: str) -> ServerFacts | None:
    """A server at its address in the Raft configuration; None if that is no address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return None
    return ServerFacts(server_id, "", datacenter, host.strip("[]"), int(port), status=0)
