"""Calls that come in over RPC: net/rpc on every stream of a yamux session, or on a connection of its own
(protocols/rpc.md sections 3 and 5).

    bytes -> header, body -> REMOTES[method] -> Question, Command or Errand -> Calls -> body -> bytes

What can be answered at once is, without a task; the answers of one turn of the loop share one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from agent.logs import get_logger
from agent.rpc_mux import Mux
from core.api import mesh
from core.api.endpoint import Answer, Command, Errand, Question
from core.api.remote import OF_THE_MESH, REMOTES, SERVICES
from core.api.remote_kinds import ReadRemote, Remote
from core.codec import netrpc
from core.codec.msgpack import DecodeError
from core.codec.netrpc import Messages
from core.codec.yamux import DATA, INITIAL_WINDOW, Settings, Stream
from core.errors import CtlError

if TYPE_CHECKING:
    from agent.rpc import Peer

_log = get_logger("agent.rpc")

_LONG = 256  # items of a list that are not encoded in one go
_PIECE = 1024  # bytes after which others have a turn


class RpcCalls(Protocol):
    """Where calls are carried out; agent/calls.py fulfils it. All may raise CtlError."""

    @property
    def is_leader(self) -> bool: ...

    def here(self, question: Question) -> bool: ...

    def ask(self, question: Question) -> Answer: ...

    async def read(self, question: Question) -> Answer: ...

    def tell(self, command: Command, done: Callable[[object], None]) -> None: ...

    async def run(self, errand: Errand) -> Any: ...


class Limits(Protocol):
    """agent/rpc_limits.py fulfils it."""

    def check(self, write: bool, is_leader: bool) -> None:
        """Count a call. TooManyRequests when it is one too many."""


class RpcServer:
    """Makes the protocols for `RpcListener`: `multiplexed` for byte 4, `single` for byte 0."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        calls: RpcCalls,
        limits: Limits | None = None,
        session: Settings = Settings(),  # noqa: B008
        gone: Callable[[str], None] = lambda address: None,
    ) -> None:
        """`gone(address)`: the connection of a peer there has ended."""
        self.loop = loop
        self.gone = gone
        self.calls = calls
        self.limits = limits
        self.session = session
        self.tasks: set[asyncio.Task[Any]] = set()
        self.requests = self.errors = 0  # since they were last told

    def multiplexed(self, peer: Peer) -> asyncio.Protocol:
        """A yamux session with any number of calls at the same time."""
        return _Multiplexed(self, peer)

    def single(self, peer: Peer) -> asyncio.Protocol:
        """One call after the other."""
        return _Single(self, peer)


class _Caller:
    """One stream of calls, answered one after the other."""

    __slots__ = ("_busy", "_closed", "_ended", "_messages", "_out", "_server", "_starting", "_task", "peer")

    def __init__(self, server: RpcServer, peer: Peer, out: _Out) -> None:
        self.peer = peer
        self._server = server
        self._out = out
        self._messages = Messages()
        self._busy = False
        self._starting = False
        self._ended = False  # close after the answer under way
        self._closed = False
        self._task: asyncio.Task[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._busy

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        if self._closed:
            return
        try:
            self._messages.feed(data)
            self._go_on()
        except DecodeError as error:
            _log.warn("RPC call cannot be read", peer=str(self.peer), error=str(error))
            self._end()

    def close(self) -> None:
        """The other side is gone; what it asked for is not wanted any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._out.finish()

    def _go_on(self) -> None:
        while not (self._busy or self._closed):
            message = self._messages.next()
            if message is None:
                return
            self._serve(*message)

    def _serve(self, header: dict[bytes, Any], body: Any) -> None:
        name = header.get(b"ServiceMethod")
        if type(name) is not bytes:
            raise DecodeError("net/rpc: a call without method")
        method, seq = str(name, "utf-8", "surrogateescape"), header.get(b"Seq")
        remote = REMOTES.get(method)
        self._server.requests += 1
        if method in OF_THE_MESH:
            self._server.errors += 1
            self._answer(netrpc.failure(method, seq, mesh.DISABLED))
            return
        if remote is None:
            self._ended = True  # clients drop the stream after this error, and so does the reference
            self._answer(netrpc.failure(method, seq, _unknown(method)))
            return
        self._busy = self._starting = True
        self._guard(method, seq, lambda: self._start(remote, seq, remote.accept(body)))
        self._starting = False

    def _guard(self, method: str, seq: Any, step: Callable[[], None]) -> None:
        """Do `step`, answer the error if it raises one."""
        try:
            step()
        except DecodeError as error:
            _log.warn("RPC call cannot be read", method=method, peer=str(self.peer), error=str(error))
            self._end()
        except CtlError as error:
            self._server.errors += 1
            self._answer(netrpc.failure(method, seq, str(error)))
        except Exception as error:  # noqa: BLE001  # a defect of one method: the other calls go on
            self._defect(method, seq, error)

    def _start(self, remote: Remote, seq: Any, work: Question | Command | Errand) -> None:
        calls = self._server.calls
        if self._server.limits is not None:
            self._server.limits.check(isinstance(work, Command), calls.is_leader)
        if isinstance(work, Command):
            calls.tell(work, lambda result: self._done(remote, seq, result))
        elif isinstance(work, Errand):
            self._later(calls.run(work), lambda result: self._done(remote, seq, result))
        else:
            answer = self._at_once(work)
            if answer is None:
                self._later(calls.read(work), lambda answer: self._done(remote, seq, answer))
            else:
                self._respond(remote, seq, answer)

    def _at_once(self, question: Question) -> Answer | None:
        """The answer to a read that needs not wait for anything."""
        options = question.options
        calls = self._server.calls
        if options.min_query_index or options.require_consistent or not calls.here(question):
            return None
        answer = calls.ask(question)
        longest = options.max_stale_duration
        return None if longest and options.allow_stale and answer.last_contact > longest else answer

    def _later(self, work: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        """Do `work`, which ends with its caller, and `then` something with its result or error."""
        task = self._task = self._server.loop.create_task(work)
        self._server.tasks.add(task)  # (the loop itself refers to tasks only weakly)

        def ended(task: asyncio.Task[Any]) -> None:
            self._server.tasks.discard(task)
            if self._task is task:
                self._task = None
            if not task.cancelled():
                then(task.exception() or task.result())

        task.add_done_callback(ended)

    def _done(self, remote: Remote, seq: Any, outcome: object) -> None:
        """A call that took time is over."""
        if self._closed:
            return
        if isinstance(outcome, CtlError):
            self._server.errors += 1
            self._answer(netrpc.failure(remote.rpc, seq, str(outcome)))
        elif isinstance(outcome, BaseException):
            self._defect(remote.rpc, seq, outcome)
        else:
            self._guard(remote.rpc, seq, lambda: self._respond(remote, seq, outcome))
        if not self._starting:
            self.feed(b"")  # what came meanwhile

    def _respond(self, remote: Remote, seq: Any, outcome: Any) -> None:
        if isinstance(remote, ReadRemote) and type(outcome.value) is list and len(outcome.value) > _LONG:
            whole = _joined(netrpc.head(remote.rpc, seq), remote.pieces(outcome))
            self._later(whole, lambda data: self._joined(remote.rpc, seq, data))
        else:
            self._answer(netrpc.response(remote.rpc, seq, remote.reply(outcome)))

    def _joined(self, method: str, seq: Any, data: bytes | BaseException) -> None:
        """A long reply is encoded."""
        if isinstance(data, bytes):
            self._answer(data)
        else:
            self._defect(method, seq, data)
        self.feed(b"")

    def _answer(self, data: bytes) -> None:
        self._busy = False
        if not self._closed:
            self._out.write(data)
            if self._ended:
                self._end()

    def _defect(self, method: str, seq: Any, error: BaseException) -> None:
        import traceback

        trace = "".join(traceback.format_exception(error))
        _log.error("unexpected error in a call", method=method, error=repr(error), trace=trace)
        self._answer(netrpc.failure(method, seq, f"internal error in {method}"))


async def _joined(head: bytes, pieces: Iterator[bytes]) -> bytes:
    """A long reply, made in many turns of the loop."""
    parts = [head]
    for piece in pieces:
        parts.append(piece)
        if len(piece) > _PIECE:
            await asyncio.sleep(0)
    return b"".join(parts)


def _unknown(method: str) -> str:
    service, dot, _ = method.rpartition(".")
    if not dot:
        return f"rpc: service/method request ill-formed: {method}"
    kind = "method" if service in SERVICES else "service"
    return f"rpc: can't find {kind} {method}"


class _Out(Protocol):
    """Where answers go."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class _StreamOut:
    """One stream of a session."""

    __slots__ = ("_mux", "_stream", "held")

    def __init__(self, mux: _Multiplexed, stream: Stream) -> None:
        self._mux, self._stream = mux, stream
        self.held = 0  # bytes that came while a call was under way: they keep the window small

    def write(self, data: bytes) -> None:
        mux = self._mux
        mux.session.send(self._stream, data)
        if self.held:
            mux.session.consumed(self._stream, self.held)
            self.held = 0
        mux.wake()

    def finish(self) -> None:
        self._mux.session.finish(self._stream)
        self._mux.wake()


class _Multiplexed(Mux):
    """A session that another agent opened; every stream of it is a caller."""

    def __init__(self, server: RpcServer, peer: Peer) -> None:
        super().__init__(server.loop, False, server.session)
        self._server = server
        self._peer = peer
        self._callers: dict[Stream, tuple[_Caller, _StreamOut]] = {}

    def event(self, stream: Stream, kind: int, data: bytes) -> None:
        known = self._callers.get(stream)
        if kind != DATA:
            self.session.finish(stream)
            if known is not None:
                del self._callers[stream]
                known[0].close()
            return
        if known is None:
            out = _StreamOut(self, stream)
            known = self._callers[stream] = (_Caller(self._server, self._peer, out), out)
        caller, out = known
        if caller.busy:
            out.held += len(data)
        else:
            self.session.consumed(stream, len(data))
        caller.feed(data)

    def lost(self, why: str) -> None:
        if self.session.closed:
            _log.warn("RPC session ended", peer=str(self._peer), reason=why)
        for caller, _ in self._callers.values():
            caller.close()
        self._callers.clear()
        self._server.gone(self._peer.address)


class _Single(asyncio.Protocol):
    """A connection with one caller."""

    def __init__(self, server: RpcServer, peer: Peer) -> None:
        self._caller = _Caller(server, peer, self)
        self._transport: asyncio.Transport | None = None
        self._held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._caller.busy and self._transport is not None:
            self._held += len(data)
            if self._held > INITIAL_WINDOW:
                self._transport.pause_reading()
        self._caller.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._caller.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            if self._held > INITIAL_WINDOW:
                self._transport.resume_reading()
            self._held = 0
            self._transport.write(data)

    def finish(self) -> None:
        if self._transport is not None:
            self._transport.close()
