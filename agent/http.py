"""The HTTP listener: TCP, Unix socket and TLS share one `asyncio.Protocol` over httptools' C parser.

A connection answers its requests in order, one at a time; pipelined ones queue up. What a request
means is agent/front.py's business. A client that sends again the very bytes of a request whose
answer is remembered gets it without any parsing: `Front.remembered`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httptools

from agent.http_head import Head, host_problem, refused, with_crlf, without_oddities
from agent.wire import CONTINUE, LAST_CHUNK, chunk

if TYPE_CHECKING:
    from agent.front import Front
    from agent.lobby import Waiter

MAX_QUEUE = 32  # pipelined requests kept before reading pauses
HALF_CLOSED_SECONDS = 3.0  # an answer may take so long after the client said that it sends no more
HEADER_SECONDS = 30.0  # a request must be complete this long after its first byte
READ_SIZE = 256 << 10  # the most that the transport hands over at once: a head that fits is complete at once
MAX_REMEMBERED = 2048  # bytes of a request that is worth remembering


MAX_HEADS = 512  # header blocks kept
_METHODS = {b"GET": "GET", b"PUT": "PUT", b"DELETE": "DELETE", b"POST": "POST"}
_ARCHIVES = b"/v1/snapshot"
MAX_ARCHIVE = 1 << 30  # bytes of a whole state that is to be restored
_HEAD_TOO_LARGE = "Request header fields too large"


class RawRequest:
    """A request as it came. `raw` is set when its bytes alone tell everything (a GET in one piece)."""

    __slots__ = ("body", "head", "keep_alive", "length", "method", "raw", "url")

    def __init__(self, method: str = "", url: bytes = b"", head: Head = Head([])) -> None:  # noqa: B008
        self.method = method
        self.url = url
        self.head = head
        self.body = b""
        self.length = 0  # bytes of body that came, kept or not
        self.keep_alive = True
        self.raw: bytes | None = None


class Connection(asyncio.Protocol):
    """One client. httptools calls the `on_…` methods while it parses."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._front = server.front
        self._loop = server.loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.remote = ""
        self._parser: Any = httptools.HttpRequestParser(self)
        self._now: RawRequest | None = None  # being parsed
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._in_head = False
        self._bare = False  # the first line ended with a bare LF
        self._head_bytes = 0
        self._queue: deque[RawRequest] = deque()
        self.busy = False  # a request is being answered
        self._closing = False
        self._paused = False
        self._can_write: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.waiter: Waiter | None = None  # a blocking query of this client
        self.task: asyncio.Task[Any] | None = None  # a read or stream that ends with this client

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if isinstance(peer, tuple) else ""
        if not self._server.admit(self):
            self._closing = True
            self.transport.write(self._front.refusal(429, "Too many connections from this address"))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._server.dismiss(self)
        self._stop_timer()
        self._queue.clear()
        if self.waiter is not None:
            self.waiter.cancel()
            self.waiter = None
        if self.task is not None:
            self.task.cancel()
        if self._can_write is not None:
            self._can_write.set()
        # The parser refers back: without this every connection would wait for the garbage collector.
        self._parser = None

    def data_received(self, data: bytes) -> None:
        fresh = self._now is None
        if fresh and not (self.busy or self._queue or self._closing or self._can_write):
            answer = self._front.remembered(data)
            if answer is not None:
                self.transport.write(answer)
                return
            request = self._recognize(data)
            if request is not None:
                self.busy = True
                self._front.serve(self, request)
                return
        if self._closing:
            return
        before = len(self._queue)
        try:
            self._parser.feed_data(self._lines(data, fresh))
        except httptools.HttpParserInvalidMethodError:
            self._refuse_method(data)
        except httptools.HttpParserUpgrade:
            self._end(400, "Upgrade is not supported")
        except httptools.HttpParserError as error:
            self._end(*refused(error))
        else:
            self._after_parsing(data, fresh, before)

    def _lines(self, data: bytes, fresh: bool) -> bytes:
        if fresh:
            eol = data.find(b"\n")
            self._bare = eol > 0 and data[eol - 1 : eol] != b"\r"
            return without_oddities(data)
        return with_crlf(data, begun=True) if self._bare and self._in_head else data

    def _recognize(self, data: bytes) -> RawRequest | None:
        """A whole request whose header block was parsed before, without parsing it again."""
        end = data.find(b"\r\n\r\n")
        eol = data.find(b"\r\n")
        head = self._server.heads.get(data[eol:end])
        if head is None or len(data) != end + 4 + head.length:
            return None
        line = data[:eol].split(b" ")
        if len(line) != 3 or line[2] != b"HTTP/1.1" or line[1][:1] != b"/":
            return None
        method = _METHODS.get(line[0])
        if method is None:
            return None
        request = RawRequest(method, line[1], head)
        if head.length:
            request.body = data[end + 4 :]
            request.length = head.length
        elif len(data) <= MAX_REMEMBERED:
            request.raw = data
        return request

    def _learn(self, data: bytes, request: RawRequest) -> None:
        """Keep the header block of a request that came whole and alone."""
        end = data.find(b"\r\n\r\n")
        eol = data.find(b"\r\n")
        heads, head = self._server.heads, request.head
        if eol < end <= MAX_REMEMBERED and request.keep_alive and head.repeatable():
            if len(heads) >= MAX_HEADS:
                heads.clear()
            head.length = request.length
            heads[data[eol:end]] = head

    def _after_parsing(self, data: bytes, fresh: bool, before: int) -> None:
        queue = self._queue
        if self._now is not None:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > self._server.max_header_bytes:
                    self._end(431, _HEAD_TOO_LARGE)
                    return
            if self._timer is None:
                self._timer = self._loop.call_later(HEADER_SECONDS, self._too_slow)
        else:
            self._stop_timer()
            if fresh and len(queue) == before + 1 and not self._closing:
                if len(data) <= MAX_REMEMBERED and not queue[-1].length:
                    queue[-1].raw = data
                if self._parser.get_http_version() == "1.1":
                    self._learn(data, queue[-1])
        if not self.busy:
            self._next()
        if len(queue) > MAX_QUEUE and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        # Some clients (nc) shut down their side after asking and still want the answer; but a client that
        # is gone looks the same, so what takes longer, such as a blocking query, is given up.
        if self.busy or self._queue:
            self._closing = True
            self._stop_timer()
            self._timer = self._loop.call_later(HALF_CLOSED_SECONDS, self.transport.close)
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not take its answers: no more are made, and no more requests are read."""
        self._can_write = asyncio.Event()
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._can_write is not None:
            self._can_write.set()
            self._can_write = None
        if not self.busy:
            self._next()

    def _too_slow(self) -> None:
        self._timer = None
        self._end(408, "Request took too long to arrive")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_method(self, data: bytes) -> None:
        # The parser knows only registered methods; Consul answers 405 to any other word.
        line = data.split(b"\r\n", 1)[0].split(b" ")
        if self._now is not None and len(line) == 3 and line[0].isalpha() and line[1].startswith(b"/"):
            request = RawRequest(line[0].decode(), line[1])
            request.keep_alive = False
            self._now = None
            self._queue.append(request)
            if not self.busy:
                self._next()
        else:
            self._end(400, "400 Bad Request: malformed request line")

    def _end(self, status: int, text: str) -> None:
        """Answer with an error (after what is still being answered, nothing more) and hang up."""
        if not self._closing:
            self._closing = True
            if not self.busy:
                self.transport.write(self._front.refusal(status, text))
            self.transport.close()

    # the parser's side

    def on_message_begin(self) -> None:
        self._now = RawRequest()
        self._fields = []
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        assert self._now is not None
        self._now.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        request = self._now
        assert request is not None
        request.method = self._parser.get_method().decode("ascii")
        request.head = Head(self._fields)
        self._in_head = False
        limit = self._server.max_header_bytes
        if limit < READ_SIZE and self._head_size() > limit:
            self._end(431, _HEAD_TOO_LARGE)
        problem = host_problem(self._fields, self._parser.get_http_version())
        if problem is not None:
            self._end(400, problem)
        expects = request.head.headers.get("expect", "").lower() == "100-continue"
        if expects and not self._closing and self._parser.get_http_version() != "1.0":
            self.transport.write(CONTINUE)

    def _head_size(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._fields)

    def on_body(self, body: bytes) -> None:
        request = self._now
        assert request is not None
        request.length += len(body)
        archive = request.url.startswith(_ARCHIVES) and self._front.takes_archive(request)
        if request.length <= (MAX_ARCHIVE if archive else self._server.body_cap):
            self._parts.append(body)
        else:
            self._parts = []

    def on_message_complete(self) -> None:
        request = self._now
        assert request is not None
        if self._parts:
            request.body = b"".join(self._parts)
            self._parts = []
        request.keep_alive = self._parser.should_keep_alive()
        self._now = None
        self._queue.append(request)

    # the answering side

    def _next(self) -> None:
        while self._queue and not (self.busy or self._can_write or self.transport.is_closing()):
            request = self._queue.popleft()
            self.busy = True
            if not request.keep_alive:
                self._queue.clear()
            self._front.serve(self, request)
        if self._can_write or self.transport.is_closing():
            return
        if self._paused and len(self._queue) <= MAX_QUEUE // 2:
            self._paused = False
            self.transport.resume_reading()
        if self._closing and not self.busy and not self._queue:
            self.transport.close()

    def reply(self, data: bytes, keep_alive: bool) -> None:
        """Send the answer to the request being answered, and go on with the next."""
        self.waiter = None
        self.task = None
        if not self.transport.is_closing():
            self.transport.write(data)
            if not keep_alive:
                self._closing = True
                self.transport.close()
        self.busy = False
        if self._queue or self._paused or self._closing:
            # By way of the loop, so that a long pipeline neither recurses nor starves other clients.
            self._loop.call_soon(self._next)

    async def stream(self, head: bytes, chunks: Any) -> None:
        """Send an answer without end, as fast as the client reads it; the connection ends with it."""
        self.transport.write(head)
        async for data in chunks:
            if self.transport.is_closing():
                return
            self.transport.write(chunk(data))
            if self._can_write is not None:
                await self._can_write.wait()
        self.transport.write(LAST_CHUNK)
        self.transport.close()


class HttpServer:
    """All HTTP listeners of the agent, and the count of connections by client address."""

    def __init__(
        self,
        front: Front,
        loop: asyncio.AbstractEventLoop,
        max_conns_per_client: int,
        max_header_bytes: int,
        body_cap: int,
    ) -> None:
        """`body_cap`: bytes of a body that are kept; a longer one is counted, then refused."""
        self.front = front
        self.loop = loop
        self.max_conns_per_client = max_conns_per_client
        self.max_header_bytes = max_header_bytes or 1 << 20
        self.body_cap = body_cap
        self.heads: dict[bytes, Head] = {}
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: dict[Connection, None] = {}
        self._by_address: dict[str, int] = {}

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when its address has too many (limits.http_max_conns_per_client)."""
        self._connections[connection] = None
        address = connection.remote
        count = self._by_address[address] = self._by_address.get(address, 0) + 1
        return not address or self.max_conns_per_client <= 0 or count <= self.max_conns_per_client

    def dismiss(self, connection: Connection) -> None:
        """A connection is gone."""
        if self._connections.pop(connection, 0) is None:
            count = self._by_address[connection.remote] - 1
            if count:
                self._by_address[connection.remote] = count
            else:
                del self._by_address[connection.remote]

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def listen_tcp(self, host: str, port: int, tls: Any = None) -> None:
        """Listen on an address; OSError when it is taken."""
        make: Callable[[], Connection] = lambda: Connection(self)  # noqa: E731
        self._servers.append(await self.loop.create_server(make, host, port, ssl=tls, backlog=1024))

    async def listen_unix(self, sock: Any, tls: Any = None) -> None:
        """Listen on a bound Unix socket."""
        make: Callable[[], Connection] = lambda: Connection(self)  # noqa: E731
        self._servers.append(await self.loop.create_unix_server(make, sock=sock, ssl=tls, backlog=1024))

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()

    def close_connections(self) -> None:
        """Hang up on everyone."""
        for connection in list(self._connections):
            connection.transport.close()
