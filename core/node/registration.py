"""From a definition to what is kept: defaults, ids, and what is wrong with it.

Texts are Consul's (reference/config.md sections 4 and 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address

from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store.structs import (
    CRITICAL,
    PASSING,
    WARNING,
    HealthCheck,
    NodeService,
    ServiceAddress,
    Weights,
)

NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
STATUSES = ("", PASSING, WARNING, CRITICAL)
"""What a check may begin with."""

MAX_WEIGHT = 65535
MAX_PAIRS, MAX_KEY, MAX_VALUE = 64, 128, 512

_META_KEY = re.compile(r"[a-zA-Z0-9_-]+\Z")
_DNS_NAME = re.compile(r"[a-zA-Z0-9-]+\Z")


def is_script(check: CheckDefinition) -> bool:
    """Whether the check runs a command of the operator's (here or in a container)."""
    return bool(check.args)


def check_problem(check: CheckDefinition) -> str:
    """Why a check cannot be, `` if it can."""
    runs = is_script(check) or bool(
        check.http or check.tcp or check.udp or check.grpc or check.h2ping or check.os_service
    )
    if check.interval > 0 and check.ttl > 0:
        return "Interval and TTL cannot both be specified"
    if runs and check.interval <= 0:
        return "Interval must be > 0 for Script, HTTP, or TCP checks"
    alias = bool(check.alias_node or check.alias_service)
    if runs and alias:
        return "Interval cannot be set for Alias checks"
    if alias and check.ttl > 0:
        return "TTL must be not be set for Alias checks"
    if not runs and not alias and check.ttl <= 0:
        return "TTL must be > 0 for TTL checks"
    if check.output_max_size < 0:
        return "MaxOutputMaxSize must be positive"
    return ""


def weights_problem(weights: Weights | None) -> str:
    """What is wrong with weights, `` if nothing is."""
    if weights is None:
        return ""
    if weights.passing < 1:
        return "Passing must be greater than 0"
    if weights.warning < 0:
        return "Warning must be greater or equal than 0"
    if max(weights.passing, weights.warning) > MAX_WEIGHT:
        return "DNS Weight must be between 0 and 65535"
    return ""


def metadata_problem(meta: Mapping[str, str] | None) -> str:
    """What is wrong with a service's metadata, `` if nothing is."""
    if meta is None:
        return ""
    if len(meta) > MAX_PAIRS:
        return f"Node metadata cannot contain more than {MAX_PAIRS} key/value pairs"
    for key, value in meta.items():
        problem = _pair_problem(key, value)
        if problem:
            return f"Couldn't load metadata pair ('{key}', '{value}'): {problem}"
    return ""


def _pair_problem(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if _META_KEY.match(key) is None:
        return "Key contains invalid characters"
    if len(key) > MAX_KEY:
        return f"Key is too long (limit: {MAX_KEY} characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    if len(value) > MAX_VALUE:
        return f"Value is too long (limit: {MAX_VALUE} characters)"
    return ""


def is_dns_name(name: str) -> bool:
    """Whether a name of a service or tag can be asked for over DNS."""
    return _DNS_NAME.match(name) is not None


def node_service(definition: ServiceDefinition) -> NodeService:
    """The service as the catalog has it, with its defaults."""
    return NodeService(
        kind=definition.kind,
        id=definition.id or definition.name,
        service=definition.name,
        tags=definition.tags,
        address=definition.address,
        tagged_addresses=_tagged_addresses(definition),
        meta=definition.meta,
        port=definition.port,
        weights=definition.weights or Weights(),
        enable_tag_override=definition.enable_tag_override,
        proxy=definition.proxy,
        connect=definition.connect,
    )


def _tagged_addresses(definition: ServiceDefinition) -> dict[str, ServiceAddress]:
    """Those given, and the service's own address under `lan_` and `wan_` with its family."""
    tagged = dict(definition.tagged_addresses or {})
    try:
        family = "ipv4" if isinstance(ip_address(definition.address), IPv4Address) else "ipv6"
    except ValueError:
        return tagged
    for net in ("lan", "wan"):
        tagged.setdefault(f"{net}_{family}", ServiceAddress(definition.address, definition.port))
    return tagged


def service_checks(definition: ServiceDefinition, node: str) -> list[tuple[HealthCheck, CheckDefinition]]:
    """The checks of a service with their ids: their own, `service:ID`, or `service:ID:N` of several."""
    service_id = definition.id or definition.name
    made = []
    for number, check in enumerate(definition.checks, 1):
        check_id = check.id or f"service:{service_id}"
        if not check.id and len(definition.checks) > 1:
            check_id += f":{number}"
        value = HealthCheck(
            node=node,
            check_id=check_id,
            name=check.name or f"Service '{definition.name}' check",
            status=check.status or CRITICAL,
            notes=check.notes,
            service_id=service_id,
            service_name=definition.name,
            service_tags=definition.tags,
            type=check.kind,
        )
        made.append((value, check))
    return made


def health_check(definition: CheckDefinition, node: str) -> HealthCheck:
    """A check that was registered by itself; its id is its name unless it has one."""
    return HealthCheck(
        node=node,
        check_id=definition.id or definition.name,
        name=definition.name,
        status=definition.status or CRITICAL,
        notes=definition.notes,
        service_id=definition.service_id,
        type=definition.kind,
    )


def maintenance_check(node: str, service: NodeService | None, reason: str) -> HealthCheck:
    """The check that keeps a service, or without one the node, out of use."""
    what = "service" if service is not None else "node"
    notes = reason or (
        f"Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
    )
    if service is None:
        return HealthCheck(
            node=node,
            check_id=NODE_MAINTENANCE,
            name="Node Maintenance Mode",
            status=CRITICAL,
            notes=notes,
            type="maintenance",
        )
    return HealthCheck(
        node=node,
        check_id=SERVICE_MAINTENANCE + service.id,
        name="Service Maintenance Mode",
        status=CRITICAL,
        notes=notes,
        service_id=service.id,
        service_name=service.service,
        service_tags=service.tags,
        type="maintenance",
    )
