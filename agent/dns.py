"""The DNS interface: sockets around `core/dns`.

    datagram -> remembered? -> sent                                     (agent/dns_udp.py)
             -> core/dns/packet.parse -> answer -> pack -> remember -> sent
             -> not ours -> agent/dns_recursors.py -> sent later

TCP connections (agent/dns_tcp.py) go the same way, with a memory of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

from agent.dns_catalog import Absent, CachedCatalog
from agent.dns_memory import Answer, Known, Packets, Replies
from agent.dns_queries import Execute, no_queries
from agent.dns_recursors import Recursors
from agent.dns_tcp import Connections
from agent.dns_udp import Send, UdpListener
from agent.logs import get_logger
from agent.world import World
from core.acl.access import Authorizer
from core.dns import packet
from core.dns import record as rr
from core.dns.answer import Catalog, Reply, answer, nowhere
from core.dns.guarded import Guarded
from core.dns.packet import Query
from core.dns.record import Record
from core.dns.settings import DnsSettings
from core.errors import CtlError, Denied
from core.metrics import Metrics
from core.node.prepared import Found
from core.node.wan import NO_PATH
from core.store.watch import Watch

_log = get_logger("agent.dns")
_LONGEST_REMEMBERED = 300  # bytes of a question: a name, its type, EDNS
_SHARE = 20  # new orders may take one part in so many of the time
_PORT_TRIES = 16
_ROUNDS = 4  # of asking recursors for one reply: names they lead to may lead on


class DnsServer:
    """Answers names from `store` on any number of addresses, UDP and TCP alike."""

    def __init__(
        self,
        store: Catalog,
        settings: DnsSettings,
        world: World,
        metrics: Metrics | None = None,
        execute: Execute = no_queries,
        judge: Callable[[], Authorizer | None] = lambda: None,
        elsewhere: Callable[[str], CachedCatalog] | None = None,
    ) -> None:
        """`judge()` says what may be seen of the `store`, None: all, or the store knows itself. It raises
        Denied when there is no such token. `elsewhere(datacenter)` is the catalog of another datacenter."""
        self.udp_packets = Packets()
        self._tcp_packets = Packets()
        self._replies = Replies()
        self._store = store
        self._settings = settings
        self._world = world
        self._metrics = metrics
        self._execute = execute
        self._judge = judge
        self._warned = 0  # the second of the last warning
        self._elsewhere = elsewhere or nowhere
        self._recursors = Recursors(settings, world)
        self._next_order = 0.0  # when a new order may be made again
        self._udp: list[UdpListener] = []
        self._tcp: list[asyncio.Server] = []
        self._connections: Connections | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, by UDP and TCP."""
        return [listener.address for listener in self._udp]

    async def start(self, addresses: list[tuple[str, int]]) -> None:
        """Listen on (address, port) pairs; port 0 takes a free one, the same for UDP and TCP. OSError
        names the address that cannot be had, and then nothing is left open."""
        loop = asyncio.get_running_loop()
        self._connections = Connections(self, loop)
        try:
            for host, port in addresses:
                udp, tcp = _bind(host, port, addresses)
                self._udp.append(UdpListener(udp, self, loop))
                self._tcp.append(await loop.create_server(self._connections.accept, sock=tcp, backlog=128))
                _log.info(
                    "Started DNS server", address=f"{host}:{self._udp[-1].address[1]}", network="udp+tcp"
                )
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close all sockets and connections and give up what waits for recursors."""
        for listener in self._udp:
            listener.close()
        for server in self._tcp:
            server.close()
        if self._connections is not None:
            self._connections.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._udp, self._tcp = [], []
        self.forget()

    def reload(self, settings: DnsSettings) -> None:
        """Answer by other settings from now on. ConfigError leaves things as they were."""
        self._recursors = Recursors(settings, self._world)
        self._settings = settings
        self.forget()

    def forget(self) -> None:
        """Nothing remembered holds any more: settings or permissions changed."""
        self._replies.clear()
        self.udp_packets.clear()
        self._tcp_packets.clear()

    def took(self, seconds: float, questions: int) -> None:
        """Note the time that some questions took together."""
        if self._metrics is not None and questions:
            each = seconds * 1000 / questions
            labels = (("node", self._settings.node_name),)
            self._metrics.samples("dns.domain_query", [each] * questions, labels)

    def pick(self, remembered: Answer, now: float) -> bytes:
        """One of the orders of a remembered answer, a new one when there is time. `now` is the
        performance counter, a little old at most."""
        if remembered.make is None:
            return remembered.messages[0]
        if now >= self._next_order:
            began = perf_counter()
            message = remembered.fresh(self._world.random)
            ended = perf_counter()
            self._next_order = ended + _SHARE * (ended - began)
            return message
        messages = remembered.messages
        return messages[self._world.random.getrandbits(16) % len(messages)]

    def respond(self, data: bytes, udp: bool, send: Send, client: str) -> None:
        """Answer a message that the hot path had no answer for: `send` is called now or later, with an
        empty message if there is nothing to be said. `client` is the address that it came from."""
        packets = self.udp_packets if udp else self._tcp_packets
        second = int(self._world.wall())
        remembered = packets.find(data[2:], second)
        if remembered is not None:
            send(data[:2] + self.pick(remembered, perf_counter()))
            return
        query = packet.parse(data)
        if query is None:
            send(b"")
        elif query.error:
            send(self._pack(query, packet.refusal(query.error), udp))
        else:
            try:
                known = self._know(query, second)
            except Absent as absent:
                self._spawn(self._fetch(absent, data, query, udp, send, client))
                return
            except Denied as error:
                if self._warned != second:  # a question is cheap, a line is not
                    self._warned = second
                    _log.warn("names cannot be looked up with the token of DNS", error=str(error))
                send(self._pack(query, packet.refusal(rr.SERVFAIL), udp))
                return
            if known is None:
                self._pass_on(data, query, udp, send)
            elif not known.reply.complete:
                self._spawn(self._complete(query, known.reply, udp, send, client))
            else:
                message = self._pack(query, known.reply, udp)
                send(message)
                if len(data) <= _LONGEST_REMEMBERED:
                    self._remember(data[2:], message[2:], query, known, udp)

    # -- answers of our own

    def _know(self, query: Query, second: int) -> Known | None:
        """The reply to a question, remembered or new; None if the name is for the recursors."""
        name = query.name.lower()
        known = self._replies.find(name, query.type, second)
        if known is None:
            watch = Watch()
            store, lasts = self._seen()
            reply = answer(store, name, query.type, self._settings, second, watch, elsewhere=self._elsewhere)
            if reply is None:
                watch.close()
                return None
            known = Known(reply, watch, second)
            if reply.complete:
                self._replies.put(name, query.type, known)
            else:
                watch.close()
            if not lasts:
                watch.fire()  # it is not to be remembered
        return known

    def _seen(self) -> tuple[Catalog, bool]:
        """What may be seen of the catalog, and whether it may be for longer than now. Denied."""
        authorizer = self._judge()
        if authorizer is None:
            return self._store, True
        return Guarded(self._store, authorizer), not authorizer.expires

    def _pack(self, query: Query, reply: Reply, udp: bool) -> bytes:
        settings = self._settings
        entries = packet.order(query, reply, settings, udp, self._world.random)
        return packet.pack(query, reply, entries, settings, udp)

    def _remember(self, question: bytes, message: bytes, query: Query, known: Known, udp: bool) -> None:
        reply = known.reply
        packets = self.udp_packets if udp else self._tcp_packets

        def make() -> bytes:
            return self._pack(query, reply, udp)[2:]

        several = reply.shuffle and len(reply.entries) > 1
        remembered = Answer(message, known.watch, make if several else None)
        if reply.dated:
            packets.put_dated(question, remembered, known.second)
        else:
            packets.put(question, remembered)

    # -- answers that need the servers

    async def _fetch(
        self, absent: Absent, data: bytes, query: Query, udp: bool, send: Send, client: str
    ) -> None:
        """Have what is missing fetched, then answer."""
        error = await self._fetched(absent)
        if error is None:
            self.respond(data, udp, send, client)
            return
        reply: Reply | None = None
        if NO_PATH in error.text:  # there is no such datacenter, so no such name
            second = int(self._world.wall())
            with contextlib.suppress(Absent, Denied):
                store = self._seen()[0]
                reply = answer(store, query.name.lower(), query.type, self._settings, second)
        send(self._pack(query, reply or packet.refusal(rr.SERVFAIL), udp))

    async def _fetched(self, absent: Absent) -> CtlError | None:
        """Fetch what is missing; the error when it cannot be had."""
        question = absent.question
        try:
            await absent.catalog.fetch(question)
        except CtlError as error:
            place = question.options.datacenter
            _log.warn("a name cannot be looked up", rpc=question.read.rpc, dc=place, error=str(error))
            return error
        return None

    # -- answers that need the recursors

    def _pass_on(self, data: bytes, query: Query, udp: bool, send: Send) -> None:
        """Names that are not ours: to the recursors, or refused. A reverse name was looked for here,
        so that without recursors the failure is ours (reference/dns.md, "Codes")."""
        if self._settings.recursors:
            self._spawn(self._forward(data, query, udp, send))
            return
        reverse = query.name.lower().endswith(b"\x04arpa\0")
        reply = packet.refusal(rr.SERVFAIL, recursion=True) if reverse else packet.refusal(rr.REFUSED)
        send(self._pack(query, reply, udp))

    async def _forward(self, data: bytes, query: Query, udp: bool, send: Send) -> None:
        found = await self._recursors.forward(data, tcp=not udp)
        if found is None or (udp and len(found) > packet.udp_size(query)):
            reply = packet.refusal(rr.SERVFAIL if found is None else rr.NOERROR, recursion=True)
            message = self._pack(query, reply, udp)
            send(message if found is None else packet.truncated(message))
        else:
            send(found)

    async def _complete(self, query: Query, reply: Reply, udp: bool, send: Send, client: str) -> None:
        """Ask those whom a reply needs, recursors and prepared queries, and answer again with what they
        said, which may lead on."""
        outside: dict[tuple[bytes, int], list[Record]] = {}
        queries: dict[tuple[str, str], Found | None] = {}
        asked = query.name.lower()
        complete: Reply | None = reply
        for _ in range(_ROUNDS):
            if complete is None or complete.complete:
                break
            names = sorted(complete.wanted)
            found = await asyncio.gather(*(self._recursors.look_up(*name) for name in names))
            outside.update(zip(names, map(list, found), strict=True))
            try:
                for key in sorted(complete.unanswered):
                    queries[key] = await self._execute(*key, packet.subnet(query) or client)
            except CtlError as error:
                _log.warn("a prepared query cannot be executed", query=key[0], error=str(error))
                complete = packet.refusal(rr.SERVFAIL)
                break
            second = int(self._world.wall())
            try:
                store = self._seen()[0]
                complete = answer(
                    store,
                    asked,
                    query.type,
                    self._settings,
                    second,
                    None,
                    outside,
                    queries,
                    self._elsewhere,
                )
            except Denied:
                complete = packet.refusal(rr.SERVFAIL)
                break
            except Absent as absent:
                if await self._fetched(absent) is not None:
                    break
        send(self._pack(query, complete or reply, udp))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bind(host: str, port: int, all_addresses: list[tuple[str, int]]) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one address and port."""
    for attempt in range(_PORT_TRIES):
        udp = _socket(host, port, socket.SOCK_DGRAM, all_addresses)
        try:
            return udp, _socket(host, udp.getsockname()[1], socket.SOCK_STREAM, all_addresses)
        except OSError:
            udp.close()
            if port or attempt == _PORT_TRIES - 1:  # a free port of UDP may be taken for TCP
                raise
    raise AssertionError("unreachable")


def _socket(
    host: str, port: int, kind: socket.SocketKind, all_addresses: list[tuple[str, int]]
) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # both families, unless IPv4 is listened on beside it
            only = any(":" not in other for other, _ in all_addresses)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        network = "tcp" if kind == socket.SOCK_STREAM else "udp"
        raise OSError(
            error.errno, f"DNS cannot listen on {host}:{port}/{network}: {error.strerror}"
        ) from error
    return sock
