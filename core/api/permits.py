"""What the permits of endpoints are made of: refusals with Consul's words, and answers without what the
token may not see.

A permit is asked only where ACLs are on (agent/calls.py). What anybody may ask has `OPEN` for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from core.acl.access import Access, Authorizer, Resource
from core.api.endpoint import Answer
from core.errors import Denied, Invalid
from core.store.register import SERF_CHECK
from core.store.structs import (
    CRITICAL,
    CheckServiceNode,
    DeregisterRequest,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
)
from core.store.txn import TxnState

T = TypeVar("T")
Permit = Callable[[Authorizer, Any], None]
ReadPermit = Callable[[Authorizer, Any, Answer], Answer]


# --- refusals -----------------------------------------------------------------------------------------


def judged(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
    """The permit of a read that is `judged` while it is made; an answer that was not is no answer."""
    raise Denied("Permission denied")


def reads(resource: Resource, name: Callable[[Any], str]) -> ReadPermit:
    """The permit of a read that is refused as a whole: `name(args)` must be readable."""

    def permit(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
        authorizer.require(resource, name(args), "read")
        return answer

    return permit


def needs(resource: Resource, access: Access) -> Permit:
    """The permit of an action that needs a right on something without names."""

    def permit(authorizer: Authorizer, args: Any) -> None:
        authorizer.require(resource, "", access)

    return permit


def needs_said(resource: Resource, access: Access) -> Permit:
    """The same, refused in the words that Consul has for some of its endpoints."""

    def permit(authorizer: Authorizer, args: Any) -> None:
        if not authorizer.allows(resource, "", access):
            raise Denied(f"Permission denied: Missing {resource}:{access} permissions")

    return permit


def require_write(authorizer: Authorizer, resource: Resource, name: str) -> None:
    """Denied as Consul's agents say it, unless the name may be written."""
    if not authorizer.allows(resource, name, "write"):
        raise Denied(f"Permission denied: Missing {resource}:write on {name}")


# --- answers without what may not be seen -------------------------------------------------------------


def kept(answer: Answer, sees: Callable[[Any], bool]) -> Answer:
    """The answer with those elements of its list that `sees` lets through."""
    found = [item for item in answer.value if sees(item)]
    return answer if len(found) == len(answer.value) else replace(answer, value=found, filtered=True)


def listing(sees: Callable[[Authorizer, Any], bool]) -> ReadPermit:
    """The permit of a read that lists what `sees(authorizer, item)` lets through."""

    def permit(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
        return kept(answer, lambda item: sees(authorizer, item))

    return permit


def sees_service(authorizer: Authorizer, name: str) -> bool:
    """Whether a service may be seen; what belongs to no service may, as far as services go."""
    return not name or authorizer.allows("service", name, "read")


def sees_node(authorizer: Authorizer, node: Node) -> bool:
    """Whether a node may be seen."""
    return authorizer.allows("node", node.node, "read")


def sees_pair(authorizer: Authorizer, pair: tuple[Node, NodeService]) -> bool:
    """Whether an instance of a service may be seen: its node and its service."""
    node, service = pair
    return sees_node(authorizer, node) and sees_service(authorizer, service.service)


def sees_instance(authorizer: Authorizer, instance: CheckServiceNode) -> bool:
    """Whether an instance with its checks may be seen."""
    return sees_pair(authorizer, (instance.node, instance.service))


def sees_check(authorizer: Authorizer, check: HealthCheck) -> bool:
    """Whether a check may be seen."""
    return authorizer.allows("node", check.node, "read") and sees_service(authorizer, check.service_name)


def node_services(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
    """The permit of a read of one node with its services: without rights on it there is no such node."""
    node, services = answer.value
    if node is None:
        return answer
    if not sees_node(authorizer, node):
        return replace(answer, value=(None, []), filtered=True)
    seen = [one for one in services if sees_service(authorizer, one.service)]
    return replace(answer, value=(node, seen), filtered=len(seen) < len(services))


# --- keys, and what the catalog's writes need ---------------------------------------------------------


def key_name(key: bytes) -> str:
    """A key as rules name it."""
    return str(key, "utf-8", "surrogateescape")


def require_node(authorizer: Authorizer, view: TxnState, node: str) -> None:
    """Denied unless the node may be written, by the name given and the one that the catalog has: the
    catalog takes upper and lower case for the same, rules do not."""
    authorizer.require("node", node, "write")
    host = view.get_node(node)
    if host is not None and host.node != node:
        authorizer.require("node", host.node, "write")


def require_identity(authorizer: Authorizer, view: TxnState, node: str, node_id: str) -> None:
    """Denied unless `node` may take the id of another one, which ends that one with all that is on it: it
    must be writable too, unless it has failed. (A host that comes back under a new name has a token for that
    name alone.)"""
    host = view.get_node_by_id(node_id) if node_id else None
    if host is None or host.node.lower() == node.lower():
        return
    alive = view.get_check(host.node, SERF_CHECK)
    if alive is None or alive.status != CRITICAL:
        authorizer.require("node", host.node, "write")


def require_check(authorizer: Authorizer, view: TxnState, check: HealthCheck) -> None:
    """Denied unless a check may be written, and the one that the catalog has of that id: as its service
    may, or the node where it belongs to none."""
    stored = view.get_check(check.node, check.check_id)
    service = view.get_service(check.node, check.service_id) if check.service_id else None
    if not check.service_id or (stored is not None and not stored.service_id):
        require_node(authorizer, view, check.node)
    names = [check.service_name] if check.service_id and (check.service_name or service is None) else []
    names += [service.service] if service is not None else []
    names += [stored.service_name] if stored is not None and stored.service_id else []
    for name in dict.fromkeys(names):
        authorizer.require("service", name, "write")


def register(authorizer: Authorizer, view: TxnState, args: RegisterRequest) -> None:
    """Catalog.Register: node:write when the node is made or changed, or for its checks; service:write on
    the service, on that which it replaces, and on those whose checks are written."""
    host = view.get_node(args.node)
    if host is None or (not args.skip_node_update and _changes(args, host)):
        require_node(authorizer, view, args.node)
        require_identity(authorizer, view, args.node, args.id)
    service = args.service
    service_id = (service.id or service.service) if service is not None else ""
    if service is not None:
        authorizer.require("service", service.service, "write")
        replaced = view.get_service(args.node, service_id)
        if replaced is not None and replaced.service != service.service:
            authorizer.require("service", replaced.service, "write")
        if service.kind == "connect-proxy" and service.proxy:
            authorizer.require("service", str(service.proxy.get("DestinationServiceName") or ""), "write")
    for check in (*(args.checks or ()), *([args.check] if args.check is not None else ())):
        if check.node and check.node != args.node:
            raise Invalid(
                f"Node '{check.node}' for check '{check.check_id}' doesn't match register request node "
                f"'{args.node}'"
            )
        stored_check = view.get_check(args.node, check.check_id or check.name)
        if stored_check is not None and stored_check.service_id.lower() != check.service_id.lower():
            require_check(authorizer, view, stored_check)  # it is taken from what it belongs to
        if not check.service_id:
            require_node(authorizer, view, args.node)
        elif service is None or check.service_id != service_id:
            stored = view.get_service(args.node, check.service_id)
            if stored is None:
                raise Invalid(f"Unknown service '{check.service_id}' for check '{check.check_id}'")
            authorizer.require("service", stored.service, "write")


def _changes(args: RegisterRequest, host: Node) -> bool:
    """Whether a registration says anything else of its node than the catalog does."""
    return (args.id, args.node, args.address, args.tagged_addresses or None, args.node_meta or None) != (
        host.id,
        host.node,
        host.address,
        host.tagged_addresses or None,
        host.meta or None,
    )


def deregister(authorizer: Authorizer, view: TxnState, args: DeregisterRequest) -> None:
    """Catalog.Deregister: node:write is enough for all; else service:write on the service that goes, or
    that the check which goes belongs to."""
    host = view.get_node(args.node)
    names = {args.node, host.node if host is not None else args.node}
    if all(authorizer.allows("node", name, "write") for name in names):
        return
    if args.service_id:
        service = view.get_service(args.node, args.service_id)
        if service is None:
            raise Invalid(f"Unknown service '{args.service_id}'")
        authorizer.require("service", service.service, "write")
    elif args.check_id:
        check = view.get_check(args.node, args.check_id)
        if check is None:
            raise Invalid(f"Unknown check '{args.check_id}'")
        if check.service_id:
            authorizer.require("service", check.service_name, "write")
        else:
            require_node(authorizer, view, args.node)
    else:
        require_node(authorizer, view, args.node)
