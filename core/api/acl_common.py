"""What the ACL endpoints share: who may, which names and ids are good, links, and the way into the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from core.acl.access import Authorizer
from core.acl.identities import TEMPLATES
from core.acl.resolve import expiry
from core.api.acl_requests import ACLTokenListStub
from core.api.endpoint import (
    TEXT,
    AgentDoor,
    Answer,
    Handler,
    Outcome,
    Reply,
    Request,
    ServerDoor,
)
from core.codec import gojson, msgpack
from core.codec.duration import quote
from core.errors import BadRequest, CtlError, Invalid, Unauthorized
from core.store import commands
from core.store.acl_structs import (
    ACLLink,
    ACLNodeIdentity,
    ACLRole,
    ACLServiceIdentity,
    ACLTemplatedPolicy,
    ACLToken,
)
from core.store.table import Table

T = TypeVar("T")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_HEX = re.compile(r"[0-9a-f]*", re.ASCII)
_IDENTITY_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
ALLOWED = "Only alphanumeric characters, '-' and '_' are allowed"
LINKED = ("acl-tokens", "acl-policies", "acl-roles")


def enabled(handler: Handler) -> Handler:
    """The handler, where ACLs are on; else the answer that they are not."""

    def asked(agent: AgentDoor, request: Request) -> Outcome:
        if not agent.acl.enabled:
            raise disabled()
        return handler(agent, request)

    return asked


def disabled() -> Unauthorized:
    """The answer of an agent without ACLs."""
    return Unauthorized("ACL support disabled")


def may_read(authorizer: Authorizer, args: Any, answer: Answer) -> Answer:
    """Permit of reads: acl:read."""
    authorizer.require("acl", "", "read")
    return answer


def may_write(authorizer: Authorizer, args: Any) -> None:
    """Permit of changes: acl:write."""
    authorizer.require("acl", "", "write")


def asked_for(request: Request, what: str) -> str:
    """What follows the route's prefix. BadRequest when it is missing."""
    if not request.rest:
        raise BadRequest(f"Bad request: Missing {what}")
    return request.rest


def json(value: Any) -> Reply:
    """A value as reply."""
    return Reply(body=gojson.encode(value))


def not_found() -> Reply:
    """There is no such token or policy: Consul does not tell that from a refusal."""
    return Reply(403, b"ACL not found", TEXT)


def is_uuid(text: str) -> bool:
    """Whether this is a UUID in its usual form."""
    return _UUID.fullmatch(text) is not None


def look_up(text: str, what: str) -> str:
    """An id to look for, in the form that the tables have. Invalid when it cannot be one: as in Consul's
    tables only its hexadecimal digits count, wherever the hyphens are."""
    wrong = f"failed acl {what} lookup: index error: "
    hyphens, digits = text.count("-"), text.replace("-", "").lower()
    if len(text.encode("utf-8", "replace")) != 36:
        raise Invalid(f"{wrong}UUID must be 36 characters")
    if hyphens > 4:
        raise Invalid(f'{wrong}UUID should have maximum of 4 "-"; got {hyphens}')
    if len(digits) % 2:
        raise Invalid(f"{wrong}Input (without hyphens) must be even length")
    if not _HEX.fullmatch(digits):
        raise Invalid(f"{wrong}Invalid UUID: {quote(text)}")
    if len(digits) != 32:
        return digits  # of another length than any that is there
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def good_name(name: str, longest: int) -> bool:
    """Whether a policy, role or auth method may be called so."""
    return len(name) <= longest and _NAME.fullmatch(name) is not None


def check_name(what: str, name: str, longest: int) -> None:
    """Invalid unless a policy, role or auth method (`what`, as Consul spells it) may be called so."""
    if not name:
        raise Invalid(f"Invalid {what}: no Name is set")
    if not good_name(name, longest):
        raise Invalid(f"Invalid {what}: invalid Name. {ALLOWED}")


def rows_of(table: Table[str, T], ids: Iterable[str]) -> list[T]:
    """The rows with these ids, in their order; what is gone is left out."""
    return [row for one in ids if (row := table.rows.get(one.lower())) is not None]


def good_identity_name(name: str) -> bool:
    """Whether a service or node of an identity may be called so."""
    return len(name) <= 256 and _IDENTITY_NAME.fullmatch(name) is not None


# --- links and identities ----------------------------------------------------------------------------


def links(
    table: Table[str, Any], given: Sequence[ACLLink] | None, what: str, of_role: bool = False
) -> list[ACLLink] | None:
    """Links by id, each once, without names: those are looked up when they are shown. Invalid when one
    points to nothing, in words that differ with what has the link."""
    found: dict[str, ACLLink] = {}
    for link in given or ():
        if link.id:
            row = table.rows.get(_linked_id(link.id, what, of_role))
            how = f"ID {quote(link.id)}"
            if row is None and of_role:
                raise Invalid(f"No such {what} with ID: {link.id}")
        else:
            keys = table.group("name", link.name.lower())
            row = table.rows[keys[0]] if keys else None
            how = f"name {quote(link.name)}"
        if row is None:
            raise Invalid(f"No such ACL {what} with {how}")
        found.setdefault(row.id, ACLLink(row.id))
    return list(found.values()) or None


def _linked_id(given: str, what: str, of_role: bool) -> str:
    try:
        return look_up(given, what)
    except Invalid as error:
        if of_role:
            raise
        raise Invalid(f"Error looking up {what} for id {quote(given)}: {error}") from None


def check_identities(row: ACLToken | ACLRole, what: str) -> None:
    """Invalid when an identity of a `token` or `role` is not good."""
    for service in row.service_identities or ():
        if not service.service_name:
            raise Invalid(f"Service identity is missing the service name field on this {what}")
        if isinstance(row, ACLToken) and row.local and service.datacenters:
            raise Invalid(
                f"Service identity {quote(service.service_name)} cannot specify a list of datacenters"
                " on a local token"
            )
        if not good_identity_name(service.service_name):
            raise Invalid(f"Service identity {quote(service.service_name)} has an invalid name. {ALLOWED}")
    for node in row.node_identities or ():
        if not node.node_name:
            raise Invalid(f"Node identity is missing the node name field on this {what}")
        if not node.datacenter:
            raise Invalid(f"Node identity is missing the datacenter field on this {what}")
        if not good_identity_name(node.node_name):
            raise Invalid(f"Node identity has an invalid name. {ALLOWED}")
    for one in row.templated_policies or ():
        check_templated(one, what)
        if isinstance(row, ACLToken) and row.local and one.datacenters:
            raise Invalid(
                f"templated policy {quote(one.template_name)} cannot specify a list of datacenters"
                " on a local token"
            )


def check_templated(one: ACLTemplatedPolicy, what: str) -> None:
    """Invalid when there is no such template, or it cannot be filled so."""
    if not one.template_name:
        raise Invalid(f"templated policy is missing the template name field on this {what}")
    template = TEMPLATES.get(one.template_name)
    if template is None:
        raise Invalid(f"no such ACL templated policy with Name {quote(one.template_name)}")
    name = one.template_variables.name if one.template_variables is not None else ""
    template.rules(name)
    if name and not good_identity_name(name):
        raise Invalid(f"templated policy {template.name} has an invalid Name {quote(name)}. {ALLOWED}")


def unique_services(given: Sequence[ACLServiceIdentity] | None) -> list[ACLServiceIdentity] | None:
    """Service identities by name, each once: with the datacenters of all, or everywhere."""
    scopes: dict[str, list[str] | None] = {}
    for one in given or ():
        scope = one.datacenters or None
        if one.service_name in scopes:
            known = scopes[one.service_name]
            scope = sorted({*known, *scope}) if known and scope else None
        scopes[one.service_name] = scope
    return [ACLServiceIdentity(name, scopes[name]) for name in sorted(scopes)] or None


def unique_nodes(given: Sequence[ACLNodeIdentity] | None) -> list[ACLNodeIdentity] | None:
    """Node identities by name and datacenter, each once."""
    rows = {(one.node_name, one.datacenter): one for one in given or ()}
    return [rows[key] for key in sorted(rows)] or None


def unique_templated(given: Sequence[ACLTemplatedPolicy] | None) -> list[ACLTemplatedPolicy] | None:
    """Templated policies, each once, with the ids of their templates."""
    found: dict[bytes, ACLTemplatedPolicy] = {}
    for one in given or ():
        known = TEMPLATES[one.template_name]
        filled = ACLTemplatedPolicy(known.id, known.name, one.template_variables, one.datacenters)
        found[gojson.encode(filled)] = filled
    return list(found.values()) or None


def alive(table: Table[str, Any], given: Sequence[ACLLink] | None) -> list[ACLLink] | None:
    """Links with the names of today; those to what is gone are left out."""
    found = []
    for link in given or ():
        row = table.rows.get(link.id.lower())
        if row is not None:
            found.append(ACLLink(link.id, row.name))
    return found or None


# --- time --------------------------------------------------------------------------------------------


def go_time(seconds: float) -> bytes:
    """A time of now in Go's binary form."""
    whole = int(seconds)
    return msgpack.encode_time(whole, int((seconds - whole) * 1e9))


def expired(token: ACLToken | ACLTokenListStub, now: float) -> bool:
    """Whether a token has ended."""
    ends = expiry(token) if token.expiration_time is not None else 0.0  # type: ignore[arg-type]
    return ends != 0.0 and ends <= now


# --- the way into the log ----------------------------------------------------------------------------


def need_acls(server: ServerDoor) -> None:
    """Unauthorized where ACLs are off."""
    if not server.acl.enabled:
        raise disabled()


async def apply(server: ServerDoor, kind: int, request: Struct, what: str) -> None:
    """Write a command. Invalid with its text when the state machine refuses."""
    result = await server.raft.apply(commands.command(kind, request))
    if isinstance(result, CtlError):
        raise Invalid(f"Failed to apply {what} request: {result}")
