"""Writes to the catalog: nodes, services, checks (protocols/fsm.md section 3).

Node, service and check names are case-insensitive keys. A change of a node or of a node-level check
counts as a change of every service on that node, since health answers contain both."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from core.errors import Invalid
from core.store import sessions
from core.store.structs import (
    CRITICAL,
    DeregisterRequest,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
    Weights,
)
from core.store.view import View, mesh_name

SERF_CHECK = "serfhealth"
MISSING_NODE = "Missing node registration"
MISSING_SERVICE = "Missing service registration"
_NODE_FACTS = ("Locality", "Partition", "PeerName")
_META_KEY = re.compile(r"[a-zA-Z0-9_-]+")
_MAX_META_PAIRS, _MAX_META_KEY, _MAX_META_VALUE = 64, 128, 512


def register(view: View, index: int, request: RegisterRequest) -> None:
    """Apply a RegisterRequest: node, then service, then checks. Invalid leaves a half-done change
    behind, which the caller rolls back."""
    node = Node(
        request.id,
        request.node,
        request.address,
        request.datacenter,
        request.tagged_addresses,
        request.node_meta,
        extra=node_facts(request),
    )
    existing = view.node_rows.get(request.node.lower())
    if existing is None or not (request.skip_node_update or _same_registration(existing, node)):
        try:
            set_node(view, index, node)
        except Invalid as error:
            raise Invalid(f"failed inserting node: {error}") from None
    if request.service is not None:
        try:
            set_service(view, index, request.node, request.service)
        except Invalid as error:
            raise Invalid(f"failed inserting service: {error}") from None
    for check in (*((request.check,) if request.check else ()), *(request.checks or ())):
        if check.node != request.node:
            raise Invalid(f'check node "{check.node}" does not match node "{request.node}"')
        try:
            set_check(view, index, check)
        except Invalid as error:
            raise Invalid(f'failed inserting check: {error} on node "{check.node}"') from None


def node_facts(request: RegisterRequest) -> dict[str, Any] | None:
    """What later versions say about the node in a registration."""
    said = request.extra
    return {name: said[name] for name in _NODE_FACTS if name in said} or None if said else None


def deregister(view: View, index: int, request: DeregisterRequest) -> None:
    """Apply a DeregisterRequest. What is missing already is no error."""
    if request.service_id:
        delete_service(view, index, request.node, request.service_id)
    elif request.check_id:
        delete_check(view, index, request.node, request.check_id)
    else:
        delete_node(view, index, request.node)


def set_node(view: View, index: int, node: Node) -> None:
    """Store a node, found by id, else by name. A known id under a new name renames the node: what was
    on the old name goes. Invalid when another healthy node holds the name."""
    key = node.node.lower()
    by_id = view.node_rows.group("id", node.id.lower()) if node.id else []
    if by_id:
        existing = view.node_rows.get(by_id[0])
        assert existing is not None
        if existing.node != node.node:
            problem = _name_holder(view, node, take_over_without_id=False)
            if problem:
                raise Invalid(f'Error while renaming Node ID: "{node.id}" ({node.address}): {problem}')
            delete_node(view, index, existing.node)
    else:
        if node.id:
            problem = _name_holder(view, node, take_over_without_id=True)
            if problem:
                raise Invalid(f'Error while renaming Node ID: "{node.id}": {problem}')
        existing = view.node_rows.get(key)
    created = index
    if existing is not None:
        created = existing.create_index
        if replace(node, create_index=created, modify_index=existing.modify_index) == existing:
            return
    view.node_rows.put(key, replace(node, create_index=created, modify_index=index))
    view.bump("nodes", index)
    view.mark(("node", key))
    touch_services_of(view, index, key)
    for one in view.service_rows.group("node", key):
        _mark_instance(view, view.service_rows.rows[one])


def set_service(view: View, index: int, node: str, service: NodeService) -> None:
    """Store an instance on `node`. Nothing changes when it is identical to the stored one."""
    key = (node.lower(), service.id.lower())
    if key[0] not in view.node_rows:
        raise Invalid(MISSING_NODE)
    problem = meta_problem(service.meta or {})
    if problem:
        raise Invalid(f"Invalid Service Meta for node {node} and serviceID {service.id}: {problem}")
    existing = view.service_rows.get(key)
    created = index if existing is None else existing.create_index
    before = index if existing is None else existing.modify_index
    stored = replace(service, weights=_weights(service.weights), create_index=created, modify_index=before)
    if stored == existing:
        return
    view.service_rows.put(key, replace(stored, modify_index=index))
    view.bump("services", index)
    _touch(view, index, service)
    if existing is not None and existing.service.lower() != service.service.lower():
        _touch_or_drop(view, index, existing)
    for row in (stored,) if existing is None else (stored, existing):
        _mark_instance(view, row)
    view.mark(("node", key[0]))


def set_check(view: View, index: int, check: HealthCheck) -> None:
    """Store a check. A critical one ends the sessions bound to it, changed or not."""
    node = check.node.lower()
    key = (node, check.check_id.lower())
    if node not in view.node_rows:
        raise Invalid(MISSING_NODE)
    existing = view.check_rows.get(key)
    changes = {"status": check.status or CRITICAL, "create_index": index, "modify_index": index}
    if existing is not None:
        changes |= {"create_index": existing.create_index, "modify_index": existing.modify_index}
    service = None
    if check.service_id:
        service = view.service_rows.get((node, check.service_id.lower()))
        if service is None:
            raise Invalid(MISSING_SERVICE)
        changes |= {"service_name": service.service, "service_tags": service.tags}
    stored = replace(check, **changes)
    changed = existing is None or not _same_check(existing, stored)
    if changed:
        if service is not None:
            _touch(view, index, service)
        else:
            touch_services_of(view, index, node)
    if stored.status == CRITICAL:
        sessions.destroy_for_check(view, index, *key)
    if changed:
        if existing is not None:
            _leave_old_service(view, index, existing, stored)
            _mark_check(view, existing)
        view.check_rows.put(key, replace(stored, modify_index=index))
        view.bump("checks", index)
        _mark_check(view, stored)


def _mark_instance(view: View, service: NodeService) -> None:
    """Note that an instance or its node has changed: whoever lists instances without checks waits for no
    more."""
    view.mark(instances_cell(service.service))
    destination = mesh_name(service)
    if destination is not None:
        view.mark(mesh_cell(destination))


def _same_check(existing: HealthCheck, check: HealthCheck) -> bool:
    """Whether a registration says nothing new; what a check has for readers alone does not count."""
    if check == existing:
        return True
    return replace(check, type=existing.type, extra=existing.extra) == existing


def _mark_check(view: View, check: HealthCheck) -> None:
    """Note that a check has changed. Its service name is that of its last registration; the instance may
    have another name by now."""
    view.mark(("node", check.node.lower()))
    if check.service_name:
        view.mark(service_index(check.service_name))


def _leave_old_service(view: View, index: int, old: HealthCheck, new: HealthCheck) -> None:
    """A check that moves to another service changes the one it left, too."""
    if old.service_id.lower() == new.service_id.lower():
        return
    node = old.node.lower()
    if not old.service_id:
        touch_services_of(view, index, node)
    elif service := view.service_rows.get((node, old.service_id.lower())):
        _touch(view, index, service)


def delete_node(view: View, index: int, name: str) -> None:
    """Delete a node with its services, checks, coordinates and sessions; nothing when it is not there."""
    node = name.lower()
    if node not in view.node_rows:
        return
    for _, service_id in list(view.service_rows.group("node", node)):
        delete_service(view, index, node, service_id)
    for _, check_id in list(view.check_rows.group("node", node)):
        delete_check(view, index, node, check_id)
    for key in list(view.coordinates.group("node", node)):
        view.coordinates.remove(key)
        view.bump("coordinates", index)
    view.node_rows.remove(node)
    view.bump("nodes", index)
    view.mark(("node", node))
    sessions.destroy_for_node(view, index, node)


def delete_service(view: View, index: int, node: str, service_id: str) -> None:
    """Delete an instance with its checks; nothing when it is not there."""
    key = (node.lower(), service_id.lower())
    service = view.service_rows.get(key)
    if service is None:
        return
    for _, check_id in list(view.check_rows.group("instance", key)):
        delete_check(view, index, node, check_id)
    view.bump("checks", index)
    view.service_rows.remove(key)
    view.bump("services", index)
    _touch_or_drop(view, index, service)
    _mark_instance(view, service)
    view.mark(("node", key[0]))


def delete_check(view: View, index: int, node: str, check_id: str) -> None:
    """Delete a check and end the sessions bound to it; nothing when it is not there."""
    key = (node.lower(), check_id.lower())
    check = view.check_rows.get(key)
    if check is None:
        return
    if check.service_id:
        service = view.service_rows.get((key[0], check.service_id.lower()))
        if service is not None:
            _touch(view, index, service)
    else:
        touch_services_of(view, index, key[0])
        view.bump("services", index)
    view.check_rows.remove(key)
    view.bump("checks", index)
    _mark_check(view, check)
    sessions.destroy_for_check(view, index, *key)


def touch_services_of(view: View, index: int, node: str) -> None:
    """Count every service on `node` (lower case) as changed."""
    rows = view.service_rows.rows
    for key in view.service_rows.group("node", node):
        _touch(view, index, rows[key])


def service_index(name: str) -> str:
    """The name of a service's own index, also that of its watch cell."""
    return f"service.{name.lower()}"


def instances_cell(name: str) -> tuple[str, str]:
    """The watch cell of a service's instances, whatever becomes of their checks."""
    return ("instances", name.lower())


def mesh_cell(name: str) -> tuple[str, str]:
    """The watch cell of the instances that take mesh connections for a service."""
    return ("mesh", name.lower())


def kind_index(kind: str) -> str:
    """The name of the index of a service kind."""
    return f"service_kind.{kind.lower() or 'typical'}"


def meta_problem(meta: dict[str, str]) -> str:
    """Why node or service metadata is refused, `` when it is fine."""
    if len(meta) > _MAX_META_PAIRS:
        return f"Node metadata cannot contain more than {_MAX_META_PAIRS} key/value pairs"
    for key, value in meta.items():
        problem = ""
        if not key:
            problem = "Key cannot be blank"
        elif not _META_KEY.fullmatch(key):
            problem = "Key contains invalid characters"
        elif len(key) > _MAX_META_KEY:
            problem = f"Key is too long (limit: {_MAX_META_KEY} characters)"
        elif len(value) > _MAX_META_VALUE:
            problem = f"Value is too long (limit: {_MAX_META_VALUE} characters)"
        if problem:
            return f"Couldn't load metadata pair ('{key}', '{value}'): {problem}"
    return ""


def _same_registration(existing: Node, node: Node) -> bool:
    return existing.node.lower() == node.node.lower() and existing == replace(
        node, node=existing.node, create_index=existing.create_index, modify_index=existing.modify_index
    )


def _name_holder(view: View, node: Node, take_over_without_id: bool) -> str:
    """Why the name of `node` cannot be taken: another node that is not failed has it."""
    key = node.node.lower()
    holder = view.node_rows.get(key)
    if holder is None or holder.id == node.id or (take_over_without_id and not holder.id):
        return ""
    check = view.check_rows.get((key, SERF_CHECK))
    if check is None or check.status == CRITICAL:
        return ""
    return f"Node name {node.node} is reserved by node {holder.id} with name {holder.node} ({holder.address})"


def _weights(weights: Weights | None) -> Weights:
    usable = weights is not None and weights.passing > 0 and weights.warning >= 0
    return weights if weights is not None and usable else Weights(1, 1)


def _touch(view: View, index: int, service: NodeService) -> None:
    view.bump(service_index(service.service), index)
    view.bump(kind_index(service.kind), index)


def _touch_or_drop(view: View, index: int, service: NodeService) -> None:
    """An instance has left `service`: its index moves, or goes with the last instance."""
    view.bump(kind_index(service.kind), index)
    if view.service_rows.group("name", service.service.lower()):
        view.bump(service_index(service.service), index)
    else:
        view.drop_index(service_index(service.service))
        view.bump("service_last_extinction", index)
