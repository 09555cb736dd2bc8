"""What the errands Operator.* answer, as it travels (protocols/rpc.md section 8) and as HTTP shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.codec import duration, gojson
from core.codec.gojson import JsonError
from core.codec.msgpack import ZERO_TIME, decode_time, encode_time
from core.codec.shapes import BOOL, STRING, UINT, Errors, Integer, Object, Shape, fit
from core.errors import BadRequest
from core.gossip.member import ALIVE, FAILED, LEFT, STATUS_NAMES
from core.node.autopilot import DEFAULTS, Health, ServerHealth
from core.store.state import Store
from core.store.structs import AutopilotConfig, go_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NODE_STATUS = {ALIVE: "alive", FAILED: "failed", LEFT: "left"}


class RaftServer(Struct, frozen=True, rename=go_name):
    """A server of the Raft configuration."""

    id: str = ""
    node: str = ""
    address: str = ""
    leader: bool = False
    protocol_version: str = ""
    voter: bool = False


class RaftConfigurationResponse(Struct, frozen=True, rename=go_name):
    """The servers that Raft knows. `index` is 0, as Consul 1.9.8 has it."""

    servers: list[RaftServer] | None = None
    index: int = 0


class AutopilotServerHealth(Struct, frozen=True, rename=go_name):
    """How one server is. `last_contact` in ns, `stable_since` Go's binary time."""

    id: str = ""
    name: str = ""
    address: str = ""
    serf_status: int = 0
    version: str = ""
    leader: bool = False
    last_contact: int = 0
    last_term: int = 0
    last_index: int = 0
    healthy: bool = False
    voter: bool = False
    stable_since: bytes = ZERO_TIME


class AutopilotHealthReply(Struct, frozen=True, rename=go_name):
    """How the servers are, and how many voters may still fail."""

    healthy: bool = False
    failure_tolerance: int = 0
    servers: list[AutopilotServerHealth] | None = None


class StateServer(Struct, frozen=True, rename=go_name):
    """raft-autopilot.Server: who a server is. `is_leader` is false for all in Consul 1.9.8."""

    id: str = ""
    name: str = ""
    address: str = ""
    node_status: str = ""
    version: str = ""
    meta: dict[str, str] | None = None
    raft_version: int = 0
    is_leader: bool = False
    node_type: str = ""
    ext: Any = None


class StateHealth(Struct, frozen=True, rename=go_name):
    """raft-autopilot.ServerHealth."""

    healthy: bool = False
    stable_since: bytes = ZERO_TIME


class StateStats(Struct, frozen=True, rename=go_name):
    """raft-autopilot.ServerStats."""

    last_contact: int = 0
    last_term: int = 0
    last_index: int = 0


class ServerState(Struct, frozen=True, rename=go_name):
    """raft-autopilot.ServerState."""

    server: StateServer = StateServer()
    state: str = ""
    stats: StateStats = StateStats()
    health: StateHealth = StateHealth()


class AutopilotState(Struct, frozen=True, rename=go_name):
    """raft-autopilot.State: the servers by id."""

    healthy: bool = False
    failure_tolerance: int = 0
    servers: dict[str, ServerState] | None = None
    leader: str = ""
    voters: list[str] | None = None
    ext: Any = None


# --- from autopilot's judgement ----------------------------------------------------------------------


def _go_time(seconds: float) -> bytes:
    whole = int(seconds // 1)
    return encode_time(whole, int((seconds - whole) * 1e9))


def health_reply(health: Health) -> AutopilotHealthReply:
    """Autopilot's judgement as Operator.ServerHealth answers it."""
    servers = [
        AutopilotServerHealth(
            id=row.id,
            name=row.name,
            address=row.address,
            serf_status=row.status,
            version=row.version,
            leader=row.leader,
            last_contact=row.last_contact,
            last_term=row.last_term,
            last_index=row.last_index,
            healthy=row.healthy,
            voter=row.voter,
            stable_since=_go_time(row.stable_since),
        )
        for row in health.servers
    ]
    return AutopilotHealthReply(health.healthy, health.failure_tolerance, servers)


def state_reply(health: Health, view: Store) -> AutopilotState:
    """Autopilot's judgement as Operator.AutopilotState answers it, with the nodes' metadata."""
    servers = {row.id: _server_state(row, view) for row in health.servers}
    return AutopilotState(
        health.healthy, health.failure_tolerance, servers, health.leader, list(health.voters)
    )


def _server_state(row: ServerHealth, view: Store) -> ServerState:
    node = view.get_node(row.name)
    server = StateServer(
        id=row.id,
        name=row.name,
        address=row.address,
        node_status=_NODE_STATUS.get(row.status, "unknown"),
        version=row.version,
        meta=node.meta if node is not None else None,
        raft_version=row.raft_version,
        node_type="read-replica" if row.read_replica else "voter",
    )
    state = "leader" if row.leader else "voter" if row.voter else "non-voter"
    return ServerState(
        server,
        state,
        StateStats(row.last_contact, row.last_term, row.last_index),
        StateHealth(row.healthy, _go_time(row.stable_since)),
    )


# --- to JSON -----------------------------------------------------------------------------------------


def moment(raw: bytes) -> str:
    """A Go time in RFC 3339, to the second."""
    seconds, nanoseconds, _ = decode_time(raw)
    moment = _EPOCH + timedelta(seconds=seconds + (nanoseconds >= 500_000_000))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def show_raft_configuration(found: RaftConfigurationResponse) -> dict[str, Any]:
    """The body of `/v1/operator/raft/configuration`."""
    servers = [
        {
            "ID": one.id,
            "Node": one.node,
            "Address": one.address,
            "Leader": one.leader,
            "ProtocolVersion": one.protocol_version,
            "Voter": one.voter,
        }
        for one in found.servers or ()
    ]
    return {"Servers": servers, "Index": found.index}


def show_health(found: AutopilotHealthReply) -> dict[str, Any]:
    """The body of `/v1/operator/autopilot/health`."""
    servers = [
        {
            "ID": one.id,
            "Name": one.name,
            "Address": one.address,
            "SerfStatus": STATUS_NAMES[one.serf_status] if one.serf_status < len(STATUS_NAMES) else "none",
            "Version": one.version,
            "Leader": one.leader,
            "LastContact": duration.show(one.last_contact),
            "LastTerm": one.last_term,
            "LastIndex": one.last_index,
            "Healthy": one.healthy,
            "Voter": one.voter,
            "StableSince": moment(one.stable_since),
        }
        for one in found.servers or ()
    ]
    return {"Healthy": found.healthy, "FailureTolerance": found.failure_tolerance, "Servers": servers}


def show_state(found: AutopilotState) -> dict[str, Any]:
    """The body of `/v1/operator/autopilot/state`."""
    servers = {
        server_id: {
            "ID": one.server.id,
            "Name": one.server.name,
            "Address": one.server.address,
            "NodeStatus": one.server.node_status,
            "Version": one.server.version,
            "LastContact": duration.show(one.stats.last_contact),
            "LastTerm": one.stats.last_term,
            "LastIndex": one.stats.last_index,
            "Healthy": one.health.healthy,
            "StableSince": moment(one.health.stable_since),
            "ReadReplica": one.server.node_type == "read-replica",
            "Status": one.state,
            "Meta": one.server.meta,
            "NodeType": one.server.node_type,
        }
        for server_id, one in sorted((found.servers or {}).items())
    }
    return {
        "Healthy": found.healthy,
        "FailureTolerance": found.failure_tolerance,
        "OptimisticFailureTolerance": 0,
        "Servers": servers,
        "Leader": found.leader,
        "Voters": found.voters,
    }


def show_autopilot_config(config: AutopilotConfig) -> dict[str, Any]:
    """The body of `/v1/operator/autopilot/configuration`."""
    return {
        "CleanupDeadServers": config.cleanup_dead_servers,
        "LastContactThreshold": duration.show(config.last_contact_threshold),
        "MaxTrailingLogs": config.max_trailing_logs,
        "MinQuorum": config.min_quorum,
        "ServerStabilizationTime": duration.show(config.server_stabilization_time),
        "RedundancyZoneTag": config.redundancy_zone_tag,
        "DisableUpgradeMigration": config.disable_upgrade_migration,
        "UpgradeVersionTag": config.upgrade_version_tag,
        "CreateIndex": config.create_index,
        "ModifyIndex": config.modify_index,
    }


# --- from JSON ---------------------------------------------------------------------------------------


class _ReadableDuration(Shape):
    """Nanoseconds from `"10s"` or a number."""

    zero = 0

    def fit(self, value: Any, errors: Errors) -> Any:
        try:
            if isinstance(value, str):
                return duration.parse(value)
            if isinstance(value, int | float) and abs(value) <= duration.MAX:
                return int(value)
            raise ValueError(f"invalid duration {gojson.encode(value).decode()}")
        except ValueError as error:
            raise JsonError(str(error)) from None


_DURATION = _ReadableDuration("api.ReadableDuration")
_AUTOPILOT = Object(
    "api.AutopilotConfiguration",
    {
        "CleanupDeadServers": BOOL,
        "LastContactThreshold": _DURATION,
        "MaxTrailingLogs": UINT,
        "MinQuorum": Integer("uint", 0, (1 << 64) - 1),
        "ServerStabilizationTime": _DURATION,
        "RedundancyZoneTag": STRING,
        "DisableUpgradeMigration": BOOL,
        "UpgradeVersionTag": STRING,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    },
)


def read_autopilot_config(body: bytes) -> AutopilotConfig:
    """The configuration in a body; what it does not say is as Consul has it by default. BadRequest."""
    try:
        fields = fit(gojson.decode(body), _AUTOPILOT) or {}
    except JsonError as error:
        raise BadRequest(f"Bad request: Error parsing autopilot config: {error}") from None
    for name in ("CreateIndex", "ModifyIndex"):
        fields.pop(name, None)
    names = {go_name(attribute): attribute for attribute in AutopilotConfig.__struct_fields__}
    return replace(DEFAULTS, **{names[name]: value for name, value in fields.items()})
