"""What templates ask for, fetched and kept current: a blocking query per dependency, on threads.

An agent takes so many connections of one client over TCP (limits.http_max_conns_per_client, 200), and
threads cost memory. So only so many dependencies have a thread and a connection of their own; a few threads
go round among the others with short waits."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from cli.client import Client, error_text
from cli.command import Failure
from cli.lease import News
from core.template.answers import answer, request
from core.template.deps import DatacentersDep, Dependency, FileDep, NodeDep
from core.template.render import MISSING
from core.template.settings import Settings

WATCHERS_TCP, WATCHERS_UNIX = 80, 800
ROUNDERS = 10
ROUND = 1.0  # seconds that going round takes, longer when that would be too many questions
QUESTIONS_PER_SECOND = 20  # of one thread that goes round
FILES_EVERY = 2.0
DATACENTERS_EVERY = 10.0
MARGIN = 10.0  # seconds that an answer may take beyond its wait


class Broken(Exception):
    """A dependency could not be fetched in as many attempts as are allowed."""


class Brain:
    """The answers so far, kept current while `want` asks for them. Used by one thread, fed by many."""

    def __init__(self, settings: Settings, log: Callable[[str, str], None]) -> None:
        self.news = News()
        self._settings, self._log = settings, log
        self._values: dict[Dependency, Any] = {}
        self._of: dict[Dependency, _Watcher] = {}
        self._rounders: list[_Watcher] = []
        self._inbox: queue.SimpleQueue[tuple[Dependency, Any]] = queue.SimpleQueue()
        unix = Client(settings.agent, environment(settings)).place.unix
        self._most = WATCHERS_UNIX if unix else WATCHERS_TCP
        self.rendered = False  # all templates have been, once

    def lookup(self, dependency: Dependency) -> Any:
        """The answer, MISSING while there is none."""
        return self._values.get(dependency, MISSING)

    def want(self, wanted: set[Dependency]) -> None:
        """Watch these from now on and no others."""
        for dependency in set(self._of) - wanted:
            self._of.pop(dependency).drop(dependency)
            self._values.pop(dependency, None)
        for dependency in sorted(wanted - set(self._of), key=str):
            self._of[dependency] = self._watcher()
            self._of[dependency].add(_Question(dependency, self._settings, self._log, self._attempts))

    def _attempts(self) -> int:
        """How often a question is asked until it is given up; 0 is for ever."""
        retry = self._settings.retry
        return 0 if self.rendered and not retry.limit_set else retry.attempts

    def _watcher(self) -> _Watcher:
        """A thread of its own, or one that goes round."""
        alone = len(self._of) - sum(rounder.load for rounder in self._rounders)
        if alone < self._most:
            return _Watcher(self._settings, self._tell)
        if len(self._rounders) < ROUNDERS:
            self._rounders.append(_Watcher(self._settings, self._tell, goes_round=True))
        return min(self._rounders, key=lambda rounder: rounder.load)

    def _tell(self, dependency: Dependency, value: Any) -> None:
        self._inbox.put((dependency, value))
        self.news.tell()

    def changes(self) -> list[Dependency]:
        """The dependencies whose values have come or changed since. Broken when one cannot be fetched."""
        self.news.clear()
        changed: list[Dependency] = []
        while True:
            try:
                dependency, value = self._inbox.get_nowait()
            except queue.Empty:
                return changed
            if dependency not in self._of:
                continue
            if isinstance(value, Broken):
                raise value
            if dependency not in self._values or self._values[dependency] != value:
                self._values[dependency] = value
                changed.append(dependency)

    def close(self) -> None:
        """Let all threads end when their question is answered; they are daemons."""
        for watcher in {*self._of.values(), *self._rounders}:
            watcher.stop()


class _Watcher:
    """A thread with a connection of its own: for one dependency, or going round among several."""

    def __init__(
        self, settings: Settings, tell: Callable[[Dependency, Any], None], goes_round: bool = False
    ) -> None:
        self._settings, self._tell, self._goes_round = settings, tell, goes_round
        self._questions: dict[Dependency, _Question] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._client: Client | None = None
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> int:
        return len(self._questions)

    def add(self, question: _Question) -> None:
        with self._changed:
            self._questions[question.dependency] = question
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="template", daemon=True)
            self._thread.start()

    def drop(self, dependency: Dependency) -> None:
        with self._changed:
            self._questions.pop(dependency, None)
        if not self._goes_round:
            self.stop()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._ended:
                    return
                now = time.monotonic()
                questions = [question for question in self._questions.values() if question.due_at <= now]
                if not questions:
                    times = [question.due_at for question in self._questions.values()]
                    self._changed.wait(max(0.0, min(times) - now) if times else None)
                    continue
                wait = self._settings.query_wait
                if self._goes_round:
                    wait = max(ROUND / len(questions), 1 / QUESTIONS_PER_SECOND)
            for question in questions:
                if self._ended:
                    return
                self._ask(question, wait)

    def _ask(self, question: _Question, wait: float) -> None:
        try:
            if self._client is None:
                self._client = Client(self._settings.agent, environment(self._settings))
            found = question.ask(self._client, wait)
        except Failure as failure:
            self._client = None
            found = question.failed(failure)
        if found is not None:
            self._tell(question.dependency, found[0])


class _Question:
    """One dependency: where its index stands, and how often it failed."""

    def __init__(
        self,
        dependency: Dependency,
        settings: Settings,
        log: Callable[[str, str], None],
        attempts: Callable[[], int],
    ) -> None:
        self.dependency = dependency
        self._log, self._attempts = log, attempts
        self.due_at = 0.0  # when to ask next
        self._settings = settings
        self._index = 0
        self._failures = 0
        self._consistent = False  # the last stale answer was too old
        self._own_node = ""
        self._seen: tuple[int, ...] | None = None  # of a file

    def ask(self, client: Client, wait: float) -> tuple[Any] | None:
        """One question; the answer if it is another one. Failure when there is none."""
        if isinstance(self.dependency, FileDep):
            return self._file(self.dependency.path)
        if isinstance(self.dependency, NodeDep) and not self.dependency.name and not self._own_node:
            self._own_node = client.get("/v1/agent/self").checked().json()["Config"]["NodeName"]
        path, query = request(self.dependency, self._own_node)
        if self._index:
            query += [("index", str(self._index)), ("wait", f"{int(wait * 1000)}ms")]
        if self._settings.max_stale > 0 and not self._consistent:
            query.append(("stale", ""))
        client.deadline = time.monotonic() + wait * 17 / 16 + MARGIN
        response = client.get(path, query)
        if response.status != 404:
            response.checked()
        self._failures = 0
        if self._too_old(response.headers):
            return None
        index, before = response.index, self._index
        self._index = 0 if index < before else index
        if isinstance(self.dependency, DatacentersDep):
            self.due_at = time.monotonic() + DATACENTERS_EVERY
        elif not index:
            self.due_at = time.monotonic() + 1.0  # an agent never says 0; whoever does would have us spin
        if index and index == before:
            return None
        try:
            return (answer(self.dependency, None if response.status == 404 else response.json()),)
        except ValueError as error:
            raise Failure(str(error)) from None

    def _too_old(self, headers: dict[str, str]) -> bool:
        """Whether a stale answer is older than allowed: then the leader is asked, without delay."""
        contact = headers.get("x-consul-lastcontact", "0")
        age = int(contact) / 1000 if contact.isascii() and contact.isdigit() else 0.0
        stale, self._consistent = not self._consistent, False
        if stale and 0 < self._settings.max_stale < age:
            self._consistent = True
            return True
        return False

    def failed(self, failure: Failure) -> tuple[Any] | None:
        """What to tell after a failure: nothing but to try again, until the attempts are used up."""
        self._failures += 1
        self._index = 0  # whoever answers next may be another one
        retry, attempts = self._settings.retry, self._attempts()
        if attempts and self._failures >= attempts:
            return (Broken(f"{self.dependency}: {failure} (attempt {self._failures}, none left)"),)
        delay = min(retry.most, retry.backoff * 2 ** min(self._failures - 1, 30))
        pause = delay * random.uniform(0.75, 1.25)
        self.due_at = time.monotonic() + pause
        self._log("WARN", f"{self.dependency}: {failure}; next try in {pause:.3g}s")
        return None

    def _file(self, path: str) -> tuple[Any] | None:
        self.due_at = time.monotonic() + FILES_EVERY
        try:
            found = os.stat(path)
            seen: tuple[int, ...] = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return None
            with open(path, "rb") as file:
                data: str | None = file.read().decode("utf-8", "surrogateescape")
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise Failure(f"open {path}: {error_text(error)}") from None
            seen, data = (), None
            if seen == self._seen:
                return None
        self._seen = seen
        return (data,)


def environment(settings: Settings) -> dict[str, str]:
    """The environment for the client: what the configuration says wins over variables."""
    found = dict(os.environ)
    found.setdefault("CONSUL_HTTP_TOKEN", found.get("CONSUL_TOKEN", ""))
    for name in ("HTTP_AUTH", "HTTP_SSL_VERIFY"):
        if name in settings.agent:
            found[f"CTL_{name}"] = settings.agent[name]
    return found


def agent_variables(settings: Settings) -> dict[str, str]:
    """What tells the programs that we run of the agent that the configuration names."""
    agent = settings.agent
    named = {
        "CONSUL_HTTP_ADDR": agent.get("http-addr"),
        "CONSUL_HTTP_AUTH": agent.get("HTTP_AUTH"),
        "CONSUL_HTTP_TOKEN": agent.get("token"),
        "CONSUL_HTTP_TOKEN_FILE": agent.get("token-file"),
        "CONSUL_HTTP_SSL_VERIFY": agent.get("HTTP_SSL_VERIFY"),
    }
    return {name: value for name, value in named.items() if value}
