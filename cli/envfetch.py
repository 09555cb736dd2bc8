"""The values below some prefixes, kept current by one blocking query each, on threads."""

from __future__ import annotations

import queue
import select
import threading
import time
from typing import TYPE_CHECKING, Any

from cli.client import Client, ServerError
from cli.command import Failure
from cli.lease import News
from core.watch.progress import back_off

if TYPE_CHECKING:
    from cli.call import Call
    from cli.supervise import Signals

WAIT = 300  # seconds of one blocking query
MARGIN = 10.0
_DENIED = (400, 401, 403)  # what time does not heal

Pairs = list[tuple[str, bytes]]


class Values:
    """The last known keys and values. Used by one thread, fed by one for each prefix."""

    def __init__(self, call: Call, prefixes: list[str], follow: bool) -> None:
        self._news = News()
        self._inbox: queue.SimpleQueue[tuple[int, Pairs | Failure]] = queue.SimpleQueue()
        self._prefixes = prefixes
        self._known: list[Pairs | None] = [None] * len(prefixes)
        for position in range(len(prefixes)):
            client = Client(call.values)
            words = (client, call.query(), position, follow)
            threading.Thread(target=self._watch, args=words, name="env", daemon=True).start()

    @property
    def readable(self) -> int:
        """A descriptor that can be read when `take` has something."""
        return self._news.readable

    @property
    def complete(self) -> bool:
        """Every prefix has been answered."""
        return None not in self._known

    def entries(self) -> list[tuple[str, Pairs]]:
        """Keys and values by prefix, in the order of the prefixes."""
        return [(prefix, known or []) for prefix, known in zip(self._prefixes, self._known, strict=True)]

    def wait(self, signals: Signals) -> None:
        """Until something comes. Stop, Failure."""
        with signals.interruptible():
            select.select([self.readable, signals.wakeup], [], [])
        self.take()

    def take(self) -> bool:
        """Take in what came. Failure when a prefix may not be read, and never could."""
        self._news.clear()
        came = False
        while True:
            try:
                position, found = self._inbox.get_nowait()
            except queue.Empty:
                return came
            if isinstance(found, Failure):
                if self._known[position] is None:
                    raise found
            else:
                self._known[position] = found
                came = True

    def _watch(self, client: Client, common: Any, position: int, follow: bool) -> None:
        """On a thread: ask, tell, ask again. Through failures the last values stay."""
        prefix, index, failures, known = self._prefixes[position], 0, 0, False
        while True:
            waiting = [("index", str(index)), ("wait", f"{WAIT}s")] if index else []
            client.deadline = time.monotonic() + WAIT * 17 / 16 + MARGIN
            try:
                answer = client.get("/v1/kv/" + prefix, [("recurse", ""), *waiting, *common])
                pairs = _pairs(None if answer.status == 404 else answer.checked().json())
            except Failure as failure:
                failures += 1
                index = 0
                self._failed(position, failure, failures, known)
                time.sleep(back_off(failures))
                continue
            failures, known = 0, True
            if answer.index != index or not index:
                self._inbox.put((position, pairs))
                self._news.tell()
            if not follow:
                return
            if not answer.index:
                time.sleep(1.0)  # an agent never says 0; whoever does would have us spin
            index = answer.index if answer.index >= index else 0

    def _failed(self, position: int, failure: Failure, failures: int, known: bool) -> None:
        if isinstance(failure, ServerError) and failure.response_status in _DENIED and not known:
            self._inbox.put((position, Failure(f"Error: env: {failure}", kind=failure.kind)))
            self._news.tell()
        elif failures == 1:
            from cli.call import note

            last = "the command keeps the last values" if known else "it is waited for"
            note(f"env: {failure}; {last}")


def _pairs(entries: Any) -> Pairs:
    from binascii import a2b_base64

    return [(entry["Key"], a2b_base64(entry["Value"] or "")) for entry in entries or []]
