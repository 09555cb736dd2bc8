"""What an HTTP request means: routing, tokens, limits, and the way from a handler's outcome to bytes.

    Connection -> Front.serve -> Router -> handler -> Reply | Question | Command | awaitable -> bytes

Answers to plain reads are remembered under the exact bytes of their request and are good until the
watch that made them fires. Different tokens or headers are different bytes, so nothing leaks."""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.lobby import Lobby, blocks
from agent.wire import Wire, date_line
from core.api.blocking import wait_seconds
from core.api.endpoint import TEXT, Answer, Command, Query, Question, Reply, Request, unescape
from core.api.router import Router
from core.errors import CtlError, Denied, TooLarge
from core.store.watch import Watch

if TYPE_CHECKING:
    import random

    from agent.calls import Calls
    from agent.http import Connection, RawRequest
    from agent.logs import Logger
    from core.api.endpoint import AgentDoor
    from core.metrics import Metrics

MAX_ANSWERS = 4096
_WRITES = frozenset(("PUT", "POST", "DELETE", "PATCH"))


class _Remembered:
    """A remembered answer, its Date line renewed once a second."""

    __slots__ = ("after", "before", "packed", "second", "watch")

    def __init__(self, before: bytes, after: bytes, watch: Watch) -> None:
        self.before, self.after, self.watch = before, after, watch
        self.second = 0
        self.packed = b""


class FrontSettings:
    """What the configuration says about HTTP."""

    def __init__(
        self,
        *,
        block_endpoints: tuple[str, ...] = (),
        allow_write_http_from: tuple[str, ...] = (),
        default_query_time: int,
        max_query_time: int,
        max_body: int,
    ) -> None:
        self.block_endpoints = block_endpoints
        self.write_networks = tuple(ip_network(text, strict=False) for text in allow_write_http_from)
        self.default_query_time = default_query_time
        self.max_query_time = max_query_time
        self.max_body = max_body


class Front:
    """Serves requests. One per agent, shared by all listeners."""

    def __init__(
        self,
        agent: AgentDoor,
        calls: Calls,
        wire: Wire,
        settings: FrontSettings,
        chance: random.Random,
        logger: Logger,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        metrics: Metrics,
    ) -> None:
        self._agent = agent
        self._calls = calls
        self._wire = wire
        self._settings = settings
        self._chance = chance
        self._log = logger
        self._loop = loop
        self._router = router
        self._metrics = metrics
        self._answers: dict[bytes, _Remembered] = {}
        self._cached_once: dict[bytes, None] = {}
        self.lobby = Lobby(loop, self._run)
        self._times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._hits = 0
        self._second = 0
        self._date = b""

    # remembered answers

    def remembered(self, data: bytes) -> bytes | None:
        """The answer to these very bytes, if it is still true."""
        entry = self._answers.get(data)
        if entry is None:
            return None
        if entry.watch.fired:
            del self._answers[data]
            return None
        second = int(time.time())
        if entry.second != second:
            entry.second = second
            entry.packed = entry.before + self._date_line(second) + entry.after
        self._hits += 1
        return entry.packed

    def _remember(self, raw: bytes, reply: Reply, watch: Watch, **form: bool) -> None:
        if len(self._answers) >= MAX_ANSWERS:
            oldest = next(iter(self._answers))
            self._answers.pop(oldest).watch.close()
        before, after = self._wire.halves(reply, **form)
        self._answers[raw] = _Remembered(before, after, watch)

    def forget_answers(self) -> None:
        """Nothing remembered holds any more: leadership or permissions changed."""
        for entry in self._answers.values():
            entry.watch.close()
        self._answers.clear()

    def measure(self, method: str, label: str, seconds: float) -> None:
        """Note how long a request took; told to the metrics by the hundred, since telling costs more."""
        times = self._times[method, label]
        times.append(seconds * 1000)
        if len(times) >= 256:
            self._tell_times(method, label, times)

    def _tell_times(self, method: str, label: str, times: list[float]) -> None:
        # Consul 1.9 has both names, the old one and the one with labels.
        self._metrics.samples(f"http.{method}.{label.replace('_', '.')}", times)
        self._metrics.samples("api.http", times, (("method", method), ("path", label)))
        times.clear()

    def collect(self, metrics: Metrics) -> None:
        """Tell what was not told yet, when someone asks for the metrics."""
        for (method, label), times in self._times.items():
            if times:
                self._tell_times(method, label, times)
        hits, self._hits = self._hits, 0
        if hits:
            metrics.incr("http.remembered", hits)
        metrics.gauge("http.blocked_queries", len(self.lobby))

    def _date_line(self, second: int) -> bytes:
        if second != self._second:
            self._second = second
            self._date = date_line(second)
        return self._date

    # a request's way

    def refusal(self, status: int, text: str) -> bytes:
        """An error for a connection that will be closed."""
        return self._wire.pack(
            Reply(status, text.encode(), TEXT),
            date_line(int(time.time())),
            pretty=False,
            gzip=False,
            head=False,
            close=True,
        )

    def serve(self, connection: Connection, raw: RawRequest) -> None:
        """Answer a request by `connection.reply`, now or later."""
        exchange = _Exchange(self, connection, raw)
        try:
            exchange.begin()
        except CtlError as error:
            exchange.fail(error)
        except Exception as error:  # noqa: BLE001  # one request's defect must not take the agent with it
            exchange.crash(error)

    def _run(self, question: Question, watch: Watch | None) -> Answer | CtlError:
        try:
            return self._calls.ask(question, watch)
        except CtlError as error:
            return error


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_began", "_connection", "_front", "_gzip", "_label", "_pretty", "_raw", "_render")

    def __init__(self, front: Front, connection: Connection, raw: RawRequest) -> None:
        self._front, self._connection, self._raw = front, connection, raw
        self._began = time.perf_counter()
        self._pretty = self._gzip = False
        self._render: Callable[[Any], Reply]  # of a command on its way
        self._label = "unknown"

    def begin(self) -> None:
        front, raw = self._front, self._raw
        target, mark, query = raw.url.partition(b"?")
        path = target.decode("ascii", "replace") if b"%" not in target else _path(target)
        if not path.isprintable() and not _printable(path):
            return self._send(Reply(400))
        if "//" in path or "/." in path:
            clean = _clean(path)
            if clean != path:
                return self._redirect(clean, mark + query)
        settings = front._settings
        if settings.block_endpoints and path.startswith(settings.block_endpoints):
            raise Denied("Endpoint is blocked by agent configuration")
        found = front._router.find(path)
        if found is None:
            if front._router.wants_slash(path):
                return self._redirect(path + "/", mark + query)
            return self._send(Reply(404))
        route, rest = found
        self._label = route.label
        if raw.method not in route.methods:
            return self._wrong_method(route.methods)
        if raw.method in _WRITES:
            self._check_writer()
        try:
            parsed = Query(query) if query else _NO_QUERY
        except ValueError:
            return self._send(Reply(500))
        self._pretty = parsed.has("pretty")
        self._gzip = raw.head.gzip
        if raw.length > settings.max_body and not route.large:
            raise TooLarge(
                f"Request body({raw.length} bytes) too large, max size: {settings.max_body} bytes."
            )
        token = parsed.get("token") or raw.head.token
        request = Request(
            raw.method,
            path,
            rest,
            parsed,
            raw.head.headers,
            raw.body,
            token,
            self._connection.remote,
            raw.length,
        )
        return self._carry_out(route.handler(front._agent, request))

    def _carry_out(self, outcome: Any) -> None:
        if isinstance(outcome, Question):
            if outcome.options.require_consistent:
                self._later(self._consistent(outcome))
            else:
                self._ask(outcome)
        elif isinstance(outcome, Command):
            self._tell(outcome)
        elif isinstance(outcome, Reply):
            self._finish(outcome)
        else:
            self._later(outcome)

    # reads

    def _ask(self, question: Question) -> None:
        front = self._front
        key: Hashable = None
        if question.options.min_query_index:
            key = (
                question.read.rpc,
                question.args,
                question.options.min_query_index,
                question.options.datacenter,
            )
            if front.lobby.has(key):
                return self._wait(key, question, None)
        watch = Watch()
        try:
            answer = front._calls.ask(question, watch)
        except CtlError:
            watch.close()
            raise
        if key is not None and blocks(answer, question):
            return self._wait(key, question, watch)
        reply = self._dress(question, answer)
        if (
            self._raw.raw is not None
            and key is None
            and answer.remember
            and reply.status == 200
            and self._raw.keep_alive
            and not question.options.require_consistent
        ):
            front._remember(self._raw.raw, reply, watch, pretty=self._pretty, gzip=self._gzip)
        else:
            watch.close()
        return self._send(reply)

    def _wait(self, key: Hashable, question: Question, watch: Watch | None) -> None:
        settings = self._front._settings
        seconds = wait_seconds(
            question.options, self._front._chance, settings.default_query_time, settings.max_query_time
        )
        self._connection.waiter = self._front.lobby.join(key, question, watch, seconds, self._woken)

    def _woken(self, question: Question, outcome: Answer | CtlError, shared: dict[Hashable, bytes]) -> None:
        if isinstance(outcome, CtlError):
            return self.fail(outcome)
        form = (self._label, self._raw.url, self._pretty, self._gzip, self._raw.keep_alive)
        packed = shared.get(form)
        if packed is None:
            packed = shared[form] = self._pack(self._dress(question, outcome))
        self._front.measure(self._raw.method, self._label, time.perf_counter() - self._began)
        return self._connection.reply(packed, self._raw.keep_alive)

    async def _consistent(self, question: Question) -> Reply:
        await self._front._calls.verify()
        self._ask(question)
        return _ALREADY_SENT

    def _dress(self, question: Question, answer: Answer) -> Reply:
        reply = question.render(answer)
        options = question.options
        headers = dict(reply.headers)
        headers["X-Consul-KnownLeader"] = "true"
        headers["X-Consul-LastContact"] = "0"
        if question.tells_consistency:
            mode = (
                "stale" if options.allow_stale else "consistent" if options.require_consistent else "leader"
            )
            headers["X-Consul-Effective-Consistency"] = mode
        if options.use_cache and question.tells_consistency:
            headers.update(self._cache_headers())
        return Reply(reply.status, reply.body, reply.content_type, headers, max(answer.index, 1))

    def _cache_headers(self) -> dict[str, str]:
        seen = self._front._cached_once
        if self._raw.url in seen:
            return {"X-Cache": "HIT", "Age": "0"}
        if len(seen) >= MAX_ANSWERS:
            seen.clear()
        seen[self._raw.url] = None
        return {"X-Cache": "MISS"}

    # writes and agent work

    def _tell(self, command: Command) -> None:
        self._render = command.render
        self._front._calls.tell(command, self._told)

    def _told(self, result: object) -> None:
        if isinstance(result, CtlError):
            self.fail(result)
        elif isinstance(result, BaseException):
            self.crash(result)
        else:
            self._send(self._render(result))

    def _later(self, work: Awaitable[Reply]) -> None:
        self._connection.task = self._front._loop.create_task(self._work(work))

    async def _work(self, work: Awaitable[Reply]) -> None:
        try:
            reply = await work
            if reply.stream is not None:
                head = self._front._wire.stream_head(reply, date_line(int(time.time())))
                await self._connection.stream(head, reply.stream)
            elif reply is not _ALREADY_SENT:
                self._finish(reply)
        except CtlError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001  # as in serve: a defect answers 500, the agent lives on
            self.crash(error)

    def _finish(self, reply: Reply) -> None:
        if reply.stream is not None:
            self._later(_given(reply))
        else:
            self._send(reply)

    # answers

    def _send(self, reply: Reply) -> None:
        self._front.measure(self._raw.method, self._label, time.perf_counter() - self._began)
        self._connection.reply(self._pack(reply), self._raw.keep_alive)

    def _pack(self, reply: Reply) -> bytes:
        front = self._front
        date = front._date_line(int(time.time()))
        if reply.fixed and self._raw.keep_alive and not self._pretty:
            before, after = front._wire.fixed(reply)
            return before + date + after
        return front._wire.pack(
            reply,
            date,
            pretty=self._pretty,
            gzip=self._gzip,
            head=self._raw.method == "HEAD",
            close=not self._raw.keep_alive,
        )

    def fail(self, error: CtlError) -> None:
        reply = Reply(error.status, error.text.encode("utf-8", "replace"), TEXT)
        if error.status == 500 and self._raw.method == "GET":
            reply.index = 1
            reply.headers = {"X-Consul-KnownLeader": "false", "X-Consul-LastContact": "0"}
        self._send(reply)

    def crash(self, error: BaseException) -> None:
        import traceback

        self._front._log.error(
            "request failed",
            method=self._raw.method,
            url=self._raw.url.decode("latin-1"),
            error=repr(error),
            trace="".join(traceback.format_exception(error)),
        )
        self._send(Reply(500, f"internal error: {type(error).__name__}: {error}".encode(), TEXT))

    def _wrong_method(self, methods: tuple[str, ...]) -> None:
        allow = {"Allow": ",".join(("OPTIONS", *methods))}
        if self._raw.method == "OPTIONS":
            return self._send(Reply(200, headers=allow))
        return self._send(Reply(405, f"method {self._raw.method} not allowed".encode(), TEXT, allow))

    def _redirect(self, path: str, query: bytes) -> None:
        location = quote(path.encode("utf-8", "surrogateescape"), safe="/~!$&'()*+,;=:@-._") + query.decode(
            "latin-1"
        )
        reply = Reply(301, headers={"Location": location})
        if self._raw.method == "GET":
            reply.body = f'<a href="{location}">Moved Permanently</a>.\n\n'.encode()
            reply.content_type = "text/html; charset=utf-8"
        self._send(reply)

    def _check_writer(self) -> None:
        networks = self._front._settings.write_networks
        remote = self._connection.remote
        if networks and remote:
            address = ip_address(remote.partition("%")[0])
            if not any(address in network for network in networks):
                raise Denied("Access is restricted")


_ALREADY_SENT = Reply()
_NO_QUERY = Query(b"")


async def _given(reply: Reply) -> Reply:
    return reply


def _path(target: bytes) -> str:
    try:
        return unescape(target, plus=False)
    except ValueError:
        return "\x00"  # not printable: answered 400


def _printable(path: str) -> bool:
    """Whether every character prints; bytes that are no UTF-8 count as U+FFFD, as in Go."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").isprintable()


def _clean(path: str) -> str:
    """Go's path cleaning: no empty, `.` or `..` elements; a trailing slash stays."""
    clean = posixpath.normpath(path)
    if clean.startswith("//"):
        clean = clean[1:]
    return clean + "/" if path.endswith(("/", "/.", "/..")) and clean != "/" else clean
