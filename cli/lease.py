"""The session behind a lock: made, renewed on a thread, and known to be alive until a certain time.

A server ends a session TTL after its last renewal at the earliest. It ends it sooner when the node fails,
which takes gossip five seconds to find; only after the lock delay may somebody else have the key. So a
child that is told to end at TTL less a margin after the last renewal that was answered, and is killed
`GRACE` later, is gone before (`TTL - MARGIN + GRACE <= 5 s + LOCK_DELAY`). Until then errors mean
nothing: an election or a restart of the agent is waited out."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.client import ServerError, TransportError
from cli.command import Failure
from cli.supervise import clock

if TYPE_CHECKING:
    from cli.client import Client
    from cli.lockkeys import KV, Mutex, Semaphore
    from cli.wire import Query

TTL = 15.0
LOCK_DELAY = 15.0
MARGIN = 1.0
RENEW_EVERY = 3.0
RETRY_EVERY = 1.0
PATIENCE = 5.0  # seconds until a renewal that is not answered is tried over another connection
WAIT = 60.0  # seconds that one blocking read lasts


class News:
    """A descriptor that can be read once a thread has something to say."""

    def __init__(self) -> None:
        self.readable, self._writing = os.pipe()
        os.set_blocking(self.readable, False)
        os.set_blocking(self._writing, False)

    def tell(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full: nobody will miss this one
            os.write(self._writing, b"!")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.readable, 4096)


class Lease:
    """A session that is renewed until `stop`. `lost` says why it is gone."""

    def __init__(self, dial: Callable[[], Client], query: Query, news: News) -> None:
        self.session = ""
        self.until = 0.0
        """The session lives until then (of `clock`), or was ended on purpose."""
        self.lost = ""
        self._dial, self._query, self._news = dial, query, news
        self._stopping = threading.Event()

    @property
    def lapsed(self) -> bool:
        """So long without an answer that the session may be gone."""
        return clock() >= self.until

    def create(self, client: Client, name: str) -> None:
        """Make the session and begin to renew it. Failure."""
        sent = clock()
        body = {"Name": name, "TTL": f"{TTL:g}s", "LockDelay": f"{LOCK_DELAY:g}s"}
        try:
            answer = client.put("/v1/session/create", self._query, json.dumps(body).encode()).checked().json()
        except TransportError as error:
            text = f"Lock acquisition failed: failed to create session: {error}"
            raise Failure(text, kind=error.kind, hint=error.hint) from None
        self.session = answer["ID"]
        self.until = sent + TTL - MARGIN
        threading.Thread(target=self._renew_on, name="renew", daemon=True).start()

    def stop(self, client: Client) -> None:
        """Renew no more and end the session. Failure: it ends by itself."""
        self._stopping.set()
        client.put("/v1/session/destroy/" + self.session, self._query).checked()

    def _renew_on(self) -> None:
        client = self._dial()
        pause = RENEW_EVERY
        while not self._stopping.wait(pause):
            pause = RENEW_EVERY if self._renew(client) else RETRY_EVERY
            if self.lost:
                return

    def _renew(self, client: Client) -> bool:
        """Whether it was renewed."""
        sent = clock()
        client.deadline = time.monotonic() + PATIENCE
        try:
            response = client.put("/v1/session/renew/" + self.session, self._query)
        except TransportError:
            return False
        if response.status == 200:
            self.until = sent + TTL - MARGIN
        elif response.status == 404:
            self.lost = "its session has ended"
        self._news.tell()
        return response.status == 200


class Monitor:
    """Watches, on a thread, that a lock stays ours. `lost` says why it is not."""

    def __init__(self, keys: Mutex | Semaphore, kv: KV, retries: int | None, news: News) -> None:
        """`retries`: failing reads in a row, a second apart, that do not mean a loss; None: no number of
        them does, the lease alone decides."""
        self.lost = ""
        self._keys, self._kv, self._retries, self._news = keys, kv, retries, news
        self._stopping = threading.Event()
        threading.Thread(target=self._watch, name="monitor", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _watch(self) -> None:
        index = failures = 0
        while not self._stopping.is_set():
            self._kv.client.deadline = time.monotonic() + WAIT * 17 / 16 + PATIENCE
            waiting = [("index", str(index)), ("wait", f"{WAIT:g}s")] if index else []
            try:
                ours, found = self._keys.holds(self._kv, waiting)
            except Failure as error:
                failures, index = failures + 1, 0
                if self._retries is not None and failures > self._retries:
                    return self._tell(f"the lock cannot be watched: {error}")
                self._stopping.wait(RETRY_EVERY)
                continue
            failures = 0
            index = found if found >= index else 0  # it goes back when a snapshot was restored
            if not ours:
                return self._tell("somebody else may have it")
        return None

    def _tell(self, why: str) -> None:
        self.lost = why
        self._news.tell()


def is_passing(failure: Failure) -> bool:
    """Whether trying again may help: nobody answers, or there is no leader."""
    if isinstance(failure, ServerError):
        return failure.response_status >= 500
    return isinstance(failure, TransportError)
