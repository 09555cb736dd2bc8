"""One request and its answer: from its target to a handler, from the handler's outcome to a reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.calls import question_key
from agent.lobby import blocks
from agent.logs import DEBUG
from agent.masking import mask
from core.api.blocking import wait_seconds
from core.api.endpoint import TEXT, Answer, Command, Question, Reply, Request
from core.codec import duration, gojson
from core.errors import BadRequest, CtlError, Denied, TooLarge
from core.node.abroad import translated
from core.store.watch import Watch

if TYPE_CHECKING:
    from agent.front import Front
    from agent.http import Connection, RawRequest
    from agent.target import Target
    from core.api.endpoint import Handler, Permissions

SLICE = 1000  # elements of a long list that are rendered at once
_WRITES = frozenset(("PUT", "POST", "DELETE", "PATCH"))
_WITHOUT_INDEX = (b"/v1/health/service/", b"/v1/health/connect/", b"/v1/health/ingress/")  # their errors


class Exchange:
    """One request and its answer."""

    __slots__ = (
        *("_accessor", "_began", "_connection", "_front", "_gzip", "_label"),
        *("_pretty", "_raw", "_render", "_token"),
    )

    def __init__(self, front: Front, connection: Connection, raw: RawRequest) -> None:
        self._front, self._connection, self._raw = front, connection, raw
        self._began = time.perf_counter()
        self._pretty = self._gzip = False
        self._render: Callable[[Any], Reply]  # of a command on its way
        self._label = "unknown"
        self._token: str | None = None  # that counts, where ACLs are on
        self._accessor = ""  # of the token, for the audit log

    def begin(self) -> None:
        front, raw = self._front, self._raw
        target = front.target(raw.url)
        if target.blocked:
            raise Denied("Endpoint is blocked by agent configuration")
        route = target.route
        if route is None:
            return self._nowhere(target)
        self._label = route.label
        if target.query is None:
            return self._send(Reply(500))
        if raw.method not in route.methods:
            return self._wrong_method(route.methods)
        if front.settings.write_networks and raw.method in _WRITES:
            self._check_writer()
        self._pretty = target.pretty
        self._gzip = raw.head.gzip
        limit = front.settings.max_body
        if raw.length > limit and not route.large:
            raise TooLarge(f"Request body({raw.length} bytes) too large, max size: {limit} bytes.")
        request = Request(
            raw.method,
            target.path,
            target.rest,
            target.query,
            raw.head.headers,
            raw.body,
            target.token or raw.head.token,
            self._connection.remote,
            raw.length,
        )
        if target.namespace or (raw.head.namespace and route.namespaced):
            self._refuse_namespace(raw.head.namespace)
        permissions = front.calls.permissions
        if permissions is not None:
            self._token = request.token = permissions.token(request.token)
            if front.audit is not None:
                self._accessor = front.audit.accessor(permissions, request.token)
            if route.guarded:
                authorizer = permissions.known(request.token)
                if authorizer is None:
                    return self._later(self._judged(permissions, route.handler, request))
                request.authorizer = authorizer
        return self._carry_out(route.handler(front.agent, request))

    async def _judged(self, permissions: Permissions, handler: Handler, request: Request) -> Reply:
        """A guarded request whose token a server must be asked about."""
        request.authorizer = await permissions.find(request.token)
        return await self._front.carry_out(handler(self._front.agent, request), self._elsewhere)

    def _carry_out(self, outcome: Any) -> None:
        if isinstance(outcome, Question):
            if outcome.options.require_consistent or not self._front.calls.here(outcome):
                self._later(self._elsewhere(outcome))
            else:
                self._ask(outcome)
        elif isinstance(outcome, Command):
            self._tell(outcome)
        elif isinstance(outcome, Reply):
            self._finish(outcome)
        else:
            self._later(self._front.carry_out(outcome, self._elsewhere))

    # reads

    def _ask(self, question: Question) -> None:
        front = self._front
        key: Hashable = None
        if question.options.min_query_index:
            key = question_key(question)
            if front.calls.lobby.has(key):
                return self._wait(key, question, None)
        watch = Watch(whole=key is None)  # to be remembered with its index, or to wait for news
        try:
            answer = front.calls.ask(question, watch)
        except CtlError:
            watch.close()
            raise
        if key is not None and blocks(answer, question):
            return self._wait(key, question, watch)
        if question.each is not None and len(answer.value) > SLICE:
            watch.close()
            return self._later(self._in_slices(question, question.each, answer))
        reply = self._dress(question, answer)
        if (
            self._raw.raw is not None
            and key is None
            and answer.remember
            and reply.status == 200
            and self._raw.keep_alive
            and not question.options.require_consistent
            and (front.calls.is_leader or front.calls.is_fresh)
        ):
            front.remember(self._raw.raw, reply, watch, pretty=self._pretty, gzip=self._gzip)
        else:
            watch.close()
        return self._send(reply)

    async def _in_slices(self, question: Question, each: Callable[[Any], Any], answer: Answer) -> Reply:
        """A long list, without holding the loop: others get their turn between the slices, and
        compression, which gives up the interpreter lock, runs on a thread."""
        pieces = []
        for start in range(0, len(answer.value), SLICE):
            pieces.append(gojson.encode([each(item) for item in answer.value[start : start + SLICE]])[1:-1])
            await asyncio.sleep(0)
        body = b"[" + b",".join(pieces) + b"]"
        reply = self._dress(question, answer, Reply(body=body))
        if self._gzip:
            packed = await self._front.loop.run_in_executor(None, self._pack, reply)
            self._note(packed)
            self._connection.reply(packed, self._raw.keep_alive)
            return _ALREADY_SENT
        return reply

    def _wait(self, key: Hashable, question: Question, watch: Watch | None) -> None:
        settings = self._front.settings
        seconds = wait_seconds(
            question.options, self._front.chance, settings.default_query_time, settings.max_query_time
        )
        self._connection.waiter = self._front.calls.lobby.join(key, question, watch, seconds, self._woken)

    def _woken(self, question: Question, outcome: Answer | CtlError, shared: dict[Hashable, bytes]) -> None:
        if isinstance(outcome, CtlError):
            return self.fail(outcome)
        form = (self._label, self._raw.url, self._pretty, self._gzip, self._raw.keep_alive)
        packed = shared.get(form)
        if packed is None:
            packed = shared[form] = self._pack(self._dress(question, outcome))
        self._note(packed)
        return self._connection.reply(packed, self._raw.keep_alive)

    async def _elsewhere(self, question: Question) -> Reply:
        """A read that takes a word with other servers, to confirm the leadership or to be answered."""
        calls = self._front.calls
        if question.options.use_cache and question.tells_consistency and calls.keeps(question):
            if calls.permissions is not None:  # what is at hand is not for a token that is gone meanwhile
                await calls.permissions.find(question.options.token)
            answer, hit = await calls.cache.get(question)
            reply = self._dress(question, self._translated(question, answer))
            age = {"Age": str(calls.cache.age(question))} if hit else {}
            reply.headers |= {"X-Cache": "HIT" if hit else "MISS", **age}
            return reply
        answer = self._translated(question, await calls.read(question))
        if question.each is not None and len(answer.value) > SLICE:
            return await self._in_slices(question, question.each, answer)
        return self._dress(question, answer)

    def _translated(self, question: Question, answer: Answer) -> Answer:
        """What another datacenter answered, with the addresses that count from here."""
        agent = self._front.agent
        if not agent.translate_wan_addrs or question.options.datacenter in ("", agent.datacenter):
            return answer
        return replace(answer, value=translated(answer.value))

    def _dress(self, question: Question, answer: Answer, rendered: Reply | None = None) -> Reply:
        reply = rendered or question.render(answer)
        options = question.options
        headers = dict(reply.headers)
        headers["X-Consul-KnownLeader"] = "true" if answer.known_leader else "false"
        headers["X-Consul-LastContact"] = str(answer.last_contact // duration.MILLISECOND)
        if question.tells_consistency:
            mode = (
                "stale" if options.allow_stale else "consistent" if options.require_consistent else "leader"
            )
            headers["X-Consul-Effective-Consistency"] = mode
        if answer.filtered:
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        if options.use_cache and question.tells_consistency and self._front.calls.here(question):
            headers.update(self._cache_headers())
        index = max(answer.index, 1) if question.indexed else 0
        return Reply(reply.status, reply.body, reply.content_type, headers, index)

    def _cache_headers(self) -> dict[str, str]:
        # The store is here: what is cached is as fresh as what is not.
        if self._front.was_asked_cached(self._raw.url):
            return {"X-Cache": "HIT", "Age": "0"}
        return {"X-Cache": "MISS"}

    # writes and agent work

    def _tell(self, command: Command) -> None:
        self._render = command.render
        self._front.calls.tell(command, self._told)

    def _told(self, result: object) -> None:
        if isinstance(result, CtlError):
            self.fail(result)
        elif isinstance(result, BaseException):
            self.crash(result)
        else:
            self._send(self._render(result))

    def _later(self, work: Awaitable[Reply]) -> None:
        task = self._front.loop.create_task(self._work(work))
        if self._raw.method == "GET":
            self._connection.task = task
        else:  # what was begun is finished, whoever hangs up
            self._front.keep(task)

    async def _work(self, work: Awaitable[Reply]) -> None:
        try:
            reply = await work
            if reply.stream is not None:
                head = self._front.wire.stream_head(reply, self._front.date())
                self._write_down(head, time.perf_counter() - self._began)
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
        packed = self._pack(reply)
        self._note(packed)
        self._connection.reply(packed, self._raw.keep_alive)

    def _note(self, packed: bytes) -> None:
        """The request is answered: how long it took."""
        front, raw = self._front, self._raw
        seconds = time.perf_counter() - self._began
        front.measure(raw.method, self._label, seconds)
        if front.log.wants(DEBUG):
            url, latency = mask(raw.url.decode("latin-1")), duration.show(int(seconds * 1e9))
            front.log.debug(
                "Request finished",
                method=raw.method,
                url=url,
                **{"from": self._connection.remote},
                latency=latency,
            )
        self._write_down(packed, seconds)

    def _write_down(self, packed: bytes, seconds: float) -> None:
        """A line in the audit log, where there is one."""
        front = self._front
        if front.audit is not None:
            remote = self._connection.remote
            front.audit.saw(front, self._raw, remote, self._token, self._accessor, packed, seconds)

    def _pack(self, reply: Reply) -> bytes:
        front = self._front
        date = front.date()
        if reply.fixed and self._raw.keep_alive and not self._pretty:
            before, after = front.wire.fixed(reply)
            return before + date + after
        return front.wire.pack(
            reply,
            date,
            pretty=self._pretty,
            gzip=self._gzip,
            head=self._raw.method == "HEAD",
            close=not self._raw.keep_alive,
        )

    def fail(self, error: CtlError) -> None:
        reply = Reply(error.status, error.text.encode("utf-8", "replace"), TEXT)
        indexed = error.status in (403, 500) and self._raw.method == "GET"
        if indexed and not self._raw.url.startswith(_WITHOUT_INDEX):
            reply.index = 1
            reply.headers = {"X-Consul-KnownLeader": "false", "X-Consul-LastContact": "0"}
        self._send(reply)

    def crash(self, error: BaseException) -> None:
        import traceback

        self._front.log.error(
            "request failed",
            method=self._raw.method,
            url=mask(self._raw.url.decode("latin-1")),
            error=repr(error),
            trace="".join(traceback.format_exception(error)),
        )
        self._send(Reply(500, f"internal error: {type(error).__name__}: {error}".encode(), TEXT))

    def _wrong_method(self, methods: tuple[str, ...]) -> None:
        allow = {"Allow": ",".join(("OPTIONS", *methods))}
        if self._raw.method == "OPTIONS":
            return self._send(Reply(200, headers=allow))
        return self._send(Reply(405, f"method {self._raw.method} not allowed".encode(), TEXT, allow))

    def _nowhere(self, target: Target) -> None:
        """What no endpoint answers: a path that is written otherwise, is none, or is unknown."""
        if not target.location:
            return self._send(Reply(target.status, target.text, TEXT, bare=True))
        reply = Reply(301, headers={"Location": target.location}, bare=True)
        if self._raw.method in ("GET", "HEAD"):
            place = target.location.replace("&", "&amp;").replace("'", "&#39;")
            reply.body = f'<a href="{place}">Moved Permanently</a>.\n\n'.encode()
            reply.content_type = "text/html; charset=utf-8"
        return self._send(reply)

    def _refuse_namespace(self, header: str) -> None:
        """What is asked of one namespace must not be done in the only one that there is."""
        given = 'header: "X-Consul-Namespace"' if header else 'query parameter: "ns"'
        raise BadRequest(f"Bad request: Invalid {given} - Namespaces are a Consul Enterprise feature")

    def _check_writer(self) -> None:
        remote = self._connection.remote
        if remote:
            address = ip_address(remote.partition("%")[0])
            if not any(address in network for network in self._front.settings.write_networks):
                raise Denied("Access is restricted")


_ALREADY_SENT = Reply()


async def _given(reply: Reply) -> Reply:
    return reply
