"""What the leader does to tokens: makes, changes, copies and deletes them (errands ACL.Token*)."""

from __future__ import annotations

from msgspec.structs import replace

from core.acl.hashes import hashed_token
from core.acl.resolve import expiry
from core.acl.resolve import not_found as no_such_token
from core.api.acl_common import (
    alive,
    apply,
    check_identities,
    expired,
    go_time,
    is_uuid,
    links,
    look_up,
    may_write,
    need_acls,
    unique_nodes,
    unique_services,
    unique_templated,
)
from core.api.acl_requests import ACLTokenDeleteRequest, ACLTokenSetRequest
from core.api.endpoint import Action, ServerDoor
from core.codec import duration
from core.codec.duration import quote
from core.errors import Denied, Invalid
from core.store import commands
from core.store.acl import ANONYMOUS
from core.store.acl_structs import ACLToken, ACLTokenBatchDeleteRequest, ACLTokenBatchSetRequest
from core.store.state import Store

RESERVED = "00000000-0000-0000-0000-0000000000"
_ROOTS = ("allow", "deny", "manage")  # secrets that the old system gave a meaning


def resolved(view: Store, token: ACLToken) -> ACLToken:
    """A token with the names that its links have today."""
    policies = alive(view.acl_policies, token.policies)
    return replace(token, policies=policies, roles=alive(view.acl_roles, token.roles))


async def _set(server: ServerDoor, args: ACLTokenSetRequest) -> ACLToken:
    need_acls(server)
    return await store_token(server, args.acl_token, args.create)


async def _clone(server: ServerDoor, args: ACLTokenSetRequest) -> ACLToken:
    need_acls(server)
    original = server.store.token_by_accessor(look_up(args.acl_token.accessor_id, "token"))
    if original is None or expired(original, server.wall()):
        raise no_such_token()
    if original.auth_method:
        raise Invalid("Cannot clone a token created from an auth method")
    if original.rules:
        raise Invalid("Cannot clone a legacy ACL with this endpoint")
    copy = ACLToken(
        description=args.acl_token.description or original.description,
        policies=resolved(server.store, original).policies,
        roles=resolved(server.store, original).roles,
        service_identities=original.service_identities,
        node_identities=original.node_identities,
        templated_policies=original.templated_policies,
        local=original.local,
        expiration_time=original.expiration_time,
    )
    return await store_token(server, copy, create=True)


async def store_token(
    server: ServerDoor, token: ACLToken, create: bool, from_login: bool = False
) -> ACLToken:
    """Check a token, fill in what only the leader may decide, write it, and read it back. Invalid."""
    view = server.store
    if token.accessor_id:
        _check_accessor(token.accessor_id)
    if create or not token.accessor_id:
        token = _new(server, token, from_login)
    else:
        token = _changed(server, token)
    check_identities(token, "token")
    token = replace(
        token,
        policies=links(view.acl_policies, token.policies, "policy"),
        roles=links(view.acl_roles, token.roles, "role"),
        service_identities=unique_services(token.service_identities),
        node_identities=unique_nodes(token.node_identities),
        templated_policies=unique_templated(token.templated_policies),
    )
    if token.rules:
        raise Invalid("Rules cannot be specified for this token")
    if token.type:
        raise Invalid("Type cannot be specified for this token")
    token = hashed_token(token)
    # A role may be gone in the meantime: a login then gives what is left, if that is anything.
    request = ACLTokenBatchSetRequest(
        [token], allow_missing_links=from_login, prohibit_unprivileged=from_login
    )
    await apply(server, commands.ACL_TOKEN_SET, request, "token write")
    stored = view.token_by_accessor(token.accessor_id)
    if stored is None:
        raise Invalid("Failed to retrieve the token after insertion")
    return resolved(view, stored)


def _check_accessor(accessor: str) -> None:
    try:
        look_up(accessor, "token")
    except Invalid as error:
        raise Invalid(f"Failed acl token lookup by accessor: {error}") from None


def _new(server: ServerDoor, token: ACLToken, from_login: bool) -> ACLToken:
    view, now = server.store, server.wall()
    if token.accessor_id:
        _check_id(view, token.accessor_id, "AccessorID")
    if token.secret_id:
        _check_id(view, token.secret_id, "SecretID")
    if from_login and not token.auth_method:
        raise Invalid("AuthMethod field is required during Login")
    if token.auth_method and not from_login:
        raise Invalid("AuthMethod field is disallowed outside of Login")
    return replace(
        token,
        accessor_id=token.accessor_id or view.hooks.new_id(),
        secret_id=token.secret_id or view.hooks.new_id(),
        create_time=go_time(now),
        expiration_time=_end(server, token, now),
        expiration_ttl=0,
        create_index=0,
        modify_index=0,
    )


def _check_id(view: Store, given: str, what: str) -> None:
    """A token may bring its ids along, if they are UUIDs that nobody has."""
    if not is_uuid(given):
        raise Invalid(f"Invalid Token: {what} is not a valid UUID")
    if view.token_by_accessor(given) is not None or view.token_by_secret(given) is not None:
        raise Invalid(f"Invalid Token: {what} is already in use")
    if given.startswith(RESERVED):
        raise Invalid(f"Invalid Token: UUIDs with the prefix {quote(RESERVED)} are reserved")


def _end(server: ServerDoor, token: ACLToken, now: float) -> bytes | None:
    """When a new token ends. Invalid when that is too soon or too late."""
    ttl = token.expiration_ttl
    if ttl < 0:
        raise Invalid(f"Token Expiration TTL '{duration.show(ttl)}' should be > 0")
    if ttl and token.expiration_time is not None:
        raise Invalid("Token Expiration TTL and Expiration Time cannot both be set")
    if ttl:
        end = go_time(now + ttl / duration.SECOND)
    elif token.expiration_time is not None:
        end = token.expiration_time
        ttl = int((expiry(token) - now) * duration.SECOND)
    else:
        return None
    if ttl < 0:
        raise Invalid("ExpirationTime cannot be before CreateTime")
    limits = server.acl
    was = f"in the future (was {duration.show(ttl)})"
    if ttl > limits.max_expiration:
        raise Invalid(f"ExpirationTime cannot be more than {duration.show(limits.max_expiration)} {was}")
    if ttl < limits.min_expiration:
        raise Invalid(f"ExpirationTime cannot be less than {duration.show(limits.min_expiration)} {was}")
    return end


def _changed(server: ServerDoor, token: ACLToken) -> ACLToken:
    """A token with all that a change may not touch."""
    view, accessor = server.store, token.accessor_id
    if not is_uuid(accessor):
        raise Invalid("AccessorID is not a valid UUID")
    if token.secret_id in _ROOTS:
        raise Denied("Permission denied: Cannot modify root ACL")
    known = view.token_by_accessor(accessor)
    if known is None or expired(known, server.wall()):
        raise Invalid(f"Cannot find token {quote(accessor)}")
    if token.secret_id not in ("", known.secret_id):
        raise Invalid("Changing a tokens SecretID is not permitted")
    if token.local != known.local:
        raise Invalid(f"cannot toggle local mode of {accessor}")
    if token.auth_method not in ("", known.auth_method):
        raise Invalid(f"Cannot change AuthMethod of {accessor}")
    moved = token.expiration_time is not None and expiry(token) != expiry(known)
    if token.expiration_ttl or moved:
        raise Invalid(f"Cannot change expiration time of {accessor}")
    return replace(
        token,
        accessor_id=known.accessor_id,
        secret_id=known.secret_id,
        auth_method=known.auth_method,
        expiration_time=known.expiration_time,
        create_time=known.create_time,
    )


async def _delete(server: ServerDoor, args: ACLTokenDeleteRequest) -> str:
    need_acls(server)
    if not is_uuid(args.token_id):
        raise Invalid("Accessor ID is missing or an invalid UUID")
    if args.token_id == ANONYMOUS:
        raise Invalid("Delete operation not permitted on the anonymous token")
    token = server.store.token_by_accessor(args.token_id)
    if token is None:
        return ""
    if token.secret_id == args.token:
        raise Invalid("Deletion of the request's authorization token is not permitted")
    await delete_token(server, token)
    return token.accessor_id


async def delete_token(server: ServerDoor, token: ACLToken) -> None:
    """Destroy a token."""
    request = ACLTokenBatchDeleteRequest([token.accessor_id])
    await apply(server, commands.ACL_TOKEN_DELETE, request, "token delete")


SET = Action("ACL.TokenSet", _set, permit=may_write)
CLONE = Action("ACL.TokenClone", _clone, permit=may_write)
DELETE = Action("ACL.TokenDelete", _delete, permit=may_write)
