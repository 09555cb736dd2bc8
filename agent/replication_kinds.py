"""What is copied from the primary datacenter: how each kind is listed, fetched, compared and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from core.api import acl_policies, acl_roles, acl_tokens, config_entry
from core.api.acl_requests import HIDDEN, ByIds, TokenList
from core.api.config_entry_kinds import KINDS
from core.api.endpoint import Answer, Read
from core.codec import msgpack
from core.errors import CtlError, Denied
from core.node.replication import Known
from core.store import commands, mesh
from core.store.acl import ANONYMOUS, GLOBAL_MANAGEMENT
from core.store.acl_structs import (
    ACLPolicyBatchDeleteRequest,
    ACLPolicyBatchSetRequest,
    ACLRoleBatchDeleteRequest,
    ACLRoleBatchSetRequest,
    ACLTokenBatchDeleteRequest,
    ACLTokenBatchSetRequest,
)
from core.store.state import Store

_NEEDS = {
    "policies": "acl:read",
    "roles": "acl:read",
    "tokens": "acl:write",
    "config entries": "service:read and intention:read on all names, operator:read",
}


class Kind(Struct, frozen=True):
    """One kind. `batch` None: the list has the whole rows. `delete` and `store` make log commands."""

    name: str
    listing: Read
    listing_args: Any
    local: Callable[[Store], list[Known]]
    known: Callable[[Any], Known]
    delete: Callable[[Sequence[str]], list[bytes]]
    store: Callable[[Sequence[Any]], list[bytes]]
    batch: Read | None = None

    def remote(self, listed: Iterable[Any]) -> list[Known]:
        """The rows of the primary datacenter as they are listed."""
        return [self.known(row) for row in listed]

    def batch_args(self, keys: Sequence[str]) -> ByIds:
        """What `batch` is asked for."""
        return ByIds(tuple(keys))

    def refused(self) -> CtlError:
        """The token of replication may not see all: a copy would lack the rest."""
        return Denied(f"the replication token does not see all {self.name}: it needs {_NEEDS[self.name]}")

    def check(self, answer: Answer) -> None:
        """Denied when rows came without what is to be copied."""
        if answer.filtered or any(getattr(row, "secret_id", "") == HIDDEN for row in answer.value):
            raise self.refused()


def _known(row: Any) -> Known:
    return Known(row.id.lower(), row.modify_index, row.hash, row.name)


def _token(row: Any) -> Known:
    return Known(row.accessor_id.lower(), row.modify_index, row.hash)


def _entry(row: Any) -> Known:
    plain = {key: value for key, value in row.items() if key not in ("CreateIndex", "ModifyIndex")}
    key = f"{mesh.text(row, 'Kind')}/{mesh.text(row, 'Name').lower()}"
    return Known(key, int(row.get("ModifyIndex") or 0), msgpack.encode(plain))


def _policies(store: Store) -> list[Known]:
    return [_known(row) for row in store.acl_policies.values() if row.id != GLOBAL_MANAGEMENT]


def _local_tokens(store: Store) -> list[Known]:
    """The copies: tokens of this datacenter alone and those of the old system are none."""
    return [_token(row) for row in store.acl_tokens.values() if not row.local and row.accessor_id]


def _delete_tokens(keys: Sequence[str]) -> list[bytes]:
    rest = [key for key in keys if key != ANONYMOUS]
    return [commands.command(commands.ACL_TOKEN_DELETE, ACLTokenBatchDeleteRequest(rest))] if rest else []


def _set_tokens(rows: Sequence[Any]) -> list[bytes]:
    request = ACLTokenBatchSetRequest(list(rows), allow_missing_links=True, from_replication=True)
    return [commands.command(commands.ACL_TOKEN_SET, request)]


def _entry_command(row: Any, op: str) -> bytes:
    request = mesh.write_entry_request(mesh.text(row, "Kind"), row, op)
    return bytes([commands.CONFIG_ENTRY]) + msgpack.encode(request)


def _delete_entries(keys: Sequence[str]) -> list[bytes]:
    pairs = (key.split("/", 1) for key in keys)
    return [_entry_command({"Kind": kind, "Name": name}, "delete") for kind, name in pairs]


POLICIES = Kind(
    "policies",
    acl_policies.LIST,
    acl_policies.Everything(),
    _policies,
    _known,
    lambda keys: [commands.command(commands.ACL_POLICY_DELETE, ACLPolicyBatchDeleteRequest(list(keys)))],
    lambda rows: [commands.command(commands.ACL_POLICY_SET, ACLPolicyBatchSetRequest(list(rows)))],
    acl_policies.BATCH,
)
ROLES = Kind(
    "roles",
    acl_roles.LIST,
    acl_roles.RoleList(),
    lambda store: [_known(row) for row in store.acl_roles.values()],
    _known,
    lambda keys: [commands.command(commands.ACL_ROLE_DELETE, ACLRoleBatchDeleteRequest(list(keys)))],
    lambda rows: [
        commands.command(commands.ACL_ROLE_SET, ACLRoleBatchSetRequest(list(rows), allow_missing_links=True))
    ],
    acl_roles.BATCH,
)
TOKENS = Kind(
    "tokens",
    acl_tokens.LIST,
    TokenList(local=False),
    _local_tokens,
    _token,
    _delete_tokens,
    _set_tokens,
    acl_tokens.BATCH,
)
CONFIG_ENTRIES = Kind(
    "config entries",
    config_entry.LIST_ALL,
    config_entry.KindsQuery(tuple(KINDS)),
    lambda store: [_entry(row) for row in store.config_entry_list()[1]],
    _entry,
    _delete_entries,
    lambda rows: [_entry_command(row, "upsert") for row in rows],
)
