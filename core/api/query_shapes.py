"""Prepared queries as JSON: what bodies say, and how queries and what they found are shown."""

from __future__ import annotations

from typing import Any

from core.api import render
from core.api.decode import NEUTRAL
from core.codec import gojson
from core.codec.gojson import JsonError
from core.codec.shapes import BOOL, INT, STRING, STRING_MAP, STRINGS, UINT, ListOf, Object, Shape, fit
from core.errors import BadRequest
from core.node.prepared import Found
from core.store.structs import (
    CheckServiceNode,
    PreparedQuery,
    QueryDatacenterOptions,
    QueryDNSOptions,
    QueryFailoverTarget,
    QueryTemplateOptions,
    ServiceQuery,
)

_TENANCY: dict[str, Shape] = {"Namespace": NEUTRAL, "Partition": NEUTRAL, "SamenessGroup": NEUTRAL}
_TARGET = Object("structs.QueryFailoverTarget", {"Peer": STRING, "Datacenter": STRING, **_TENANCY})
_FAILOVER = Object(
    "structs.QueryDatacenterOptions",
    {"NearestN": INT, "Datacenters": STRINGS, "Targets": ListOf(_TARGET)},
)
_SERVICE = Object(
    "structs.ServiceQuery",
    {
        "Service": STRING,
        "Failover": _FAILOVER,
        "OnlyPassing": BOOL,
        "IgnoreCheckIDs": ListOf(STRING, "[]types.CheckID"),
        "Near": STRING,
        "Tags": STRINGS,
        "NodeMeta": STRING_MAP,
        "ServiceMeta": STRING_MAP,
        "Connect": BOOL,
        "Peer": NEUTRAL,
        **_TENANCY,
    },
)
_QUERY = Object(
    "structs.PreparedQuery",
    {
        "ID": STRING,
        "Name": STRING,
        "Session": STRING,
        "Token": STRING,
        "Template": Object(
            "structs.QueryTemplateOptions", {"Type": STRING, "Regexp": STRING, "RemoveEmptyTags": BOOL}
        ),
        "Service": _SERVICE,
        "DNS": Object("structs.QueryDNSOptions", {"TTL": STRING}),
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    },
)


def decode(body: bytes) -> PreparedQuery:
    """The query that a body describes. BadRequest has Consul's text."""
    try:
        fields = fit(gojson.decode(body), _QUERY) or {}
    except JsonError as error:
        raise BadRequest(f"Request decode failed: {error}") from None
    template = fields.get("Template") or {}
    return PreparedQuery(
        id=fields.get("ID", ""),
        name=fields.get("Name", ""),
        session=fields.get("Session", ""),
        token=fields.get("Token", ""),
        template=QueryTemplateOptions(
            template.get("Type", ""), template.get("Regexp", ""), template.get("RemoveEmptyTags", False)
        ),
        service=_service(fields.get("Service") or {}),
        dns=QueryDNSOptions((fields.get("DNS") or {}).get("TTL", "")),
    )


def _service(fields: dict[str, Any]) -> ServiceQuery:
    failover = fields.get("Failover") or {}
    targets = failover.get("Targets")
    made = targets and [
        QueryFailoverTarget((one or {}).get("Peer", ""), (one or {}).get("Datacenter", "")) for one in targets
    ]
    return ServiceQuery(
        service=fields.get("Service", ""),
        failover=QueryDatacenterOptions(
            failover.get("NearestN", 0), failover.get("Datacenters"), made or None
        ),
        only_passing=fields.get("OnlyPassing", False),
        ignore_check_ids=fields.get("IgnoreCheckIDs"),
        near=fields.get("Near", ""),
        tags=fields.get("Tags"),
        node_meta=fields.get("NodeMeta"),
        service_meta=fields.get("ServiceMeta"),
        connect=fields.get("Connect", False),
    )


def show(query: PreparedQuery) -> dict[str, Any]:
    """structs.PreparedQuery; `Targets` only where there are some, which 1.9 does not know."""
    service, template = query.service, query.template
    failover: dict[str, Any] = {
        "NearestN": service.failover.nearest_n,
        "Datacenters": service.failover.datacenters,
    }
    if service.failover.targets:
        failover["Targets"] = [
            {"Peer": target.peer, "Datacenter": target.datacenter, **(target.extra or {})}
            for target in service.failover.targets
        ]
    return {
        "ID": query.id,
        "Name": query.name,
        "Session": query.session,
        "Token": query.token,
        "Template": {
            "Type": template.type,
            "Regexp": template.regexp,
            "RemoveEmptyTags": template.remove_empty_tags,
        },
        "Service": {
            "Service": service.service,
            "Failover": failover,
            "OnlyPassing": service.only_passing,
            "IgnoreCheckIDs": service.ignore_check_ids,
            "Near": service.near,
            "Tags": service.tags,
            "NodeMeta": render.by_key(service.node_meta),
            "ServiceMeta": render.by_key(service.service_meta),
            "Connect": service.connect,
            **(service.extra or {}),
        },
        "DNS": {"TTL": query.dns.ttl},
        "CreateIndex": query.create_index,
        "ModifyIndex": query.modify_index,
    }


def show_found(found: Found) -> dict[str, Any]:
    """structs.PreparedQueryExecuteResponse, without its meta."""
    return {
        "Service": found.service,
        "Nodes": [_instance(item) for item in found.nodes],
        "DNS": {"TTL": found.dns.ttl},
        "Datacenter": found.datacenter,
        "Failovers": found.failovers,
    }


def _instance(item: CheckServiceNode) -> dict[str, Any]:
    """An instance with its tags as they are stored: null where none were ever given."""
    shown = render.check_service_node(item)
    shown["Service"]["Tags"] = item.service.tags
    for row, check in zip(shown["Checks"], item.checks, strict=True):
        row["ServiceTags"] = check.service_tags
    return shown


def show_meta(last_contact: int, known_leader: bool, consistency: str) -> dict[str, Any]:
    """structs.QueryMeta, which is part of what these two endpoints show."""
    return {
        "Index": 0,
        "LastContact": last_contact,
        "KnownLeader": known_leader,
        "ConsistencyLevel": consistency,
        "NotModified": False,
    }
