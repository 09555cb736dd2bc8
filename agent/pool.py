"""Calls to other servers: one connection to each of them, one stream for each call under way
(protocols/rpc.md sections 3 and 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.rpc import MULTIPLEX, Peer
from agent.rpc_mux import Mux
from core.api.blocking import DEFAULT_WAIT, MAX_WAIT
from core.codec import netrpc
from core.codec.duration import SECOND
from core.codec.msgpack import DecodeError
from core.codec.netrpc import Messages
from core.codec.yamux import DATA, Settings, Stream
from core.errors import Lost, Unsent, from_remote

if TYPE_CHECKING:
    from agent.dial import Dialer
    from core.node.servers import ServerFacts

CALLING = "rpc error making call: "
CONNECTING = "rpc error getting client: failed to get conn: "

Done = Callable[[object], None]
_Key = tuple[str, int, str]  # address, port, datacenter


class PoolSettings(Struct, frozen=True):
    """Seconds: `call_timeout` for an answer (limits.rpc_client_timeout; blocking queries wait longer by
    what they ask for and `hold`), `idle` until an unused connection is closed. `far`: to another datacenter a
    server that hangs is found out while a caller still waits, so that another one there can be asked."""

    call_timeout: float = 60.0
    hold: float = 7.0
    idle: float = 127.0
    idle_streams: int = 64
    session: Settings = Settings()
    far: Settings = Settings(keep_alive=3.0, ping_timeout=5.0)


class _Call:
    """What one stream does: at most one call at a time."""

    __slots__ = ("done", "messages", "seq", "stream", "timer")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.messages = Messages()
        self.seq = 0
        self.done: Done | None = None
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, outcome: object) -> None:
        """The call is over."""
        done, self.done = self.done, None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if done is not None:
            done(outcome)


class _Line(Mux):
    """The connection to one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, key: _Key) -> None:
        self._far = pool.is_far(key)
        super().__init__(loop, True, pool.settings.far if self._far else pool.settings.session)
        self._pool, self._key = pool, key
        self._idle: list[_Call] = []
        self._busy: dict[_Call, None] = {}  # (in the order of their beginning)
        self._seq = 0
        self.used_at = loop.time()

    @property
    def open(self) -> bool:
        """Whether calls can be made on it."""
        session = self.session
        return self.transport is not None and not (session.closed or session.leaving)

    @property
    def idle(self) -> bool:
        return not self._busy

    def start(self, method: str, body: Any, seconds: float, done: Done) -> _Call:
        """Make a call; `done(reply body)` or `done(a CtlError)` follows, unless it is ended before."""
        call = self._idle.pop() if self._idle else self._new()
        self._seq += 1
        call.seq, call.done = self._seq, done
        call.timer = self.loop.call_later(seconds, self._late, call)
        self._busy[call] = None
        self.session.send(call.stream, netrpc.request(method, call.seq, body))
        self.wake()
        return call

    def _new(self) -> _Call:
        stream = self.session.open()
        call = stream.owner = _Call(stream)
        return call

    def abandon(self, call: _Call) -> None:
        """Nobody wants the answer any more."""
        call.done = None
        self._drop(call, None)

    def _late(self, call: _Call) -> None:
        self._drop(call, Lost(f"{CALLING}i/o deadline reached"))

    def _drop(self, call: _Call, outcome: object) -> None:
        """End a call and its stream."""
        self.session.reset(call.stream)
        self.wake()
        self._over(call, outcome)

    def _over(self, call: _Call, outcome: object) -> None:
        self.used_at = self.loop.time()
        self._busy.pop(call, None)
        call.tell(outcome)

    def event(self, stream: Stream, kind: int, data: bytes) -> None:
        call: _Call | None = stream.owner
        if call is None:  # a stream that the server opened: it has nothing to ask
            self.session.reset(stream)
            return
        if kind != DATA:
            self.session.finish(stream)
            if call in self._busy:
                self._over(call, Lost(f"{CALLING}EOF"))
            elif call in self._idle:
                self._idle.remove(call)
            return
        self.session.consumed(stream, len(data))
        try:
            call.messages.feed(data)
            message = call.messages.next()
        except DecodeError as error:
            self._drop(call, Lost(f"{CALLING}{error}"))
            return
        if message is not None:
            self._answered(call, *message)

    def _answered(self, call: _Call, header: dict[bytes, Any], body: Any) -> None:
        error = header.get(b"Error")
        if header.get(b"Seq") != call.seq or call.done is None:
            self._drop(call, Lost(f"{CALLING}an answer to another call"))
        elif error:
            # A server may close the stream after an error, so it is not used again.
            self.session.finish(call.stream)
            text = str(error, "utf-8", "replace") if type(error) is bytes else repr(error)
            self._over(call, from_remote(CALLING + text))
        else:
            if len(self._idle) < self._pool.settings.idle_streams:
                self._idle.append(call)
            else:
                self.session.finish(call.stream)
            self._over(call, body)

    def abort(self) -> None:
        """End the connection at once, whatever is still to be written."""
        if self.transport is not None:
            self.transport.abort()

    def lost(self, why: str) -> None:
        self._pool.forget(self)
        self._idle.clear()
        if self._far:
            address, port, datacenter = self._key
            why = f"{why} (server {Peer(address, port)} in {datacenter})"
        for call in list(self._busy):
            self._over(call, Lost(CALLING + why))


class Pool:
    """The connections to all servers that were called lately."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, settings: PoolSettings) -> None:
        self.settings = settings
        self._loop = loop
        self._dialer = dialer
        self._lines: dict[_Key, _Line] = {}
        self._dialing: dict[_Key, asyncio.Task[_Line]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def configure(self, settings: PoolSettings) -> None:
        """Take over new settings for calls made from now on."""
        self.settings = settings

    async def call(self, server: ServerFacts, method: str, body: dict[str, Any]) -> Any:
        """The body of the server's answer. Raises Unsent, Lost, or the error that the server answered."""
        line = self._line(server) or await self._dial(server)
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(outcome: object) -> None:
            if not future.done():
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

        call = line.start(method, body, self._patience(body), done)
        try:
            return await future
        except asyncio.CancelledError:
            line.abandon(call)
            raise

    def tell(self, server: ServerFacts, method: str, body: dict[str, Any], done: Done) -> bool:
        """`call` without a task: `done(body)` or `done(error)` follows. False when there is no connection
        yet, and nothing was done."""
        line = self._line(server)
        if line is None:
            return False
        line.start(method, body, self._patience(body), done)
        return True

    async def ping(self, server: ServerFacts) -> None:
        """Whether the server answers. Raises CtlError."""
        await self.call(server, "Status.Ping", {})

    def close(self) -> None:
        """End all connections; what is under way fails."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for task in self._dialing.values():
            task.cancel()
        for line in list(self._lines.values()):
            line.end()
        self._lines.clear()

    def drop(self, server: ServerFacts) -> None:
        """The server is gone: calls that wait for it fail now."""
        line = self._lines.get((server.address, server.port, server.datacenter))
        if line is not None:
            line.abort()

    def is_far(self, key: _Key) -> bool:
        """Whether that server is one of another datacenter."""
        return self._dialer.is_far(key[2])

    def forget(self, line: _Line) -> None:
        """A connection is over."""
        for key, known in list(self._lines.items()):
            if known is line:
                del self._lines[key]

    def _patience(self, body: dict[str, Any]) -> float:
        """Seconds that an answer may take: a blocking query's own time comes on top."""
        settings = self.settings
        if type(body) is not dict or not body.get("MinQueryIndex"):  # (config entries are packed)
            return settings.call_timeout
        asked = min(body.get("MaxQueryTime") or DEFAULT_WAIT, MAX_WAIT) / SECOND
        return settings.call_timeout + asked + asked / 16 + settings.hold

    def _line(self, server: ServerFacts) -> _Line | None:
        line = self._lines.get((server.address, server.port, server.datacenter))
        return line if line is not None and line.open else None

    async def _dial(self, server: ServerFacts) -> _Line:
        """The connection; all who want it at the same time share one attempt."""
        key = (server.address, server.port, server.datacenter)
        task = self._dialing.get(key)
        if task is None:
            task = self._dialing[key] = self._loop.create_task(self._connect(key))
            task.add_done_callback(lambda _: self._dialing.pop(key, None))
        try:
            line = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unsent(f"{CONNECTING}rpc: connection pool closed") from None
            raise
        if not line.open:
            raise Unsent(f"{CONNECTING}EOF")
        return line

    async def _connect(self, key: _Key) -> _Line:
        address, port, datacenter = key
        try:
            _, line = await self._dialer.connect(
                address, port, MULTIPLEX, lambda: _Line(self._loop, self, key), datacenter
            )
        except Unsent as error:
            raise Unsent(CONNECTING + str(error)) from None
        self._lines[key] = line
        if self._sweeper is None:
            self._sweep()
        return line

    def _sweep(self) -> None:
        """Close connections that nobody uses."""
        self._sweeper = None
        settings = self.settings
        until = self._loop.time() - settings.idle
        for line in list(self._lines.values()):
            if line.idle and line.used_at < until:
                self.forget(line)
                line.end()
        if self._lines:
            self._sweeper = self._loop.call_later(settings.idle / 4, self._sweep)
