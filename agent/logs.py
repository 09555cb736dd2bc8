"""The agent's log: Consul's line format or JSON, to stdout, rotated files, syslog and `monitor`.

    log = get_logger("agent.http")
    log.info("Started HTTP server", address="127.0.0.1:8500", network="tcp")
    2026-11-23T04:43:40.123Z [INFO]  agent.http: Started HTTP server: address=127.0.0.1:8500 network=tcp

A line that no one wants costs one comparison. Writing never blocks the agent and never fails it: what
a full disk, a closed or a stuck stdout does not take is counted, dropped, and told of when it is well
again. Values of fields that are named like secrets, and `token=` in texts, are hidden."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from agent.logsinks import FileSink, Sink, StreamSink, SyslogSink
from core.errors import ConfigError

TRACE, DEBUG, INFO, WARN, ERROR = range(1, 6)
_NAMES = {"TRACE": TRACE, "DEBUG": DEBUG, "INFO": INFO, "WARN": WARN, "ERR": ERROR, "ERROR": ERROR}
_TAGS = ("", "[TRACE]", "[DEBUG]", "[INFO] ", "[WARN] ", "[ERROR]")
_WORDS = ("", "trace", "debug", "info", "warn", "error")

_BACKLOG = 512  # records kept for those who begin to listen
_QUEUE = 512  # lines that a subscriber may be behind (as many as Consul's monitor keeps)

_HIDDEN = "<hidden>"
_SECRET_FIELD = re.compile(
    r"token|secret|password|passphrase|encrypt|gossip_key|authorization", re.IGNORECASE
)
_SECRET_TEXT = re.compile(r"(token=|x-consul-token: ?|bearer )[^\s&\"']+", re.IGNORECASE)
_NEEDS_QUOTES = re.compile(r"[\s\"=]|^$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Record(msgspec.Struct):
    """One event. `time` is Unix seconds; fields keep the order in which they were given."""

    time: float
    level: int
    name: str
    message: str
    fields: dict[str, Any]


class Settings(msgspec.Struct):
    """What configuration decides (config.md 3.11). Durations in seconds; `file` empty for none."""

    level: str = "INFO"
    json: bool = False
    file: str = ""
    rotate_bytes: int = 0
    rotate_duration: float = 86400.0
    rotate_max_files: int = 0
    syslog: bool = False
    syslog_facility: str = "LOCAL0"
    stdout: bool = True


def parse_level(text: str) -> int:
    """The level that `text` names in any letter case; ConfigError with Consul's text."""
    level = _NAMES.get(text.upper())
    if level is None:
        raise ConfigError(
            f"Invalid log level: {text}. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]"
        )
    return level


class Subscription:
    """The log as bytes, a line at a time, for one listener of `monitor`. Iterate, then `close()`.

    A listener that is `_QUEUE` lines behind loses the next ones; how many is told as a line."""

    def __init__(self, hub: LogHub, level: int, json: bool) -> None:
        import asyncio  # here: the command line imports this module for its level names alone

        self.level = level
        self._hub = hub
        self._format = format_json if json else format_line
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, record: Record, line: Callable[[Callable[[Record], bytes]], bytes]) -> None:
        """Called by the hub, from whatever thread logs."""
        if len(self._lines) >= _QUEUE:
            self._lost += 1
            return
        if self._lost:
            self._lines.append(self._format(_told_of_loss(record, self._lost)))
            self._lost = 0
        self._lines.append(line(self._format))
        if self._waiter is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Stop listening; an iteration under way ends."""
        self._hub.drop(self)
        self._closed = True
        self._wake()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> bytes:
        """All lines that have come since, joined; waits for the first."""
        while not self._lines:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            if not self._lines:  # else a thread that logs put one in between
                try:
                    await self._waiter
                finally:
                    self._waiter = None
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return b"".join(lines)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class LogHub:
    """Where all loggers meet. `floor` is the lowest level that anyone wants."""

    def __init__(self) -> None:
        self.floor = INFO
        self._level = INFO
        self._sinks: tuple[Sink, ...] = (StreamSink(1),)
        self._format: Callable[[Record], bytes] = format_line
        self._subscriptions: tuple[Subscription, ...] = ()
        self._recent: deque[Record] = deque(maxlen=_BACKLOG)
        self._lock = threading.Lock()  # the log's writer thread logs too

    def configure(self, settings: Settings) -> None:
        """Take new settings; ConfigError (nothing changed) when a level, file or syslog is unusable."""
        level = parse_level(settings.level)
        sinks: list[Sink] = [StreamSink(1)] if settings.stdout else []
        if settings.file:
            sinks.append(
                FileSink(
                    settings.file, settings.rotate_bytes, settings.rotate_duration, settings.rotate_max_files
                )
            )
        if settings.syslog:
            sinks.append(SyslogSink(settings.syslog_facility))
        with self._lock:
            old, self._sinks = self._sinks, tuple(sinks)
            for sink in old:
                sink.close()
        self._format = format_json if settings.json else format_line
        self._level = level
        self._set_floor()

    def set_level(self, level: str) -> None:
        """Change what is written (a reload); ConfigError when there is no such level."""
        self._level = parse_level(level)
        self._set_floor()

    def subscribe(self, level: str, json: bool, backlog: bool = False) -> Subscription:
        """Listen to everything of `level` and above, after the recent records if `backlog` is asked for.

        Call it from a running event loop. ConfigError when there is no such level."""
        subscription = Subscription(self, parse_level(level), json)
        if backlog:
            for record in self._recent:
                if record.level >= subscription.level:
                    subscription.put(record, lambda form, record=record: form(record))  # type: ignore[misc]
        self._subscriptions = (*self._subscriptions, subscription)
        self._set_floor()
        return subscription

    def drop(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)
        self._set_floor()

    def emit(self, level: int, name: str, message: str, fields: dict[str, Any]) -> None:
        """Write one event everywhere it is wanted. Never raises for what a sink or a value does."""
        record = Record(time.time(), level, name, message, fields)
        made: dict[Callable[[Record], bytes], bytes] = {}

        def line(form: Callable[[Record], bytes]) -> bytes:
            if form not in made:
                made[form] = form(record)
            return made[form]

        if level >= self._level:
            self._recent.append(record)
            with self._lock:
                for sink in self._sinks:
                    sink.write(line(self._format), level)
        for subscription in self._subscriptions:
            if level >= subscription.level:
                subscription.put(record, line)

    def flush(self) -> None:
        """Write what a slow stdout has not taken yet, as far as it takes it now (before the end)."""
        with self._lock:
            for sink in self._sinks:
                sink.flush()

    def _set_floor(self) -> None:
        self.floor = min([self._level, *(subscription.level for subscription in self._subscriptions)])


class Logger:
    """A door to the hub under a name such as `agent.http`."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: LogHub, name: str) -> None:
        self._hub = hub
        self.name = name

    def named(self, part: str) -> Logger:
        return Logger(self._hub, f"{self.name}.{part}")

    def wants(self, level: int) -> bool:
        """Whether it is worth working out what to say."""
        return level >= self._hub.floor

    def trace(self, message: str, /, **fields: Any) -> None:
        if self._hub.floor <= TRACE:
            self._hub.emit(TRACE, self.name, message, fields)

    def debug(self, message: str, /, **fields: Any) -> None:
        if self._hub.floor <= DEBUG:
            self._hub.emit(DEBUG, self.name, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        if self._hub.floor <= INFO:
            self._hub.emit(INFO, self.name, message, fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        if self._hub.floor <= WARN:
            self._hub.emit(WARN, self.name, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        if self._hub.floor <= ERROR:
            self._hub.emit(ERROR, self.name, message, fields)


def format_line(record: Record) -> bytes:
    """`2026-11-23T04:43:40.123Z [INFO]  agent: message: key=value` with a newline, one line always."""
    parts = [_stamp(record.time, 3), " ", _TAGS[record.level], " ", record.name, ": ", scrub(record.message)]
    if record.fields:
        parts.append(":")
        for key, value in record.fields.items():
            text = _value(key, value)
            if _NEEDS_QUOTES.search(text):
                text = '"' + text.replace('"', '\\"') + '"'
            parts.append(f" {key}={text}")
    parts.append("\n")
    return _one_line("".join(parts)).encode("utf-8", "backslashreplace")


def format_json(record: Record) -> bytes:
    """One JSON object with `@level`, `@message`, `@module`, `@timestamp` and the fields, and a newline."""
    found: dict[str, Any] = {
        "@level": _WORDS[record.level],
        "@message": scrub(record.message),
        "@module": record.name,
        "@timestamp": _stamp(record.time, 6),
    }
    for key, value in record.fields.items():
        found[key] = value if isinstance(value, (bool, int, float)) else _value(key, value)
    text = msgspec.json.encode({key: _encodable(value) for key, value in found.items()})
    return text + b"\n"


def scrub(text: str) -> str:
    """`text` (an URL, a header) with the tokens in it hidden."""
    return _SECRET_TEXT.sub(rf"\1{_HIDDEN}", text)


def _value(key: str, value: Any) -> str:
    if _SECRET_FIELD.search(key) and not isinstance(value, (bool, int)):
        return _HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(_value("", item) for item in value) + "]"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return scrub(str(value))


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _one_line(text: str) -> str:
    """Control characters within the line as escapes, so that no value can forge a line."""
    body = text[:-1]
    if _CONTROL.search(body):
        body = _CONTROL.sub(lambda match: repr(match.group())[1:-1], body)
    return body + "\n"


_stamped: tuple[int, str, str] = (
    -1,
    "",
    "",
)  # the last second, and what stands before and after its fraction


def _stamp(moment: float, digits: int) -> str:
    global _stamped
    second = int(moment)
    known, before, after = _stamped
    if second != known:
        parts = time.localtime(second)
        before = time.strftime("%Y-%m-%dT%H:%M:%S.", parts)
        after = time.strftime("%z", parts) if parts.tm_gmtoff else "Z"
        _stamped = (second, before, after)
    fraction = int((moment - second) * 10**digits)
    return f"{before}{fraction:0{digits}d}{after}"


def _told_of_loss(record: Record, count: int) -> Record:
    text = f"Monitor dropped {count} logs during monitor request"
    return Record(record.time, WARN, "agent", text, {})


hub = LogHub()


def get_logger(name: str) -> Logger:
    """The logger of that name."""
    return Logger(hub, name)


def configure(settings: Settings) -> None:
    """`LogHub.configure` of the process's hub."""
    hub.configure(settings)


def set_level(level: str) -> None:
    """`LogHub.set_level` of the process's hub."""
    hub.set_level(level)
