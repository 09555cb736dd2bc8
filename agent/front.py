"""What an HTTP request means: routing, tokens, limits, and the way from a handler's outcome to bytes.

    Connection -> Front.serve -> Router -> handler -> Reply | Question | Command | awaitable -> bytes

Answers to plain reads are remembered under the exact bytes of their request and are good until the
watch that made them fires. Different tokens or headers are different bytes, so nothing leaks."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import TYPE_CHECKING

from agent.exchange import Exchange
from agent.target import Target
from agent.wire import Wire, date_line
from core.api.endpoint import TEXT, Command, Errand, Outcome, Question, Reply
from core.api.router import Router
from core.errors import CtlError, Denied
from core.store.watch import Watch

if TYPE_CHECKING:
    import random

    from agent.audit import Audit
    from agent.calls import Calls
    from agent.http import Connection, RawRequest
    from agent.logs import Logger
    from core.api.endpoint import AgentDoor
    from core.metrics import Metrics

MAX_ANSWERS = 4096
MAX_TARGETS = 8192
MAX_TARGET_SIZE = 512  # bytes
MAX_ANSWER_SIZE = 1 << 20  # bytes of an answer that is worth remembering
MAX_ANSWER_BYTES = 32 << 20  # bytes of all remembered answers


class _Remembered:
    """A remembered answer, its Date line renewed once a second."""

    __slots__ = ("after", "before", "packed", "second", "stale", "watch")

    def __init__(self, before: bytes, after: bytes, watch: Watch, stale: bool) -> None:
        self.before, self.after, self.watch = before, after, watch
        self.stale = stale  # given by a follower
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
        self.agent = agent
        self.calls = calls
        self.wire = wire
        self.settings = settings
        self.chance = chance
        self.log = logger
        self.loop = loop
        self.router = router
        self.metrics = metrics
        self.audit: Audit | None = None  # set where requests are written down
        self._answers: dict[bytes, _Remembered] = {}
        self._answer_bytes = 0
        self._targets: dict[bytes, Target] = {}
        self._asked_cached: dict[bytes, None] = {}
        self._times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._hits = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._second = 0
        self._date = b""

    # remembered answers

    def remembered(self, data: bytes) -> bytes | None:
        """The answer to these very bytes, if it is still true."""
        entry = self._answers.get(data)
        if entry is None:
            return None
        if entry.watch.fired or not (self.calls.is_fresh if entry.stale else self.calls.holds_lease):
            self._forget(data)
            return None
        second = int(time.time())
        if entry.second != second:
            entry.second = second
            entry.packed = entry.before + self.date(second) + entry.after
        self._hits += 1
        return entry.packed

    def remember(self, raw: bytes, reply: Reply, watch: Watch, **form: bool) -> None:
        before, after = self.wire.halves(reply, **form)
        # An answer from memory would be given without a line in the audit log.
        if len(after) > MAX_ANSWER_SIZE or self.audit is not None:
            watch.close()
            return
        if raw in self._answers:
            self._forget(raw)
        self._answer_bytes += len(after)
        self._answers[raw] = _Remembered(before, after, watch, not self.calls.is_leader)
        while len(self._answers) > MAX_ANSWERS or self._answer_bytes > MAX_ANSWER_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, raw: bytes) -> None:
        entry = self._answers.pop(raw)
        self._answer_bytes -= len(entry.after)
        entry.watch.close()

    async def carry_out(self, outcome: Outcome, read: Callable[[Question], Awaitable[Reply]]) -> Reply:
        """The reply that a handler's outcome leads to; `read` makes one of a question."""
        if isinstance(outcome, Reply):
            return outcome
        if isinstance(outcome, Question):
            return await read(outcome)
        if isinstance(outcome, Command):
            return outcome.render(await self.calls.apply(outcome))
        if isinstance(outcome, Errand):
            return outcome.render(await self.calls.run(outcome))
        return await outcome

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to work that no connection owns until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget_answers(self) -> None:
        """Nothing remembered holds any more: leadership or permissions changed."""
        for raw in list(self._answers):
            self._forget(raw)

    def was_asked_cached(self, url: bytes) -> bool:
        """Whether this URL was asked with `?cached` before, so that the answer counts as a hit now."""
        seen = self._asked_cached
        if url in seen:
            return True
        if len(seen) >= MAX_ANSWERS:
            seen.clear()
        seen[url] = None
        return False

    def measure(self, method: str, label: str, seconds: float) -> None:
        """Note how long a request took; told to the metrics by the hundred, since telling costs more."""
        times = self._times[method, label]
        times.append(seconds * 1000)
        if len(times) >= 256:
            self._tell_times(method, label, times)

    def _tell_times(self, method: str, label: str, times: list[float]) -> None:
        # Consul 1.9 has both names, the old one and the one with labels.
        self.metrics.samples(f"http.{method}.{label.replace('_', '.')}", times)
        self.metrics.samples("api.http", times, (("method", method), ("path", label)))
        times.clear()

    def collect(self, metrics: Metrics) -> None:
        """Tell what was not told yet, when someone asks for the metrics."""
        for (method, label), times in self._times.items():
            if times:
                self._tell_times(method, label, times)
        hits, self._hits = self._hits, 0
        if hits:
            metrics.incr("http.remembered", hits)
        metrics.gauge("http.blocked_queries", len(self.calls.lobby))

    def date(self, second: int = 0) -> bytes:
        """The Date line of a Unix second (0: of now), made once a second."""
        second = second or int(time.time())
        if second != self._second:
            self._second = second
            self._date = date_line(second)
        return self._date

    # a request's way

    def target(self, url: bytes) -> Target:
        """What a target means; kept, since clients ask for the same ones again and again."""
        found = self._targets.get(url)
        if found is None:
            found = Target(url, self.router, self.settings.block_endpoints)
            if len(self._targets) >= MAX_TARGETS:
                self._targets.clear()
            if len(url) <= MAX_TARGET_SIZE:
                self._targets[url] = found
        return found

    def takes_archive(self, raw: RawRequest) -> bool:
        """Whether the long body of a request to restore the state is worth taking in: not from those who
        may not, as far as that is known here."""
        permissions, target = self.calls.permissions, self.target(raw.url)
        if permissions is None or target.query is None:
            return target.query is not None
        if target.query.get("dc") not in ("", self.agent.datacenter):
            return True
        try:
            judge = permissions.known(permissions.token(target.token or raw.head.token))
        except Denied:
            return False
        return judge is None or judge.allows("acl", "", "write")

    def refusal(self, status: int, text: str) -> bytes:
        """An error for a connection that will be closed."""
        return self.wire.pack(
            Reply(status, text.encode(), TEXT, bare=True),
            self.date(),
            pretty=False,
            gzip=False,
            head=False,
            close=True,
        )

    def serve(self, connection: Connection, raw: RawRequest) -> None:
        """Answer a request by `connection.reply`, now or later."""
        exchange = Exchange(self, connection, raw)
        try:
            exchange.begin()
        except CtlError as error:
            exchange.fail(error)
        except Exception as error:  # noqa: BLE001  # one request's defect must not take the agent with it
            exchange.crash(error)
