"""How much is registered: `/v1/operator/usage`, and the question Operator.Usage of later versions."""

from __future__ import annotations

import dataclasses

from msgspec import Struct

from core.acl.access import Authorizer
from core.api import render
from core.api.blocking import query_options
from core.api.catalog import LIST_DATACENTERS
from core.api.endpoint import (
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    QueryOptions,
    Question,
    Read,
    Reply,
    Request,
    Route,
)
from core.api.remote_kinds import unrendered
from core.api.status import Nothing
from core.codec import gojson
from core.errors import CtlError, Denied, Unavailable
from core.store.state import Store
from core.store.structs import go_name
from core.store.watch import Watch

KINDS_OF_MESH = ("connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway")


class UsageRequest(Struct, frozen=True):
    """A whole datacenter's usage."""


class ServiceUsage(Struct, frozen=True, rename=go_name):
    """structs.ServiceUsage."""

    services: int = 0
    service_instances: int = 0
    connect_service_instances: dict[str, int] = {}
    billable_service_instances: int = 0
    nodes: int = 0


def _usage(view: Store, args: UsageRequest, watch: Watch | None) -> Answer:
    index, instances = view.service_dump(None, watch)
    mesh = dict.fromkeys(KINDS_OF_MESH, 0)
    billable = 0
    for instance in instances:
        service = instance.service
        if service.kind in mesh:
            mesh[service.kind] += 1
        elif service.service != "consul":
            billable += 1
        if service.connect and service.connect.get("Native"):
            mesh["connect-native"] += 1
    names = {instance.service.service for instance in instances}
    nodes = len(view.nodes(watch, None)[1])
    return Answer(index, ServiceUsage(len(names), len(instances), mesh, billable, nodes))


def _permit(authorizer: Authorizer, args: UsageRequest, answer: Answer) -> Answer:
    authorizer.require("operator", "", "read")
    return answer


USAGE = Read("Operator.Usage", _usage, _permit)


def show_usage(usage: ServiceUsage) -> render.Json:
    """As the API shows it."""
    return {
        "Services": usage.services,
        "ServiceInstances": usage.service_instances,
        "ConnectServiceInstances": dict(sorted(usage.connect_service_instances.items())),
        "BillableServiceInstances": usage.billable_service_instances,
        "Nodes": usage.nodes,
    }


def _body(found: dict[str, Answer], own: Answer, stale: bool) -> bytes:
    return gojson.encode(
        {
            "Usage": {name: show_usage(answer.value) for name, answer in sorted(found.items())},
            "Index": own.index,
            "LastContact": own.last_contact,
            "KnownLeader": own.known_leader,
            "ConsistencyLevel": "stale" if stale else "leader",
            "NotModified": False,
            "Backend": 0,
            "ResultsFilteredByACLs": False,
        }
    )


async def _everywhere(agent: AgentDoor, options: QueryOptions) -> Reply:
    """The usage of all datacenters. CtlError names the one that cannot be asked."""
    own = options.datacenter or agent.datacenter
    names: list[str] = await agent.run(Errand(LIST_DATACENTERS, Nothing(), unrendered))
    found: dict[str, Answer] = {}
    for name in dict.fromkeys([own, *names]):
        asked = dataclasses.replace(options, datacenter=name, min_query_index=0)
        try:
            found[name] = await agent.ask(Question(USAGE, UsageRequest(), asked, unrendered))
        except Denied:
            raise
        except CtlError as error:
            raise Unavailable(f"{error} (asking datacenter {name} for its usage)") from None
    return Reply(body=_body(found, found[own], options.allow_stale))


def usage(agent: AgentDoor, request: Request) -> Outcome:
    """`GET /v1/operator/usage`: services, instances and nodes of one datacenter, or (`global`) of all."""
    options = query_options(request)
    if request.query.has("global"):
        return _everywhere(agent, options)
    datacenter = options.datacenter or agent.datacenter
    stale = options.allow_stale

    def shown(answer: Answer) -> Reply:
        return Reply(body=_body({datacenter: answer}, answer, stale))

    return Question(USAGE, UsageRequest(), options, shown)


ROUTES = (Route("/v1/operator/usage", ("GET",), usage),)
