"""What user interfaces ask, as RPCs: topology, federation states, usage."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from core.api import internal_ui, operator_usage
from core.api.internal_ui import StateRequest, TopologyRequest
from core.api.operator_usage import ServiceUsage, UsageRequest
from core.api.remote_kinds import ReadRemote, Remote
from core.api.remote_structs import DatacenterRead, DCSpecificRequest, ReadReply, ServiceSpecificRequest
from core.store.structs import FederationState, go_name


class ServiceTopology(Struct, frozen=True, rename=go_name):
    """structs.ServiceTopology; of its lists nothing is filled without a mesh."""

    downstream_decisions: dict[str, Any] | None = None
    downstreams: list[Any] | None = None
    metrics_protocol: str = ""
    upstream_decisions: dict[str, Any] | None = None
    upstreams: list[Any] | None = None


class IndexedServiceTopology(ReadReply, frozen=True, rename=go_name):
    """structs.IndexedServiceTopology."""

    service_topology: ServiceTopology | None = None
    filtered_by_acls: bool = field(default=False, name="FilteredByACLs")


class FederationStateQuery(DatacenterRead, frozen=True, rename=go_name):
    """structs.FederationStateQuery."""

    target_datacenter: str = ""


class FederationStateResponse(ReadReply, frozen=True, rename=go_name):
    """structs.FederationStateResponse."""

    state: FederationState | None = None


class IndexedFederationStates(ReadReply, frozen=True, rename=go_name):
    """structs.IndexedFederationStates."""

    states: list[FederationState] | None = None


class IndexedUsage(ReadReply, frozen=True, rename=go_name):
    """structs.Usage of later versions: by datacenter."""

    usage: dict[str, ServiceUsage] | None = None


def _one_usage(reply: IndexedUsage) -> ServiceUsage:
    return next(iter((reply.usage or {}).values()), ServiceUsage())


UI: tuple[Remote, ...] = (
    ReadRemote(
        internal_ui.TOPOLOGY,
        ServiceSpecificRequest,
        lambda args: {"service_name": args.name, "service_kind": args.kind},
        lambda body: TopologyRequest(body.service_name, body.service_kind),
        IndexedServiceTopology,
        lambda protocol: {"service_topology": ServiceTopology(metrics_protocol=protocol)},
        lambda reply: reply.service_topology.metrics_protocol if reply.service_topology else "",
    ),
    ReadRemote(
        internal_ui.STATES,
        DCSpecificRequest,
        lambda args: {},
        lambda body: StateRequest(),
        IndexedFederationStates,
        lambda found: {"states": found or None},
        lambda reply: reply.states or [],
    ),
    ReadRemote(
        internal_ui.STATE,
        FederationStateQuery,
        lambda args: {"target_datacenter": args.datacenter},
        lambda body: StateRequest(body.target_datacenter),
        FederationStateResponse,
        lambda found: {"state": found[0] if found else None},
        lambda reply: [] if reply.state is None else [reply.state],
    ),
    ReadRemote(
        operator_usage.USAGE,
        DCSpecificRequest,
        lambda args: {},
        lambda body: UsageRequest(),
        IndexedUsage,
        lambda usage: {"usage": {"": usage}},
        _one_usage,
    ),
)
