"""Who did what over HTTP: one JSON line for each answered request, in the form of Consul Enterprise's audit
log, with node, datacenter and duration added.

The agent hands over what it knows in a queue; a thread makes the lines and writes them. A disk that is full
or stuck costs lines, never the agent: they are counted, and the next line that can be written says how many
are missing. Secrets are not written: the token's accessor stands for it, tokens in queries and paths are
hidden, bodies are not looked at. A blocked read whose client hung up got no answer and has no line."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from agent.logs import get_logger
from agent.logsinks import FileSink
from agent.masking import mask
from core.errors import CtlError, Denied

if TYPE_CHECKING:
    from agent.front import Front
    from agent.http import RawRequest
    from core.api.endpoint import Permissions
    from core.config.audit import AuditSink

QUEUE = 20_000  # requests that may wait for the disk
_SECOND = 1_000_000_000
_STATUS = slice(9, 12)  # of `HTTP/1.1 200 OK`

_log = get_logger("agent.audit")


class Event(msgspec.Struct):
    """One request that was answered."""

    time: float  # Unix seconds, when the answer was ready
    method: str
    url: str
    remote: str
    agent: str  # of the client, as it calls itself
    accessor: str
    status: int
    seconds: float


class Audit:
    """The log of requests. `note` is called by the event loop, all else happens on a thread."""

    def __init__(self, sinks: list[AuditSink], node: str, datacenter: str) -> None:
        """ConfigError when a file cannot be opened."""
        self._sinks = [
            FileSink(
                sink.path, sink.rotate_bytes, sink.rotate_duration / _SECOND, sink.rotate_max_files, sink.mode
            )
            for sink in sinks
        ]
        self._node, self._datacenter = node, datacenter
        self._events: deque[Event] = deque()
        self._wake = threading.Event()
        self._dropped = 0
        self._closing = False
        self._told = False  # of lines that were lost
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @staticmethod
    def accessor(permissions: Permissions, token: str) -> str:
        """Whose token it is, as far as is known before the request is answered, which may end the token."""
        try:
            judge = permissions.known(token)
        except Denied:  # a token that nobody knows
            return ""
        return judge.accessor if judge is not None else ""

    def saw(
        self,
        front: Front,
        raw: RawRequest,
        remote: str,
        token: str | None,
        accessor: str,
        packed: bytes,
        seconds: float,
    ) -> None:
        """A request was answered with the bytes `packed`. `token` None: nobody asked for one. `accessor`:
        whose it is, if that was known before."""
        headers = raw.head.headers
        event = Event(
            time=time.time(),
            method=raw.method,
            url=raw.url.decode("latin-1"),
            remote=remote,
            agent=headers.get("user-agent", ""),
            accessor=accessor,
            status=int(packed[_STATUS]),
            seconds=seconds,
        )
        permissions = front.calls.permissions
        if accessor or permissions is None or token is None:
            return self.note(event)
        try:
            judge = permissions.known(token)
        except Denied:  # a token that nobody knows
            return self.note(event)
        if judge is None:
            return front.keep(front.loop.create_task(self._named(event, permissions, token)))
        event.accessor = judge.accessor
        return self.note(event)

    async def _named(self, event: Event, permissions: Permissions, token: str) -> None:
        """A client agent asks a server whose token it was."""
        with contextlib.suppress(CtlError):
            event.accessor = (await permissions.find(token)).accessor
        self.note(event)

    def note(self, event: Event) -> None:
        """Write this, soon."""
        if len(self._events) >= QUEUE:
            self._dropped += 1
            return
        self._events.append(event)
        self._wake.set()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for at most so long."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing
            while self._events:
                self._write(self._events.popleft())
            if closing:
                break
        for sink in self._sinks:
            sink.close()

    def _write(self, event: Event) -> None:
        line = self.line(event)
        for sink in self._sinks:
            sink.write(line, 0)
        lost = self._dropped + sum(sink.lost for sink in self._sinks)
        if lost and not self._told:
            self._told = True
            _log.error("audit lines are being lost: the disk is full or too slow")
        elif self._told and not any(sink.failing for sink in self._sinks):
            self._told = False
            self._dropped = 0
            for sink in self._sinks:
                sink.lost = 0
                sink.write(self._gap(lost), 0)
            _log.warn("audit lines are written again", lost=lost)

    def line(self, event: Event) -> bytes:
        """The JSON of a request."""
        moment = _stamp(event.time)
        payload: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "version": "1",
            "type": "HTTPEvent",
            "timestamp": moment,
            "auth": {"accessor_id": event.accessor},
            "request": {
                "operation": event.method,
                "endpoint": mask(event.url),
                "remote_addr": event.remote or "unix",
                "user_agent": event.agent,
            },
            "response": {"status": str(event.status)},
            "stage": "OperationComplete",
            "node": self._node,
            "datacenter": self._datacenter,
            "duration_ms": round(event.seconds * 1000, 3),
        }
        return _json({"created_at": moment, "event_type": "audit", "payload": payload})

    def _gap(self, lost: int) -> bytes:
        moment = _stamp(time.time())
        payload = {"type": "Lost", "timestamp": moment, "node": self._node, "lines": lost}
        return _json({"created_at": moment, "event_type": "audit", "payload": payload})


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _stamp(moment: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(moment)))
    return f"{whole}.{int(moment % 1 * 1_000_000):06d}Z"
