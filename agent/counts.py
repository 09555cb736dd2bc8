"""What happens too often to be told of each time: counted where it happens, told when someone asks for the
metrics, under the names that Consul's dashboards know."""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter
from typing import TYPE_CHECKING

from core.api.endpoint import Answer, Question
from core.gossip.member import ALIVE, GossipEvent, MemberEvent, UserEvent
from core.store.fsm import FSM

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.agent import Agent
    from agent.relay import Relay
    from core.metrics import Labels, Metrics

# What a write is called in the metrics of the leader; others have no metric of their own.
_WRITES = {
    "KVS.Apply": "kvs.apply",
    "Txn.Apply": "txn.apply",
    "Session.Apply": "session.apply",
    "Catalog.Register": "catalog.register",
    "Catalog.Deregister": "catalog.deregister",
    "PreparedQuery.Apply": "prepared-query.apply",
    "ConfigEntry.Apply": "config_entry.apply",
    "ConfigEntry.Delete": "config_entry.delete",
    "ACL.TokenSet": "acl.token.upsert",
    "ACL.TokenDelete": "acl.token.delete",
    "ACL.TokenClone": "acl.token.clone",
    "ACL.PolicySet": "acl.policy.upsert",
    "ACL.PolicyDelete": "acl.policy.delete",
    "ACL.RoleSet": "acl.role.upsert",
    "ACL.RoleDelete": "acl.role.delete",
    "ACL.BindingRuleSet": "acl.bindingrule.upsert",
    "ACL.BindingRuleDelete": "acl.bindingrule.delete",
    "ACL.AuthMethodSet": "acl.authmethod.upsert",
    "ACL.AuthMethodDelete": "acl.authmethod.delete",
}
_BY_SERVICE = {"Catalog.ServiceNodes": "catalog.service", "Health.ServiceNodes": "health.service"}
# The type byte of a log command -> its name, and where it has one its operation.
_COMMANDS: dict[int, tuple[str, str]] = {
    0: ("fsm.register", ""),
    1: ("fsm.deregister", ""),
    2: ("fsm.kvs", "?"),
    3: ("fsm.session", "?"),
    5: ("fsm.tombstone", "?"),
    6: ("fsm.coordinate.batch-update", ""),
    7: ("fsm.prepared-query", "?"),
    8: ("fsm.txn", ""),
    9: ("fsm.autopilot", ""),
    11: ("fsm.acl.token", "bootstrap"),
    12: ("fsm.intention", "?"),
    13: ("fsm.ca", "?"),
    17: ("fsm.acl.token", "upsert"),
    18: ("fsm.acl.token", "delete"),
    19: ("fsm.acl.policy", "upsert"),
    20: ("fsm.acl.policy", "delete"),
    22: ("fsm.config_entry", ""),
    23: ("fsm.acl.role", "upsert"),
    24: ("fsm.acl.role", "delete"),
    25: ("fsm.acl.bindingrule", "upsert"),
    26: ("fsm.acl.bindingrule", "delete"),
    27: ("fsm.acl.authmethod", "upsert"),
    28: ("fsm.acl.authmethod", "delete"),
    30: ("fsm.federation_state", "?"),
    31: ("fsm.system_metadata", "?"),
}
_MOST = 1024  # times that are kept untold
_IGNORED = 128  # the bit that says that a command may be unknown
_WITH_OPERATION = frozenset(kind for kind, (_, operation) in _COMMANDS.items() if operation == "?")
_OPERATIONS = {
    name.encode(): name
    for name in (
        *(
            "set",
            "delete",
            "delete-cas",
            "delete-tree",
            "cas",
            "lock",
            "unlock",
            "create",
            "destroy",
            "update",
        ),
        *("reap", "upsert", "delete-all", "set-config", "set-roots", "set-provider-state"),
    )
}


class Counts:
    """Reads answered and writes led by this server."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        """`metrics` are told when much has come together and nobody asks; None: only those that ask."""
        self._metrics = metrics
        self.reads = 0
        self._services: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._writes: defaultdict[str, list[float]] = defaultdict(list)

    def read(self, question: Question, answer: Answer) -> None:
        """A read was answered from the state."""
        self.reads += 1
        name = _BY_SERVICE.get(question.read.rpc)
        if name is not None and answer.value:  # only services that there are: their number is bounded
            self._services[name, question.args.name] += 1

    def timed(self, rpc: str, done: Callable[[object], None]) -> Callable[[object], None]:
        """`done`, and the time until then."""
        name = _WRITES.get(rpc)
        if name is None:
            return done
        times, began = self._writes[name], perf_counter()

        def told(result: object) -> None:
            times.append((perf_counter() - began) * 1000)
            if len(times) >= _MOST:
                self._tell(name, times)
            done(result)

        return told

    def wrote(self, rpc: str, began: float) -> None:
        """A write that began then is done."""
        name = _WRITES.get(rpc)
        if name is not None:
            times = self._writes[name]
            times.append((perf_counter() - began) * 1000)
            if len(times) >= _MOST:
                self._tell(name, times)

    def _tell(self, name: str, times: list[float]) -> None:
        if self._metrics is not None:
            self._metrics.samples(name, times)
        times.clear()

    def collect(self, metrics: Metrics) -> None:
        """Tell what was not told yet."""
        reads, self.reads = self.reads, 0
        if reads:
            metrics.incr("rpc.query", reads)
        for (name, service), count in self._services.items():
            metrics.incr(f"{name}.query", count, (("service", service),))
        self._services.clear()
        for name, times in self._writes.items():
            metrics.samples(name, times)
            times.clear()


class TimedFSM(FSM):
    """The state machine, and how long its commands take."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._times: defaultdict[tuple[int, str], list[float]] = defaultdict(list)

    def apply(self, index: int, data: bytes, extensions: bytes = b"", term: int = 0) -> object:
        """As the state machine does it."""
        began = perf_counter()
        result = FSM.apply(self, index, data, extensions, term)
        kind = data[0] & ~_IGNORED if data and not extensions else -1
        times = self._times[kind, operation_of(data) if kind in _WITH_OPERATION else ""]
        times.append((perf_counter() - began) * 1000)
        if len(times) >= _MOST:  # a follower may have no other reason to tell
            self.collect(self._metrics)
        return result

    def collect(self, metrics: Metrics) -> None:
        """Tell what was not told yet."""
        for (kind, operation), times in self._times.items():
            metrics.samples("raft.fsm.apply", times)
            name, fixed = _COMMANDS.get(kind, ("", ""))
            label = operation or fixed.strip("?")
            if name:
                metrics.samples(name, times, (("op", label),) if label else ())
            times.clear()


def operation_of(data: bytes) -> str:
    """The field `Op` of a command, which comes behind what may be long; "" where there is none known."""
    at = data.rfind(b"\xa2Op") + 3
    if at < 3 or at >= len(data) or not 0xA0 <= data[at] <= 0xBF:
        return ""
    return _OPERATIONS.get(data[at + 1 : at + 1 + (data[at] & 31)], "")


def hear_gossip(metrics: Metrics) -> Callable[[GossipEvent], None]:
    """What counts members that come and go, and user events."""

    def hear(event: GossipEvent) -> None:
        if isinstance(event, MemberEvent):
            metrics.incr(f"serf.member.{event.kind}", len(event.members))
        elif isinstance(event, UserEvent):
            metrics.incr("serf.events")
            metrics.incr(f"serf.events.{event.name}")

    return hear


def collect_relay(relay: Relay, metrics: Metrics) -> None:
    """Calls to other servers: made, refused by the limit, and without an answer."""
    for name, count in (
        ("client.rpc", relay.calls),
        ("client.rpc.exceeded", relay.exceeded),
        ("client.rpc.failed", relay.failures),
    ):
        if count:
            metrics.incr(name, count)
    relay.calls = relay.exceeded = relay.failures = 0


def collect_agent(agent: Agent, metrics: Metrics) -> None:
    """The gauges of what there is: members, the catalog, Raft, gossip."""
    labels: Labels = (("datacenter", agent.datacenter),)
    members = [one for one in agent.cluster.lan.members() if one.status == ALIVE]
    servers = sum(one.tags.get("role") == "consul" for one in members)
    metrics.gauge("members.servers", servers, labels)
    metrics.gauge("members.clients", len(members) - servers, labels)
    for name, pool in (("lan", agent.cluster.lan), ("wan", agent.cluster.wan)):
        if pool is not None:
            _collect_gossip(metrics, pool.stats(), (("network", name),))
    if agent.calls.relay is not None:
        collect_relay(agent.calls.relay, metrics)
    adjustment = agent.cluster.lan.coordinate().adjustment
    metrics.sample("serf.coordinate.adjustment-ms", adjustment * 1000)
    if agent.raft is None or agent.server is None:
        return
    rpc = agent.server.rpc
    for what, count in (("rpc.request", rpc.requests), ("rpc.request_error", rpc.errors)):
        if count:
            metrics.incr(what, count)
    rpc.requests = rpc.errors = 0
    store = agent.store
    metrics.gauge("state.nodes", len(store.node_rows), labels)
    metrics.gauge("state.services", len(store.service_rows.group_names("name")), labels)
    metrics.gauge("state.service_instances", len(store.service_rows), labels)
    metrics.gauge("state.kv_entries", len(store.kv), labels)
    metrics.gauge("session_ttl.active", sum(bool(one.ttl) for one in store.sessions.rows.values()))
    metrics.gauge("server.isLeader", 1.0 if agent.is_leader else 0.0)
    _collect_raft(agent, metrics)


def _collect_gossip(metrics: Metrics, stats: dict[str, str], labels: Labels) -> None:
    for name, key in (("Event", "event_queue"), ("Intent", "intent_queue"), ("Query", "query_queue")):
        metrics.sample(f"serf.queue.{name}", float(stats.get(key, 0)), labels)
    metrics.gauge("memberlist.health.score", float(stats.get("health_score", 0)), labels)


def _collect_raft(agent: Agent, metrics: Metrics) -> None:
    raft = agent.raft
    assert raft is not None
    metrics.gauge("raft.peers", len(raft.configuration.servers))
    metrics.gauge("raft.last_index", raft.last_index)
    metrics.gauge("raft.applied_index", raft.applied_index)
    leader = raft.node.leader
    if leader is not None and leader.peers:
        now = agent.world.now()
        ages = [now - peer.contact for peer in leader.peers.values() if peer.votes]
        metrics.samples("raft.leader.lastContact", [max(0.0, age) * 1000 for age in ages])
