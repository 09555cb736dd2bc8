"""From a dependency to a question over HTTP, and from its reply to what templates see.

The questions are those of the blocking HTTP API; the runner adds the index, the wait and the token."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qsl, quote

from core.template.deps import (
    DatacentersDep,
    Dependency,
    FileDep,
    KeyDep,
    NodeDep,
    NodesDep,
    PrefixDep,
    ServiceDep,
    ServicesDep,
)
from core.template.records import (
    CatalogEntry,
    CatalogNode,
    CatalogSnippet,
    CatalogSnippets,
    Check,
    CheckDefinition,
    CheckList,
    HealthService,
    HealthServices,
    KeyPair,
    KeyPairs,
    Nodes,
    NodeService,
    NodeServices,
    ServiceAddress,
    ServiceWeights,
)
from core.template.values import StringMap, Strings, Tags, decoded


def request(dependency: Dependency, own_node: str = "") -> tuple[str, list[tuple[str, str]]]:
    """Path and parameters of the question. Files are not asked for over HTTP (ValueError).
    `own_node` is the name of the agent's node, for `node` without a name."""
    if isinstance(dependency, KeyDep | PrefixDep):
        recurse = [("recurse", "")] if isinstance(dependency, PrefixDep) else []
        return f"/v1/kv/{quote(dependency.path)}", [*recurse, *_parameters(dependency.dc, dependency.query)]
    if isinstance(dependency, ServiceDep):
        parameters = _parameters(dependency.dc, dependency.query, dependency.near)
        if dependency.tag:
            parameters.append(("tag", dependency.tag))
        if dependency.filters == ("passing",):
            parameters.append(("passing", "1"))
        kind = "connect" if dependency.connect else "service"
        return f"/v1/health/{kind}/{quote(dependency.name)}", parameters
    if isinstance(dependency, ServicesDep):
        return "/v1/catalog/services", _parameters(dependency.dc, dependency.query)
    if isinstance(dependency, NodeDep):
        return f"/v1/catalog/node/{quote(dependency.name or own_node)}", _parameters(dependency.dc)
    if isinstance(dependency, NodesDep):
        return "/v1/catalog/nodes", _parameters(dependency.dc, dependency.query, dependency.near)
    if isinstance(dependency, DatacentersDep):
        return "/v1/catalog/datacenters", []
    raise ValueError(f"{dependency} is not asked for over HTTP")


def _parameters(dc: str, query: str = "", near: str = "") -> list[tuple[str, str]]:
    parameters = [("dc", dc)] if dc else []
    if near:
        parameters.append(("near", near))
    return [*parameters, *parse_qsl(query, keep_blank_values=True)]


def answer(dependency: Dependency, body: Any) -> Any:
    """What templates see of a reply; `body` is its JSON, None for 404. ValueError if the reply is not
    of the shape that the API has."""
    try:
        return _answer(dependency, body)
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"{dependency}: the reply has another shape than it should ({error!r})") from None


def _answer(dependency: Dependency, body: Any) -> Any:
    if isinstance(dependency, KeyDep):
        return _pair(body[0], body[0]["Key"]) if body else None
    if isinstance(dependency, PrefixDep):
        start = len(dependency.path)
        return KeyPairs(_pair(raw, raw["Key"][start:].lstrip("/")) for raw in body or ())
    if isinstance(dependency, ServiceDep):
        return _health(dependency, body or [])
    if isinstance(dependency, ServicesDep):
        return CatalogSnippets(
            CatalogSnippet(Name=name, Tags=_tags(tags)) for name, tags in sorted((body or {}).items())
        )
    if isinstance(dependency, NodeDep):
        return _node_with_services(body)
    if isinstance(dependency, NodesDep):
        nodes = [_node(raw) for raw in body or ()]
        if not dependency.near:
            nodes.sort(key=lambda node: (node.Node, node.ID))
        return Nodes(nodes)
    if isinstance(dependency, FileDep):
        return body
    return Strings(body or ())


def _pair(raw: dict[str, Any], key: str) -> KeyPair:
    return KeyPair(
        Path=raw["Key"],
        Key=key,
        Value=decoded(base64.b64decode(raw["Value"] or "")),
        CreateIndex=raw.get("CreateIndex", 0),
        ModifyIndex=raw.get("ModifyIndex", 0),
        LockIndex=raw.get("LockIndex", 0),
        Flags=raw.get("Flags", 0),
        Session=raw.get("Session") or "",
    )


def _tags(raw: list[str] | None) -> Tags:
    return Tags(sorted(raw or ()))


def _map(raw: dict[str, str] | None) -> StringMap:
    return StringMap(raw or {})


def status_of(checks: list[dict[str, Any]]) -> str:
    """The worst of the checks; `maintenance` when the node or the service is taken out on purpose."""
    found = {check["Status"] for check in checks}
    if any(
        str(check["CheckID"]).startswith(("_node_maintenance", "_service_maintenance:")) for check in checks
    ):
        return "maintenance"
    return next((status for status in ("critical", "warning") if status in found), "passing")


def _health(dependency: ServiceDep, body: list[dict[str, Any]]) -> HealthServices:
    found = []
    for entry in body:
        status = status_of(entry["Checks"])
        if "any" in dependency.filters or status in dependency.filters:
            found.append(_instance(entry, status))
    if not dependency.near:
        found.sort(key=lambda instance: (instance.Node, instance.ID))
    return HealthServices(found)


def _instance(entry: dict[str, Any], status: str) -> HealthService:
    node, service = entry["Node"], entry["Service"]
    weights = service.get("Weights") or {}
    return HealthService(
        Node=node["Node"],
        NodeID=node.get("ID", ""),
        NodeAddress=node["Address"],
        NodeTaggedAddresses=_map(node.get("TaggedAddresses")),
        NodeMeta=_map(node.get("Meta")),
        ServiceMeta=_map(service.get("Meta")),
        Address=service["Address"] or node["Address"],
        ServiceTaggedAddresses={
            name: ServiceAddress(Address=raw["Address"], Port=raw["Port"])
            for name, raw in (service.get("TaggedAddresses") or {}).items()
        },
        ID=service["ID"],
        Name=service["Service"],
        Tags=_tags(service["Tags"]),
        Checks=CheckList(_check(raw) for raw in entry["Checks"]),
        Status=status,
        Port=service["Port"],
        Weights=ServiceWeights(Passing=weights.get("Passing", 1), Warning=weights.get("Warning", 1)),
    )


_CHECK_TEXTS = ("Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName", "Type")


def _check(raw: dict[str, Any]) -> Check:
    texts = {name: raw.get(name) or "" for name in _CHECK_TEXTS}
    return Check(
        **texts,
        ServiceTags=_tags(raw.get("ServiceTags")),
        Definition=_definition(raw.get("Definition") or {}),
        CreateIndex=raw.get("CreateIndex", 0),
        ModifyIndex=raw.get("ModifyIndex", 0),
    )


_DEFINITION = CheckDefinition.__struct_fields__


def _definition(raw: dict[str, Any]) -> CheckDefinition:
    known = {name: raw[name] for name in _DEFINITION if raw.get(name)}
    return CheckDefinition(**known) if known else _NO_DEFINITION


_NO_DEFINITION = CheckDefinition()


def _node(raw: dict[str, Any]) -> CatalogEntry:
    return CatalogEntry(
        ID=raw.get("ID", ""),
        Node=raw["Node"],
        Address=raw["Address"],
        Datacenter=raw.get("Datacenter", ""),
        TaggedAddresses=_map(raw.get("TaggedAddresses")),
        Meta=_map(raw.get("Meta")),
    )


def _node_with_services(body: dict[str, Any] | None) -> CatalogNode:
    if not body:
        return CatalogNode()  # there is no such node: something, but empty
    services = [
        NodeService(
            ID=raw["ID"],
            Service=raw["Service"],
            Tags=_tags(raw["Tags"]),
            Meta=_map(raw.get("Meta")),
            Port=raw["Port"],
            Address=raw["Address"],
            EnableTagOverride=raw.get("EnableTagOverride", False),
        )
        for raw in (body.get("Services") or {}).values()
    ]
    services.sort(key=lambda service: (service.Service, service.ID))
    return CatalogNode(Node=_node(body["Node"]), Services=NodeServices(services))
