"""What `ctl top` shows: one look at the cluster by the eyes of an agent, and what has happened lately."""

from __future__ import annotations

import calendar
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.changes import events, subject
from cli.client import Client, ServerError
from cli.command import Failure
from cli.lease import News
from cli.members import STATES
from cli.wire import decode_json

if TYPE_CHECKING:
    from cli.call import Call

Json = dict[str, Any]

PATIENCE = 3.0  # seconds until an agent that does not answer counts as one
KEPT = 200  # events
BEFORE = 60  # indexes: how far back events are asked for at the start
INTERVAL = 10.0  # seconds of the agent's metrics
KINDS = ("node", "service", "check")


class Server(NamedTuple):
    """A server as autopilot sees it. `lag`: log entries behind the leader."""

    leader: bool
    voter: bool
    healthy: bool
    last_index: int
    lag: int
    contact: str


class Frame(NamedTuple):
    """One look. `refused` says what the token may not see."""

    node: str
    datacenter: str
    catalog_index: int
    members: list[Json]
    servers: dict[str, Server] | None  # by name; None when the token may not ask, or nobody leads
    leader: str  # name or address, "" for none
    tolerance: int
    services: list[Json]
    rate: float  # requests that the agent answers a second, our own not counted
    blocked: int  # blocking queries that wait
    refused: list[str]

    def document(self) -> Json:
        """For JSON."""
        return {
            "Node": self.node,
            "Datacenter": self.datacenter,
            "Leader": self.leader,
            "FailureTolerance": self.tolerance,
            "RequestsPerSecond": round(self.rate, 2),
            "BlockedQueries": self.blocked,
            "Members": [
                {"Name": member["Name"], "Address": member["Addr"], "Status": STATES[member["Status"]]}
                for member in self.members
            ],
            "Servers": [
                {
                    "Name": name,
                    "Leader": one.leader,
                    "Voter": one.voter,
                    "Healthy": one.healthy,
                    "LastIndex": one.last_index,
                    "Lag": one.lag,
                    "LastContact": one.contact,
                }
                for name, one in (self.servers or {}).items()
            ],
            "Services": [
                {
                    "Name": one["Name"],
                    "Instances": one["InstanceCount"],
                    "Passing": one["ChecksPassing"],
                    "Warning": one["ChecksWarning"],
                    "Critical": one["ChecksCritical"],
                }
                for one in self.services
            ],
        }


class Eyes:
    """Looks at the cluster through one agent."""

    def __init__(self, call: Call) -> None:
        self._call, self._client = call, Client(call.values)
        self._asked: deque[float] = deque(maxlen=1000)  # when, in Unix seconds
        self._refused: list[str] = []
        self._about: Json = {}

    def look(self) -> Frame:
        """A frame. Failure when the agent does not answer."""
        self._client.deadline = time.monotonic() + PATIENCE
        self._refused = []
        if not self._about:
            about = self._ask("/v1/agent/self", {})
            self._about = about.get("Config", {})
        members = self._ask("/v1/agent/members", [])
        health = self._ask("/v1/operator/autopilot/health", None)
        address = self._ask("/v1/status/leader", "")
        response = self._get("/v1/internal/ui/services")
        services = response.json() if response is not None else []
        metrics = self._ask("/v1/agent/metrics", None)
        servers = None if health is None else servers_of(health)
        return Frame(
            node=str(self._about.get("NodeName", "")),
            datacenter=str(self._about.get("Datacenter", "")),
            catalog_index=0 if response is None else response.index,
            members=members,
            servers=servers,
            leader=_leader(servers, members, address),
            tolerance=int((health or {}).get("FailureTolerance", 0)),
            services=services or [],
            rate=0.0 if metrics is None else rate(metrics, list(self._asked)),
            blocked=0 if metrics is None else int(_gauge(metrics, ".http.blocked_queries")),
            refused=self._refused,
        )

    def _get(self, path: str) -> Any:
        """The answer, None when the token has no right to it. Failure when there is none at all."""
        self._asked.append(time.time())
        answer = self._client.get(path, self._call.query())
        if answer.status == 429 and path.endswith("/autopilot/health"):
            return answer  # the servers are not well: that is the answer
        if answer.status != 200:
            error = ServerError(answer.status, answer.text)
            self._refused.append(f"{path}: {answer.text.strip()}" if answer.text else f"{path}: {error}")
            return None
        return answer

    def _ask(self, path: str, default: Any) -> Any:
        answer = self._get(path)
        return default if answer is None else answer.json()


def servers_of(health: Json) -> dict[str, Server]:
    """The servers in autopilot's judgement, with how far each is behind."""
    found = health.get("Servers") or []
    newest = max((one["LastIndex"] for one in found if one["Leader"]), default=None)
    if newest is None:
        newest = max((one["LastIndex"] for one in found), default=0)
    return {
        one["Name"]: Server(
            one["Leader"],
            one["Voter"],
            one["Healthy"],
            one["LastIndex"],
            max(0, newest - one["LastIndex"]),
            one["LastContact"],
        )
        for one in found
    }


def _leader(servers: dict[str, Server] | None, members: list[Json], address: str) -> str:
    leading = next((name for name, one in (servers or {}).items() if one.leader), "")
    host = address.rpartition(":")[0].strip("[]")
    return leading or next((one["Name"] for one in members if host and one["Addr"] == host), address)


def rate(metrics: Json, own: list[float]) -> float:
    """HTTP requests a second in the last whole interval, without our own at these times."""
    samples = metrics.get("Samples") or []
    count = sum(one["Count"] for one in samples if one["Name"].endswith(".api.http"))
    try:
        began = calendar.timegm(time.strptime(metrics["Timestamp"][:19], "%Y-%m-%d %H:%M:%S"))
    except (KeyError, ValueError):
        return 0.0
    ours = sum(began <= at < began + INTERVAL for at in own)
    return float(max(0, count - ours)) / INTERVAL


def _gauge(metrics: Json, name: str) -> float:
    found = (one["Value"] for one in metrics.get("Gauges") or [] if one["Name"].endswith(name))
    return float(next(found, 0.0))


class Event(NamedTuple):
    """Something that happened. `at`: monotonic seconds, 0 for what was before we looked."""

    at: float
    text: str
    status: str  # a word that has a colour


class Feed:
    """Changes of the catalog as they happen, on a thread; the latest first."""

    def __init__(self, call: Call, news: News, index: int) -> None:
        """`index`: what came up to it happened before."""
        self._call, self._news, self._start = call, news, index
        self._since = max(0, index - BEFORE)
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._statuses: dict[tuple[str, str], str] = {}

    def follow(self) -> None:
        """Begin."""
        threading.Thread(target=self._follow, name="feed", daemon=True).start()

    def latest(self) -> list[Event]:
        return list(self._events)[::-1]

    def read_once(self) -> None:
        """What is known now, and no more. Failure."""
        for _ in self._read(Client(self._call.values), [("once", "")]):
            pass

    def _follow(self) -> None:
        while True:
            client = Client(self._call.values)
            try:
                for _ in self._read(client, []):
                    self._news.tell()
            except (Failure, OSError):
                pass  # the agent is away, which its silence elsewhere tells; go on where it ended
            client.close()
            time.sleep(1.0)

    def _read(self, client: Client, more: list[tuple[str, str]]) -> Any:
        query = [("since", str(self._since)), *(("kind", kind) for kind in KINDS), *more]
        for kind, index, data in events(client.stream("/v1/ctl/changes", self._call.query(*query))):
            if kind == "change":
                for change in decode_json(data):
                    self._note(change, index)
            elif kind == "error":
                raise Failure(decode_json(data)["Error"])
            self._since = max(self._since, index) if kind != "reset" else index
            yield kind

    def _note(self, change: Json, index: int) -> None:
        at = time.monotonic() if index > self._start else 0.0
        status = ""
        if change["Kind"] == "check":
            key = (change["Node"], change["CheckID"])
            status = "" if change["Op"] == "delete" else change["Status"]
            if status and self._statuses.get(key) == status:
                return  # only its output is another one
            self._statuses[key] = status
        verb = "gone" if change["Op"] == "delete" else ""
        text = f"{change['Kind']} {subject(change)}".removesuffix(f" {status}" if status else "")
        self._events.append(Event(at, f"{text} {verb}".strip(), status))
