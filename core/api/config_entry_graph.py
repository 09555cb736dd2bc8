"""How a config entry fits with the others, and what it leads to.

Consul compiles the discovery chain of every service that an entry touches; without a mesh there is no chain
here, but the two faults that it finds first are looked for: routing for a protocol that has no routes, and
subsets that no resolver defines."""

from __future__ import annotations

from typing import Any

from core.api.config_entry_kinds import rows
from core.api.config_entry_rules import GLOBAL, ROUTABLE
from core.api.config_entry_shapes import Entry
from core.errors import Invalid
from core.store.mesh import MeshState


def protocol_of(state: MeshState, service: str, proposed: Entry | None = None) -> str:
    """What a service speaks: its service-defaults, else proxy-defaults, else tcp."""

    def stored(kind: str, name: str) -> Any:
        if proposed is not None and (proposed["Kind"], proposed["Name"].lower()) == (kind, name.lower()):
            return proposed
        return state.config_entry(kind, name)[1] or {}

    own = stored("service-defaults", service).get("Protocol")
    shared = (stored("proxy-defaults", GLOBAL).get("Config") or {}).get("protocol")
    return str(own or shared or "tcp")


def check_fit(state: MeshState, entry: Entry) -> None:
    """Invalid unless the entry may stand beside what the state has."""
    kind, name = entry["Kind"], entry["Name"]
    routed = [name] if kind in ("service-router", "service-splitter") else []
    if kind in ("service-defaults", "proxy-defaults"):
        # What was routed so far must stay routable.
        for one in (
            *state.config_entry_list("service-router")[1],
            *state.config_entry_list("service-splitter")[1],
        ):
            if kind == "proxy-defaults" or str(one["Name"]).lower() == name.lower():
                routed.append(str(one["Name"]))
    for service in routed:
        protocol = protocol_of(state, service, entry)
        if protocol not in ROUTABLE:
            raise Invalid(
                f'discovery chain "{service}" uses a protocol "{protocol}" that does not permit advanced '
                "routing or splitting behavior"
            )
    for service, subset in _subsets_used(entry):
        resolver = state.config_entry("service-resolver", service)[1] or {}
        if subset not in (resolver.get("Subsets") or {}):
            raise Invalid(f'service "{service}" does not have a subset named "{subset}"')


def _subsets_used(entry: Entry) -> list[tuple[str, str]]:
    kind, name = entry["Kind"], entry["Name"]
    if kind == "service-splitter":
        targets = list(rows(entry, "Splits"))
    elif kind == "service-router":
        targets = [route["Destination"] for route in rows(entry, "Routes") if route["Destination"]]
    else:
        targets = []
    return [(one["Service"] or name, one["ServiceSubset"]) for one in targets if one["ServiceSubset"]]


def related_services(entry: Entry) -> list[str]:
    """The other services that a router, splitter or resolver leads to: whoever writes it must see them."""
    kind, name = entry.get("Kind"), entry["Name"]
    targets: list[Any] = []
    if kind == "service-router":
        targets = [route["Destination"] for route in rows(entry, "Routes") if route["Destination"]]
    elif kind == "service-splitter":
        targets = list(rows(entry, "Splits"))
    elif kind == "service-resolver":
        targets = [entry["Redirect"]] if entry["Redirect"] else list((entry["Failover"] or {}).values())
    return sorted({one["Service"] for one in targets if one["Service"] and one["Service"] != name})
