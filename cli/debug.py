"""`ctl debug`: one archive with all that a support case needs, in the layout of Consul's.

    index.json              what was asked for, and what could not be had
    agent.json host.json    the agent's view of itself (settings without secrets), its machine
    members.json raft.json autopilot.json usage.json    the cluster
    metrics.json consul.log                             during the whole time
    TIMESTAMP/goroutine.prof heap.prof                  at each interval: stacks; memory and tables
    profile.prof            where time was spent

What fails is noted and left out; the rest is saved. The token in use, and values named like secrets, are
hidden in every file."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from cli.call import Call
from cli.client import Client, error_text
from cli.command import Command, Failure, Flag
from core.codec.duration import SECOND, show

TARGETS = ("metrics", "logs", "pprof", "host", "agent", "members")
_ALIASES = {"cluster": "members"}  # as Consul 1.9 calls it
LEAST_DURATION, LEAST_INTERVAL = 10 * SECOND, 5 * SECOND
HIDDEN = "<hidden>"
_SECRET_NAME = re.compile(
    r"token$|tokens$|secret|password|passphrase|^encrypt|gossipkey|privatekey|authorization|credential",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"((?:token|secret)=|x-consul-token: ?|bearer )[^\s&\"',]+", re.IGNORECASE)
# What is read once: target, file, path, query.
_STATIC: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    ("host", "host.json", "/v1/agent/host", ()),
    ("agent", "agent.json", "/v1/agent/self", ()),
    ("members", "members.json", "/v1/agent/members", ()),
    ("members", "members-wan.json", "/v1/agent/members", (("wan", "1"),)),
    ("members", "raft.json", "/v1/operator/raft/configuration", (("stale", ""),)),
    ("members", "autopilot.json", "/v1/operator/autopilot/health", ()),
    ("members", "usage.json", "/v1/operator/usage", (("stale", ""),)),
)


class Capture:
    """One run: where files go, and what went wrong."""

    def __init__(self, call: Call, folder: str, targets: list[str], interval: int, duration: int) -> None:
        self.folder, self.targets = folder, targets
        self.interval, self.duration = interval / SECOND, duration / SECOND
        self.errors: list[str] = []
        self.captured: list[str] = []
        self._call = call
        self._secrets = _secrets(call)
        self._lock = threading.Lock()
        self._until = time.monotonic() + self.duration
        self._stop = threading.Event()

    # what may fail without the rest

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do it, or note why not."""
        try:
            work()
        except (Failure, OSError, ValueError) as error:
            text = error_text(error) if isinstance(error, OSError) else str(error)
            with self._lock:
                self.errors.append(f"{what}: {self.masked(text)}")

    def masked(self, text: str) -> str:
        """A text without the secrets that this command knows or finds by their names."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _SECRET_TEXT.sub(rf"\1{HIDDEN}", text)

    def save(self, name: str, text: str) -> None:
        """A file of the archive."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="replace") as file:
            file.write(self.masked(text))
        with self._lock:
            self.captured.append(name)

    def save_json(self, name: str, value: Any) -> None:
        self.save(name, json.dumps(without_secrets(value), indent=4, ensure_ascii=False) + "\n")

    # what is captured

    def static(self) -> None:
        """What is read once."""
        for target, name, path, query in _STATIC:
            if target in self.targets:
                self.attempt(name, lambda n=name, p=path, q=query: self._fetch(n, p, q))  # type: ignore[misc]

    def _fetch(self, name: str, path: str, query: tuple[tuple[str, str], ...]) -> None:
        response = self._call.client.get(path, query)
        if not (response.status == 429 and "autopilot" in path):  # how an unhealthy cluster is told
            response.checked()
        self.save_json(name, response.json())

    def dynamic(self) -> None:
        """What is followed for the whole time; an interrupt ends it early, with what there is."""
        threads = []
        if "logs" in self.targets:
            threads.append(self._thread("consul.log", self._follow_log))
        if "pprof" in self.targets:
            threads.append(self._thread("profile.prof", self._profile))
        count = 0
        try:
            while True:
                began = time.monotonic()
                self._sample(count)
                count += 1
                if began + self.interval > self._until + 0.5:
                    break
                time.sleep(max(0.0, began + self.interval - time.monotonic()))
            time.sleep(max(0.0, self._until - time.monotonic()))
        except KeyboardInterrupt:
            self.errors.append("stopped early by an interrupt")
        self._stop.set()
        for thread in threads:
            thread.join(5.0)

    def _thread(self, what: str, work: Callable[[Client], None]) -> threading.Thread:
        def run() -> None:
            client = Client(self._call.values)
            try:
                self.attempt(what, lambda: work(client))
            finally:
                client.close()

        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        return thread

    def _sample(self, count: int) -> None:
        moment = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        failed = len(self.errors)
        if "metrics" in self.targets:
            self.attempt("metrics.json", self._metrics)
        if "pprof" in self.targets:
            for name, path in (("goroutine.prof", "stacks"), ("heap.prof", "runtime")):
                self.attempt(name, lambda n=name, p=path: self._look(f"{moment}/{n}", p))  # type: ignore[misc]
        if len(self.errors) == failed:
            self._call.out.line(f"==> Capture successful {moment} ({count})")

    def _metrics(self) -> None:
        found = self._call.client.get("/v1/agent/metrics").checked().json()
        with open(os.path.join(self.folder, "metrics.json"), "a", encoding="utf-8") as file:
            file.write(json.dumps(found, ensure_ascii=False) + "\n")
        if "metrics.json" not in self.captured:
            self.captured.append("metrics.json")

    def _look(self, name: str, what: str) -> None:
        self.save(name, self._call.client.get(f"/v1/agent/debug/{what}").checked().text)

    def _profile(self, client: Client) -> None:
        seconds = max(1, int(self.duration) - 1)
        client.deadline = self._until + 5
        answer = client.get("/v1/agent/debug/profile", [("seconds", str(seconds))]).checked()
        self.save("profile.prof", answer.text)

    def _follow_log(self, client: Client) -> None:
        client.deadline = self._until
        pieces = client.stream("/v1/agent/monitor", [("loglevel", "TRACE")])
        with open(os.path.join(self.folder, "consul.log"), "w", encoding="utf-8", errors="replace") as file:
            for line in self._lines(pieces):
                file.write(self.masked(line))
                file.flush()
        self.captured.append("consul.log")

    def _lines(self, pieces: Iterator[bytes]) -> Iterator[str]:
        """Whole lines until the time is up: a secret must not be cut in two."""
        rest = b""
        try:
            for piece in pieces:
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode("utf-8", "replace") + "\n" for line in whole)
                if self._stop.is_set():
                    break
        except TimeoutError:
            pass
        if rest:
            yield rest.decode("utf-8", "replace") + "\n"

    def finish(self, version: str) -> None:
        """The index, last."""
        index = {
            "Version": 1,
            "AgentVersion": version,
            "Interval": show(int(self.interval * SECOND)),
            "Duration": show(int(self.duration * SECOND)),
            "Targets": self.targets,
            "Files": sorted(self.captured),
            "Errors": self.errors,
        }
        self.save_json("index.json", index)


def without_secrets(value: Any, name: str = "") -> Any:
    """A document in which texts that are named like secrets are hidden."""
    if isinstance(value, dict):
        return {key: without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, name) for item in value]
    if isinstance(value, str) and value and _SECRET_NAME.search(name):
        return HIDDEN
    return value


def _secrets(call: Call) -> list[str]:
    """The secrets that this command itself was given."""
    found = [
        call.client.setting("token", "HTTP_TOKEN"),
        call.client.setting("", "HTTP_AUTH").partition(":")[2],
    ]
    path = call.client.setting("token-file", "HTTP_TOKEN_FILE")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                found.append(file.read().strip())
        except OSError:
            pass  # the client has told it
    return [secret for secret in found if len(secret) >= 4]


def debug(call: Call) -> int:
    """`debug`: capture, then pack."""
    interval, duration = call.number("interval", 30 * SECOND), call.number("duration", 120 * SECOND)
    try:
        targets = _targets(call.many("capture"))
        _check_timing(interval, duration)
        version = _version(call)
    except ValueError as error:
        raise Failure(f"==> Capture validation failed: {error}") from None
    folder = call.text("output") or time.strftime("consul-debug-%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    packs = call.yes("archive", True)
    place = f"{folder}.tar.gz" if packs else folder
    _make(folder, place)
    say = call.out.line
    say("==> Starting debugger and capturing static information...")
    say(f"     Agent Version: '{version}'")
    say(f"          Interval: '{show(interval)}'")
    say(f"          Duration: '{show(duration)}'")
    say(f"            Output: '{place}'")
    say(f"           Capture: '{', '.join(targets)}'")
    sys.stdout.flush()
    capture = Capture(call, folder, targets, interval, duration)
    capture.static()
    if {"metrics", "logs", "pprof"} & set(targets):
        capture.dynamic()
    for text in capture.errors:
        sys.stderr.write(f"==> Not captured: {text}\n")
    try:
        capture.finish(version)
        if packs:
            _pack(folder, place)
    except OSError as error:
        raise Failure(f"==> Archive creation failed: {error_text(error)}") from None
    say(f"    Saved debug archive: {place}")
    return 0


def _targets(given: list[str]) -> list[str]:
    wanted = [one.strip() for text in given for one in text.split(",") if one.strip()]
    for target in wanted:
        if target not in TARGETS and target not in _ALIASES:
            raise ValueError(f"target not found: {target}; known are {', '.join(TARGETS)}")
    return [_ALIASES.get(target, target) for target in dict.fromkeys(wanted)] or list(TARGETS)


def _check_timing(interval: int, duration: int) -> None:
    if duration < LEAST_DURATION:
        raise ValueError(f"duration must be longer than {show(LEAST_DURATION)}")
    if interval < LEAST_INTERVAL:
        raise ValueError(f"interval must be longer than {show(LEAST_INTERVAL)}")
    if duration < interval:
        raise ValueError(f"duration ({show(duration)}) must be longer than interval ({show(interval)})")


def _version(call: Call) -> str:
    """The agent's version; where it may not be known, that it answers is enough."""
    from cli.client import ServerError, TransportError

    try:
        return str(call.fetch("/v1/agent/self").get("Config", {}).get("Version", "unknown"))
    except ServerError as error:
        if error.response_status == 403:
            return "unknown"  # go on with what the token may see
        raise ValueError(f"error querying target agent: {error}") from None
    except TransportError as error:
        raise ValueError(
            f"error querying target agent: {error}. verify connectivity and agent address"
        ) from None


def _make(folder: str, place: str) -> None:
    for path in {folder, place}:
        if os.path.exists(path):
            raise Failure(f"==> Capture validation failed: output directory already exists: {path}")
    try:
        os.makedirs(folder, mode=0o700)
    except OSError as error:
        text = f"could not create output directory: {error_text(error)}"
        raise Failure(f"==> Capture validation failed: {text}") from None


def _pack(folder: str, place: str) -> None:
    """The archive, complete or not at all; then the files beside it are not needed."""
    part = place + ".part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.add(folder, arcname=os.path.basename(os.path.normpath(folder)))
        os.replace(part, place)
    except OSError:
        if os.path.exists(part):
            os.unlink(part)
        raise
    shutil.rmtree(folder)


COMMANDS = (
    Command(
        "debug",
        "Collect an archive for a support case",
        debug,
        flags=(
            Flag("capture", "list", f"What to collect (repeat): {', '.join(TARGETS)}; all when left out."),
            Flag("interval", "duration", "Time between samples, at least 5s.", default="30s"),
            Flag("duration", "duration", "How long to collect, at least 10s.", default="2m"),
            Flag("output", "string", "Path of the archive without .tar.gz."),
            Flag(
                "archive",
                "bool",
                "Make a .tar.gz; with =false the files stay in a directory.",
                default="true",
            ),
        ),
        text="Settings, members, Raft, metrics, the log and stacks, while the agent goes on working.\n"
        "Secrets are hidden. With ACLs the token needs agent:read and operator:read; what it may not see\n"
        "is left out.",
        example=("ctl debug", "ctl debug -duration=30s -interval=5s -capture=logs -capture=metrics"),
        output=False,
    ),
)
