"""Services and checks in configuration files: their fields, and what they become.

reference/config.md sections 4 and 5. Texts of durations are those of Consul's builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.codec import duration
from core.config.schema import Block, ListOf, MapOf
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store.structs import ServiceAddress, Weights

_CHECK_TYPES = {
    "string": "id name notes service_id token status http method body tcp udp grpc h2ping os_service "
    "docker_container_id shell alias_node alias_service tls_server_name namespace partition",
    "bool": "disable_redirects tcp_use_tls grpc_use_tls h2ping_use_tls tls_skip_verify",
    "int": "success_before_passing failures_before_warning failures_before_critical output_max_size",
    "duration": "ttl interval timeout deregister_critical_service_after",
    "strings": "args",
    "headers": "header",
}
CHECK_DURATIONS = _CHECK_TYPES["duration"].split()
UNUSED = ("namespace", "partition", "locality")
"""Fields that are read and dropped: Consul Enterprise and the service mesh have them."""

CHECK = Block(
    {name: kind for kind, names in _CHECK_TYPES.items() for name in names.split()},
    {
        "serviceid": "service_id",
        "scriptargs": "args",
        "dockercontainerid": "docker_container_id",
        "tlsskipverify": "tls_skip_verify",
        "deregistercriticalserviceafter": "deregister_critical_service_after",
    },
)
CHECKS = ListOf(CHECK)

SERVICE = Block(
    {
        "id": "string",
        "name": "string",
        "kind": "string",
        "tags": "strings",
        "address": "string",
        "port": "int",
        "socket_path": "string",
        "meta": "map",
        "tagged_addresses": MapOf(Block({"address": "string", "port": "int"})),
        "weights": Block({"passing": "int", "warning": "int"}),
        "enable_tag_override": "bool",
        "check": CHECK,
        "checks": CHECKS,
        "token": "string",
        "proxy": "opaque",
        "connect": "opaque",
        "locality": "any",
        "namespace": "string",
        "partition": "string",
    }
)
SERVICES = ListOf(SERVICE)

Complain = Callable[[str], None]


def nanoseconds(text: str, name: str, complain: Complain) -> int:
    """The duration that the option `name` has; what is wrong with it goes to `complain`."""
    try:
        return duration.parse(text)
    except ValueError as error:
        complain(f"{name}: invalid duration: {duration.quote(text)}: {error}")
        return 0


def check_of(fields: dict[str, Any], complain: Complain) -> CheckDefinition:
    """A check from its decoded fields."""
    fields = {key: value for key, value in fields.items() if key not in UNUSED}
    for name in CHECK_DURATIONS:
        if name in fields:
            where = f"check[{fields.get('id', '')}].{name}"
            fields[name] = nanoseconds(fields[name], where, complain)
    return CheckDefinition(**fields)


def service_of(fields: dict[str, Any], complain: Complain) -> ServiceDefinition:
    """A service from its decoded fields, its checks in the order `checks`, `check`."""
    fields = {key: value for key, value in fields.items() if key not in UNUSED}
    checks = list(fields.pop("checks", []))
    if "check" in fields:
        checks.append(fields.pop("check"))
    fields["checks"] = [check_of(check, complain) for check in checks]
    if "tagged_addresses" in fields:
        tagged = fields["tagged_addresses"].items()
        fields["tagged_addresses"] = {tag: ServiceAddress(**address) for tag, address in tagged}
    if "weights" in fields:
        # Consul fills in what is missing, but keeps a zero that was written.
        fields["weights"] = Weights(**fields["weights"])
    return ServiceDefinition(**fields)
